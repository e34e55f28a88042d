"""Convolutions with reflection padding, in the forms that need the fewest multiplications.

The up-sampling and the output convolution are rewritten exactly (no approximation beyond float rounding); their
parameters keep the shape of the paper's layers, so that checkpoints and training don't notice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.nn.padding import Padding, padding, reflect, replicate

INIT_STD = 0.02


def initial_weight(*shape: int) -> nn.Parameter:
    """A parameter drawn from N(0, 0.02), the paper's initial weights."""
    weight = torch.empty(shape)
    # On "meta" there is nothing to draw, and trying makes torch import its compiler.
    return nn.Parameter(weight if weight.is_meta else weight.normal_(std=INIT_STD))


class ReflectConv2d(nn.Module):
    """Convolution after reflection padding; weights start from N(0, 0.02), biases from 0."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, pad: Padding, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.weight = initial_weight(outputs, inputs, kernel, kernel)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.pad = pad
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W'), computed in the dtype of x."""
        x = reflect(x, self.pad)
        return F.conv2d(x, self.weight.to(x.dtype), self._bias(x.dtype), self.stride)

    def _bias(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.bias is None else self.bias.to(dtype)


class UpsampleConv2d(ReflectConv2d):
    """Nearest up-sampling by 2, reflection padding by 1 and a 3x3 convolution, as one transposed convolution.

    Each output pixel of the plain form reads 9 up-sampled pixels, of which only 4 differ; adding up the weights
    that meet the same source pixel gives a 4x4 kernel of stride 2 and 2.25 times fewer multiplications. The
    up-sampled map's reflection by one pixel is the source map's replication by one.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 3, pad=padding(1), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        kernel = _box_sum(self.weight).flip(2, 3).transpose(0, 1)  # (inputs, outputs, 4, 4)
        x = replicate(x, self.pad)  # (N, inputs, H+2, W+2)
        return F.conv_transpose2d(x, kernel.to(x.dtype), self._bias(x.dtype), stride=2, padding=3)


def _box_sum(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (O, I, 4, 4): the kernel convolved with a 2x2 box."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))


class ToRGB(ReflectConv2d):
    """The output convolution, 7x7 to 3 channels, as an 8x8 one of stride 2 to 12 channels and a pixel shuffle.

    Vector units work on 16 channels or more at a time, so 3 leave them mostly idle: 12 channels at a quarter of the
    positions cost 1.3 times the multiplications and a third of the time. Height and width must be even.
    """

    def __init__(self, inputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, 3, 7, pad=padding(3), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 3, H, W)."""
        shifted = [F.pad(self.weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]
        kernel = torch.stack(shifted, 1).flatten(0, 1)  # (12, inputs, 8, 8)
        bias = None if self.bias is None else self.bias.to(x.dtype).repeat_interleave(4)
        x = reflect(x, self.pad)
        return F.pixel_shuffle(F.conv2d(x, kernel.to(x.dtype), bias, stride=2), 2)

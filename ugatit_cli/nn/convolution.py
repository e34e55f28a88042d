"""Convolutions with reflection padding, in the forms that need the fewest multiplications.

The up-sampling and the output convolution are rewritten exactly (no approximation beyond float rounding); their
parameters keep the shape of the paper's layers, so that checkpoints and training don't notice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INIT_STD = 0.02

Padding = tuple[int, int, int, int]


def padding(size: int, extra: int = 0) -> Padding:
    """(left, right, top, bottom) for `F.pad`; `extra` goes to the right and bottom (TensorFlow dialect)."""
    return (size, size + extra, size, size + extra)


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
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        return F.conv2d(F.pad(x, self.pad, mode="reflect"), self.weight, self.bias, self.stride)


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
        x = F.pad(x, self.pad, mode="replicate")  # (N, inputs, H+2, W+2)
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=3)


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
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        x = F.conv2d(F.pad(x, self.pad, mode="reflect"), kernel, bias, stride=2)  # (N, 12, H/2, W/2)
        return F.pixel_shuffle(x, 2)


class SpectralNorm(nn.Module):
    """Largest singular value of a weight by power iteration (Miyato et al. 2018).

    One iteration per forward pass in training mode; in eval mode the stored vectors are used as they are.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.flatten(1)
        self.register_buffer("u", _random_direction(matrix.shape[0]))
        self.register_buffer("v", _random_direction(matrix.shape[1]))

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """One power iteration: moves u and v towards the leading singular vectors of the weight."""
        matrix = weight.flatten(1)
        self.v = F.normalize(matrix.T @ self.u, dim=0)
        self.u = F.normalize(matrix @ self.v, dim=0)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight divided by its largest singular value, in the same shape."""
        if self.training:
            self.iterate(weight)
        return weight / torch.dot(self.u, weight.flatten(1) @ self.v)


def _random_direction(size: int) -> Tensor:
    direction = torch.empty(size)
    return direction if direction.is_meta else F.normalize(direction.normal_(), dim=0)


class SpectralConv2d(ReflectConv2d):
    """A `ReflectConv2d` whose weight is spectrally normalised."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, pad: Padding, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel, pad=pad, stride=stride, bias=bias)
        self.norm = SpectralNorm(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        return F.conv2d(F.pad(x, self.pad, mode="reflect"), self.norm(self.weight), self.bias, self.stride)

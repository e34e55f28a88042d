"""The networks of UNIT and MUNIT, which share one official code: encoders, decoders, multi-scale discriminators.

Biases before an instance norm, adaptive or not, are left out, since the norm takes them out again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.methods.configs import CodeConfig
from ugatit_cli.methods.cyclegan import ConvNorm, ResidualBlock
from ugatit_cli.nn.generator import Linear, Translation
from ugatit_cli.nn.layers import (
    Convolution,
    Network,
    ReflectConv2d,
    ToRGB,
    UpsampleConv2d,
    ZeroConv2d,
    padding,
    widened,
)
from ugatit_cli.nn.normalization import LayerNorm


def kaiming_(network: nn.Module) -> None:
    """Weights of convolutions and matrices anew, from N(0, 2 / inputs), as for networks of ReLUs (He et al. 2015)."""
    for module in network.modules():
        if isinstance(module, Convolution | Linear) and not module.weight.is_meta:
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))


class Encoder(Network):
    """Finds the content code of pictures, of any height and width that are multiples of 4 and at least 8."""

    def __init__(self, config: CodeConfig) -> None:
        super().__init__()
        c = config.channels
        self.stem = ConvNorm(ReflectConv2d(3, c, 7, pad=padding(3)), c)
        self.down = nn.Sequential(
            ConvNorm(ReflectConv2d(c, 2 * c, 4, pad=padding(1), stride=2), 2 * c),
            ConvNorm(ReflectConv2d(2 * c, 4 * c, 4, pad=padding(1), stride=2), 4 * c),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * c) for _ in range(config.blocks)))
        kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> code (N, 4C, H/4, W/4), float32 or wider."""
        x = x.to(self.compute_dtype or self.stem.conv.weight.dtype)
        x = self.down(self.stem(x))
        for block in self.blocks:
            x = self.run_block(block, x)
        return x.to(widened(x.dtype))


class Up(nn.Module):
    """Nearest up-sampling by 2, 5x5 convolution, layer norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = UpsampleConv2d(inputs, outputs, kernel=5, bias=True)
        self.norm = LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        out: Tensor = self.norm(self.conv(x))
        return out.relu_()


class Painter(Network):
    """What decoders have in common.

    Args:
        block: makes a residual block of so many channels.
    """

    def __init__(self, config: CodeConfig, block: Callable[[int], nn.Module]) -> None:
        super().__init__()
        c = config.channels
        self.blocks = nn.ModuleList(block(4 * c) for _ in range(config.blocks))
        self.up = nn.Sequential(Up(4 * c, 2 * c), Up(2 * c, c))
        self.to_rgb = ToRGB(c, bias=True)
        kaiming_(self)

    def painted(self, code: Tensor, styles: Sequence[tuple[Tensor, ...]]) -> Translation:
        """Pictures (N, 3, 4H, 4W) of codes (N, 4C, H, W).

        Args:
            styles: what each block is told beside its input.
        """
        x = code.to(self.compute_dtype or self.to_rgb.weight.dtype)
        for block, style in zip(self.blocks, styles, strict=True):
            x = self.run_block(block, x, *style)
        for up in self.up:
            x = self.run_block(up, x)
        image = self.to_rgb(x)
        return Translation(image.to(widened(image.dtype)).tanh())


class Decoder(Painter):
    """Paints pictures of a domain from content codes, of at least 2x2 places."""

    def __init__(self, config: CodeConfig) -> None:
        super().__init__(config, ResidualBlock)

    def forward(self, code: Tensor) -> Translation:
        """(N, 4C, H, W) -> pictures (N, 3, 4H, 4W)."""
        return self.painted(code, [()] * len(self.blocks))


class MultiScaleDiscriminator(Network):
    """Tells pictures of a domain from translations into it, patch by patch, at several scales, each half the last.

    Attributes:
        slope: of its leaky ReLUs.
    """

    slope: ClassVar[float] = 0.2

    def __init__(self, channels: int, scales: int) -> None:
        super().__init__()
        c = channels
        widths = (3, c, 2 * c, 4 * c, 8 * c)
        self.scales = nn.ModuleList(
            nn.ModuleList(
                [
                    *(
                        ReflectConv2d(inputs, outputs, 4, pad=padding(1), stride=2, bias=True)
                        for inputs, outputs in pairwise(widths)
                    ),
                    ZeroConv2d(8 * c, 1, 1, pad=0, bias=True),
                ]
            )
            for _ in range(scales)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) float in [-1, 1] -> scores (N, 1, H/16, W/16), (N, 1, H/32, W/32), ..., 1 for real."""
        x = x.to(self.compute_dtype or next(self.parameters()).dtype)
        found = []
        for number, layers in enumerate(self.scales):
            if number:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            found.append(self._scores(layers, x))
        return tuple(found)

    def _scores(self, layers: nn.Module, x: Tensor) -> Tensor:
        *convs, head = layers.children()
        for conv in convs:
            x = F.leaky_relu(conv(x), self.slope, inplace=True)
        scores: Tensor = head(x)
        return scores.to(widened(scores.dtype))

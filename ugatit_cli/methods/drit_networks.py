"""The networks of DRIT: encoders of content and of attributes, generators that paint both, discriminators.

Numbers are those of the authors' code, layer by layer. Biases before an instance norm are left out, since the norm
takes them out again. Attributes are repeated over all places and stand beside the features there; where a convolution
reads one place at a time, they are multiplied once instead, and added.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.device import sent
from ugatit_cli.methods.cyclegan import ConvNorm, ResidualBlock
from ugatit_cli.methods.drit_config import SMALLEST_MAP, STYLE_SIZE, DRITConfig
from ugatit_cli.methods.unit_networks import MultiScaleDiscriminator
from ugatit_cli.nn.generator import Linear, StyledNetwork, Translation
from ugatit_cli.nn.layers import (
    Convolution,
    Network,
    PooledConv2d,
    ReflectConv2d,
    TransposedConv2d,
    ZeroConv2d,
    initial_weight,
    padding,
    widened,
)
from ugatit_cli.nn.normalization import InstanceNorm, instance_layer_norm

# Of leaky ReLUs: PyTorch's, and that of attribute encoders.
SLOPE, ATTRIBUTE_SLOPE = 0.01, 0.2


def initialised(network: nn.Module, last: nn.Module | None = None) -> None:
    """Biases and matrices anew, as PyTorch's own layers begin; convolutions keep their N(0, 0.02).

    Args:
        last: a 1x1 convolution that is a transposed one there.
    """
    for module in network.modules():
        if isinstance(module, Convolution | Linear) and not module.weight.is_meta:
            bound = 1 / math.sqrt(len(module.weight) if module is last else module.weight[0].numel())
            if isinstance(module, Linear):
                nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound)


# --- Content -------------------------------------------------------------------------------------------


class ContentEncoder(Network):
    """A domain's part of the way to content codes."""

    def __init__(self, config: DRITConfig) -> None:
        super().__init__()
        c = config.channels
        self.stem = ReflectConv2d(3, c, 7, pad=padding(3), bias=True)
        self.down = nn.Sequential(
            ConvNorm(ReflectConv2d(c, 2 * c, 3, pad=padding(1), stride=2), 2 * c),
            ConvNorm(ReflectConv2d(2 * c, 4 * c, 3, pad=padding(1), stride=2), 4 * c),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * c) for _ in range(config.blocks)))
        initialised(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> (N, 4C, H/4, W/4); H and W are multiples of 4, at least 8."""
        x = self.stem(x.to(self.compute_dtype or self.stem.weight.dtype))
        x = self.down(F.leaky_relu(x, SLOPE, inplace=True))
        for block in self.blocks:
            x = self.run_block(block, x)
        return x


class SharedBlock(Network):
    """The residual block that both domains share, at the end of their content encoders or the start of generators."""

    def __init__(self, config: DRITConfig) -> None:
        super().__init__()
        self.block = ResidualBlock(config.features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4C, H, W) -> (N, 4C, H, W), float32 or wider."""
        out: Tensor = self.run_block(self.block, x.to(self.compute_dtype or self.block.conv.weight.dtype))
        return out.to(widened(out.dtype))


class Nothing(Network):
    """What generators of the feature transform share."""

    def __init__(self, _: DRITConfig) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Gives back what it gets."""
        return x


# --- Attributes ----------------------------------------------------------------------------------------


class Attributes(NamedTuple):
    """The distribution of a picture's style: mean and logarithm of the variance, (N, 8) float32 each."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, normal: Tensor) -> Tensor:
        """A style of each, (N, 8), by numbers from N(0, 1)."""
        return self.mean + (self.log_variance / 2).exp() * sent(normal, self.mean.device)


class PreActivationBlock(nn.Module):
    """Residual block of the attribute encoder, which halves height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ReflectConv2d(inputs, inputs, 3, pad=padding(1), bias=True)
        self.down = PooledConv2d(inputs, outputs)
        self.shortcut = ZeroConv2d(inputs, outputs, 1, pad=0, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2), rounded down."""
        out: Tensor = self.conv(F.leaky_relu(x, ATTRIBUTE_SLOPE))
        out = self.down(F.leaky_relu(out, ATTRIBUTE_SLOPE, inplace=True))
        return out.add_(self.shortcut(F.avg_pool2d(x, 2)))


class AttributeEncoder(Network):
    """Tells the styles of a domain's pictures: as a distribution, whose mean is the style, unless it is trained."""

    def __init__(self, config: DRITConfig) -> None:
        super().__init__()
        c = config.channels
        widths = (c, 2 * c, 3 * c, 4 * c)
        self.stem = ReflectConv2d(3, c, 4, pad=padding(1), stride=2, bias=True)
        self.blocks = nn.Sequential(*(PreActivationBlock(one, next_) for one, next_ in pairwise(widths)))
        self.mean = Linear(4 * c, STYLE_SIZE, bias=True)
        self.log_variance = Linear(4 * c, STYLE_SIZE, bias=True)
        initialised(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> styles (N, 8); H and W are at least 16."""
        return self.distribution(x).mean

    def distribution(self, x: Tensor) -> Attributes:
        """The same, as a distribution."""
        x = self.blocks(self.stem(x.to(self.compute_dtype or self.stem.weight.dtype)))
        pooled = _pooled(F.leaky_relu(x, ATTRIBUTE_SLOPE, inplace=True))
        return Attributes(self.mean(pooled), self.log_variance(pooled))


class StyleEncoder(Network):
    """Tells the styles of a domain's pictures, where generators transform features by them."""

    def __init__(self, config: DRITConfig) -> None:
        super().__init__()
        c = config.channels
        widths = (c, 2 * c, 4 * c, 4 * c, 4 * c)
        self.stem = ReflectConv2d(3, c, 7, pad=padding(3), bias=True)
        self.down = nn.ModuleList(
            ReflectConv2d(one, next_, 4, pad=padding(1), stride=2, bias=True) for one, next_ in pairwise(widths)
        )
        self.head = ZeroConv2d(4 * c, STYLE_SIZE, 1, pad=0, bias=True)
        initialised(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float in [-1, 1] -> styles (N, 8); H and W are at least 16."""
        x = self.stem(x.to(self.compute_dtype or self.stem.weight.dtype)).relu_()
        for conv in self.down:
            x = conv(x).relu_()
        # Of the mean as of each place: the last layer is linear.
        pooled: Tensor = self.head(_pooled(x)[:, :, None, None].to(self.head.weight.dtype))
        return pooled.flatten(1)


def _pooled(x: Tensor) -> Tensor:
    return x.to(widened(x.dtype)).mean((2, 3))


# --- Generators ----------------------------------------------------------------------------------------


class LayerNorm(nn.Module):
    """Layer norm over all places and channels, with a learned scale and shift for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return instance_layer_norm(x, 0.0, self.gamma, self.beta)


class Up(nn.Module):
    """Transposed convolution, layer norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = TransposedConv2d(inputs, outputs, bias=True)
        self.norm = LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        out: Tensor = self.norm(self.conv(x))
        return out.relu_()


class StyledConv2d(Convolution):
    """1x1 convolution of features with a style beside them at each place.

    Args:
        inputs: channels of the features.
        style: numbers of the style.
    """

    def __init__(self, inputs: int, style: int, outputs: int) -> None:
        super().__init__(initial_weight(outputs, inputs + style, 1, 1), outputs, stride=1, bias=True)
        self.inputs = inputs

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(N, inputs, H, W) and (N, style) -> (N, outputs, H, W)."""
        of_features, of_style = self.weight[:, : self.inputs], self.weight[:, self.inputs :]
        shift = F.linear(style.to(of_style.dtype), of_style.flatten(1), self.bias)
        out = F.conv2d(x, of_features.to(x.dtype))
        return out.add_(shift.to(x.dtype)[:, :, None, None])


class ConcatGenerator(Network):
    """Paints pictures of a domain from content codes and styles, which stand beside the features of every layer."""

    def __init__(self, config: DRITConfig) -> None:
        super().__init__()
        width = config.features + STYLE_SIZE
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        self.up = nn.ModuleList()
        for _ in range(2):
            inputs, width = width + STYLE_SIZE, (width + STYLE_SIZE) // 2
            self.up.append(Up(inputs, width))
        self.to_rgb = StyledConv2d(width, STYLE_SIZE, 3)
        initialised(self, self.to_rgb)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """(N, 4C, H, W) and (N, 8) -> pictures (N, 3, 4H, 4W) in [-1, 1]."""
        x = content.to(self.compute_dtype or self.to_rgb.weight.dtype)
        x = _beside(x, style)
        for block in self.blocks:
            x = self.run_block(block, x)
        for up in self.up:
            x = self.run_block(up, _beside(x, style))
        image: Tensor = self.to_rgb(x, style)
        return image.to(widened(image.dtype)).tanh()


def _beside(x: Tensor, style: Tensor) -> Tensor:
    places = style.to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, places], 1)


class StyledLayers(nn.Module):
    """Two 1x1 convolutions of features with a style beside them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = StyledConv2d(channels, channels, 2 * channels)
        self.second = ZeroConv2d(2 * channels, channels, 1, pad=0, bias=True)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(N, C, H, W) and (N, C) -> (N, C, H, W)."""
        out: Tensor = self.second(self.first(x, style).relu_())
        return out.relu_()


class TransformBlock(nn.Module):
    """Residual block whose features are transformed by a style."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ReflectConv2d(channels, channels, 3, pad=padding(1)) for _ in range(2))
        self.norm = InstanceNorm(channels, affine=False)
        self.styled = nn.ModuleList(StyledLayers(channels) for _ in range(2))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(N, C, H, W) and (N, C) -> (N, C, H, W)."""
        out = x
        for conv, styled in zip(self.convs, self.styled, strict=True):
            out = styled(self.norm(conv(out)), style)
        return out + x


class TransformGenerator(Network):
    """Paints pictures of a domain from content codes, transformed by styles, of which an MLP makes one a block."""

    def __init__(self, config: DRITConfig) -> None:
        super().__init__()
        c, hidden, blocks = config.features, config.style_channels, config.blocks + 1
        sizes = pairwise((STYLE_SIZE, hidden, hidden, blocks * c))
        self.mlp = nn.ModuleList(Linear(inputs, outputs, bias=True) for inputs, outputs in sizes)
        self.blocks = nn.ModuleList(TransformBlock(c) for _ in range(blocks))
        self.up = nn.Sequential(Up(c, c // 2), Up(c // 2, c // 4))
        self.to_rgb = ZeroConv2d(c // 4, 3, 1, pad=0, bias=True)
        initialised(self, self.to_rgb)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """(N, 4C, H, W) and (N, 8) -> pictures (N, 3, 4H, 4W) in [-1, 1]."""
        x = content.to(self.compute_dtype or self.to_rgb.weight.dtype)
        styles = style.to(widened(x.dtype))
        for layer in self.mlp[:-1]:
            styles = layer(styles).relu_()
        styles = self.mlp[-1](styles)
        for block, one in zip(self.blocks, styles.chunk(len(self.blocks), 1), strict=True):
            x = self.run_block(block, x, one)
        for up in self.up:
            x = self.run_block(up, x)
        image: Tensor = self.to_rgb(x)
        return image.to(widened(image.dtype)).tanh()


class Translator(StyledNetwork):
    """Paints in one domain and a style what is in a picture of the other."""

    style_size = STYLE_SIZE

    def __init__(self, *parts: Network) -> None:
        super().__init__()
        self.content, self.shared_content, self.shared_generator, self.generator = parts

    def styled(self, x: Tensor, style: Tensor) -> Translation:
        """See `StyledNetwork`; H and W are multiples of 4, at least 8."""
        code = self.shared_content(self.content(x))
        return Translation(self.generator(self.shared_generator(code), style))


# --- Discriminators ------------------------------------------------------------------------------------


class DomainDiscriminator(MultiScaleDiscriminator):
    """Tells pictures of a domain from translations into it, at several scales."""

    slope = SLOPE

    def __init__(self, config: DRITConfig) -> None:
        super().__init__(config.discriminator_channels, config.scales)
        initialised(self)


class ContentDiscriminator(Network):
    """Tells content codes of pictures of domain b from those of domain a."""

    def __init__(self, config: DRITConfig) -> None:
        super().__init__()
        c = config.features
        self.layers = nn.ModuleList(
            ReflectConv2d(c, c, 7, pad=padding(1), stride=2, bias=True) for _ in range(config.content_layers)
        )
        self.layers.append(ZeroConv2d(c, c, SMALLEST_MAP, pad=0, bias=True))
        self.head = ZeroConv2d(c, 1, 1, pad=0, bias=True)
        initialised(self)

    def forward(self, code: Tensor) -> Tensor:
        """(N, 4C, H, W) -> logits (N, 1, H', W'), above 0 for b: one or more, as many as the size leaves."""
        x = code.to(self.compute_dtype or self.head.weight.dtype)
        for conv in self.layers:
            x = F.leaky_relu(conv(x), SLOPE, inplace=True)
        logits: Tensor = self.head(x)
        return logits.to(widened(logits.dtype))

"""The generator: encoder, CAM attention, style MLP, AdaLIN decoder (paper section 2.1, figure 1, appendix B).

Before it what all translators have in common, those of other methods and those with styles, too.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import ModelConfig
from ugatit_cli.device import sent
from ugatit_cli.nn import whole
from ugatit_cli.nn.attention import ClassActivationMap
from ugatit_cli.nn.layers import Network, ReflectConv2d, ToRGB, UpsampleConv2d, initial_weight, padding, relu_
from ugatit_cli.nn.normalization import AdaptiveNorm, InstanceNorm, decoder_norm
from ugatit_cli.pictures.styles import random_style


class Translation(NamedTuple):
    """What a translator returns.

    Attributes:
        image: (N, 3, H, W) float32 in [-1, 1].
        cam_logit: (N, 2) float32 logits of the CAM classifiers (average, maximum); None without CAM.
        heatmap: (N, 1, H/4, W/4) float32, unnormalised attention, >= 0; AGGAN's mask, in [0, 1], a number for 4x4
            pixels; None where there is no attention.
    """

    image: Tensor
    cam_logit: Tensor | None = None
    heatmap: Tensor | None = None


def picture_styles(x: Tensor, size: int, seed: int = 0) -> Tensor:
    """Each picture's `random_style`, whatever batch it comes in.

    Args:
        x: (N, 3, H, W) in [-1, 1].

    Returns:
        (N, size) float32, on the device of `x`.
    """
    pixels = x.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    styles = [random_style(one, size, seed) for one in pixels.permute(0, 2, 3, 1).cpu().numpy()]
    return sent(torch.from_numpy(np.stack(styles)), x.device)


class StyledNetwork(Network):
    """A translator with styles, as all are of a method whose `style_size` isn't 0.

    Attributes:
        style_size: numbers of a style.
    """

    style_size: int

    @abstractmethod
    def styled(self, x: Tensor, style: Tensor) -> Translation:
        """Translates pictures, (N, 3, H, W) in [-1, 1], each in a style: (N, style_size) float32."""

    def forward(self, x: Tensor, style: Tensor | None = None) -> Translation:
        """The same; without styles, each picture has its own random one."""
        return self.styled(x, picture_styles(x, self.style_size) if style is None else style)


class ConvNorm(nn.Module):
    """Convolution, instance norm, ReLU: the encoder's layer."""

    def __init__(self, inputs: int, outputs: int, kernel: int, config: ModelConfig, *, stride: int = 1) -> None:
        super().__init__()
        # No bias in any dialect: instance norm takes it out again.
        self.conv = ReflectConv2d(inputs, outputs, kernel, pad=padding(kernel // 2), stride=stride)
        self.norm = InstanceNorm(outputs, affine=config.dialect == "tensorflow")

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""
        out: Tensor = self.norm(self.conv(x))
        return relu_(out)


class EncoderBlock(nn.Module):
    """Residual block with instance norm."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3, config)
        self.conv = ReflectConv2d(channels, channels, 3, pad=padding(1))
        self.norm = InstanceNorm(channels, affine=config.dialect == "tensorflow")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out: Tensor = self.norm(self.conv(self.first(x)))
        return out.add_(x)


class DecoderBlock(nn.Module):
    """Residual block with AdaLIN (or the ablation norm)."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        norm = AdaptiveNorm if config.adaptive else decoder_norm
        self.conv1 = ReflectConv2d(channels, channels, 3, pad=padding(1), bias=config.conv_bias)
        self.conv2 = ReflectConv2d(channels, channels, 3, pad=padding(1), bias=config.conv_bias)
        self.norm1: nn.Module = norm(channels, config)
        self.norm2: nn.Module = norm(channels, config)

    def forward(self, x: Tensor, style: tuple[Tensor, Tensor] | None) -> Tensor:
        """x (N, C, H, W), style (gamma, beta) each (N, C) -> (N, C, H, W)."""
        arguments = style or ()
        out: Tensor = relu_(self.norm1(self.conv1(x), *arguments))
        out = self.norm2(self.conv2(out), *arguments)
        return out.add_(x)


class UpBlock(nn.Module):
    """Nearest up-sampling by 2, convolution, LIN, ReLU."""

    def __init__(self, inputs: int, outputs: int, config: ModelConfig) -> None:
        super().__init__()
        self.conv = UpsampleConv2d(inputs, outputs, bias=config.conv_bias)
        self.norm = decoder_norm(outputs, config)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        out: Tensor = self.norm(self.conv(x))
        return relu_(out)


class Linear(nn.Module):
    """Linear layer; weights start from N(0, 0.02), biases from 0."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = initial_weight(outputs, inputs)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) -> (N, outputs)."""
        return F.linear(x, self.weight, self.bias)


class StyleMLP(nn.Module):
    """Gamma and beta of AdaLIN from the attention map: its average (light) or all of it (full)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        features = config.features
        self.light = config.light
        self.side = config.image_size // 4
        inputs = features if config.light else features * self.side**2
        bias = config.dialect == "tensorflow"
        self.hidden1 = Linear(inputs, features, bias=bias)
        self.hidden2 = Linear(features, features, bias=bias)
        self.gamma = Linear(features, features, bias=bias)
        self.beta = Linear(features, features, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> gamma (N, C), beta (N, C), both float32."""
        if self.light:
            pooled = x.mean((2, 3), dtype=torch.float32)  # (N, C)
        elif x.shape[2:] != (self.side, self.side):
            raise ValueError(f"this full generator takes {4 * self.side}x{4 * self.side} pixels only")
        else:
            pooled = x.flatten(1)  # (N, C*H*W)
        pooled = whole.pooled(pooled)
        hidden = F.relu(self.hidden1(pooled.to(self.hidden1.weight.dtype)).to(self.hidden2.weight.dtype))
        hidden = F.relu(self.hidden2(hidden))
        return self.gamma(hidden), self.beta(hidden)


class Generator(Network):
    """Translates pictures from one domain to the other.

    Light generators take any height and width that are multiples of 4 and at least 16; full ones take
    `config.image_size` squared only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.stem = ConvNorm(3, c, 7, config)
        self.down = nn.Sequential(
            ConvNorm(c, 2 * c, 3, config, stride=2), ConvNorm(2 * c, 4 * c, 3, config, stride=2)
        )
        self.encoder = nn.Sequential(*(EncoderBlock(4 * c, config) for _ in range(config.blocks)))
        self.cam = (
            ClassActivationMap(4 * c, dialect=config.dialect, slope=0.0, spectral=False)
            if config.generator_cam
            else None
        )
        self.style = StyleMLP(config) if config.adaptive else None
        self.decoder = nn.ModuleList(DecoderBlock(4 * c, config) for _ in range(config.blocks))
        self.up = nn.Sequential(UpBlock(4 * c, 2 * c, config), UpBlock(2 * c, c, config))
        self.to_rgb = ToRGB(c, bias=config.conv_bias)

    def forward(self, x: Tensor) -> Translation:
        """Translates.

        Args:
            x: (N, 3, H, W) float in [-1, 1].

        Raises:
            ValueError: a full generator is given another size than its own.
        """
        x = x.to(self.compute_dtype or self.stem.conv.weight.dtype)
        x = self.stem(x)  # (N, C, H, W)
        x = self.down(x)  # (N, 4C, H/4, W/4)
        for block in self.encoder:
            x = self.run_block(block, x)
        cam_logit = heatmap = None
        if self.cam is not None:
            x, cam_logit, heatmap = self.cam(x)
        style = None if self.style is None else self.style(x)  # gamma, beta: (N, 4C)
        for block in self.decoder:
            x = self.run_block(block, x, style)
        for block in self.up:
            x = self.run_block(block, x)  # (N, C, H, W) in the end
        image = self.to_rgb(x).float().tanh()  # (N, 3, H, W)
        return Translation(image, cam_logit, heatmap)

    def set_precision(self, dtype: torch.dtype) -> Self:
        """Casts the weights of the large products; norms, CAM classifiers and the small MLP layers stay float32."""
        if self.style is not None and not self.style.light:
            self.style.hidden1.to(dtype)
        return super().set_precision(dtype)

"""AdaLIN, LIN and the norms of the paper's ablations (section 2.1.1, equation 1).

All of them but group norm are one per-channel affine map of x,

    y = gamma * (rho * IN(x) + (1 - rho) * LN(x)) + beta = scale * x + shift,

and the layer's mean and variance follow from those of its channels (law of total variance). So each norm is one
reduction over x, some arithmetic on (N, C) numbers in float32, and one multiply-add.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import ModelConfig

EPS = 1e-5
GROUPS = 32
# "Smoothing" of the official TensorFlow code, which never lets a channel be purely instance-normalised.
RHO_SMOOTHING = 0.1


class _ChannelMoments(torch.autograd.Function):
    """Mean and biased variance per picture and channel, read in one pass on the CPU too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = _moments(x)
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        grad_mean, grad_var = grads
        slope = 2 * grad_var
        grad: Tensor = scale_shift(x, slope, grad_mean - slope * mean) / (x.shape[2] * x.shape[3])
        return grad


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.device.type != "cpu":
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0)
        return mean, var
    # The batch-norm kernel is up to 30 times as fast as torch.var_mean on the CPU. Its statistics are in the
    # dtype of the running ones it is handed, hence float32 placeholders.
    zeros, ones = x.new_zeros(x.shape[1], dtype=torch.float32), x.new_ones(x.shape[1], dtype=torch.float32)
    pairs = [torch.batch_norm_update_stats(x[n : n + 1], zeros, ones, 0.0) for n in range(len(x))]
    means, variances = zip(*pairs, strict=True)
    return torch.stack(means), torch.stack(variances)


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the pixels of each channel.

    Args:
        x: (N, C, H, W), any float dtype.

    Returns:
        Two float32 tensors (N, C). Differentiable.
    """
    if not _needs_grad(x):
        return _moments(x)
    mean, var = _ChannelMoments.apply(x)
    return mean, var


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift with one scale and shift per picture and channel.

    Args:
        x: (N, C, H, W), any float dtype.
        scale, shift: (N, C) float32.

    Returns:
        (N, C, H, W) in the dtype and memory format of x. Differentiable.
    """
    if x.device.type == "cpu" and not _needs_grad(x, scale, shift):
        return _scale_shift_cpu(x, scale, shift)
    return torch.addcmul(shift[:, :, None, None].to(x.dtype), x, scale[:, :, None, None].to(x.dtype))


def _needs_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _scale_shift_cpu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    # The batch-norm kernel takes float32 coefficients for bfloat16 pixels: one pass, one rounding.
    zeros, ones = torch.zeros_like(scale[0]), torch.ones_like(scale[0])
    rows = [
        F.batch_norm(x[n : n + 1], zeros, ones, scale[n], shift[n], training=False, eps=0.0) for n in range(len(x))
    ]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def instance_layer_norm(
    x: Tensor, rho: Tensor | float, gamma: Tensor | None, beta: Tensor | None, *, unbiased: bool = False
) -> Tensor:
    """gamma * (rho * IN(x) + (1 - rho) * LN(x)) + beta, the paper's equation 1.

    Args:
        x: (N, C, H, W).
        rho: share of instance norm, in [0, 1]: a number, or (C,).
        gamma, beta: (C,) or (N, C); None means 1 and 0.
        unbiased: variances divide by n - 1 (the official PyTorch code) instead of n.

    Returns:
        (N, C, H, W) in the dtype of x.
    """
    pixels = x.shape[2] * x.shape[3]
    mean, var = channel_moments(x)  # (N, C)
    layer_mean = mean.mean(1, keepdim=True)  # (N, 1)
    layer_var = var.mean(1, keepdim=True) + (mean - layer_mean).square().mean(1, keepdim=True)
    if unbiased:
        values = pixels * x.shape[1]
        var, layer_var = var * (pixels / (pixels - 1)), layer_var * (values / (values - 1))
    by_instance = rho * torch.rsqrt(var + EPS)  # (N, C)
    by_layer = (1 - rho) * torch.rsqrt(layer_var + EPS)
    scale = by_instance + by_layer
    shift = -(by_instance * mean + by_layer * layer_mean)
    if gamma is not None:
        scale, shift = scale * gamma, shift * gamma
    return scale_shift(x, scale, shift if beta is None else shift + beta)


class InstanceNorm(nn.Module):
    """Instance norm of the encoder; affine in the TensorFlow dialect only."""

    def __init__(self, channels: int, *, affine: bool) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels)) if affine else None
        self.beta = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return instance_layer_norm(x, 1.0, self.gamma, self.beta)


class AdaptiveNorm(nn.Module):
    """AdaLIN, or AdaIN as its ablation: gamma and beta come from the style MLP.

    rho starts at 1 (section 2.1.1) and is kept within [0, 1] by `clip_rho` after each generator step.
    """

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.ones(channels)) if config.decoder_norm == "adalin" else None
        self.smoothing = config.rho_smoothing
        self.unbiased = config.unbiased_variance

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """x (N, C, H, W), gamma and beta (N, C) -> (N, C, H, W)."""
        rho: Tensor | float = 1.0 if self.rho is None else self.rho
        if self.smoothing and isinstance(rho, Tensor):
            rho = (rho - RHO_SMOOTHING).clamp(0, 1)
        return instance_layer_norm(x, rho, gamma, beta, unbiased=self.unbiased)


class LayerInstanceNorm(nn.Module):
    """LIN of the up-sampling layers, with learned gamma and beta; rho starts at 0 (section 2.1.1).

    As ablations: instance norm (also beside AdaIN) and layer norm, which fix rho at 1 and 0.
    """

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.fixed_rho = 0.0 if config.decoder_norm == "ln" else 1.0
        self.rho = nn.Parameter(torch.zeros(channels)) if config.decoder_norm == "adalin" else None
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.unbiased = config.unbiased_variance

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        rho = self.fixed_rho if self.rho is None else self.rho
        return instance_layer_norm(x, rho, self.gamma, self.beta, unbiased=self.unbiased)


class GroupNorm(nn.Module):
    """Group norm, the last of the paper's decoder ablations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = math.gcd(GROUPS, channels)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return F.group_norm(x.float(), self.groups, self.gamma, self.beta, EPS).to(x.dtype)


def decoder_norm(channels: int, config: ModelConfig) -> LayerInstanceNorm | GroupNorm:
    """The decoder norm that has its own gamma and beta: LIN, or its ablations."""
    return GroupNorm(channels) if config.decoder_norm == "gn" else LayerInstanceNorm(channels, config)


@torch.no_grad()
def clip_rho(module: nn.Module) -> None:
    """Clips every rho of AdaLIN and LIN to [0, 1], as the paper does after each generator step (equation 1)."""
    for layer in module.modules():
        if isinstance(layer, AdaptiveNorm | LayerInstanceNorm) and layer.rho is not None:
            layer.rho.clamp_(0, 1)

"""AdaLIN, LIN and the norms of the paper's ablations (section 2.1.1, equation 1).

All of them but group norm are one per-channel affine map of x,

    y = gamma * (rho * IN(x) + (1 - rho) * LN(x)) + beta = scale * x + shift,

and the layer's mean and variance follow from those of its channels (law of total variance). So each norm is one
reduction over x, some arithmetic on (N, C) numbers in float32, and one multiply-add.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import ModelConfig
from ugatit_cli.device import is_traced
from ugatit_cli.nn import whole
from ugatit_cli.nn.layers import widened

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
    if x.device.type != "cpu" or is_traced():
        var, mean = torch.var_mean(x.to(widened(x.dtype)), dim=(2, 3), correction=0)
        return mean, var
    # The batch-norm kernel is up to 30 times as fast as torch.var_mean on the CPU. Its statistics are in the
    # dtype of the running ones it is handed, hence placeholders. It adds up by threads: another number of them gives
    # another last bit, and only norms do so. Sums over (HW, C) give the same, and make a generator up to 10 % slower.
    # Fresh ones, since they are written to: what isn't finite would stay.
    zeros, ones = (one.clone() for one in _placeholders(x))
    pairs = [torch.batch_norm_update_stats(x[n : n + 1], zeros, ones, 0.0) for n in range(len(x))]
    means, variances = zip(*pairs, strict=True)
    return torch.stack(means), torch.stack(variances)


def _placeholders(x: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros and ones, one a channel; float32, of float64 pixels float64. To be read only."""
    return _zeros_and_ones(x.shape[1], widened(x.dtype))


@functools.lru_cache(64)
def _zeros_and_ones(count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        return torch.zeros(count, dtype=dtype), torch.ones(count, dtype=dtype)


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the pixels of each channel.

    Args:
        x: (N, C, H, W), any float dtype.

    Returns:
        Two float32 tensors (N, C), float64 ones of float64 pixels. Differentiable.
    """
    if not _needs_grad(x):
        return whole.moments(x, _moments)
    mean, var = _ChannelMoments.apply(x)
    return mean, var


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift with one scale and shift per picture and channel.

    Args:
        x: (N, C, H, W), any float dtype.
        scale, shift: (N, C) float32.

    Returns:
        (N, C, H, W) in the dtype and memory format of x. Differentiable. On a CPU bfloat16 is NaN everywhere, and a
        positive one, which `layers.relu_` keeps, where a shift isn't finite.
    """
    if x.device.type != "cpu" or is_traced() or _needs_grad(x, scale, shift):
        # In float32: rounded coefficients would shift whole channels.
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None]).to(x.dtype)
    if _is_broken(x, shift):
        return torch.full_like(x, math.nan)
    # The batch-norm kernel takes float32 coefficients for bfloat16 pixels: one pass, one rounding.
    zeros, ones = _zeros_and_ones(x.shape[1], scale.dtype)
    # Not F.batch_norm: that of torch 2.11 refuses an eps of 0.
    rows = [
        torch.batch_norm(x[n : n + 1], scale[n], shift[n], zeros, ones, False, 0.0, 0.0, False) for n in range(len(x))
    ]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _is_broken(x: Tensor, found: Tensor) -> bool:
    """Whether what was found of bfloat16 pixels isn't finite: `layers.relu_` may lose it in the pixels themselves."""
    return x.dtype == torch.bfloat16 and not math.isfinite(found.sum())


def _needs_grad(*values: Tensor | float | None) -> bool:
    return torch.is_grad_enabled() and any(isinstance(value, Tensor) and value.requires_grad for value in values)


def instance_layer_norm(
    x: Tensor,
    rho: Tensor | float,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    unbiased: bool = False,
    eps: float = EPS,
    outside: bool = False,
) -> Tensor:
    """gamma * (rho * IN(x) + (1 - rho) * LN(x)) + beta, the paper's equation 1.

    Args:
        x: (N, C, H, W).
        rho: share of instance norm, in [0, 1]: a number, or (C,).
        gamma, beta: (C,) or (N, C); None means 1 and 0.
        unbiased: variances divide by n - 1 (the official PyTorch code) instead of n.
        eps: is added to variances.
        outside: it is added to deviations instead, outside the root.

    Returns:
        (N, C, H, W) in the dtype of x.
    """
    if not _needs_grad(x, rho, gamma, beta):
        return _affine(x, rho, gamma, beta, unbiased=unbiased, eps=eps, outside=outside)[0]
    result: Tensor = _InstanceLayerNorm.apply(x, rho, gamma, beta, unbiased, eps, outside)
    return result


class _Statistics(NamedTuple):
    """Mean and 1 / sqrt(variance + eps), or 1 / (deviation + eps), of the channels (N, C) and of the layer (N, 1)."""

    mean: Tensor
    by_deviation: Tensor
    layer_mean: Tensor
    by_layer_deviation: Tensor


def _affine(
    x: Tensor,
    rho: Tensor | float,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    unbiased: bool,
    eps: float,
    outside: bool,
) -> tuple[Tensor, Tensor, _Statistics]:
    """The normalised map, its scale (N, C), and what it was computed from."""
    mean, var = channel_moments(x)  # (N, C)
    between, layer_mean = torch.var_mean(mean, 1, correction=0, keepdim=True)  # (N, 1) each
    layer_var = var.mean(1, keepdim=True) + between
    if unbiased:
        pixels, values = _counts(x, unbiased=False)
        var, layer_var = var * (pixels / (pixels - 1)), layer_var * (values / (values - 1))
    inverses = [1 / (one.sqrt() + eps) if outside else torch.rsqrt(one + eps) for one in (var, layer_var)]
    known = _Statistics(mean, inverses[0], layer_mean, inverses[1])
    by_instance, by_layer = rho * known.by_deviation, (1 - rho) * known.by_layer_deviation
    scale = by_instance + by_layer
    shift = -(by_instance * mean + by_layer * layer_mean)
    if gamma is not None:
        scale, shift = scale * gamma, shift * gamma
    return scale_shift(x, scale, shift if beta is None else shift + beta), scale, known


def _counts(x: Tensor, *, unbiased: bool) -> tuple[int, int]:
    """What variances divide by: of a channel, of the layer."""
    pixels, less = x.shape[2] * x.shape[3], int(unbiased)
    return pixels - less, pixels * x.shape[1] - less


class _InstanceLayerNorm(torch.autograd.Function):
    """`instance_layer_norm` with its gradient in closed form: one reduction and two multiply-adds.

    With I and L the instance- and the layer-normalised x, y = gamma (rho I + (1 - rho) L) + beta, and dy the gradient
    of y: all parameters' gradients follow from sum(dy), sum(dy I) and sum(dy L) over pixels, and that of x is, as for
    any batch norm, the part of dy that changes neither mean nor variance: an affine map of dy and x per channel.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        rho: Tensor | float,
        gamma: Tensor | None,
        beta: Tensor | None,
        unbiased: bool,
        eps: float,
        outside: bool,
    ) -> Tensor:
        y, scale, known = _affine(x, rho, gamma, beta, unbiased=unbiased, eps=eps, outside=outside)
        ctx.fixed_rho = None if isinstance(rho, Tensor) else rho
        ctx.unbiased = unbiased
        ctx.outside_eps = eps if outside else 0.0
        ctx.beta_dim = 0 if beta is None else beta.ndim
        ctx.save_for_backward(x, rho if isinstance(rho, Tensor) else None, gamma, scale, *known)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, rho, gamma, scale, *rest = ctx.saved_tensors
        known, grad = _Statistics(*rest), grads[0]
        rho = ctx.fixed_rho if rho is None else rho
        total, along_instance = _sums(grad, x, known)  # sum(dy), sum(dy I), each (N, C)
        along_layer = (along_instance / known.by_deviation + (known.mean - known.layer_mean) * total) * (
            known.by_layer_deviation
        )
        along = rho * along_instance + (1 - rho) * along_layer
        needed = ctx.needs_input_grad
        grad_rho = (along_instance - along_layer) * (1 if gamma is None else gamma) if needed[1] else None
        # With eps outside the root, what changes a deviation changes its inverse by that much more.
        along_instance, along_layer = (
            along / (1 - ctx.outside_eps * inverse).clamp_min(ctx.outside_eps) if ctx.outside_eps else along
            for along, inverse in ((along_instance, known.by_deviation), (along_layer, known.by_layer_deviation))
        )
        grad_x = _grad_x(grad, x, rho, gamma, scale, known, total, along_instance, along_layer, ctx.unbiased)
        return (
            grad_x if needed[0] else None,
            _like(grad_rho, rho.ndim if isinstance(rho, Tensor) else 0),
            _like(along, gamma.ndim) if needed[2] and gamma is not None else None,
            _like(total, ctx.beta_dim) if needed[3] else None,
            None,
            None,
            None,
        )


def _like(grad: Tensor | None, ndim: int) -> Tensor | None:
    """A gradient (N, C) for a parameter (N, C) or (C,)."""
    return grad.sum(0) if grad is not None and ndim == 1 else grad


def _sums(grad: Tensor, x: Tensor, known: _Statistics) -> tuple[Tensor, Tensor]:
    """sum(dy) and sum(dy I) over pixels: (N, C) each, float32."""
    if x.device.type != "cpu":
        grad = grad.to(known.mean.dtype)
        total = grad.sum((2, 3))
        return total, ((grad * x).sum((2, 3)) - known.mean * total) * known.by_deviation
    ones = torch.ones_like(known.mean[0])
    pairs = [
        torch.ops.aten.native_batch_norm_backward(
            *(grad[n : n + 1], x[n : n + 1], ones, None, None, known.mean[n], known.by_deviation[n]),
            *(True, EPS, [False, True, True]),
        )[1:]
        for n in range(len(x))
    ]
    return torch.stack([total for _, total in pairs]), torch.stack([along for along, _ in pairs])


def _grad_x(
    grad: Tensor,
    x: Tensor,
    rho: Tensor | float,
    gamma: Tensor | None,
    scale: Tensor,
    known: _Statistics,
    total: Tensor,
    along_instance: Tensor,
    along_layer: Tensor,
    unbiased: bool,
) -> Tensor:
    """scale * dy + slope * x + offset, (N, C, H, W): without the parts that mean and variance take away."""
    pixels, values = _counts(x, unbiased=False)
    pixels_of_var, values_of_var = _counts(x, unbiased=unbiased)
    weight = 1.0 if gamma is None else gamma
    instance, layer = weight * rho * known.by_deviation, weight * (1 - rho)
    slope = -instance * known.by_deviation * along_instance / pixels_of_var
    offset = -instance * total / pixels - slope * known.mean
    layer_total, layer_along = ((layer * sums).sum(1, keepdim=True) for sums in (total, along_layer))  # (N, 1)
    layer_slope = -known.by_layer_deviation.square() * layer_along / values_of_var
    offset = offset - known.by_layer_deviation * layer_total / values - layer_slope * known.layer_mean
    kept = scale_shift(x, slope + layer_slope, offset)
    return kept.addcmul_(grad, scale[:, :, None, None].to(grad.dtype))


def _batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    out, _, by_deviation = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.0, eps)
    in_use = not _needs_grad(x, gamma)
    return torch.full_like(x, math.nan) if in_use and _is_broken(x, by_deviation) else out


class InstanceNorm(nn.Module):
    """Instance norm; `affine`: with a learned scale and shift for each channel."""

    def __init__(self, channels: int, *, affine: bool, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(channels)) if affine else None
        self.beta = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if is_traced():
            wide = x.to(widened(x.dtype))
            return F.instance_norm(wide, weight=self.gamma, bias=self.beta, eps=self.eps).to(x.dtype)
        if x.device.type == "cpu" and not whole.known():
            # Batch norm of each picture alone, forwards and backwards two kernels each.
            zeros, ones = _placeholders(x)
            gamma, beta = (ones, zeros) if self.gamma is None or self.beta is None else (self.gamma, self.beta)
            rows = [_batch_norm(one, gamma, beta, self.eps) for one in (torch.split(x, 1) if len(x) > 1 else (x,))]
            return rows[0] if len(rows) == 1 else torch.cat(rows)
        return instance_layer_norm(x, 1.0, self.gamma, self.beta, eps=self.eps)


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


class LayerNorm(nn.Module):
    """MUNIT's layer norm: a learned scale and shift for each channel; eps is added to unbiased deviations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return instance_layer_norm(x, 0.0, self.gamma, self.beta, unbiased=True, outside=True)


class GroupNorm(nn.Module):
    """Group norm, the last of the paper's decoder ablations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = math.gcd(GROUPS, channels)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        in_use = x.device.type == "cpu" and not (is_traced() or _needs_grad(x, self.gamma))
        if whole.known() or in_use:
            return self._of_whole(x)
        return F.group_norm(x.float(), self.groups, self.gamma, self.beta, EPS).to(x.dtype)

    def _of_whole(self, x: Tensor) -> Tensor:
        mean, var = (one.reshape(len(x), self.groups, -1) for one in channel_moments(x))  # (N, groups, C / groups)
        middle = mean.mean(2, keepdim=True)
        var = (var + (mean - middle).square()).mean(2, keepdim=True)
        scale = torch.rsqrt(var + EPS).expand_as(mean).flatten(1) * self.gamma
        return scale_shift(x, scale, self.beta - scale * middle.expand_as(mean).flatten(1))


def decoder_norm(channels: int, config: ModelConfig) -> LayerInstanceNorm | GroupNorm:
    """The decoder norm that has its own gamma and beta: LIN, or its ablations."""
    return GroupNorm(channels) if config.decoder_norm == "gn" else LayerInstanceNorm(channels, config)


@torch.no_grad()
def clip_rho(module: nn.Module) -> None:
    """Clips every rho of AdaLIN and LIN to [0, 1], as the paper does after each generator step (equation 1)."""
    for layer in module.modules():
        if isinstance(layer, AdaptiveNorm | LayerInstanceNorm) and layer.rho is not None:
            layer.rho.clamp_(0, 1)

"""Spectral norm (Miyato et al. 2018) and the layers under it, without a normalised copy of large weights.

A layer's weight W acts as W / sigma with sigma = u^T W v, its largest singular value. So the gradient of W is
(G - <G, W / sigma> u v^T) / sigma, G being the gradient of W / sigma: a product like that of any layer, and one of
rank 1 that joins it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.nn.layers import Padding, ReflectConv2d, is_channels_last, padded

# Up to this many output pixels a CPU is faster with one product of matrices, which reads the weight once: deep
# discriminator layers have more weights than pixels.
FEW_PIXELS = 128
CAST_AT_ONCE = 2**21


def as_matrix(weight: Tensor) -> Tensor:
    """(outputs, ...) as a matrix (outputs, rest) without a copy: the order of the columns is that in memory."""
    return (weight.permute(0, 2, 3, 1) if is_channels_last(weight) else weight).flatten(1)


class SpectralNorm(nn.Module):
    """Largest singular value of a weight by power iteration.

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
    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sigma (), u (outputs,), v (rest,): v in the order of `as_matrix`."""
        matrix = as_matrix(weight)
        if not self.training:
            v = _in_memory_order(self.v, weight)
            return torch.dot(self.u, matrix @ v), self.u, v
        v = F.normalize(matrix.T @ self.u, dim=0)
        product = matrix @ v
        # New tensors: graphs of earlier passes hold the old ones.
        self.u = F.normalize(product, dim=0)
        self.v = _in_channel_order(v, weight)
        return torch.dot(self.u, product), self.u, v


# Stored vectors don't depend on the memory format.
def _in_memory_order(v: Tensor, weight: Tensor) -> Tensor:
    return v.view(weight.shape[1:]).permute(1, 2, 0).flatten() if is_channels_last(weight) else v


def _in_channel_order(v: Tensor, weight: Tensor) -> Tensor:
    inputs, *kernel = weight.shape[1:]
    return v.view(*kernel, inputs).permute(2, 0, 1).flatten() if is_channels_last(weight) else v


def _random_direction(size: int) -> Tensor:
    direction = torch.empty(size)
    return direction if direction.is_meta else F.normalize(direction.normal_(), dim=0)


class _Normalised(torch.autograd.Function):
    """W / sigma in a dtype of choice."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, sigma: Tensor, u: Tensor, v: Tensor, dtype: torch.dtype) -> Tensor:
        normalised = (weight / sigma).to(dtype)
        ctx.save_for_backward(normalised, sigma, u, v)
        return normalised

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        normalised, sigma, u, v = ctx.saved_tensors
        # Of pictures in another memory format than the weight's, its gradient is in theirs.
        order = torch.channels_last if is_channels_last(normalised) else torch.contiguous_format
        grad = (grads[0].to(u.dtype) / sigma).contiguous(memory_format=order)
        along = torch.dot(as_matrix(grad).flatten(), as_matrix(normalised).flatten().to(u.dtype))
        as_matrix(grad).addr_(-along * u, v)
        return grad, None, None, None, None


def normalised_weight(weight: Tensor, norm: SpectralNorm, dtype: torch.dtype) -> Tensor:
    """The weight divided by its largest singular value, in the same shape. Differentiable."""
    result: Tensor = _Normalised.apply(weight, *norm(weight), dtype)
    return result


class _SpectralLinear(torch.autograd.Function):
    """x @ (W / sigma)^T for few rows x and a large W, multiplied in the dtype of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, sigma: Tensor, u: Tensor, v: Tensor) -> Tensor:
        parts = [x @ part.to(x.dtype).T for part in _split(matrix, _rows_at_once(matrix, x.dtype))]
        out = torch.cat(parts, 1) / sigma  # (rows, outputs)
        ctx.save_for_backward(x, matrix, out, sigma, u, v)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix, out, sigma, u, v = ctx.saved_tensors
        grad = grads[0] / sigma
        step = _rows_at_once(matrix, x.dtype)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.zeros_like(x, dtype=u.dtype)
            for part, rows in zip(_split(grad, step, 1), _split(matrix, step), strict=True):
                grad_x += part @ rows.to(x.dtype)
            grad_x = grad_x.to(x.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None, None, None
        along = (grad * out).sum(dtype=u.dtype)
        left = torch.cat([grad, -(along * u)[None].to(grad.dtype)])  # the term of rank 1 is one more row
        right = torch.cat([x, v[None].to(x.dtype)])
        grad_matrix = torch.empty_like(matrix)
        for target, part in zip(_split(grad_matrix, step), _split(left, step, 1), strict=True):
            if target.dtype == right.dtype:
                torch.mm(part.T, right, out=target)
            else:
                target.copy_(part.T @ right)
        return grad_x, grad_matrix, None, None, None


def _split(matrix: Tensor, step: int, dim: int = 0) -> list[Tensor]:
    return list(torch.split(matrix, step, dim))


def _rows_at_once(matrix: Tensor, dtype: torch.dtype) -> int:
    """Rows of a weight to cast at once: what fits into a cache, rather than a copy of all of it in memory."""
    return len(matrix) if matrix.dtype == dtype else max(1, CAST_AT_ONCE // matrix.shape[1])


class SpectralConv2d(ReflectConv2d):
    """A `ReflectConv2d` whose weight is spectrally normalised.

    Attributes:
        norm: None once `fold` has divided the weight.
    """

    norm: SpectralNorm | None

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, pad: Padding, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel, pad=pad, stride=stride, bias=bias)
        self.norm = SpectralNorm(self.weight)

    def fold(self, dtype: torch.dtype) -> None:
        """Divides the weight once and for all and keeps it in a dtype: for use, not for training or saving."""
        if self.norm is not None:
            weight = normalised_weight(self.weight.detach(), self.norm, dtype)
            self.weight, self.norm = nn.Parameter(weight, requires_grad=False), None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W'), computed in the dtype of x."""
        x = padded(x, self.pad)
        side = self.weight.shape[-1]
        height, width = ((size - side) // self.stride + 1 for size in x.shape[2:])
        if x.device.type == "cpu" and len(x) * height * width <= FEW_PIXELS:
            return self._few_pixels(x)
        weight = self.weight if self.norm is None else normalised_weight(self.weight, self.norm, x.dtype)
        return F.conv2d(x, weight, self._bias(x.dtype), self.stride)

    def _few_pixels(self, x: Tensor) -> Tensor:
        side = self.weight.shape[-1]
        windows = x.unfold(2, side, self.stride).unfold(3, side, self.stride)  # (N, I, H', W', k, k)
        windows = windows.permute((0, 2, 3, 1, 4, 5) if self.weight.is_contiguous() else (0, 2, 3, 4, 5, 1))
        rows = windows.flatten(3).flatten(0, 2)  # (N*H'*W', I*k*k)
        out: Tensor
        if self.norm is None:
            out = rows @ as_matrix(self.weight).T
        else:
            out = _SpectralLinear.apply(rows, as_matrix(self.weight), *self.norm(self.weight))
        if self.bias is not None:
            out = out + self.bias.to(x.dtype)
        return out.view(*windows.shape[:3], -1).permute(0, 3, 1, 2)  # (N, O, H', W')

"""Reflection and replication padding whose gradients are the same in every run.

PyTorch's own add up a border's gradients in any order on a GPU, and are slower on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = tuple[int, int, int, int]


def padding(size: int, extra: int = 0) -> Padding:
    """(left, right, top, bottom) for `F.pad`; `extra` goes to the right and bottom (TensorFlow dialect)."""
    return (size, size + extra, size, size + extra)


def reflect(x: Tensor, pad: Padding) -> Tensor:
    """(N, C, H, W) -> (N, C, H + top + bottom, W + left + right), mirrored at the border pixels."""
    return _pad(x, pad, "reflect")


def replicate(x: Tensor, pad: Padding) -> Tensor:
    """(N, C, H, W) -> (N, C, H + top + bottom, W + left + right), repeating the border pixels."""
    return _pad(x, pad, "replicate")


def _pad(x: Tensor, pad: Padding, mode: str) -> Tensor:
    if not (torch.is_grad_enabled() and x.requires_grad):
        return F.pad(x, pad, mode=mode)
    padded: Tensor = _Pad.apply(x, pad, mode)
    return padded


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: Padding, mode: str) -> Tensor:
        ctx.pad, ctx.step = pad, 1 if mode == "reflect" else 0
        return F.pad(x, pad, mode=mode)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        left, right, top, bottom = ctx.pad
        return _folded(_folded(grads[0], 3, left, right, ctx.step), 2, top, bottom, ctx.step), None, None


def _folded(grad: Tensor, dim: int, before: int, after: int, step: int) -> Tensor:
    """Adds the gradients of a dimension's padding to the pixels that it mirrors (step 1) or repeats (step 0)."""
    size = grad.shape[dim] - before - after
    inner = grad.narrow(dim, before, size).clone(memory_format=torch.preserve_format)
    for i in range(before):
        inner.select(dim, step * (before - i)).add_(grad.select(dim, i))
    for i in range(after):
        inner.select(dim, size - 1 - step * (1 + i)).add_(grad.select(dim, before + size + i))
    return inner

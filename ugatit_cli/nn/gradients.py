"""Gradients of convolutions on the CPU, where oneDNN's take twice as long as their multiplications need.

Its weight gradients do so in float32 on large maps, and in bfloat16 where it pads by itself.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def weight_gradient(x: Tensor, grad: Tensor, side: int) -> Tensor:
    """The gradient of the weight of a convolution of stride 1 without padding, as one product for each of its taps.

    With `grad` padded to the width of x, all pixels that a tap multiplies are two runs of rows: nothing is unfolded.

    Args:
        x: (N, I, H, W), channels last.
        grad: of the convolution's output, (N, O, H - side + 1, W - side + 1).
        side: of the kernel.

    Returns:
        (O, I, side, side).
    """
    margin, width = side - 1, x.shape[3]
    pixels = x.permute(0, 2, 3, 1).flatten(0, 2)  # (N*H*W, I)
    grads = F.pad(grad, (0, margin, 0, margin)).permute(0, 2, 3, 1).flatten(0, 2)  # (N*H*W, O)
    count = len(pixels) - margin * (width + 1)  # the rest of `grads` is padding
    left = grads[:count].T
    taps = [dy * width + dx for dy in range(side) for dx in range(side)]
    products = torch.stack([left @ pixels[tap : tap + count] for tap in taps])  # (side*side, O, I)
    return products.unflatten(0, (side, side)).permute(2, 3, 0, 1)


def doubling_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Transposed convolution of stride 2.

    Args:
        x: (N, I, H, W).
        weight: (I, O, K, K), K even.
        padding: what the output lacks on all sides.

    Returns:
        (N, O, 2 * (H - 1) + K - 2 * padding, ...). Differentiable.
    """
    if x.device.type != "cpu" or not (torch.is_grad_enabled() and weight.requires_grad):
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=padding)
    out: Tensor = _Doubling.apply(x, weight, bias, padding)
    return out


class _Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        ctx.padding = padding
        ctx.save_for_backward(x, weight)
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        grad_x = F.conv2d(grad, weight, None, 2, ctx.padding) if ctx.needs_input_grad[0] else None
        grad_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return grad_x, _doubling_weight_gradient(x, F.pad(grad, [ctx.padding] * 4), weight), grad_bias, None


def _doubling_weight_gradient(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """That of the convolution of stride 2 from `grad`, padded, to x."""
    if x.dtype == torch.bfloat16:
        backward = torch.ops.aten.convolution_backward
        found = backward(x, grad, weight, None, [2, 2], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False])
        return found[1]
    # Four pixels as the channels of one: the stride becomes 1, and the kernel half as large.
    pixels = grad.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (N, H, 2, W, 2, O)
    blocks = pixels.transpose(2, 3).flatten(3).permute(0, 3, 1, 2)  # (N, 4*O, H, W)
    found = weight_gradient(blocks, x, weight.shape[-1] // 2).unflatten(1, (2, 2, -1))  # (I, 2, 2, O, K/2, K/2)
    return found.permute(0, 3, 4, 1, 5, 2).reshape(weight.shape)

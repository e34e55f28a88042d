"""Gradients of convolutions on the CPU, where oneDNN's take twice as long as their multiplications need.

Its weight gradients do so in float32 on large maps, and in bfloat16 where it pads by itself.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

# From this many numbers on, a map doesn't fit into a core's cache; for smaller ones oneDNN is as fast.
LARGE = 2**21


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
    products = torch.stack([left @ pixels[tap : tap + count] for tap in taps], 2)  # (O, I, side*side)
    return products.view(*products.shape[:2], side, side)


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
        return grad_x, _doubling_weight_gradient(x, grad, weight, ctx.padding), grad_bias, None


def _doubling_weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, padding: int) -> Tensor:
    """That of the convolution of stride 2 from `grad` to x."""
    small = grad.numel() < LARGE
    if x.dtype == torch.bfloat16 or not small:
        grad, padding = F.pad(grad, [padding] * 4), 0
    if x.dtype == torch.bfloat16 or small:
        rest = ([2, 2], [padding] * 2, [1, 1], False, [0, 0], 1, [False, True, False])
        return cast(Tensor, torch.ops.aten.convolution_backward(x, grad, weight, None, *rest)[1])
    # Four pixels as the channels of one: the stride becomes 1, and the kernel half as large.
    n, outputs, height, width = grad.shape
    inputs, _, side, _ = weight.shape
    pixels = grad.permute(0, 2, 3, 1).reshape(n, height // 2, 2, width // 2, 2, outputs)
    blocks = pixels.transpose(2, 3).flatten(3).permute(0, 3, 1, 2)  # (N, 4*O, H/2, W/2)
    found = weight_gradient(blocks, x, side // 2).view(inputs, 2, 2, outputs, side // 2, side // 2)
    return found.permute(0, 3, 4, 1, 5, 2).reshape(weight.shape)

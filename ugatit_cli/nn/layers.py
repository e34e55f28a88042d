"""Convolutions, with reflection padding in the forms that need the fewest multiplications.

The up-sampling and the output convolution are rewritten exactly (no approximation beyond float rounding); their
parameters keep the shape of the paper's layers, so that checkpoints and training don't notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ugatit_cli.device import is_traced
from ugatit_cli.nn import winograd
from ugatit_cli.nn.gradients import doubling_conv2d

Padding = tuple[int, int, int, int]


def padding(size: int, extra: int = 0) -> Padding:
    """(left, right, top, bottom) for `F.pad`; `extra` goes to the right and bottom (TensorFlow dialect)."""
    return (size, size + extra, size, size + extra)


def padded(x: Tensor, pad: Padding, mode: Literal["reflect", "replicate"] = "reflect") -> Tensor:
    """(N, C, H, W) -> (N, C, H + top + bottom, W + left + right), mirroring or repeating the border pixels."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return F.pad(x, pad, mode=mode)
    result: Tensor = _Pad.apply(x, pad, mode)
    return result


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


def is_channels_last(tensor: Tensor) -> bool:
    """Whether the channels of (N, C, H, W) are innermost in memory."""
    return tensor.ndim == 4 and not tensor.is_contiguous()


INIT_STD = 0.02


def initial_weight(*shape: int) -> nn.Parameter:
    """A parameter drawn from N(0, 0.02), the paper's initial weights."""
    weight = torch.empty(shape)
    # On "meta" there is nothing to draw, and trying makes torch import its compiler.
    return nn.Parameter(weight if weight.is_meta else weight.normal_(std=INIT_STD))


class Convolution(nn.Module):
    """What all convolutions have: weights that start from N(0, 0.02), biases from 0, and a stride.

    They compute in the dtype of their input, whatever that of their weights.
    """

    def __init__(self, weight: nn.Parameter, outputs: int, *, stride: int, bias: bool) -> None:
        super().__init__()
        self.weight = weight
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.stride = stride
        self._filters = winograd.Filters()

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; weights that are trained change too often for keeping what is computed of them."""
        if mode:
            self.forget()
        return super().train(mode)

    def forget(self) -> None:
        """Frees what is kept of the weights between passes."""
        self._filters.forget()

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.forget()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _by_winograd(self, x: Tensor, border: winograd.Border, *, doubling: bool = False) -> Tensor:
        filters = None if self.training else self._filters
        weight, bias = self.weight.to(x.dtype), self._bias(x.dtype)
        return winograd.convolve(x, weight, bias, border=border, filters=filters, doubling=doubling)

    def _is_for_winograd(self, x: Tensor, pad: Padding) -> bool:
        plain = self.stride == 1 and self.weight.shape[2:] == (3, 3) and pad == padding(1)
        return plain and winograd.pays(x, self.weight, training=self.training)

    def _bias(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.bias is None else self.bias.to(dtype)


class ReflectConv2d(Convolution):
    """Convolution after reflection padding."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, pad: Padding, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__(initial_weight(outputs, inputs, kernel, kernel), outputs, stride=stride, bias=bias)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        if self._is_for_winograd(x, self.pad):
            return self._by_winograd(x, "reflect")
        return F.conv2d(padded(x, self.pad), self.weight.to(x.dtype), self._bias(x.dtype), self.stride)


class ZeroConv2d(Convolution):
    """Convolution after padding by `pad` zeros on all sides."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, pad: int, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__(initial_weight(outputs, inputs, kernel, kernel), outputs, stride=stride, bias=bias)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        if self._is_for_winograd(x, padding(self.pad)):
            return self._by_winograd(x, "zeros")
        return F.conv2d(x, self.weight.to(x.dtype), self._bias(x.dtype), self.stride, self.pad)


class TransposedConv2d(Convolution):
    """Transposed 3x3 convolution that doubles height and width; its weight is (inputs, outputs, 3, 3)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(initial_weight(inputs, outputs, 3, 3), outputs, stride=2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
        weight, bias = self.weight.to(x.dtype), self._bias(x.dtype)
        return F.conv_transpose2d(x, weight, bias, self.stride, padding=1, output_padding=1)


class UpsampleConv2d(ReflectConv2d):
    """Nearest up-sampling by 2, reflection padding and a 3x3 or 5x5 convolution, as one transposed convolution.

    Each output pixel of the plain form reads 9 up-sampled pixels, of which only 4 differ (25 and 9); adding up the
    weights that meet the same source pixel gives a 4x4 kernel of stride 2 and 2.25 times fewer multiplications (6x6
    and 2.8). The up-sampled map's reflection by one pixel is the source map's replication by one; that by two has
    another pixel outside, which the outermost pixels of the output are told afterwards.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: Literal[3, 5] = 3, bias: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, pad=padding(1), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2H, 2W); a 5x5 kernel needs 2 pixels a side."""
        size = int(self.weight.shape[-1])  # in a trace, a tensor
        if size == 3 and winograd.pays(x, self.weight, training=self.training, doubling=True):
            return self._by_winograd(x, "replicate", doubling=True)
        weight = self.weight.to(x.dtype)
        if size == 5 and is_traced():  # files have no way to change the borders of a map
            doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
            return F.conv2d(padded(doubled, padding(2)), weight, self._bias(x.dtype))
        kernel = _box_sum(self.weight).flip(2, 3).transpose(0, 1)  # (inputs, outputs, size + 1, size + 1)
        wide = padded(x, self.pad, "replicate")  # (N, inputs, H+2, W+2)
        bias = self._bias(x.dtype)
        out = doubling_conv2d(wide, kernel.to(x.dtype), bias, (size + 3) // 2)
        if size == 5:
            out = _Bordered.apply(out, *_corrections(x, weight))
        return out


def _box_sum(weight: Tensor) -> Tensor:
    """(O, I, K, K) -> (O, I, K + 1, K + 1): the kernel convolved with a 2x2 box."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))


def _corrections(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the top, bottom, left and right pixels of an up-sampled map lack: a 5x5 kernel's outermost taps there.

    They read the second pixel of the map, reflected, and not the first, replicated. The rows are of the width that
    is padded by reflection, the columns of the height that is padded by replication: so corners are told once each.
    """
    top, bottom = x[:, :, 1:2] - x[:, :, :1], x[:, :, -2:-1] - x[:, :, -1:]
    left, right = x[..., 1:2] - x[..., :1], x[..., -2:-1] - x[..., -1:]
    rows = [padded(one.repeat_interleave(2, 3), (2, 2, 0, 0)) for one in (top, bottom)]
    columns = [padded(one.repeat_interleave(2, 2), (0, 0, 2, 2), "replicate") for one in (left, right)]
    return (
        F.conv2d(rows[0], weight[:, :, :1]),
        F.conv2d(rows[1], weight[:, :, -1:]),
        F.conv2d(columns[0], weight[..., :1]),
        F.conv2d(columns[1], weight[..., -1:]),
    )


class _Bordered(torch.autograd.Function):
    """Adds rows and columns to the borders of a map, in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *borders: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        for border, place in zip(borders, _borders(x), strict=True):
            place.add_(border)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004  # nothing is kept
        return grads[0], *(border.contiguous() for border in _borders(grads[0]))


def _borders(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return x[:, :, :1], x[:, :, -1:], x[..., :1], x[..., -1:]


class PooledConv2d(ReflectConv2d):
    """3x3 convolution with reflection padding, then the mean of each 2x2 pixels: as one 4x4 convolution of stride 2.

    That is exact, too, and takes less than half of the multiplications.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, pad=padding(1), stride=2, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2), rounded down."""
        kernel = _box_sum(self.weight) / 4
        return F.conv2d(padded(x, self.pad), kernel.to(x.dtype), self._bias(x.dtype), self.stride)


class ToRGB(ReflectConv2d):
    """The output convolution, 7x7 to 3 channels, as an 8x8 one of stride 2 to 12 channels and a pixel shuffle.

    Vector units work on 16 channels or more at a time, so 3 leave them mostly idle: 12 channels at a quarter of the
    positions cost 1.3 times the multiplications and a third of the time. Height and width must be even.

    Args:
        zeros: pad by zeros instead of reflection.
    """

    def __init__(self, inputs: int, *, bias: bool = False, zeros: bool = False) -> None:
        super().__init__(inputs, 3, 7, pad=padding(3), bias=bias)
        self.zeros = zeros

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 3, H, W)."""
        shifted = [F.pad(self.weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]
        kernel = torch.stack(shifted, 1).flatten(0, 1)  # (12, inputs, 8, 8)
        bias = None if self.bias is None else self.bias.to(x.dtype).repeat_interleave(4)
        x, pad = (x, 3) if self.zeros else (padded(x, self.pad), 0)
        return F.pixel_shuffle(F.conv2d(x, kernel.to(x.dtype), bias, stride=2, padding=pad), 2)


def relu_(x: Tensor) -> Tensor:
    """ReLU in place, of what a norm made.

    In bfloat16 a CPU does it four times as fast on integers, as which negative numbers are negative, too. So are some
    NaNs: see `normalization.scale_shift`.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled() or is_traced():
        return x.relu_()
    x.view(torch.int16).clamp_(min=0)
    return x


def widened(dtype: torch.dtype) -> torch.dtype:
    """What sums over many values, and pictures, are computed in: float32 for anything smaller, else the dtype."""
    return torch.promote_types(dtype, torch.float32)


class Network(nn.Module):
    """What all networks have.

    Attributes:
        compute_dtype: what convolutions are computed in while their weights stay as they are; None: in the weights'
            own type. For training; `set_precision` is for use.
        checkpointing: training keeps only what goes into each block, and computes the block again for its gradient.
    """

    compute_dtype: torch.dtype | None = None
    checkpointing = False

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Layers differ from network to network."""

    def run_block(self, block: nn.Module, *inputs: Any) -> Any:
        """What a block makes of its inputs, as `checkpointing` says."""
        if self.checkpointing and torch.is_grad_enabled():
            # Nothing in a block is random, so there is no random state to keep for the second pass.
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)

    def set_precision(self, dtype: torch.dtype) -> Self:
        """Casts the weights of convolutions, for use; norms stay as they are."""
        for module in self.modules():
            if isinstance(module, Convolution):
                module.to(dtype)
        return self


@contextmanager
def evaluating(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode again."""
    networks = list(networks)
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
            if isinstance(module, Convolution):
                module.forget()

"""3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3), in tensor operations.

A polynomial product is its factors' values at some points, multiplied one by one, and interpolated. Transposed, that
gives 4x4 pixels of a convolution from a tile of 6x6 with 36 products instead of 144 (Winograd 1980; Lavin and Gray,
arXiv:1509.09308). Over all tiles and channels the products are 36 matrix products; what goes before and after them
are small matrices, too. The backward pass is each of them transposed, in the opposite order.

Tiles are taken some rows of them at a time, so that what lies between the products stays in the cache: two buffers a
thread, in training three, of 36 * `AT_ONCE` numbers, 4.7 MB, each (more only where one row of tiles is longer).
Pictures are taken one by one, so that a picture's result doesn't depend on those beside it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ugatit_cli.device import is_traced

# And infinity. The usual 0, 1, -1, 2, -2 have five times the error: 1e-5 of the result's maximum; direct: 3e-7.
POINTS = (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
OUT = 4
TILE = 6
# Tiles times channels.
AT_ONCE = 32_768
# Below these many the transforms take longer than the multiplications that they spare; those of weights, too, where
# each pass needs them anew.
FEWEST_CHANNELS = 128
FEWEST_TILES = 16
FEWEST_TILES_IN_TRAINING = 36


def pays(x: Tensor, weight: Tensor, *, training: bool) -> bool:
    """Whether a 3x3 convolution of stride 1 that keeps the size of x is faster this way.

    As measured, in float32, where matrix products are MKL's: with AVX2 and with AVX-512.
    """
    tiles = (x.shape[2] // OUT) * (x.shape[3] // OUT)
    fewest = FEWEST_TILES_IN_TRAINING if training or torch.is_grad_enabled() else FEWEST_TILES
    fit = x.dtype == torch.float32 and min(weight.shape[:2]) >= FEWEST_CHANNELS and tiles >= fewest
    here = x.device.type == "cpu" and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return fit and here and not (torch.compiler.is_compiling() or is_traced())


class Transforms(NamedTuple):
    """Matrices of the transforms in two dimensions, of flattened tiles: to the points and, of products, back.

    Attributes:
        pixels: (36, 36), of 6x6 pixels.
        filters: (36, 9), of 3x3 weights.
        results: (16, 36), of products to 4x4 pixels.
    """

    pixels: Tensor
    filters: Tensor
    results: Tensor


@functools.cache
def transforms(dtype: torch.dtype = torch.float32) -> Transforms:
    """The matrices; from the values of a polynomial's monomials at the points."""
    with torch.inference_mode(False), torch.device("cpu"):
        points = torch.tensor(POINTS, dtype=torch.float64)[:, None]

        def values(degrees: int) -> Tensor:  # (6, degrees)
            leading = torch.eye(degrees, dtype=torch.float64)[-1:]
            return torch.cat([points ** torch.arange(degrees), leading])

        single = (torch.linalg.inv(values(TILE)).T, values(3), values(OUT).T)
        return Transforms(*(torch.kron(one, one).to(dtype) for one in single))


class Filters:
    """A weight's transform, kept as long as the weight stays the same: what saves a tenth of the time in use.

    Copies and pickles of a layer are without.
    """

    def __init__(self) -> None:
        self._kept: tuple[Tensor, tuple[int, int], Tensor] | None = None

    def __reduce__(self) -> tuple[type[Filters], tuple[()]]:
        return type(self), ()

    def of(self, weight: Tensor) -> Tensor:
        """(O, I, 3, 3) -> (36, I, O), as `transformed`, but dense."""
        if weight.is_inference():
            return transformed(weight)
        kept, state = self._kept, (weight._version, weight.data_ptr())
        if kept is None or kept[0] is not weight or kept[1] != state:
            self._kept = kept = (weight, state, transformed(weight.detach()).contiguous())
        return kept[2]

    def forget(self) -> None:
        """Frees the memory."""
        self._kept = None


def transformed(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (36, I, O)."""
    flat = weight.permute(2, 3, 0, 1).reshape(9, -1)
    return torch.mm(transforms(weight.dtype).filters, flat).view(-1, *weight.shape[:2]).transpose(1, 2)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, reflect: bool, filters: Filters | None) -> Tensor:
    """Pads by one pixel and convolves.

    Args:
        x: (N, I, H, W) on the CPU.
        weight: (O, I, 3, 3) in the dtype of x.
        bias: (O,).
        reflect: pad by reflection, not by zeros.
        filters: keep the weight's transform there, if no gradients are computed.

    Returns:
        (N, O, H, W), in the memory format of x. Differentiable.
    """
    if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (x, weight, bias)):
        result: Tensor = _Convolution.apply(x, weight, bias, reflect)
        return result
    return _forward(x, transformed(weight) if filters is None else filters.of(weight), bias, reflect)


class _Buffers(threading.local):
    """A thread's memory: handing it back and asking for it again would take a tenth of the time."""

    def __init__(self) -> None:
        self.flat = torch.empty(0)

    def take(self, like: Tensor, *sizes: int) -> tuple[Tensor, ...]:
        """Flat tensors of these sizes, until the next call."""
        wanted = sum(sizes)
        with torch.inference_mode(False):
            if self.flat.dtype != like.dtype or len(self.flat) < wanted:
                self.flat = torch.empty(wanted, dtype=like.dtype)
        return torch.split(self.flat[:wanted], list(sizes))


_BUFFERS = _Buffers()


class _Block(NamedTuple):
    """Some rows of a picture's tiles."""

    picture: int
    first: int
    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        return self.rows * self.columns


def _blocks(x: Tensor, channels: int) -> Iterator[_Block]:
    rows, columns = (-(-size // OUT) for size in x.shape[2:])
    count = -(-rows // max(1, AT_ONCE // (channels * columns)))
    bounds = [rows * i // count for i in range(count + 1)]
    for picture in range(len(x)):
        for first, end in pairwise(bounds):
            yield _Block(picture, first, end - first, columns)


def _buffers(like: Tensor, count: int, blocks: list[_Block], channels: int) -> tuple[Tensor, ...]:
    """Flat ones, for the largest block at all points."""
    size = TILE * TILE * channels * max((block.tiles for block in blocks), default=0)
    return _BUFFERS.take(like, *[size] * count)


def _whole_tiles(x: Tensor) -> tuple[int, int]:
    """Height and width of all tiles."""
    height, width = (size + -size % OUT for size in x.shape[2:])
    return height, width


def _window(x: Tensor, block: _Block, margin: int, reflect: bool, buffer: Tensor) -> Tensor:
    """A block's pixels of (N, C, H, W) and `margin` more on each side: (H', W', C), in `buffer`."""
    channels, height, width = x.shape[1:]
    rows, columns = (OUT * count + 2 * margin for count in (block.rows, block.columns))
    window = buffer[: rows * columns * channels].view(rows, columns, channels)
    above = OUT * block.first - margin  # the window's first row in the picture
    pixels = x[block.picture].permute(1, 2, 0)[max(0, above) : above + rows]
    inner = window[max(0, -above) :][: len(pixels)]
    inner[:, margin : margin + width].copy_(pixels)
    inner[:, margin + width :].zero_()
    window[max(0, -above) + len(pixels) :].zero_()
    if margin and reflect:
        inner[:, 0].copy_(pixels[:, 1])
        inner[:, 1 + width].copy_(pixels[:, -2])
    elif margin:
        inner[:, 0].zero_()
    if above < 0:
        window[0].copy_(window[2]) if reflect else window[0].zero_()
    if reflect and margin and height - above < rows:
        window[height - above].copy_(window[height - above - 2])
    return window


def _tiles(pixels: Tensor, block: _Block, size: int) -> Tensor:
    """Those of (H', W', C), `OUT` apart, as a view: (size, size, rows, columns, C)."""
    row, column, _ = pixels.stride()
    shape = (size, size, block.rows, block.columns, pixels.shape[2])
    return pixels.as_strided(shape, (row, column, OUT * row, OUT * column, 1), pixels.storage_offset())


def _own(pixels: Tensor, block: _Block) -> Tensor:
    """Those of (N, H', W', C) from a block's first on."""
    return pixels[block.picture, OUT * block.first :]


def _at_points(
    x: Tensor, block: _Block, matrix: Tensor, scratch: Tensor, out: Tensor, *, reflect: bool = False
) -> Tensor:
    """A block's tiles of (N, C, H, W) at all points: (36, tiles, C), in `out`."""
    points, pixels = matrix.shape
    size = OUT if pixels == OUT * OUT else TILE
    window = _window(x, block, (size - OUT) // 2, reflect, out)
    taken = scratch[: pixels * block.tiles * x.shape[1]].view(pixels, -1)
    taken.view(size, size, block.rows, block.columns, -1).copy_(_tiles(window, block, size))
    found = out[: points * block.tiles * x.shape[1]].view(points, -1)
    return torch.mm(matrix, taken, out=found).view(points, block.tiles, -1)


def _scattered(products: Tensor, block: _Block, matrix: Tensor, out: Tensor) -> Tensor:
    """Products (36, tiles, C) as tiles of pixels: (size, size, rows, columns, C), in `out`."""
    channels, pixels = products.shape[2], len(matrix)
    size = OUT if pixels == OUT * OUT else TILE
    by_row = products.view(-1, block.rows, block.columns * channels).transpose(0, 1)
    target = out[: pixels * block.tiles * channels].view(block.rows, pixels, -1)
    torch.bmm(matrix.expand(block.rows, *matrix.shape), by_row, out=target)
    return target.view(block.rows, size, size, block.columns, channels).permute(1, 2, 0, 3, 4)


def _multiplied(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """36 matrix products, in `out`."""
    shape = (len(a), a.shape[1], b.shape[2])
    return torch.bmm(a, b, out=out[: shape[0] * shape[1] * shape[2]].view(shape))


def _like(whole: Tensor, x: Tensor) -> Tensor:
    """(N, C, H', W') with the size and the memory format of x; never a view, so that it may be changed in place."""
    memory_format = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    if whole.shape[2:] == x.shape[2:]:
        return whole.contiguous(memory_format=memory_format)
    return whole[:, :, : x.shape[2], : x.shape[3]].clone(memory_format=memory_format)


def _forward(x: Tensor, filters: Tensor, bias: Tensor | None, reflect: bool) -> Tensor:
    known = transforms(x.dtype)
    inputs, outputs = filters.shape[1:]
    blocks = list(_blocks(x, max(outputs, inputs)))
    shape = (len(x), outputs, *_whole_tiles(x))
    out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    pixels = out.permute(0, 2, 3, 1)
    first, second = _buffers(x, 2, blocks, max(outputs, inputs))
    for block in blocks:
        points = _at_points(x, block, known.pixels, first, second, reflect=reflect)
        products = _multiplied(points, filters, first)
        _tiles(_own(pixels, block), block, OUT).copy_(_scattered(products, block, known.results, second))
    result = _like(out, x)
    return result if bias is None else result.add_(bias[:, None, None])


class _Convolution(torch.autograd.Function):
    """`convolve`; keeps its input only, and takes that to the points again for the gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, reflect: bool) -> Tensor:
        ctx.save_for_backward(x if weight.requires_grad else x[:0], weight)
        ctx.reflect = reflect
        return _forward(x, transformed(weight), bias, reflect)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight = _gradients(x, weight, grads[0], ctx.reflect, ctx.needs_input_grad[:2])
        grad_bias = grads[0].sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None


def _gradients(
    x: Tensor, weight: Tensor, grad: Tensor, reflect: bool, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Those of x and of the weight, as needed; each step of `_forward` transposed, in the opposite order."""
    known = transforms(grad.dtype)
    outputs, inputs = weight.shape[:2]
    blocks = list(_blocks(grad, max(outputs, inputs)))
    first, second, third = _buffers(grad, 3, blocks, max(outputs, inputs))
    to_products, to_tiles = known.results.T.contiguous(), known.pixels.T.contiguous()
    if needed[0]:
        filters = transformed(weight).transpose(1, 2)  # (36, O, I)
        wide_grad = grad.new_zeros(len(grad), *(size + 2 for size in _whole_tiles(grad)), inputs)
    if needed[1]:
        filters_grad = weight.new_empty(len(known.pixels), outputs, inputs)
    for block in blocks:
        products = _at_points(grad, block, to_products, first, second)  # (36, tiles, O)
        if needed[1]:
            points = _at_points(x, block, known.pixels, first, third, reflect=reflect)
            filters_grad.baddbmm_(products.transpose(1, 2), points, beta=float(block is not blocks[0]))
        if needed[0]:
            points = _multiplied(products, filters, first)
            _add_tiles(_own(wide_grad, block), block, _scattered(points, block, to_tiles, third))
    grad_x = _inner(wide_grad, grad, reflect) if needed[0] else None
    return grad_x, _filters_back(filters_grad) if needed[1] else None


def _filters_back(grad: Tensor) -> Tensor:
    """`transformed`, transposed: (36, O, I) -> (O, I, 3, 3)."""
    flat = transforms(grad.dtype).filters.T @ grad.flatten(1)
    return flat.view(3, 3, *grad.shape[1:]).permute(2, 3, 0, 1)


def _add_tiles(pixels: Tensor, block: _Block, tiles: Tensor) -> None:
    """Adds tiles (6, 6, rows, columns, C), which overlap, to where they were taken from."""
    target = _tiles(pixels, block, TILE)
    parts = (slice(0, OUT), slice(OUT, TILE))
    for rows in parts:
        for columns in parts:
            target[rows, columns].add_(tiles[rows, columns])  # these don't overlap


def _inner(wide: Tensor, like: Tensor, reflect: bool) -> Tensor:
    """The gradient of padded pixels (N, H', W', C) as that of those inside: (N, C, H, W)."""
    height, width = like.shape[2:]
    if reflect:
        for dim, size in ((1, height), (2, width)):
            wide.select(dim, 2).add_(wide.select(dim, 0))
            wide.select(dim, size - 1).add_(wide.select(dim, size + 1))
    return _like(wide[:, 1:, 1:].permute(0, 3, 1, 2), like)

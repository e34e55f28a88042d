"""3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3), in tensor operations.

A polynomial product is its factors' values at some points, multiplied one by one, and interpolated. Transposed, that
gives 4x4 pixels of a convolution from a tile of 6x6 with 36 products instead of 144 (Winograd 1980; Lavin and Gray,
arXiv:1509.09308). Over all tiles and channels the products are 36 matrix products; what goes before and after them
are small matrices, along rows and along columns. The backward pass is each of them transposed, in the opposite order.

After nearest up-sampling by 2, a row of the kernel meets only two different pixels, as one of two kernels of two taps
by turns. Both are F(4x4, 2x2) of the same tile of 6x6: 100 products for 8x8 pixels instead of 576.

Tiles are taken some rows of them at a time, so that what lies between the products stays in the cache: two buffers a
thread, in training three, of `AT_ONCE` numbers, 7 or 14 MB, each (more only where one row of tiles is longer).
Pictures are taken one by one, so that a picture's result doesn't depend on those beside it.

Products are float32, also of bfloat16 maps and weights, which so lose nothing: with 256 channels that takes three
quarters of the time of direct convolutions where bfloat16 is multiplied twice as fast.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ugatit_cli.device import bf16_is_twice_as_fast, is_traced, last_cache

Border = Literal["reflect", "replicate", "zeros"]

# And infinity. The usual 0, 1, -1, 2, -2 have five times the error: 1e-5 of the result's maximum; direct: 3e-7.
POINTS: Final = (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
# Of two taps, and infinity: half the error of 0, 1, -1, 2.
POINTS_OF_TWO: Final = (0.4, -0.4, 1.2, -1.2)
STEP: Final = 4
"""Pixels from tile to tile."""
TILE: Final = 6
# Tiles times channels times points. More of them read the weights' transform less often: 8 % of the time where all
# that stays in the cache.
AT_ONCE = 3_400_000 if last_cache() >= 2**26 else 1_700_000
# Below these many the transforms take longer than the multiplications that they spare; those of weights, too, where
# each pass needs them anew.
FEWEST_CHANNELS = 128
FEWEST_CHANNELS_DOUBLING = 64
FEWEST_CHANNELS_BF16 = 256
MOST_PARTS = 32
FEWEST_TILES = 16
FEWEST_TILES_IN_TRAINING = 36


def pays(x: Tensor, weight: Tensor, *, training: bool, doubling: bool = False) -> bool:
    """Whether a 3x3 convolution of stride 1, or that after nearest up-sampling, is faster this way.

    As measured, where matrix products are MKL's: in float32 with AVX2 and with AVX-512; in bfloat16 with AVX512-BF16.
    """
    learning = training or torch.is_grad_enabled()
    tiles = (x.shape[2] // STEP) * (x.shape[3] // STEP)
    fewest = _fewest_channels(x.dtype, learning=learning, doubling=doubling)
    fit = min(weight.shape[:2]) >= fewest and tiles >= (FEWEST_TILES_IN_TRAINING if learning else FEWEST_TILES)
    here = x.device.type == "cpu" and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return fit and here and not (torch.compiler.is_compiling() or is_traced())


def _fewest_channels(dtype: torch.dtype, *, learning: bool, doubling: bool) -> float:
    if dtype == torch.float32:
        return FEWEST_CHANNELS_DOUBLING if doubling else FEWEST_CHANNELS
    bf16 = dtype == torch.bfloat16 and not (learning or doubling) and bf16_is_twice_as_fast()
    return FEWEST_CHANNELS_BF16 if bf16 else math.inf


class Transforms(NamedTuple):
    """Matrices of the transforms in one dimension: to P points and, of products, back.

    Attributes:
        pixels: (P, 6), of a tile's pixels.
        filters: (P, 3), of weights.
        results: (4, P), of products to a tile's results; (8, P) where these are up-sampled.
    """

    pixels: Tensor
    filters: Tensor
    results: Tensor


@functools.cache
def transforms(dtype: torch.dtype = torch.float32, *, doubling: bool = False) -> Transforms:
    """The matrices.

    Args:
        doubling: of a convolution after nearest up-sampling by 2.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        matrices = _doubling_matrices() if doubling else _matrices(POINTS, 3)
        return Transforms(*(one.to(dtype) for one in matrices))


def _matrices(points: tuple[float, ...], taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Those of `STEP` results of a filter; from the values of a polynomial's monomials at the points."""
    column = torch.tensor(points, dtype=torch.float64)[:, None]

    def values(degrees: int) -> Tensor:  # (points and infinity, degrees)
        leading = torch.eye(degrees, dtype=torch.float64)[-1:]
        return torch.cat([column ** torch.arange(degrees), leading])

    return torch.linalg.inv(values(len(points) + 1)).T.contiguous(), values(taps), values(STEP).T.contiguous()


def _doubling_matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Of even results, whose taps begin at a tile's first pixel, and of odd ones, which begin at its second."""
    pixels, filters, results = _matrices(POINTS_OF_TWO, 2)
    even, odd = torch.eye(2, dtype=torch.float64)[:, :, None]  # (2, 1)
    taps = torch.tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], dtype=torch.float64)
    return (
        torch.cat([F.pad(pixels, (0, 1)), F.pad(pixels, (1, 0))]),
        torch.cat([filters @ one for one in taps]),
        torch.cat([torch.kron(results, even), torch.kron(results, odd)], 1),
    )


class Filters:
    """A weight's transform, kept as long as the weight stays the same: what saves a tenth of the time in use.

    Copies and pickles of a layer are without.
    """

    def __init__(self) -> None:
        self._kept: tuple[Tensor, tuple[int, int], Tensor] | None = None

    def __reduce__(self) -> tuple[type[Filters], tuple[()]]:
        return type(self), ()

    def of(self, weight: Tensor, known: Transforms) -> Tensor:
        """(O, I, 3, 3) -> (P * P, I, O), as `transformed`, but dense."""
        if weight.is_inference():
            return transformed(weight, known)
        kept, state = self._kept, (weight._version, weight.data_ptr())
        if kept is None or kept[0] is not weight or kept[1] != state:
            self._kept = kept = (weight, state, transformed(weight.detach(), known).contiguous())
        return kept[2]

    def forget(self) -> None:
        """Frees the memory."""
        self._kept = None


def transformed(weight: Tensor, known: Transforms) -> Tensor:
    """(O, I, 3, 3) -> (P * P, I, O)."""
    flat = weight.to(known.filters.dtype).permute(2, 3, 0, 1).reshape(9, -1)
    return torch.mm(_both(known.filters), flat).view(-1, *weight.shape[:2]).transpose(1, 2)


def _both(matrix: Tensor) -> Tensor:
    """Of flattened tiles, what a matrix is of their rows and columns."""
    return torch.kron(matrix, matrix)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, border: Border, filters: Filters | None, doubling: bool = False
) -> Tensor:
    """Pads by one pixel and convolves.

    Args:
        x: (N, I, H, W) on the CPU.
        weight: (O, I, 3, 3) in the dtype of x.
        bias: (O,).
        border: what it is padded with.
        filters: keep the weight's transform there, if no gradients are computed.
        doubling: first double height and width, each pixel four times; the border is replicated before that.

    Returns:
        (N, O, H, W), or (N, O, 2H, 2W), in the memory format of x. Differentiable.
    """
    if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (x, weight, bias)):
        result: Tensor = _Convolution.apply(x, weight, bias, border, doubling)
        return result
    known = transforms(torch.promote_types(x.dtype, torch.float32), doubling=doubling)
    return _forward(
        x, transformed(weight, known) if filters is None else filters.of(weight, known), bias, border, known
    )


class _Buffer:
    """Flat memory and views of it, which are kept: making one takes as long as a small product.

    More than that: between two calls of PyTorch another thread may take Python's lock, and this one has to wait.
    """

    def __init__(self, flat: Tensor) -> None:
        self._flat = flat
        self._views: dict[tuple[int, ...], Tensor] = {}

    def first(self, *shape: int) -> Tensor:
        """The beginning of the memory in a shape."""
        if (known := self._views.get(shape)) is None:
            with torch.inference_mode(False):
                self._views[shape] = known = self._flat[: math.prod(shape)].view(shape)
        return known


class _Buffers(threading.local):
    """A thread's memory: handing it back and asking for it again would take a tenth of the time."""

    def __init__(self) -> None:
        self.flat = torch.empty(0)
        self._parts: dict[tuple[int, ...], tuple[_Buffer, ...]] = {}

    def take(self, dtype: torch.dtype, *sizes: int) -> tuple[_Buffer, ...]:
        """Buffers of these sizes, until the next call."""
        wanted = sum(sizes)
        with torch.inference_mode(False):
            if self.flat.dtype != dtype or len(self.flat) < wanted:
                self._parts.clear()
                self.flat = torch.empty(wanted, dtype=dtype)
            if sizes not in self._parts:
                if len(self._parts) >= MOST_PARTS:  # of pictures of many sizes
                    self._parts.clear()
                parts = torch.split(self.flat[:wanted], list(sizes))
                self._parts[sizes] = tuple(_Buffer(part) for part in parts)
        return self._parts[sizes]


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


def _blocks(x: Tensor, channels: int, pictures: int, known: Transforms) -> Iterator[_Block]:
    """Of all tiles of so many pictures like those of (N, C, H, W)."""
    rows, columns = (-(-size // STEP) for size in x.shape[2:])
    count = -(-rows // max(1, AT_ONCE // (channels * columns * len(known.pixels) ** 2)))
    bounds = [rows * i // count for i in range(count + 1)]
    for picture in range(pictures):
        for first, end in pairwise(bounds):
            yield _Block(picture, first, end - first, columns)


def _buffers(count: int, blocks: list[_Block], channels: int, known: Transforms) -> tuple[_Buffer, ...]:
    """Some for the largest block at all points."""
    size = len(known.pixels) ** 2 * channels * max((block.tiles for block in blocks), default=0)
    return _BUFFERS.take(known.pixels.dtype, *[size] * count)


def _whole_tiles(x: Tensor) -> tuple[int, int]:
    """Height and width of all tiles."""
    height, width = (size + -size % STEP for size in x.shape[2:])
    return height, width


def _pixels(x: Tensor, step: int, border: Border | None, dtype: torch.dtype) -> Tensor:
    """(N, C, H, W) of whole tiles, with a border of one pixel if there is one: (N, H', W', C), dense."""
    below, right = (-size % step for size in x.shape[2:])
    if border is not None and border != "zeros":
        x, border = F.pad(x, (1, 1, 1, 1), mode=border), None
    margin = int(border is not None)
    if margin or right or below:
        x = F.pad(x, (margin, margin + right, margin, margin + below))
    return x.to(dtype).permute(0, 2, 3, 1).contiguous()


def _tiles(pixels: Tensor, block: _Block, step: int, size: int) -> Tensor:
    """A block's of (N, H', W', C), `step` apart, as a view: (size, size, rows, columns, C)."""
    picture, row, column, _ = pixels.stride()
    shape = (size, size, block.rows, block.columns, pixels.shape[3])
    first = pixels.storage_offset() + block.picture * picture + step * block.first * row
    return pixels.as_strided(shape, (row, column, step * row, step * column, 1), first)


@functools.lru_cache(64)
def _repeated(matrix: Tensor, times: int) -> Tensor:
    """The same matrix so many times, as a view."""
    with torch.inference_mode(False):
        return matrix.expand(times, -1, -1)


def _at_points(pixels: Tensor, block: _Block, matrix: Tensor, step: int, scratch: _Buffer, out: _Buffer) -> Tensor:
    """A block's tiles of pictures (N, H', W', C) at all points: (P * P, tiles, C), in `out`.

    Args:
        matrix: (P, size), for a tile's rows and its columns.
        step: from tile to tile; where it is less than the size, they overlap.
    """
    points, size = matrix.shape
    height, width, channels = pixels.shape[1:]
    row = width * channels
    first = pixels.storage_offset() + (block.picture * height + block.first * step) * row
    bands = pixels.as_strided((block.rows, size, row), (step * row, row, 1), first)
    by_row = torch.bmm(_repeated(matrix, block.rows), bands, out=out.first(block.rows, points, row))
    taken = scratch.first(points, size, block.rows, block.columns, channels)
    strides = (row, channels, points * row, step * channels, 1)
    taken.copy_(by_row.as_strided(taken.shape, strides, by_row.storage_offset()))
    found = out.first(points, points, block.tiles * channels)
    torch.bmm(_repeated(matrix, points), scratch.first(points, size, found.shape[2]), out=found)
    return out.first(points * points, block.tiles, channels)


def _scattered(products: _Buffer, block: _Block, channels: int, matrix: Tensor, scratch: _Buffer) -> Tensor:
    """Products (P * P, tiles, C) as tiles of pixels: (size, size, rows, columns, C), where the products were."""
    size, points = matrix.shape
    count = block.tiles * channels
    by_column = scratch.first(points, size, count)
    torch.bmm(_repeated(matrix, points), products.first(points, points, count), out=by_column)
    torch.mm(matrix, scratch.first(points, size * count), out=products.first(size, size * count))
    return products.first(size, size, block.rows, block.columns, channels)


def _multiplied(a: Tensor, b: Tensor, out: _Buffer) -> Tensor:
    """A matrix product for each point, in `out`."""
    return torch.bmm(a, b, out=out.first(len(a), a.shape[1], b.shape[2]))


def _cropped(whole: Tensor, height: int, width: int, like: Tensor) -> Tensor:
    """(N, C, H', W') to a size, in the memory format of `like`; never a view, so that it may be changed in place."""
    memory_format = torch.contiguous_format if like.is_contiguous() else torch.channels_last
    if whole.shape[2:] == (height, width):
        return whole.contiguous(memory_format=memory_format)
    return whole[:, :, :height, :width].clone(memory_format=memory_format)


def _forward(x: Tensor, filters: Tensor, bias: Tensor | None, border: Border, known: Transforms) -> Tensor:
    inputs, outputs = filters.shape[1:]
    blocks = list(_blocks(x, max(outputs, inputs), len(x), known))
    size = len(known.results)  # of a tile's results
    shape = (len(x), outputs, *(size // STEP * side for side in _whole_tiles(x)))
    out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    pixels, results = _pixels(x, STEP, border, known.pixels.dtype), out.permute(0, 2, 3, 1)
    first, second = _buffers(2, blocks, max(outputs, inputs), known)
    for block in blocks:
        points = _at_points(pixels, block, known.pixels, STEP, first, second)
        _multiplied(points, filters, first)
        tiles = _scattered(first, block, outputs, known.results, second)
        _tiles(results, block, size, size).copy_(tiles)
    height, width = (size // STEP * side for side in x.shape[2:])
    result = _cropped(out, height, width, x)
    return result if bias is None else result.add_(bias[:, None, None])


class _Convolution(torch.autograd.Function):
    """`convolve`; keeps its input only, and takes that to the points again for the gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, border: Border, doubling: bool) -> Tensor:
        ctx.save_for_backward(x if weight.requires_grad else x[:0], weight)
        ctx.border, ctx.doubling = border, doubling
        known = transforms(x.dtype, doubling=doubling)
        return _forward(x, transformed(weight, known), bias, border, known)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        known = transforms(grads[0].dtype, doubling=ctx.doubling)
        grad_x, grad_weight = _gradients(x, weight, grads[0], ctx.border, known, ctx.needs_input_grad[:2])
        grad_bias = grads[0].sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None, None


def _gradients(
    x: Tensor, weight: Tensor, grad: Tensor, border: Border, known: Transforms, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Those of x and of the weight, as needed; each step of `_forward` transposed, in the opposite order.

    Where that of the weight isn't needed, x has no pictures, only a size.
    """
    outputs, inputs = weight.shape[:2]
    blocks = list(_blocks(x, max(outputs, inputs), len(grad), known))
    first, second, third = _buffers(3, blocks, max(outputs, inputs), known)
    to_products, to_tiles = known.results.T.contiguous(), known.pixels.T.contiguous()
    size, dtype = len(known.results), known.pixels.dtype
    grads = _pixels(grad, size, None, dtype)
    if needed[0]:
        filters = transformed(weight, known).transpose(1, 2)  # (P * P, O, I)
        wide_grad = grad.new_zeros(len(grad), *(side + 2 for side in _whole_tiles(x)), inputs)
    if needed[1]:
        filters_grad = weight.new_empty(len(known.pixels) ** 2, outputs, inputs)
        pixels = _pixels(x, STEP, border, dtype)
    for block in blocks:
        products = _at_points(grads, block, to_products, size, first, second)  # (P * P, tiles, O)
        if needed[1]:
            points = _at_points(pixels, block, known.pixels, STEP, first, third)
            filters_grad.baddbmm_(products.transpose(1, 2), points, beta=float(block is not blocks[0]))
        if needed[0]:
            _multiplied(products, filters, first)
            _add_tiles(wide_grad, block, _scattered(first, block, inputs, to_tiles, third))
    grad_x = _inner(wide_grad, x, grad, border) if needed[0] else None
    return grad_x, _filters_back(filters_grad, known) if needed[1] else None


def _filters_back(grad: Tensor, known: Transforms) -> Tensor:
    """`transformed`, transposed: (P * P, O, I) -> (O, I, 3, 3)."""
    flat = _both(known.filters).T @ grad.flatten(1)
    return flat.view(3, 3, *grad.shape[1:]).permute(2, 3, 0, 1)


def _add_tiles(pixels: Tensor, block: _Block, tiles: Tensor) -> None:
    """Adds tiles (6, 6, rows, columns, C), which overlap, to where they were taken from."""
    target = _tiles(pixels, block, STEP, TILE)
    parts = (slice(0, STEP), slice(STEP, TILE))
    for rows in parts:
        for columns in parts:
            target[rows, columns].add_(tiles[rows, columns])  # these don't overlap


def _inner(wide: Tensor, x: Tensor, grad: Tensor, border: Border) -> Tensor:
    """The gradient of padded pixels (N, H', W', C) as that of x, in the memory format of `grad`."""
    height, width = x.shape[2:]
    if border != "zeros":
        inside = 1 + int(border == "reflect")
        for dim, size in ((1, height), (2, width)):
            wide.select(dim, inside).add_(wide.select(dim, 0))
            wide.select(dim, size + 1 - inside).add_(wide.select(dim, size + 1))
    return _cropped(wide[:, 1:, 1:].permute(0, 3, 1, 2), height, width, grad)

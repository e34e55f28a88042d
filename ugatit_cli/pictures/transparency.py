"""What is opaque in a translation: what was in its source, and what the network has painted between lines.

A drawing on transparent ground has nothing but its lines; as a translation is filled in, its areas must show.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

OPEN: Final = 128
"""Pixels of less opacity are ground."""
PAINTED: Final = 24
"""Difference to the ground, of 255 in any channel, from which on a pixel isn't ground any more."""
CERTAIN: Final = 128
"""Difference from which on nothing of the ground is left in a pixel."""
MOST_RUNS: Final = 200_000
"""Of noise, say, which encloses nothing that anybody would miss."""

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]


def with_painted(alpha: Image.Image, translated: Image.Image, ground: tuple[int, int, int]) -> Image.Image:
    """A source's alpha, opaque where lines enclose transparent ground and most of that was painted over.

    Of such lines, as transparent as the ground what wasn't painted and lies at the outside: they got thinner.

    Args:
        alpha: of the source, mode L, as large as `translated`; it isn't changed.
        translated: RGB.
        ground: what was behind transparent pixels while translating.
    """
    opacity = np.asarray(alpha)
    if opacity.min() >= OPEN:
        return alpha
    areas = areas_of(opacity < OPEN)
    outside = at_edges(areas)
    enclosed = (areas > 0) & ~outside
    if not enclosed.any():
        return alpha
    differences = _differences(translated, ground)
    painted, sizes = (
        np.bincount(areas[mask], minlength=areas.max() + 1) for mask in (enclosed & (differences > PAINTED), enclosed)
    )
    chosen = enclosed & (2 * painted > sizes)[areas]
    if not chosen.any():
        return alpha
    # And the soft inner edge of the lines around it, but nothing beyond them.
    grown = np.asarray(Image.fromarray(chosen.astype(np.uint8)).filter(ImageFilter.MaxFilter(5)))
    filled = grown.astype(bool) & (chosen | (areas == 0))
    del areas  # as large as four pictures, and the next ones take as much
    found = np.where(filled, np.uint8(255), opacity)
    bare = at_edges(areas_of(outside | (~chosen & (differences < CERTAIN))))
    # Of what is certain, only the soft outer edge is in it, which is no more opaque than this.
    found[bare] = np.minimum(opacity[bare], np.minimum(differences[bare], CERTAIN - 1) * np.uint8(256 // CERTAIN))
    return Image.fromarray(found)


def at_edges(areas: NDArray[np.int32]) -> Mask:
    """Where those areas are that reach an edge of the picture."""
    inside = np.ones(areas.max() + 1, bool)  # by numbers of areas
    for edge in (areas[0], areas[-1], areas[:, 0], areas[:, -1]):
        inside[edge] = False
    inside[0] = True
    outside: Mask = ~inside[areas]
    return outside


def _differences(translated: Image.Image, ground: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Of each pixel to the ground, in the channel where it is the largest."""
    empty = Image.new("RGB", translated.size, ground)
    red, green, blue = ImageChops.difference(translated, empty).split()
    return np.asarray(ImageChops.lighter(ImageChops.lighter(red, green), blue))


def areas_of(mask: Mask) -> NDArray[np.int32]:
    """A number from 1 on for each area of a mask whose pixels touch at their sides; 0 elsewhere."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    numbers = np.zeros(mask.shape, np.int32)
    if 0 < len(starts) <= MOST_RUNS:
        parents = list(range(len(starts)))
        for above, below in _touching(rows, starts, ends):
            parents[_root(parents, below)] = _root(parents, above)
        roots = [_root(parents, run) + 1 for run in range(len(parents))]
        numbers[mask] = np.repeat(np.array(roots, np.int32), ends - starts)
    return numbers


def _touching(rows: Places, starts: Places, ends: Places) -> Iterator[tuple[int, int]]:
    """Runs of pixels in a row, in order, that touch runs of the row below."""
    bounds = np.searchsorted(rows, np.arange(rows[-1] + 2)).tolist()
    left, right = starts.tolist(), ends.tolist()
    for (above, below), last in zip(itertools.pairwise(bounds), bounds[2:], strict=False):
        first, second = above, below
        while first < below and second < last:
            if left[first] < right[second] and left[second] < right[first]:
                yield first, second
            if right[first] < right[second]:
                first += 1
            else:
                second += 1


def _root(parents: list[int], run: int) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run

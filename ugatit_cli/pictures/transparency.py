"""What is opaque in a translation: what was in its source, and what the network has painted between lines.

A drawing on transparent ground has nothing but its lines; as a translation is filled in, its areas must show. And
where what was opaque has become smaller, the ground that was behind it while translating must not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

OPEN: Final = 128
"""Pixels of less opacity are ground."""
PAINTED: Final = 24
"""Difference to the ground, of 255 in any channel, from which on a pixel isn't ground any more."""
WHOLE: Final = 255 * 3 / 2
"""Opacity of what differs from the ground as much as things nearby do: two thirds of that are enough to be opaque."""
FAINT: Final = 16
"""Opacity of which nothing is left."""
RINGING: Final = 2
"""Pixels near an edge that may be lighter than the thing, from when it was made smaller."""
STEEP: Final = 3 / 4
"""Of the opacity of what lies nearby: an edge loses that within a few pixels, and what fades out doesn't."""
LARGEST: Final = 700
"""Pixels along the longer side for which edges are looked at one by one, or up to twice as many."""
MOST_RUNS: Final = 200_000
"""Of noise, say, which encloses nothing that anybody would miss."""

Mask = NDArray[np.bool_]
Levels = NDArray[np.uint8]
_Level = TypeVar("_Level", np.uint8, np.bool_)
Places = NDArray[np.int64]


def with_painted(
    alpha: Image.Image,
    translated: Image.Image,
    before: Image.Image | None,
    ground: tuple[int, int, int],
    enlarged: float = 1.0,
) -> Image.Image:
    """A source's alpha, opaque where lines enclose transparent ground and most of that was painted over.

    And transparent where a translation shows the ground along what was something: lines and things got thinner. What
    fades out stays as it was.

    Args:
        alpha: of the source, mode L, as large as `translated`; it isn't changed.
        translated: RGB.
        before: the source, RGB; None: nothing is known to have got thinner.
        ground: what was behind transparent pixels while translating.
        enlarged: how many pixels each of the source has become, along a side; edges are as much wider.
    """
    opacity = np.asarray(alpha)
    if opacity.min() >= OPEN:
        return alpha
    found = Image.fromarray(np.where(_filled(opacity, _differences(translated, ground)), np.uint8(255), opacity))
    if before is None:
        return found
    # No network paints edges that need more pixels than that.
    by = max(1, max(found.size) // LARGEST)
    clear, known = np.asarray(found.reduce(by)) < OPEN, np.asarray(alpha.reduce(by))
    left = _left(clear, known, *(_differences(one.reduce(by), ground) for one in (translated, before)))
    left[~_near(_edges(known, math.ceil(enlarged / by)), _along(clear))] = 255
    return ImageChops.darker(found, Image.fromarray(left).resize(found.size, Image.Resampling.BILINEAR))


def _filled(opacity: Levels, differences: Levels) -> Mask:
    """Enclosed areas of which most was painted over, and the soft inner edge of the lines around them."""
    areas = areas_of(opacity < OPEN)
    enclosed = (areas > 0) & ~at_edges(areas)
    painted, sizes = (
        np.bincount(areas[mask], minlength=areas.max() + 1) for mask in (enclosed & (differences > PAINTED), enclosed)
    )
    chosen = enclosed & (2 * painted > sizes)[areas]
    # Nothing beyond the lines.
    return _near(chosen, 2) & (chosen | (areas == 0)) if chosen.any() else chosen


def _left(clear: Mask, opacity: Levels, differences: Levels, before: Levels) -> Levels:
    """How opaque things still are beside what is clear, if the ground shows there and didn't in the source.

    As much as they differ from it, of how much things nearby do. Farther in, one may have become as white as the
    ground is.
    """
    along = _along(clear)
    was = (before.astype(np.uint16) * opacity // 255).astype(np.uint8)
    edge = _near(clear, along) & (_near(was, RINGING) >= PAINTED)
    most = np.where(edge, _near(differences, along), np.uint8(255))
    bare = edge & (most >= PAINTED) & (differences <= most // 2) & (differences <= was // 2)
    areas = areas_of(clear | bare)
    reached = np.zeros(areas.max() + 1, bool)  # by their numbers
    reached[areas[clear]] = True
    reached[0] = False
    fading = edge & _near(bare & reached[areas], along // 2)
    left = np.full(clear.shape, 255, np.uint8)
    shown = differences[fading] * WHOLE / np.maximum(most[fading], 1)
    left[fading] = np.where(shown < FAINT, 0, shown.clip(0, 255))
    return left


def _edges(opacity: Levels, width: int) -> Mask:
    """Where what is opaque ends at once, and doesn't fade out."""
    along = _along(opacity)
    by, most = max(3, along // 3, 2 * width), _near(opacity, along)
    lost = _near(opacity, by).astype(np.int16) - (255 - _near(255 - opacity, by))
    edges: Mask = (most >= OPEN) & (lost >= STEEP * most)
    return edges


def _along(picture: NDArray[Any]) -> int:
    """How far from an edge things may have become smaller, in pixels."""
    return max(2, max(map(int, picture.shape)) // 40)


def _near(values: NDArray[_Level], by: int) -> NDArray[_Level]:
    """The largest value up to `by` pixels from each, along rows and columns."""
    for _ in range(2):
        values = np.pad(values, ((by, by), (0, 0)))
        seen = 1
        while seen <= 2 * by:  # what twice as many pixels have is the larger of two that are beside each other
            step = min(seen, 2 * by + 1 - seen)
            values, seen = np.maximum(values[:-step], values[step:]), seen + step
        values = values.T
    return values


def at_edges(areas: NDArray[np.int32]) -> Mask:
    """Where those areas are that reach an edge of the picture."""
    inside = np.ones(areas.max() + 1, bool)  # by numbers of areas
    for edge in (areas[0], areas[-1], areas[:, 0], areas[:, -1]):
        inside[edge] = False
    inside[0] = True
    outside: Mask = ~inside[areas]
    return outside


def _differences(translated: Image.Image, ground: tuple[int, int, int]) -> Levels:
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

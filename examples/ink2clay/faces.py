"""More faces than there are: the eyes of one over the mouth of another, drawn teeth, rays.

Of 763 training pictures some thirty are plain round faces, all of one size, in one place and one light. So halves of
them fit each other, and of all of them together a face without a mouth can be made, on which others can be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from pairs import Pair

ROUND: Final = (
    "1f602 1f604 1f606 1f60a 1f60c 1f610 1f616 1f617 1f61d 1f61e 1f622 1f623 1f626 1f627 1f629 1f62a 1f62c 1f62e "
    "1f634 1f635 1f641 1f644 1f910 1f911 1f912 1f928 263a"
)
"""Names of those that are yellow, and with nothing that leaves the circle below."""
LARGER: Final = 4
WHITE, MAGENTA, SUN = (252, 247, 252), (176, 8, 142), ((255, 176, 46), (255, 150, 60), (250, 195, 60))


class Faces:
    """The plain round faces among pairs, to be put together anew.

    Args:
        pairs: of training, all of one size.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._round = [pair for pair in pairs if pair.name in ROUND.split()]
        self._blank = _median(self._round)

    def draw(self, random: np.random.Generator) -> Pair:
        """A new face, some with teeth, some with rays."""
        above, below = (self._round[index] for index in random.integers(len(self._round), size=2))
        if random.random() < 0.5:
            below = with_teeth(self._blank, random)
        face = joined(above, below, random)
        return with_rays(face, random) if random.random() < 0.25 else face


def _median(faces: Sequence[Pair]) -> Pair:
    """What is under eyes and mouths: of each pixel's values, ordered by their green, one above the median."""
    clay = np.stack([np.array(pair.clay) for pair in faces])
    order = np.argsort(clay[..., 1:2], 0)[int(0.7 * len(faces))]
    ink = np.quantile([np.array(pair.ink) for pair in faces], 0.7, 0).astype(np.uint8)
    return replace(
        faces[0], ink=Image.fromarray(ink), clay=Image.fromarray(np.take_along_axis(clay, order[None], 0)[0])
    )


def joined(above: Pair, below: Pair, random: np.random.Generator) -> Pair:
    """The upper half of one face and the lower half of another."""
    middle = int(above.ink.height * random.uniform(0.49, 0.53))
    box = (0, middle, above.ink.width, above.ink.height)
    ink, clay = above.ink.copy(), above.clay.copy()
    ink.paste(below.ink.crop(box), box)
    clay.paste(below.clay.crop(box), box)
    return replace(above, ink=ink, clay=clay)


def with_teeth(face: Pair, random: np.random.Generator, *, strokes: tuple[int, int] = (2, 5)) -> Pair:
    """A face with white teeth between lines, which are from `strokes` wide."""
    width, height = face.ink.width * random.uniform(0.22, 0.44), face.ink.height * random.uniform(0.08, 0.2)
    left, top = (face.ink.width - width) / 2, face.ink.height * random.uniform(0.53, 0.58)
    box = tuple(int(LARGER * number) for number in (left, top, left + width, top + height))
    mask = _mouth(face.ink.size, box, random)
    stroke, lip = (LARGER * int(random.integers(low, high)) for low, high in (strokes, (0, 3)))
    inner = _mouth_lines(mask, box, stroke, random)
    ink, clay = (one.resize(mask.size, Image.Resampling.BICUBIC) for one in (face.ink, face.clay))
    ink.paste(0, mask=_grown(mask, stroke))
    ink.paste(255, mask=mask)
    ink.paste(0, mask=inner)
    clay.paste(MAGENTA, mask=_grown(mask, lip))
    clay.paste(WHITE, mask=mask)
    if random.random() < 0.3:
        clay.paste(MAGENTA, mask=inner.point(lambda level: level // 2))
    return replace(
        face,
        ink=ink.resize(face.ink.size, Image.Resampling.LANCZOS),
        clay=clay.resize(face.clay.size, Image.Resampling.LANCZOS),
    )


def _mouth(size: tuple[int, int], box: tuple[int, ...], random: np.random.Generator) -> Image.Image:
    mask = Image.new("L", (LARGER * size[0], LARGER * size[1]))
    draw, (left, top, right, bottom) = ImageDraw.Draw(mask), box
    if random.random() < 0.5:
        draw.rounded_rectangle(box, (bottom - top) * random.uniform(0.2, 0.5), fill=255)
    else:
        draw.chord((left, 2 * top - bottom, right, bottom), 0, 180, fill=255)
    return mask


def _mouth_lines(mask: Image.Image, box: tuple[int, ...], stroke: int, random: np.random.Generator) -> Image.Image:
    lines = Image.new("L", mask.size)
    draw, (left, top, right, bottom) = ImageDraw.Draw(lines), box
    for share in [[0.5], [0.4], [0.6], [0.33, 0.66]][random.integers(4)]:
        y = top + share * (bottom - top)
        draw.line((left, y, right, y), fill=255, width=max(stroke * 3 // 4, LARGER))
    for share in np.linspace(0, 1, int(random.choice([2, 2, 2, 4, 5, 6])))[1:-1]:
        x = left + share * (right - left)
        draw.line((x, top, x, bottom), fill=255, width=max(stroke // 2, LARGER))
    empty = Image.new("L", mask.size)
    empty.paste(lines, mask=mask)
    return empty


def _grown(mask: Image.Image, width: int) -> Image.Image:
    """A mask and a line along its edge."""
    grown = Image.new("L", mask.size)
    for angle in np.arange(0, 2 * np.pi, np.pi / 8):
        grown.paste(255, (round(width // 2 * np.cos(angle)), round(width // 2 * np.sin(angle))), mask)
    return grown


def with_rays(face: Pair, random: np.random.Generator) -> Pair:
    """A face, smaller, with rays around it: a sun."""
    scale, count = random.uniform(0.4, 0.65), int(random.integers(7, 14))
    size, middle = face.ink.size, np.array(face.ink.size) * LARGER / 2
    inner = 0.42 * scale + random.uniform(0.03, 0.08)
    outer = inner + random.uniform(0.05, 0.14)
    stroke, colour = int(random.integers(2, 7)), SUN[random.integers(len(SUN))]
    pictures = []
    for one, white, black in ((face.ink, 255, 0), (face.clay, (255, 255, 255), colour)):
        large = Image.new(one.mode, (LARGER * size[0], LARGER * size[1]), white)
        inside = one.resize((int(LARGER * size[0] * scale), int(LARGER * size[1] * scale)), Image.Resampling.LANCZOS)
        left, top = (middle - np.array(inside.size) / 2).astype(int).tolist()
        large.paste(inside, (left, top))
        draw = ImageDraw.Draw(large)
        for angle in 2 * np.pi * np.arange(count) / count:
            ends = [
                middle + LARGER * size[0] * far * np.array([np.cos(angle), np.sin(angle)]) for far in (inner, outer)
            ]
            draw.line((*ends[0], *ends[1]), fill=black, width=stroke * LARGER)
        pictures.append(large.resize(size, Image.Resampling.LANCZOS))
    return replace(face, ink=pictures[0], clay=pictures[1])

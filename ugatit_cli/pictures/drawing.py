"""Panels: pictures with titles side by side, and what the colours over them mean."""

from __future__ import annotations

import bisect
import functools
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ugatit_cli.pictures.geometry import Colour, Size, scaled_by

BACKGROUND: Final = (236, 237, 240)  # not white, or one would not see where a picture on white ends
PAPER: Final = (255, 255, 255)  # on which a line says so
OUTLINE: Final = (205, 207, 213)
HEADING: Final = (24, 26, 32)
TITLE: Final = (84, 88, 98)
ARROW: Final = "→"

_MISSING: Final = "\U0010fffe"  # never a character, so no font has it


class Lettering:
    """Single lines in Pillow's own font, which needs no file but has little beyond ASCII.

    Arrows are drawn; other letters stand without their marks (e for é), or else as a question mark. Letters have
    `size` pixels, a line has `height`.
    """

    def __init__(self, size: int, ink: Colour) -> None:
        self._font = ImageFont.load_default(size)
        self._size = size
        self._ink = ink
        self.height = round(size * 1.4)

    def width(self, text: str) -> int:
        """In pixels."""
        return math.ceil(sum(self._advance(part) for part in _parts(text)))

    def _advance(self, part: str) -> float:
        return float(self._size) if part == ARROW else self._font.getlength(part)

    def shortened(self, text: str, limit: int) -> str:
        """The text, or as much of its beginning as fits into `limit` pixels, and an ellipsis."""
        if self.width(text) <= limit:
            return text
        kept = bisect.bisect_right(range(len(text)), limit, key=lambda n: self.width(text[:n] + "…"))
        return text[: max(0, kept - 1)].rstrip() + "…"

    def both(self, first: str, second: str, limit: int) -> tuple[str, str]:
        """Two texts that share `limit` pixels; the longer one gives way first."""
        first = self.shortened(first, max(limit // 2, limit - self.width(second)))
        return first, self.shortened(second, limit - self.width(first))

    def pair(self, source: str, target: str, limit: int) -> str:
        """`source → target` in `limit` pixels; the longer name gives way first."""
        return f" {ARROW} ".join(self.both(source, target, limit - self.width(f" {ARROW} ")))

    def wrapped(self, text: str, limit: int) -> list[str]:
        """Lines of whole words, none wider than `limit` pixels: a word that is gets shortened."""
        lines: list[str] = []
        for word in text.split():
            if lines and self.width(f"{lines[-1]} {word}") <= limit:
                lines[-1] += f" {word}"
            else:
                lines.append(self.shortened(word, limit))
        return lines

    def draw(self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str) -> None:
        """Writes from the left upper corner of the line."""
        left, middle = float(corner[0]), corner[1] + self.height / 2
        for part in _parts(text):
            if part == ARROW:
                self._draw_arrow(pen, left, middle)
            else:
                pen.text((left, middle), part, fill=self._ink, font=self._font, anchor="lm")
            left += self._advance(part)

    def _draw_arrow(self, pen: ImageDraw.ImageDraw, left: float, middle: float) -> None:
        stroke = max(1, self._size // 10)
        start, tip, head = left + 0.1 * self._size, left + 0.9 * self._size, 0.25 * self._size
        pen.line(((start, middle), (tip, middle)), self._ink, stroke)
        pen.line(((tip - head, middle - head), (tip, middle), (tip - head, middle + head)), self._ink, stroke)


def plain(text: str, otherwise: str) -> str:
    """The text in letters that `Lettering` can draw, and no question mark in place of one, or else `otherwise`."""
    return otherwise if _drawable(text).count("?") > text.count("?") else _drawable(text)


def _parts(text: str) -> list[str]:
    return [part for part in re.split(f"({ARROW})", _drawable(text)) if part]


def _drawable(text: str) -> str:
    return "".join(one if _has_glyph(one) else _bare(one) for one in text)


def _bare(character: str) -> str:
    letters = [one for one in unicodedata.normalize("NFKD", character) if unicodedata.category(one) != "Mn"]
    return "".join(letters) if all(map(_has_glyph, letters)) else "?"


def _has_glyph(character: str) -> bool:
    return character == ARROW or (character.isprintable() and _ink(character) != _ink(_MISSING))


@functools.lru_cache(512)
def _ink(character: str) -> bytes:
    canvas = Image.new("L", (64, 64))
    ImageDraw.Draw(canvas).text((16, 48), character, 255, ImageFont.load_default(24), anchor="ls")
    return canvas.tobytes()


# --- Panels

HEATMAP_COLUMN: Final = 280  # room for a heading with a step
MAX_SHOWN: Final = 360  # five of them fit on a screen of 1920
MIN_SHOWN: Final = 160

MARGIN: Final = 16
GAP: Final = 12
PAPER_LETTERS: Final = 0.08  # of a column: 7 points where that is 3 cm wide
_NARROW: Final = 4  # between what belongs together
MIN_COLUMN: Final = 152  # room for a title of two or three words
_BESIDE: Final = 220  # a legend's text goes below its bar rather than into less than this
FRAME: Final = (227, 228, 232)
_LINE: Final = (190, 192, 199)
_KEPT_PIXELS: Final = 4_000_000  # of a sheet worth keeping: each one takes 16 MB then


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture of a panel.

    Attributes:
        title: may contain "→"; shortened to the column.
        picture: RGB; None: there is nothing to show, and `note` is written into an empty frame in its place.
        note: small, under the title; as many lines as it takes.
    """

    title: str
    picture: Image.Image | None
    note: str = ""


@dataclass(frozen=True)
class Legend:
    """What colours mean: RGB of each, low to high, as bytes of uint8 (n, 3); words for the ends; a sentence."""

    colours: bytes
    low: str
    high: str
    text: str


def _stacked(size: Size) -> bool:
    """Whether pictures of this size stand one below the other."""
    return size[0] > 2 * size[1]


def shown_size(size: Size) -> Size:
    """The size (width, height) at which a panel shows a picture if nobody asks for another one.

    The aspect is kept, the long side has at most 360 pixels, or 720 where the picture stands alone in its row; small
    pictures become a whole multiple, with a long side of 160 pixels or more.
    """
    longest = max(size)
    most = 2 * MAX_SHOWN if _stacked(size) else MAX_SHOWN
    return scaled_by(size, most / longest if longest > most else -(-MIN_SHOWN // longest))


def draw_panel(
    heading: str, cells: Sequence[Cell], legend: Legend | None, *, least: int = MIN_COLUMN, paper: bool = False
) -> Image.Image:
    """Draws one labelled panel; any number of threads may.

    Cells stand side by side, or one below the other where pictures are wider than twice their height. What is the
    same for a whole folder of pictures of one size is drawn only once. Neither the words of the heading nor a note
    of one line under a title change the panel's size: the frames of an animation differ in these.

    Args:
        heading: over all of it; of `source → target` the longer name is shortened first.
        cells: one or more; their pictures have one size (or else: ValueError), and are in it pixel by pixel.
        least: width of a column in pixels, even where pictures are narrower.
        paper: on white, with letters that can be read where columns are 3 cm wide.
    """
    sizes = {cell.picture.size for cell in cells if cell.picture is not None}
    if len(sizes) != 1:
        raise ValueError(f"the pictures of a panel have one size, not {sorted(sizes)}")
    size = sizes.pop()
    width = max(size[0], least)
    column = _Column(width, _letter_size(width), BACKGROUND)
    if paper:
        column = _Column(width, max(column.letters, round(width * PAPER_LETTERS)), PAPER)
    heading = _line(heading)
    labels = tuple(_Label(_line(cell.title), _line(cell.note), cell.picture is None) for cell in cells)
    draw = _kept_sheet if len(cells) * column.width * size[1] <= _KEPT_PIXELS else _draw_sheet
    sheet, corners = draw(size, column, bool(heading), labels, legend)
    panel = sheet.copy()
    letters, limit = _heading_letters(column), panel.width - 2 * MARGIN
    source, arrow, target = heading.partition(f" {ARROW} ")
    heading = letters.pair(source, target, limit) if arrow else letters.shortened(heading, limit)
    pen = ImageDraw.Draw(panel)
    letters.draw(pen, (MARGIN, MARGIN), heading)
    for cell, (left, top) in zip(cells, corners, strict=True):
        if cell.picture is not None:
            panel.paste(cell.picture, (left, top))
            if paper:
                pen.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=OUTLINE)
    return panel


def _line(text: str) -> str:
    return " ".join(text.split())


class _Column(NamedTuple):
    width: int
    letters: int
    background: Colour


def _heading_letters(column: _Column) -> Lettering:
    return Lettering(column.letters + max(3, column.letters // 6), HEADING)


def _small_letters(column: _Column) -> Lettering:
    return Lettering(max(13, column.letters - 2), TITLE)


def _letter_size(width: int) -> int:
    return min(19, 11 + width // 64)


# Everything but the heading's words and the pictures:


class _Label(NamedTuple):
    title: str
    note: str
    missing: bool


Corners = list[tuple[int, int]]


def _draw_sheet(
    size: Size, column: _Column, heading: bool, labels: tuple[_Label, ...], legend: Legend | None
) -> tuple[Image.Image, Corners]:
    """A panel without heading and pictures, and the left upper corner of each; never to be drawn into."""
    rows = [(label,) for label in labels] if _stacked(size) else [labels]
    inner = len(rows[0]) * (column.width + GAP) - GAP
    top = MARGIN + (_heading_letters(column).height + 2 * _NARROW if heading else 0)
    parts, corners = [], []
    for row in rows:
        part, places = _draw_row(row, size, column)
        parts.append((part, top))
        corners += [(left, top + below) for left, below in places]
        top += part.height + GAP
    bottom = top - GAP
    if legend is not None:
        parts.append(
            (
                _framed(draw_legend(legend, inner, column.letters, column.background), column.background),
                bottom + MARGIN,
            )
        )
        bottom += MARGIN + parts[-1][0].height
    sheet = Image.new("RGB", (inner + 2 * MARGIN, bottom + MARGIN), column.background)
    for part, top in parts:
        sheet.paste(part, (0, top))
    return sheet, corners


_kept_sheet = functools.lru_cache(16)(_draw_sheet)


def _draw_row(labels: tuple[_Label, ...], size: Size, column: _Column) -> tuple[Image.Image, Corners]:
    """Cells side by side; titles and notes stand on their pictures, whose upper edges are on one line."""
    letters, small = Lettering(column.letters, TITLE), _small_letters(column)
    notes = [small.wrapped(label.note, column.width - 2 * GAP * label.missing) for label in labels]
    above = [len(note) for note, label in zip(notes, labels, strict=True) if not label.missing]
    framed = [len(note) * small.height + 2 * GAP for note, label in zip(notes, labels, strict=True) if label.missing]
    words = any(label.title or (label.note and not label.missing) for label in labels)
    head = letters.height + max([1, *above]) * small.height + _NARROW if words else 0
    height = max([size[1], *framed])
    lefts = [MARGIN + index * (column.width + GAP) for index in range(len(labels))]
    row = Image.new("RGB", (lefts[-1] + column.width + MARGIN, head + height), column.background)
    pen = ImageDraw.Draw(row)
    for label, note, left in zip(labels, notes, lefts, strict=True):
        end = head - _NARROW  # of the words above
        if label.missing:
            pen.rectangle((left, head, left + column.width - 1, head + height - 1), FRAME, _LINE)
            _centred(pen, small, note, (left, head + (height - len(note) * small.height) // 2), column.width)
        else:
            end -= len(note) * small.height
            _centred(pen, small, note, (left, end), column.width)
        title = letters.shortened(label.title, column.width)
        _centred(pen, letters, [title], (left, end - letters.height), column.width)
    return row, [(left + (column.width - size[0]) // 2, head) for left in lefts]


def _centred(
    pen: ImageDraw.ImageDraw, letters: Lettering, lines: list[str], corner: tuple[int, int], width: int
) -> None:
    left, top = corner
    for number, line in enumerate(lines):
        indent = (width - letters.width(line)) // 2
        letters.draw(pen, (left + indent, top + number * letters.height), line)


def _framed(part: Image.Image, background: Colour) -> Image.Image:
    canvas = Image.new("RGB", (part.width + 2 * MARGIN, part.height), background)
    canvas.paste(part, (MARGIN, 0))
    return canvas


def draw_legend(legend: Legend, inner: int, letters: int, background: Colour = BACKGROUND) -> Image.Image:
    """A bar of colours with what its ends mean, and a text beside or below it, `inner` pixels wide."""
    small, thick = Lettering(max(13, letters - 2), TITLE), letters
    words = small.width(legend.low) + small.width(legend.high) + GAP
    width = min(inner, max(120, words, min(360, round(0.4 * inner))))
    height = thick + _NARROW + small.height
    # Letters stand in the middle of their line: raised a little, the first one is level with the bar.
    beside = inner - width - 2 * GAP >= _BESIDE
    left, top = (width + 2 * GAP, 0) if beside else (0, height + _NARROW)
    lines = small.wrapped(legend.text, inner - left)
    if lines:
        height = max(height, top + len(lines) * small.height)
    canvas = Image.new("RGB", (inner, height), background)
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((0, 0, width - 1, thick - 1), outline=_LINE)
    canvas.paste(_gradient(legend.colours, width - 2, thick - 2), (1, 1))
    low, high = small.both(legend.low, legend.high, width - GAP)
    small.draw(pen, (0, thick + _NARROW), low)
    small.draw(pen, (width - small.width(high), thick + _NARROW), high)
    for number, line in enumerate(lines):
        small.draw(pen, (left, top + number * small.height), line)
    return canvas


def _gradient(colours: bytes, width: int, height: int) -> Image.Image:
    """Each colour has an equal share of the width; `colours` are bytes of (n, 3)."""
    table = np.frombuffer(colours, np.uint8).reshape(-1, 3)
    line = table[np.arange(width) * len(table) // width]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(line, (height, width, 3))))

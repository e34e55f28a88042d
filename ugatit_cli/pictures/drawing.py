"""Panels: pictures with titles side by side, and what the colours over them mean."""

from __future__ import annotations

import bisect
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ugatit_cli.pictures.geometry import Size

Colour = tuple[int, int, int]

BACKGROUND: Final = (236, 237, 240)  # not white, or one would not see where a picture on white ends
HEADING: Final = (24, 26, 32)
TITLE: Final = (84, 88, 98)
ARROW: Final = "→"

_MISSING: Final = "\U0010fffe"  # never a character, so no font has it


class Lettering:
    """Single lines in Pillow's own font, which needs no file but has no arrow: that one is drawn.

    Args:
        size: of the letters, in pixels.
        ink: their colour.

    Attributes:
        height: of a line, in pixels.
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


def drawable(text: str) -> bool:
    """Whether `Lettering` can draw every character, and not a box in place of one."""
    return all(map(_has_glyph, text))


def plain(text: str, otherwise: str) -> str:
    """The text if it is drawable, or else `otherwise`."""
    return text if drawable(text) else otherwise


def _parts(text: str) -> list[str]:
    return [part for part in re.split(f"({ARROW})", text) if part]


@functools.lru_cache(4096)
def _has_glyph(character: str) -> bool:
    return character == ARROW or (character.isprintable() and _ink(character) != _box())


@functools.cache
def _box() -> bytes:
    """What the font has in place of characters that it lacks."""
    return _ink(_MISSING)


def _ink(character: str) -> bytes:
    canvas = Image.new("L", (64, 64))
    ImageDraw.Draw(canvas).text((16, 48), character, 255, ImageFont.load_default(24), anchor="ls")
    return canvas.tobytes()


MAX_SHOWN: Final = 360  # five of them fit on a screen of 1920
MIN_SHOWN: Final = 160

_MARGIN: Final = 16
_GAP: Final = 12
_NARROW: Final = 4  # between what belongs together
_MIN_COLUMN: Final = 152  # room for a title of two or three words
_HEATMAP_COLUMN: Final = 280  # room for a heading with a step
_BESIDE: Final = 220  # a legend's text goes below its bar rather than into less than this
_FRAME: Final = (227, 228, 232)
_LINE: Final = (190, 192, 199)
_KEPT_PIXELS: Final = 4_000_000  # of a sheet worth keeping: each one takes 16 MB then


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture of a panel.

    Attributes:
        title: may contain "→"; shortened to the column.
        picture: RGB; None: there is nothing to show, and `note` is written into an empty frame in its place.
        note: small, under the title, such as "flat: the same everywhere"; as many lines as it takes.
    """

    title: str
    picture: Image.Image | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Legend:
    """What colours mean.

    Attributes:
        colours: uint8 (n, 3), low to high.
        low, high: written under the ends of the bar.
        text: a sentence; may be empty.
    """

    colours: npt.NDArray[np.uint8]
    low: str
    high: str
    text: str


def _stacked(size: Size) -> bool:
    """Whether pictures of this size stand one below the other."""
    return size[0] > 2 * size[1]


def shown_size(size: Size) -> Size:
    """The size (width, height) at which a panel shows a picture if nobody asks for another one.

    Returns:
        Its aspect kept, its long side at most 360 pixels, or 720 where it stands alone in its row; of small pictures
        a whole multiple, with a long side of 160 pixels or more.
    """
    longest = max(size)
    most = 2 * MAX_SHOWN if _stacked(size) else MAX_SHOWN
    factor = most / longest if longest > most else -(-MIN_SHOWN // longest)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def draw_panel(
    heading: str, cells: Sequence[Cell], legend: Legend | None, *, least: int = _MIN_COLUMN
) -> Image.Image:
    """Draws one labelled panel; any number of threads may.

    Cells stand side by side, or one below the other where pictures are wider than twice their height. What is the
    same for a whole folder of pictures of one size is drawn only once. Neither the words of the heading nor a note
    of one line under a title change the panel's size: the frames of an animation differ in these.

    Args:
        heading: over all of it; of `source → target` the longer name is shortened first.
        cells: one or more, their pictures of one size.
        least: width of a column in pixels, even where pictures are narrower.

    Returns:
        An RGB picture; `cells`' pictures are in it pixel by pixel.

    Raises:
        ValueError: pictures of several sizes, or none at all.
    """
    sizes = {cell.picture.size for cell in cells if cell.picture is not None}
    if len(sizes) != 1:
        raise ValueError(f"the pictures of a panel have one size, not {sorted(sizes)}")
    heading = _line(heading)
    labels = tuple(_Label(_line(cell.title), _line(cell.note), cell.picture is None) for cell in cells)
    scale = None if legend is None else _Scale.of(legend)
    design = _Design(sizes.pop(), bool(heading), labels, scale, least)
    keep = len(cells) * design.column * design.size[1] <= _KEPT_PIXELS
    canvas, corners = (_kept_sheet if keep else _draw_sheet)(design)
    panel = canvas.copy()
    if heading:
        _write_heading(panel, heading, design.letter_size)
    for cell, corner in zip(cells, corners, strict=True):
        if cell.picture is not None:
            panel.paste(cell.picture, corner)
    return panel


def draw_heatmap(heading: str, cell: Cell, legend: Legend) -> Image.Image:
    """Draws a map of colours alone, with its title and what the colours mean; wide enough for words.

    Args:
        cell: its picture, RGB of any size, is in the result pixel by pixel.

    Returns:
        An RGB picture.
    """
    return draw_panel(heading, [cell], legend, least=_HEATMAP_COLUMN)


def _line(text: str) -> str:
    return " ".join(text.split())


# --- Everything but the pictures


@dataclass(frozen=True)
class _Label:
    title: str
    note: str
    missing: bool


@dataclass(frozen=True)
class _Scale:
    """A legend that can be a key; `colours` are bytes of (n, 3)."""

    colours: bytes
    low: str
    high: str
    text: str

    @classmethod
    def of(cls, legend: Legend) -> Self:
        return cls(legend.colours.tobytes(), _line(legend.low), _line(legend.high), _line(legend.text))


@dataclass(frozen=True)
class _Design:
    """What makes two sheets equal."""

    size: Size
    heading: bool
    labels: tuple[_Label, ...]
    scale: _Scale | None
    least: int

    @property
    def column(self) -> int:
        return max(self.size[0], self.least)

    @property
    def rows(self) -> list[tuple[_Label, ...]]:
        if _stacked(self.size):
            return [(label,) for label in self.labels]
        return [self.labels]

    @property
    def letter_size(self) -> int:
        """Of titles; headings are larger by 3, small print smaller by 2."""
        return min(19, 11 + self.column // 64)


Sheet = tuple[Image.Image, list[tuple[int, int]]]


def _draw_sheet(design: _Design) -> Sheet:
    """A panel without heading and pictures, and the left upper corner of each; never to be drawn into."""
    rows = [_Row(labels, design) for labels in design.rows]
    inner = len(design.rows[0]) * (design.column + _GAP) - _GAP
    bar = None if design.scale is None else _Bar(design.scale, inner, design.letter_size)
    start = _MARGIN + (_heading_letters(design.letter_size).height + 2 * _NARROW if design.heading else 0)
    end = start + sum(row.height + _GAP for row in rows) - _GAP  # of the pictures
    bottom = end if bar is None else end + _MARGIN + bar.height
    canvas = Image.new("RGB", (inner + 2 * _MARGIN, bottom + _MARGIN), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    top, corners = start, []
    for row in rows:
        corners += row.draw(pen, top)
        top += row.height + _GAP
    if bar is not None:
        bar.draw(canvas, pen, end + _MARGIN)
    return canvas, corners


_kept_sheet = functools.lru_cache(16)(_draw_sheet)


def _heading_letters(letter_size: int) -> Lettering:
    return Lettering(letter_size + 3, HEADING)


def _write_heading(panel: Image.Image, text: str, letter_size: int) -> None:
    letters, limit = _heading_letters(letter_size), panel.width - 2 * _MARGIN
    source, arrow, target = text.partition(f" {ARROW} ")
    text = letters.pair(source, target, limit) if arrow else letters.shortened(text, limit)
    letters.draw(ImageDraw.Draw(panel), (_MARGIN, _MARGIN), text)


class _Row:
    """Cells side by side; titles and notes stand on their pictures, whose upper edges are on one line."""

    def __init__(self, labels: Sequence[_Label], design: _Design) -> None:
        self._labels, self._column = labels, design.column
        self._width, picture_height = design.size
        self._title, self._small = Lettering(design.letter_size, TITLE), _small(design.letter_size)
        self._notes = [self._lines(label) for label in labels]
        lines = [len(note) for note in self._notes]
        above = [1, *(n for n, label in zip(lines, labels, strict=True) if not label.missing)]
        framed = [n for n, label in zip(lines, labels, strict=True) if label.missing]
        self._head = self._title.height + max(above) * self._small.height + _NARROW if _any_words(labels) else 0
        self._frame_height = max([picture_height, *(n * self._small.height + 2 * _GAP for n in framed)])
        self.height = self._head + self._frame_height

    def _lines(self, label: _Label) -> list[str]:
        return self._small.wrapped(label.note, self._column - (2 * _GAP if label.missing else 0))

    def draw(self, pen: ImageDraw.ImageDraw, top: int) -> list[tuple[int, int]]:
        """Words and frames; returns the left upper corner of each picture, centred in its column."""
        corners = []
        for index, (label, note) in enumerate(zip(self._labels, self._notes, strict=True)):
            left, below = _MARGIN + index * (self._column + _GAP), top + self._head
            corners.append((left + (self._column - self._width) // 2, below))
            end = below - _NARROW  # of the words above
            if label.missing:
                self._draw_frame(pen, note, (left, below))
            else:
                end -= len(note) * self._small.height
                self._centred(pen, self._small, note, (left, end))
            title = self._title.shortened(label.title, self._column)
            self._centred(pen, self._title, [title], (left, end - self._title.height))
        return corners

    def _draw_frame(self, pen: ImageDraw.ImageDraw, note: list[str], corner: tuple[int, int]) -> None:
        left, top = corner
        right, bottom = left + self._column - 1, top + self._frame_height - 1
        pen.rectangle((left, top, right, bottom), _FRAME, _LINE)
        space = self._frame_height - len(note) * self._small.height
        self._centred(pen, self._small, note, (left, top + space // 2))

    def _centred(
        self, pen: ImageDraw.ImageDraw, letters: Lettering, lines: list[str], corner: tuple[int, int]
    ) -> None:
        left, top = corner
        for number, line in enumerate(lines):
            indent = (self._column - letters.width(line)) // 2
            letters.draw(pen, (left + indent, top + number * letters.height), line)


def _any_words(labels: Sequence[_Label]) -> bool:
    return any(label.title or (label.note and not label.missing) for label in labels)


class _Bar:
    """A bar of colours with what its ends mean, and a text beside or below it."""

    def __init__(self, scale: _Scale, inner: int, letter_size: int) -> None:
        self._small = _small(letter_size)
        words = self._small.width(scale.low) + self._small.width(scale.high) + _GAP
        self._width = min(inner, max(120, words, min(360, round(0.4 * inner))))
        self._thick = letter_size
        self._pixels = _gradient(scale.colours, self._width - 2, self._thick - 2)
        self._ends = self._small.both(scale.low, scale.high, self._width - _GAP)
        bar = self._thick + _NARROW + self._small.height
        room = inner - self._width - 2 * _GAP
        beside = room >= _BESIDE
        self._lines = self._small.wrapped(scale.text, room if beside else inner)
        # Letters stand in the middle of their line: raised a little, the first one is level with the bar.
        self._text = (self._width + 2 * _GAP, 0) if beside else (0, bar + _NARROW)
        lines = len(self._lines) * self._small.height
        self.height = max(bar, self._text[1] + lines) if lines else bar

    def draw(self, canvas: Image.Image, pen: ImageDraw.ImageDraw, top: int) -> None:
        """From the left upper corner, inside the margin."""
        pen.rectangle((_MARGIN, top, _MARGIN + self._width - 1, top + self._thick - 1), outline=_LINE)
        canvas.paste(self._pixels, (_MARGIN + 1, top + 1))
        low, high = self._ends
        below = top + self._thick + _NARROW
        self._small.draw(pen, (_MARGIN, below), low)
        self._small.draw(pen, (_MARGIN + self._width - self._small.width(high), below), high)
        for number, line in enumerate(self._lines):
            corner = _MARGIN + self._text[0], top + self._text[1] + number * self._small.height
            self._small.draw(pen, corner, line)


def _small(letter_size: int) -> Lettering:
    return Lettering(max(13, letter_size - 2), TITLE)


def _gradient(colours: bytes, width: int, height: int) -> Image.Image:
    """Each colour has an equal share of the width; `colours` are bytes of (n, 3)."""
    table = np.frombuffer(colours, np.uint8).reshape(-1, 3)
    line = table[np.arange(width) * len(table) // width]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(line, (height, width, 3))))

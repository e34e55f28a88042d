"""Words on sheets of pictures."""

from __future__ import annotations

import bisect
import functools
import math
import re
from typing import Final

from PIL import Image, ImageDraw, ImageFont

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

"""Pages with many rows of pictures, as large as a sheet of paper: drawn one after the other, and written as PDF."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

from ugatit_cli.files import open_file
from ugatit_cli.pictures.drawing import FRAME, HEADING, OUTLINE, PAPER, TITLE, Legend, Lettering, draw_legend
from ugatit_cli.pictures.geometry import Size, scaled_by
from ugatit_cli.pictures.metadata import Metadata

DPI: Final = 200
PAGE: Final = (1654, 2339)  # A4, upright
_EDGE: Final = 90
_GAP: Final = 14  # between pictures
_ASIDE: Final = 50  # between two pictures of a row with all that belongs to them
_WANTED: Final = 260  # pixels of a picture that one likes to look at
_LETTERS: Final = 22  # 8 points
_MAKER: Final = b"ugatit cam --layout sheet"
MARK: Final = Metadata(
    xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="%s"/>'
    b"</rdf:RDF></x:xmpmeta>" % _MAKER
)
"""What a page that is a picture says of itself; see `is_page`."""


@dataclass(frozen=True, eq=False)
class Strip:
    """One picture with what belongs to it, side by side.

    Attributes:
        name: written below.
        pictures: RGB, each within `side` pixels; None: there is none.
    """

    name: str
    pictures: Sequence[Image.Image | None]


def beside(count: int) -> int:
    """How many strips of `count` pictures stand side by side."""
    return max(1, round((PAGE[0] - 2 * _EDGE) / (count * _WANTED)))


def side(count: int) -> int:
    """The long side of pictures in strips of `count`, in pixels."""
    strips = beside(count)
    room = PAGE[0] - 2 * _EDGE - (strips - 1) * _ASIDE - strips * (count - 1) * _GAP
    return room // (strips * count)


def within(size: Size, count: int) -> Size:
    """The size at which strips of `count` show a picture."""
    return scaled_by(size, side(count) / max(size))


def draw_sheets(
    heading: str, titles: Sequence[str], strips: Iterable[Strip], legend: Legend | None
) -> Iterator[Image.Image]:
    """Draws pages of strips, all with the same heading, titles and legend; a single page ends where they end.

    Args:
        titles: over the pictures of each strip.
    """
    page, first = _Page(heading, titles, legend), True
    for row in _rows(strips, beside(len(titles))):
        if not page.fits(row):
            yield page.finished(number=page.number)
            page, first = _Page(heading, titles, legend, page.number + 1), False
        page.add(row)
    yield page.finished(number=0 if first else page.number)


def _rows(strips: Iterable[Strip], count: int) -> Iterator[list[Strip]]:
    row: list[Strip] = []
    for strip in strips:
        row.append(strip)
        if len(row) == count:
            yield row
            row = []
    if row:
        yield row


class _Page:
    """A page on its way."""

    def __init__(self, heading: str, titles: Sequence[str], legend: Legend | None, number: int = 1) -> None:
        self.number = number
        self._small = Lettering(_LETTERS, TITLE)
        self._count, self._side = len(titles), side(len(titles))
        self._image = Image.new("RGB", PAGE, PAPER)
        self._pen = ImageDraw.Draw(self._image)
        inner = PAGE[0] - 2 * _EDGE
        large = Lettering(_LETTERS * 3 // 2, HEADING)
        large.draw(self._pen, (_EDGE, _EDGE), large.shortened(heading, inner))
        self._top = _EDGE + large.height + _LETTERS
        for strip in range(beside(self._count)):
            for index, title in enumerate(titles):
                self._write(title, self._left(strip, index), self._side)
        self._top += self._small.height + _GAP // 2
        self._legend = legend and draw_legend(legend, inner, _LETTERS, PAPER)
        self._bottom = PAGE[1] - _EDGE - (self._legend.height + _ASIDE if self._legend else 0) - self._small.height
        self._empty = True

    def _left(self, strip: int, index: int) -> int:
        wide = self._count * (self._side + _GAP) - _GAP
        return _EDGE + strip * (wide + _ASIDE) + index * (self._side + _GAP)

    def _write(self, text: str, left: int, width: int) -> None:
        text = self._small.shortened(text, width)
        self._small.draw(self._pen, (left + (width - self._small.width(text)) // 2, self._top), text)

    def _height(self, row: Sequence[Strip]) -> int:
        return max([1, *(one.height for strip in row for one in strip.pictures if one is not None)])

    def fits(self, row: Sequence[Strip]) -> bool:
        """Whether there is room for one more row."""
        return self._empty or self._top + self._height(row) + self._small.height <= self._bottom

    def add(self, row: Sequence[Strip]) -> None:
        """Draws a row of strips, their names below."""
        height = self._height(row)
        for place, strip in enumerate(row):
            for index, picture in enumerate(strip.pictures):
                self._draw(picture, self._left(place, index), height)
        self._top += height + _GAP // 2
        for place, strip in enumerate(row):
            self._write(strip.name, self._left(place, 0), self._count * (self._side + _GAP) - _GAP)
        self._top += self._small.height + 2 * _GAP
        self._empty = False

    def _draw(self, picture: Image.Image | None, left: int, height: int) -> None:
        if picture is None:
            self._pen.rectangle((left, self._top, left + self._side - 1, self._top + height - 1), FRAME)
            return
        left, top = left + (self._side - picture.width) // 2, self._top + (height - picture.height) // 2
        self._image.paste(picture, (left, top))
        self._pen.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=OUTLINE)

    def finished(self, number: int) -> Image.Image:
        """The page with its legend and number; without a number, as high as it needs to be."""
        bottom = PAGE[1] - _EDGE if number else self._top + (self._legend.height + _GAP if self._legend else 0)
        if self._legend:
            self._image.paste(self._legend, (_EDGE, bottom - self._legend.height))
        if number:
            self._small.draw(self._pen, (PAGE[0] - _EDGE, PAGE[1] - _EDGE), str(number))
            return self._image
        return self._image.crop((0, 0, PAGE[0], min(PAGE[1], bottom + _EDGE)))


def pdf(pages: Iterable[Image.Image], quality: int) -> Iterator[bytes]:
    """A PDF of pages, the content of a file in parts; the pages wait on disk.

    Args:
        quality: 1 to 100, as of JPEG.
    """
    with tempfile.TemporaryFile() as file:
        for number, page in enumerate(pages):
            said = {"creationDate": None, "modDate": None, "creator": _MAKER}
            # Beginning anew would lose what is there.
            page.save(file, "PDF", append=number > 0, resolution=DPI, quality=quality, subsampling=0, **said)
        file.seek(0)
        yield from iter(lambda: file.read(1 << 20), b"")


def is_page(path: Path) -> bool:
    """Whether a file is a page of a sheet, or such a PDF, by what it says of itself."""
    try:
        with open_file(path) as file:
            return _MAKER in file.read()  # nothing that these formats say of a file is compressed there
    except OSError:
        return False

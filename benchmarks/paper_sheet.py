"""Contact sheets in the manner of the paper's figure 4: a row for each picture, a column for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw

from ugatit_cli.pictures.drawing import BACKGROUND, HEADING, Lettering
from ugatit_cli.training.samples import cell_side

MARGIN = 16
GAP = 4
LETTERS = 14

Kind = TypeVar("Kind")


def spread(things: Sequence[Kind], count: int) -> list[Kind]:
    """So many of them, evenly; all where there are fewer."""
    count = min(count, len(things))
    return [things[i * len(things) // count] for i in range(count)]


def contact_sheet(
    sources: Sequence[Path], columns: Mapping[str, Mapping[Path, Path]], size: int, heading: str
) -> Image.Image:
    """Sources and what was made of them.

    Args:
        sources: pictures, one for each row.
        columns: what was made of each source, by the column's title.
        size: side of the translations in pixels; small ones are drawn larger.
        heading: of the first column.

    Raises:
        OSError: a picture can't be read.
    """
    side = cell_side(size)
    letters = Lettering(LETTERS, HEADING)
    step, top = side + GAP, MARGIN + letters.height + GAP
    titles = [heading, *columns]
    sheet = Image.new(
        "RGB", (2 * MARGIN + len(titles) * step - GAP, top + len(sources) * step - GAP + MARGIN), BACKGROUND
    )
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        letters.draw(pen, (MARGIN + column * step, MARGIN), letters.shortened(title, side))
    for row, source in enumerate(sources):
        for column, path in enumerate([source, *(made[source] for made in columns.values())]):
            sheet.paste(_cell(path, size, side), (MARGIN + column * step, top + row * step))
    return sheet


def _cell(path: Path, size: int, side: int) -> Image.Image:
    """A picture as the networks see it, on white, and enlarged."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    small = Image.alpha_composite(white, picture).convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    return small.resize((side, side), Image.Resampling.BICUBIC)

"""A before/after sheet of two folders with equal file names: `python examples/sheet.py BEFORE AFTER OUT.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

CELL = 128
COLUMNS = 6


def sheet(before: Path, after: Path) -> Image.Image:
    """Rows of pictures over rows of their translations, on white."""
    names = [path.name for path in sorted(after.iterdir()) if (before / path.name).is_file()]
    rows = -(-len(names) // COLUMNS)
    result = Image.new("RGB", (CELL * min(COLUMNS, len(names)), 2 * CELL * rows), "white")
    for i, name in enumerate(names):
        for below, folder in enumerate((before, after)):
            picture = Image.open(folder / name).convert("RGBA")
            picture.thumbnail((CELL - 8, CELL - 8), Image.Resampling.LANCZOS)
            left = i % COLUMNS * CELL + (CELL - picture.width) // 2
            top = (2 * (i // COLUMNS) + below) * CELL + (CELL - picture.height) // 2
            result.paste(picture, (left, top), picture)
    return result


if __name__ == "__main__":
    sheet(Path(sys.argv[1]), Path(sys.argv[2])).save(sys.argv[3], optimize=True)

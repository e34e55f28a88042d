"""Before/after grids of held-out emoji: `python examples/flat2clay/grid.py BENCH MODEL OUT [--columns 12]`.

OUT gets A-to-B.png and B-to-A.png (flat-to-clay.png, ...): input, translation, and what artists drew. The emoji are
spread evenly over all that are held out, not picked; those that Microsoft doesn't publish under MIT are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import ugatit_cli
from ugatit_cli.config import DIRECTIONS, Direction
from ugatit_cli.datasets.emoji_names import is_unlicensed
from ugatit_cli.translation.model import Model

CELL = 112
GAP = 8
FOLDERS = ("testA", "testB")


def spread(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, evenly."""
    return [names[i * len(names) // count] for i in range(min(count, len(names)))]


def chosen(bench: Path, count: int) -> list[str]:
    """Held-out emoji to show."""
    return spread(
        sorted(path.stem for path in (bench / FOLDERS[0]).glob("*.png") if not is_unlicensed(path.stem)), count
    )


def grid(model: Model, bench: Path, names: Sequence[str], direction: Direction) -> Image.Image:
    """A column for each emoji: input, translation at the model's size, ground truth."""
    source, target = FOLDERS if direction == "a2b" else FOLDERS[::-1]
    step = CELL + GAP
    canvas = Image.new("RGB", (len(names) * step + GAP, 3 * step + GAP), "white")
    for column, name in enumerate(names):
        before, truth = (Image.open(bench / folder / f"{name}.png").convert("RGB") for folder in (source, target))
        side = model.config.image_size
        after = model.translate(before.resize((side, side), Image.Resampling.LANCZOS), direction)
        for row, picture in enumerate((before, after, truth)):
            cell = picture.resize((CELL, CELL), Image.Resampling.LANCZOS)
            canvas.paste(cell, (GAP + column * step, GAP + row * step))
    return canvas


def main() -> None:
    """Draws both grids."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=12)
    options = parser.parse_args()
    model = ugatit_cli.load(options.model)
    names = chosen(options.bench, options.columns)
    options.out.mkdir(parents=True, exist_ok=True)
    for direction in DIRECTIONS:
        name = f"{model.config.source(direction)}-to-{model.config.target(direction)}.png"
        grid(model, options.bench, names, direction).save(options.out / name, optimize=True)


if __name__ == "__main__":
    main()

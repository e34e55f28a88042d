"""A benchmark to train on whose crops never cut: `python examples/ink2clay/ground.py ink2clay OUT [--size 128]`.

`train` enlarges pictures by an eighth and takes random crops, which cut drawings that fill their picture: dark or
pale smears at the borders came with that. Here each training picture lies on a white ground of the size that `train`
would enlarge it to, so that crops shift the drawing instead. It is drawn at the size that it has there.

With `--worn` each drawing of A is there three times: also with strokes as others draw them, thinner or thicker, and
not quite black.

OUT gets trainA and trainB; and the validation pictures, as they are, as testA and testB: where `train` looks for
pictures to sample and to evaluate. The benchmark's own held-out pictures aren't in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageFilter

from ugatit_cli.cli import console
from ugatit_cli.data.pictures import Preparation
from ugatit_cli.datasets.emoji import RECIPES, Drawing, drawings
from ugatit_cli.datasets.emoji_names import TRAINING, VALIDATION

# Ink sticks out of the 3D drawing by half of its width: its margins are 4 of 128 pixels, the others' are 8, which is
# what crops take. Both domains are made smaller alike, so that the sizes of drawings keep their relation.
SCALES: Final = {"ink2clay": 112 / 120}


def margins(image: Image.Image) -> tuple[int, int, int, int]:
    """Empty columns and rows: left, top, right, bottom."""
    inked = (np.asarray(image).min(axis=2) < 250).nonzero()
    if not inked[0].size:
        return image.width, image.height, image.width, image.height
    rows, columns = inked
    return (
        int(columns.min()),
        int(rows.min()),
        image.width - 1 - int(columns.max()),
        image.height - 1 - int(rows.max()),
    )


def on_ground(draw: Callable[[int], Image.Image], size: int, scale: float) -> Image.Image:
    """A drawing in the middle of a white ground that is as large as training takes its crops of side `size` from.

    One whose margins are still narrower than crops move is made that much smaller, so that none is ever cut.
    """
    side = Preparation(size).load_size
    needed = (side - size + 1) // 2  # what the farthest crop takes from one side
    drawn = size - 2 * min(margins(draw(size)))
    inner = int(size * min(scale, (size - 2 * needed) / drawn)) if drawn > 0 else size
    ground = Image.new("RGB", (side, side), "white")
    ground.paste(draw(inner), ((side - inner) // 2, (side - inner) // 2))
    return ground


def worn(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """A drawing on white with thinner or thicker strokes, by up to two pixels, and paler, by up to a quarter."""
    large = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.LANCZOS)
    change = int(random.choice([3, 3, 5, -3, 0]))
    if change:
        large = large.filter(ImageFilter.MaxFilter(change) if change > 0 else ImageFilter.MinFilter(-change))
    pale = float(random.choice([0, random.uniform(0, 0.25)]))
    return Image.blend(large.resize(picture.size), Image.new("RGB", picture.size, "white"), pale)


def place(drawing: Drawing, size: int, scale: float, out: Path, copies: int) -> None:
    """Writes a picture of training, and worn copies of A's, or of validation; the others have no place."""
    if drawing.folder in TRAINING:
        folder, picture = drawing.folder, on_ground(drawing.draw, size, scale)
    elif drawing.folder in VALIDATION:
        folder, picture = drawing.folder.replace("val", "test"), drawing.draw(size)
    else:
        return
    (out / folder).mkdir(exist_ok=True)
    picture.save(out / folder / f"{drawing.name}.png")
    for number in range(copies if folder == "trainA" else 0):
        random = np.random.default_rng([number, *drawing.name.encode()])
        worn(picture, random).save(out / folder / f"{drawing.name}-worn{number}.png")


def main() -> None:
    """Draws all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=[name for name, recipe in RECIPES.items() if recipe.validation])
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--worn", action="store_true")
    options = parser.parse_args()
    with console.showing() as listener:
        found = drawings(options.recipe, listener)
    options.out.mkdir()
    for drawing in found:
        place(drawing, options.size, SCALES.get(options.recipe, 1.0), options.out, 2 if options.worn else 0)


if __name__ == "__main__":
    main()

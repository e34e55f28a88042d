"""Photos with a real face in them: Eileen Collins, by NASA (see NOTICE)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

PORTRAIT = Path(__file__).parents[1] / "fixtures" / "astronaut.webp"
# Of the face in the portrait of 160 x 160 pixels, as it was seen by eye.
BOX = (42, 38, 105, 121)


def portrait() -> Image.Image:
    """RGB, 160 x 160 pixels: one face."""
    with Image.open(PORTRAIT) as image:
        return image.convert("RGB")


@dataclass(frozen=True)
class Group:
    """A photo of two faces.

    Attributes:
        boxes: left, top, right, bottom of the portrait's face in each place.
    """

    photo: Image.Image
    boxes: tuple[tuple[float, ...], ...]


def group() -> Group:
    """RGB, 400 x 220 pixels: the portrait at the left and, smaller and as in a mirror, at the right."""
    photo = Image.new("RGB", (400, 220), (96, 110, 120))
    photo.paste(portrait(), (20, 40))
    photo.paste(ImageOps.mirror(portrait()).resize((128, 128)), (250, 30))
    left, top, right, bottom = BOX
    first = left + 20, top + 40, right + 20, bottom + 40
    second = tuple(value * 0.8 for value in (160 - right, top, 160 - left, bottom))
    return Group(photo, (first, (second[0] + 250, second[1] + 30, second[2] + 250, second[3] + 30)))

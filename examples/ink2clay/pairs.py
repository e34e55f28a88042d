"""Pairs of a drawing and a picture, of which kind they are; and drawings changed as people draw differently."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE: Final = 128
RED_HEARTS: Final = {"1f494": 4, "1f495": 2, "1f497": 5, "1f49e": 2, "1fa77": 5}
"""How often each comes, in relation to the others."""
OTHER_HEARTS: Final = {"1f499", "1f49a", "1f49b", "1f49c", "1f5a4", "1f90d", "1f90e", "1f9e1", "1fa75", "1fa76"}
BLUE_FACES: Final = {"1f628", "1f630", "1f976"}
"""All or half blue: cold, or in fear. For these, others with such mouths would be blue, too."""
FACES: Final = {
    f"{code:x}"
    for first, last in (
        *((0x1F600, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F92F), (0x1F970, 0x1F97A), (0x1F9D0, 0x1F9D0)),
        *((0x1FAE0, 0x1FAE8), (0x2639, 0x263A), (0x1F31E, 0x1F31E), (0x2600, 0x2600)),  # suns
    )
    for code in range(first, last + 1)
}
GREY: Final = 60
"""Mean difference of a picture's largest and smallest channel, of 255, below which it is grey: a fifth are."""
GREYS: Final = 0.15
"""How often grey ones come, in relation to the others."""


@dataclass(frozen=True)
class Pair:
    """A picture of training, and its imitation in ink; both of one size, larger than `SIZE`."""

    name: str
    ink: Image.Image
    clay: Image.Image

    @property
    def kind(self) -> str:
        """One of those that `--faces` and `--hearts` speak of, or `rest`."""
        return "heart" if self.name in RED_HEARTS else "face" if self.name in FACES else "rest"

    @property
    def share(self) -> float:
        """How often it comes, in relation to others of its kind."""
        pixels = np.asarray(self.clay, np.int16)
        shown = np.ptp(pixels[pixels.min(2) < 245], 1)  # what isn't ground
        return RED_HEARTS.get(self.name, 1) * (GREYS if self.kind == "rest" and shown.mean() < GREY else 1)


def lines_of(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """The dark side of a picture's edges, as a pen would draw them (Winnemöller 2011, without the extension)."""
    grey, sigma = picture.convert("L"), random.uniform(0.8, 1.6)
    fine, coarse = (
        np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), np.float32) for radius in (sigma, 1.6 * sigma)
    )
    dark = np.clip((coarse - fine - 0.5) * random.uniform(15, 40), 0, 255)
    return Image.fromarray((255 - dark).astype(np.uint8), "L")


def with_filled(ink: Image.Image, random: np.random.Generator) -> Image.Image:
    """A drawing with one to three of its enclosed areas in black; those of over an eighth of it stay."""
    for _ in range(random.integers(1, 4)):
        seed = (int(random.integers(20, ink.width - 20)), int(random.integers(20, ink.height - 20)))
        filled = ink.copy()
        ImageDraw.floodfill(filled, seed, int(random.integers(0, 60)), thresh=60)
        if np.count_nonzero(np.asarray(filled) != np.asarray(ink)) < ink.width * ink.height // 8:
            ink = filled
    return ink


def hollowed(ink: Image.Image, random: np.random.Generator) -> Image.Image:
    """A drawing with one of its black areas, if it isn't wide, as an outline, as many draw a mouth."""
    dark = np.argwhere(np.asarray(ink) < 100)
    if not len(dark):
        return ink
    row, column = random.choice(dark)
    filled = ink.copy()
    ImageDraw.floodfill(filled, (int(column), int(row)), 255, thresh=100)
    area = ImageChops.difference(filled, ink).point(lambda level: 255 if level > 100 else 0)
    left, _, right, _ = area.getbbox() or (0, 0, ink.width, 0)
    inner = area.filter(ImageFilter.MinFilter(int(random.choice([5, 9, 11]))))
    return ink if right - left > ink.width // 2 else Image.composite(Image.new("L", ink.size, 255), ink, inner)


def silhouette_of(picture: Image.Image) -> Image.Image:
    """A picture's shape in black: how ink draws many a heart."""
    return picture.convert("L").point(lambda level: 0 if level < 245 else 255)


def with_strokes(ink: Image.Image, random: np.random.Generator) -> Image.Image:
    """A drawing with thinner, thicker, softer or paler strokes."""
    large = ink.resize((2 * ink.width, 2 * ink.height), Image.Resampling.LANCZOS)
    change = int(random.choice([-7, -5, -3, 0, 0, 3, 5]))
    if change:
        large = large.filter(ImageFilter.MaxFilter(change) if change > 0 else ImageFilter.MinFilter(-change))
    if random.random() < 0.3:
        large = large.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.6)))
    pale = random.uniform(0, 0.35) if random.random() < 0.4 else 0.0
    return Image.blend(large.resize(ink.size, Image.Resampling.LANCZOS), Image.new("L", ink.size, 255), pale)


def moved(pair: Pair, random: np.random.Generator) -> Pair:
    """Both pictures elsewhere, turned, mirrored, larger or smaller alike, `SIZE` wide and high."""
    angle, scale = np.deg2rad(random.normal(0, 6)), random.uniform(0.75, 1.06)
    if random.random() < 0.25:
        scale *= random.uniform(0.5, 1)
    shift, middle = random.uniform(-1, 1, 2) * 8, np.array([pair.ink.width, pair.ink.height]) / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    if random.random() < 0.5:
        turn[0] *= -1
    offset = middle - turn @ (np.array([SIZE, SIZE]) / 2 + shift)
    numbers = (turn[0, 0], turn[0, 1], offset[0], turn[1, 0], turn[1, 1], offset[1])
    ink, clay = (
        one.transform((SIZE, SIZE), Image.Transform.AFFINE, numbers, Image.Resampling.BICUBIC, fillcolor=white)
        for one, white in ((pair.ink, 255), (pair.clay, (255, 255, 255)))
    )
    return replace(pair, ink=ink, clay=clay)


def changed(pair: Pair, random: np.random.Generator) -> Pair:
    """A pair as training sees it once."""
    if pair.kind == "heart" and random.random() < 0.3:
        pair = replace(pair, ink=silhouette_of(pair.clay))
    if pair.kind == "face" and random.random() < 0.2:
        pair = replace(pair, ink=hollowed(pair.ink, random))
    chance = random.random()
    if chance < 0.15:
        pair = replace(pair, ink=lines_of(pair.clay, random))
    elif chance < 0.3:
        pair = replace(pair, ink=with_filled(pair.ink, random))
    elif chance < 0.4:
        pair = replace(pair, ink=ImageChops.darker(pair.ink, lines_of(pair.clay, random)))
    return moved(replace(pair, ink=with_strokes(pair.ink, random)), random)

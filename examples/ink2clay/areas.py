"""Real drawings, which nobody has made of clay: each of their areas has one hue; that of faces and signs is known.

What could have many colours may get several: a wall yellow and blue, a face with other teeth than the training's blue
around them. No picture says which is right for a real drawing. But what lines enclose seldom has two hues.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from faces import joined, with_teeth
from numpy.typing import NDArray
from pairs import FACES, SIZE, Pair, hollowed, moved, with_filled, with_strokes
from PIL import Image
from torch import Tensor

from ugatit_cli.pictures.transparency import areas_of, at_edges

HUES: Final = {"face": (249, 177, 77), "sign": (88, 161, 244)}
"""Means of plain faces and of arrows, keys and the like in clay, where they aren't ground."""
OTHER_FACES: Final = {"1f620", "1f621", "1f62d", "1f915", "1f927", "1f975", "1f978", "1f97d", "1fae5"}
"""In red, and those of which most is something else than a face."""
SIGNS: Final = (
    "1f192 1f195 1f196 1f197 1f500 1f503 1f520 1f522 1f524 1f6be 1f6c4 2195 2197 2198 23ec "
    "23ed 23ee 23ef 23f9 25b6 25c0 2935 2b07 31-20e3 32-20e3 33-20e3 36-20e3 37-20e3"
)
SHARES: Final = {"face": 0.4, "sign": 0.1, "rest": 0.5}
WHITE: Final = (242, 236, 250)
"""What is written on signs, in clay."""
WITHOUT_MOUTH: Final = "1f636"
SMALLEST: Final = 150
"""Pixels of an area that counts."""
SHADING: Final = 0.25
"""What colours may differ by, of 2 in each channel: of 10 pixels of an area in clay, 9 are nearer to its mean."""


class Drawings:
    """Real drawings in random strokes.

    Args:
        data: what ground.py made; those of its `trainA` are taken.
    """

    def __init__(self, data: Path, random: np.random.Generator) -> None:
        self._random = random
        pairs = [_drawing(path) for path in sorted((data / "trainA").glob("*.png"))]
        self._of_kind = {kind: [pair for pair in pairs if _kind_of(pair.name) == kind] for kind in SHARES}
        self._blank = next(pair for pair in pairs if pair.name == WITHOUT_MOUTH)

    def draw(self, count: int) -> tuple[Tensor, list[str]]:
        """Drawings, (count, 3, SIZE, SIZE) in [-1, 1], and their kinds."""
        kinds = self._random.choice(list(SHARES), count, p=list(SHARES.values())).tolist()
        pictures = [np.array(moved(self._one(kind), self._random).clay) for kind in kinds]
        ink = torch.from_numpy(np.array(pictures, np.uint8).reshape(count, SIZE, SIZE, 3))
        return (ink.permute(0, 3, 1, 2) / 127.5 - 1).contiguous(memory_format=torch.channels_last), kinds

    def _one(self, kind: str) -> Pair:
        pairs = self._of_kind[kind]
        pair = pairs[self._random.integers(len(pairs))]
        if kind == "face" and self._random.random() < 0.5:
            pair = joined(pair, with_teeth(self._blank, self._random, strokes=(2, 13)), self._random)
        elif kind != "sign":
            change = (with_filled if kind == "rest" else hollowed, hollowed, lambda ink, _: ink)
            pair = replace(pair, ink=change[self._random.integers(3)](pair.ink, self._random))
        return _as_both(with_strokes(pair.ink, self._random), pair.name)


def _kind_of(name: str) -> str:
    known = {"face": FACES - OTHER_FACES, "sign": set(SIGNS.split()), "": OTHER_FACES}
    return next((kind for kind, names in known.items() if name in names), "rest")


def _drawing(path: Path) -> Pair:
    with Image.open(path) as file:
        return _as_both(file.convert("L"), path.stem)


def _as_both(ink: Image.Image, name: str) -> Pair:
    return Pair(name, ink, ink.convert("RGB"))


def hue_loss(pictures: Tensor, drawings: Tensor, kinds: list[str]) -> Tensor:
    """Mean distance of colours from the mean one of their area, or from the known one, beyond what shading does.

    Args:
        pictures: translations, (N, 3, H, W) in [-1, 1].
        drawings: what they are of, as many.
        kinds: of each; for those in `HUES` the hue of the largest area is known.
    """
    total, count = pictures.sum() * 0, 1
    for picture, drawing, kind in zip(pictures, drawings, kinds, strict=True):
        labels, chosen = _enclosed(drawing)
        chroma = picture - picture.mean(0)
        largest = max(chosen, key=chosen.__getitem__, default=0)
        for number, size in chosen.items():
            inside = chroma[:, labels == number]
            known = number == largest and kind in HUES
            wanted = _chroma_of(HUES[kind]) if known else _mean_chroma(inside)
            total, count = total + _beyond_shading(inside, wanted), count + size
        if kind == "sign":
            symbol = picture[:, _symbol(drawing)]
            total, count = total + _beyond_shading(symbol, _levels_of(WHITE)), count + symbol.shape[1]
    return total / count


def _beyond_shading(colours: Tensor, wanted: Tensor) -> Tensor:
    away = ((colours - wanted[:, None]).square().sum(0) + 1e-6).sqrt()
    return F.relu(away - SHADING).sum()


def _enclosed(drawing: Tensor) -> tuple[Tensor, dict[int, int]]:
    """Numbers of a drawing's white areas, without their soft edges, (H, W), and the sizes of those that count."""
    white = F.max_pool2d(-drawing[None], 3, 1, 1)[0, 0] < -0.2
    areas: NDArray[np.int32] = areas_of(white.numpy())
    areas[at_edges(areas)] = 0
    sizes = enumerate(np.bincount(areas.ravel()).tolist())
    return torch.from_numpy(areas), {number: size for number, size in sizes if number and size >= SMALLEST}


def _symbol(drawing: Tensor) -> Tensor:
    """Where a sign is black, (H, W): without its frame, which is at the top, and without soft edges."""
    areas = areas_of((drawing[0] < 0.5).numpy())
    frame = areas[areas > 0][:1]
    inner = F.max_pool2d(drawing[None], 3, 1, 1)[0, 0] < 0
    return inner & torch.from_numpy((areas > 0) & ~np.isin(areas, frame))


@torch.no_grad()
def _mean_chroma(chroma: Tensor) -> Tensor:
    """The mean of (3, n), of which what is grey says little; as far from grey as the more colourful of them."""
    away = chroma.norm(dim=0)
    mean = (chroma * away).sum(1)
    wanted: Tensor = mean / mean.norm().clamp(min=1e-4) * away.quantile(0.75)
    return wanted


def _chroma_of(colour: tuple[int, int, int]) -> Tensor:
    levels = _levels_of(colour)
    return levels - levels.mean()


def _levels_of(colour: tuple[int, int, int]) -> Tensor:
    return torch.tensor(colour) / 127.5 - 1

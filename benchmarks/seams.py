"""Tiles of large photos: how much their seams show, how near they come to one pass, and what that costs.

    python -m benchmarks.seams PHOTO... [--model flat2clay] [--size 4000x3000] [--tile 1024] [--one-pass 1024]

Photos are scaled and cropped to `--size`. A ratio of 1 means: at a seam as elsewhere.
neighbours: the mean difference of neighbouring pixels across the lines where tiles begin, end and blend, to that
across lines 8 to 40 pixels away, of those that lie alike in the network's strides (every fourth).
an overlap apart: the same of pixels on both sides of where tiles blend, to that of all pixels so far apart elsewhere.
of the photo's: divided by the same ratio of the photo itself; worst: the highest of a seam.
`own` are tiles that are normalised by their own statistics. Run from the repository root.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

import ugatit_cli
from benchmarks.common import machine, report
from ugatit_cli.nn.whole import Statistics
from ugatit_cli.pictures.geometry import Geometry, Pixels, tile_corners
from ugatit_cli.translation.model import Model

HEADER = ["photo", "statistics", "neighbours", "of the photo's", "an overlap apart", "of the photo's", "worst", "s"]


def own_statistics() -> AbstractContextManager[object]:
    """Every tile by itself, within this."""
    return mock.patch.object(Statistics, "replayed", return_value=nullcontext())


WAYS: dict[str, Callable[[], AbstractContextManager[object]]] = {"own": own_statistics, "whole": nullcontext}


def translated(model: Model, pixels: Pixels, tile: int) -> Pixels:
    """The picture in its own resolution, in tiles; 0: in one pass."""
    size = pixels.shape[1], pixels.shape[0]
    (found,) = model.translate_pixels([pixels], "a2b", Geometry(size, size, size, tile))
    return found


def psnr(one: Pixels, other: Pixels) -> float:
    """In dB."""
    return 10 * math.log10(255**2 / np.square(one.astype(np.float32) - other).mean())


@dataclass(frozen=True)
class Seams:
    """Where tiles meet along an axis, in pixels.

    Attributes:
        lines: where they begin, end and begin to blend.
        middles: of where they blend.
        gap: how far apart pixels on both sides are.
    """

    side: int
    lines: NDArray[np.int64]
    middles: NDArray[np.int64]
    gap: int

    @classmethod
    def along(cls, side: int, tile: int) -> Seams:
        """Those of a side."""
        starts = np.array(sorted({left for left, _ in tile_corners((side, 1), tile)}))
        begins, ends = starts[1:], starts[:-1] + tile
        lines = np.concatenate([begins, begins + tile // 16, (begins + ends) // 8 * 4, ends - tile // 16, ends])
        return cls(side, np.unique(lines), (begins + ends) // 2, tile // 4)

    def away(self) -> NDArray[np.int64]:
        """Lines near those that aren't among them."""
        around = np.concatenate([self.lines + 4 * i for i in (*range(-10, -1), *range(2, 11))])
        return np.setdiff1d(around[(around > 0) & (around < self.side)], self.lines)

    def elsewhere(self) -> NDArray[np.int64]:
        """Lines at least a gap from all middles, with room for the gap."""
        every = np.arange(self.gap, self.side - self.gap)
        return np.array([one for one in every if np.abs(one - self.middles).min() >= self.gap])

    def ratios(self, pixels: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        """Of neighbours across all lines, and of pixels a gap apart across each seam: to that elsewhere."""
        near = np.abs(np.diff(pixels, axis=1)).mean((0, 2))
        far = np.abs(pixels[:, self.gap :] - pixels[:, : -self.gap]).mean((0, 2))  # around column + gap / 2
        half = self.gap // 2
        apart = far[self.middles - half] / far[self.elsewhere() - half].mean()
        return float(near[self.lines - 1].mean() / near[self.away() - 1].mean()), apart


def both_ways(pixels: Pixels, tile: int) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """The ratios across columns and rows."""
    floats = pixels.astype(np.float32)
    for turned in (floats, floats.transpose(1, 0, 2)):
        if turned.shape[1] > tile:
            yield Seams.along(turned.shape[1], tile).ratios(turned)


def measured(pixels: Pixels, tile: int) -> tuple[float, NDArray[np.float32]]:
    """The mean ratio of neighbours, and that of pixels an overlap apart at each seam."""
    near, apart = zip(*both_ways(pixels, tile), strict=True)
    return float(np.mean(near)), np.concatenate(apart)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--model", default="flat2clay")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one-pass", type=int, default=0, metavar="SIDE", help="compare with that, in tiles of 1/4")
    parser.add_argument("--keep", type=Path, help="folder for the results")
    options = parser.parse_args()

    model = ugatit_cli.load(options.model, device=options.device)
    model.generator("a2b")
    width, height = map(int, options.size.split("x"))
    rows, data = [], []
    for path in options.photos:
        photo = Image.open(path).convert("RGB")
        pixels = np.asarray(ImageOps.fit(photo, (width, height), Image.Resampling.LANCZOS))
        near_before, apart_before = measured(pixels, options.tile)
        for way in options.ways:
            with WAYS[way]():
                start = time.perf_counter()
                result = translated(model, pixels, options.tile)
                seconds = time.perf_counter() - start
            near, apart = measured(result, options.tile)
            told = {
                "neighbours": near,
                "neighbours_to_photo": near / near_before,
                "apart": float(apart.mean()),
                "apart_to_photo": float((apart / apart_before).mean()),
                "worst": float((apart / apart_before).max()),
            }
            rows.append([path.name, way, *(f"{value:.3f}" for value in told.values()), f"{seconds:.1f}"])
            data.append({"photo": path.name, "size": photo.size, "statistics": way, "seconds": seconds, **told})
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                Image.fromarray(result).save(options.keep / f"{path.stem}-{way}.png", compress_level=1)
    known = {"machine": machine(model.device), "model": options.model, "precision": model.precision}
    report("seams", HEADER, rows, {**known, "size": options.size, "tile": options.tile, "photos": data})
    if options.one_pass:
        against_one_pass(model, options.photos, options.one_pass, options.ways)


def against_one_pass(model: Model, photos: list[Path], side: int, ways: list[str]) -> None:
    """How near tiles of a quarter of the side come to the whole picture in one pass."""
    rows, data = [], []
    for path in photos:
        photo = Image.open(path).convert("RGB")
        pixels = np.asarray(ImageOps.fit(photo, (side, side), Image.Resampling.LANCZOS))
        whole = translated(model, pixels, 0)
        for way in ways:
            with WAYS[way]():
                decibels = psnr(translated(model, pixels, side // 4), whole)
            rows.append([path.name, way, f"{decibels:.1f}"])
            data.append({"photo": path.name, "statistics": way, "psnr": decibels})
    report("seams-one-pass", ["photo", "statistics", "PSNR dB"], rows, {"side": side, "photos": data})


if __name__ == "__main__":
    main()

"""A folder of PNGs through `translate_files`: how busy the network is, and whether memory grows with the files.

    python -m benchmarks.folder [--model flat2clay | --channels 64] [--files 200] [--memory]

Pictures are 256 x 256 PNGs of smooth noise, made on the spot. `--memory` translates 1,000 and 10,000 files, once
each, and compares peak memory.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import ugatit_cli
from benchmarks.common import Candidate, Comparison, Work, command_line, compare, write
from ugatit_cli.device import keep_freed_memory
from ugatit_cli.pictures.geometry import SizeOptions, plan_geometry
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import Batching
from ugatit_cli.translation.pipeline import TranslateOptions, translate_files

SIDE = 256


def make_pictures(folder: Path, count: int) -> list[Path]:
    """PNGs that compress about as well as photographs do."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{i:05d}.png")
        Image.fromarray(noisy).save(paths[-1], compress_level=1)
    return paths


def opened(model: str | None, channels: int | None, device: str) -> Model:
    """A model by name, or an untrained light one with so many channels."""
    keep_freed_memory(all_sizes=False)  # as `ugatit translate` does
    if channels:
        return ugatit_cli.new(ugatit_cli.ModelConfig(channels=channels), device=device)
    return ugatit_cli.load(model or "flat2clay", device=device)


def network(model: str, channels: int | None, device: str, files: int) -> Work:
    """The network alone on pixels in memory."""
    opened_model = opened(model, channels, device)
    geometry = plan_geometry((SIDE, SIDE), opened_model.config, SizeOptions())
    width, height = geometry.network
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    batch = [pixels] * Batching(opened_model.device).size(width * height)
    count = -(-files // len(batch))

    def run() -> None:
        for _ in range(count):
            opened_model.translate_pixels(batch, "a2b", geometry)

    return Work(run, pieces=count * len(batch))


def folder(model: str, channels: int | None, device: str, files: int, pictures: str, workers: int) -> Work:
    """From disk to disk; there may be fewer pictures than files."""
    opened_model, numbers = opened(model, channels, device), itertools.count()
    paths = list(itertools.islice(itertools.cycle(sorted(Path(pictures).iterdir())), files))

    def run() -> None:
        with tempfile.TemporaryDirectory() as out:
            jobs = [Job(path, Path(out) / f"{next(numbers)}.png") for path in paths]
            for result in translate_files(opened_model, jobs, TranslateOptions(workers=workers)):
                if result.error is not None:
                    raise result.error

    return Work(run, pieces=files)


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """What is measured."""
    shared = {"model": options.model, "channels": options.channels, "device": options.device}
    name = f"{options.channels} channels" if options.channels else options.model
    with tempfile.TemporaryDirectory() as made:
        make_pictures(Path(made), 20)
        of_folder = {**shared, "pictures": made, "workers": options.workers}
        if options.memory:
            counts = [
                Candidate(f"{files:,} files", "benchmarks.folder:folder", {**of_folder, "files": files})
                for files in (1000, 10_000)
            ]
            yield compare(f"A file of a folder through {name}", counts, rounds=1, warmup=0)
            return
        candidates = [
            Candidate("network alone", "benchmarks.folder:network", {**shared, "files": options.files}),
            Candidate("folder", "benchmarks.folder:folder", {**of_folder, "files": options.files}),
        ]
        title = f"A picture of {SIDE}x{SIDE} through {name}, {options.files} files"
        yield compare(title, candidates, rounds=options.rounds, warmup=options.warmup)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line(__doc__, rounds=3, warmup=1)
    parser.add_argument("--model", default="flat2clay")
    parser.add_argument("--channels", type=int, help="an untrained light model at 256 px instead")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", action="store_true")
    return parser


if __name__ == "__main__":
    options = parser().parse_args()
    write("memory" if options.memory else "folder", comparisons(options), device=options.device)

"""A folder of PNGs through `translate_files`: how busy the network is, and whether memory grows with the files.

    python -m benchmarks.folder [--model flat2clay | --channels 64] [--files 200] [--memory]

Pictures are 256 x 256 PNGs, made on the spot: smooth noise, which compresses as photographs do, and drawings. The
network alone is measured on pixels in memory: one picture at a time on all cores, and several, a core each.
`--memory` lets `ugatit translate` go through 1,000 and 10,000 small files with a tiny network, and compares its peak
memory.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import ugatit_cli
from benchmarks.common import Candidate, Comparison, Work, command_line, compare, report, write
from ugatit_cli.device import keep_freed_memory
from ugatit_cli.methods.networks import tensors_of
from ugatit_cli.methods.registry import method_of
from ugatit_cli.pictures.geometry import SizeOptions, plan_geometry
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import Batching
from ugatit_cli.translation.pipeline import TranslateOptions, translate_files
from ugatit_cli.weights.folder import save_model

SIDE = 256


def noise(rng: np.random.Generator) -> Image.Image:
    """What compresses about as well as photographs do."""
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8))


def drawing(rng: np.random.Generator) -> Image.Image:
    """Flat colours with soft edges, and transparency around them."""
    large = Image.new("RGBA", (4 * SIDE, 4 * SIDE))
    draw = ImageDraw.Draw(large)
    for _ in range(8):
        corners = np.sort(rng.integers(SIDE // 2, 7 * SIDE // 2, (2, 2)), axis=0)
        draw.ellipse([*corners.ravel().tolist()], fill=(*rng.integers(0, 256, 3).tolist(), 255))
    return large.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


KINDS: Mapping[str, Callable[[np.random.Generator], Image.Image]] = {"noise": noise, "drawings": drawing}


def make_pictures(folder: Path, count: int, kind: str = "noise") -> list[Path]:
    """So many different PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:05d}.png" for i in range(count)]
    for path in paths:
        KINDS[kind](rng).save(path, compress_level=1)
    return paths


def opened(model: str | None, channels: int | None, device: str) -> Model:
    """A model by name, or an untrained light one with so many channels."""
    keep_freed_memory(all_sizes=False)  # as `ugatit translate` does
    if channels:
        return ugatit_cli.new(ugatit_cli.ModelConfig(channels=channels), device=device)
    return ugatit_cli.load(model or "flat2clay", device=device)


def network(model: str, channels: int | None, device: str, files: int, at_once: int = 1) -> Work:
    """The network alone on pixels in memory: so many pictures at once, on their part of the cores."""
    opened_model = opened(model, channels, device)
    geometry = plan_geometry((SIDE, SIDE), opened_model.config, SizeOptions())
    width, height = geometry.network
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    batch = [pixels] * Batching(opened_model.on_cpu).size(width * height)
    count = -(-files // len(batch))
    threads = ThreadPoolExecutor(at_once, "", torch.set_num_threads, (torch.get_num_threads() // at_once,))

    def run() -> None:
        list(threads.map(lambda _: opened_model.translate_pixels(batch, "a2b", geometry), range(count)))

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


def peak_memory(model: Path, pictures: list[Path], files: int) -> float:
    """Peak resident memory in MB of `ugatit translate` for so many files, which are links to the pictures."""
    with tempfile.TemporaryDirectory(dir=model.parent) as name:
        (Path(name) / "in").mkdir()
        for i in range(files):
            (Path(name) / f"in/{i:05d}.png").hardlink_to(pictures[i % len(pictures)])
        command = [sys.executable, "-m", "ugatit_cli", "translate", f"{name}/in", "-o", f"{name}/out"]
        child = subprocess.Popen([*command, "--model", str(model)], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return usage.ru_maxrss / 1024


def memory(few: int = 1000, many: int = 10_000) -> None:
    """Few and many files, with a network that takes hardly any time."""
    config = ugatit_cli.ModelConfig("flat", "clay", image_size=32, channels=4, blocks=1)
    with tempfile.TemporaryDirectory() as name:
        save_model(Path(name) / "tiny", config, tensors_of(method_of(config).translators(config)))
        pictures = make_pictures(Path(name) / "small", 20)
        for path in pictures:
            Image.open(path).resize((32, 32)).save(path)
        peaks = {files: peak_memory(Path(name) / "tiny", pictures, files) for files in (few, many)}
    ratio = peaks[many] / peaks[few]
    rows = [[f"{files:,}", f"{peak:.0f}"] for files, peak in peaks.items()] + [["ratio", f"{ratio:.3f}"]]
    report("memory", ["files", "peak MB"], rows, {"peak_mb": peaks, "ratio": ratio})


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """What is measured."""
    shared = {"model": options.model, "channels": options.channels, "device": options.device, "files": options.files}
    name = f"{options.channels} channels" if options.channels else options.model
    at_once = min(torch.get_num_threads(), options.workers)
    with tempfile.TemporaryDirectory() as made:
        candidates = [Candidate("network alone", "benchmarks.folder:network", shared)]
        if at_once > 1:
            several = {**shared, "at_once": at_once}
            candidates.append(Candidate(f"the same, {at_once} at once", "benchmarks.folder:network", several))
        for kind in KINDS:
            make_pictures(Path(made) / kind, 20, kind)
            of_folder = {**shared, "pictures": f"{made}/{kind}", "workers": options.workers}
            candidates.append(Candidate(f"folder of {kind}", "benchmarks.folder:folder", of_folder))
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
    if options.memory:
        memory()
    else:
        write("folder", comparisons(options), device=options.device)

"""A folder of PNGs through `translate_files`: how busy the network is, and whether memory grows with the files.

    python -m benchmarks.folder [--model flat2clay | --channels 64] [--files 200] [--memory]

Pictures are 256 x 256 PNGs of smooth noise, made on the spot. `--memory` translates 200 and 2,000 files in
processes of their own and compares their peak memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import ugatit_cli
from benchmarks.common import machine, report
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


def network_rate(model: Model, count: int) -> float:
    """Pictures per second of the network alone on pixels in memory."""
    geometry = plan_geometry((SIDE, SIDE), model.config, SizeOptions())
    width, height = geometry.network
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    batch = [pixels] * Batching(model.device).size(width * height)
    model.translate_pixels(batch, "a2b", geometry)
    start = time.perf_counter()
    for _ in range(-(-count // len(batch))):
        model.translate_pixels(batch, "a2b", geometry)
    return -(-count // len(batch)) * len(batch) / (time.perf_counter() - start)


def folder_rate(model: Model, paths: list[Path], out: Path, options: TranslateOptions) -> float:
    """Files per second from disk to disk."""
    start = time.perf_counter()
    for result in translate_files(model, [Job(path, out / path.name) for path in paths], options):
        if result.error is not None:
            raise result.error
    return len(paths) / (time.perf_counter() - start)


def peak_memory(model_name: str, files: int) -> float:
    """Peak resident memory in MB of a process that translates so many files."""
    command = [sys.executable, "-m", "benchmarks.folder", "--model", model_name, "--child", str(files)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def child(model: Model, files: int, workers: int) -> None:
    """Translates so many files (links to a few pictures) and prints this process's peak memory."""
    with tempfile.TemporaryDirectory() as name:
        pictures = make_pictures(Path(name) / "in", 20)
        jobs = [Job(pictures[i % 20], Path(name) / f"out/{i}.png") for i in range(files)]
        for result in translate_files(model, jobs, TranslateOptions(workers=workers)):
            if result.error is not None:
                raise result.error
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def busy(model: Model, files: int, workers: int, rounds: int) -> None:
    """Network alone and folder take turns."""
    with tempfile.TemporaryDirectory() as name:
        paths = make_pictures(Path(name) / "in", files)
        options = TranslateOptions(workers=workers)
        network, folder = [], []
        for i in range(rounds):
            network.append(network_rate(model, files))
            folder.append(folder_rate(model, paths, Path(name) / f"out{i}", options))
    rates = {"network alone": statistics.median(network), "folder": statistics.median(folder)}
    share = rates["folder"] / rates["network alone"]
    rows = [[key, f"{value:.2f}"] for key, value in rates.items()] + [["network busy", f"{share:.0%}"]]
    data = {"machine": machine(model.device), "model": model.name, "per_second": rates, "busy": share}
    report("folder", ["what", "pictures/s"], rows, data)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="flat2clay")
    parser.add_argument("--channels", type=int, help="an untrained light model at 256 px instead")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        peaks = {str(files): peak_memory(options.model, files) for files in (200, 2000)}
        rows = [[files, f"{peak:.0f}"] for files, peak in peaks.items()]
        report("memory", ["files", "peak MB"], rows, {"peak_mb": peaks, "ratio": peaks["2000"] / peaks["200"]})
        return
    if options.channels:
        model = ugatit_cli.new(ugatit_cli.ModelConfig(channels=options.channels))
    else:
        model = ugatit_cli.load(options.model)
    if options.child:
        child(model, options.child, options.workers)
    else:
        busy(model, options.files, options.workers, options.rounds)


if __name__ == "__main__":
    main()

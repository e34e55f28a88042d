"""What `ugatit cam` costs beside `ugatit translate` on the same folder, from disk to disk.

    python -m benchmarks.attention [--model runs/NAME | --channels 64] [--pictures FOLDER] [--files 200]

Both take turns on the same pictures (by default 256 x 256 PNGs of smooth noise). The maps are those that the model
has: with `--channels`, all three.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import ugatit_cli
from benchmarks.common import machine, report
from benchmarks.folder import make_pictures
from ugatit_cli.attention.maps import Spans, Style, chosen_maps
from ugatit_cli.attention.words import Subject
from ugatit_cli.outputs.attention import LAYOUTS as DRAWINGS
from ugatit_cli.outputs.attention import Layout
from ugatit_cli.outputs.base import Drawing
from ugatit_cli.outputs.report import Previewed
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import SUFFIXES
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.pipeline import TranslateOptions, translate_files

WAYS = ("translate", "cam", "cam --normalize batch", "cam --layout overlay", "cam --layout raw", "cam --report")
LAYOUTS: dict[str, Layout] = {"cam --layout overlay": "overlay", "cam --layout raw": "raw"}


def drawing_of(way: str, model: Model) -> Drawing | None:
    """What the command line would draw."""
    if way == "translate":
        return None
    maps = chosen_maps(["all"], model.config, discriminators=model.has_discriminators, name=model.name)
    subject, style = Subject(model.name, model.config, "a2b"), Style()
    layout = LAYOUTS.get(way, "panel")
    spans = Spans() if "batch" in way else None
    drawing = DRAWINGS[layout](subject, maps, style, spans, shown=layout == "panel")
    return Previewed(drawing, subject, maps, style) if "report" in way else drawing


def seconds(model: Model, paths: list[Path], out: Path, drawing: Drawing | None) -> float:
    """For all files, from disk to disk."""
    jobs = [Job(path, out / f"{i}.generator.png") for i, path in enumerate(paths)]
    if drawing is not None:
        jobs = [Job(job.source, job.output, drawing.outputs(job.output)) for job in jobs if job.output]
    start = time.perf_counter()
    for result in translate_files(model, jobs, TranslateOptions(), drawing=drawing):
        if result.error is not None:
            raise result.error
    return time.perf_counter() - start


def measure(model: Model, paths: list[Path], folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way and round; the first round is for warming up."""
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for i in range(rounds + 1):
        for way in WAYS:
            spent = seconds(model, paths, folder / f"{i}-{way.replace(' ', '')}", drawing_of(way, model))
            if i:
                times[way].append(spent)
    return times


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="flat2clay")
    parser.add_argument("--channels", type=int, help="an untrained light model at 256 px instead")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.channels:
        model = ugatit_cli.new(ugatit_cli.ModelConfig(channels=options.channels))
    else:
        model = ugatit_cli.load(options.model)
    with tempfile.TemporaryDirectory() as name:
        if options.pictures:
            found = sorted(path for path in options.pictures.iterdir() if path.suffix.lower() in SUFFIXES)
            paths = list(itertools.islice(itertools.cycle(found), options.files))
        else:
            paths = make_pictures(Path(name) / "in", options.files)
        times = measure(model, paths, Path(name), options.rounds)
    medians = {way: statistics.median(spent) for way, spent in times.items()}
    ratios = {way: spent / medians["translate"] for way, spent in medians.items()}
    rows = [[way, f"{medians[way]:.2f}", f"{ratios[way]:.2f}"] for way in WAYS]
    data = {"machine": machine(model.device), "model": model.name, "files": len(paths), "seconds": times}
    report("attention", ["what", "seconds", "ratio"], rows, data | {"ratios": ratios})


if __name__ == "__main__":
    main()

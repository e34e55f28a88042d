"""What `ugatit cam` costs beside `ugatit translate` on the same folder, from disk to disk.

    python -m benchmarks.attention [--model runs/NAME | --channels 64] [--pictures FOLDER] [--files 200]

The pictures are the same (by default 256 x 256 PNGs of smooth noise), and the maps those that the model has: with
`--channels`, all three.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Candidate, Comparison, Work, command_line, compare, write
from benchmarks.folder import make_pictures, opened
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
    maps = chosen_maps(["all"], model.missing_maps, name=model.name)
    subject, style = Subject(model.name, model.config, "a2b"), Style()
    layout = LAYOUTS.get(way, "panel")
    spans = Spans() if "batch" in way else None
    drawing = DRAWINGS[layout](subject, maps, style, spans, shown=layout == "panel")
    return Previewed(drawing, subject, maps, style) if "report" in way else drawing


def work(way: str, model: str, channels: int | None, device: str, pictures: list[str]) -> Work:
    """All files, from disk to disk."""
    opened_model = opened(model, channels, device)
    drawing = drawing_of(way, opened_model)

    def run() -> None:
        with tempfile.TemporaryDirectory() as out:
            jobs = [Job(Path(path), Path(out) / f"{i}.generator.png") for i, path in enumerate(pictures)]
            if drawing is not None:
                jobs = [Job(job.source, job.output, drawing.outputs(job.output)) for job in jobs if job.output]
            for result in translate_files(opened_model, jobs, TranslateOptions(), drawing=drawing):
                if result.error is not None:
                    raise result.error

    return Work(run, pieces=len(pictures))


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    """What is measured."""
    shared = {"model": options.model, "channels": options.channels, "device": options.device}
    with tempfile.TemporaryDirectory() as name:
        folder = options.pictures or Path(name)
        if options.pictures is None:
            make_pictures(folder, 20)
        found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        pictures = list(itertools.islice(itertools.cycle(found), options.files))
        candidates = [
            Candidate(way, "benchmarks.attention:work", {**shared, "way": way, "pictures": pictures}) for way in WAYS
        ]
        yield compare(
            f"A picture of {options.files}, from disk to disk",
            candidates,
            rounds=options.rounds,
            warmup=options.warmup,
        )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_line(__doc__, rounds=3, warmup=1)
    parser.add_argument("--model", default="flat2clay")
    parser.add_argument("--channels", type=int, help="an untrained light model at 256 px instead")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--files", type=int, default=200)
    return parser


if __name__ == "__main__":
    options = parser().parse_args()
    write("attention", comparisons(options), device=options.device)

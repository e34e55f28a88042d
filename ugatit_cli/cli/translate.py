"""`ugatit translate`: pictures and folders of pictures through a model."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.options import (
    FORMATS,
    DeviceOption,
    DirectionOption,
    DryRunOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    ToOption,
    parse_colour,
    parse_count,
    parse_tile,
)
from ugatit_cli.config import Direction, Fit, ModelConfig
from ugatit_cli.errors import InputsFailed, Interrupted, OutputError, PictureError, StorageError, UsageError

if TYPE_CHECKING:
    from ugatit_cli.inputs import Job, Plan
    from ugatit_cli.model import Model
    from ugatit_cli.pipeline import Result, TranslateOptions

MOST_BATCH = 1024
MOST_WORKERS = 64
SHOWN = 3


def translate(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Pictures, folders, globs, or - for stdin.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Folder for the results, or a file for a single picture."),
    ] = None,
    model: ModelOption = "flat2clay",
    direction: DirectionOption = None,
    to: ToOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: Annotated[str, typer.Option(metavar="auto|N", help="Pictures per forward pass.")] = "auto",
    workers: Annotated[str, typer.Option(metavar="auto|N", help="Threads that decode and encode.")] = "auto",
    size: Annotated[
        str, typer.Option(metavar="SIZE", help="Size of the results: same, model, N (short side) or WxH.")
    ] = "same",
    fit: Annotated[
        Fit,
        typer.Option(
            help="How pictures meet the network: aspect (short side at the model's size), native (own resolution), "
            "squash (the paper's square)."
        ),
    ] = "aspect",
    tile: Annotated[
        str,
        typer.Option(
            metavar="auto|off|N",
            help="Overlapping tiles of N pixels; auto: for native pictures above 2.3 MP.",
        ),
    ] = "auto",
    background: Annotated[
        str, typer.Option(metavar="COLOUR", help="Colour behind transparent pixels while translating.")
    ] = "white",
    format: Annotated[FORMATS, typer.Option(help="File format of the results.")] = "same",
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="For jpg and webp.  [default: 95 and 90]", show_default=False),
    ] = None,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave results that exist already.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist already.")] = False,
    dry_run: DryRunOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Translate pictures, or whole folders, to the other domain.

    Results keep their picture's name, size, transparency and animation; folders are mirrored.

    **Examples**

    `ugatit translate icon.png -o clay.png`

    `ugatit translate ./selfies --model selfie2anime -o out/`

    `ugatit translate photos/ "more/*.jpg" --to anime --model runs/mine -o out/ --format webp --skip-existing`

    `cat icon.png | ugatit translate - > clay.png`
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    from ugatit_cli.geometry import SizeOptions, check_options
    from ugatit_cli.pipeline import TranslateOptions
    from ugatit_cli.weights.store import find_model

    if skip_existing and overwrite:
        raise UsageError("--skip-existing and --overwrite contradict each other")
    sizes = SizeOptions(fit, parse_tile(tile), size)
    colour = parse_colour(background)
    plan = _plan(inputs, output, format)
    _check_streams(plan.jobs, json_lines=json_lines)
    folder = find_model(model)
    check_options(folder.config, sizes)
    options = TranslateOptions(
        direction=resolve_direction(folder.config, direction, to),
        sizes=sizes,
        format=format,
        quality=quality,
        background=colour,
        batch_size=parse_count("--batch-size", batch_size, MOST_BATCH),
        workers=parse_count("--workers", workers, MOST_WORKERS) or default_workers(),
    )
    jobs, skipped = _without_existing(plan.jobs, skip_existing=skip_existing, overwrite=overwrite)
    report = _Report(json_lines=json_lines, total=len(jobs))
    for argument, reason in plan.missing:
        report.failed(argument, PictureError(f"{argument}: {reason}"))
    for job in skipped:
        report.skipped(job)
    if dry_run:
        report.planned(jobs)
    elif jobs:
        from ugatit_cli.model import Model

        _check_writable(jobs)
        ready = Model.from_folder(model, folder, device=device, precision=precision)
        _run(ready, jobs, options, report)
    report.finish(output)


def resolve_direction(config: ModelConfig, direction: Direction | None, to: str | None) -> Direction:
    """The direction from `--direction` and `--to`.

    Raises:
        UsageError: they contradict each other, or the model has no such domain.
    """
    if to is None:
        return direction or "a2b"
    named = config.direction_to(to)
    if direction not in (None, named):
        raise UsageError(f"--direction {direction} leads to {config.target(direction or 'a2b')!r}, --to says {to!r}")
    return named


def default_workers() -> int:
    """Decoding threads: as many as cores, within reason."""
    return max(2, min(8, os.cpu_count() or 2))


def _plan(inputs: list[str], output: Path | None, format: str) -> Plan:
    from ugatit_cli import encoding, images
    from ugatit_cli import inputs as planner

    plan = planner.plan(
        inputs, output, suffixes=images.SUFFIXES, rename=lambda source: encoding.result_suffix(source, format)
    )
    if not plan.jobs and not plan.missing:
        raise UsageError(
            f"no pictures in {', '.join(inputs)}",
            "Folders are searched for " + ", ".join(sorted(images.SUFFIXES)),
        )
    first = plan.jobs[0].output if plan.jobs else None
    if first is not None:
        # Only a file that the user named can have a suffix that isn't writable, or not the wanted one.
        written = encoding.format_of(first)
        if format != "same" and written != encoding.output_format("", format):
            raise UsageError(f"--format {format} contradicts the name {first.name}")
    return plan


def _check_streams(jobs: list[Job], *, json_lines: bool) -> None:
    """Standard output is for one thing, and nobody types a picture.

    Raises:
        UsageError: the picture would mix with JSON lines, or standard input is a terminal.
    """
    if json_lines and any(job.output is None for job in jobs):
        raise UsageError("--json and the picture can't both go to standard output", "Name a file for it: -o out.png")
    if any(job.source is None for job in jobs) and sys.stdin.isatty():
        raise UsageError("standard input (-) is a terminal", "Pipe a picture in: cat icon.png | ugatit translate -")


def _without_existing(jobs: list[Job], *, skip_existing: bool, overwrite: bool) -> tuple[list[Job], list[Job]]:
    """Jobs to do and jobs to skip.

    Raises:
        UsageError: results exist, and nobody said what to do with them.
    """
    from ugatit_cli.inputs import existing_outputs

    existing = [] if overwrite else existing_outputs(jobs)
    if existing and not skip_existing:
        names = ", ".join(str(path) for path in existing[:SHOWN]) + (", ..." if len(existing) > SHOWN else "")
        raise UsageError(
            f"{len(existing)} of {len(jobs)} results exist already: {names}",
            "Pass --skip-existing to leave them, or --overwrite to replace them.",
        )
    paths = set(existing)
    return [job for job in jobs if job.output not in paths], [job for job in jobs if job.output in paths]


def _check_writable(jobs: list[Job]) -> None:
    """Finds out before the model is loaded that nothing can be written."""
    first = jobs[0].output
    if first is None:
        return
    parent = first.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{parent}: can't be made: {error.strerror}", "Choose another output folder.") from None
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{parent}: permission denied", "Choose an output folder that you may write to.")


def _run(model: Model, jobs: list[Job], options: TranslateOptions, report: _Report) -> None:
    from ugatit_cli.device import describe_device
    from ugatit_cli.pipeline import translate_files

    config = model.config
    way = f"{config.source(options.direction)} -> {config.target(options.direction)}"
    console.note(
        f"model {model.name} ({way}), device {describe_device(model.device)}, precision {model.precision}, "
        f"{len(jobs)} file{'s' if len(jobs) != 1 else ''}"
    )
    with (
        console.interruptible() as stop,
        console.progress(len(jobs)) as progress,
        contextlib.closing(translate_files(model, jobs, options, stop=stop)) as results,
    ):
        for result in results:
            report.add(result)
            progress.advance()
        report.interrupted = stop.is_set() and not report.disk_full


@dataclass
class _Report:
    """Counts results and says them: paths or JSON on stdout, errors on stderr."""

    json_lines: bool
    total: int
    done: int = 0
    left_alone: int = 0
    errors: int = 0
    disk_full: bool = False
    interrupted: bool = False
    start: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        if result.error is not None:
            self.disk_full |= isinstance(result.error, StorageError)
            self.failed(result.job.name, result.error)
            return
        self.done += 1
        if result.data is not None:
            sys.stdout.buffer.write(result.data)
            sys.stdout.buffer.flush()
            return
        width, height = result.size or (0, 0)
        self._say(result.job, width=width, height=height, milliseconds=round(result.seconds * 1000, 1))

    def failed(self, name: str, error: PictureError | Any) -> None:
        self.errors += 1
        console.show_error(error)
        if self.json_lines:
            console.result(json.dumps({"input": name, "error": error.message, "hint": error.hint}))

    def skipped(self, job: Job) -> None:
        self.left_alone += 1
        self._say(job, skipped=True)

    def planned(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if self.json_lines:
                self._say(job, planned=True)
            else:
                console.result(f"{job.name} -> {job.output or '<stdout>'}")

    def _say(self, job: Job, **values: object) -> None:
        if self.json_lines:
            console.result(json.dumps({"input": job.name, "output": str(job.output), **values}))
        elif not sys.stdout.isatty() and not values.get("skipped"):
            console.result(str(job.output))

    def finish(self, output: Path | None) -> None:
        """The summary, and the exit code as an exception."""
        if self.done or self.left_alone:
            seconds = time.monotonic() - self.start
            skipped = f", {self.left_alone} skipped" if self.left_alone else ""
            place = "<stdout>" if output in (None, Path("-")) else output
            console.note(f"{self.done} translated{skipped} in {seconds:.1f} s -> {place}")
        if self.interrupted:
            raise Interrupted("interrupted; everything finished so far is kept", "Go on with --skip-existing.")
        if self.disk_full:
            raise InputsFailed(
                f"stopped: {self.total - self.done} of {self.total} files are not done",
                "Once there is space, go on with --skip-existing.",
            )
        if self.errors:
            raise InputsFailed(f"{self.errors} input{'s' if self.errors > 1 else ''} failed, named above")

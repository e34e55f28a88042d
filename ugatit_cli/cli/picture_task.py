"""Commands that send pictures through a model: what they have in common, from arguments to the closing line."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ugatit_cli.cli import batch, console, transfers
from ugatit_cli.cli.options import (
    MOST_BATCH,
    MOST_WORKERS,
    default_workers,
    parse_colour,
    parse_count,
    parse_tile,
)
from ugatit_cli.config import Direction, Fit, ModelConfig
from ugatit_cli.errors import PictureError, UsageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Sequence

    from ugatit_cli.checkpoint import ModelFolder
    from ugatit_cli.cli.report_page import ReportPage
    from ugatit_cli.drawing import Drawing
    from ugatit_cli.inputs import Job, Plan
    from ugatit_cli.model import Model
    from ugatit_cli.pipeline import Result, TranslateOptions


@dataclass(frozen=True)
class Request:
    """What the user asked for, as options give it."""

    inputs: list[str]
    output: Path | None
    model: str
    direction: Direction | None
    to: str | None
    device: str
    precision: str
    batch_size: str
    workers: str
    size: str
    fit: Fit
    tile: str
    background: str
    format: str
    quality: int | None
    skip_existing: bool
    overwrite: bool
    dry_run: bool
    json_lines: bool
    report: Path | None
    first_only: bool = False

    @property
    def page(self) -> Path | None:
        """Where the report goes."""
        return self.report and self.report.expanduser()


class Task:
    """What is made of the pictures: translations.

    Attributes:
        command: its name.
        verb: what the closing line says of them.
    """

    command = "translate"
    verb = "translated"

    def __init__(self, request: Request) -> None:
        self.request = request

    def suffix(self, source: Path) -> str:
        """The ending of a source's result."""
        from ugatit_cli import encoding

        return encoding.result_suffix(source, self.request.format)

    def check(self, jobs: Sequence[Job]) -> None:
        """Finds contradictions before the model is looked for.

        Raises:
            UsageError: there is one.
        """
        batch.check_format(list(jobs), self.request.format)

    def drawing(self, folder: ModelFolder, direction: Direction) -> Drawing:  # noqa: ARG002
        """What is drawn.

        Raises:
            ModelError: the model can't do that.
        """
        from ugatit_cli.drawing import Translation

        return Translation()

    def results(
        self,
        model: Model,
        jobs: list[Job],
        options: TranslateOptions,
        drawing: Drawing,
        stop: threading.Event,
        advance: Callable[[], None],
    ) -> Generator[Result, None, None]:
        """Does the work, and says so at each of its `steps`."""
        from ugatit_cli.pipeline import translate_files

        with contextlib.closing(translate_files(model, jobs, options, drawing=drawing, stop=stop)) as results:
            for result in results:
                yield result
                advance()

    def steps(self, jobs: Sequence[Job]) -> tuple[int, str]:
        """How many there are, and of what."""
        return len(jobs), "files"

    def skipping(self, drawing: Drawing, skipped: int) -> None:
        """What to say of results that exist already."""

    def finished(self, report: batch.Report) -> None:
        """Has the last word before the closing line."""


def run(task: Task) -> None:
    """Does what the user asked for.

    Raises:
        UgatitError: it can't be done, or not for all pictures.
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    from ugatit_cli.cli.report_page import free_path, open_page

    request = task.request
    plan, options, folder = _prepared(task)
    drawing = task.drawing(folder, options.direction)
    placed = [_placed(job, drawing) for job in plan.jobs]
    batch.check_sources(placed)
    jobs, skipped = batch.without_existing(placed, skip_existing=request.skip_existing, overwrite=request.overwrite)
    report = batch.Report(json_lines=request.json_lines, total=len(jobs), verb=task.verb)
    if drawing.spans is not None:
        report.resume = "run it again with --overwrite: one scale needs all pictures"
    for argument, reason in plan.missing:
        report.failed(argument, _missing(argument, reason))
    for job in skipped:
        report.skipped(job)
    task.skipping(drawing, len(skipped))
    if request.dry_run:
        report.planned(jobs)
    elif jobs:
        batch.check_writable(jobs)
        path = free_path(request.page, overwrite=request.overwrite)
        if path is not None:
            batch.check_folder(path.parent)
        with open_page(path, task.command, folder, options, request.model, drawing) as page:
            page.failures += [(argument, _missing(argument, reason)) for argument, reason in plan.missing]
            _through_model(task, folder, jobs, options, report, page)
        task.finished(report)
        report.page_failed = page.broken
    elif request.page is not None:
        console.note(f"report: {request.page} is not written, there is nothing to show")
    report.finish(request.output)


def _placed(job: Job, drawing: Drawing) -> Job:
    """The job with all files of its result."""
    if job.output is None:
        return job
    first, *more = drawing.outputs(job.output)
    return replace(job, output=first, several=(first, *more) if more else ())


def _missing(argument: str, reason: str) -> PictureError:
    return PictureError(f"{argument}: {reason}")


def _prepared(task: Task) -> tuple[Plan, TranslateOptions, ModelFolder]:
    """Everything that can be said before the networks are loaded."""
    from ugatit_cli.cli.report_page import check_path
    from ugatit_cli.drawing import FileOptions
    from ugatit_cli.geometry import SizeOptions, check_options
    from ugatit_cli.pipeline import TranslateOptions

    request = task.request
    if request.skip_existing and request.overwrite:
        raise UsageError("--skip-existing and --overwrite contradict each other")
    sizes = SizeOptions(request.fit, parse_tile(request.tile), request.size)
    files = FileOptions(request.format, request.quality, parse_colour(request.background))
    plan = batch.plan_jobs(request.inputs, request.output, task.suffix)
    batch.check_streams(plan.jobs, json_lines=request.json_lines)
    task.check(plan.jobs)
    check_path(request.page, replace=request.overwrite or request.skip_existing)
    folder = transfers.find_model(request.model)
    check_options(folder.config, sizes)
    options = TranslateOptions(
        direction=resolve_direction(folder.config, request.direction, request.to),
        sizes=sizes,
        files=files,
        batch_size=parse_count("--batch-size", request.batch_size, MOST_BATCH),
        workers=parse_count("--workers", request.workers, MOST_WORKERS) or default_workers(),
        first_only=request.first_only,
    )
    return plan, options, folder


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


def _through_model(
    task: Task,
    folder: ModelFolder,
    jobs: list[Job],
    options: TranslateOptions,
    report: batch.Report,
    page: ReportPage,
) -> None:
    from ugatit_cli.model import Model

    request = task.request
    model = Model.from_folder(request.model, folder, device=request.device, precision=request.precision)
    _announce(model, options.direction, len(jobs))
    page.begin(model)
    with (
        console.interruptible() as stop,
        console.progress(*task.steps(jobs)) as progress,
        contextlib.closing(task.results(model, jobs, options, page.drawing, stop, progress.advance)) as results,
    ):
        for result in results:
            report.add(result)
            page.add(result)
        report.interrupted = stop.is_set() and not report.disk_full
    page.finish(report)


def _announce(model: Model, direction: Literal["a2b", "b2a"], files: int) -> None:
    from ugatit_cli.device import describe_device

    way = f"{model.config.source(direction)} -> {model.config.target(direction)}"
    console.note(
        f"model {model.name} ({way}), device {describe_device(model.device)}, precision {model.precision}, "
        f"{files} file{'s' if files != 1 else ''}"
    )

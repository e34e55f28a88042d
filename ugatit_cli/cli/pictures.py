"""What commands that turn pictures into pictures share: their jobs, and the report on them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ugatit_cli.cli import console
from ugatit_cli.cli.options import MOST_BATCH, MOST_WORKERS, default_workers, parse_colour, parse_count, parse_tile
from ugatit_cli.config import Direction, Fit, ModelConfig
from ugatit_cli.errors import (
    InputsFailed,
    Interrupted,
    OutputError,
    PictureError,
    StorageError,
    UgatitError,
    UsageError,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Sequence

    from ugatit_cli.config import MapName
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.outputs.report import Entry, Header, ReportWriter
    from ugatit_cli.pictures.jobs import Job
    from ugatit_cli.translation.model import Model
    from ugatit_cli.translation.pipeline import Result, TranslateOptions
    from ugatit_cli.weights.folder import ModelFolder


# How many names a message lists.
SHOWN = 3


def check_format(jobs: list[Job], format: str) -> None:
    """Only a file that the user named can have a suffix that isn't writable, or not the wanted one.

    Raises:
        UsageError: it has.
    """
    from ugatit_cli.pictures import encoding

    first = jobs[0].output if jobs else None
    if first is not None:
        written = encoding.format_of(first)
        if format != "same" and written != encoding.output_format("", format):
            raise UsageError(f"--format {format} contradicts the name {first.name}")


def check_sources(jobs: list[Job]) -> None:
    """Results of several files each have names that the planner doesn't know.

    Raises:
        UsageError: one of them is an input.
    """
    sources = {os.path.realpath(job.source): job.source for job in jobs if job.source}
    for job in jobs:
        for path in job.several:
            if (source := sources.get(os.path.realpath(path))) is not None:
                raise UsageError(
                    f"the result {path} of {job.name} would overwrite the input {source}",
                    "Give another output (-o results).",
                )


def check_streams(jobs: list[Job], *, json_lines: bool) -> None:
    """Standard output is for one thing, and nobody types a picture.

    Raises:
        UsageError: the picture would mix with JSON lines, or standard input or output is a terminal.
    """
    if json_lines and any(job.output is None for job in jobs):
        raise UsageError("--json and the picture can't both go to standard output", "Name a file for it: -o out.png")
    if any(job.output is None for job in jobs) and sys.stdout.isatty():
        raise UsageError("standard output is a terminal", "Name a file for the picture: -o out.png")
    if any(job.source is None for job in jobs) and sys.stdin.isatty():
        raise UsageError("standard input (-) is a terminal", "Pipe a picture in: cat icon.png | ugatit ... -")


def without_existing(jobs: list[Job], *, skip_existing: bool, overwrite: bool) -> tuple[list[Job], list[Job]]:
    """Jobs to do and jobs to skip.

    Raises:
        UsageError: results exist, and nobody said what to do with them.
    """
    from ugatit_cli.pictures.jobs import existing_outputs

    existing = [] if overwrite else existing_outputs(jobs)
    files = sum(len(job.outputs) for job in jobs)
    if existing and not skip_existing:
        names = ", ".join(str(path) for path in existing[:SHOWN]) + (", ..." if len(existing) > SHOWN else "")
        raise UsageError(
            f"{len(existing)} of {files} results exist already: {names}",
            "Pass --skip-existing to leave them, or --overwrite to replace them.",
        )
    paths = set(existing)
    jobs = [replace(job, kept=tuple(path for path in job.outputs if path in paths)) for job in jobs]
    complete = [bool(job.outputs) and paths.issuperset(job.outputs) for job in jobs]
    pairs = list(zip(jobs, complete, strict=True))
    return [job for job, there in pairs if not there], [job for job, there in pairs if there]


def check_writable(jobs: list[Job]) -> None:
    """Finds out before the model is loaded that nothing can be written.

    Raises:
        OutputError: so it is.
    """
    if jobs[0].outputs:
        check_folder(jobs[0].outputs[0].parent)


def check_folder(folder: Path) -> None:
    """Makes a folder.

    Raises:
        OutputError: it can't be made, or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't be made: {error.strerror}", "Choose another output folder.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: permission denied", "Choose an output folder that you may write to.")


@dataclass
class Report:
    """Counts results and says them: paths or JSON on stdout, errors on stderr.

    Attributes:
        total: how many are expected.
        verb: what the command does with pictures.
        animations: how many results have several frames.
        resume: how to go on after an interruption.
        page_failed: whether the report could not be written.
    """

    json_lines: bool
    total: int
    verb: str = "translated"
    animations: int = 0
    resume: str = "go on with --skip-existing"
    page_failed: bool = False
    done: int = 0
    left_alone: int = 0
    errors: int = 0
    disk_full: bool = False
    interrupted: bool = False
    start: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        """One more file is done, or failed."""
        if result.error is not None:
            self.disk_full |= isinstance(result.error, StorageError)
            self.failed(result.job.name, result.error)
            return
        self.done += 1
        self.animations += result.frames > 1
        for note in result.notes:
            console.note(f"{result.job.name}: {note}")
        for name in result.flat:
            console.note(f"{result.job.name}: the {name} attention is flat: the same everywhere")
        if result.data is not None:
            console.result_bytes(result.data)
            return
        width, height = result.size or (0, 0)
        flat = {"flat": list(result.flat)} if result.flat else {}
        self._say(result.job, width=width, height=height, milliseconds=round(result.seconds * 1000, 1), **flat)

    def failed(self, name: str, error: UgatitError) -> None:
        """An input that gives no result."""
        self.errors += 1
        console.show_error(error)
        if self.json_lines:
            console.result(json.dumps({"input": name, "error": error.message, "hint": error.hint}))

    def skipped(self, job: Job) -> None:
        """A result that exists already."""
        self.left_alone += 1
        self._say(job, skipped=True)

    def planned(self, jobs: Iterable[Job]) -> None:
        """What a dry run says."""
        for job in jobs:
            if self.json_lines:
                self._say(job, planned=True)
            else:
                for path in job.outputs or ("<stdout>",):
                    console.result(f"{job.name} -> {path}")

    def _say(self, job: Job, **values: object) -> None:
        if self.json_lines:
            several = {"outputs": [str(path) for path in job.several]} if job.several else {}
            output = str(job.outputs[0]) if job.outputs else str(job.output)
            console.result(json.dumps({"input": job.name, "output": output, **several, **values}))
        elif not sys.stdout.isatty() and not values.get("skipped"):
            for path in job.outputs:
                console.result(str(path))

    def summary(self) -> str:
        """What became of the inputs, in a line."""
        seconds = time.monotonic() - self.start
        skipped = f", {self.left_alone} skipped" if self.left_alone else ""
        failed = f", {self.errors} failed" if self.errors else ""
        return f"{self.done} {self.verb}{skipped}{failed} in {seconds:.1f} s"

    def finish(self, output: Path | None) -> None:
        """The summary, and the exit code as an exception."""
        if self.done or self.left_alone:
            place = "<stdout>" if output in (None, Path("-")) else output
            console.note(f"{self.summary()} -> {place}")
        if self.interrupted:
            hint = f"{self.resume[0].upper()}{self.resume[1:]}."
            raise Interrupted("interrupted; everything finished so far is kept", hint)
        if self.disk_full:
            raise InputsFailed(
                f"stopped: {self.total - self.done} of {self.total} files are not done",
                f"Once there is space, {self.resume}.",
            )
        if self.errors:
            raise InputsFailed(f"{self.errors} input{'s' if self.errors > 1 else ''} failed, named above")
        if self.page_failed:
            raise InputsFailed("the report could not be written, see above; the results are complete")


SUFFIXES = (".html", ".htm")


def check_path(path: Path | None, *, replace: bool) -> None:
    """Finds out early that a report can't have this name.

    Raises:
        UsageError: it is not that of a page, or there is something already.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--report {path}: the report is a page", "Give it a name that ends in .html.")
    if path.is_dir():
        raise UsageError(f"--report {path}: is a folder", f"Name a file in it: {path / 'report.html'}")
    if path.exists() and not replace:
        raise UsageError(f"--report {path}: exists already", "Give another name, or pass --overwrite.")


def free_path(path: Path | None, *, overwrite: bool) -> Path | None:
    """The page's name, or the next free one (`report-2.html`) after a run that is gone on with."""
    if path is None or overwrite or not path.exists():
        return path
    names = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(name for name in names if not name.exists())


class ReportPage:
    """The report of one command; nothing where none was asked for.

    Attributes:
        drawing: what the command draws, with previews for the page.
        broken: whether it could not be written.
    """

    def __init__(self, path: Path | None, drawing: Drawing) -> None:
        self.path = path
        self.drawing = drawing
        self.failures: list[tuple[str, UgatitError]] = []
        self.writer: ReportWriter | None = None
        self.header: Header | None = None
        self.broken = False

    def begin(self, model: Model) -> None:
        """The networks are loaded."""
        from ugatit_cli.device import describe_device
        from ugatit_cli.outputs.report import ReportWriter

        if self.path is None or self.header is None:
            return
        self.header = _with_facts(self.header, device=describe_device(model.device), precision=model.precision)
        self.writer = ReportWriter(self.path, self.header)
        for name, error in self.failures:
            self.failed(name, error)

    def failed(self, name: str, error: UgatitError) -> None:
        """An input that gives no result."""
        from ugatit_cli.outputs.report import Entry

        self._add(Entry(name, error=error))

    def add(self, result: Result) -> None:
        """One more file is done, or failed."""
        from ugatit_cli.outputs.report import Entry

        if result.error is not None:
            self.failed(result.job.name, result.error)
        if result.preview is None:
            return
        output = ", ".join(str(path) for path in result.job.outputs) or "<stdout>"
        self._add(Entry(result.job.name, output, result.preview, result.size or (0, 0), result.seconds))

    def _add(self, entry: Entry) -> None:
        with self._giving_up() as writer:
            if writer is not None:
                writer.add(entry)

    def finish(self, report: Report) -> None:
        """Writes the page."""
        with self._giving_up() as writer:
            if writer is not None:
                writer.finish(report.summary())
                console.note(f"report: {self.path}")

    @contextmanager
    def _giving_up(self) -> Iterator[ReportWriter | None]:
        """Leaves the page where it can't be written: the pictures matter more."""
        try:
            yield self.writer
        except OutputError as error:
            console.show_error(error)
            self.discard()
            self.broken, self.writer = True, None

    def discard(self) -> None:
        """Leaves nothing of a page that isn't finished."""
        if self.writer is not None:
            self.writer.discard()


@contextmanager
def open_page(
    path: Path | None, command: str, folder: ModelFolder, options: TranslateOptions, name: str, drawing: Drawing
) -> Iterator[ReportPage]:
    """A page for a command's results."""
    page = ReportPage(path, drawing)
    if path is not None:
        _prepare(page, command, folder, options, name)
    try:
        yield page
    finally:
        page.discard()


def _prepare(page: ReportPage, command: str, folder: ModelFolder, options: TranslateOptions, name: str) -> None:
    from ugatit_cli.attention import style as style_module
    from ugatit_cli.outputs import report as report_module
    from ugatit_cli.outputs.report import Header

    config, drawing, direction = folder.config, page.drawing, options.direction
    maps: tuple[MapName, ...] = drawing.maps or (("generator",) if config.generator_cam else ())
    style = getattr(drawing, "style", None) or style_module.Style()
    subject = style_module.Subject(name, config, direction)
    page.drawing = report_module.Previewed(drawing, subject, maps, style)
    source, target = config.source(direction), config.target(direction)
    missing = style_module.missing_text(config, discriminators=folder.discriminators is not None)
    page.header = Header(
        title=f"{source} → {target}",
        before=source,
        after=target,
        facts={"Model": name, "Command": f"ugatit {command}", "Fit": options.sizes.fit, "Colours": style.colormap},
        provenance=folder.provenance,
        legend=style_module.legend(style, drawing.spans, maps) if maps else None,
        missing=missing.replace("`", ""),
    )


def _with_facts(header: Header, **facts: str) -> Header:
    from dataclasses import replace

    named = {name.capitalize(): value for name, value in facts.items()}
    return replace(header, facts={**header.facts, **named})


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
        from ugatit_cli.pictures import encoding

        return encoding.result_suffix(source, self.request.format)

    def check(self, jobs: Sequence[Job]) -> None:
        """Finds contradictions before the model is looked for.

        Raises:
            UsageError: there is one.
        """
        check_format(list(jobs), self.request.format)

    def drawing(self, folder: ModelFolder, direction: Direction) -> Drawing:  # noqa: ARG002
        """What is drawn.

        Raises:
            ModelError: the model can't do that.
        """
        from ugatit_cli.outputs.base import Translation

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
        from ugatit_cli.translation.pipeline import translate_files

        with contextlib.closing(translate_files(model, jobs, options, drawing=drawing, stop=stop)) as results:
            for result in results:
                yield result
                advance()

    def steps(self, jobs: Sequence[Job]) -> tuple[int, str]:
        """How many there are, and of what."""
        return len(jobs), "files"

    def skipping(self, drawing: Drawing, skipped: int) -> None:
        """What to say of results that exist already."""

    def finished(self, report: Report) -> None:
        """Has the last word before the closing line."""


def run(task: Task) -> None:
    """Does what the user asked for.

    Raises:
        UgatitError: it can't be done, or not for all pictures.
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")

    request = task.request
    found, missing, options, folder = _prepared(task)
    drawing = task.drawing(folder, options.direction)
    placed = [_placed(job, drawing) for job in found]
    check_sources(placed)
    jobs, skipped = without_existing(placed, skip_existing=request.skip_existing, overwrite=request.overwrite)
    report = Report(json_lines=request.json_lines, total=len(jobs), verb=task.verb)
    if drawing.spans is not None:
        report.resume = "run it again with --overwrite: one scale needs all pictures"
    for argument, reason in missing:
        report.failed(argument, _missing(argument, reason))
    for job in skipped:
        report.skipped(job)
    task.skipping(drawing, len(skipped))
    if request.dry_run:
        report.planned(jobs)
    elif jobs:
        check_writable(jobs)
        path = free_path(request.page, overwrite=request.overwrite)
        if path is not None:
            check_folder(path.parent)
        with open_page(path, task.command, folder, options, request.model, drawing) as page:
            page.failures += [(argument, _missing(argument, reason)) for argument, reason in missing]
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


def _prepared(task: Task) -> tuple[list[Job], list[tuple[str, str]], TranslateOptions, ModelFolder]:
    """Everything that can be said before the networks are loaded."""
    from ugatit_cli.outputs.base import FileOptions
    from ugatit_cli.pictures import reading
    from ugatit_cli.pictures.geometry import SizeOptions, check_options
    from ugatit_cli.pictures.jobs import find_jobs
    from ugatit_cli.translation.pipeline import TranslateOptions

    request = task.request
    if request.skip_existing and request.overwrite:
        raise UsageError("--skip-existing and --overwrite contradict each other")
    sizes = SizeOptions(request.fit, parse_tile(request.tile), request.size)
    files = FileOptions(request.format, request.quality, parse_colour(request.background))
    jobs, missing = find_jobs(request.inputs, request.output, suffixes=reading.SUFFIXES, rename=task.suffix)
    check_streams(jobs, json_lines=request.json_lines)
    task.check(jobs)
    check_path(request.page, replace=request.overwrite or request.skip_existing)
    folder = console.find_model(request.model)
    check_options(folder.config, sizes)
    options = TranslateOptions(
        direction=resolve_direction(folder.config, request.direction, request.to),
        sizes=sizes,
        files=files,
        batch_size=parse_count("--batch-size", request.batch_size, MOST_BATCH),
        workers=parse_count("--workers", request.workers, MOST_WORKERS) or default_workers(),
        first_only=request.first_only,
    )
    return jobs, missing, options, folder


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
    report: Report,
    page: ReportPage,
) -> None:
    from ugatit_cli.translation.model import Model

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

"""`--report`: what the commands tell the report of their pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import batch, console
from ugatit_cli.errors import OutputError, UgatitError, UsageError

if TYPE_CHECKING:
    from ugatit_cli.checkpoint import ModelFolder
    from ugatit_cli.config import MapName
    from ugatit_cli.drawing import Drawing
    from ugatit_cli.model import Model
    from ugatit_cli.pipeline import Result, TranslateOptions
    from ugatit_cli.report import Entry, Header, ReportWriter

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
        from ugatit_cli.report import ReportWriter

        if self.path is None or self.header is None:
            return
        self.header = _with_facts(self.header, device=describe_device(model.device), precision=model.precision)
        self.writer = ReportWriter(self.path, self.header)
        for name, error in self.failures:
            self.failed(name, error)

    def failed(self, name: str, error: UgatitError) -> None:
        """An input that gives no result."""
        from ugatit_cli.report import Entry

        self._add(Entry(name, error=error.message, hint=error.hint or ""))

    def add(self, result: Result) -> None:
        """One more file is done, or failed."""
        from ugatit_cli.report import Entry

        if result.error is not None:
            self.failed(result.job.name, result.error)
        if result.preview is None:
            return
        frames = result.preview.frames
        entry = Entry(
            result.job.name,
            ", ".join(str(path) for path in result.job.outputs) or "<stdout>",
            result.preview.before,
            result.preview.after,
            result.size or (0, 0),
            result.seconds * 1000,
            result.preview.layers,
            f"An animation of {frames} frames; the first one is shown." if frames > 1 else "",
        )
        self._add(entry)

    def _add(self, entry: Entry) -> None:
        with self._giving_up() as writer:
            if writer is not None:
                writer.add(entry)

    def finish(self, report: batch.Report) -> None:
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
    from ugatit_cli import attention_words, previews
    from ugatit_cli.report import Header

    config, drawing, direction = folder.config, page.drawing, options.direction
    maps: tuple[MapName, ...] = drawing.maps or (("generator",) if config.generator_cam else ())
    style = getattr(drawing, "style", None) or attention_words.Style()
    subject = attention_words.Subject(name, config, direction)
    page.drawing = previews.Previewed(drawing, subject, maps, style)
    source, target = config.source(direction), config.target(direction)
    missing = attention_words.missing_text(config, discriminators=folder.discriminators is not None)
    page.header = Header(
        title=f"{source} → {target}",
        before=source,
        after=target,
        facts={"Model": name, "Command": f"ugatit {command}", "Fit": options.sizes.fit, "Colours": style.colormap},
        provenance=folder.provenance,
        scale=previews.scale_of(style, drawing.spans, maps) if maps else None,
        missing=missing.replace("`", ""),
    )


def _with_facts(header: Header, **facts: str) -> Header:
    from dataclasses import replace

    named = {name.capitalize(): value for name, value in facts.items()}
    return replace(header, facts={**header.facts, **named})

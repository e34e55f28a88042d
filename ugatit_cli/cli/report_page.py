"""The report of a command that turns pictures into pictures: what `--report` asks for."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ugatit_cli.cli import console, ranks
from ugatit_cli.cli.shards import Shard
from ugatit_cli.errors import OutputError, UgatitError, UsageError
from ugatit_cli.files import expanded

if TYPE_CHECKING:
    from ugatit_cli.attention.maps import Style
    from ugatit_cli.cli.existing import Existing
    from ugatit_cli.cli.options import PictureOptions
    from ugatit_cli.cli.pictures import Prepared
    from ugatit_cli.config import MapName
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.outputs.report import Header, ReportWriter
    from ugatit_cli.pictures.jobs import Job
    from ugatit_cli.translation.engine import Engine
    from ugatit_cli.translation.pipeline import Result


T = TypeVar("T")


def page_path(options: PictureOptions) -> Path | None:
    """Where the report goes, if nothing is there that it must not replace."""
    if options.report is None:
        if options.report_title is not None:
            raise UsageError("--report-title is that of a page", "Name it: --report page.html")
        return None
    path = Shard.parse(options.shard).page(expanded(options.report))
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {path}: the report is a page", "Give it a name that ends in .html.")
    if path.is_dir():
        raise UsageError(f"--report {path}: is a folder", f"Name a file in it: {path / 'report.html'}")
    if not ranks.is_first():  # the first process has the page; another one makes previews for it
        return ranks.nowhere() / path.name
    if path.exists() and not (options.overwrite or options.skip_existing or options.update):
        raise UsageError(f"--report {path}: exists already", "Give another name, or pass --overwrite.")
    return path


def free_page(path: Path, existing: Existing) -> Path:
    """The next free name (`report-2.html`) after a run that is gone on with, and beside processes that share it."""
    if existing.options.overwrite:
        return path
    further = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    names = itertools.chain([path], further)
    return next(name for name in names if existing.sources.claim(name) and not name.exists())


class ReportPage:
    """The report of one command, in which one model after the other says what it has made.

    Where none was asked for it does nothing, and nothing of it is imported.

    Args:
        path: where the page goes; None: nowhere.
        title: of the page; empty: the domains.
        models: how many are compared in it.
    """

    def __init__(self, path: Path | None, title: str = "", models: int = 1) -> None:
        self.path = path
        self.broken = False
        self._empty = True
        self._title = title
        self._models = models
        self._writer: ReportWriter | None = None

    def begin(self, command: str, model: Engine, prepared: Prepared, drawing: Drawing, label: str = "") -> Drawing:
        """What is added from now on is of this model.

        Args:
            label: what readers see of the model.

        Returns:
            The drawing, which makes previews for the page, too.
        """
        if self.path is None or self.broken:
            return drawing
        from ugatit_cli.attention.maps import Style
        from ugatit_cli.attention.words import Subject
        from ugatit_cli.outputs.report import Previewed, ReportWriter

        whole, none = prepared.translating.regions is None, "generator" in model.missing_maps
        maps: tuple[MapName, ...] = drawing.maps or (("generator",) if whole and not none else ())
        style = getattr(drawing, "style", None) or Style()
        if self._writer is None:
            self._writer = ReportWriter(self.path, self._title, self._models)
        self._writer.begin(_header(command, model, prepared, drawing, _last(label or model.name), maps, style))
        subject = Subject(model.name, model.config, prepared.translating.direction)
        return Previewed(drawing, subject, maps, style)

    def add(
        self, name: str, error: UgatitError | None = None, result: Result | None = None, job: Job | None = None
    ) -> None:
        """One more input gave a result, or an error."""
        if self._writer is None:
            return
        from ugatit_cli.outputs.report import Entry

        self._empty = False
        shown = job.key if job and job.key and Path(name).is_absolute() else _last(name)
        if error is not None:
            self._write(self._writer.add, Entry(shown, error=_without(error, name, shown), key=name))
        elif result is not None and result.preview is not None:
            files = [self._below(str(path)) for path in result.job.outputs] or ["<stdout>"]
            styles = (result.preview.after, *result.preview.others)
            outputs = files if len(styles) > 1 else [", ".join(files)]
            for number, (after, output) in enumerate(zip(styles, outputs, strict=True), 1):
                preview, style = replace(result.preview, after=after, others=()), number if len(styles) > 1 else 0
                seconds = result.seconds / len(styles)
                entry = Entry(shown, output, preview, result.size or (0, 0), seconds, key=name, style=style)
                self._write(self._writer.add, entry)

    def _below(self, output: str) -> str:
        """A result's path from the page, or its name."""
        assert self.path is not None
        path, folder = Path(output), self.path.absolute().parent
        within = path.is_absolute() and path.is_relative_to(folder)
        return str(path.relative_to(folder)) if within else _last(output)

    def finish(self, summary: str) -> None:
        """Writes the page, if there is anything to show."""
        if self._empty and self.path is not None:
            console.note(f"report: {self.path} is not written, there is nothing to show")
        elif self._writer is not None and self._write(self._writer.finish, summary):
            console.note(f"report: {self.path}")

    def close(self) -> None:
        """Leaves nothing of a page that isn't finished."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, step: Callable[[T], None], what: T) -> bool:
        """Gives the page up where it can't be written: the pictures matter more."""
        try:
            step(what)
        except OutputError as error:
            console.show_error(error)
            self.close()
            self.broken, self._writer = True, None
        return not self.broken


def _last(name: str) -> str:
    """The name alone of a path that tells where it is on somebody's disk."""
    return Path(name).name if Path(name).is_absolute() else name


def _without(error: UgatitError, path: str, name: str) -> UgatitError:
    """The same error, with a name instead of a path."""
    same = copy.copy(error)
    same.message, same.hint = error.message.replace(path, name), error.hint.replace(path, name)
    return same


def _header(
    command: str,
    model: Engine,
    prepared: Prepared,
    drawing: Drawing,
    label: str,
    maps: tuple[MapName, ...],
    style: Style,
) -> Header:
    """What the page says of a model."""
    from ugatit_cli.attention.words import legend, missing_text
    from ugatit_cli.outputs.report import Header

    config, options = model.config, prepared.translating
    whole = options.regions is None
    return Header(
        label,
        config.source(options.direction),
        config.target(options.direction),
        facts={
            "Model": _last(model.name),
            "Network": f"{config.summary}, {config.pair}",
            "Command": f"ugatit {command}",
            "Fit": options.sizes.fit,
            **({"Style": _last(str(prepared.style or f"random:{options.seed}"))} if config.style_size else {}),
            **({"Translated": f"each {options.regions.what}"} if options.regions else {}),
            **({"Strength": f"{options.look.strength:g}"} if options.look.strength < 1 else {}),
            **({"Colour": "the pictures' own"} if options.look.keep_colour else {}),
            **({"Metadata": "kept"} if options.files.keep_metadata else {}),
            **({"Colours": style.colormap} if maps else {}),
            "Device": model.place,
            "Precision": model.float_type,
        },
        provenance=model.provenance,
        legend=legend(style, drawing.spans, maps, masks=config.masks) if maps else None,
        missing=missing_text(model.missing_maps).replace("`", "") if whole else "",
    )

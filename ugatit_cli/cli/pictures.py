"""What commands that turn pictures into pictures share: their jobs, and how these are done."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ugatit_cli.cli import console, engines, ranks, report_page, signals, voice
from ugatit_cli.cli.existing import Existing
from ugatit_cli.cli.options import (
    MOST_BATCH,
    MOST_WORKERS,
    PictureOptions,
    default_workers,
    parse_count,
    parse_pixels,
)
from ugatit_cli.cli.shards import Shard
from ugatit_cli.cli.tally import Tally
from ugatit_cli.cli.work import Work
from ugatit_cli.errors import OutputError, PictureError, UgatitError, UsageError, plain_reason
from ugatit_cli.files import expanded
from ugatit_cli.films.codecs import CONTAINERS, SUFFIXES, FilmOptions, is_film
from ugatit_cli.leftovers import sweep_once
from ugatit_cli.remote.urls import Place, place

if TYPE_CHECKING:
    from ugatit_cli.cli.ranks import Ranks
    from ugatit_cli.cli.several import Series
    from ugatit_cli.config import BaseConfig, MapName
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.pictures.jobs import Found, Job
    from ugatit_cli.pictures.sources import Sources
    from ugatit_cli.training.run_folder import RunFolder
    from ugatit_cli.translation.engine import Engine
    from ugatit_cli.translation.pipeline import TranslateOptions


MOST_LISTED = 1 << 28  # bytes of a list of files
FEW = 10  # checkpoints that make an animation worth a look


def check_format(jobs: list[Job], format: str) -> None:
    """Only a file that the user named can have a suffix that isn't writable, or not the wanted one."""
    from ugatit_cli.pictures import encoding

    first = jobs[0].output if jobs and not is_film(jobs[0].source) else None
    if first is not None:
        written = encoding.format_of(first)
        if format != "same" and written != encoding.output_format("", format):
            raise UsageError(f"--format {format} contradicts the name {first.name}")


def _check_streams(jobs: list[Job], *, json_lines: bool) -> None:
    """Standard output is for one thing, and nobody types a picture."""
    if json_lines and any(job.output is None for job in jobs):
        raise UsageError("--json and the picture can't both go to standard output", "Name a file for it: -o out.png")
    if any(job.output is None for job in jobs) and sys.stdout.isatty():
        raise UsageError("standard output is a terminal", "Name a file for the picture: -o out.png")
    if any(job.source is None for job in jobs) and not sys.stdin.readable():
        raise UsageError("standard input (-) is closed", "Pipe a picture in: cat icon.png | ugatit ... -")
    if any(job.source is None for job in jobs) and sys.stdin.isatty():
        raise UsageError("standard input (-) is a terminal", "Pipe a picture in: cat icon.png | ugatit ... -")


@contextmanager
def _folders(jobs: list[Job], page: Path | None) -> Iterator[None]:
    """Makes the folders of the results and of the report; or finds out early, before a model is loaded.

    Those that are empty in the end are taken away again.
    """
    paths = [*jobs[0].outputs[:1], *([page] if page else [])]
    wanted = [path.parent for path in paths if isinstance(path, Path)]
    made = {place for folder in wanted for place in (folder, *folder.parents) if not place.exists()}
    try:
        for folder in wanted:
            _make_folder(folder)
        yield
    finally:
        for place in sorted(made, reverse=True):
            with contextlib.suppress(OSError):
                place.rmdir()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't be made: {error.strerror}", "Choose another output folder.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: permission denied", "Choose an output folder that you may write to.")


def find(
    options: PictureOptions,
    suffix: Callable[[Place], str] | None = None,
    named: Sequence[str] = (),
    whole: str = "",
) -> Found:
    """The pictures and where their results go, and what there isn't.

    Args:
        suffix: gives the ending of each result.
        named: endings of files that results of pictures can have, too, if the user says so.
        whole: the way to one file of several pictures, a sentence.
    """
    from ugatit_cli.cli import films
    from ugatit_cli.pictures import encoding, reading
    from ugatit_cli.pictures.jobs import Wanted, find_jobs

    given = {"--skip-existing": options.skip_existing, "--update": options.update, "--overwrite": options.overwrite}
    if sum(given.values()) > 1:
        raise UsageError(f"{' and '.join(name for name in given if given[name])} contradict each other")
    Shard.parse(options.shard)
    inputs = options.inputs or []
    if not inputs and options.files_from is None:
        raise UsageError("no INPUT", "Name pictures or folders, or a list of them with --files-from.")
    found = find_jobs(
        Wanted(
            inputs,
            options.output,
            suffixes=reading.SUFFIXES,
            writable=[*encoding.writable_suffixes(), *named],
            named=named,
            films=SUFFIXES,
            writable_films=CONTAINERS,
            scan_films=options.films,
            rename=films.rename(suffix or (lambda source: encoding.result_suffix(source, options.format))),
            listed=_listed(options.files_from, inputs),
            base=options.base,
            may_be_none=options.watches,
            whole=whole,
        )
    )
    films.check(found.jobs, options.codec)
    if "codec" in options.stated and options.codec != "auto" and not options.watches:
        films.require_one(found.jobs, f"--codec {options.codec}")
    _check_streams(found.jobs, json_lines=options.json_lines)
    return found


def _listed(files_from: str | None, inputs: list[str]) -> list[str]:
    """The names in the list that the user gave; a pipe is fine."""
    from ugatit_cli.pictures.jobs import listed

    if files_from is None:
        return []
    if files_from == "-" and ("-" in inputs or sys.stdin.isatty() or not sys.stdin.readable()):
        other = "the picture -" if "-" in inputs else "a terminal" if sys.stdin.isatty() else "closed"
        raise UsageError(
            f"--files-from -: standard input is {other}",
            "Pipe a list in (find photos -name '*.png' | ugatit ... --files-from -), or name a file.",
        )
    try:
        path = expanded(files_from)
        with contextlib.nullcontext(sys.stdin.buffer) if files_from == "-" else path.open("rb") as file:
            data = file.read(MOST_LISTED + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"--files-from {files_from}: {plain_reason(error)}", "Name a list of files.") from None
    if len(data) > MOST_LISTED:
        raise UsageError(f"--files-from {files_from}: larger than {MOST_LISTED:,} bytes", "Split the list.")
    return listed(data)


@dataclass(frozen=True)
class Prepared:
    """All that is known before the networks are loaded.

    Attributes:
        model: what the user calls it.
        config, missing_maps: the model's.
        open: gives the model, whose networks can then be loaded.
        style: the picture whose style all are translated in.
        films: how films are written.
    """

    options: PictureOptions
    found: Found
    page: Path | None
    model: str
    config: BaseConfig
    missing_maps: Mapping[MapName, str]
    open: Callable[[], Engine]
    translating: TranslateOptions
    style: Path | None = None
    films: FilmOptions = field(default_factory=FilmOptions)

    @property
    def missing(self) -> list[tuple[str, PictureError]]:
        """Why there is nothing of some arguments."""
        return [(name, PictureError(f"{name}: {reason}")) for name, reason in self.found.missing.items()]

    def sources(self) -> Sources:
        """What the results there were made of; a file that is named leaves no record but where one is needed."""
        from ugatit_cli.pictures.sources import Sources

        options, jobs = self.options, self.found.jobs
        if not self.found.named:
            return Sources(self.out if isinstance(self.out, Path) else Path(os.devnull), create=True)
        output = jobs[0].output
        folder = output.parent if isinstance(output, Path) else Path(os.devnull)
        return Sources(folder, create=isinstance(output, Path) and (options.skip_existing or options.update))

    @property
    def out(self) -> Place:
        """Where results go."""
        return place(self.options.output or "")


def prepare(options: PictureOptions, found: Found, model: str, *, first_only: bool = False) -> Prepared | None:
    """Finds the model, and whatever contradicts; with `first_only`, the first frame of animations is taken.

    Returns:
        None after a dry run of a model that isn't here: what would be fetched and made has been said.
    """
    from ugatit_cli.outputs.base import FileOptions
    from ugatit_cli.pictures.geometry import SizeOptions, as_colour, as_tile, check_options
    from ugatit_cli.translation.pipeline import TranslateOptions

    sizes = SizeOptions(options.fit, as_tile(options.tile, "--tile"), options.size)
    files = FileOptions(options.format, options.quality, as_colour(options.background, "--background"))
    batch_size = parse_count("--batch-size", options.batch_size, MOST_BATCH)
    workers = parse_count("--workers", options.workers, MOST_WORKERS) or default_workers()
    most = parse_pixels(options.max_pixels)
    page = report_page.page_path(options)
    if (chosen := engines.exported(options, model)) is None:
        if options.dry_run and _plan_download(options, found, model):
            return None
        chosen = engines.trained(options, model, len(found.jobs))
    sizes = replace(sizes, only=chosen.size)
    check_options(chosen.config, sizes)
    translating = TranslateOptions(chosen.direction, sizes, files, batch_size, workers, first_only, most)
    known, films = (model, chosen.config, chosen.missing_maps, chosen.open), FilmOptions(options.codec)
    return Prepared(options, found, page, *known, translating, films=films)


def _plan_download(options: PictureOptions, found: Found, model: str) -> bool:
    """Whether the model isn't here; it has been said then what would be downloaded."""
    from ugatit_cli.cli.fetch import download_size
    from ugatit_cli.weights import fetch

    with console.showing() as listener:
        if fetch.is_here(model, listener):
            return False
        files, notes = fetch.preview(model, listener)
    tally = Tally(json_lines=options.json_lines, total=len(found.jobs), model=model)
    for job in found.jobs:
        tally.planned(job)
    for file in files:
        console.note(f"to be fetched first: {file.name}")
    for text in [*notes, f"to download: {download_size(files)}; nothing was changed"]:
        console.note(text)
    return True


def run(
    prepared: Prepared,
    drawing: Drawing,
    *,
    command: str = "translate",
    verb: str = "translated",
    checkpoints: RunFolder | None = None,
    series: Series | None = None,
) -> Tally:
    """Draws all pictures, and says so; the command finishes the tally with the closing line, which has the `verb`.

    Args:
        checkpoints: those of a training run look at each picture instead of the model.
        series: what this model shares with others that the command is about.
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    shard, others = Shard.parse(prepared.options.shard), ranks.joined()
    if drawing.spans is not None and (shard.count > 1 or others):
        several = "--shard" if shard.count > 1 else "torchrun"
        raise UsageError(f"--normalize batch contradicts {several}: one scale needs all pictures", "Leave one out.")
    if others and getattr(prepared.out, "scheme", "") == "zip":
        raise UsageError(f"{prepared.out}: several processes can't write one archive", "Give a folder with -o.")
    running = _Run(prepared, drawing, command, verb, checkpoints, series, others)
    if others is None:
        return running.lead(shard)
    with others.phase():
        return running.lead(shard) if others.first else running.follow()


def watch(prepared: Prepared, drawing: Drawing, find: Callable[[], Found], every: float | None) -> None:
    """Draws pictures as they come into folders, until somebody ends it; `find` gives those that are there."""
    from ugatit_cli.cli import watch

    warnings.filterwarnings("ignore", module="PIL")
    options, shard = prepared.options, Shard.parse(prepared.options.shard)
    out = prepared.out
    if isinstance(out, Path):
        _make_folder(out)
        sweep_once(out)
    running = _Run(prepared, drawing, "translate", "translated", None, None, None)
    tally = Tally(json_lines=options.json_lines, total=0, model=prepared.model)
    folders = watch.Folders([expanded(name) for name in options.inputs or []], every)
    with (
        contextlib.closing(folders),
        signals.interruptible() as stop,
        running.work(prepared, running.existing()) as (work, _),
    ):
        place = partial(_placed, drawing=drawing)
        watching = watch.Watching(
            *(work, tally, folders, watch.Pictures(folders.rest), lambda: shard.silently_of(find()), place)
        )
        watching.run(stop)
    watch.end(stop, tally, options.output)


@dataclass(frozen=True)
class _Run:
    """What `run` is asked for; `others` are the processes that share it."""

    prepared: Prepared
    drawing: Drawing
    command: str
    verb: str
    checkpoints: RunFolder | None
    series: Series | None
    others: Ranks | None

    def existing(self) -> Existing:
        return Existing(self.prepared.options, self.prepared.sources())

    def lead(self, shard: Shard) -> Tally:
        """Does it, and says so."""
        options, page, others = self.prepared.options, self.prepared.page, self.others
        existing = self.existing()
        prepared = replace(self.prepared, found=shard.of(self.prepared.found))
        said = self.series.said if self.series else set()
        jobs, tally = _left_to_do(prepared, self.drawing, existing, self.verb, said, others)
        if not options.dry_run:
            for folder in {job.output.parent for job in prepared.found.jobs if isinstance(job.output, Path)}:
                sweep_once(folder)
        if options.dry_run or not jobs:
            for job in jobs:
                tally.planned(job)
            if page is not None and not options.dry_run:
                console.note(f"report: {page} is not written, there is nothing to show")
            return tally
        with _folders(jobs, page):
            if others:
                others.publish(jobs)
            with self.work(prepared, existing, len(jobs)) as (work, report):
                for name, error in prepared.missing:
                    report.add(name, error)
                work.lead(jobs, tally, report, others)
        tally.page_failed = report.broken
        return tally

    def follow(self) -> Tally:
        """Does what another process, which says what there is to say, has it do."""
        assert self.others
        rounds = self.others.rounds()
        if (some := next(rounds, None)) is not None:
            with self.work(self.prepared, self.existing()) as (work, _):
                work.follow(itertools.chain([some], rounds), self.others)
        return Tally(json_lines=False, total=0)

    @contextmanager
    def work(
        self, prepared: Prepared, existing: Existing, files: int = 0
    ) -> Iterator[tuple[Work, report_page.ReportPage]]:
        """The model, and the page that it draws for, too."""
        from ugatit_cli.remote.places import finishing

        series, page = self.series, prepared.page
        model = prepared.open()
        prepared = _with_style(prepared, model)
        processes = self.others.size if self.others else 1
        _announce(model, prepared.translating.direction, files, self.checkpoints, processes)
        with finishing(), existing.sources:
            page = page and report_page.free_page(page, existing)
            report = series.report if series else report_page.ReportPage(page, prepared.options.report_title or "")
            with nullcontext(report) if series else contextlib.closing(report):
                label = series.label if series else ""
                drawing = report.begin(self.command, model, prepared, self.drawing, label)
                yield Work(prepared, model, existing, drawing, self.checkpoints, series), report


def _with_style(prepared: Prepared, model: Engine) -> Prepared:
    """The style of a picture as numbers."""
    if prepared.style is None:
        return prepared
    options = prepared.translating
    style = model.style(
        prepared.style,
        options.direction,
        fit=options.sizes.fit,
        background=options.files.background,
        max_pixels=options.max_pixels,
    )
    return replace(prepared, translating=replace(options, style=style))


def _left_to_do(
    prepared: Prepared, drawing: Drawing, existing: Existing, verb: str, said: set[str], others: Ranks | None
) -> tuple[list[Job], Tally]:
    """The jobs with all files of their results, without those that are done, and a tally that has said so."""
    from ugatit_cli.pictures.jobs import check_results

    options = prepared.options
    placed = all_placed(prepared.found.jobs, drawing)
    if any(job.several for job in placed):  # names that the planner didn't know
        check_results(placed)
    existing.require_none(placed)
    tally = Tally(json_lines=options.json_lines, total=0, verb=verb, model=prepared.model, said=said)
    if options.update or options.skip_existing or options.overwrite:
        tally.resume = "run the same command again"
    for name, error in prepared.missing:
        tally.failed(name, error)
    for folder, counts in prepared.found.passed_over.items():
        tally.passed_over(folder, counts)
    if not prepared.found.named:
        tally.renamed(placed, based=options.base is not None)
    jobs: list[Job] = []
    for job in placed:
        try:
            again = not (others and others.was_made(job))
            if again and (one := existing.look(job)) is not None:
                jobs.append(one)
            else:
                tally.skipped(job)
        except OutputError as error:
            tally.failed(job.name, error)
    tally.total = len(jobs)
    if drawing.spans is not None:
        tally.resume = "run it again with --overwrite: one scale needs all pictures"
        if tally.left_alone:
            console.note(
                f"the {tally.left_alone} skipped have a scale of their own; --overwrite gives all pictures one"
            )
    return jobs, tally


def all_placed(jobs: Sequence[Job], drawing: Drawing) -> list[Job]:
    """Jobs with all files of their results."""
    return [_placed(job, drawing) for job in jobs]


def _placed(job: Job, drawing: Drawing) -> Job:
    paths = drawing.outputs(job.output) if job.output and not is_film(job.source) else ()
    return replace(job, output=paths[0], several=paths if len(paths) > 1 else ()) if paths else job


def _more_frames(run: RunFolder) -> str | None:
    """The command for a run like this one that has frames enough, as far as its settings can be read."""
    from ugatit_cli.training.history import saving_for
    from ugatit_cli.training.settings import Settings
    from ugatit_cli.wording import byte_size

    step = run.latest() or 0
    try:
        settings, seconds = Settings.of_run(run), float(run.state(step).get("elapsed", 0))
        if settings.minutes:  # with the last samples, it took some more
            seconds = min(seconds, 60 * settings.minutes)
        saving = saving_for(settings, step / seconds if seconds else None)
        size = sum(file.stat().st_size for file in run.checkpoint_path(step).glob("*"))
    except (UgatitError, OSError):  # a run that goes on removes old ones
        return None
    if saving is None:
        return None
    again = ["--config", str(run.path / "config.toml"), "-o", str(_beside(run.path))]
    often = ["--checkpoint-every", saving.every, "--keep", str(saving.keep)]
    about = f"some {saving.frames} checkpoints, {byte_size(saving.frames * size)} in all"
    command = shlex.join(["ugatit", "train", *again, *often])
    return f"more frames need a run of their own ({about}): {command}"


def _beside(run: Path) -> Path:
    """A folder for another run that isn't there yet, since a run that is there would go on, or be complete."""
    named = run if run.name.strip(".") else run.resolve()
    names = (f"{named.name}-frames{number or ''}" for number in itertools.chain([0], itertools.count(2)))
    return next(path for path in map(named.with_name, names) if not path.exists())


def _announce(
    model: Engine, direction: Literal["a2b", "b2a"], files: int, checkpoints: RunFolder | None, processes: int
) -> None:
    way = f"{model.config.source(direction)} -> {model.config.target(direction)}"
    console.note(
        f"model {model.name} ({way}), device {model.place}, precision {model.float_type}"
        f"{f', {files} file' * (files > 0)}{'s' * (files > 1)}{f', {processes} processes' * (processes > 1)}"
    )
    console.detail(f"it was ready after {voice.current.elapsed()}")
    if checkpoints:
        steps = checkpoints.checkpoints()
        console.note(f"{len(steps)} checkpoint{'s' * (len(steps) > 1)}, from step {steps[0]:,} to {steps[-1]:,}")
        if len(steps) < FEW and (text := _more_frames(checkpoints)) is not None:
            console.note(text)

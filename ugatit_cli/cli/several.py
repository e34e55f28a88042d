"""Several models in one command: a folder of results for each, one page that compares them, and one exit code."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ugatit_cli.cli import console, pictures, ranks, report_page, signals
from ugatit_cli.cli.existing import Existing
from ugatit_cli.cli.shards import Shard
from ugatit_cli.cli.tally import Tally
from ugatit_cli.errors import InputsFailed, ModelError, UsageError
from ugatit_cli.files import expanded
from ugatit_cli.pictures.sources import fold
from ugatit_cli.remote.urls import Place, below, place, text_of
from ugatit_cli.weights.hashes import split_pin

if TYPE_CHECKING:
    from ugatit_cli.cli.pictures import Prepared
    from ugatit_cli.cli.translate import TranslateOptions
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.pictures.jobs import Found, Job

# What no file system takes in a name, and what others than POSIX don't.
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]+')
_DEVICES: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_LONGEST: Final = 60


@dataclass
class Series:
    """What the models of one command share.

    Attributes:
        report: the page, which compares them.
        stop: set once the command is to end.
        said: errors that aren't said again for every model.
        label: what readers see of the one whose turn it is.
    """

    report: report_page.ReportPage
    stop: threading.Event
    said: set[str] = field(default_factory=set)
    label: str = ""


def translate_each(
    options: TranslateOptions,
    found: Found,
    models: Sequence[str],
    prepare: Callable[[TranslateOptions, Found, str], Prepared | None],
    drawing: Callable[[], Drawing],
) -> None:
    """Translates the pictures with one model after the other, of which only one is loaded at a time.

    Args:
        found: the pictures, with results as if there were a single model.

    Raises:
        ModelError: one of the models isn't to be had, and nothing has been done; or one could not be read.
    """
    report_page.page_path(options)
    names = folder_names(models)
    waiting = deque(_all_prepared(options, found, names, prepare))
    for one in waiting if ranks.is_first() else ():
        Existing(one.options, one.sources()).require_none(pictures.all_placed(one.found.jobs, drawing()))
    tallies: list[Tally] = []
    with signals.interruptible() as stop, _page(options, len(names)) as report:
        series = Series(report, stop)
        while waiting and not (stop.is_set() or any(tally.disk_full for tally in tallies)):
            one = waiting.popleft()
            series.label = names[one.model]
            try:
                tallies.append(pictures.run(one, drawing(), series=series))
            except ModelError as error:  # the others are worth having all the same
                console.show_error(error)
                continue
            console.note(f"{series.label}: {tallies[-1].summary()} -> {one.options.output}")
            gc.collect()  # or the next model would be in memory beside this one
        whole = together(options, tallies)
        whole.interrupted |= stop.is_set() and not whole.disk_full
        if not options.dry_run:
            report.finish(whole.summary())
    whole.page_failed = report.broken
    whole.finish(options.output)
    if len(tallies) < len(names):
        raise InputsFailed(f"{len(names) - len(tallies)} of {len(names)} models could not be used, see above")


@contextmanager
def _page(options: TranslateOptions, models: int) -> Iterator[report_page.ReportPage]:
    """The page, if one is asked for; processes that share the work have one each."""
    from ugatit_cli.pictures.sources import Sources

    path = None if options.dry_run else report_page.page_path(options)
    out = place(options.output or "")
    with Sources(out if isinstance(out, Path) else Path(os.devnull), create=path is not None) as sources:
        path = path and report_page.free_page(path, Existing(options, sources))
        with contextlib.closing(report_page.ReportPage(path, options.report_title or "", models)) as report:
            yield report


def together(options: TranslateOptions, tallies: Sequence[Tally]) -> Tally:
    """What became of the inputs, of all models."""
    whole = Tally(json_lines=options.json_lines, total=sum(tally.total for tally in tallies))
    for tally in tallies:
        whole.resume, whole.start = tally.resume, min(whole.start, tally.start)
        whole.done += tally.done
        whole.left_alone += tally.left_alone
        whole.found_none += tally.found_none
        whole.planned_for += tally.planned_for
        whole.what = whole.what or tally.what
        whole.errors += tally.errors
        whole.failures |= tally.failures
        whole.unsaid = whole.unsaid or tally.unsaid
        whole.disk_full |= tally.disk_full
        whole.interrupted |= tally.interrupted
    return whole


# --- Before anything is done ---------------------------------------------------------------------------


def _all_prepared(
    options: TranslateOptions,
    found: Found,
    names: Mapping[str, str],
    prepare: Callable[[TranslateOptions, Found, str], Prepared | None],
) -> list[Prepared]:
    """All models in their order; those that are here are looked at before others are fetched."""
    _check_output(options, found, len(names))
    here = _are_here(names)
    found = Shard.parse(options.shard).of(found)
    found = replace(found, jobs=[_kept(job) for job in found.jobs])
    prepared: dict[str, Prepared | None] = {}
    whole = place(options.output or "")
    for number, model in enumerate(sorted(names, key=lambda name: not here[name])):
        own = replace(options, output=text_of(whole / names[model]), report=None, report_title=None, shard=None)
        some = found if number == 0 else replace(found, missing={}, passed_over={})  # which is said once
        prepared[model] = prepare(own, _within(some, whole, names[model]), model)
    return [one for model in names if (one := prepared[model]) is not None]


def _check_output(options: TranslateOptions, found: Found, models: int) -> None:
    """A UsageError unless there is a folder for all of them."""
    if found.named or options.output in (None, "-"):
        where = "standard output" if options.output in (None, "-") else f"-o {options.output}"
        raise UsageError(
            f"{where} is one file, and {models} models make {models} of each picture", "Name a folder: -o out/"
        )


def _are_here(models: Iterable[str]) -> dict[str, bool]:
    """Which models needn't be fetched.

    Raises:
        ModelError: there are none of some names; all of these are told.
    """
    from ugatit_cli.translation.exported import is_exported
    from ugatit_cli.weights.fetch import is_here

    here: dict[str, bool] = {}
    wrong: list[ModelError] = []
    for model in models:
        try:
            with console.showing() as listener:
                here[model] = is_exported(model) or is_here(model, listener)
        except ModelError as error:
            wrong.append(error)
    for one in wrong[:-1]:
        console.show_error(one)
    if wrong:
        raise wrong[-1]
    return here


def _within(found: Found, out: Place, name: str) -> Found:
    """The same pictures, with results in a folder of OUT."""
    from ugatit_cli.pictures.jobs import check_results

    jobs = [replace(job, output=out / name / below(out, job.output)) for job in found.jobs if job.output]
    check_results(jobs)
    return replace(found, jobs=jobs)


def _kept(job: Job) -> Job:
    """What comes from standard input, which can be read once, as a picture in memory."""
    return replace(job, content=sys.stdin.buffer.read()) if job.source is None else job


# --- Names of folders ----------------------------------------------------------------------------------


def folder_names(models: Iterable[str]) -> dict[str, str]:
    """A folder's name for each model, no two alike: its own, with what stands before it where that is another's, too.

    `flat2clay`, `runs/a/cats`, `runs/b/cats`, `ann/dogs@v1` -> `flat2clay`, `a-cats`, `b-cats`, `dogs`.
    """
    ways = {model: _ways(model) for model in dict.fromkeys(models)}
    step = dict.fromkeys(ways, 0)
    while True:
        named = {model: ways[model][step[model]] for model in ways}
        counts = Counter(map(fold, named.values()))
        longer = [one for one in ways if counts[fold(named[one])] > 1 and step[one] + 1 < len(ways[one])]
        if not longer:
            break
        step |= {model: step[model] + 1 for model in longer}
    taken: set[str] = set()
    for model, name in named.items():
        free = (f"{name}-{number}" if number > 1 else name for number in itertools.count(1))
        named[model] = next(one for one in free if fold(one) not in taken)
        taken.add(fold(named[model]))
    return named


def _ways(model: str) -> list[str]:
    """What a model's folder can be called, the shortest first."""
    name, pin = split_pin(model)
    path = expanded(name)
    revision = ""
    if os.sep in name and path.exists():
        name = os.path.abspath(path)  # noqa: PTH100  # a link has the user's name
    elif name in (".", ".."):
        name = str(path.resolve())
    else:
        name, _, revision = name.partition("@")
    parts = [part for part in name.removesuffix(".onnx").replace(os.sep, "/").split("/") if part]
    ways = ["-".join(parts[-count:]) for count in range(1, len(parts) + 1)]
    more = [f"{ways[0]}@{revision}", f"{ways[-1]}@{revision}"] if revision else []
    more += [f"{ways[0]}@{pin[:8]}", f"{ways[-1]}@{pin[:8]}"] if pin else []
    return list(map(_safe, [*ways[:1], *more, *ways[1:]]))


def _safe(name: str) -> str:
    """As every file system takes it."""
    name = _UNSAFE.sub("_", name)[-_LONGEST:].strip(". ") or "model"
    return f"_{name}" if _DEVICES.fullmatch(name) else name

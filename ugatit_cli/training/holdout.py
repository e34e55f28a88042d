"""The pictures that a run held out: what its model, and another one, can be judged by afterwards."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ugatit_cli.data.pictures import (
    Pictures,
    PictureSet,
    find_pictures,
    fingerprint,
    load_pictures,
    split_holdout,
)
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.training.evaluation import FEWEST, ROUGH, rough_holdout
from ugatit_cli.training.run_folder import RunFolder, run_at
from ugatit_cli.training.settings import Settings

OTHERS = "name pictures that it never saw: --domain-a DIR --domain-b DIR"


@dataclass(frozen=True)
class HeldOut:
    """Held-out pictures of both domains.

    Attributes:
        run: whose.
        rough: what users should know about their number, if it is small.
        doubts: why some of them may have been trained on all the same.
    """

    run: RunFolder
    a: PictureSet
    b: PictureSet
    rough: str | None
    doubts: tuple[str, ...]


def held_out(run: RunFolder, settings: Settings, *, workers: int, max_pixels: int | None) -> HeldOut:
    """Those of a run, found as training finds them: every picture is decoded once, since broken ones don't count.

    Raises:
        UsageError: its folders are gone, or too few are held out to say anything.
        DataError: fewer than 8 pictures of a domain can be used any more.
    """
    folders = settings.folders
    needed = [path for path in (folders.a, folders.b, folders.test_a, folders.test_b) if path is not None]
    if gone := [str(path) for path in needed if not os.path.isdir(path)]:  # noqa: PTH112  # never raises
        raise UsageError(f"{run.path}: its pictures aren't where they were: {' and '.join(gone)}", _sentence(OTHERS))
    pictures = load_pictures(
        folders,
        settings.preparation,
        settings.kept_back,
        settings.seed,
        workers=workers,
        budget_bytes=0,
        max_pixels=max_pixels,
        exclude=[run.path],
    )
    for name, one in zip((settings.model.domain_a, settings.model.domain_b), pictures, strict=True):
        if len(one.held_out) < FEWEST:
            raise UsageError(
                f"{run.path}: held out {len(one.held_out) or 'no'} pictures of {name}, and KID needs {FEWEST} at "
                f"least, better {ROUGH}",
                f"Begin a run with --holdout {ROUGH}, or {OTHERS}",
            )
    a, b = (PictureSet(_folder(one, settings), one.held_out) for one in pictures)
    return HeldOut(run, a, b, rough_holdout(pictures, settings), tuple(_doubts(run, settings, pictures)))


def held_out_by(runs: Mapping[str, RunFolder], *, workers: int, max_pixels: int | None) -> HeldOut:
    """Those that all of some runs, which have names, held out: models are compared by the same pictures.

    Raises:
        UsageError: runs held out others, or as `held_out`.
        ModelError: settings are damaged.
    """
    found = {
        name: held_out(run, Settings.of_run(run), workers=workers, max_pixels=max_pixels)
        for name, run in {str(run.path): run for run in runs.values()}.items()
    }
    first, *others = found.values()
    for one in others:
        if (one.a.files, one.b.files) != (first.a.files, first.b.files):
            raise UsageError(
                f"{first.run.path} and {one.run.path} held out other pictures",
                "Name some for all: --domain-a DIR --domain-b DIR, or evaluate one run at a time.",
            )
    return replace(first, doubts=tuple(doubt for one in found.values() for doubt in one.doubts))


def way_to_unseen(name: str, settings: Settings) -> str:
    """How figures of pictures that a run never saw are had: of those that it held out, if these are enough."""
    folders = settings.folders
    counts = []
    for folder, test in ((folders.a, folders.test_a), (folders.b, folders.test_b)):
        try:
            there = len(find_pictures(test or folder))
        except UsageError:  # it is gone
            there = 0
        counts.append(there if test else settings.kept_back.count(there))
    if min(counts) >= FEWEST:
        return f"ugatit evaluate -m {shlex.quote(name)}"
    return f"it held out too few; a run with --holdout {ROUGH} has some (ugatit evaluate -m RUN)"


def lineage(settings: Settings) -> Iterator[tuple[RunFolder, Settings]]:
    """The runs on whose models a run builds (`--from`), the nearest first, as far as they are still there."""
    seen = set[Path]()
    while settings.start is not None and Path(settings.start).is_absolute():
        run = run_at(Path(settings.start))
        if run is None or run.path in seen:
            return
        try:
            settings = Settings.of_run(run)
        except ModelError:
            return
        seen.add(run.path)
        yield run, settings


def trained_before(settings: Settings, pictures: tuple[Pictures, Pictures]) -> str | None:
    """What users should know about pictures that a run holds out, and those that it builds on trained on."""
    held_out = {path.resolve() for one in pictures for path in one.held_out}
    trained, runs = set[Path](), []
    for run, before in lineage(settings):
        if found := held_out & _trained_on(before, pictures):
            trained |= found
            runs.append(str(run.path))
    if not trained:
        return None
    whose = " and ".join(runs)
    return f"{whose}, which it starts from, trained on {len(trained)} of the {len(held_out)} pictures held out here"


def _trained_on(settings: Settings, pictures: tuple[Pictures, Pictures]) -> set[Path]:
    """What a run trained on by its settings; which files are broken, those of the run that builds on it tell."""
    folders, trained = settings.folders, set[Path]()
    usable = {one.folder.resolve(): {path.resolve() for path in (*one.files, *one.held_out)} for one in pictures}
    for folder, test in ((folders.a, folders.test_a), (folders.b, folders.test_b)):
        known = usable.get(folder.resolve())
        try:
            files = [path for path in find_pictures(folder) if known is None or path.resolve() in known]
            own = files if test else split_holdout(folder, files, settings.kept_back, settings.seed)[0]
        except UsageError:  # it is gone, or most of it
            continue
        trained |= {path.resolve() for path in own}
    return trained


def _folder(pictures: Pictures, settings: Settings) -> Path:
    test = settings.folders.test_a if pictures.domain == "a" else settings.folders.test_b
    return pictures.folder if test is None else test


def _doubts(run: RunFolder, settings: Settings, pictures: tuple[Pictures, Pictures]) -> Iterator[str]:
    if _changed(run, pictures):
        yield f"{run.path}: its folders have changed since: it may have been trained on some of these"
    if (known := trained_before(settings, pictures)) is not None:
        yield f"{run.path}: {known}, which flatters its figures; {OTHERS}"


def _changed(run: RunFolder, pictures: tuple[Pictures, Pictures]) -> bool:
    step = run.latest()
    try:
        state = run.state(step) if step is not None else {}
        return bool(state.get("mixed")) or state.get("data") not in (None, fingerprint(pictures))
    except ModelError:
        return False  # which is for training to say


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]

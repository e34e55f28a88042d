"""`ugatit cam --layout sheet`: many pictures on one page, or a few."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ugatit_cli.cli import console, pictures, ranks
from ugatit_cli.cli.tally import Tally
from ugatit_cli.errors import UsageError
from ugatit_cli.files import expanded, reported, write_file
from ugatit_cli.remote.urls import Place, Url, place

if TYPE_CHECKING:
    from PIL import Image

    from ugatit_cli.cli.cam import CamOptions
    from ugatit_cli.outputs.attention import Sheet
    from ugatit_cli.pictures.jobs import Found

SUFFIXES: Final = (".pdf", ".png", ".jpg", ".jpeg", ".webp")
QUALITY: Final = 95


def first_page(options: CamOptions) -> Path:
    """Where the pages go, or the first of several pictures.

    Raises:
        UsageError: there can't be one, or it exists already.
    """
    _check(options)
    out = options.output or ""
    path, same = expanded(out), options.format == "same"
    if path.suffix.lower() not in SUFFIXES or out.endswith("/") or path.is_dir():
        path /= f"sheet.{'png' if same else options.format}"
    elif not same and path.suffix.lower() != f".{options.format}":
        raise UsageError(f"--format {options.format} contradicts the name {path.name}")
    if not options.overwrite and (there := _there(path)):
        raise UsageError(f"{there[0]} exists already", "Give another name (-o), or pass --overwrite.")
    return path


def _there(path: Path) -> list[Path]:
    """Files that have the names of pages, whoever wrote them."""
    name = re.compile(f"{re.escape(path.stem)}-(?:[2-9]|[1-9][0-9]+){re.escape(path.suffix)}", re.IGNORECASE)
    further = path.parent.iterdir() if path.parent.is_dir() and path.suffix.lower() != ".pdf" else ()
    return [*([path] if path.exists() else []), *sorted(one for one in further if name.fullmatch(one.name))]


def _check(options: CamOptions) -> None:
    wrong = {
        "--skip-existing": options.skip_existing,
        "--update": options.update,
        "--shard": options.shard is not None,
        "torchrun": ranks.joined() is not None,
        "--run": options.run is not None,
        "--animate": options.animate,
        "--format gif": options.format == "gif",
    }
    for option in (option for option, given in wrong.items() if given):
        raise UsageError(f"{option} doesn't go with --layout sheet, which shows all pictures once", "Leave it out.")
    if options.output == "-" or isinstance(place(options.output or ""), Url):
        raise UsageError(f"-o {options.output}: a sheet is a file on this machine", "Name it: -o sheet.pdf")


def find(options: CamOptions, path: Path, suffix: Callable[[Place], str]) -> Found:
    """The pictures, which have no results of their own; pages of an earlier sheet of that name are none.

    Raises:
        UsageError: there are no others, or the sheet might overwrite one.
    """
    from ugatit_cli.pictures.jobs import identity
    from ugatit_cli.pictures.sheets import is_page

    found = pictures.find(replace(options, output=str(path.parent / ".sheets"), format="same"), suffix)
    there = {identity(one): one for one in _there(path)}
    jobs = []
    for job in found.jobs:
        page = there.get(identity(job.source)) if there and job.source is not None else None
        if page is None:
            jobs.append(replace(job, output=None))
        elif not is_page(page):
            raise UsageError(f"the sheet {page} would overwrite the input {job.name}", "Give another name (-o).")
    if found.jobs and not jobs:
        raise UsageError(f"{path}: nothing to show but an earlier sheet", "Name pictures.")
    return replace(found, jobs=jobs, named=True)


def plan(prepared: pictures.Prepared, path: Path) -> None:
    """What a dry run says."""
    tally = Tally(json_lines=prepared.options.json_lines, total=0, model=prepared.model)
    for name, error in prepared.missing:
        tally.failed(name, error)
    for job in prepared.found.jobs:
        tally.planned(replace(job, output=path))
    tally.finish(str(path))


def write(options: CamOptions, path: Path, found: Found, drawing: Sheet, tally: Tally) -> list[Path]:
    """Draws the pages, and writes each as a whole; those of an interrupted command have what was done."""
    from ugatit_cli.pictures.sheets import Strip, draw_sheets, pdf

    def strips() -> Iterator[Strip]:
        for job in found.jobs:
            if (shown := drawing.strips.of(job.source)) is not None:
                yield Strip(job.key or job.name, shown)

    if not tally.done:
        return []
    pages = draw_sheets(drawing.heading, drawing.titles, strips(), drawing.legend(drawing.maps))
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".pdf":
            write_file(path, pdf(pages, options.quality or QUALITY))
            return [path]
        return [_write_page(options, path, page, number) for number, page in enumerate(pages, 1)]


def _write_page(options: CamOptions, path: Path, page: Image.Image, number: int) -> Path:
    from ugatit_cli.pictures import encoding
    from ugatit_cli.pictures.reading import Frame, Picture
    from ugatit_cli.pictures.sheets import DPI, MARK

    path = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
    picture = Picture([Frame(page, None)], "PNG", dpi=(DPI, DPI), metadata=MARK)
    write_file(path, encoding.encode(picture, encoding.format_of(path), quality=options.quality))
    return path


def say(options: CamOptions, pages: list[Path]) -> None:
    """The pages as results."""
    for page in pages:
        if options.json_lines:
            console.result(json.dumps({"status": "written", "output": str(page)}))
        elif not sys.stdout.isatty():
            console.made(str(page))

"""`ugatit data crop-faces`: photos become training pictures of faces."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ugatit_cli.cli import console, signals
from ugatit_cli.cli.options import MAX_PIXELS_HELP, parse_pixels
from ugatit_cli.cli.tally import Tally
from ugatit_cli.errors import PictureError, UgatitError, UsageError
from ugatit_cli.files import expanded
from ugatit_cli.leftovers import sweep_once

if TYPE_CHECKING:
    from ugatit_cli.faces.crops import FaceCropper
    from ugatit_cli.pictures.jobs import Found, Job


def crop_faces(
    folder: Annotated[Path, Argument(metavar="DIR", help="A folder of photos, or one photo.", show_default=False)],
    out: Annotated[Path | None, Argument(metavar="OUT", help="Where the faces go.", hidden=True)] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="OUT", help="Folder for the faces.", show_default=False)
    ] = None,
    size: Annotated[int, Option("--size", metavar="N", help="Side of the crops in pixels.")] = 256,
    margin: Annotated[
        float, Option("--margin", metavar="X", help="What is kept around a face, in sizes of the face.")
    ] = 0.5,
    least: Annotated[
        int | None,
        Option(
            "--least",
            metavar="N",
            help="Leave out crops of fewer pixels a side in the photo.  [default: half of --size]",
            show_default=False,
        ),
    ] = None,
    skip_existing: Annotated[bool, Option("--skip-existing", help="Leave photos whose faces are there.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace files that exist already.")] = False,
    max_pixels: Annotated[str, Option("--max-pixels", metavar="N|off", help=MAX_PIXELS_HELP)] = "300M",
    json_lines: Annotated[bool, Option("--json", help="Results on stdout as JSON, one line each.")] = False,
) -> None:
    """Cut the faces out of photos, to train with.

    They are level, square and of one size. Folders are mirrored. Of party.jpg come party_face1.png, the largest face,
    party_face2.png and so on. Photos without a face are named.

    Examples:

    `ugatit data crop-faces photos/ -o faces/`

    `ugatit data crop-faces photos/ -o faces/ --size 128 --margin 0.8`
    """
    from ugatit_cli.faces.crops import FaceCropper
    from ugatit_cli.faces.detector import detector
    from ugatit_cli.faces.finder import FaceFinder

    target = output or out  # which came second in earlier versions
    if target is None or (output and out):
        raise UsageError("one folder for the faces is needed", "Name it: -o faces/")
    if skip_existing and overwrite:
        raise UsageError("--skip-existing and --overwrite contradict each other")
    finder = FaceFinder(margin)
    cropper = FaceCropper(finder, size, size // 2 if least is None else least, overwrite, parse_pixels(max_pixels))
    found = _found(folder, expanded(target))
    _check_existing(found, skip_existing=skip_existing, overwrite=overwrite)
    detector()  # or its absence would be every photo's
    tally = Tally(json_lines=json_lines, total=len(found.jobs), verb="cropped")
    for name, reason in found.missing.items():
        tally.failed(name, PictureError(f"{name}: {reason}"))
    for name, counts in found.passed_over.items():
        tally.passed_over(name, counts)
    _crop(_Photos(cropper, tally, skip_existing), found.jobs).finish(target)


def _crop(photos: _Photos, jobs: list[Job]) -> _Photos:
    warnings.filterwarnings("ignore", module="PIL")
    tally = photos.tally
    for folder in {job.output.parent for job in jobs if isinstance(job.output, Path) and job.output.parent.is_dir()}:
        sweep_once(folder)
    with signals.interruptible() as stop, console.progress(len(jobs)) as progress:
        for job in jobs:
            if stop.is_set() or tally.disk_full:
                break
            photos.crop(job)
            progress.advance()
        tally.interrupted = stop.is_set() and not tally.disk_full
    return photos


def _found(folder: Path, out: Path) -> Found:
    from ugatit_cli.faces.crops import ENDING
    from ugatit_cli.pictures import reading
    from ugatit_cli.pictures.jobs import Wanted, find_jobs

    target = f"{out}/"  # a folder, whatever it is called
    return find_jobs(Wanted([str(folder)], target, reading.SUFFIXES, lambda _: f"{ENDING}.png", (".png",)))


def _check_existing(found: Found, *, skip_existing: bool, overwrite: bool) -> None:
    there = (
        []
        if skip_existing or overwrite
        else [job.output for job in found.jobs if isinstance(job.output, Path) and job.output.exists()]
    )
    if there:
        hint = "Pass --skip-existing to leave them, or --overwrite to replace them."
        raise UsageError(f"{len(there)} of the faces exist already: {there[0]}{', ...' * (len(there) > 1)}", hint)


@dataclass
class _Photos:
    """Crops photos one by one, and counts what became of them.

    Attributes:
        faces: how many were written.
        small: how many were left out, for their size.
    """

    cropper: FaceCropper
    tally: Tally
    skips: bool
    faces: int = 0
    small: int = 0

    def crop(self, job: Job) -> None:
        """One more photo."""
        from ugatit_cli.translation.pipeline import Result

        assert isinstance(job.source, Path)
        assert isinstance(job.output, Path)
        if self.skips and job.output.exists():
            self.tally.skipped(job)
            return
        try:
            cropped = self.cropper(job.source, job.output)
        except UgatitError as error:
            self.tally.failed(job.name, error)
            return
        self.faces += len(cropped.paths)
        self.small += cropped.small
        if cropped.paths:
            made = replace(job, output=cropped.paths[0], several=cropped.paths)
            self.tally.add(Result(made, (self.cropper.size, self.cropper.size), notes=cropped.notes))
        else:
            self.tally.without(job, "face", f" of {self.cropper.least} pixels or more" if cropped.small else "")
            for note in cropped.notes:
                console.note(f"{job.name}: {note}")

    def finish(self, out: Path) -> None:
        """Says what there is now, and what to do with it."""
        if self.small:
            console.note(f"{self.small} faces left out, of fewer than {self.cropper.least} pixels: see --least")
        if self.faces:
            console.note(
                f"{self.faces} face{'s' * (self.faces > 1)} of {self.cropper.size} x {self.cropper.size} pixels"
            )
        self.tally.finish(str(out))

"""Options of `translate` that name parts of pictures: faces, a box, a mask."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli.options import parse_pixels
from ugatit_cli.errors import UsageError
from ugatit_cli.files import expanded
from ugatit_cli.remote.urls import Place, Url

if TYPE_CHECKING:
    from ugatit_cli.cli.pictures import Prepared
    from ugatit_cli.cli.translate import TranslateOptions
    from ugatit_cli.pictures.jobs import Found
    from ugatit_cli.pictures.regions import Finder


def check_options(options: TranslateOptions) -> None:
    """Before anything is looked for.

    Raises:
        UsageError: options contradict each other, or one counts for nothing.
    """
    faces = options.faces or options.faces_only
    ways = {"--faces": faces, "--box": options.box is not None, "--mask": options.mask is not None}
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise UsageError(
            f"{' and '.join(given)} contradict each other", "Translate in two steps, one after the other."
        )
    alone = {"--margin": options.margin, "--no-face": options.no_face}
    for name, value in alone.items():
        if value is not None and not faces:
            raise UsageError(f"{name} {value}: is about faces", "Say --faces, too.")
    if options.feather is not None and not given:
        raise UsageError(
            f"--feather {options.feather:g}: no part of the picture is named", "Say --faces, --box or --mask."
        )
    if given and not options.faces_only and options.size == "model":
        raise UsageError(f"--size model: with {given[0]}, results have the picture's size", "Leave --size out.")
    if options.faces_only:
        _check_faces_only(options)


def _check_faces_only(options: TranslateOptions) -> None:
    contradicting = {f"--styles {options.styles}": options.styles, "--no-face whole": options.no_face == "whole"}
    for name, is_given in contradicting.items():
        if is_given:
            raise UsageError(f"--faces-only and {name} contradict each other")
    if options.output in (None, "-"):
        raise _not_one()


def _not_one() -> UsageError:
    return UsageError("--faces-only makes a file of each face", "Name a folder: -o faces/")


def check_jobs(options: TranslateOptions, found: Found) -> None:
    """A UsageError where the files of faces could be in the way of something."""
    if not options.faces_only:
        return
    if found.named:
        raise _not_one()
    folders = {_real(job.source.parent) for job in found.jobs if job.source}
    for folder in {job.output.parent for job in found.jobs if job.output}:
        if _real(folder) in folders:
            raise UsageError(f"the faces would mix with the pictures in {folder}", "Give another folder with -o.")


def _real(folder: Place) -> str | Url:
    return os.path.realpath(folder) if isinstance(folder, Path) else folder


def with_regions(prepared: Prepared, options: TranslateOptions) -> Prepared:
    """With the parts of pictures that are to be translated, if not all of them is.

    Raises:
        UsageError: a value makes no sense, there is no such mask, or onnxruntime isn't installed.
    """
    if (finder := _finder(options)) is None:
        return prepared
    from ugatit_cli.pictures.regions import RegionOptions

    regions = RegionOptions(finder, options.no_face or "skip", options.faces_only)
    return replace(prepared, translating=replace(prepared.translating, regions=regions))


def _finder(options: TranslateOptions) -> Finder | None:
    from ugatit_cli.pictures.regions import FEATHER, BoxFinder, MaskFinder

    feather = FEATHER if options.feather is None else options.feather
    if options.box is not None:
        return BoxFinder.parse(options.box, feather)
    if options.mask is not None:
        path = expanded(options.mask)
        if not path.exists():
            raise UsageError(f"--mask {path}: no such file", "Name a picture, or a folder of them.")
        return MaskFinder(path, feather, parse_pixels(options.max_pixels))
    if not (options.faces or options.faces_only):
        return None
    from ugatit_cli.faces import finder
    from ugatit_cli.faces.detector import detector

    detector()  # or its absence would be every picture's
    margin = finder.MARGIN if options.margin is None else options.margin
    return finder.FaceFinder(margin, finder.FEATHER if options.feather is None else options.feather)

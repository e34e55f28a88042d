"""`ugatit translate`: pictures and folders of pictures through a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ugatit_cli.cli import pictures
from ugatit_cli.cli.options import PictureOptions, options_of
from ugatit_cli.errors import UsageError
from ugatit_cli.files import expanded

if TYPE_CHECKING:
    from ugatit_cli.pictures.jobs import Found

MOST_STYLES = 100


@dataclass(frozen=True, kw_only=True)
class TranslateOptions(PictureOptions):
    """What `translate` is asked for: each field is an option."""

    style: Annotated[
        str | None,
        Option(
            "--style",
            metavar="random[:SEED]|PICTURE",
            help="Of munit and drit: each picture in a style of its own, or all in that of a picture of the target "
            "domain.  [default: random:0]",
            show_default=False,
        ),
    ] = None
    styles: Annotated[
        int | None,
        Option(
            "--styles",
            metavar="N",
            min=1,
            max=MOST_STYLES,
            help="Each picture in N random styles: NAME_style1, NAME_style2, ...",
            show_default=False,
        ),
    ] = None
    strength: Annotated[
        float,
        Option(
            "--strength",
            metavar="0..1",
            min=0,
            max=1,
            help="How much of the translation shows: 0 is the picture itself, 0.5 half of each.",
        ),
    ] = 1
    keep_colour: Annotated[
        bool,
        Option("--keep-colour", help="Light and dark from the translation, hue and saturation from the picture."),
    ] = False
    keep_metadata: Annotated[
        bool,
        Option("--keep-metadata", help="Copy EXIF (GPS, too), XMP and texts, as far as they are still true."),
    ] = False


@options_of(TranslateOptions, own_after="to")
def translate(options: TranslateOptions) -> None:
    """Translate pictures, or whole folders, to the other domain.

    Results keep their picture's name, size, transparency and animation; folders are mirrored.

    Examples:

    `ugatit translate icon.png -o clay.png`

    `ugatit translate ./selfies --model selfie2anime -o out/`

    `ugatit translate photos/ "more/*.jpg" --to anime --model my-model -o out/ --format webp --skip-existing`

    `cat icon.png | ugatit translate - > clay.png`
    """
    if options.styles and options.output in (None, "-"):
        raise _not_one(options)
    found = pictures.find(options, partial(_suffix, options) if options.styles else None)
    _check_jobs(options, found)
    prepared = _with_look(_with_style(pictures.prepare(options, found), options), options)
    from ugatit_cli.outputs.base import Styled, Translation  # not sooner: with NumPy, after all that is wrong

    drawing = Styled(options.styles) if options.styles else Translation()
    pictures.run(prepared, drawing).finish(options.output)


def _suffix(options: TranslateOptions, source: Path) -> str:
    """The longest ending of a result's files: names are planned with it."""
    from ugatit_cli.outputs.base import Styled
    from ugatit_cli.pictures import encoding

    return Styled(options.styles or 1).ending + encoding.result_suffix(source, options.format)


def _not_one(options: TranslateOptions) -> UsageError:
    return UsageError(f"--styles {options.styles} makes several files of a picture", "Name a folder: -o results/")


def _check_jobs(options: TranslateOptions, found: Found) -> None:
    pictures.check_format(found.jobs, options.format)
    if options.styles and found.named:
        raise _not_one(options)


def _with_style(prepared: pictures.Prepared, options: TranslateOptions) -> pictures.Prepared:
    """With the style that is asked for, if the model has any."""
    if options.style is None and options.styles is None:
        return prepared
    from ugatit_cli.pictures.styles import seed_of
    from ugatit_cli.translation.choices import no_style, require_styles

    require_styles(prepared.config, options.model)
    seed = 0 if options.style is None else seed_of(options.style)
    if seed is not None:
        return replace(prepared, translating=replace(prepared.translating, seed=seed))
    path = expanded(options.style or "")
    if options.styles:
        reason = f"--style {path} is one style, --styles {options.styles} are random ones"
        raise UsageError(reason, "Leave one of them out, or say --style random:SEED.")
    if not path.exists():
        raise no_style(str(path))
    return replace(prepared, style=path)


def _with_look(prepared: pictures.Prepared, options: TranslateOptions) -> pictures.Prepared:
    """With what becomes of the translations before they are written."""
    from ugatit_cli.pictures.look import Look

    look, translating = Look(options.strength, options.keep_colour), prepared.translating
    files = replace(translating.files, keep_metadata=options.keep_metadata)
    return replace(prepared, translating=replace(translating, look=look, files=files))

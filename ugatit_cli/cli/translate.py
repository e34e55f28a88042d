"""`ugatit translate`: pictures and folders of pictures through a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from ugatit_cli.cli import console, films, pictures, ranks, regions, watch
from ugatit_cli.cli.options import SECTIONS, ModelsOption, PictureOptions, options_of
from ugatit_cli.config import DEFAULT_MODEL
from ugatit_cli.errors import UsageError
from ugatit_cli.files import expanded
from ugatit_cli.films.codecs import FilmOptions
from ugatit_cli.remote.urls import Place

if TYPE_CHECKING:
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.pictures.jobs import Found

MOST_STYLES = 100


@dataclass(frozen=True, kw_only=True)
class TranslateOptions(PictureOptions):
    """What `translate` is asked for: each field is an option."""

    model: ModelsOption = None
    style: Annotated[
        str | None,
        Option(
            "--style",
            metavar="random[:SEED]|PICTURE",
            help="Of munit and drit models: each picture in a style of its own, or all in that of one picture of the "
            "other look.  [default: random:0]",
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
        Option("--keep-colour", help="Keep the colours of the picture: only light and dark change."),
    ] = False
    keep_metadata: Annotated[
        bool,
        Option("--keep-metadata", help="Copy EXIF (GPS, too), XMP and texts, as far as they are still true."),
    ] = False
    faces: Annotated[
        bool,
        Option("--faces", help="Translate the faces of each picture, and leave all around as it is."),
    ] = False
    faces_only: Annotated[
        bool,
        Option(
            "--faces-only", help="The same, but the results are the faces: NAME_face1, the largest, NAME_face2, ..."
        ),
    ] = False
    margin: Annotated[
        float | None,
        Option(
            "--margin",
            metavar="X",
            help="What is translated around a face on each side, in sizes of the face.  [default: 0.5]",
            show_default=False,
        ),
    ] = None
    no_face: Annotated[
        Literal["skip", "whole"] | None,
        Option(
            "--no-face",
            help="What becomes of a picture without a face: no result, or all of it is translated.  [default: skip]",
            show_default=False,
        ),
    ] = None
    box: Annotated[
        str | None,
        Option(
            "--box", metavar="X,Y,W,H", help="Translate this rectangle of each picture: pixels, or percent (25%)."
        ),
    ] = None
    mask: Annotated[
        str | None,
        Option(
            "--mask",
            metavar="PICTURE|DIR",
            help="Translate where this picture is white (or opaque); a folder has one for each picture, of its name.",
        ),
    ] = None
    feather: Annotated[
        float | None,
        Option(
            "--feather",
            metavar="0..0.5",
            min=0,
            max=0.5,
            help="Width of the soft edge inside of a face, box or mask, as a share of its shorter side.  "
            "[default: 0.25 of a face, 0.15 of a box or mask]",
            show_default=False,
        ),
    ] = None
    steady: Annotated[
        float,
        Option(
            "--steady",
            metavar="X",
            help="Less flicker in films: how much of the last frame stays where little changes, below 1; 0.8: much.",
        ),
    ] = 0.0
    watch: Annotated[
        bool,
        Option("--watch", help="Go on with pictures that come into the folders, or change there, until Ctrl-C."),
    ] = False
    watch_every: Annotated[
        float | None,
        Option(
            "--watch-every",
            metavar="SECONDS",
            min=0.1,
            max=86400,
            help="Look so often, for folders whose changes nobody tells of.  [default: found]",
            show_default=False,
        ),
    ] = None

    @property
    def watches(self) -> bool:
        """Whether there may be no pictures yet."""
        return self.watch


@options_of(TranslateOptions, SECTIONS)
@ranks.together
def translate(options: TranslateOptions) -> None:
    """Translate pictures, films and folders into another look.

    Results keep their picture's name, size, transparency and animation, films their sound; folders are mirrored.

    Examples:

    `ugatit translate sketch.png -o clay.png`

    `ugatit translate drawings/ "more/*.png" -o out/ --format webp --skip-existing`

    `ugatit translate icon.jpg --model flat2clay -o clay.jpg`

    `ugatit translate sketch.jpg -m flat2clay -m ink2clay -o out/ --report compare.html`

    `ugatit translate clay.png --to ink -o sketch.png`

    `ugatit translate party.jpg --faces -o faces.jpg`

    `ugatit translate clip.mp4 -o out.mp4 --steady 0.8`

    `cat sketch.png | ugatit translate - > clay.png`
    """
    regions.check_options(options)
    models = list(dict.fromkeys(options.model or [DEFAULT_MODEL]))
    if options.styles and "styles" not in options.stated and not any(map(_may_have_styles, models)):
        options = replace(options, styles=None)
    if options.styles and options.output in (None, "-"):
        raise _not_one(options)
    options = watch.check_options(options)
    find = partial(
        pictures.find, options, partial(_suffix, options) if options.styles or options.faces_only else None
    )
    found = find()
    _check_jobs(options, found)
    if len(models) > 1:
        from ugatit_cli.cli import several

        several.translate_each(options, found, models, _prepared, partial(_drawing, options))
    elif (prepared := _prepared(options, found, models[0])) is None:
        return
    elif options.watch and not options.dry_run:
        pictures.watch(prepared, _drawing(options), find, options.watch_every)
    else:
        pictures.run(prepared, _drawing(options)).finish(options.output)


def _prepared(options: TranslateOptions, found: Found, model: str) -> pictures.Prepared | None:
    """All that is asked for of one model; None after a dry run that has told what would be fetched."""
    prepared = pictures.prepare(options, found, model, first_only=options.faces_only)
    if prepared is None:
        return None
    prepared = regions.with_regions(_with_look(_with_style(prepared, options), options), options)
    return replace(prepared, films=FilmOptions(options.codec, options.steady))


def _drawing(options: TranslateOptions) -> Drawing:
    from ugatit_cli.outputs.base import Crops, Styled, Translation  # not sooner: with NumPy, after all that is wrong

    if options.faces_only:
        return Crops(options.overwrite or options.update or options.skip_existing)
    return Styled(options.styles) if options.styles else Translation()


def _suffix(options: TranslateOptions, source: Place) -> str:
    """The longest ending of a result's files: names are planned with it."""
    from ugatit_cli.outputs.base import Crops, Styled
    from ugatit_cli.pictures import encoding

    ending = Crops.ending if options.faces_only else Styled(options.styles or 1).ending
    return ending + encoding.result_suffix(source, options.format)


def _not_one(options: TranslateOptions) -> UsageError:
    return UsageError(f"--styles {options.styles} makes several files of a picture", "Name a folder: -o results/")


def _check_jobs(options: TranslateOptions, found: Found) -> None:
    pictures.check_format(found.jobs, options.format)
    if options.steady and "steady" in options.stated and not options.watch:
        films.require_one(found.jobs, f"--steady {options.steady:g}")
    if options.styles:
        films.require_none(found.jobs, "--styles", "A film has one style: --style random:SEED.")
    if options.faces_only:
        films.require_none(found.jobs, "--faces-only", "Take --faces.")
    if options.styles and found.named:
        raise _not_one(options)
    regions.check_jobs(options, found)


def _may_have_styles(model: str) -> bool:
    """Whether a model has styles, or nobody knows before it is fetched."""
    from ugatit_cli.translation.exported import ExportedModel, is_exported
    from ugatit_cli.weights.catalog import known

    with console.showing() as listener:
        config = ExportedModel(model).config if is_exported(model) else known(model, listener).config
    return config is None or config.style_size > 0


def _with_style(prepared: pictures.Prepared, options: TranslateOptions) -> pictures.Prepared:
    """With the style that is asked for, if the model has any."""
    asked = options.styles or (options.style is not None and "style" in options.stated)
    if not asked and (options.style is None or not prepared.config.style_size):
        return prepared
    from ugatit_cli.pictures.styles import seed_of
    from ugatit_cli.translation.choices import no_style, require_styles

    require_styles(prepared.config, f"{'--styles' if options.styles else '--style'}: {prepared.model}")
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

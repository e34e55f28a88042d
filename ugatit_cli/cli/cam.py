"""`ugatit cam`: where the networks look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from typer import Option

from ugatit_cli.cli import console, films, pictures, ranks, sheets
from ugatit_cli.cli.options import SECTIONS, ModelOption, PictureOptions, options_of, output_option
from ugatit_cli.config import DEFAULT_MODEL
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.files import expanded, reported
from ugatit_cli.remote.urls import Place

if TYPE_CHECKING:
    from ugatit_cli.attention.maps import Style
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.pictures.jobs import Found, Job
    from ugatit_cli.training.run_folder import RunFolder


# What counts for nothing with some layouts, and of numbers unless a report shows them in colours.
USELESS: Final[Mapping[str, tuple[str, ...]]] = {
    "raw": ("format", "quality", "alpha"),
    "heatmap": ("alpha",),
    "sheet": ("size",),
}
SHOWN: Final = ("size", "colormap", "upsample", "normalize")


@dataclass(frozen=True, kw_only=True)
class CamOptions(PictureOptions):
    """What `cam` is asked for: each field is an option."""

    output: Annotated[str | None, output_option("attention")] = None
    model: ModelOption = ""
    maps: Annotated[
        str,
        Option(
            "--maps",
            metavar="MAPS",
            help="Whose attention: generator, local, global (discriminators), several with commas, or all.",
        ),
    ] = "all"
    layout: Annotated[
        Literal["panel", "sheet", "overlay", "heatmap", "raw"],
        Option(
            "--layout",
            help="panel: labelled, side by side. sheet: many pictures on one page. overlay: a picture for each map. "
            "heatmap: colours alone, with a scale. raw: float32 .npy, and JSON with the CAM logits.",
        ),
    ] = "panel"
    alpha: Annotated[
        float, Option("--alpha", metavar="0..1", help="How much of the colours shows over pictures.")
    ] = 0.6
    colormap: Annotated[
        str,
        Option(
            "--colormap", metavar="NAME", help="inferno, magma, viridis, cividis, turbo, ...; jet is the paper's."
        ),
    ] = "inferno"
    normalize: Annotated[
        Literal["image", "batch"],
        Option(
            "--normalize", help="image: each map has its own scale. batch: one for all, so that pictures compare."
        ),
    ] = "image"
    upsample: Annotated[
        Literal["bilinear", "bicubic"],
        Option("--upsample", help="How maps are enlarged to the picture: bicubic is rounder."),
    ] = "bilinear"
    animate: Annotated[
        bool | None,
        Option(
            "--animate/--no-animate",
            help="Animated inputs give animated results, or a picture of their first frame.  [default: animate]",
            show_default=False,
        ),
    ] = None
    run: Annotated[
        Path | None,
        Option(
            "--run",
            metavar="RUN",
            help="Instead of a model: one animation (WebP, GIF) over the checkpoints of a training run. For a "
            "good one train with --checkpoint-every (a 25th of its length) and --keep 30.",
        ),
    ] = None
    format: Annotated[
        Literal["same", "png", "jpg", "webp", "gif", "pdf"],
        Option("--format", help="File format of the results; pdf is for papers."),
    ] = "same"  # type: ignore[assignment]  # one more than others have
    size: Annotated[
        str,
        Option(
            "--size",
            metavar="SIZE",
            help="Size of the pictures: same, model, N (short side) or WxH; auto: same, but in panels and animations "
            "of a run 160 to 360 pixels.",
        ),
    ] = "auto"

    @property
    def names(self) -> list[str]:
        """Maps, each a single time; `all` may be among them."""
        return list(dict.fromkeys(name.strip() for name in self.maps.split(",")))

    @property
    def tagged(self) -> bool:
        """Whether names of files say which map they show."""
        return self.layout in ("overlay", "heatmap") and (len(self.names) > 1 or "all" in self.names)

    @property
    def several(self) -> bool:
        """Whether a picture gives several files."""
        return self.layout == "raw" or self.tagged


@options_of(CamOptions, SECTIONS)
@ranks.together
def cam(options: CamOptions) -> None:
    """Show where the networks look; also called `attention`.

    Makes a labelled panel of each picture: the input, attention over it, the translation, attention over that.

    Examples:

    `ugatit cam icon.png`

    `ugatit cam ./icons --layout overlay --maps generator -o out/`

    `ugatit cam ./icons --layout sheet -o figure.pdf`

    `ugatit cam clip.mp4 -o seen.mp4`

    `ugatit cam icon.png --run runs/horses2zebras -o emerging.webp`
    """
    from ugatit_cli.attention.maps import Style, check_names

    _check_useful(options)
    run = None if options.run is None else _run_folder(options.run, options)
    listed = options.files_from is not None
    asked = replace(
        options,
        output="attention" if options.output is None and (options.inputs != ["-"] or listed) else options.output,
        size="same" if options.size == "auto" else options.size,
    )
    style = Style(options.alpha, options.colormap, options.upsample)
    check_names(options.names)
    raw_file = options.layout == "raw" and (options.output or "").lower().endswith((".npy", ".json"))
    if asked.several and (raw_file or asked.output in (None, "-")):
        raise _not_one(asked)
    sheet = sheets.first_page(asked) if options.layout == "sheet" else None
    whole = "" if run else "For one page of them all: --layout sheet."
    files = partial(pictures.find, asked, named=(".pdf",), whole=whole)
    find = partial(sheets.find, asked, sheet) if sheet else files
    found = find(suffix=partial(_suffix, options))
    _check_jobs(asked, found)
    model = _model_of(run.path) if run else options.model or DEFAULT_MODEL
    prepared = pictures.prepare(asked, found, model, first_only=options.animate is False or sheet is not None)
    if prepared is None:
        return
    drawing = _drawing(options, prepared, style)
    verb = "looked at" if run is None else "animated"
    if sheet:
        _finish_sheet(asked, sheet, prepared, drawing)
        return
    tally = pictures.run(prepared, drawing, command="cam", verb=verb, checkpoints=run)
    if options.animate and run is None and tally.done and not tally.animations:
        console.note("nothing is animated: the pictures have one frame each; --run RUN animates a training run")
    tally.finish(asked.output)


def _check_useful(options: CamOptions) -> None:
    """What the command line says itself must count; files and variables may be for other layouts, too."""
    unseen = SHOWN if options.layout == "raw" and options.report is None else ()
    for name in (*USELESS.get(options.layout, ()), *unseen):
        if name in options.stated and getattr(options, name) != getattr(CamOptions, name):
            raise UsageError(f"--{name} counts for nothing with --layout {options.layout}", "Leave it out.")


def _finish_sheet(options: CamOptions, path: Path, prepared: pictures.Prepared, drawing: Drawing) -> None:
    from ugatit_cli.outputs.attention import Sheet

    assert isinstance(drawing, Sheet)
    if options.dry_run:
        sheets.plan(prepared, path)
        return
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(drawing.strips):
        tally = pictures.run(prepared, drawing, command="cam", verb="looked at")
        pages = sheets.write(options, path, prepared.found, drawing, tally)
    sheets.say(options, pages)
    tally.finish(", ".join(map(str, pages)))


def _run_folder(path: Path, options: CamOptions) -> RunFolder:
    """The training run whose checkpoints look, which some options don't go with."""
    from ugatit_cli.training.run_folder import RunFolder

    if options.model:
        raise UsageError("--model and --run contradict each other: a run has its own models")
    run = RunFolder(expanded(path))
    if not run.exists:
        raise UsageError(
            f"--run {run.path}: not a run folder", "Name a folder that `ugatit train` has made (runs/NAME)."
        )
    if options.layout == "raw":
        raise UsageError("--layout raw can't be animated", "Use --model with the model of the run.")
    if options.report is not None or options.animate is False:
        option = "--report" if options.report is not None else "--no-animate"
        raise UsageError(f"{option} doesn't go with --run, which makes animations")
    if not run.checkpoints():
        raise ModelError(f"{run.path}: has no checkpoint yet", "Wait until `ugatit train` has saved one.")
    return run


def _suffix(options: CamOptions, source: Place) -> str:
    """The longest ending of a result's files: names are planned with it."""
    from ugatit_cli.outputs.attention import RAW_SUFFIX
    from ugatit_cli.pictures import encoding

    if options.layout == "raw":
        return RAW_SUFFIX
    if options.run is not None and options.format == "same":
        source = Path("x.webp")
    return (".generator" if options.tagged else "") + encoding.result_suffix(source, options.format)


def _not_one(options: CamOptions) -> UsageError:
    hint = "Name a folder (-o results)" + (", or a single map (--maps generator)." if options.tagged else ".")
    return UsageError(f"--layout {options.layout} makes several files of a picture", hint)


def _check_jobs(options: CamOptions, found: Found) -> None:
    """Several files can't go to one name, and only some formats are animated."""
    from ugatit_cli.pictures import encoding
    from ugatit_cli.pictures.reading import ANIMATED

    jobs = found.jobs
    _check_films(jobs, options)
    if options.layout != "raw":
        pictures.check_format(jobs, options.format)
    if options.several and found.named:
        raise _not_one(options)
    if options.run is not None:
        first = jobs[0].output if jobs else None
        format = encoding.output_format("WEBP", options.format) if first is None else encoding.format_of(first)
        if format not in ANIMATED:
            raise UsageError(f"{format} can't be animated", "Use --format webp, gif or png.")


def _check_films(jobs: list[Job], options: CamOptions) -> None:
    """A film is one file, made as its frames come."""
    wrong = {
        "--layout raw": options.layout == "raw",
        "--layout sheet": options.layout == "sheet",
        f"--layout {options.layout}": options.tagged,
        "--run": options.run is not None,
        "--normalize batch": options.normalize == "batch",
        "--no-animate": options.animate is False,
    }
    for option in (option for option, given in wrong.items() if given):
        films.require_none(
            jobs, option, "Films take --layout panel, or another one of a single map: --maps generator."
        )


def _drawing(options: CamOptions, prepared: pictures.Prepared, style: Style) -> Drawing:
    """The layout that was asked for, with the maps that the model has; tiles must be large enough for them."""
    from ugatit_cli.attention.maps import Spans, chosen_maps, smallest_for
    from ugatit_cli.attention.words import Subject, missing_text
    from ugatit_cli.outputs.attention import LAYOUTS
    from ugatit_cli.pictures.geometry import as_tile

    model, config, missing = prepared.model, prepared.config, prepared.missing_maps
    chosen = chosen_maps(options.names, missing, name=model)
    tile = as_tile(options.tile, "--tile")
    for name in chosen:
        if name != "generator" and tile and tile < (least := smallest_for(config, name)):
            raise UsageError(
                f"--tile {tile}: too small for the {name} discriminator, which needs {least} pixels",
                f"Use --tile {least} or more, or leave that map out (--maps generator).",
            )
    if "all" in options.names and (text := missing_text(missing)):
        console.note(f"{model}: {text[0].lower()}{text[1:]}")
    return LAYOUTS[options.layout](
        Subject(model, config, prepared.translating.direction),
        chosen,
        style,
        Spans() if options.normalize == "batch" else None,
        by_name="all" not in options.names,
        # As large as is good to look at, rather than as large as asked for.
        shown=options.size == "auto" and (options.layout == "panel" or options.run is not None),
    )


def _model_of(run: Path) -> str:
    """What `--model` calls a run, also where a model has the same name."""
    return str(run) if os.sep in str(run) else os.path.join(".", str(run))  # noqa: PTH118 (a Path drops the dot)

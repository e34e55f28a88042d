"""`ugatit cam`: where the networks look."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ugatit_cli.cli import console, pictures
from ugatit_cli.cli.options import (
    BackgroundOption,
    BatchSizeOption,
    DeviceOption,
    DirectionOption,
    DryRunOption,
    FitOption,
    FormatOption,
    InputsArgument,
    JsonOption,
    OverwriteOption,
    PrecisionOption,
    QualityOption,
    ReportOption,
    SkipExistingOption,
    TileOption,
    ToOption,
    WorkersOption,
    parse_tile,
)
from ugatit_cli.cli.pictures import Request
from ugatit_cli.config import Direction, MapName, ModelConfig
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.pictures.jobs import STDOUT

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Sequence

    from ugatit_cli.attention.style import Style
    from ugatit_cli.outputs.attention import Layout
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.pictures.jobs import Job
    from ugatit_cli.translation.model import Model
    from ugatit_cli.translation.pipeline import Result, TranslateOptions
    from ugatit_cli.weights.folder import ModelFolder


@dataclass(frozen=True)
class View:
    """How attention is shown, as options give it.

    Attributes:
        maps: names, each a single time; `all` may be among them.
        one_scale: for all pictures.
        own_size: pictures are as large as asked for, rather than as is good to look at.
        animate: the user expects animations.
    """

    maps: list[str]
    layout: Layout
    style: Style
    one_scale: bool
    own_size: bool
    animate: bool

    @property
    def tagged(self) -> bool:
        """Whether names of files say which map they show."""
        return self.layout in ("overlay", "heatmap") and (len(self.maps) > 1 or "all" in self.maps)


class CamTask(pictures.Task):
    """Attention of each picture."""

    command = "cam"
    verb = "looked at"

    def __init__(self, request: pictures.Request, view: View) -> None:
        super().__init__(request)
        self.view = view

    def suffix(self, source: Path) -> str:
        """The longest ending of a result's files: names are planned with it."""
        from ugatit_cli.outputs.attention import RAW_SUFFIX

        if self.view.layout == "raw":
            return RAW_SUFFIX
        return (".generator" if self.view.tagged else "") + super().suffix(source)

    def check(self, jobs: Sequence[Job]) -> None:
        """Several files can't go to standard output or to one name."""
        view, output = self.view, self.request.output
        if view.layout != "raw":
            super().check(jobs)
        if view.layout != "raw" and not view.tagged:
            return
        named = bool(jobs) and output is not None and jobs[0].output == Path(os.path.expanduser(output))  # noqa: PTH111
        wrong = output is not None and output.suffix.lower() in (".npy", ".json") and view.layout == "raw"
        if any(job.output is None for job in jobs) or named or wrong or output == STDOUT:
            hint = "Name a folder (-o results)" + (", or a single map (--maps generator)." if view.tagged else ".")
            raise UsageError(f"--layout {view.layout} makes several files of a picture", hint)

    def skipping(self, drawing: Drawing, skipped: int) -> None:
        """Says that pictures don't compare where the user wants that they do."""
        if drawing.spans is not None and skipped:
            console.note(f"the {skipped} skipped have a scale of their own; --overwrite gives all pictures one")

    def finished(self, report: pictures.Report) -> None:
        """Says why there is no animation where the user expects one."""
        if self.view.animate and report.done and not report.animations:
            console.note("nothing is animated: the pictures have one frame each; --run RUN animates a training run")

    def drawing(self, folder: ModelFolder, direction: Direction) -> Drawing:
        """The layout that was asked for, with the maps that the model has."""
        from ugatit_cli.attention.maps import Spans, chosen_maps
        from ugatit_cli.attention.style import Subject, missing_text
        from ugatit_cli.outputs.attention import LAYOUTS

        view, model = self.view, self.request.model
        has = folder.discriminators is not None
        chosen = chosen_maps(view.maps, folder.config, discriminators=has, name=model)
        check_tile(parse_tile(self.request.tile), folder.config, chosen)
        if "all" in view.maps and (text := missing_text(folder.config, discriminators=has)):
            console.note(f"{model}: {text[0].lower()}{text[1:]}")
        subject = Subject(model, folder.config, direction)
        return LAYOUTS[view.layout](
            subject,
            chosen,
            view.style,
            Spans() if view.one_scale else None,
            by_name="all" not in view.maps,
            shown=not view.own_size,
        )


def check_tile(tile: int | None, config: ModelConfig, maps: Sequence[MapName]) -> None:
    """Finds out early that a discriminator can't look at tiles.

    Raises:
        UsageError: they are too small for it.
    """
    for name in maps:
        if name != "generator" and tile and tile < config.smallest(name):
            raise UsageError(
                f"--tile {tile}: too small for the {name} discriminator, which needs {config.smallest(name)} pixels",
                f"Use --tile {config.smallest(name)} or more, or leave that map out (--maps generator).",
            )


FEW = 10


class CamRunTask(CamTask):
    """One animation of each picture.

    Raises:
        UsageError: there is no such run, or an option that doesn't go with it.
        ModelError: the run has no checkpoint.
    """

    verb = "animated"

    def __init__(self, request: Request, view: View, run: Path) -> None:
        from ugatit_cli.training.run_folder import RunFolder

        super().__init__(request, view)
        self.run = RunFolder(run)
        if not self.run.exists:
            raise UsageError(
                f"--run {run}: not a run folder", "Name a folder that `ugatit train` has made (runs/NAME)."
            )
        if view.layout == "raw":
            raise UsageError("--layout raw can't be animated", "Use --model with the model of the run.")
        if request.report is not None or request.first_only:
            option = "--report" if request.report is not None else "--no-animate"
            raise UsageError(f"{option} doesn't go with --run, which makes animations")
        if not self.run.checkpoints():
            raise ModelError(f"{run}: has no checkpoint yet", "Wait until `ugatit train` has saved one.")

    def suffix(self, source: Path) -> str:
        """WebP unless the user wants something else."""
        return super().suffix(Path("x.webp") if self.request.format == "same" else source)

    def check(self, jobs: Sequence[Job]) -> None:
        """Only some formats are animated."""
        from ugatit_cli.pictures import encoding
        from ugatit_cli.pictures.reading import ANIMATED

        super().check(jobs)
        output = jobs[0].output if jobs else None
        format = encoding.output_format("WEBP", self.request.format) if output is None else encoding.format_of(output)
        if format not in ANIMATED:
            raise UsageError(f"{format} can't be animated", "Use --format webp, gif or png.")

    def results(
        self,
        model: Model,
        jobs: list[Job],
        options: TranslateOptions,
        drawing: Drawing,
        stop: threading.Event,
        advance: Callable[[], None],
    ) -> Generator[Result, None, None]:
        """Does the work."""
        from ugatit_cli.training.history import draw_history

        steps = self.run.checkpoints()
        console.note(f"{len(steps)} checkpoint{'s' * (len(steps) > 1)}, from step {steps[0]:,} to {steps[-1]:,}")
        if len(steps) < FEW:
            console.note(f"more frames: train with --keep {10 * FEW}, which keeps as many checkpoints")
        return draw_history(self.run, model, jobs, options, drawing, stop, advance)

    def steps(self, jobs: Sequence[Job]) -> tuple[int, str]:
        """Each checkpoint looks at each picture."""
        return len(jobs) * len(self.run.checkpoints()), "frames"

    def finished(self, report: pictures.Report) -> None:
        """Nothing more: a single checkpoint has been spoken of."""


def model_of(run: Path) -> str:
    """What `--model` calls a run, also where a model has the same name."""
    return str(run) if os.sep in str(run) else os.path.join(".", str(run))  # noqa: PTH118 (a Path drops the dot)


OUTPUT = Path("attention")

CamOutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Folder for the results, or a file for a single picture.  [default: attention]",
        show_default=False,
    ),
]
CamModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A model's name, a model folder or run, or OWNER/NAME[@REVISION] on the Hub.  [default: flat2clay]",
        show_default=False,
    ),
]
MapsOption = Annotated[
    str,
    typer.Option(
        "--maps",
        metavar="MAPS",
        help="generator, local, global (discriminators), several with commas, or all that the model has.",
    ),
]
LayoutOption = Annotated[
    Literal["panel", "overlay", "heatmap", "raw"],
    typer.Option(
        "--layout",
        help="panel: labelled, side by side. overlay: a picture for each map. heatmap: colours alone, with a scale. "
        "raw: float32 .npy, and JSON with the CAM logits.",
    ),
]
AlphaOption = Annotated[
    float, typer.Option("--alpha", metavar="0..1", help="How much of the colours shows over pictures.")
]
ColormapOption = Annotated[
    str,
    typer.Option(
        "--colormap", metavar="NAME", help="inferno, magma, viridis, cividis, turbo, ...; jet is the paper's."
    ),
]
NormalizeOption = Annotated[
    Literal["image", "batch"],
    typer.Option(
        "--normalize", help="image: each map has its own scale. batch: one for all, so that pictures compare."
    ),
]
UpsampleOption = Annotated[
    Literal["bilinear", "bicubic"], typer.Option("--upsample", help="How maps are enlarged to the picture.")
]
CamSizeOption = Annotated[
    str,
    typer.Option(
        "--size",
        metavar="SIZE",
        help="Size of the pictures: same, model, N (short side) or WxH; auto: same, but in panels and animations of "
        "a run 160 to 360 pixels.",
    ),
]
AnimateOption = Annotated[
    bool | None,
    typer.Option(
        "--animate/--no-animate",
        help="Animated inputs give animated results, or a picture of their first frame.  [default: animate]",
        show_default=False,
    ),
]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Instead of a model: one animation (WebP, GIF) over the checkpoints of a training run.",
    ),
]


def cam(
    inputs: InputsArgument,
    output: CamOutputOption = None,
    model: CamModelOption = None,
    direction: DirectionOption = None,
    to: ToOption = None,
    maps: MapsOption = "all",
    layout: LayoutOption = "panel",
    alpha: AlphaOption = 0.6,
    colormap: ColormapOption = "inferno",
    normalize: NormalizeOption = "image",
    upsample: UpsampleOption = "bilinear",
    animate: AnimateOption = None,
    run: RunOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: BatchSizeOption = "auto",
    workers: WorkersOption = "auto",
    size: CamSizeOption = "auto",
    fit: FitOption = "aspect",
    tile: TileOption = "auto",
    background: BackgroundOption = "white",
    format: FormatOption = "same",
    quality: QualityOption = None,
    skip_existing: SkipExistingOption = False,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Show where the generator looks, and where the discriminators look.

    Makes a labelled panel of each picture: the input, attention over it, the translation, attention over that.

    Examples:

    `ugatit cam icon.png`

    `ugatit cam ./icons --model runs/flat2clay --layout overlay --maps generator,local -o out/`

    `ugatit cam icon.png --run runs/flat2clay -o emerging.webp`
    """
    from ugatit_cli.attention.maps import check_names
    from ugatit_cli.attention.style import Style

    run = run and run.expanduser()
    if output is None and inputs != ["-"]:
        output = OUTPUT
    request = pictures.Request(
        inputs=inputs,
        output=output,
        model=_model(model, run),
        direction=direction,
        to=to,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        size="same" if size == "auto" else size,
        fit=fit,
        tile=tile,
        background=background,
        format=format,
        quality=quality,
        skip_existing=skip_existing,
        overwrite=overwrite,
        dry_run=dry_run,
        json_lines=json_lines,
        report=report,
        first_only=animate is False,
    )
    style = Style(alpha, colormap, upsample)
    names = check_names(dict.fromkeys(name.strip() for name in maps.split(",")))
    own_size = size != "auto" or (layout != "panel" and run is None)
    view = View(names, layout, style, normalize == "batch", own_size=own_size, animate=bool(animate))
    pictures.run(CamTask(request, view) if run is None else CamRunTask(request, view, run))


def _model(model: str | None, run: Path | None) -> str:
    if model is not None and run is not None:
        raise UsageError("--model and --run contradict each other: a run has its own models")
    return model_of(run) if run is not None else model or "flat2clay"

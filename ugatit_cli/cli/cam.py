"""`ugatit cam`: where the networks look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ugatit_cli.cli import picture_task
from ugatit_cli.cli.cam_run import CamRunTask, model_of
from ugatit_cli.cli.cam_task import CamTask, View
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
)
from ugatit_cli.errors import UsageError

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
    from ugatit_cli.attention_maps import check_names
    from ugatit_cli.attention_words import Style

    run = run and run.expanduser()
    if output is None and inputs != ["-"]:
        output = OUTPUT
    request = picture_task.Request(
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
    picture_task.run(CamTask(request, view) if run is None else CamRunTask(request, view, run))


def _model(model: str | None, run: Path | None) -> str:
    if model is not None and run is not None:
        raise UsageError("--model and --run contradict each other: a run has its own models")
    return model_of(run) if run is not None else model or "flat2clay"

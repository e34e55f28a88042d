"""`ugatit translate`: pictures and folders of pictures through a model."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

from ugatit_cli.cli import batch, console, transfers
from ugatit_cli.cli.options import (
    MOST_BATCH,
    MOST_WORKERS,
    BackgroundOption,
    BatchSizeOption,
    DeviceOption,
    DirectionOption,
    DryRunOption,
    FitOption,
    FormatOption,
    InputsArgument,
    JsonOption,
    ModelOption,
    OutputOption,
    OverwriteOption,
    PrecisionOption,
    QualityOption,
    SizeOption,
    SkipExistingOption,
    TileOption,
    ToOption,
    WorkersOption,
    default_workers,
    parse_colour,
    parse_count,
    parse_tile,
)
from ugatit_cli.config import Direction, ModelConfig
from ugatit_cli.errors import PictureError, UsageError

if TYPE_CHECKING:
    from ugatit_cli.inputs import Job
    from ugatit_cli.model import Model
    from ugatit_cli.pipeline import TranslateOptions


def translate(
    inputs: InputsArgument,
    output: OutputOption = None,
    model: ModelOption = "flat2clay",
    direction: DirectionOption = None,
    to: ToOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: BatchSizeOption = "auto",
    workers: WorkersOption = "auto",
    size: SizeOption = "same",
    fit: FitOption = "aspect",
    tile: TileOption = "auto",
    background: BackgroundOption = "white",
    format: FormatOption = "same",
    quality: QualityOption = None,
    skip_existing: SkipExistingOption = False,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    json_lines: JsonOption = False,
) -> None:
    """Translate pictures, or whole folders, to the other domain.

    Results keep their picture's name, size, transparency and animation; folders are mirrored.

    Examples:

    `ugatit translate icon.png -o clay.png`

    `ugatit translate ./selfies --model selfie2anime -o out/`

    `ugatit translate photos/ "more/*.jpg" --to anime --model my-model -o out/ --format webp --skip-existing`

    `cat icon.png | ugatit translate - > clay.png`
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    from ugatit_cli.geometry import SizeOptions, check_options
    from ugatit_cli.pipeline import TranslateOptions

    if skip_existing and overwrite:
        raise UsageError("--skip-existing and --overwrite contradict each other")
    sizes = SizeOptions(fit, parse_tile(tile), size)
    colour = parse_colour(background)
    plan = batch.plan_jobs(inputs, output, format)
    batch.check_streams(plan.jobs, json_lines=json_lines)
    folder = transfers.find_model(model)
    check_options(folder.config, sizes)
    options = TranslateOptions(
        direction=resolve_direction(folder.config, direction, to),
        sizes=sizes,
        format=format,
        quality=quality,
        background=colour,
        batch_size=parse_count("--batch-size", batch_size, MOST_BATCH),
        workers=parse_count("--workers", workers, MOST_WORKERS) or default_workers(),
    )
    jobs, skipped = batch.without_existing(plan.jobs, skip_existing=skip_existing, overwrite=overwrite)
    report = batch.Report(json_lines=json_lines, total=len(jobs))
    for argument, reason in plan.missing:
        report.failed(argument, PictureError(f"{argument}: {reason}"))
    for job in skipped:
        report.skipped(job)
    if dry_run:
        report.planned(jobs)
    elif jobs:
        from ugatit_cli.model import Model

        batch.check_writable(jobs)
        ready = Model.from_folder(model, folder, device=device, precision=precision)
        _run(ready, jobs, options, report)
    report.finish(output)


def resolve_direction(config: ModelConfig, direction: Direction | None, to: str | None) -> Direction:
    """The direction from `--direction` and `--to`.

    Raises:
        UsageError: they contradict each other, or the model has no such domain.
    """
    if to is None:
        return direction or "a2b"
    named = config.direction_to(to)
    if direction not in (None, named):
        raise UsageError(f"--direction {direction} leads to {config.target(direction or 'a2b')!r}, --to says {to!r}")
    return named


def _run(model: Model, jobs: list[Job], options: TranslateOptions, report: batch.Report) -> None:
    from ugatit_cli.device import describe_device
    from ugatit_cli.pipeline import translate_files

    config = model.config
    way = f"{config.source(options.direction)} -> {config.target(options.direction)}"
    console.note(
        f"model {model.name} ({way}), device {describe_device(model.device)}, precision {model.precision}, "
        f"{len(jobs)} file{'s' if len(jobs) != 1 else ''}"
    )
    with (
        console.interruptible() as stop,
        console.progress(len(jobs)) as progress,
        contextlib.closing(translate_files(model, jobs, options, stop=stop)) as results,
    ):
        for result in results:
            report.add(result)
            progress.advance()
        report.interrupted = stop.is_set() and not report.disk_full

"""`ugatit translate`: pictures and folders of pictures through a model."""

from __future__ import annotations

from ugatit_cli.cli import pictures
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
    ModelOption,
    OutputOption,
    OverwriteOption,
    PrecisionOption,
    QualityOption,
    ReportOption,
    SizeOption,
    SkipExistingOption,
    TileOption,
    ToOption,
    WorkersOption,
)


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
    report: ReportOption = None,
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
    pictures.run(
        pictures.Task(
            pictures.Request(
                inputs=inputs,
                output=output,
                model=model,
                direction=direction,
                to=to,
                device=device,
                precision=precision,
                batch_size=batch_size,
                workers=workers,
                size=size,
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
            )
        )
    )

"""`ugatit export`: a model as a file that other programs run, ONNX or TorchScript."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.console import find_model
from ugatit_cli.files import expanded
from ugatit_cli.remote.urls import is_folder_text
from ugatit_cli.wording import byte_size


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's name, a model folder or run, or OWNER/NAME on the Hub.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="The file to write: .onnx, or .pt; in a folder, MODEL-DIRECTION.onnx.  "
            "[default: where `translate --engine onnx` finds it]",
            show_default=False,
        ),
    ] = None,
    format: Annotated[Literal["onnx", "torchscript"], typer.Option("--format", help="Kind of file.")] = "onnx",
    direction: Annotated[
        Literal["a2b", "b2a"] | None,
        typer.Option("--direction", help="Which way it translates.  [default: a2b]", show_default=False),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DOMAIN", help="The same by name of the target domain: --to anime.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16"],
        typer.Option("--precision", help="Number format of the weights; fp16 is half as large."),
    ] = "fp32",
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="N|WxH",
            help="The only size of pictures that it takes.  [default: any; of full models their own]",
            show_default=False,
        ),
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Give the attention of the generator, too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model as a file that other programs run: ONNX.

    The file translates one way: float32 pictures (N, 3, H, W), RGB in [0, 1], to the same. It is compared with
    PyTorch on several pictures before it is kept.

    Examples:

    `ugatit export flat2clay -o clay.onnx`

    `ugatit export flat2clay --to flat --precision fp16 --size 256 -o phone.onnx`

    `ugatit export flat2clay && ugatit translate icons/ -m flat2clay --engine onnx -o out/`
    """
    from ugatit_cli.pictures.geometry import as_size

    sides = None if size is None else as_size(size, "--size")[::-1]
    found = find_model(model)
    from ugatit_cli.cli.several import folder_names
    from ugatit_cli.exporting import export as exporting
    from ugatit_cli.translation.choices import resolve_direction

    way = resolve_direction(found.config, model, direction, to)
    options = exporting.ExportOptions(
        None if output is None else _file(output, f"{folder_names([model])[model]}-{way}", exporting.ENDINGS[format]),
        format,
        way,
        precision,
        sides,
        maps,
        overwrite,
    )
    made = exporting.export_model(model, found, options)
    config = found.config
    takes = "any size" if made.description.size is None else "{1}x{0} pixels".format(*made.description.size)
    console.note(f"{config.source(way)} -> {config.target(way)}, {precision}, {takes}, {byte_size(made.bytes)}")
    of_maps = f", attention by {made.difference.attention:.2g} of its highest value" if maps else ""
    console.note(
        f"compared with PyTorch on {made.difference.pictures} pictures: they differ by up to "
        f"{made.difference.levels:.2g} of 255 levels{of_maps}"
    )
    console.made(str(made.path))


def _file(output: str, name: str, endings: Sequence[str]) -> Path:
    """What is named, or a file of that name in the folder that is."""
    path = expanded(output)
    return path / (name + endings[0]) if is_folder_text(output) or path.is_dir() else path

"""`ugatit convert`: official checkpoints become model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.options import parse_domains
from ugatit_cli.errors import UsageError


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="A PyTorch .pt file, or a TensorFlow checkpoint's folder, .index file or prefix."),
    ],
    out_dir: Annotated[Path | None, typer.Argument(help="The model folder to write.", show_default=False)] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Install into your model store instead, for `--model NAME`.")
    ] = None,
    domains: Annotated[
        str | None, typer.Option("--domains", metavar="A,B", help="Names of the two domains: selfie,anime.")
    ] = None,
    dtype: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option("--dtype", help="Float type on disk.")] = "fp32",
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", help="Training size in pixels; light checkpoints don't tell.  [default: 256]"),
    ] = None,
    smoothing: Annotated[
        bool | None,
        typer.Option(
            "--smoothing/--no-smoothing",
            help="TensorFlow only: whether rho was smoothed. Told by the official folder name.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model folder.")] = False,
) -> None:
    """Convert an official U-GAT-IT checkpoint into a model folder.

    Reads the checkpoints of both official codes, PyTorch (.pt, old and new format) and TensorFlow (neither needs
    TensorFlow nor runs code from the file). All settings come from the checkpoint.

    Examples:

    `ugatit convert selfie2anime_params_0100000.pt my-model`

    `ugatit convert UGATIT_selfie2anime_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing --name selfie2anime --domains
    selfie,anime`
    """
    from ugatit_cli.weights import convert as weights
    from ugatit_cli.weights.home import store_path
    from ugatit_cli.weights.imports import keep_receipt
    from ugatit_cli.weights.official import ImportSettings
    from ugatit_cli.weights.store import bundled_models

    if (out_dir is None) == (name is None):
        raise UsageError("give either OUT_DIR or --name NAME")
    if name in bundled_models():
        raise UsageError(f"{name} is the name of a bundled model", "Choose another --name.")
    folder = store_path(name) if name is not None else Path(str(out_dir)).expanduser()
    settings = ImportSettings(parse_domains(domains) if domains else None, image_size, smoothing)
    model, notes = weights.convert(checkpoint.expanduser(), folder, settings, storage=dtype, overwrite=overwrite)
    if name is not None:
        keep_receipt(name, model)
    for text in notes:
        console.note(f"note: {text}")
    config = model.config
    parts = "with" if model.discriminators else "without"
    console.note(
        f"{config.domain_a} <-> {config.domain_b}: {config.variant}, {config.channels} channels, "
        f"{config.blocks} blocks, {config.image_size} px, {config.dialect} dialect, {parts} discriminators"
    )
    console.note(f"translate with: ugatit translate PICTURES --model {name or folder} -o out/")
    console.result(str(folder))

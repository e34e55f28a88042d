"""`ugatit fetch` and `ugatit convert`: models of the Hub and the authors' checkpoints become model folders here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.listing import size_text
from ugatit_cli.cli.options import DryRunOption, parse_domains
from ugatit_cli.errors import UsageError
from ugatit_cli.files import expanded
from ugatit_cli.wording import byte_size

if TYPE_CHECKING:
    from ugatit_cli.weights.fetch import PlannedFile

INCEPTION: Final = "inception"


def fetch(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A name that `ugatit models` lists, OWNER/NAME[@REVISION], or inception: what `evaluate` needs.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write a model folder there instead.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Download it again, even if it is here.")] = False,
    dry_run: DryRunOption = False,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from-file",
            metavar="PATH",
            help="Take it from there, not from a network: a model folder, an official checkpoint, Inception.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="With --from-file: install that model folder, as `--model NAME`.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch a model, and keep it for use without a network.

    `--model` does the same on a model's first use; here a newer version of it is looked for, too. Interrupted
    downloads go on where they stopped. Files are compared with the sizes and hashes that are known of them. What
    authors have published in their own formats is converted, and read without running any code in it.

    Examples:

    `ugatit fetch selfie2anime`

    `ugatit fetch someone/horse2zebra@v1.0 -o models/horse2zebra`

    `ugatit fetch selfie2anime --from-file ugatit_light.pdparams`

    `ugatit fetch --from-file usb/clay --name clay`

    Environment: HF_TOKEN (private models), HF_HUB_CACHE and HF_HOME (where files are kept), HF_ENDPOINT,
    UGATIT_OFFLINE=1, UGATIT_MIRROR, UGATIT_HOME, UGATIT_MANIFEST, KAGGLE_USERNAME and KAGGLE_KEY.
    """
    from ugatit_cli.weights import fetch as fetch_module
    from ugatit_cli.weights.catalog import argument_for

    if dry_run and from_file is not None:
        raise UsageError("--dry-run and --from-file contradict each other")
    to = expanded(output) if output is not None else None
    from_file = expanded(from_file) if from_file is not None else None
    if model == INCEPTION and name is None:
        _inception(to, from_file, force=force, dry_run=dry_run)
        return
    _check(model, name, output, from_file)
    with console.showing() as listener:
        if name is not None and from_file is not None:
            found = fetch_module.install(from_file, name, listener, force=force)
        elif model is None:
            raise UsageError("no MODEL", "`ugatit models` lists those that can be fetched.")
        elif not dry_run:
            found = fetch_module.fetch(model, listener, to=to, force=force, from_file=from_file)
        else:
            files, notes = fetch_module.preview(model, listener, to=to, force=force)
    if dry_run:
        for file in files:
            state = "here already" if file.here else "to download"
            console.result(f"{file.name}\t{size_text(file.size, file.about)}\t{state}")
        for text in [*notes, f"to download: {download_size(files)}; nothing was changed"]:
            console.note(text)
        return
    size = byte_size(sum(path.stat().st_size for path in (found.weights, found.discriminators) if path is not None))
    config = found.config
    console.note(f"{config.pair}: {config.summary}, {size}")
    used = shlex.quote(argument_for(to) if to else str(name or model))
    console.note(f"translate with: ugatit translate PICTURES --model {used} -o out/")
    console.made(str(found.path))


def _check(model: str | None, name: str | None, output: Path | None, from_file: Path | None) -> None:
    """Whether it is either a model to fetch or a folder to install."""
    if name is None and model is None and from_file is not None:
        raise UsageError(f"--from-file {from_file}: neither MODEL nor --name says what it is", _what_it_is(from_file))
    if name is None:
        return
    if from_file is None:
        hint = f"Say where it is: ugatit fetch --from-file DIR --name {shlex.quote(name)}"
        raise UsageError("--name is what a model folder is installed as", hint)
    if model is not None or output is not None:
        other = "MODEL" if model is not None else "--output"
        raise UsageError(f"--name and {other} contradict each other", "ugatit fetch --from-file DIR --name NAME")


def _what_it_is(path: Path) -> str:
    """The command that takes what is there."""
    from ugatit_cli.weights.home import BUNDLED, holds_model
    from ugatit_cli.weights.manifest import MODEL_NAME

    there = shlex.quote(str(path))
    if not holds_model(path):
        return f"Of a model that `ugatit models` lists: ugatit fetch MODEL --from-file {there}"
    name = path.resolve().name
    name = f"my-{name}" if (BUNDLED / name).is_dir() else name if MODEL_NAME.fullmatch(name) else "NAME"
    return f"Install that model: ugatit fetch --from-file {there} --name {name}"


def _inception(to: Path | None, from_file: Path | None, *, force: bool, dry_run: bool) -> None:
    from ugatit_cli.metrics import inception

    if to is not None and from_file is not None:
        raise UsageError("--output and --from-file contradict each other", "Leave one out.")
    place = (to / inception.NAME) if to is not None else inception.place()
    if dry_run:
        state = "here already" if place.is_file() else "to download"
        console.result(f"{inception.ADDRESS}\t{byte_size(inception.SIZE)}\t{state}")
        return
    if from_file is not None:
        inception.install(from_file, place)
    elif force or not inception.is_here(place):
        console.note(f"fetching {inception.NAME}, {byte_size(inception.SIZE)}")
        inception.download(place)
    way = f"where it is needed: ugatit fetch {INCEPTION} --from-file {shlex.quote(str(to))}"
    console.note("evaluate has it" if to is None else way)
    console.made(str(place))


def download_size(files: Sequence[PlannedFile]) -> str:
    """How much there is to download, as far as that is known."""
    left = [file for file in files if not file.here]
    if len(left) == 1:
        return size_text(left[0].size, left[0].about)
    known = byte_size(sum(file.size or 0 for file in left))
    return f"{known}, and what has no size stated" if any(file.size is None for file in left) else known


def convert(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="A checkpoint, or one for each way.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="The model folder to write.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Install into your model store instead, for `--model NAME`."),
    ] = None,
    domains: Annotated[
        str | None, typer.Option("--domains", metavar="A,B", help="Names of the two domains: selfie,anime.")
    ] = None,
    dtype: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option("--dtype", help="Float type on disk.")] = "fp32",
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PX",
            help="Training size in pixels; light checkpoints don't tell.  [default: 256]",
        ),
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
    """Convert the authors' checkpoints into a model folder.

    Reads U-GAT-IT (PyTorch .pt, PaddlePaddle .pdparams, TensorFlow's folder or .index), CycleGAN (latest_net_G*.pth:
    one way; two files or their folder: both), CartoonGAN (*_net_G_float.pth), UNIT and MUNIT (gen_*.pt, and dis_*.pt
    if it is given, too; or their folder), DRIT, and safetensors with the same names. What a file holds is seen in
    it; no code in it is run. All settings come from the checkpoint.

    Examples:

    `ugatit convert selfie2anime_params_0100000.pt -o my-model`

    `ugatit convert horse2zebra.pth -o my-model --domains horse,zebra`

    `ugatit convert latest_net_G_A.pth latest_net_G_B.pth -o both --domains horse,zebra`

    `ugatit convert UGATIT_selfie2anime_lsgan/ --name selfie2anime --domains selfie,anime`
    """
    from ugatit_cli.methods.base import OfficialSettings
    from ugatit_cli.weights import official
    from ugatit_cli.weights.catalog import argument_for
    from ugatit_cli.weights.home import BUNDLED, store_path

    files = [expanded(path) for path in paths]
    if output is not None and name is not None:
        raise UsageError("--output and --name contradict each other", "Leave one of them out.")
    named = output is not None or name is not None
    # In earlier versions the folder came last.
    folder = store_path(name) if name is not None else expanded(output) if output is not None else files.pop()
    if not 1 <= len(files) <= 2 or (named and len(files) == 2 and not files[1].exists()):
        raise UsageError("give one or two checkpoints, and either --output DIR or --name NAME")
    if name is not None and (BUNDLED / name).is_dir():
        raise UsageError(f"{name} is the name of a bundled model", "Choose another --name.")
    settings = OfficialSettings(parse_domains(domains) if domains else None, image_size, smoothing)
    model, notes = official.convert(files, folder, settings, storage=dtype, overwrite=overwrite)
    for text in notes:
        console.note(f"note: {text}")
    config = model.config
    parts = "with" if model.discriminators else "without"
    console.note(f"{config.pair}: {config.summary}, {parts} discriminators")
    used = shlex.quote(name or argument_for(folder))
    console.note(f"translate with: ugatit translate PICTURES --model {used} -o out/")
    console.made(str(folder))

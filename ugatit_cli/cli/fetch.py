"""`ugatit fetch`: models from the Hub, or from the authors, onto this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ugatit_cli.cli import console, transfers
from ugatit_cli.cli.options import DryRunOption
from ugatit_cli.errors import UsageError

if TYPE_CHECKING:
    from ugatit_cli.weights.fetch import Plan


def fetch(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name that `ugatit models` lists, or OWNER/NAME[@REVISION].")
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Write a model folder there instead.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Download it again, even if it is here.")] = False,
    dry_run: DryRunOption = False,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from-file",
            metavar="PATH",
            help="Take it from there, not from a network: a model folder, or an official checkpoint.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch a model, check it, and keep it for use without a network.

    `--model` does the same on a model's first use; here a newer version of it is looked for, too. Interrupted
    downloads go on where they stopped. Files are compared with the sizes and hashes that are known of them, and
    nothing but safetensors, JSON and text is ever fetched, except for the authors' own TensorFlow checkpoints, which
    are converted.

    Examples:

    `ugatit fetch selfie2anime`

    `ugatit fetch someone/horse2zebra@v1.0 --to models/horse2zebra`

    `ugatit fetch selfie2anime --from-file UGATIT_selfie2anime_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing`

    Environment: HF_TOKEN (private models), HF_HUB_CACHE and HF_HOME (where files are kept), HF_ENDPOINT,
    HF_HUB_OFFLINE=1, UGATIT_HOME, UGATIT_MANIFEST.
    """
    from ugatit_cli.weights import fetch as weights

    if dry_run and from_file is not None:
        raise UsageError("--dry-run and --from-file contradict each other")
    request = weights.Request(model, to, force=force, source=from_file)
    with transfers.showing() as listener:
        if dry_run:
            plan = weights.plan(request, listener)
        else:
            found = weights.run(request, listener)
    if dry_run:
        _say(plan)
        return
    size = sum(path.stat().st_size for path in (found.weights, found.discriminators) if path is not None)
    config = found.config
    console.note(
        f"{config.domain_a} <-> {config.domain_b}: {config.variant}, {config.channels} channels, "
        f"{config.image_size} px, {console.bytes_text(size)}"
    )
    console.note(f"translate with: ugatit translate PICTURES --model {shlex.quote(str(to or model))} -o out/")
    console.result(str(found.path))


def _say(plan: Plan) -> None:
    for file in plan.files:
        size = console.bytes_text(file.size) if file.size is not None else "size unknown"
        state = "here already" if file.here else "to download"
        console.result(f"{file.name}\t{size}\t{state}")
    for text in plan.notes:
        console.note(text)
    console.note(f"{console.bytes_text(plan.to_download)} to download; nothing was changed")

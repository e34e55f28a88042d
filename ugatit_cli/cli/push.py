"""`ugatit push`: a model onto the Hub, with a page that says what it is."""

from __future__ import annotations

import contextlib
import os
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.console import Transfer, find_model
from ugatit_cli.errors import Interrupted, UsageError
from ugatit_cli.files import expanded
from ugatit_cli.wording import byte_size

if TYPE_CHECKING:
    from ugatit_cli.publishing.push import Staged
    from ugatit_cli.remote.hub import HubId


def push(
    model: Annotated[
        str, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder, a model folder, or a model's name.")
    ],
    repository: Annotated[str, typer.Argument(metavar="OWNER/REPO", help="Where to on the Hub; made if need be.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    with_discriminators: Annotated[
        bool, typer.Option("--with-discriminators", help="Publish them, too: others can fine-tune with them.")
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option("--licence", "--license", metavar="ID", help="A Hub licence id: mit, cc-by-4.0, other."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="TEXT", help="What it was trained on, in one line.")
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="What it does, in one line.")
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples", metavar="FILE", help="The picture on its page; by default the last samples of a run."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write what would be published into a folder, and ask no network.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where --dry-run writes.  [default: ./REPO]"),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Publish into a repository that holds something else; replace its model card, and --output DIR.",
        ),
    ] = False,
) -> None:
    """Publish a model on the Hugging Face Hub.

    The card tells what the model does, how to use it, how it was trained, and shows samples; a README.md in the model
    folder takes its place. A card that the repository has already is kept, unless you give another or say something
    new for it. Log in first: `hf auth login`. What is written to stdout is the model's entry for a manifest, with the
    hash of every file.

    Examples:

    `ugatit push runs/horses2zebras ada/horse2zebra --licence mit --data "1,067 horses and 1,334 zebras of ImageNet"`

    `ugatit push runs/horses2zebras ada/horse2zebra --dry-run -o look`

    `ugatit push my-model ada/selfie2anime --private --with-discriminators`
    """
    # Pillow warns of large pictures and odd metadata; what matters is reported with its path.
    warnings.filterwarnings("ignore", module="PIL")
    if output is not None and not dry_run:
        raise UsageError("--output is where --dry-run writes", "Add --dry-run, or leave --output out.")
    from ugatit_cli.publishing.card import Options
    from ugatit_cli.publishing.push import check_access, parse_target, staged
    from ugatit_cli.weights.folder import check_target

    target = parse_target(repository)
    options = Options(
        licence=_given("--licence", licence).lower(),
        data=_given("--data", data),
        description=_given("--description", description),
        samples=expanded(samples) if samples is not None else None,
        discriminators=with_discriminators,
        private=private,
        overwrite=overwrite,
    )
    if not dry_run:
        check_access()
    found = find_model(model)
    # Absolute: `.` can't be renamed.
    folder = (expanded(output) if output is not None else Path(target.repository.rpartition("/")[2])).absolute()
    if dry_run:
        if folder.exists() and folder.samefile(found.path):
            raise UsageError(f"{folder} is the model itself", "Name another folder: --output DIR")
        check_target(folder, overwrite=overwrite)
    with _ended_in_words(), staged(found, target, options, Transfer()) as ready:
        if dry_run:
            _write(ready, target, folder)
        else:
            _upload(ready, target)


def _given(option: str, text: str | None) -> str:
    if text is not None and not text.strip():
        raise UsageError(f"{option} is empty", "Say something, or leave it out.")
    return (text or "").strip()


@contextlib.contextmanager
def _ended_in_words() -> Iterator[None]:
    """It ends with nothing left behind."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted before all was done",
            "A model is published whole or not at all; the same command again sends only what is missing.",
        ) from None


def _write(staged: Staged, target: HubId, folder: Path) -> None:
    from ugatit_cli.remote.hub import endpoint
    from ugatit_cli.remote.patience import without_secrets
    from ugatit_cli.weights.folder import copy_model

    options = staged.options
    copy_model(staged.model, folder, overwrite=options.overwrite)
    where = f"{'private ' if options.private else ''}repository {without_secrets(endpoint())}/{target.repository}"
    console.note(f"would publish to the {where}:")
    for name, digest in staged.files.items():
        console.note(f"  {name}  {byte_size(digest.size)}")
    command = ["ugatit", "push", str(folder), target.repository]
    said = {
        "--private": options.private,
        "--with-discriminators": options.discriminators,
        "--overwrite": options.overwrite,
        "--licence": options.licence,
        "--data": options.data,
        "--description": options.description,
    }
    for option, value in said.items():
        if value:
            command += [option] if value is True else [option, str(value)]
    console.note(f"nothing was sent; edit its README.md, then: {shlex.join(command)}")
    console.made(str(folder))


def _upload(staged: Staged, target: HubId) -> None:
    from ugatit_cli.publishing.push import upload
    from ugatit_cli.weights.manifest import entry_toml, read_manifest
    from ugatit_cli.weights.tables import SCHEMA, manifest_path, place_of_user_manifest

    total = sum(digest.size for digest in staged.files.values())
    console.note(f"publishing {', '.join(staged.files)} ({byte_size(total)})")
    done = upload(staged, target, Transfer(), bars=console.is_live())
    console.note(f"{'published' if done.changed else 'nothing changed'}: {done.url}")
    console.note(f"translate with: ugatit translate PICTURES --model {target.repository} -o out/")
    name = done.entry.name
    path = place_of_user_manifest()
    console.note(
        f"to pin exactly these files under the name {name}, add what follows to {path}, in place of an entry of that "
        "name if it has one"
        + ("" if os.access(path, os.F_OK) else f"; a new file begins with the line: schema = {SCHEMA}")
    )
    shipped = read_manifest(manifest_path()).get(name)
    if shipped is not None and shipped.source == "bundled":
        console.note(f"note: it would take the place of the bundled model {name}; to have both, change the name")
    console.result(*entry_toml(done.entry).rstrip("\n").split("\n"))

"""`ugatit data`: lists, shows, fetches and removes data sets."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.crop_faces import crop_faces
from ugatit_cli.cli.data_view import COLUMNS, data_lines, document, groups, pictures
from ugatit_cli.cli.listing import ListFirst, ask_to_remove, screen_width, show_list, size_text
from ugatit_cli.cli.options import ColumnsOption, Command, DryRunOption, parse_columns
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.files import expanded
from ugatit_cli.wording import byte_size

if TYPE_CHECKING:
    from ugatit_cli.datasets.catalog import KnownData

app = typer.Typer(name="data", cls=ListFirst, rich_markup_mode=None)

FetchedArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A name that `ugatit data` lists, or hub:OWNER/NAME.", show_default=False),
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A name that `ugatit data` lists.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="All that is known, as JSON.")]


@app.callback()
def data() -> None:
    """List data sets to train on; fetch, find and remove them.

    `ugatit data` alone shows the list, `ugatit data --json` the same and more for programs. Nothing but `fetch` asks
    the network.

    Examples:

    `ugatit data`

    `ugatit data show horse2zebra`

    `ugatit data fetch horse2zebra`

    `ugatit train --data horse2zebra`
    """


@app.command("list", cls=Command)
def list_data(json_array: JsonOption = False) -> None:
    """Show all data sets that have a name.

    The same as `ugatit data` alone.
    """
    from ugatit_cli.datasets.catalog import catalog

    found = catalog()
    if json_array:
        console.document([document(one) for one in found])
    else:
        show_list(COLUMNS, groups(found))


@app.command(cls=Command)
def show(name: NameArgument, json_object: JsonOption = False) -> None:
    """Show all that is known of one data set.

    Example:

    `ugatit data show vangogh2photo`
    """
    from ugatit_cli.datasets.catalog import known

    found = known(name)
    if json_object:
        console.ends_with(lambda: document(found), indent=2)
    else:
        console.result(*data_lines(found, screen_width()))


@app.command(cls=Command)
def fetch(
    name: FetchedArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write it into that folder instead.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Download it again, even if it is here.")] = False,
    dry_run: DryRunOption = False,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from-file",
            metavar="PATH",
            help="Take it from there, not from a network: its zip, or a folder with its parquet files or packages.",
            show_default=False,
        ),
    ] = None,
    columns: ColumnsOption = None,
) -> None:
    """Fetch a data set, and keep it for use without a network.

    `train` and `evaluate` do the same when `--data NAME` is used first. Interrupted downloads go on where they
    stopped; a data set is there as a whole, or not at all.

    Examples:

    `ugatit data fetch horse2zebra`

    `ugatit data fetch vangogh2photo -o ./paintings`

    `ugatit data fetch horse2zebra --from-file ~/Downloads/horse2zebra.zip`

    Environment: UGATIT_HOME, UGATIT_MANIFEST, UGATIT_MIRROR, UGATIT_OFFLINE=1.
    """
    from ugatit_cli.datasets import fetch as fetch_module
    from ugatit_cli.datasets import store
    from ugatit_cli.datasets.catalog import known

    chosen = parse_columns(columns)
    if dry_run and from_file is not None:
        raise UsageError("--dry-run and --from-file contradict each other")
    if dry_run:
        _preview(known(name), here=output is None and not force)
        return
    to = expanded(output) if output is not None else None
    from_file = expanded(from_file) if from_file is not None else None
    with console.showing() as listener:
        folder = fetch_module.fetch(name, listener, to=to, force=force, from_file=from_file, columns=chosen)
    if (found := store.read(folder)) is not None:
        console.note(f"{pictures(found.counts)}, {byte_size(found.size)}")
        name = found.name if chosen else name  # which has the columns, too
    console.note(f"train with: ugatit train --data {shlex.quote(str(to or name))}")
    console.made(str(folder))


def _preview(known: KnownData, *, here: bool) -> None:
    from ugatit_cli.datasets.fetch import said_first

    here = here and known.stored is not None
    console.result(f"{known.name}\t{size_text(known.size)}\t{'here already' if here else 'to download'}")
    if known.entry is not None and not here:
        for text in said_first(known.entry):
            console.note(text)
    console.note("nothing was changed")


app.command("crop-faces", cls=Command)(crop_faces)


@app.command(cls=Command)
def rm(
    name: NameArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False
) -> None:
    """Remove a data set that was fetched.

    Example:

    `ugatit data rm horse2zebra`
    """
    from ugatit_cli.datasets.catalog import known
    from ugatit_cli.datasets.fetch import remove

    found = known(name)
    if found.stored is not None and not yes:
        warning = "" if found.entry is not None else "No manifest tells where it could be got again."
        ask_to_remove(found.name, found.stored.size, [found.folder], "ugatit data rm", warning)
    console.note(f"removed {found.name}: {byte_size(remove(name))} freed")


@app.command(cls=Command)
def path(name: NameArgument) -> None:
    """Print the folder of a data set that is here.

    Example:

    `ls "$(ugatit data path horse2zebra)/trainA"`
    """
    from ugatit_cli.datasets.catalog import known

    found = known(name)
    if found.stored is None:
        raise ModelError(
            f"{found.name} is not on this machine", f"Fetch it: ugatit data fetch {shlex.quote(found.name)}"
        )
    console.result(str(found.folder))

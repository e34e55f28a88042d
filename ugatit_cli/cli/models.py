"""`ugatit models`: lists, shows, checks and removes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.listing import ListFirst, ask_to_remove, screen_width, show_list
from ugatit_cli.cli.models_view import COLUMNS, document, full_document, groups, in_order, model_lines
from ugatit_cli.cli.options import Command
from ugatit_cli.errors import InputsFailed, Interrupted, ModelError
from ugatit_cli.wording import byte_size

if TYPE_CHECKING:
    from ugatit_cli.weights.known import Known

app = typer.Typer(name="models", cls=ListFirst, rich_markup_mode=None)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A name from the table, a Hub id, a model folder or a run.", show_default=False
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Also those that nobody has published weights of.")]
JsonOption = Annotated[bool, typer.Option("--json", help="All that is known, as JSON.")]


@app.callback()
def models() -> None:
    """List models; check, find and remove them.

    `ugatit models` alone shows the table: first what works here, then what can be downloaded. `ugatit models --json`
    shows the same and more for programs. Nothing here asks the network.

    Examples:

    `ugatit models`

    `ugatit models show selfie2anime`

    `ugatit models verify`

    `cd "$(ugatit models path my-model)"`
    """


@app.command("list", cls=Command)
def list_models(every: AllOption = False, json_array: JsonOption = False) -> None:
    """Show models: what works here, then what can be downloaded.

    The same as `ugatit models` alone.
    """
    from ugatit_cli.weights.catalog import catalog

    known = catalog(console.Transfer())
    found = in_order(known if every else [one for one in known if one.state != "no weights"])
    if json_array:
        console.document([document(one) for one in found])
        return
    show_list(COLUMNS, groups(found))
    if hidden := len(known) - len(found):
        console.note(f"{hidden} more {'has' if hidden == 1 else 'have'} no weights yet: ugatit models --all")


@app.command(cls=Command)
def show(name: NameArgument, json_object: JsonOption = False) -> None:
    """Show all that is known of one model.

    Example:

    `ugatit models show selfie2anime`
    """
    from ugatit_cli.weights.catalog import known

    found = known(name, console.Transfer())
    if json_object:
        console.ends_with(lambda: full_document(found), indent=2)
        return
    console.result(*model_lines(found, screen_width()))


@app.command(cls=Command)
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="By default, all that are here.", show_default=False)
    ] = None,
) -> None:
    """Check every file of models for damage.

    Compares each with the hash that it had when it was made or fetched. Tells the digest, too, which pins a model
    wherever one is named: MODEL@sha256:DIGEST. Nothing is removed or repaired. Exit code 3 if anything is damaged, 1
    if nobody recorded the hashes of something.

    Examples:

    `ugatit models verify`

    `ugatit models verify usb/clay`
    """
    from ugatit_cli.weights import catalog
    from ugatit_cli.weights.hashes import record_line
    from ugatit_cli.weights.known import verify as read_again

    found, hears = [], console.Transfer()
    here = [one for one in catalog.catalog(hears) if one.folder is not None] if name is None else []
    chosen = here if name is None else [catalog.known(name, hears)]
    for one in chosen:
        found.append(read_again(one))
        console.result(_verdict(found[-1]))
    damaged = [one for one in found if one.problem]
    if damaged:
        ways = dict.fromkeys(way for one in damaged if (way := _way_out(one)))
        raise ModelError(f"damaged: {', '.join(one.name for one in damaged)}", "\n".join(ways))
    if unknown := [one for one in found if one.unverifiable]:
        ways = dict.fromkeys(record_line(one.folder) for one in unknown if one.folder is not None)
        trust = "If you trust the files as they are, record their hashes:"
        raise InputsFailed(f"not verifiable: {', '.join(one.name for one in unknown)}", "\n".join([trust, *ways]))


def _verdict(verified: Known) -> str:
    if verified.problem:
        # Neither the folder, which the name stands for, nor that it is damaged need be said twice.
        inside = verified.problem.replace(f"{verified.folder}{os.sep}", "").replace(": damaged: ", ": ")
        return f"{verified.name}: damaged: {inside.replace(chr(10), '; ')}"
    if verified.unverifiable:
        state = f"not verifiable: nobody recorded the hash of {', '.join(verified.unverifiable)}; as it is now"
    else:
        state = f"ok ({len(verified.parts)} files, {byte_size(verified.size or 0)})"
    return f"{verified.name}: {state}, sha256:{verified.digest()}"


def _way_out(damaged: Known) -> str:
    if damaged.kind != "folder":
        return ": ".join(damaged.next_step)
    return damaged.sums.way_out if damaged.sums is not None else "Copy or fetch the model again."


@app.command(cls=Command)
def rm(
    name: NameArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False
) -> None:
    """Remove a model from your store, or a fetched one.

    A fetched model goes from the Hub's cache, at the commit that was fetched; an imported one with the checkpoint
    that it was converted from.

    Example:

    `ugatit models rm my-model`
    """
    from ugatit_cli.weights.catalog import known
    from ugatit_cli.weights.removal import removal, remove

    planned = removal(known(name, console.Transfer()))
    if planned.also:
        verb = "goes" if len(planned.also) == 1 else "go"
        console.note(f"the same files are known as {', '.join(planned.also)}, which {verb} with them")
    if not yes:
        alone = planned.known.kind == "store" and planned.known.hub is None and not planned.known.address
        warning = "Nothing tells where it could be got again: this may be the only copy." if alone else ""
        ask_to_remove(planned.known.name, planned.size, planned.places, "ugatit models rm", warning)
    try:
        freed = remove(planned, console.Transfer())
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted while {name} was removed", "`ugatit models` tells whether it is still there."
        ) from None
    console.note(f"removed {name}: {byte_size(freed)} freed")


@app.command(cls=Command)
def path(name: NameArgument) -> None:
    """Print the folder of a model that is here.

    Example:

    `ls -l "$(ugatit models path flat2clay)"`
    """
    from ugatit_cli.weights.catalog import known
    from ugatit_cli.weights.known import absent

    found = known(name, console.Transfer())
    if found.folder is None:
        raise absent(found)
    console.result(str(found.folder))

"""`ugatit models`: what there is, what is here, and whether it is as it was."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ugatit_cli.cli import console
from ugatit_cli.cli import models_report as report
from ugatit_cli.errors import Interrupted, ModelError, UsageError

if TYPE_CHECKING:
    from ugatit_cli.weights.catalog import Verdict
    from ugatit_cli.weights.removal import Removal


class Models(TyperGroup):
    """`ugatit models` is short for `ugatit models list`; without options of its own once a command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds the command if there is none."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        self.add_help_option = args[0] not in self.commands  # see `app.Root`
        return super().parse_args(ctx, args)


app = typer.Typer(name="models", cls=Models, rich_markup_mode=None)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A name from the table, a Hub id, a model folder or a run.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="All that is known, as JSON.")]


@app.callback()
def models() -> None:
    """List the models that `--model` takes; check, find and remove them.

    `ugatit models` alone shows the table, `ugatit models --json` the same and more for programs. Nothing here asks
    the network.

    Examples:

    `ugatit models`

    `ugatit models show selfie2anime`

    `ugatit models verify`

    `cd "$(ugatit models path my-model)"`
    """


@app.command("list")
def list_models(json_array: JsonOption = False) -> None:
    """Show all known models: the manifest's, your store's, those fetched from the Hub.

    The same as `ugatit models` alone.
    """
    from ugatit_cli.weights.catalog import catalog

    found = catalog()
    if json_array:
        report.write_json([report.document(one) for one in found])
    else:
        report.show_table(found)


@app.command()
def show(name: NameArgument, json_object: JsonOption = False) -> None:
    """Show all that is known of one model: origin, licence, sizes, files and their hashes.

    Example:

    `ugatit models show selfie2anime`
    """
    from ugatit_cli.weights.catalog import known

    found = known(name)
    if json_object:
        report.write_json(report.full_document(found))
    else:
        report.show_model(found)


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="By default, all that are here.", show_default=False)
    ] = None,
) -> None:
    """Read models again, and compare every file with the hash that it had when it was made or fetched.

    Nothing is removed or repaired. Exit code 3 if anything is damaged.

    Examples:

    `ugatit models verify`

    `ugatit models verify flat2clay`
    """
    from ugatit_cli.weights import catalog

    chosen = catalog.catalog() if name is None else [catalog.known(name)]
    damaged = []
    for one in chosen:
        if name is not None or one.folder is not None:
            verdict = catalog.verify(one)
            console.result(_verdict_line(verdict))
            if verdict.damage:
                damaged.append(verdict.known)
    if damaged:
        ways = dict.fromkeys(": ".join(one.next_step) for one in damaged if one.next_step[1])
        raise ModelError(f"damaged: {', '.join(one.name for one in damaged)}", "\n".join(ways))


def _verdict_line(verdict: Verdict) -> str:
    name = verdict.known.name
    if verdict.damage:
        return f"{name}: damaged: {'; '.join(report.plain(line) for line in verdict.damage)}"
    if not verdict.checked:
        return f"{name}: opens; nobody recorded its hashes"
    count = len(verdict.checked)
    size = console.bytes_text(verdict.known.size or 0)
    unknown = f"; nobody recorded the hash of {', '.join(verdict.unknown)}" if verdict.unknown else ""
    return f"{name}: ok ({count} file{'s' if count != 1 else ''}, {size}){unknown}"


@app.command()
def rm(
    name: NameArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False
) -> None:
    """Remove a model from your store, or one that was fetched from the Hub.

    A fetched model goes from the Hub's cache, at the commit that was fetched; an imported one with the checkpoint
    that it was converted from.

    Example:

    `ugatit models rm my-model`
    """
    from ugatit_cli.cli import transfers
    from ugatit_cli.weights import removal
    from ugatit_cli.weights.catalog import known

    planned = removal.plan(known(name))
    if planned.also:
        verb = "goes" if len(planned.also) == 1 else "go"
        console.note(f"the same files are known as {', '.join(planned.also)}, which {verb} with them")
    if not yes:
        _ask(planned)
    try:
        freed = removal.remove(planned, transfers.PlainTransfer())
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted while {name} was removed", "`ugatit models` tells whether it is still there."
        ) from None
    console.note(f"removed {name}: {console.bytes_text(freed)} freed")


def _ask(planned: Removal) -> None:
    name, size = planned.known.name, console.bytes_text(planned.size)
    for path in planned.places:
        console.note(f"goes: {path}")
    if planned.only_copy:
        console.note("Nothing tells where it could be got again: this may be the only copy.")
    if not sys.stdin.isatty():
        raise UsageError(
            f"nobody is there to confirm that {name} is to be removed ({size})",
            f"Add --yes: ugatit models rm {shlex.quote(name)} --yes",
        )
    if not _confirmed(f"Remove {name} ({size})?"):
        console.note("nothing was removed")
        raise typer.Exit(1)


def _confirmed(question: str) -> bool:
    # Not `typer.confirm`, for which Ctrl-C is the same as the end of the input.
    try:
        console.stderr().print(f"{question} [y/N]: ", markup=False, end="")
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        console.note("")
        raise Interrupted("interrupted; nothing was removed") from None
    if not answer.endswith("\n"):
        console.note("")
    return answer.strip().lower() in ("y", "yes")


@app.command()
def path(name: NameArgument) -> None:
    """Print the folder of a model that is here.

    Example:

    `ls -l "$(ugatit models path flat2clay)"`
    """
    from ugatit_cli.weights.catalog import absent, known

    found = known(name)
    if found.folder is None:
        raise absent(found)
    console.result(str(found.folder))

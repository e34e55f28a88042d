"""`ugatit models`: a table for people, lines for other programs, JSON; checks and removal."""

from __future__ import annotations

import json
import math
import shlex
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from ugatit_cli.cli import console
from ugatit_cli.cli.options import Command
from ugatit_cli.errors import InputsFailed, Interrupted, ModelError, UsageError
from ugatit_cli.wording import byte_size, shown

if TYPE_CHECKING:
    from ugatit_cli.weights.catalog import Known, Removal


COLUMNS: Final = ("NAME", "DOMAINS", "SIZE", "STATE", "FROM", "LICENCE", "PATH")
STATES: Final = {"ready": "green", "not fetched": "", "no weights": "dim", "damaged": "bold red"}
# Characters of a terminal -> how many of the columns there is room for.
WIDTHS: Final = ((110, 6), (76, 5), (0, 4))
UNKNOWN: Final = "?"


def origin(known: Known) -> str:
    """Where a model comes from, or could be got, in few words."""
    identity = known.hub
    if known.kind == "hub" and identity is not None:
        if known.name == str(identity):
            return f"Hub, commit {known.commit[:12]}"
        return f"Hub {identity.repository}@{identity.revision[:12]}"
    if known.kind in ("import", "store") and identity is not None:
        return f"authors' checkpoint {identity.repository}"
    words = {"bundled": "bundled", "train": "train it yourself", "store": "your store", "folder": "your folder"}
    return words.get(known.kind, "authors' checkpoint")


# --- The table -----------------------------------------------------------------------------------------


def show_table(found: Sequence[Known]) -> None:
    """Folded to the width of a terminal; else one line for each model, with nothing left out."""
    from rich.table import Table
    from rich.text import Text

    terminal, rows = console.screen(), [tuple(map(shown, _row(known))) for known in found]
    if not terminal.is_terminal:
        console.result(*_plain_table([COLUMNS, *rows]))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    # What a narrow terminal has no room for, `show` tells.
    fitting = next(count for width, count in WIDTHS if terminal.width >= width)
    for column in COLUMNS[:fitting]:
        table.add_column(column, overflow="fold", no_wrap=column in ("SIZE", "STATE"))
    for row in rows:
        table.add_row(*(Text(cell, STATES.get(cell, "")) for cell in row[:fitting]))
    terminal.print(table, soft_wrap=False)
    # Never folded, so that they can be copied.
    for row in rows:
        if row[-1] != "-":
            terminal.print(Text(f"{row[0]}: {row[-1]}", "dim"))


def _plain_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with columns that are two spaces apart, however wide their characters are."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _pair(known: Known) -> str | None:
    """Both domains, and which ways there are between them; all of them as long as the model isn't here."""
    if known.config is not None:
        return known.config.pair
    return " <-> ".join(known.domains) if known.domains is not None else None


def _row(known: Known) -> tuple[str, ...]:
    size = byte_size(known.size) if known.size is not None else UNKNOWN
    return (
        known.name,
        _pair(known) or UNKNOWN,
        "-" if known.state == "no weights" else size,
        known.state,
        origin(known),
        " ".join((known.fact("licence") or UNKNOWN).split()),
        str(known.folder or "-"),
    )


# --- One model -----------------------------------------------------------------------------------------


def document(known: Known) -> dict[str, Any]:
    """What the table shows and more, as plain JSON values."""
    identity = known.hub
    return {
        "name": known.name,
        "description": known.fact("description"),
        "domains": known.domains,
        "image_size": known.image_size,
        "size": known.size,
        "state": known.state,
        "problem": known.problem or None,
        "source": known.kind,
        "repository": None if identity is None else identity.repository,
        "revision": None if identity is None else identity.revision,
        "commit": known.commit or None,
        "licence": known.fact("licence"),
        "training_data": known.fact("training_data"),
        "path": None if known.folder is None else str(known.folder),
    }


def full_document(known: Known) -> dict[str, Any]:
    """All that is known of one model, as plain JSON values."""
    from ugatit_cli.weights.catalog import checkpoint_of, size_of

    config, checkpoint, parameters = known.config, checkpoint_of(known), None
    if config is not None:
        from ugatit_cli.weights.folder import translator_shapes

        parameters = sum(map(math.prod, translator_shapes(config).values()))
    instructions = known.entry.instructions.strip() if known.entry is not None and known.folder is None else ""
    return {
        **document(known),
        "config": None if config is None else config.to_dict(),
        "parameters": parameters,
        "discriminators": "discriminators.safetensors" in known.files if known.folder is not None else None,
        "digest": known.digest() or None,
        "provenance": dict(known.provenance),
        "files": [
            {
                "name": name,
                "size": size_of(known.folder / name) if known.folder is not None and name in known.files else None,
                "recorded_size": stamp.size if (stamp := known.recorded.get(name)) else None,
                "recorded_sha256": known.hashes.get(name),
            }
            for name in dict.fromkeys([*known.files, *known.recorded])
        ],
        "checkpoint": None if checkpoint is None else str(checkpoint.folder),
        "instructions": instructions or None,
        "next": known.next_step[1] or None,
    }


def model_lines(known: Known, width: int | None) -> Iterator[str]:
    """What `ugatit models show` says.

    Args:
        width: columns to fold it to; None: never.
    """
    facts = full_document(known)
    for label, value in _facts(known, facts):
        if value is not None:
            yield from _labelled(label, value, width)
    if facts["provenance"]:
        yield "provenance:"
        indent = max(16, 4 + max(map(len, facts["provenance"])))
        for key, value in facts["provenance"].items():
            text = value if isinstance(value, str) else json.dumps(value)
            yield from _labelled(f"  {shown(key)}:", text, width, indent)
    if facts["files"]:
        yield "files:"
        for file in facts["files"]:
            yield from _file_lines(file, here=known.folder is not None)
    if facts["instructions"]:
        yield from map(shown, ["", *facts["instructions"].split("\n")])
    if known.next_step[1]:
        yield from ("", ": ".join(known.next_step))


def _facts(known: Known, facts: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield "name:", known.name
    yield "description:", facts["description"]
    yield "domains:", _pair(known)
    yield "state:", known.state
    yield "problem:", known.problem or None
    yield "from:", origin(known)
    yield "commit:", facts["commit"]
    yield "licence:", facts["licence"] or "not known"
    yield "training data:", facts["training_data"]
    yield "size:", byte_size(known.size) if known.size is not None else None
    yield "path:", facts["path"]
    yield "digest:", f"sha256:{facts['digest']}" if facts["digest"] else None
    yield "checkpoint:", facts["checkpoint"]
    if known.config is None:
        yield "image size:", f"{known.image_size} px" if known.image_size is not None else None
    else:
        yield "network:", f"{known.config.summary}, {facts['parameters'] / 1e6:.2f} million parameters"
        yield "ways:", known.config.pair
        yield "discriminators:", known.config.critics if facts["discriminators"] else "no"


def _labelled(label: str, text: str, width: int | None, indent: int = 16) -> Iterator[str]:
    lines = [shown(line) for line in text.split("\n")]
    if width is not None:
        # Between words only: paths, names and hashes stay whole.
        fold = textwrap.TextWrapper(max(width - indent, 20), break_long_words=False, break_on_hyphens=False)
        lines = [part for line in lines for part in fold.wrap(line) or [""]]
    yield f"{label:{indent}}{lines[0]}"
    yield from (f"{'':{indent}}{line}" for line in lines[1:])


def _file_lines(file: dict[str, Any], *, here: bool) -> Iterator[str]:
    size, recorded = file["size"], file["recorded_size"]
    if size is None:
        found = "missing" if here else f"{recorded:,} bytes"
    else:
        found = f"{size:,} bytes" + (f", {recorded:,} were recorded" if recorded not in (None, size) else "")
    yield f"  {file['name']}: {found}"
    yield f"    sha256 {file['recorded_sha256'] or 'not recorded'}"


# --- Commands ------------------------------------------------------------------------------------------


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


@app.command("list", cls=Command)
def list_models(json_array: JsonOption = False) -> None:
    """Show all known models: the manifest's, your store's, those fetched from the Hub.

    The same as `ugatit models` alone.
    """
    from ugatit_cli.weights.catalog import catalog

    found = catalog(console.Transfer())
    if json_array:
        console.result(*json.dumps([document(one) for one in found], indent=2).split("\n"))
    else:
        show_table(found)


@app.command(cls=Command)
def show(name: NameArgument, json_object: JsonOption = False) -> None:
    """Show all that is known of one model: origin, licence, sizes, files and their hashes.

    Example:

    `ugatit models show selfie2anime`
    """
    from ugatit_cli.weights.catalog import known

    found = known(name, console.Transfer())
    if json_object:
        console.result(*json.dumps(full_document(found), indent=2).split("\n"))
        return
    terminal = console.screen()
    console.result(*model_lines(found, max(terminal.width, 40) if terminal.is_terminal else None))


@app.command(cls=Command)
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="By default, all that are here.", show_default=False)
    ] = None,
) -> None:
    """Read models again, and compare every file with the hash that it had when it was made or fetched.

    Tells the digest, too, which pins a model wherever one is named: MODEL@sha256:DIGEST. Nothing is removed or
    repaired. Exit code 3 if anything is damaged, 1 if nobody recorded the hashes of something.

    Examples:

    `ugatit models verify`

    `ugatit models verify usb/clay`
    """
    from ugatit_cli.weights import catalog

    found, hears = [], console.Transfer()
    here = [one for one in catalog.catalog(hears) if one.folder is not None] if name is None else []
    chosen = here if name is None else [catalog.known(name, hears)]
    for one in chosen:
        found.append(catalog.verify(one))
        console.result(_verdict(found[-1]))
    damaged = [one for one in found if one.problem]
    if damaged:
        ways = dict.fromkeys(": ".join(one.next_step) for one in damaged if one.next_step[1])
        raise ModelError(f"damaged: {', '.join(one.name for one in damaged)}", "\n".join(ways))
    if unknown := [one.name for one in found if one.unverifiable]:
        raise InputsFailed(
            f"not verifiable: {', '.join(unknown)}",
            "If you trust the files as they are: cd FOLDER && sha256sum config.json *.safetensors > SHA256SUMS",
        )


def _verdict(verified: Known) -> str:
    if verified.problem:
        return f"{verified.name}: damaged: {verified.problem.replace(chr(10), '; ')}"
    if verified.unverifiable:
        state = f"not verifiable: nobody recorded the hash of {', '.join(verified.unverifiable)}"
    else:
        state = f"ok ({len(verified.parts)} files, {byte_size(verified.size or 0)})"
    return f"{verified.name}: {state}, sha256:{verified.digest()}"


@app.command(cls=Command)
def rm(
    name: NameArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False
) -> None:
    """Remove a model from your store, or one that was fetched from the Hub.

    A fetched model goes from the Hub's cache, at the commit that was fetched; an imported one with the checkpoint
    that it was converted from.

    Example:

    `ugatit models rm my-model`
    """
    from ugatit_cli.weights.catalog import known, removal, remove

    planned = removal(known(name, console.Transfer()))
    if planned.also:
        verb = "goes" if len(planned.also) == 1 else "go"
        console.note(f"the same files are known as {', '.join(planned.also)}, which {verb} with them")
    if not yes:
        _ask(planned)
    try:
        freed = remove(planned, console.Transfer())
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted while {name} was removed", "`ugatit models` tells whether it is still there."
        ) from None
    console.note(f"removed {name}: {byte_size(freed)} freed")


def _ask(planned: Removal) -> None:
    name, size = planned.known.name, byte_size(planned.size)
    for path in planned.places:
        console.note(f"goes: {path}")
    if planned.known.kind == "store" and planned.known.hub is None:
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
        console.note(f"{question} [y/N]: ", end="")
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        console.note("")
        raise Interrupted("interrupted; nothing was removed") from None
    if not answer.endswith("\n"):
        console.note("")
    return answer.strip().lower() in ("y", "yes")


@app.command(cls=Command)
def path(name: NameArgument) -> None:
    """Print the folder of a model that is here.

    Example:

    `ls -l "$(ugatit models path flat2clay)"`
    """
    from ugatit_cli.weights.catalog import absent, known

    found = known(name, console.Transfer())
    if found.folder is None:
        raise absent(found)
    console.result(str(found.folder))

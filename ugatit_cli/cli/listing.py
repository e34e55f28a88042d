"""How `ugatit models` and `ugatit data` show things with names: lists in groups, and all that is known of one."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.help_view import CommandGroup
from ugatit_cli.errors import Interrupted, UsageError
from ugatit_cli.wording import byte_size, shown

if TYPE_CHECKING:
    from ugatit_cli.datasets.catalog import DataEntry
    from ugatit_cli.weights.manifest import Entry

GAP: Final = 2
INDENT: Final = 16
NARROWEST: Final = 8
UNKNOWN: Final = "?"
UNVERIFIED: Final = "*"
NOT_STATED: Final = "not stated"
UNVERIFIED_TEXT: Final = "no: nobody of this project has downloaded it yet"
FOOT: Final = f"{UNVERIFIED} unverified: nobody of this project has downloaded it."


class ListFirst(CommandGroup):
    """`ugatit models` is short for `ugatit models list`; without options of its own once a command is named."""

    first = "list"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds the command if there is none."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [self.first, *args]
        self.add_help_option = args[0] not in self.commands  # see `app.Root`
        return super().parse_args(ctx, args)


@dataclass(frozen=True)
class Column:
    """One column of a list.

    Attributes:
        width: columns that a terminal must have for it; None: the group's title says it there.
        cut: whether long texts are cut on a terminal, not folded.
    """

    title: str
    width: int | None = 0
    cut: bool = False


@dataclass(frozen=True)
class Group:
    """Rows of a list below a title, with what can be done with them."""

    title: str
    way: str
    rows: Sequence[Sequence[str]]


def size_text(size: int | None, about: str = "", *, verified: bool = True) -> str:
    """Bytes to download in words, marked where nobody of this project has downloaded them."""
    stated = byte_size(size) if size is not None else f"~{about}" if about else NOT_STATED
    return stated + ("" if verified else f" {UNVERIFIED}")


def state_text(state: str, entry: Entry | DataEntry | None) -> str:
    """Whether something is here, and if not, whether anybody of this project has downloaded it."""
    return f"{state}, unverified" if state == "not fetched" and entry is not None and not entry.verified else state


def host_of(url: str) -> str:
    """Of an address."""
    return urlsplit(url).hostname or url


def show_list(columns: Sequence[Column], groups: Iterable[Group]) -> None:
    """In groups on a terminal, as wide as that is; else one line for each row, with nothing left out."""
    groups = [group for group in groups if group.rows]
    terminal = console.screen()
    if not terminal.is_terminal:
        rows = [list(map(shown, row)) for group in groups for row in group.rows]
        console.result(*aligned([[column.title for column in columns], *rows]))
        return
    from rich.text import Text

    # What a narrow terminal has no room for, `show` tells.
    fitting = [index for index, one in enumerate(columns) if one.width is not None and one.width <= terminal.width]
    cells = [[[shown(row[index]) for index in fitting] for row in group.rows] for group in groups]
    widths = _widths([row for rows in cells for row in rows], terminal.width - GAP)
    for group, rows in zip(groups, cells, strict=True):
        title = Text(group.title, "bold")
        terminal.print(title.append(f": {group.way}", "not bold dim") if group.way else title, soft_wrap=False)
        terminal.print(_table(rows, widths, [columns[index].cut for index in fitting]), soft_wrap=False)
        terminal.print()
    if any(cell.endswith(f" {UNVERIFIED}") for rows in cells for row in rows for cell in row):
        terminal.print(Text(FOOT, "dim"), soft_wrap=False)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with columns that are two spaces apart, however wide their characters are."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))
        yield (" " * GAP).join(cells).rstrip()


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Of all columns, the widest made narrower until they fit."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + GAP * (len(widths) - 1) > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _cut(text: str, width: int) -> str:
    """A text that fits, in what any terminal can show."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 3)}..."


def _table(rows: Iterable[Sequence[str]], widths: Sequence[int], cut: Sequence[bool]) -> Any:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, GAP, 0, 0))
    for width in widths:
        table.add_column(width=width, overflow="fold")
    for row in rows:
        cells = zip(row, widths, cut, strict=True)
        table.add_row(*(Text(_cut(text, width) if one_line else text) for text, width, one_line in cells))
    return Padding(table, (0, 0, 0, GAP))


# --- One of them ---------------------------------------------------------------------------------------


def screen_width() -> int | None:
    """Columns to fold texts to; None where nobody sees them."""
    terminal = console.screen()
    return max(terminal.width, 40) if terminal.is_terminal else None


def labelled(label: str, text: str, width: int | None, indent: int = INDENT) -> Iterator[str]:
    """A fact, folded to a width between words only: paths, names and hashes stay whole."""
    lines = [shown(line) for line in text.split("\n")]
    if width is not None:
        fold = textwrap.TextWrapper(max(width - indent, 20), break_long_words=False, break_on_hyphens=False)
        lines = [part for line in lines for part in fold.wrap(line) or [""]]
    yield f"{label:{indent}}{lines[0]}"
    yield from (f"{'':{indent}}{line}" for line in lines[1:])


def told(pairs: Iterable[tuple[str, str | None]], width: int | None) -> Iterator[str]:
    """All of them that are known."""
    for label, value in pairs:
        if value:
            yield from labelled(label, value, width)


def origin_facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Who made something, where it is, who says so, and whether anybody has seen it: of its JSON document."""
    yield "made by:", facts["made_by"]
    yield "address:", facts["address"]
    yield "read at:", "\n".join(facts["read_at"])
    yield "verified:", None if facts["verified"] in (None, True) else UNVERIFIED_TEXT


def stated_hashes(files: Mapping[str, str | None]) -> str | None:
    """Those that somebody has stated of files to download; None if there are no files."""
    known = [f"{sha256} {name}" for name, sha256 in files.items() if sha256]
    unknown = f"{NOT_STATED}: that of your first download is recorded, and binding from then on"
    return "\n".join(known) or (unknown if files else None)


# --- Questions -----------------------------------------------------------------------------------------


def ask_to_remove(name: str, size: int, places: Iterable[Path], command: str, warning: str = "") -> None:
    """Goes on if somebody says yes.

    Raises:
        UsageError: nobody is there.
        Exit: they said no.
    """
    for path in places:
        console.note(f"goes: {path}")
    if warning:
        console.note(warning)
    if not sys.stdin.isatty():
        message = f"nobody is there to confirm that {name} is to be removed ({byte_size(size)})"
        raise UsageError(message, f"Add --yes: {command} {shlex.quote(name)} --yes")
    if not _confirmed(f"Remove {name} ({byte_size(size)})?"):
        console.note("nothing was removed")
        raise typer.Exit(1)


def _confirmed(question: str) -> bool:
    """Whether somebody who is asked says yes."""
    # Not `typer.confirm`, for which Ctrl-C is the same as the end of the input.
    try:
        console.ask(f"{question} [y/N]: ")
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        console.note("")
        raise Interrupted("interrupted; nothing was removed") from None
    if not answer.endswith("\n"):
        console.note("")
    return answer.strip().lower() in ("y", "yes")

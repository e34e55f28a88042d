"""How a command speaks: how much is said, into which log, and what a program reads at its end."""

from __future__ import annotations

import contextlib
import datetime
import functools
import io
import json
import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from typer.main import get_command

from ugatit_cli.errors import InputsFailed, Interrupted, OutputError, UgatitError, UsageError, plain_reason
from ugatit_cli.files import expanded
from ugatit_cli.wording import duration, shown, without_passwords

Kind = Literal["begun", "note", "detail", "error", "result", "ended"]
JSON: Final = "--json"
# What variables say for a flag that is up.
TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
# Options whose values are for nobody else's eyes.
SECRETS: Final = ("--token",)
TITLE: Final = "Every command"
"""Of their section in the help."""


def everywhere(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say errors only.", rich_help_panel=TITLE)] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Also say what is chosen, and what takes time.", rich_help_panel=TITLE),
    ] = False,
    log_file: Annotated[
        str | None,
        typer.Option(
            "--log-file", metavar="FILE", help="Append all of it, with times, to a file.", rich_help_panel=TITLE
        ),
    ] = None,
) -> None:
    """The options that every command has."""


@functools.cache
def options() -> tuple[Any, ...]:
    """Those as Click's parameters."""
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command()(everywhere)
    return tuple(get_command(alone).params)


@dataclass
class Voice:
    """How the command speaks that runs now.

    Attributes:
        json: whether a program reads standard output.
        start: when it began, on the clock that only goes forward.
        begun: whether the command itself runs, or only its options are looked at.
        totals: gives what the last line of JSON has beside its status.
        indent: of that line, which is a document of several lines then.
        ended: whether all has been written that a program reads.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    begun: bool = False
    totals: Callable[[], Mapping[str, object]] = dict
    indent: int | None = None
    ended: bool = False
    start: float = field(default_factory=time.monotonic)
    _log: int | None = None
    _heard: str = ""

    def begin(self, quiet: bool, verbose: bool, log_file: str | None, *, json: bool) -> None:
        """The command runs, and its options say this.

        Raises:
            UsageError: they contradict each other, or the log is another file.
            OutputError: the log can't be written.
        """
        if quiet and verbose:
            raise UsageError("--quiet and --verbose contradict each other", "Give one of them.")
        self.begun, self.json, self.quiet, self.verbose = True, json, quiet, verbose
        if quiet:
            warnings.simplefilter("ignore")
        if log_file is not None:
            self._open(log_file)

    def _open(self, name: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody reads
        try:
            if not _is_text(expanded(name)):
                raise UsageError(f"--log-file {name}: is there, and no text", "Name a new file, or an earlier log.")
            self._log = os.open(expanded(name), flags, 0o666)
        except (OSError, ValueError) as error:
            raise OutputError(f"--log-file {name}: {plain_reason(error)}", "Name a file to write to.") from None
        self.record("begun", f"ugatit {shlex.join(_without_secrets(sys.argv[1:]))}")

    def elapsed(self) -> str:
        """Since it began."""
        return duration(time.monotonic() - self.start)

    @property
    def hears(self) -> bool:
        """Whether anybody wants details."""
        return self.verbose or self._log is not None

    def record(self, kind: Kind, text: str) -> None:
        """Appends to the log, if there is one, a line for each."""
        if self._log is None:
            return
        now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        said = without_passwords(text).split("\n")
        lines = (f"{now} [{os.getpid()}] {kind}: {shown(line, sys.maxsize)}\n" for line in said)
        # At once, so that several processes can share a file; a full disk ends no work.
        with contextlib.suppress(OSError):
            os.write(self._log, "".join(lines).encode(errors="backslashreplace"))

    def overhear(self, text: str) -> None:
        """What libraries write to standard error, which has whole lines in the end."""
        if self._log is not None:
            *lines, self._heard = (self._heard + text).split("\n")
            for line in lines:
                if said := line.rpartition("\r")[2].strip():
                    self.record("note", said)

    def last_line(self, code: int, error: UgatitError | None) -> str:
        """What a program reads last: how it ended, with the totals; empty if no program reads, or has read all."""
        silent = self.ended or os.environ.get("RANK", "0") != "0"  # of several processes, the first one speaks
        if code == Interrupted.exit_code:
            error = error or Interrupted("interrupted")
        if not self.json or silent or (error is None and (code or not self.begun)):
            return ""
        ending: dict[str, object] = {"status": "done", "exit": 0}
        if error is not None:
            status = "failed" if isinstance(error, InputsFailed) else "error"
            ending = {"status": status, "exit": error.exit_code, **described(error)}
        self.ended = True
        return json.dumps(ending | dict(self.totals()), indent=self.indent)

    def close(self, code: int) -> None:
        """Ends the log."""
        self.record("ended", f"exit code {code}, after {self.elapsed()}")
        if self._log is not None:
            os.close(self._log)
            self._log = None


current = Voice()


def new(arguments: list[str]) -> None:
    """A command is about to begin; `arguments` may be wrong, which a program wants to hear, too."""
    global current
    stated = JSON in arguments[: arguments.index("--") if "--" in arguments else None]
    paths = ("_".join(arguments[:count]).replace("-", "_").upper() for count in (1, 2) if arguments[:count])
    names = ["UGATIT_JSON", *(f"UGATIT_{path}_JSON" for path in paths)]
    current = Voice(json=stated or any(map(is_up, names)))


def is_up(variable: str) -> bool:
    """Whether a variable says yes."""
    return os.environ.get(variable, "").strip().lower() in TRUE


class Details(logging.Handler):
    """Passes on what the package's logger says, for whoever wants details."""

    def __init__(self, say: Callable[[str], object]) -> None:
        super().__init__(logging.INFO)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Says it."""
        self.say(record.getMessage())


def listen(say: Callable[[str], object]) -> None:
    """Has it told from now on, and nobody who was told before."""
    logger = logging.getLogger("ugatit")
    for handler in [one for one in logger.handlers if isinstance(one, Details)]:
        logger.removeHandler(handler)
    logger.addHandler(Details(say))
    logger.setLevel(logging.INFO)


def described(error: UgatitError, name: str = "") -> dict[str, str]:
    """An error for programs; without the `name` of an input, which is said elsewhere."""
    message, hint = map(without_passwords, (error.message.removeprefix(f"{name}: "), error.hint))
    return {"code": error.code, "error": message, "hint": hint}


def _is_text(path: Path) -> bool:
    """Whether a file begins like text; what isn't there, is a pipe or may not be read may become one."""
    try:
        with path.open("rb") if path.is_file() else io.BytesIO() as file:
            return b"\0" not in file.read(4096)
    except OSError:
        return True


def _without_secrets(arguments: list[str]) -> list[str]:
    found = list(arguments)
    for index, text in enumerate(found):
        name, equals, _ = text.partition("=")
        if name in SECRETS and equals:
            found[index] = f"{name}=***"
        elif index and found[index - 1] in SECRETS:
            found[index] = "***"
    return found

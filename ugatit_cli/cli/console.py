"""All that the command line says: errors, notes and progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from ugatit_cli.cli import voice
from ugatit_cli.cli.streams import NobodyReadsError
from ugatit_cli.errors import (
    DeviceError,
    FileFailed,
    InternalError,
    Interrupted,
    NoMemory,
    Saved,
    StorageError,
    UgatitError,
    UsageError,
    plain_reason,
)
from ugatit_cli.wording import byte_size, shown, without_passwords

if TYPE_CHECKING:
    import rich.progress
    from rich.console import Console

    from ugatit_cli.datasets.fetch import DataSet
    from ugatit_cli.remote.patience import Listener
    from ugatit_cli.weights.folder import ModelFolder


# Without a terminal, progress is a line from time to time.
PLAIN_INTERVAL = 10.0


def screen(**options: Any) -> Console:
    """rich's console, whose texts command no terminal; its import waits until something is said."""
    from rich.console import Console
    from rich.segment import Segment

    class Screen(Console):
        @property  # type: ignore[misc]  # nobody sets it
        def file(self) -> IO[str]:  # what rich writes is filtered by `render`
            return getattr(super().file, "unfiltered", super().file)

        def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
            for text, style, control in super().render(*arguments, **options):
                yield Segment(text if control else "\n".join(map(shown, text.split("\n"))), style, control)

    return Screen(**options, highlight=False, soft_wrap=True, emoji=False)  # file names have colons, too


# Halves of characters, but for those that stand for the bytes of a name.
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


@functools.cache
def stderr() -> Console:
    """The console for all that isn't a result."""
    return screen(stderr=True)


def begin(asked: Mapping[str, Any], *, json: bool) -> None:
    """A command runs, which speaks as its options say.

    Raises:
        UsageError, OutputError: as `Voice.begin`.
    """
    voice.current.begin(**asked, json=json)
    if voice.current.hears:
        voice.listen(detail)


def note(text: str) -> None:
    """Says something on stderr, in one line, unless only errors are wanted."""
    voice.current.record("note", text)
    if not voice.current.quiet:
        stderr().print(_told(text), markup=False)


def detail(text: str) -> None:
    """The same of what only -v and a log have."""
    voice.current.record("detail", text)
    if voice.current.verbose:
        stderr().print(_told(text), markup=False, style="dim")


def _told(text: str) -> str:
    return shown(without_passwords(text))


def ask(question: str) -> None:
    """Asks whoever is there, who answers in the same line."""
    stderr().print(shown(question), markup=False, end="")


def is_live() -> bool:
    """Whether progress can move on a terminal, and somebody wants to see it."""
    return stderr().is_terminal and not voice.current.quiet


def result(*lines: str) -> None:
    """Writes lines of results to stdout, as they are unless that is a terminal.

    Raises:
        StorageError: that can't be.
        BrokenPipeError: nobody reads any more.
    """
    voice.current.record("result", "\n".join(lines))
    whole = "\n".join(shown(line, sys.maxsize) for line in lines) if sys.stdout.isatty() else "\n".join(lines)
    try:
        print(whole, flush=True)
    except UnicodeEncodeError:  # a file name that isn't text: byte for byte; JSON may have what is no byte either
        result_bytes(os.fsencode(_NO_BYTE.sub(lambda found: ascii(found[0])[1:-1], whole)) + b"\n")


def made(line: str) -> None:
    """As `result`, of what the command is about to end with having made: nobody need read that."""
    with contextlib.suppress(NobodyReadsError, BrokenPipeError):
        result(line)


def result_bytes(data: bytes) -> None:
    """Writes a file's content to stdout: a `StorageError` where that can't be."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def end(code: int, error: Exception | None = None) -> int:
    """The last words of a command: its error, if one ended it, and for programs how it ended; the exit code."""
    known = understood(error) if error else None
    if error and known:
        show_error(error)
        code = known.exit_code
    try:
        if line := voice.current.last_line(code, known):
            result(*line.split("\n"))
    except BrokenPipeError:
        code = code or 1
    except StorageError as failed:
        if known is None or known.message != failed.message:
            show_error(failed)
        code = code or failed.exit_code
    voice.current.close(code)
    return code


def document(value: list[Any]) -> None:
    """Writes a list for programs, which is all that they read then unless an error comes."""
    voice.current.ended = True
    result(*json.dumps(value, indent=2).split("\n"))


def ends_with(totals: Callable[[], Mapping[str, object]], indent: int | None = None) -> None:
    """Says what the last line of JSON has beside how the command ended, if it ends with one."""
    voice.current.totals, voice.current.indent = totals, indent


def show_error(error: Exception) -> None:
    """The one place where errors become text, those nobody foresaw, too; `UGATIT_DEBUG=1` adds the traceback."""
    known = understood(error)
    voice.current.record("error", "\n".join(filter(None, (known.message, known.hint))))
    if isinstance(known, NoMemory):  # which rich would need, too
        sys.stderr.write(f"error: {known.message}\n{known.hint}\n")
        return
    console = stderr()
    if voice.is_up("UGATIT_DEBUG"):
        console.print("".join(traceback.format_exception(error)), markup=False)
    kind = "internal error:" if isinstance(known, InternalError) else "error:"
    if not isinstance(known, Saved):
        console.print(kind, style="bold red", end=" ")
    console.print(_told(known.message), markup=False)
    if known.hint:
        console.print(without_passwords(known.hint), markup=False, style="cyan")


def understood(error: Exception) -> UgatitError:
    """An error for users: itself, or what one of the system, the parser or a library means for them."""
    if isinstance(error, UgatitError):
        return error
    if _needs_memory(error):
        return NoMemory(f"not enough memory{_limit()}", "Free some, or raise the limit.")
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):  # the system's, and it says where
        return FileFailed(f"{os.fsdecode(error.filename)}: {plain_reason(error)}")
    if hasattr(error, "format_message"):  # Typer's, of wrong options
        context = getattr(error, "ctx", None)
        text = re.sub(r"\s*\n\s*", " ", error.format_message())
        return UsageError(text, f"See: {context.command_path} --help" if context else "")
    if isinstance(error, RuntimeError) and _LOST.search(str(error)):
        reason = str(error).partition("\n")[0]
        return DeviceError(f"the GPU has failed: {reason}", "What was finished is kept. See: nvidia-smi")
    hint = "This is a bug in ugatit. UGATIT_DEBUG=1 shows where; please report it."
    return InternalError(f"{type(error).__name__}: {error}", hint)


# Of CUDA's errors, those of a device or its driver, not of a program's own mistake.
_LOST = re.compile(
    "CUDA (?:driver )?error: .*(?:no CUDA-capable device|device is lost|fallen off|unknown error|ECC error|hardware|"
    "unavailable|launch (?:failure|timed out)|driver shutting down|not (?:ready|permitted)|unable to)",
    re.IGNORECASE,
)


def _needs_memory(error: Exception) -> bool:
    """Also of a library that can't be loaded for want of it."""
    unmapped = isinstance(error, ImportError | OSError) and "failed to map segment" in str(error)
    return unmapped or isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def _limit() -> str:
    """That of this process, if it has one, as on the login nodes of clusters."""
    with contextlib.suppress(ImportError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            return f" (address space is limited to {byte_size(most)}: ulimit -v)"
    return ""


class Progress:
    """Progress with rate and time left: a bar below everything else on a terminal, or a line from time to time."""

    def __init__(self, total: int, unit: str, bar: rich.progress.Progress | None = None) -> None:
        self.total = total
        self.unit = unit
        self.done = 0
        self.start = self.last = self.part = time.monotonic()
        self.bar = bar
        self.task = bar.add_task("", total=total, rate="") if bar else None

    def advance(self) -> None:
        """One more file is done."""
        self.done += 1
        now = time.monotonic()
        speed = f"{self.done / (now - self.start):.2f} {self.unit}/s" if now > self.start else ""
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=self.done, rate=speed)
        elif now - self.last >= PLAIN_INTERVAL:
            self.last = now
            left = datetime.timedelta(seconds=round((self.total - self.done) * (now - self.start) / self.done))
            still = [f"{left} left"] if self.done < self.total else []
            note(", ".join([f"{self.done}/{self.total} {self.unit}", speed, *still]))

    def frame(self, done: int, total: int) -> None:
        """One more frame of a film is done, which is a part of its file."""
        self._part("frame", done, total, rate=True)

    def tile(self, done: int, total: int) -> None:
        """One more tile of a large file is done."""
        self._part("tile", done, total)

    def _part(self, what: str, done: int, total: int, *, rate: bool = False) -> None:
        now = time.monotonic()
        if done == 1:  # what comes before is not how fast these are
            self.part = now
        known = done > 1 and now > self.part
        speed = f", {(done - 1) / (now - self.part):.2f} {what}s/s" if known and rate else ""
        text = f"{what} {done} of {total}{speed}"
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=self.done + done / total, rate=text)
        elif now - self.last >= PLAIN_INTERVAL and known and done < total:
            self.last = now
            left = datetime.timedelta(seconds=round((total - done) * (now - self.part) / (done - 1)))
            note(f"{self.done}/{self.total} {self.unit}, {text}, {left} left")


@contextmanager
def progress(total: int, unit: str = "files") -> Iterator[Progress]:
    """A bar on a terminal, else plain lines."""
    if not is_live():
        yield Progress(total, unit)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    with _bar(BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn()) as bar:
        yield Progress(total, unit, bar)


def _bar(*columns: rich.progress.ProgressColumn) -> rich.progress.Progress:
    from rich.progress import Progress

    # Redirected, results appear above the bar: right on a terminal, and only there.
    return Progress(*columns, console=stderr(), redirect_stdout=sys.stdout.isatty())


SMALL = 1_000_000  # bytes; what is less needs no line of its own


class Transfer:
    """Hears of files on their way: a bar for each, or a line when it begins, from time to time, and when it ends."""

    def __init__(self, bar: rich.progress.Progress | None = None) -> None:
        self.bar = bar
        self.task: rich.progress.TaskID | None = None
        self.label = ""
        self.size: int | None = None
        self.unit = "bytes"
        self.done = self.first = 0
        self.start = self.last = 0.0

    def note(self, text: str) -> None:
        """Says it."""
        note(text)

    def begin(self, label: str, size: int | None, done: int, unit: str = "bytes") -> None:
        """A file is on its way, or other work begins."""
        self.label, self.size, self.unit, self.done, self.first = label, size, unit, done, done
        self.start = self.last = time.monotonic()
        if self.bar:
            self.task = self.bar.add_task(shown(label), total=size, completed=done, state="")
        elif done and done != size:
            note(f"{label}: goes on at {byte_size(done)}")

    def advance(self, count: int) -> None:
        """More of it is here."""
        self.done += count
        now = time.monotonic()
        if self.bar and self.task is not None:
            self.bar.update(self.task, advance=count, state=self._state(now))
        elif now - self.last >= PLAIN_INTERVAL:
            self.last = now
            note(f"{self.label}: {self._state(now)}")

    def end(self) -> None:
        """All of it, or no more."""
        if not self.bar and (self.done - self.first >= SMALL or self.unit != "bytes"):
            note(f"{self.label}: {self._state(time.monotonic())}")

    def _state(self, now: float) -> str:
        rate = max(self.done - self.first, 0) / max(now - self.start, 1e-3)
        amount, unit = (byte_size, "") if self.unit == "bytes" else ("{:,.0f}".format, f" {self.unit}")
        total = f" of {amount(self.size)}" if self.size is not None else ""
        return f"{amount(self.done)}{total}{unit}, {amount(rate)}/s"


@contextmanager
def showing() -> Iterator[Listener]:
    """A listener for fetching; Ctrl-C ends it in words, as `Interrupted`."""
    listener = Transfer()
    try:
        if not is_live():
            yield listener
            return
        from rich import progress as bars

        name = bars.TextColumn("{task.description}", markup=False)
        columns = (bars.BarColumn(), bars.TextColumn("{task.fields[state]}"), bars.TimeRemainingColumn())
        with _bar(name, *columns) as bar:
            listener = Transfer(bar)
            yield listener
    except KeyboardInterrupt:
        if not listener.label:  # nothing was on its way
            raise
        raise Interrupted("interrupted; what has arrived is kept", "The same command goes on from there.") from None


def find_data(what: str, columns: tuple[str, str] | None = None) -> DataSet:
    """`datasets.fetch.find`, which shows what it fetches, in the first of several processes."""
    from ugatit_cli.datasets import fetch
    from ugatit_cli.remote.patience import Logged

    if os.environ.get("RANK", "0") != "0":  # it waits for the first one
        return fetch.find(what, Logged(), columns)
    with showing() as listener:
        return fetch.find(what, listener, columns)


def find_model(name: str) -> ModelFolder:
    """`weights.fetch.find_model`, which shows what it fetches; Ctrl-C ends that as `Interrupted`."""
    from ugatit_cli.weights import fetch

    with showing() as listener:
        return fetch.find_model(name, listener)

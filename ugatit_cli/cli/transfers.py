"""What the command line shows while a model is fetched, and models that are fetched on their first use."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ugatit_cli.cli import console
from ugatit_cli.errors import Interrupted

if TYPE_CHECKING:
    import rich.progress

    from ugatit_cli.checkpoint import ModelFolder
    from ugatit_cli.weights.hub import Listener


# Bytes; what is less needs no line of its own.
SMALL = 1_000_000


class PlainTransfer:
    """Without a terminal: a line when a file begins, from time to time, and when it ends."""

    def __init__(self) -> None:
        self.label = ""
        self.size: int | None = None
        self.done = self.first = 0
        self.start = self.last = 0.0

    def note(self, text: str) -> None:
        """Says it."""
        console.note(text)

    def begin(self, label: str, size: int | None, done: int) -> None:
        """A file is on its way."""
        self.label, self.size, self.done, self.first = label, size, done, done
        self.start = self.last = time.monotonic()
        if done and done != size:
            console.note(f"{label}: goes on at {console.bytes_text(done)}")

    def advance(self, count: int) -> None:
        """More of it is here."""
        self.done += count
        now = time.monotonic()
        if now - self.last >= console.PLAIN_INTERVAL:
            self.last = now
            console.note(self._line(now))

    def end(self) -> None:
        """All of it, or no more."""
        if self.done - self.first >= SMALL:
            console.note(self._line(time.monotonic()))

    def _line(self, now: float) -> str:
        rate = (self.done - self.first) / max(now - self.start, 1e-3)
        total = f" of {console.bytes_text(self.size)}" if self.size is not None else ""
        return f"{self.label}: {console.bytes_text(self.done)}{total}, {console.bytes_text(max(rate, 0))}/s"


class BarTransfer(PlainTransfer):
    """A bar with size, rate and time left for each file."""

    def __init__(self, bar: rich.progress.Progress) -> None:
        super().__init__()
        self.bar = bar
        self.task: rich.progress.TaskID | None = None

    def begin(self, label: str, size: int | None, done: int) -> None:
        """A file is on its way."""
        self.label = label
        self.task = self.bar.add_task(label, total=size, completed=done)

    def advance(self, count: int) -> None:
        """More of it is here."""
        if self.task is not None:
            self.bar.advance(self.task, count)

    def end(self) -> None:
        """All of it, or no more."""
        self.task = None


@contextmanager
def showing() -> Iterator[Listener]:
    """A listener for fetching; Ctrl-C ends it in words.

    Raises:
        Interrupted: Ctrl-C.
    """
    stderr = console.stderr()
    listener = PlainTransfer()
    try:
        if not stderr.is_terminal:
            yield listener
            return
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=stderr, redirect_stdout=sys.stdout.isatty()) as bar:
            listener = BarTransfer(bar)
            yield listener
    except KeyboardInterrupt:
        if not listener.label:  # nothing was on its way
            raise
        raise Interrupted("interrupted; what has arrived is kept", "The same command goes on from there.") from None


def find_model(name: str) -> ModelFolder:
    """`weights.store.find_model`, which shows what it fetches.

    Raises:
        ModelError: there is none, or it can't be fetched.
        OutputError: what was fetched can't be written.
        Interrupted: Ctrl-C while it is fetched.
    """
    from ugatit_cli.weights import store

    with showing() as listener:
        return store.find_model(name, listener)

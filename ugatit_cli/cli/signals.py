"""How a command ends that is told to: by Ctrl-C, a scheduler's SIGTERM, or the SIGHUP of a terminal that closes."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = "stopping: finishing what is in progress"
# Schedulers and launchers repeat a signal that the process group has had already: sooner than this nobody meant it.
REPEATED_WITHIN = 1.5


def _others() -> list[signal.Signals]:
    """What else ends a command; `nohup` has SIGHUP ignored, and means it."""
    hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)
    ignored = hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN
    return [signal.SIGTERM] if hang_up is None or ignored else [signal.SIGTERM, hang_up]


@contextmanager
def _handled(numbers: list[signal.Signals], handle: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupting() -> Iterator[None]:
    """Every signal that ends a command is a KeyboardInterrupt, as Ctrl-C is."""
    last = -math.inf

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= REPEATED_WITHIN:  # else what the first one has begun goes on
            raise KeyboardInterrupt

    with _handled(_others(), interrupt):
        yield


class Stop(threading.Event):
    """Set by the first signal, whose number is `by`; 0 until then."""

    by: int = 0


@contextmanager
def interruptible(saying: str = STOPPING) -> Iterator[Stop]:
    """An event that the first Ctrl-C (SIGTERM, SIGHUP) sets, `saying` so unless that is empty.

    A later Ctrl-C interrupts at once, but not below `torchrun`.
    """
    from ugatit_cli.cli import console

    stop = Stop()
    launched = "TORCHELASTIC_RUN_ID" in os.environ  # torchrun passes on what the terminal has sent to all of them
    first = 0.0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not stop.is_set():
            first = now
            stop.by = number
            stop.set()
            if saying:
                console.note(saying if launched else f"{saying}; Ctrl-C again stops at once")
        elif number == signal.SIGINT and not launched and now - first >= REPEATED_WITHIN:
            raise KeyboardInterrupt

    with _handled([signal.SIGINT, *_others()], handle):
        yield stop

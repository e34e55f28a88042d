"""Files that somebody broke, thousands of them, through what users call: whatever comes of it has to be foreseen.

`python -m tests.fuzz` tries as many as one likes; `test_targets.py` a few of each kind.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from unittest import mock

from tests.fuzz.mutate import Mutator, mutate_bytes
from ugatit_cli.cli import app
from ugatit_cli.errors import UgatitError

# Before what reads it is imported, if this isn't below pytest.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SECONDS, BYTES = 20, 2 << 30
# What no file may bring about: `sys.audit` tells of them.
FORBIDDEN = frozenset(
    {"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen"}
    | {"pickle.find_class", "socket.connect", "socket.getaddrinfo", "webbrowser.open"}
)


@dataclass(frozen=True)
class Target:
    """A kind of file, and what users do with one.

    Attributes:
        scene: makes what the cases need in an empty folder; gives good files to break.
        run: opens one of this content there, as users do: raises an `UgatitError`, or gives an exit code or anything.
        mutate: breaks one.
        few: how many are tried in every run of the tests.
    """

    scene: Callable[[Path], Sequence[bytes]]
    run: Callable[[Path, bytes], object]
    mutate: Mutator = mutate_bytes
    few: int = 15


@dataclass
class Report:
    """What became of the cases.

    Attributes:
        outcomes: how many ended how.
        faults: number of a case -> what it shouldn't have done, and its content.
        slowest: seconds of the slowest case, and its number.
        peak: bytes that the process has taken at most beyond those it began with.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, -1)
    peak: int = 0


class Fault(Exception):
    """A command ended as none should."""


class Hang(BaseException):
    """A case takes longer than any may."""


def command(*arguments: object) -> int:
    """The exit code of `ugatit ARGUMENTS`, in this process.

    Raises:
        Fault: an internal error, or an exit code of none.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors=errors) for errors in ("strict", "backslashreplace"))
    before = signal.getsignal(signal.SIGINT)
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["ugatit", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            app.main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            signal.signal(signal.SIGINT, before)
    err.flush()
    said = err.buffer.getvalue().decode(errors="replace")
    if not isinstance(code, int) or code not in range(5) or "internal error:" in said:
        raise Fault(f"ugatit {' '.join(map(str, arguments))}: exit code {code}\n{said}")
    return code


def case(target: Target, seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """The content of one case: the same each time, whichever others are tried."""
    random = Random(f"{seed} {number}")
    return target.mutate(random, random.choice(seeds), seeds)


def fuzz(target: Target, folder: Path, numbers: Sequence[int], *, seed: int = 0) -> Report:
    """Tries the cases of these numbers in an empty folder."""
    report = Report()
    with _at_home(folder):
        seeds = target.scene(folder)
        for content in seeds:  # imports and caches what it needs
            with contextlib.suppress(UgatitError):
                target.run(folder, content)
        before = _memory()
        for number in numbers:
            content = case(target, seeds, seed, number)
            (folder / "case").write_bytes(content)  # for who looks for the reason of a crash
            start = time.perf_counter()
            outcome, fault = _tried(target, folder, content)
            taken = time.perf_counter() - start
            report.slowest = max(report.slowest, (taken, number))
            report.outcomes[outcome] += 1
            grown = _memory() - before
            if grown > BYTES and report.peak <= BYTES:
                fault = f"the process has grown by {grown >> 20} MiB"
            report.peak = max(report.peak, grown)
            if fault:
                report.faults[number] = fault, content
    return report


def _tried(target: Target, folder: Path, content: bytes) -> tuple[str, str]:
    """How a case ends, and what is wrong with that; empty if nothing."""
    try:
        with _limited(), _watched() as events:
            end = target.run(folder, content)
    except UgatitError as error:
        good = error.exit_code in range(1, 5) and bool(error.message.strip())
        return type(error).__name__, "" if good else traceback.format_exc()
    except (Exception, Hang) as error:
        return f"FAULT {type(error).__name__}", traceback.format_exc()
    return f"exit code {end}" if isinstance(end, int) else "fine", "\n".join(events)


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def _at_home(folder: Path) -> Iterator[None]:
    """Inside, the store, the user's manifest and all relative paths are in this folder."""
    places = {"UGATIT_HOME": folder / "home", "XDG_CONFIG_HOME": folder / "config", "HF_HUB_CACHE": folder / "cache"}
    variables = {"UGATIT_DEBUG": "1", "HF_HUB_OFFLINE": "1", **{name: str(path) for name, path in places.items()}}
    built_once = mock.patch.object(app, "command", functools.cache(app.command))  # half of the time of a small one
    with mock.patch.dict(os.environ, variables), contextlib.chdir(folder), built_once:
        yield


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise Hang(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_events: list[list[str]] = []  # of whoever watches


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    if not getattr(sys, "_ugatit_hears", False):  # for good: a hook can't be taken back
        sys.addaudithook(_hear)
        sys._ugatit_hears = True  # type: ignore[attr-defined]
    _events.append([])
    try:
        yield _events[-1]
    finally:
        _events.pop()


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _events and event in FORBIDDEN:
        _events[-1].append(f"{event} {str(arguments)[:200]}\n{''.join(traceback.format_stack(limit=12))}")

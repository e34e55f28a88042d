"""Processes that `torchrun` starts as one command: they share its work, and the first one speaks for all.

They need no process group, and no collective that one of them could leave the others waiting in: whoever launched
them keeps a store of keys and values (`torch.distributed.TCPStore`), from which each takes its next picture, and
through which the first one hears what became of it.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from ugatit_cli.cli import console, messages
from ugatit_cli.errors import Interrupted, UgatitError, UsageError
from ugatit_cli.leftovers import has_ended, mark

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from ugatit_cli.pictures.jobs import Job

POLL: Final = 0.05  # seconds between looks at what others have said
PATIENCE: Final = 20.0  # seconds that the first process waits for the others once it is told to stop, or done
ALL_THERE: Final = timedelta(minutes=30)
CHUNK: Final = 64  # jobs in a value of the store
MOST_BYTES: Final = 1 << 22  # of a value: the store takes 8 MiB

T = TypeVar("T")


class Lost(UgatitError):
    """Another process is gone."""


class Ranks:
    """The processes of a command, which is `rank` of `size`; several commands' worth of work, one after the other."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.first = rank == 0
        self.restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        self.worst = 0
        self._store = store
        self._attempt = f"ugatit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self._phase = 0
        self._said = 0
        self._heard = [0] * size
        self._gone: set[int] = set()
        self._ended: set[int] = set()
        self._counts: list[int] = []
        self._chunks: dict[tuple[int, int], list[Job]] = {}
        self._store.set(f"{self._attempt}/mark/{rank}", mark())

    # --- Keys and values

    def _key(self, name: str) -> str:
        return f"{self._attempt}/{self._phase}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Lets all processes know something, under a name of its own."""
        parts = [data[start : start + MOST_BYTES] for start in range(0, len(data), MOST_BYTES)] or [b""]
        for number, part in enumerate(parts):
            self._store.set(self._key(f"{name}/{number}"), part)  # type: ignore[arg-type]
        self._store.set(self._key(name), str(len(parts)))

    def has(self, name: str) -> bool:
        """Whether anybody has."""
        return bool(self._store.check([self._key(name)]))

    def get(self, name: str, of: int = 0, *, once: bool = False) -> bytes:
        """What the process `of` lets others know, as soon as it does; with `once`, nobody else wants to know.

        Raises:
            UgatitError: it is gone, so that it never will.
        """
        while not self.has(name):
            if of != self.rank and self._is_gone(of) and not self.has(name):
                raise self._error_of(of)
            time.sleep(POLL)
        keys = [self._key(f"{name}/{number}") for number in range(int(self._store.get(self._key(name))))]
        data = b"".join(self._store.get(key) for key in keys)
        for key in (self._key(name), *keys) if once else ():
            self._store.delete_key(key)
        return data

    def exchange(self, name: str, data: bytes) -> Iterator[bytes]:
        """What each process knows, in the order of ranks."""
        self.put(f"{name}/{self.rank}", data)
        for rank in range(self.size):
            yield data if rank == self.rank else self.get(f"{name}/{rank}", rank)
        # Whoever is the last to have read all of it clears it away, as sets of features are large.
        if self._store.add(self._key(f"{name}/read"), 1) == self.size:
            for rank in range(self.size):
                self.get(f"{name}/{rank}", once=True)

    def _is_gone(self, rank: int) -> bool:
        """Whether a process has said so, or was killed and couldn't."""
        key = f"{self._attempt}/mark/{rank}"
        killed = bool(self._store.check([key])) and has_ended(self._store.get(key).decode())
        return bool(self._store.check([f"{self._attempt}/gone/{rank}"])) or killed

    def _error_of(self, rank: int) -> UgatitError:
        key = f"{self._attempt}/gone/{rank}"
        if not self._store.check([key]):
            return Lost(f"process {rank} was killed")
        told = json.loads(self._store.get(key))
        error = messages.error_of(told) if told else Lost(f"process {rank} has ended")
        if rank == 0 or not told:
            return error
        return type(error)(f"process {rank}: {error.message}", error.hint, change=error.change)

    def gone(self, error: BaseException | None) -> None:
        """This process is done, for whatever reason; the others hear of it."""
        told = None if error is None or isinstance(error, typer.Exit) else messages.told(error)
        self._store.set(f"{self._attempt}/gone/{self.rank}", json.dumps(told))

    def await_others(self) -> None:
        """Stays until the others are done, as the first process, which may keep the store; but not for ever."""
        last = time.monotonic() + PATIENCE
        while time.monotonic() < last and not all(self._is_gone(rank) for rank in range(1, self.size)):
            time.sleep(POLL)

    # --- Jobs: each process has a queue of its own, and helps others when it is done with that

    def publish(self, jobs: Sequence[Job]) -> None:
        """Says what is to be done, as the first process; the standard streams are its own."""
        jobs = [job for job in jobs if self.shares(job)]
        queues = [jobs[rank :: self.size] for rank in range(self.size)]
        for rank, queue in enumerate(queues):
            for start in range(0, len(queue), CHUNK):
                data = messages.dumped(queue[start : start + CHUNK])
                self.put(f"jobs/{rank}/{start // CHUNK}", data)
        self.put("jobs", json.dumps([len(queue) for queue in queues]).encode())

    def shares(self, job: Job) -> bool:
        """Whether any process can do a job."""
        return job.source is not None and job.output is not None

    def rounds(self) -> Iterator[Iterator[Job]]:
        """This process's jobs, then shares of what the others haven't begun; none if there is nothing to do."""
        self._counts = json.loads(self.get("jobs"))
        if sum(self._counts):
            yield self._queue(self.rank)
        helping = True
        while helping:
            helping = False
            for other in (*range(self.rank + 1, self.size), *range(self.rank)):
                left = self._counts[other] - self._store.add(self._key(f"taken/{other}"), 0)
                share = [job for _, job in zip(range(-(-left // self.size)), self._queue(other), strict=False)]
                if share:
                    helping = True
                    yield iter(share)

    def _queue(self, rank: int) -> Iterator[Job]:
        taken = self._key(f"taken/{rank}")
        while not self.stopped and (number := self._store.add(taken, 1) - 1) < self._counts[rank]:
            chunk = (rank, number // CHUNK)
            if chunk not in self._chunks:
                self._chunks[chunk] = messages.loaded(self.get(f"jobs/{rank}/{number // CHUNK}"))
            yield self._chunks[chunk][number % CHUNK]

    # --- What became of them

    def say(self, kind: str, *values: object) -> None:
        """Tells the first process."""
        self.put(f"said/{self.rank}/{self._said}", messages.dumped([kind, *values]))
        self._said += 1

    def heard(self) -> Iterator[list[Any]]:
        """What the others have said since the last time: a kind, and what belongs to it."""
        for rank in range(1, self.size):
            while self.has(name := f"said/{rank}/{self._heard[rank]}"):
                self._heard[rank] += 1
                said = messages.loaded(self.get(name, once=True))
                if said == ["end"]:
                    self._ended.add(rank)
                else:
                    yield said

    def rest(self, stop: threading.Event) -> Iterator[list[Any]]:
        """What the others say until all of them have come to an end; or, once told to stop, not for ever."""
        last = None
        while not self._over():
            yield from self.heard()
            if stop.is_set():
                self.stop()
                last = last or time.monotonic() + PATIENCE
                if time.monotonic() > last:
                    return
            time.sleep(POLL)
        yield from self.heard()

    def _over(self) -> bool:
        for rank in range(1, self.size):
            if rank not in self._gone and self._is_gone(rank):
                self._gone.add(rank)
                error = self._error_of(rank)
                if not isinstance(error, Lost | Interrupted):  # that of a killed one is its launcher's to tell
                    self.worst = max(self.worst, error.exit_code)
                    console.show_error(error)
        return len(self._ended | self._gone) == self.size - 1

    def stop(self) -> None:
        """Lets the others begin nothing more."""
        self.put("stop", b"")

    @property
    def stopped(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.has("stop")

    @contextmanager
    def phase(self) -> Iterator[None]:
        """A piece of work: that of one of several models, say."""
        try:
            yield
            if self.first and not self.has("jobs"):
                self.publish([])
        except BaseException:
            if self.first:
                self.stop()
                self.publish([])
            raise
        finally:
            self._next()

    def _next(self) -> None:
        self._phase += 1
        self._said = 0
        self._heard = [0] * self.size
        self._ended = set()
        self._chunks = {}

    # --- What is made stays made, though a launcher starts all of them again

    def is_made(self, job: Job) -> None:
        """Keeps in mind that a result is there, if anybody will want to know."""
        if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
            self._store.set(f"ugatit/made/{self._phase}/{job.output}", "1")

    def was_made(self, job: Job) -> bool:
        """Whether a result has been made since the launcher began, by processes that it has started again."""
        return self.restarted and bool(self._store.check([f"ugatit/made/{self._phase}/{job.output}"]))


def size() -> int:
    """How many processes a launcher says that there are."""
    count = os.environ.get("WORLD_SIZE", "")
    return int(count) if count.isdecimal() else 1


@functools.cache
def joined() -> Ranks | None:
    """The processes that this one belongs to; None if it is alone.

    Raises:
        UsageError: the environment says that there are some, and not where.
    """
    if size() <= 1:
        return None
    _take_share_of_cores()
    from torch.distributed import DistNetworkError, DistStoreError
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, count = next(rendezvous("env://", timeout=ALL_THERE))
    except (ValueError, KeyError, DistNetworkError, DistStoreError) as error:
        reason = f"WORLD_SIZE is {size()}, but the other processes can't be reached: {error}"
        hint = "Start them with torchrun, or each on its own with --shard 1/N, 2/N, ..."
        raise UsageError(reason.partition("\n")[0], hint) from None
    return Ranks(store, rank, count)


def _take_share_of_cores() -> None:
    """A share of the machine's cores for this process, before torch is loaded: torchrun says 1 where nobody has."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        os.environ["OMP_NUM_THREADS"] = str(cores())
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(cores())


def cores() -> int:
    """How many cores this process has, beside others of its launcher on this machine."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, there // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def is_first() -> bool:
    """Whether this process speaks for all; it does if it is alone."""
    return size() == 1 or os.environ.get("RANK", "0") == "0"


@functools.cache
def nowhere() -> Path:
    """A folder for what only the first process writes."""
    folder = tempfile.mkdtemp(prefix="ugatit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def together(command: Callable[[T], None]) -> Callable[[T], None]:
    """A command that several processes can do together: one of them says what there is to say, and its exit code."""

    @functools.wraps(command)
    def run(options: T) -> None:
        if (ranks := joined()) is None:
            command(options)
            return
        if ranks.restarted and hasattr(options, "skip_existing"):
            options = _going_on(options)
        if ranks.first:
            _lead(ranks, lambda: command(options))
        else:
            with _silent():
                _follow(ranks, lambda: command(options))

    return run


def _going_on(options: Any) -> Any:
    """After a first attempt, of which there are results."""
    if options.update or options.overwrite:
        return options
    return replace(options, skip_existing=True)


def _lead(ranks: Ranks, command: Callable[[], None]) -> None:
    """Ends with the worst exit code of all."""
    failure: BaseException | None = None
    try:
        command()
    except BaseException as error:
        failure = error
        ranks.stop()
        if isinstance(error, UgatitError) and error.exit_code < ranks.worst:
            console.show_error(error)
            raise typer.Exit(ranks.worst) from None
        raise
    finally:
        ranks.gone(failure)
        if not isinstance(failure, Interrupted | KeyboardInterrupt):
            ranks.await_others()
    if ranks.worst:
        raise typer.Exit(ranks.worst)


def _follow(ranks: Ranks, command: Callable[[], None]) -> None:
    """Ends well in any case: at any other exit code, launchers end all processes, with their work half done."""
    failure: BaseException | None = None
    try:
        command()
    except (Exception, KeyboardInterrupt) as error:
        failure = error
    try:
        ranks.gone(failure)
    except RuntimeError:  # the first process is gone, and the store with it
        return


@contextmanager
def _silent() -> Iterator[None]:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        before, sys.stdout = sys.stdout, nowhere
        console.stderr().quiet = True
        try:
            yield
        finally:
            sys.stdout = before
            console.stderr().quiet = False

"""`ugatit translate --watch`: pictures become translations as they come into folders, until somebody ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from ugatit_cli.cli import console, ranks, signals
from ugatit_cli.errors import Interrupted, OutputError, PictureError, UgatitError, UsageError, install_line
from ugatit_cli.files import expanded

if TYPE_CHECKING:
    from ugatit_cli.cli.tally import Tally
    from ugatit_cli.cli.translate import TranslateOptions
    from ugatit_cli.cli.work import Work
    from ugatit_cli.pictures.jobs import Found, Job

REST: Final = 1.0  # seconds that a file must stay as it is before it is taken
EVERY: Final = 2.0  # seconds between looks where no events come
SELDOM: Final = 30.0  # and where they do, in case one was lost
SHARE: Final = 4  # looking takes at most one part in so many of the time
WAKE: Final = 0.2  # seconds until a signal is noticed
# File systems where changes by other machines cause no events here.
DISTANT: Final = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "fuse",
    "vboxsf",
    "drvfs",
    "virtiofs",
)
MOUNTS: Final = Path("/proc/mounts")
CHANGES: Final = frozenset({"created", "modified", "moved", "deleted", "closed"})

State = tuple[int, int]
"""Size and time of change of a file."""


def check_options(options: TranslateOptions) -> TranslateOptions:
    """What `--watch` doesn't go with; with what it takes for granted: results are as new as their pictures.

    Raises:
        UsageError: an option contradicts it, or an input isn't a folder.
    """
    if not options.watch:
        if options.watch_every is not None:
            raise UsageError("--watch-every is about --watch", "Say --watch, too.")
        return options
    contradicting = {
        "--files-from": options.files_from,
        "--overwrite": options.overwrite,
        "--report": options.report,
        "several models": len(options.model or []) > 1,
        "torchrun": ranks.size() > 1,
    }
    hint = "Leave one of them out; several processes that watch one folder share its pictures."
    for name in (name for name, given in contradicting.items() if given):
        raise UsageError(f"--watch contradicts {name}", hint)
    for name in options.inputs or []:
        if not expanded(name).is_dir():
            raise UsageError(f"--watch {name}: is no folder", "Name folders: ugatit translate inbox/ --watch -o out/")
    if options.output in (None, "-"):
        raise UsageError("--watch needs a folder for the results", "Name it: -o out/")
    out = str(options.output)
    return replace(options, update=not options.skip_existing, output=out if out.endswith("/") else f"{out}/")


def distant(folder: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a folder is on a file system that other machines write to, too; False where Linux doesn't tell."""
    place, found = os.path.realpath(folder), ("", "")
    with contextlib.suppress(OSError, ValueError):
        for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            _, where, kind, *_ = line.split(" ")
            where = where.replace("\\040", " ")
            if os.path.join(place, "").startswith(os.path.join(where, "")) and len(where) >= len(found[0]):  # noqa: PTH118
                found = where, kind
    return found[1].startswith(DISTANT)


class Folders:
    """Folders, and when something changes in them: by events where there are some, else by looking."""

    def __init__(self, folders: Sequence[Path], every: float | None) -> None:
        self.folders = folders
        self.rest = min(REST, every or REST)
        self._every = every
        self._woken = threading.Event()
        self._gone: set[Path] = set()
        self._lost: set[Path] = set()
        self._watched: dict[Path, tuple[Any, tuple[int, int]]] = {}
        self._observer: Any = None
        if every is None and not any(map(distant, folders)):
            self._observe()

    def _observe(self) -> None:
        try:
            from watchdog.observers import Observer
        except ImportError:
            console.note(f"looking every {EVERY:g} s; at once with: {install_line('watch')}")
            return
        self._observer = Observer()
        self._observer.start()

    def close(self) -> None:
        """Ends the watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def look(self) -> None:
        """Says which folders have gone or come back, and has events of those that are there."""
        self._woken.clear()
        for folder in self.folders:
            try:
                state = folder.stat()
            except OSError:
                self._is_gone(folder)
                continue
            if folder in self._gone:
                self._gone.discard(folder)
                console.note(f"{folder} is back")
            self._follow(folder, (state.st_dev, state.st_ino))

    def _is_gone(self, folder: Path) -> None:
        if folder not in self._gone:
            self._gone.add(folder)
            console.note(f"{folder} is gone; waiting for it to come back")
        self._forget(folder)

    def _forget(self, folder: Path) -> None:
        watch, _ = self._watched.pop(folder, (None, None))
        if watch is not None:
            with contextlib.suppress(Exception):  # the system has ended it already
                self._observer.unschedule(watch)

    def _follow(self, folder: Path, identity: tuple[int, int]) -> None:
        """Has events of a folder, which may be another one than before."""
        known = self._watched.get(folder, (None, None))[1] == identity and folder not in self._lost
        if self._observer is None or known:
            return
        from watchdog.events import FileSystemEventHandler

        woken, lost = self._woken, self._lost

        class Waking(FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                if event.event_type == "deleted" and event.src_path == str(folder):
                    lost.add(folder)  # whose number another one may have now
                if event.event_type in CHANGES:
                    woken.set()

        self._forget(folder)
        lost.discard(folder)
        try:
            self._watched[folder] = self._observer.schedule(Waking(), str(folder), recursive=True), identity
        except OSError as error:  # no more watches, say
            console.note(f"{folder}: no events ({error.strerror}); looking every {EVERY:g} s")
            self._watched[folder] = None, identity

    def pause(self, stop: threading.Event, *, restless: bool, took: float) -> None:
        """Until it is time to look again."""
        events = self._observer is not None and len(self._watched) == len(self.folders)
        events = events and all(watch is not None for watch, _ in self._watched.values())
        seconds = self._every or (SELDOM if events else EVERY)
        seconds = max(min(seconds, self.rest) if restless else seconds, SHARE * took)
        end, first = time.monotonic() + seconds, time.monotonic() + max(WAKE, SHARE * took)
        while not stop.is_set() and (now := time.monotonic()) < end:
            if self._woken.is_set() and now >= first:
                return
            stop.wait(min(WAKE, end - now))


@dataclass
class Pictures:
    """Which pictures are to be taken: those that rest, once, and again when they have changed.

    Attributes:
        rest: seconds that a file must stay as it is.
        seen: what files were like, and since when.
        taken: what they were like when they were taken.
    """

    rest: float
    seen: dict[Path, tuple[State, float]] = field(default_factory=dict)
    taken: dict[Path, State] = field(default_factory=dict)
    restless: bool = False

    def ready(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, bool]]:
        """Those to do, and whether they have been done before; each is taken by that."""
        now, self.restless = time.monotonic(), False
        for job in jobs:
            assert isinstance(job.source, Path)
            state = _state(job.source)
            if state is None or self.taken.get(job.source) == state:
                continue
            before, since = self.seen.get(job.source, (None, now))
            if before != state or now - since < self.rest:
                self.seen[job.source] = state, since if before == state else now
                self.restless = True
                continue
            del self.seen[job.source]
            again, self.taken[job.source] = job.source in self.taken, state
            yield job, again


def _state(path: Path) -> State | None:
    with contextlib.suppress(OSError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return None


@dataclass
class Watching:
    """The watch itself: looks, and has what is ready translated.

    Attributes:
        find: what is in the folders now.
        place: gives a job the names of all its files.
        complained: what can't be found, and is said once.
        strange: kinds of files, each with its folder, that were passed over at the last look.
        told: those that have been said.
    """

    work: Work
    tally: Tally
    folders: Folders
    pictures: Pictures
    find: Callable[[], Found]
    place: Callable[[Job], Job]
    complained: set[str] = field(default_factory=set)
    strange: set[tuple[str, str]] = field(default_factory=set)
    told: set[tuple[str, str]] = field(default_factory=set)

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        names = ", ".join(map(str, self.folders.folders))
        console.note(f"watching {names}; Ctrl-C ends it")
        while not stop.is_set():
            start = time.monotonic()
            self.folders.look()
            jobs = [one for job, again in self._found() if (one := self._to_do(job, again=again)) is not None]
            took = time.monotonic() - start
            if jobs:
                self._do(jobs, stop)
            self.folders.pause(stop, restless=self.pictures.restless, took=took)

    def _found(self) -> list[tuple[Job, bool]]:
        try:
            found = self.find()
        except UgatitError as error:  # of what is there now: it may be gone later
            self._complain(error.message, error)
            return []
        folders = {*map(str, self.folders.folders), *(self.work.prepared.options.inputs or [])}
        for name, reason in found.missing.items():
            if name not in folders:  # that of a folder has been said
                self._complain(f"{name}: {reason}", PictureError(f"{name}: {reason}"), name)
        ready = list(self.pictures.ready(found.jobs))
        self._pass_over(found)
        if ready:
            self.tally.renamed(found.jobs, based=self.work.prepared.options.base is not None)
        return ready

    def _pass_over(self, found: Found) -> None:
        """Says once of each kind of files in a folder that it isn't looked at."""
        before, self.strange = self.strange, set()
        for folder, counts in found.passed_over.items():
            kinds = {(folder, kind) for kind in counts} - self.told
            stay = kinds & before  # what is gone at the next look was the beginning of a picture under another name
            if stay:
                self.tally.passed_over(folder, Counter({kind: counts[kind] for _, kind in stay}))
            self.told |= stay
            self.strange |= kinds - stay
        self.pictures.restless |= bool(self.strange)

    def _complain(self, text: str, error: UgatitError, name: str = "") -> None:
        if text not in self.complained:
            self.complained.add(text)
            self.tally.failed(name, error) if name else console.show_error(error)

    def _to_do(self, job: Job, *, again: bool) -> Job | None:
        """The job, unless its result is there and as new; what has changed is done again whatever its time says."""
        existing, placed = self.work.existing, self.place(job)
        if again and existing.options.update:
            existing.changed.add(job.source)
        try:
            one = existing.look(placed)
        except OutputError as error:
            self.tally.failed(job.name, error)
            return None
        self.tally.left_alone += one is None
        return one

    def _do(self, jobs: list[Job], stop: threading.Event) -> None:
        self.tally.total += len(jobs)
        progress = console.Progress(len(jobs), "files")

        def say(kind: str, *values: Any) -> None:
            job = values[0].job if kind == "result" else values[0]
            self.work.existing.changed.discard(job.source)
            if kind == "result":
                self.tally.add(values[0])
            elif kind == "left_alone":
                self.tally.skipped(job, shared=True)
            else:
                self.tally.failed(job.name, values[1])
            if kind == "result" and values[0].error is None and console.is_live():
                console.note(f"{job.name} -> {job.output}")
            progress.advance()

        self.work.do(jobs, stop, progress, say)


def end(stop: signals.Stop, tally: Tally, output: str | None) -> None:
    """Both Ctrl-C and SIGTERM end it well; the exit code is 130 after Ctrl-C, as that of any command.

    Raises:
        Exit: it was Ctrl-C.
        UgatitError: the disk is full, or nobody reads what is said.
    """
    console.note(f"{tally.summary()} -> {output}")
    if tally.disk_full or tally.unsaid:
        tally.finish(None)
    if stop.by == signal.SIGINT:
        raise typer.Exit(Interrupted.exit_code)

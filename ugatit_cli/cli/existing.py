"""Results that exist already: which are left alone, which are done again, and which another process is at."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import console
from ugatit_cli.errors import OutputError, UgatitError, UsageError

if TYPE_CHECKING:
    from ugatit_cli.cli.options import PictureOptions
    from ugatit_cli.pictures.jobs import Job
    from ugatit_cli.pictures.sources import Sources
    from ugatit_cli.remote.places import Known
    from ugatit_cli.remote.urls import Place

SHOWN = 3  # names that a message lists
POLL = 0.1  # seconds between looks at what another process is at


@dataclass(frozen=True)
class Existing:
    """What is to be done about results that are there.

    Attributes:
        sources: what those here were made of.
        changed: sources whose results are old, whatever their times say.
    """

    options: PictureOptions
    sources: Sources
    changed: set[Place | None] = field(default_factory=set)

    @cached_property
    def known(self) -> Known:
        """What is there."""
        from ugatit_cli.remote.places import Known
        from ugatit_cli.remote.urls import place

        return Known(place(self.options.output or ""))

    @property
    def going_on(self) -> bool:
        """Whether what is done stays done; an empty file, as a power cut may leave, is not."""
        return self.options.skip_existing or self.options.update

    def look(self, job: Job) -> Job | None:
        """The job with the files of its result that are kept, or None if there is nothing left to do.

        Raises:
            OutputError: the result there is one of another source.
        """
        there = () if self.options.overwrite else tuple(path for path in job.outputs if self._is_there(path))
        for path in there:
            if (other := self.sources.other(path, job.source)) is not None:
                raise OutputError(f"{path}: is a result of {other}, not of {job.name}", self._way_out(other, job))
        if self.options.update and any(job.source in self.changed or self._is_older(path, job) for path in there):
            there = ()
        return None if there and there == job.outputs else replace(job, kept=there)

    def look_again(self, job: Job) -> Job | None:
        """The same, after `require_none`.

        Raises:
            OutputError: the result there is one of another source, or came from another process unexpectedly.
        """
        one = self.look(job)
        if not self.going_on and (one is None or one.kept):
            raise OutputError(f"{job.output}: exists already", "With --skip-existing, processes share the work.")
        return one

    def _is_there(self, path: Place) -> bool:
        state = self.known.state(path)
        return state is not None and (bool(state.size) or not state.regular or not self.going_on)

    def _is_older(self, path: Place, job: Job) -> bool:
        """Whether a result is older than its source, or nobody can say."""
        state, changed = self.known.state(path), job.changed
        if isinstance(job.source, Path):
            changed = _changed(job.source)
        return state is None or state.changed is None or changed is None or state.changed < changed

    def _way_out(self, other: str, job: Job) -> str:
        ways = ["give another output (-o)", "or replace it with --overwrite."]
        if isinstance(job.source, Path) and not other.startswith("<") and "://" not in other:
            with contextlib.suppress(ValueError):  # another drive of Windows
                folders = {os.path.dirname(os.path.abspath(path)) for path in (other, job.source)}  # noqa: PTH100, PTH120
                if len(folders) == 1:
                    ways.insert(0, "translate both with one command")
                elif self.options.base is None:
                    base = os.path.relpath(os.path.commonpath(folders))
                    ways.insert(0, f"keep their folders with --base {base}")
        text = ", ".join(ways)
        return text[0].upper() + text[1:]

    def require_none(self, jobs: Sequence[Job]) -> None:
        """Somebody must have said what to do with results that exist.

        Raises:
            UsageError: nobody has.
        """
        if self.going_on or self.options.overwrite:
            return
        existing = [path for job in jobs for path in job.outputs if self._is_there(path)]
        if existing:
            try:
                for job in jobs:
                    self.look(job)
            except OutputError as error:
                raise UsageError(error.message, error.hint) from None
            names = ", ".join(str(path) for path in existing[:SHOWN]) + (", ..." if len(existing) > SHOWN else "")
            raise UsageError(
                f"{len(existing)} of {sum(len(job.outputs) for job in jobs)} results exist already: {names}",
                "Pass --skip-existing to leave them, or --overwrite to replace them.",
            )

    def record(self, job: Job, *, done: bool) -> None:
        """Records of what a result is made: before it is there, so that a kill leaves none without; else after."""
        for path in job.outputs:
            if isinstance(path, Path) and (done or not os.path.lexists(path)):
                self.sources.add(path, job.source)


def _changed(source: Path) -> int | None:
    """When a source changed, or the link that leads there."""
    with contextlib.suppress(OSError):
        return max(os.stat(source).st_mtime_ns, os.lstat(source).st_mtime_ns)  # noqa: PTH116
    return None


@dataclass
class Shared:
    """Jobs that several processes share: each is claimed just before it is begun, and looked at again.

    Attributes:
        jobs: those to do.
        left: of them, those that another process was at.
        alone: nothing is claimed, and nothing looked at again.
        left_alone, failed: called where a result has come, or one of another source.
    """

    existing: Existing
    jobs: Iterable[Job]
    stop: threading.Event
    alone: bool
    left_alone: Callable[[Job], None]
    failed: Callable[[Job, UgatitError], None]
    left: list[Job] = field(default_factory=list)
    begun: dict[Place | None, Job] = field(default_factory=dict)
    waited: bool = False

    def rounds(self) -> Iterator[Iterator[Job]]:
        """Jobs to begin, until every result is there: what a process that was killed had claimed comes once more."""
        todo = self.jobs
        while todo and not self.stop.is_set():
            self.left = []
            yield self._claimed(todo)
            if todo := self.left:
                self._wait(self.left[0])

    def _claimed(self, todo: Iterable[Job]) -> Iterator[Job]:
        for job in todo:
            if self.stop.is_set():  # else whoever pulls the rest, only to be rid of it, begins all
                return
            if job.output is None or self.alone:
                yield self._begin(job)
            elif not self.existing.sources.claim(job.output):
                self.left.append(job)
            elif (one := self._looked_at(job)) is not None:
                yield self._begin(one)
            else:
                self.existing.sources.release(job.output)

    def _looked_at(self, job: Job) -> Job | None:
        try:
            one = self.existing.look_again(job)
        except OutputError as error:
            self.failed(job, error)
            return None
        if one is None:
            self.left_alone(job)
        return one

    def _begin(self, job: Job) -> Job:
        self.existing.record(job, done=False)
        self.begun[job.source] = job
        return job

    def end(self, source: Place | None, *, done: bool) -> None:
        """A job has given a result, or failed."""
        job = self.begun.pop(source)
        if done:
            self.existing.record(job, done=True)
        if job.output is not None:
            self.existing.sources.release(job.output)

    def _wait(self, job: Job) -> None:
        """Until the other process is done with a result, or gone."""
        sources, output = self.existing.sources, job.output or Path()
        while not self.stop.is_set() and not sources.claim(output):
            if not self.waited:
                self.waited = True
                console.note(f"waiting for another process, which is at {output}; Ctrl-C leaves the rest to it")
            self.stop.wait(POLL)
        sources.release(output)

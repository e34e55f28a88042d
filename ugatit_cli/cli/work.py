"""Jobs through a model: in one process, or in one of several that share them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from ugatit_cli.cli import console, signals
from ugatit_cli.cli.existing import Existing, Shared

if TYPE_CHECKING:
    from ugatit_cli.cli.pictures import Prepared
    from ugatit_cli.cli.ranks import Ranks
    from ugatit_cli.cli.report_page import ReportPage
    from ugatit_cli.cli.several import Series
    from ugatit_cli.cli.tally import Tally
    from ugatit_cli.outputs.base import Drawing
    from ugatit_cli.pictures.jobs import Job
    from ugatit_cli.training.run_folder import RunFolder
    from ugatit_cli.translation.engine import Engine
    from ugatit_cli.translation.pipeline import Result

Say = Callable[..., None]
"""Says what became of a job: ("result", result), ("left_alone", job) or ("failed", job, error)."""


@dataclass(frozen=True)
class Spoken:
    """Says it to the user: on the standard streams and in the report; a job has so many steps of the progress."""

    tally: Tally
    report: ReportPage
    progress: console.Progress
    steps: int = 1

    def __call__(self, kind: str, *values: Any) -> None:
        """Says it."""
        if kind == "result":
            (result,) = values
            self.tally.add(result)
            self.report.add(result.job.name, result.error, result, result.job)
        elif kind == "left_alone":
            self.tally.skipped(values[0], shared=True)
        else:
            job, error = values
            self.tally.failed(job.name, error)
            self.report.add(job.name, error, job=job)
        for _ in range(self.steps):
            self.progress.advance()


@dataclass(frozen=True)
class Work:
    """What is done with each job.

    Attributes:
        checkpoints: of a training run, which look at pictures instead of the model.
        series: what this model shares with others that the command is about.
    """

    prepared: Prepared
    model: Engine
    existing: Existing
    drawing: Drawing
    checkpoints: RunFolder | None = None
    series: Series | None = None

    def lead(self, jobs: list[Job], tally: Tally, report: ReportPage, ranks: Ranks | None) -> None:
        """All of them, and all that there is to say; several processes share them."""
        frames = len(self.checkpoints.checkpoints()) if self.checkpoints else 1
        total, unit = (len(jobs) * frames, "frames" if self.checkpoints else "files")
        with self._stopping() as stop, console.progress(total, unit) as progress:
            # Frames of checkpoints count as they come.
            ours = Spoken(tally, report, progress, 0 if self.checkpoints else 1)
            if ranks is None:
                self.do(jobs, stop, progress, ours)
            else:
                self._share(jobs, stop, ours, Spoken(tally, report, progress, frames), ranks)
            tally.interrupted = stop.is_set() and not tally.disk_full
            if self.series is None:
                report.finish(tally.summary())

    def _stopping(self, **saying: str) -> AbstractContextManager[threading.Event]:
        return nullcontext(self.series.stop) if self.series else signals.interruptible(**saying)

    def _share(self, jobs: list[Job], stop: threading.Event, ours: Spoken, theirs: Spoken, ranks: Ranks) -> None:
        left = {job.source: job for job in jobs}

        def say(spoken: Spoken, kind: str, *values: Any) -> None:
            spoken(kind, *values)
            job = left.pop((values[0].job if kind == "result" else values[0]).source)
            if kind == "result" and values[0].error is None:
                ranks.is_made(job)
            if spoken.tally.disk_full:
                stop.set()

        def listen(said: Iterable[list[Any]]) -> None:
            for kind, *values in said:
                say(theirs, kind, *values)

        for some in chain([(job for job in jobs if not ranks.shares(job))], ranks.rounds()):
            self.do(some, stop, ours.progress, partial(say, ours), lambda: listen(ranks.heard()))
            if stop.is_set():
                ranks.stop()
        listen(ranks.rest(stop))
        # What a process that ended too soon had begun.
        self.do(list(left.values()), stop, ours.progress, partial(say, ours))

    def follow(self, rounds: Iterator[Iterator[Job]], ranks: Ranks) -> None:
        """This process's jobs, of which it tells the first one."""
        with self._stopping(saying="") as stop:
            for some in rounds:
                self.do(some, stop, console.Progress(0, ""), ranks.say)
                if stop.is_set():
                    break
        ranks.say("end")

    def do(
        self,
        jobs: Iterable[Job],
        stop: threading.Event,
        progress: console.Progress,
        say: Say,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Some jobs, until `stop` is set: what is in progress is done then, and the rest is left."""
        # One scale for all needs all of them in one process.
        alone = self.prepared.options.overwrite or self.drawing.spans is not None
        shared = Shared(self.existing, jobs, stop, alone, partial(say, "left_alone"), partial(say, "failed"))
        for some in shared.rounds():
            with contextlib.closing(self._results(some, stop, progress)) as results:
                for result in results:
                    shared.end(result.job.source, done=result.error is None and not result.missing)
                    say("result", result)
                    between()

    def _results(
        self, jobs: Iterator[Job], stop: threading.Event, progress: console.Progress
    ) -> Generator[Result, None, None]:
        from ugatit_cli.cli import films

        prepared, options = self.prepared, self.prepared.translating
        if self.checkpoints is None:
            return films.results(self.model, jobs, options, prepared.films, self.drawing, stop, progress)
        from ugatit_cli.training.history import draw_history
        from ugatit_cli.translation.model import Model

        assert isinstance(self.model, Model)  # a run's
        return draw_history(self.checkpoints, self.model, list(jobs), options, self.drawing, stop, progress.advance)

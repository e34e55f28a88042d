"""What a training run shows on a terminal while it goes on: a live view; elsewhere, plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import console, watch

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ugatit_cli.training.evaluation import Evaluation
    from ugatit_cli.training.monitor import StepReport
    from ugatit_cli.training.settings import Settings

REFRESHES_PER_SECOND = 4

# What losses are called: generators' names, and those of the same terms that discriminators have.
TERMS = {
    "cycle": ("cycle", ""),
    "identity": ("identity", ""),
    "CAM": ("cam", ""),
    "adversarial local": ("g_local", "d_local"),
    "adversarial local CAM": ("g_local_{}_cam", "d_local_{}_cam"),
    "adversarial global": ("g_global", "d_global"),
    "adversarial global CAM": ("g_global_{}_cam", "d_global_{}_cam"),
}


class LiveWatch(watch.PlainWatch):
    """A view that stays at the bottom of the terminal; notes appear above it. Rich asks it what to show."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.report: StepReport | None = None
        self.reported = time.monotonic()
        self.read: tuple[int, int] | None = None
        self.saved_step: int | None = None
        self.samples: Path | None = None
        self.evaluation: tuple[int, int] | None = None

    def loading(self, done: int, total: int) -> None:
        """Pictures are being read."""
        self.read, self.reported = (done, total), time.monotonic()

    def stepped(self, report: StepReport) -> None:
        """A step is done."""
        self.take(report)
        self.evaluation = None
        self.report, self.reported = report, time.monotonic()

    def saved(self, step: int) -> None:
        """A checkpoint is written, and the model."""
        self.saved_step = step

    def sampled(self, step: int, path: Path) -> None:  # noqa: ARG002  # the path has it
        """A sample grid is written."""
        self.samples = path

    def evaluating(self, done: int, total: int) -> None:
        """The generators are being evaluated."""
        self.evaluation = (done, total)

    def evaluated(self, evaluation: Evaluation) -> None:
        """The generators are evaluated, and the best model is kept."""
        self.evaluation = None
        super().evaluated(evaluation)

    def __rich__(self) -> RenderableType:
        """What is on the terminal now."""
        from rich.console import Group
        from rich.text import Text

        if self.report is None:
            return self._beginning()
        parts = [self._heading(self.report), self._bar(self.report.progress), self._figures(self.report), Text()]
        return Group(*parts, self._table(), *([Text(), self._files()] if self.saved_step or self.samples else []))

    def _beginning(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        if self.evaluation:
            return Text(watch.evaluated_so_far(*self.evaluation))
        done, total = self.read or (0, 0)
        if done == total:
            waited = watch.duration(time.monotonic() - self.reported)
            return Text(f"preparing, the first step takes longest ... {waited}" if total else "preparing ...")
        grid = Table.grid(padding=(0, 1))
        grid.add_row("reading pictures", self._bar(done / total, width=40), f"{done}/{total}")
        return grid

    @staticmethod
    def _bar(share: float, width: int | None = None) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        # A bar alone doesn't end its line.
        grid = Table.grid()
        grid.add_row(ProgressBar(total=1.0, completed=share, width=width))
        return grid

    def _heading(self, report: StepReport) -> Table:
        from rich.table import Table
        from rich.text import Text

        settings, minutes = self.settings, watch.figure(self.settings.minutes or 0)
        of = f" of {settings.iterations}" if settings.iterations else f", {minutes} min in all"
        state = watch.evaluated_so_far(*self.evaluation) if self.evaluation else self._share(report)
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_column(justify="right", no_wrap=True)
        names = f"{watch.shortened(settings.model.domain_a)} <-> {watch.shortened(settings.model.domain_b)}"
        grid.add_row(Text(names, "bold"), Text(f"step {report.step}{of}   {state}"))
        return grid

    def _share(self, report: StepReport) -> str:
        share, left = f"{100 * report.progress:.1f} %", report.seconds_left
        if left is None:
            return share
        left = max(0.0, left - (time.monotonic() - self.reported)) if report.progress < 1 else 0.0
        return f"{share}   {watch.duration(left)} left"

    @staticmethod
    def _figures(report: StepReport) -> RenderableType:
        from rich.text import Text

        parts = [f"learning rate {watch.figure(report.learning_rate)}"]
        if report.images_per_second is not None and report.steps_per_second:
            parts[:0] = [f"{watch.figure(report.images_per_second)} images/s", watch.pace(report.steps_per_second)]
        if report.memory:
            parts.append(f"memory {watch.amount(report.memory)}")
        return Text(" · ".join(parts), "dim", no_wrap=True, overflow="ellipsis")

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        names = [watch.shortened(name) for name in (self.settings.model.domain_a, self.settings.model.domain_b)]
        table = Table.grid(padding=(0, 3, 0, 0))
        table.add_column(min_width=22, no_wrap=True)
        for _ in range(4):
            table.add_column(justify="right", min_width=8, no_wrap=True)
        table.add_row("", *(Text(title, "bold") for title in ("generator", "", "discriminator", "")))
        table.add_row("", *(Text(name, "cyan") for name in (*names, *names)))
        means = self.means()
        for word, terms in TERMS.items():
            keys = [(term if "{}" in term else term + "_{}").format(domain) for term in terms for domain in "ab"]
            if means and not means.keys() & set(keys):
                continue  # the model has no such terms
            table.add_row(word, *(f"{means[key]:.3f}" if key in means else "" for key in keys))
        return table

    def _files(self) -> RenderableType:
        from rich.text import Text

        parts = [f"checkpoint: step {self.saved_step}"] if self.saved_step is not None else []
        parts += [f"samples: {self.samples}"] if self.samples else []
        return Text(" · ".join(parts), "dim", no_wrap=True, overflow="ellipsis")


@contextmanager
def watching(settings: Settings) -> Iterator[watch.PlainWatch]:
    """A live view on a terminal, else plain lines."""
    stderr = console.stderr()
    if not stderr.is_terminal or stderr.is_dumb_terminal:
        yield watch.PlainWatch(settings)
        return
    from rich.live import Live

    view = LiveWatch(settings)
    redirect = sys.stdout.isatty()
    with Live(view, console=stderr, refresh_per_second=REFRESHES_PER_SECOND, redirect_stdout=redirect) as live:
        try:
            yield view
        finally:
            live.transient = view.report is None  # what is left on the screen is how it ended

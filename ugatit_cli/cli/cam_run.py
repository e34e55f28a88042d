"""`ugatit cam --run`: animations over the checkpoints of a training run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import batch, console
from ugatit_cli.cli.cam_task import CamTask, View
from ugatit_cli.cli.picture_task import Request
from ugatit_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Sequence

    from ugatit_cli.drawing import Drawing
    from ugatit_cli.inputs import Job
    from ugatit_cli.model import Model
    from ugatit_cli.pipeline import Result, TranslateOptions

FEW = 10


class CamRunTask(CamTask):
    """One animation of each picture.

    Raises:
        UsageError: there is no such run, or an option that doesn't go with it.
        ModelError: the run has no checkpoint.
    """

    verb = "animated"

    def __init__(self, request: Request, view: View, run: Path) -> None:
        from ugatit_cli.run_folder import RunFolder

        super().__init__(request, view)
        self.run = RunFolder(run)
        if not self.run.exists:
            raise UsageError(
                f"--run {run}: not a run folder", "Name a folder that `ugatit train` has made (runs/NAME)."
            )
        if view.layout == "raw":
            raise UsageError("--layout raw can't be animated", "Use --model with the model of the run.")
        if request.report is not None or request.first_only:
            option = "--report" if request.report is not None else "--no-animate"
            raise UsageError(f"{option} doesn't go with --run, which makes animations")
        if not self.run.checkpoints():
            raise ModelError(f"{run}: has no checkpoint yet", "Wait until `ugatit train` has saved one.")

    def suffix(self, source: Path) -> str:
        """WebP unless the user wants something else."""
        return super().suffix(Path("x.webp") if self.request.format == "same" else source)

    def check(self, jobs: Sequence[Job]) -> None:
        """Only some formats are animated."""
        from ugatit_cli import encoding
        from ugatit_cli.images import ANIMATED

        super().check(jobs)
        output = jobs[0].output if jobs else None
        format = encoding.output_format("WEBP", self.request.format) if output is None else encoding.format_of(output)
        if format not in ANIMATED:
            raise UsageError(f"{format} can't be animated", "Use --format webp, gif or png.")

    def results(
        self,
        model: Model,
        jobs: list[Job],
        options: TranslateOptions,
        drawing: Drawing,
        stop: threading.Event,
        advance: Callable[[], None],
    ) -> Generator[Result, None, None]:
        """Does the work."""
        from ugatit_cli.attention_history import draw_history

        steps = self.run.checkpoints()
        console.note(f"{len(steps)} checkpoint{'s' * (len(steps) > 1)}, from step {steps[0]:,} to {steps[-1]:,}")
        if len(steps) < FEW:
            console.note(f"more frames: train with --keep {10 * FEW}, which keeps as many checkpoints")
        return draw_history(self.run, model, jobs, options, drawing, stop, advance)

    def steps(self, jobs: Sequence[Job]) -> tuple[int, str]:
        """Each checkpoint looks at each picture."""
        return len(jobs) * len(self.run.checkpoints()), "frames"

    def finished(self, report: batch.Report) -> None:
        """Nothing more: a single checkpoint has been spoken of."""


def model_of(run: Path) -> str:
    """What `--model` calls a run, also where a model has the same name."""
    return str(run) if os.sep in str(run) else os.path.join(".", str(run))  # noqa: PTH118 (a Path drops the dot)

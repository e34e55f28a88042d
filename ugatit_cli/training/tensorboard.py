"""A run's losses, evaluations and samples for TensorBoard, which comes with `ugatit-cli[tensorboard]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ugatit_cli.durable import reported
from ugatit_cli.errors import UsageError
from ugatit_cli.training.evaluation import Evaluation
from ugatit_cli.training.monitor import StepReport

# Steps between two points of a curve.
EVERY = 10


class TensorBoard:
    """A listener that writes scalars and sample grids.

    Nothing is written before the first step. What a killed process wrote of steps that are now done again disappears.

    Args:
        folder: where to; made if need be.

    Raises:
        UsageError: TensorBoard isn't installed.
        OutputError: (from all methods) it can't be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "--tensorboard needs TensorBoard, which isn't installed", 'pip install "ugatit-cli[tensorboard]"'
            ) from None
        self.folder = folder
        self._open: Any = SummaryWriter
        self._writer: Any = None
        self._losses: list[dict[str, float]] = []
        self._protocol = ""

    def loading(self, done: int, total: int) -> None:
        """Pictures are being read."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def stepped(self, report: StepReport) -> None:
        """Every tenth step is a point of each curve: losses are the means since the last point."""
        self._begin(report.step)
        if report.losses:
            self._losses.append(report.losses)
        if report.step % EVERY and report.progress < 1:
            return
        with reported(self.folder):
            for name, value in self._values(report).items():
                self._writer.add_scalar(name, value, report.step)
        self._losses = []

    def _begin(self, step: int) -> None:
        """Makes the writer; nothing that was written from this step on counts any more."""
        if self._writer is None:
            with reported(self.folder):
                self._writer = self._open(str(self.folder), purge_step=step)

    def _values(self, report: StepReport) -> dict[str, float]:
        values = {"learning rate": report.learning_rate}
        if report.images_per_second is not None:
            values["images per second"] = report.images_per_second
        names = self._losses[-1] if self._losses else ()
        means = {name: sum(one[name] for one in self._losses) / len(self._losses) for name in names}
        return values | {f"losses/{name}": value for name, value in means.items()}

    def saved(self, step: int) -> None:  # noqa: ARG002
        """What was written so far is put onto the disk, like the checkpoint."""
        if self._writer is not None:
            with reported(self.folder):
                self._writer.flush()

    def sampled(self, step: int, path: Path) -> None:
        """Shows the grid."""
        if self._writer is None:
            return
        with reported(self.folder), Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))  # (H, W, 3)
            self._writer.add_image("samples", pixels, step, dataformats="HWC")

    def evaluating(self, done: int, total: int) -> None:
        """The generators are being evaluated."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """KID of both directions is a point of each curve, for each kind of generators; a text tells how it came."""
        self._begin(evaluation.step + 1)  # of a run that goes on: what its step wrote before it ended counts
        protocol = "  \n".join(f"{name}: {value}" for name, value in evaluation.protocol.items())
        with reported(self.folder):
            if protocol != self._protocol:
                self._writer.add_text("KID/protocol", protocol, evaluation.step)
                self._protocol = protocol
            for kind, kids in evaluation.kids.items():
                for direction, kid in kids.items():
                    self._writer.add_scalar(f"KID/{direction} {kind}", kid.mean, evaluation.step)

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            with reported(self.folder):
                self._writer.close()

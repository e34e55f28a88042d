"""Who is told what a training run does. Light to import: the views of the command line are among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugatit_cli.errors import UsageError, install_line
from ugatit_cli.files import reported

if TYPE_CHECKING:
    from ugatit_cli.training.estimate import Measurement
    from ugatit_cli.training.evaluation import Evaluation
    from ugatit_cli.training.settings import Settings


@dataclass(frozen=True)
class StepReport:
    """One step, for people to watch.

    Attributes:
        step: steps done, this one included.
        progress: share of the training that is done, in [0, 1].
        losses: unweighted losses by name, see `methods.base.Step`, the mean over all processes; on a GPU those of the
            step before, none at the first.
        copying: it is one of the warm-up; the speed of others, and when they end, isn't known yet.
        steps_per_second, images_per_second, seconds_left: None until the speed is known.
        memory: bytes of memory in use at most so far: the GPU's, or this process's.
    """

    step: int
    progress: float
    losses: dict[str, float]
    learning_rate: float
    steps_per_second: float | None
    images_per_second: float | None
    seconds_left: float | None
    memory: int
    copying: bool = False


class Listener:
    """Who is told about a run, in the thread that trains; this one does nothing about it."""

    def loading(self, done: int, total: int) -> None:
        """Pictures are being read."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def trying(self, what: str) -> None:
        """Steps are tried, to find out what the run will take."""

    def estimated(self, settings: Settings, cost: Measurement) -> None:
        """What a run will take whose length nobody chose."""

    def beginning(self, settings: Settings) -> None:
        """The first step is near: these are the run's settings, which its pictures decided on, too."""

    def stepped(self, report: StepReport) -> None:
        """A step is done."""

    def recorded(self, report: StepReport, losses: Mapping[str, float]) -> None:
        """A line of metrics is written after this step: the means of the losses since the last one."""

    def saved(self, step: int) -> None:
        """A checkpoint is written, and the model."""

    def sampled(self, step: int, path: Path) -> None:
        """A sample grid is written."""

    def evaluating(self, done: int, total: int) -> None:
        """The generators are being evaluated: so many pictures have gone through the extractor, of that many."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """The generators are evaluated, and the best model is kept."""


def means(losses: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means of some steps' losses by name, each over the steps that have it; nothing of none.

    Those of the warm-up and those after it never meet: what the last one is of counts.
    """
    from ugatit_cli.methods.base import COPYING

    copying = bool(losses) and COPYING[0].name in losses[-1]
    known: dict[str, list[float]] = {}
    for one in losses:
        for name, value in one.items() if (COPYING[0].name in one) == copying else ():
            known.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in known.items()}


class Several(Listener):
    """Passes everything on to several listeners, in their order."""

    def __init__(self, *listeners: Listener) -> None:
        for name in [name for name in vars(Listener) if not name.startswith("_")]:
            calls = [getattr(one, name) for one in listeners]
            setattr(self, name, lambda *arguments, calls=calls: [call(*arguments) for call in calls])


class TensorBoard(Listener):
    """A listener that writes scalars and sample grids.

    Nothing is written before the first step. What a killed process wrote of steps that are now done again disappears.

    Raises:
        UsageError: TensorBoard isn't installed.
        OutputError: (from all methods) it can't be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            message = "--tensorboard needs TensorBoard, which isn't installed"
            raise UsageError(message, install_line("tensorboard")) from None
        self.folder = folder
        self._open: Any = SummaryWriter
        self._writer: Any = None
        self._protocol = ""

    def stepped(self, report: StepReport) -> None:
        """From the first one on, what an earlier process wrote is replaced."""
        self._begin(report.step)

    def recorded(self, report: StepReport, losses: Mapping[str, float]) -> None:
        """A point of each curve."""
        self._begin(report.step)
        values = {"learning rate": report.learning_rate, "images per second": report.images_per_second}
        values |= {f"losses/{name}": value for name, value in losses.items()}
        with reported(self.folder):
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, report.step)

    def _begin(self, step: int) -> None:
        """Makes the writer; nothing that was written from this step on counts any more."""
        if self._writer is None:
            with reported(self.folder):
                self._writer = self._open(str(self.folder), purge_step=step)

    def saved(self, step: int) -> None:  # noqa: ARG002
        """What was written so far is put onto the disk, like the checkpoint."""
        if self._writer is not None:
            with reported(self.folder):
                self._writer.flush()

    def sampled(self, step: int, path: Path) -> None:
        """Shows the grid."""
        if self._writer is None:
            return
        import numpy as np
        from PIL import Image

        with reported(self.folder), Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))  # (H, W, 3)
            self._writer.add_image("samples", pixels, step, dataformats="HWC")

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

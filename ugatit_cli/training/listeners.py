"""What a training run tells while it goes on: losses as they come, speed, time left, memory."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ugatit_cli.device import Group
from ugatit_cli.errors import TrainingError, UsageError, install_line
from ugatit_cli.files import reported
from ugatit_cli.methods.ugatit import Losses
from ugatit_cli.training.evaluation import Evaluation
from ugatit_cli.training.state import way_out

# The first steps compile, allocate and read; speed is that of the steps after them, and of the last few only.
WARM_UP = 2
WINDOW = 50


@dataclass(frozen=True)
class StepReport:
    """One step, for people to watch.

    Attributes:
        step: steps done, this one included.
        progress: share of the training that is done, in [0, 1].
        losses: unweighted losses by name, see `TrainingStep`, the mean over all processes; on a GPU those of the
            step before, none at the first.
        learning_rate: of this step.
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


class Listener(Protocol):
    """Who is told about a run. Nothing of it is called in other threads than the training's."""

    def loading(self, done: int, total: int) -> None:
        """Pictures are being read."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def stepped(self, report: StepReport) -> None:
        """A step is done."""

    def saved(self, step: int) -> None:
        """A checkpoint is written, and the model."""

    def sampled(self, step: int, path: Path) -> None:
        """A sample grid is written."""

    def evaluating(self, done: int, total: int) -> None:
        """The generators are being evaluated: so many pictures have gone through the extractor, of that many."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """The generators are evaluated, and the best model is kept."""


@dataclass
class Speed:
    """Steps per second over the last steps, pauses for checkpoints and samples taken out."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    seen: int = 0
    last: float = field(default_factory=time.monotonic)

    def restart(self) -> None:
        """What happened since the last step doesn't count."""
        self.last = time.monotonic()

    def step(self) -> None:
        """One more step is done."""
        now = time.monotonic()
        self.seen += 1
        if self.seen > WARM_UP:
            self.seconds.append(now - self.last)
        self.last = now

    @property
    def steps_per_second(self) -> float | None:
        """None during warm-up."""
        total = sum(self.seconds)
        return len(self.seconds) / total if total else None


class LossReader:
    """Losses as numbers, one step late on a GPU, so that nobody waits for it."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._waiting: tuple[int, list[str], Tensor, Any] | None = None

    def put(self, step: int, losses: Losses) -> tuple[int, dict[str, float]] | None:
        """Takes a step's losses, and returns those that are known: of this step, or of the one before.

        Raises:
            TrainingError: one isn't finite.
        """
        values = torch.stack(list(losses.values()))
        self._group.average([values])
        if not values.is_cuda:
            return _checked(step, list(losses), values)
        before = self.flush()
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        event: Any = torch.cuda.Event  # torch leaves it untyped
        event = event()
        event.record(torch.cuda.current_stream(values.device))
        self._waiting = (step, list(losses), host, event)
        return before

    def flush(self) -> tuple[int, dict[str, float]] | None:
        """What has not been returned yet.

        Raises:
            TrainingError: a loss isn't finite.
        """
        if self._waiting is None:
            return None
        step, names, values, event = self._waiting
        self._waiting = None
        event.synchronize()
        return _checked(step, names, values)


def _checked(step: int, names: list[str], values: Tensor) -> tuple[int, dict[str, float]]:
    losses = dict(zip(names, values.tolist(), strict=True))
    for name, value in losses.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: the loss {name} is {value}", way_out())
    return step, losses


def peak_memory(device: torch.device) -> int:
    """Bytes in use at most so far: of the GPU by PyTorch, else of this process; 0 where that isn't known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
                "--tensorboard needs TensorBoard, which isn't installed", install_line("tensorboard")
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

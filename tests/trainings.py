"""Tiny folders of pictures, and tiny training runs on them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx.experimental.symbolic_shapes  # before processes are forked, each of whose first steps would import it
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ugatit_cli.config import DOMAINS
from ugatit_cli.data.pictures import Folders, Pictures, Preparation
from ugatit_cli.device import Group
from ugatit_cli.methods import back_translation
from ugatit_cli.training import trainer
from ugatit_cli.training.evaluation import Evaluation
from ugatit_cli.training.listeners import Listener, StepReport
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.session import Prepared, prepare
from ugatit_cli.training.settings import Settings
from ugatit_cli.training.trainer import Machine, Outcome


class FewLayers(torch.nn.Module):
    """Stands in for EfficientNet-Lite0, whose features have these shapes; the same each time."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        widths = itertools.pairwise((3, 24, 40, 112, 320))
        self.weights = torch.nn.ParameterList(torch.randn(n, m, 1, 1, generator=random) / m**0.5 for m, n in widths)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features at 1/4, 1/8, 1/16 and 1/32 of the sides."""
        found = [F.avg_pool2d(x, 2, ceil_mode=True)]
        for weight in self.weights:
            found.append(F.conv2d(F.avg_pool2d(found[-1], 2, ceil_mode=True), weight).relu())
        return found[1:]


# What takes most of the time of a run of a few steps: the grid of samples, and the features that it learns by.
trainer.SAMPLES = 2
vars(back_translation)["bundled_features"] = FewLayers

CPU = torch.device("cpu")
COLOURS = (200, 40, 40), (40, 40, 200)
# Of a run whose steps take a few milliseconds.
TINY: dict[str, Any] = {
    "image_size": 32,
    "channels": 4,
    "blocks": 1,
    "discriminator_channels": 4,
    "local_layers": 3,
    "global_layers": 4,
    "precision": "fp32",
    "checkpoint_every": "1000",
    "sample_every": "1000",
}
# The step that takes least, where no other is asked for.
JOINT: dict[str, Any] = {"cycle": "joint", "batch_size": 1, "warm_up": "off"}


def tiny_sizes(given: dict[str, Any]) -> dict[str, Any]:
    """`TINY` and `JOINT` for what is asked for, as far as it knows these sizes."""
    if given.get("method", "ugatit") == "ugatit":
        return TINY | ({} if {"recipe", "cycle"} & given.keys() else JOINT)
    return {name: value for name, value in TINY.items() if name not in ("local_layers", "global_layers")}


def make_folders(root: Path, count: int = 10, names: tuple[str, str] = ("red", "blue")) -> Folders:
    """A folder of reddish and one of bluish noise, the same every time."""
    for name, colour in zip(names, COLOURS, strict=True):
        (root / name).mkdir(parents=True)
        for number in range(count):
            noise = np.random.default_rng([number, *colour]).integers(-40, 40, (40, 46, 3)) + np.array(colour)
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(root / name / f"{number}.png")
    return Folders(root / names[0], root / names[1])


def unread(count_a: int, count_b: int) -> tuple[Pictures, Pictures]:
    """So many pictures of both domains, which nobody needs to read."""
    a, b = (
        Pictures(domain, Path(domain), Preparation(32), (Path("1.png"),) * count, (1,) * count, None, (), (), 0)
        for domain, count in zip(DOMAINS, (count_a, count_b), strict=True)
    )
    return a, b


class Log(Listener):
    """Notes what a run tells.

    Args:
        calls: what to do after which step.
    """

    def __init__(self, calls: dict[int, Callable[[], object]] | None = None) -> None:
        self.calls = calls or {}
        self.notes: list[str] = []
        self.reports: list[StepReport] = []
        self.saves: list[int] = []
        self.samples: list[tuple[int, Path]] = []
        self.evaluations: list[Evaluation] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def saved(self, step: int) -> None:
        self.saves.append(step)

    def evaluated(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)

    def loading(self, done: int, total: int) -> None:
        assert 0 < done <= total

    def stepped(self, report: StepReport) -> None:
        self.reports.append(report)
        self.calls.get(report.step, lambda: None)()

    def sampled(self, step: int, path: Path) -> None:
        self.samples.append((step, path))

    def evaluating(self, done: int, total: int) -> None:
        assert 0 <= done < total


def prepared(
    path: Path, folders: Folders | None, given: dict[str, Any], group: Group | None = None, *, named: bool = False
) -> Prepared:
    """What `ugatit train -o path` prepares on the CPU; with `named`, `--resume path`."""
    return prepare(RunFolder(path), given, folders, Machine(CPU, 1, group or Group()), named=named)


def train(
    path: Path,
    folders: Folders | None,
    given: dict[str, Any],
    *,
    log: Log | None = None,
    stop_after: int | None = None,
    group: Group | None = None,
) -> tuple[Settings, Outcome]:
    """What `ugatit train -o path` does, on the CPU.

    Args:
        given: settings beside those of `TINY`.
        stop_after: the step in which Ctrl-C is pressed.
    """
    log, stop = log or Log(), threading.Event()
    if stop_after is not None:
        log.calls[stop_after] = stop.set
    return prepared(path, folders, tiny_sizes(given) | given, group).train(log, stop)


def weights(path: Path) -> dict[str, bytes]:
    """All tensor files of a run's last checkpoint and of its model."""
    run = RunFolder(path)
    step = run.latest()
    checkpoint = [] if step is None else sorted(run.checkpoint_path(step).glob("*.safetensors"))
    files = [*checkpoint, *sorted(run.model.glob("*.safetensors"))]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` without what the clock says."""
    clock = ("elapsed", "images_per_second")
    return [{k: v for k, v in line.items() if k not in clock} for line in RunFolder(path).metrics()]

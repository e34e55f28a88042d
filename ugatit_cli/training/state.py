"""A run's state, to and from checkpoints: weights, spectral norms' vectors, moving averages, Adam's moments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ugatit_cli.errors import ModelError, TrainingError
from ugatit_cli.methods.networks import Networks, generator_tensors
from ugatit_cli.methods.ugatit import TrainingStep
from ugatit_cli.training.run_folder import Checkpoint, RunFolder
from ugatit_cli.training.settings import Settings

OPTIMIZERS = "optimizers"
# What to do about numbers that aren't finite.
WAY_OUT = (
    "The last checkpoint is kept. Go on from it with --resume and a lower --learning-rate or --precision fp32; "
    "the same command alone would end here again."
)


def save(
    run: RunFolder,
    training: TrainingStep,
    settings: Settings,
    step: int,
    state: Mapping[str, Any],
    counts: tuple[int, int] | None = None,
) -> None:
    """Writes a checkpoint, then the usable model.

    Args:
        step: number of steps done.
        state: what else a resumed run has to know.
        counts: how many pictures of domains A and B it learns from.

    Raises:
        TrainingError: a weight isn't finite; nothing is written.
        OutputError: it can't be written; earlier checkpoints and the model stay valid.
    """
    files = training.networks.files() | {OPTIMIZERS: training.optimizer_tensors()}
    check_finite(files, step)
    run.save_checkpoint(step, files, state, keep=settings.keep)
    write_model(run, training.networks, settings, step, counts)


def write_model(
    run: RunFolder, networks: Networks, settings: Settings, step: int, counts: tuple[int, int] | None = None
) -> None:
    """Writes `model/`: the moving averages of the generators where there are any, and the discriminators."""
    run.write_model(
        settings.model,
        generator_tensors(networks.best_generators),
        networks.discriminator_tensors(),
        provenance(settings, step, counts),
    )


def provenance(settings: Settings, step: int, counts: tuple[int, int] | None = None) -> dict[str, Any]:
    """Where the weights of a run's model come from, as plain JSON values."""
    a, b = settings.model.domain_a, settings.model.domain_b
    values = {
        "trained with": "ugatit train",
        "recipe": settings.recipe.name,
        "steps": step,
        "batch size": settings.recipe.batch_size,
        "pictures": f"{counts[0]:,} {a}, {counts[1]:,} {b}" if counts is not None else None,
        "started from": _public_name(settings.start),
    }
    return {name: value for name, value in values.items() if value is not None}


def _public_name(start: str | None) -> str | None:
    """A model's name; of a path on this machine only the last part that tells something."""
    if start is None or not Path(start).is_absolute():
        return start
    path = Path(start)
    if path.name == "best" and path.parent.name:
        return f"{path.parent.name} (best)"
    return path.parent.name if path.name == "model" else path.name


def restore(checkpoint: Checkpoint, training: TrainingStep) -> None:
    """Fills networks and optimizers from a checkpoint.

    Raises:
        ModelError: it doesn't fit them.
    """
    for stem, tensors in training.networks.files().items():
        _fill(checkpoint, stem, tensors)
    _fill(checkpoint, OPTIMIZERS, training.prepare_optimizers(checkpoint.step))


@torch.no_grad()
def _fill(checkpoint: Checkpoint, stem: str, tensors: Mapping[str, Tensor]) -> None:
    with checkpoint.tensors(stem) as file:
        if set(file.keys()) != set(tensors):
            raise ModelError(f"{checkpoint.path / stem}.safetensors: doesn't fit the run's configuration")
        for name, tensor in tensors.items():
            stored = file.get_tensor(name)
            if stored.shape != tensor.shape:
                raise ModelError(f"{checkpoint.path / stem}.safetensors: {name} has another shape than the run's")
            tensor.copy_(stored)


def check_finite(files: Mapping[str, Mapping[str, Tensor]], step: int) -> None:
    """Whether all weights and moments are numbers: an infinite moment would end its weight's training silently.

    Raises:
        TrainingError: one isn't.
    """
    for tensors in files.values():
        for name, tensor in tensors.items():
            if not all(extreme.isfinite() for extreme in torch.aminmax(tensor)):
                raise TrainingError(f"step {step}: {name} is no longer finite", WAY_OUT)

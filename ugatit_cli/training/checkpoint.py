"""Checkpoints and the model beside them: weights, spectral norms' vectors, moving averages, Adam's moments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ugatit_cli.data.pictures import Pictures
from ugatit_cli.errors import ModelError, TrainingError
from ugatit_cli.methods.networks import Networks, generator_tensors
from ugatit_cli.methods.ugatit import TrainingStep
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import open_tensors

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
    pictures: tuple[Pictures, Pictures],
) -> None:
    """Writes a checkpoint, then the usable model.

    Args:
        state: what else a resumed run has to know.

    Raises:
        TrainingError: a weight isn't finite; nothing is written.
        OutputError: it can't be written; earlier checkpoints and the model stay valid.
    """
    files = training.networks.files() | {OPTIMIZERS: training.optimizer_tensors()}
    for tensors in files.values():
        for name, tensor in tensors.items():
            # Moments as well: an infinite one would end its weight's training silently.
            if not all(extreme.isfinite() for extreme in torch.aminmax(tensor)):
                raise TrainingError(f"step {step}: {name} is no longer finite", WAY_OUT)
    run.save_checkpoint(step, files, state, keep=settings.keep)
    write_model(run, training.networks, settings, step, pictures)


def write_model(
    run: RunFolder, networks: Networks, settings: Settings, step: int, pictures: tuple[Pictures, Pictures]
) -> None:
    """Writes `model/`: the moving averages of the generators where there are any, and the discriminators."""
    tensors = generator_tensors(networks.best_generators), networks.discriminator_tensors()
    run.write_model(settings.model, *tensors, provenance(settings, step, pictures))


def provenance(settings: Settings, step: int, pictures: tuple[Pictures, Pictures]) -> dict[str, Any]:
    """Where the weights of a run's model come from, as plain JSON values."""
    names = (settings.model.domain_a, settings.model.domain_b)
    counts = (f"{len(one.files):,} {name}" for one, name in zip(pictures, names, strict=True))
    values = {
        "trained with": "ugatit train",
        "recipe": settings.recipe.name,
        "steps": step,
        "batch size": settings.recipe.batch_size,
        "pictures": ", ".join(counts),
    }
    return values | ({"started from": _public_name(settings.start)} if settings.start is not None else {})


def _public_name(start: str) -> str:
    """A model's name; of a path on this machine only the last part that tells something."""
    path = Path(start)
    if not path.is_absolute():
        return start
    if path.name == "best" and path.parent.name:
        return f"{path.parent.name} (best)"
    return path.parent.name if path.name == "model" else path.name


def restore(run: RunFolder, step: int, training: TrainingStep) -> dict[str, Any]:
    """Fills networks and optimizers from the checkpoint of a step.

    Returns:
        The `state` that `save` was given.

    Raises:
        ModelError: it is damaged, or doesn't fit them.
    """
    state, folder = run.load_checkpoint(step), run.checkpoint_path(step)
    for stem, tensors in training.networks.files().items():
        _fill(folder / f"{stem}.safetensors", tensors)
    _fill(folder / f"{OPTIMIZERS}.safetensors", training.prepare_optimizers(step))
    return state


@torch.no_grad()
def _fill(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with open_tensors(path) as file:
        if set(file.keys()) != set(tensors):
            raise ModelError(f"{path}: doesn't fit the run's configuration")
        for name, tensor in tensors.items():
            stored = file.get_tensor(name)
            if stored.shape != tensor.shape:
                raise ModelError(f"{path}: {name} has another shape than the run's")
            tensor.copy_(stored)

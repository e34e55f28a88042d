"""Checkpoints and the model beside them: weights, spectral norms' vectors, moving averages, Adam's moments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from ugatit_cli.data.pictures import Pictures
from ugatit_cli.errors import ModelError, TrainingError, UsageError
from ugatit_cli.fields import Range, check_ranges, read_table
from ugatit_cli.methods.base import Step
from ugatit_cli.methods.networks import Networks, tensors_of
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import open_tensors

OPTIMIZERS, MEMORY = "optimizers", "memory"
# What a model says of how it was trained, beside the recipe without paths.
TOLD = ("iterations", "minutes", "precision")
# What to do about numbers that aren't finite.
WAY_OUT = (
    "The last checkpoint is kept. Go on from it with --resume and a lower --learning-rate, or with --precision "
    "fp32 where it had another; the same command alone would end here again."
)


@dataclass(frozen=True)
class State:
    """What a run that goes on has to know beside its tensors.

    Attributes:
        elapsed: seconds that it has taken.
        metrics: losses of each step since the last line of metrics.
        data, holdout: fingerprints of its pictures; None in checkpoints of earlier versions.
        advice: see `training.advice.Advisor`.
        mixed: whether it has trained on other pictures before.
    """

    elapsed: Annotated[float, Range(0, 1e12)]
    metrics: list[Mapping[str, float]]
    data: str | None = None
    holdout: str | None = None
    advice: Mapping[str, int] | None = None
    mixed: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, State)


def save(
    run: RunFolder,
    training: Step,
    settings: Settings,
    step: int,
    state: State,
    pictures: tuple[Pictures, Pictures],
) -> None:
    """Writes a checkpoint, then the usable model.

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
    files |= {MEMORY: memory} if (memory := training.memory()) else {}
    run.save_checkpoint(step, files, dataclasses.asdict(state), keep=settings.keep)
    write_model(run, training.networks, settings, step, pictures)


def write_model(
    run: RunFolder, networks: Networks, settings: Settings, step: int, pictures: tuple[Pictures, Pictures]
) -> None:
    """Writes `model/`: the moving averages of the generators where there are any, and the discriminators."""
    tensors = tensors_of(networks.best_translators), tensors_of(networks.critics)
    run.write_model(settings.model, *tensors, provenance(settings, step, pictures))


def provenance(settings: Settings, step: int, pictures: tuple[Pictures, Pictures]) -> dict[str, Any]:
    """Where the weights of a run's model come from, as plain JSON values."""
    names = (settings.model.domain_a, settings.model.domain_b)
    counts = (f"{len(one.files):,} {name}" for one, name in zip(pictures, names, strict=True))
    values = {
        "trained with": "ugatit train",
        **({} if settings.model.method == "ugatit" else {"method": settings.model.method}),
        "recipe": settings.recipe.name,
        "steps": step,
        "batch size": settings.recipe.batch_size,
        "pictures": ", ".join(counts),
        "settings": {
            **{name: value for name in TOLD if (value := getattr(settings, name)) is not None},
            "recipe": {name: value for name, value in settings.to_document()["recipe"].items() if name != "vgg"},
        },
    }
    return values | ({"started from": _public_name(settings.start)} if settings.start is not None else {})


def settings_then(stored: Settings, provenance: Mapping[str, Any]) -> Settings | None:
    """A run's settings as they were when one of its models was written; None if that doesn't say."""
    told = provenance.get("settings")
    if not isinstance(told, Mapping):
        return None
    try:
        values: dict[str, Any] = {name: told.get(name) for name in TOLD}
        return dataclasses.replace(stored, **values, recipe=read_table(Recipe, told.get("recipe")))
    except UsageError:
        return None


def _public_name(start: str) -> str:
    """A model's name; of a path on this machine only the last part that tells something."""
    path = Path(start)
    if not path.is_absolute():
        return start
    if path.name == "best" and path.parent.name:
        return f"{path.parent.name} (best)"
    return path.parent.name if path.name == "model" else path.name


def restore(run: RunFolder, step: int, training: Step) -> State:
    """Fills networks and optimizers from the checkpoint of a step.

    Returns:
        The `state` that `save` was given.

    Raises:
        ModelError: it is damaged, or doesn't fit them.
    """
    folder = run.checkpoint_path(step)
    with run.reading_checkpoint(step):
        state = read_table(State, run.load_checkpoint(step))
    memory = folder / f"{MEMORY}.safetensors"
    if memory.exists():
        with open_tensors(memory) as file:
            training.remember({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  # no dict
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

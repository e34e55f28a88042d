"""Checkpoints of a run's state: everything comes back, and nothing broken goes in."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny
from ugatit_cli.config import ModelConfig
from ugatit_cli.data.pictures import Folders
from ugatit_cli.device import Group
from ugatit_cli.errors import ModelError, TrainingError
from ugatit_cli.methods.networks import build_networks
from ugatit_cli.methods.ugatit import TrainingStep
from ugatit_cli.training import state
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings, new_settings
from ugatit_cli.weights.folder import open_model

GIVEN: dict[str, Any] = {**tiny.SIZES, "global_layers": 3, "precision": "fp32", "augment": "off"}


def settings(**given: Any) -> Settings:
    return new_settings(GIVEN | given, Folders(Path("a"), Path("b")), device=torch.device("cpu"))


def make(run: Settings, seed: int = 0) -> TrainingStep:
    networks = build_networks(run.model, run.recipe, seed=seed, device=torch.device("cpu"), precision="fp32")
    return TrainingStep(networks, run.recipe, seed=0, group=Group())


def work(training: TrainingStep, steps: range) -> None:
    for step in steps:
        a, b = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(step)).tanh()
        training(a, b, step=step, learning_rate=1e-3)


def everything(training: TrainingStep) -> dict[str, Tensor]:
    tensors = {f"optimizers/{name}": tensor.clone() for name, tensor in training.optimizer_tensors().items()}
    for stem, file in training.networks.files().items():
        tensors |= {f"{stem}/{name}": tensor.clone() for name, tensor in file.items()}
    return tensors


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert set(one) == set(other)
    return [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.create({})
    return run


@pytest.mark.parametrize("name", ["default", "paper"])
def test_everything_comes_back(run: RunFolder, name: str) -> None:
    ours = settings(recipe=name)
    one = make(ours)
    work(one, range(2))
    state.save(run, one, ours, 2, {"note": [1.5, "x"]})
    checkpoint = run.load_checkpoint(2)
    assert checkpoint.state == {"note": [1.5, "x"]}
    stems = {"generators", "discriminators", "optimizers"} | ({"averages"} if name == "default" else set())
    assert set(checkpoint.stems) == stems
    other = make(ours, seed=1)
    assert len(differing(everything(one), everything(other))) > 100
    state.restore(checkpoint, other)
    assert differing(everything(one), everything(other)) == []
    for training in (one, other):
        work(training, range(2, 4))
    assert differing(everything(one), everything(other)) == []


def test_the_model_has_all_that_a_new_run_may_start_from(run: RunFolder) -> None:
    ours = dataclasses.replace(settings(), start="horse2zebra")
    training = make(ours)
    work(training, range(1))
    state.save(run, training, ours, 1, {}, (1200, 34))
    model = open_model(run.path)
    assert model.config == ours.model
    assert model.provenance["started from"] == "horse2zebra"
    assert model.provenance["pictures"] == f"1,200 {ours.model.domain_a}, 34 {ours.model.domain_b}"
    assert (model.provenance["recipe"], model.provenance["steps"]) == ("default", 1)
    average = tiny.tensors(training.networks.averages["b2a"], "")
    assert differing(tiny.tensors(model.generator("b2a"), ""), average) == []
    judge = tiny.tensors(training.networks.discriminators["a", "local"], "")
    assert differing(tiny.tensors(model.discriminator("a", "local"), ""), judge) == []


@pytest.mark.parametrize(
    ("start", "public"),
    [
        ("ada/horse2zebra", "ada/horse2zebra"),
        ("/home/ada/runs/horses/model", "horses"),
        ("/home/ada/runs/horses/best", "horses (best)"),
        ("/home/ada/flat2clay", "flat2clay"),
        ("/best", "best"),
    ],
)
def test_where_a_model_started_tells_nothing_of_the_machine(start: str, public: str) -> None:
    assert state.provenance(dataclasses.replace(settings(), start=start), 1)["started from"] == public


@pytest.mark.parametrize("place", ["generators", "discriminators", "averages"])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_nothing_that_is_not_finite_is_written(run: RunFolder, place: str, value: float) -> None:
    ours = settings()
    training = make(ours)
    file = training.networks.files()[place]
    name = sorted(file)[3]
    file[name].view(-1)[-1] = value
    with pytest.raises(TrainingError, match=rf"^step 7: {name} is no longer finite$") as caught:
        state.save(run, training, ours, 7, {})
    assert caught.value.exit_code == 4
    assert run.checkpoints() == []
    assert not run.model.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 2}, "doesn't fit"),
        ({"channels": 8}, "has another shape"),
        ({"discriminator_cam": False}, "doesn't fit"),
    ],
)
def test_a_checkpoint_of_other_networks(run: RunFolder, changes: dict[str, Any], message: str) -> None:
    ours = settings()
    state.save(run, make(ours), ours, 1, {})
    config: ModelConfig = dataclasses.replace(ours.model, **changes)
    other = make(dataclasses.replace(ours, model=config))
    with pytest.raises(ModelError, match=message) as caught:
        state.restore(run.load_checkpoint(1), other)
    assert str(run.path / "checkpoints" / "step_00000001") in caught.value.message


def test_without_averages_where_the_run_has_some(run: RunFolder) -> None:
    ours = settings(recipe="paper")
    state.save(run, make(ours), ours, 1, {})
    with pytest.raises(ModelError, match=r"averages\.safetensors: no such file"):
        state.restore(run.load_checkpoint(1), make(settings()))

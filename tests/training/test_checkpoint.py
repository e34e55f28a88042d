"""Checkpoints: nothing broken goes in, and what is another run's doesn't come out."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.trainings import unread
from ugatit_cli.data.pictures import Folders
from ugatit_cli.device import Group
from ugatit_cli.errors import ModelError, TrainingError
from ugatit_cli.methods.base import Step
from ugatit_cli.methods.registry import method_of
from ugatit_cli.training import checkpoint
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings, new_settings
from ugatit_cli.training.trainer import make_networks

FEW = unread(1200, 34)
CPU = torch.device("cpu")
GIVEN: dict[str, Any] = {**tiny.SIZES, "global_layers": 3, "precision": "fp32", "augment": "off"}


def settings(**given: Any) -> Settings:
    return new_settings(GIVEN | given, Folders(Path("a"), Path("b")), device=CPU)


def make(run: Settings) -> Step:
    networks = make_networks(run, CPU, None)
    return method_of(run.model).step(networks, run.recipe, seed=0, group=Group())


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.create({})
    return run


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
    assert checkpoint.provenance(dataclasses.replace(settings(), start=start), 1, FEW)["started from"] == public
    toon = new_settings({"method": "cartoongan", "vgg": "/home/ada/vgg"}, Folders(Path("a"), Path("b")), device=CPU)
    assert "ada" not in json.dumps(checkpoint.provenance(toon, 1, FEW))


@pytest.mark.parametrize("place", ["generators", "discriminators", "averages"])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_nothing_that_is_not_finite_is_written(run: RunFolder, place: str, value: float) -> None:
    training = make(settings())
    file = training.networks.files()[place]
    name = sorted(file)[3]
    file[name].view(-1)[-1] = value
    with pytest.raises(TrainingError, match=rf"^step 7: {name} is no longer finite$") as caught:
        checkpoint.save(run, training, settings(), 7, checkpoint.State(0.0, []), FEW)
    assert caught.value.exit_code == 4
    assert run.checkpoints() == []
    assert not run.model.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 2}, "doesn't fit"),
        ({"channels": 8}, "has another shape"),
        ({"discriminator_cam": False}, "doesn't fit"),
        ({"recipe": "default"}, r"averages\.safetensors: no such file"),
    ],
)
def test_a_checkpoint_of_other_networks(run: RunFolder, changes: dict[str, Any], message: str) -> None:
    ours = settings(recipe="paper")
    checkpoint.save(run, make(ours), ours, 1, checkpoint.State(0.0, []), FEW)
    with pytest.raises(ModelError, match=message) as caught:
        checkpoint.restore(run, 1, make(settings(**{"recipe": "paper", **changes})))
    assert str(run.checkpoint_path(1)) in caught.value.message

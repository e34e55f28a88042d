"""One training step of the official PyTorch code, on weights that it wrote, against the paper's recipe."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.reference_step import official
from ugatit_cli.device import Group
from ugatit_cli.methods.base import Official, OfficialSettings
from ugatit_cli.methods.networks import build_networks
from ugatit_cli.methods.recipe import preset
from ugatit_cli.methods.ugatit import UGATIT
from ugatit_cli.weights.official import read_official

pytestmark = pytest.mark.usefixtures("convolutions")
METHOD = UGATIT()
Weights = dict[str, Tensor]


def imported(folder: Path, name: str) -> Official:
    return read_official([folder / name], OfficialSettings(image_size=96))[0]


def tensors(checkpoint: Official) -> dict[str, Weights]:
    assert checkpoint.critics is not None
    return {"generators": dict(checkpoint.translators), "discriminators": dict(checkpoint.critics)}


def official_step(folder: Path, name: str) -> tuple[dict[str, float], dict[str, Weights]]:
    """Losses and weights of a step from the golden weights on the golden pictures."""
    before = imported(folder, name)
    recipe = dataclasses.replace(preset("paper"), batch_size=2)
    networks = build_networks(
        before.config,
        METHOD.translators,
        METHOD.critics,
        seed=0,
        device=torch.device("cpu"),
        precision="fp32",
        averaged=False,
    )
    for stem, weights in tensors(before).items():
        for key, tensor in networks.files()[stem].items():
            tensor.copy_(weights[key])
    pictures = load_file(folder / "mini_step_io.safetensors")
    step = METHOD.step(networks, recipe, seed=0, group=Group())
    losses = step(pictures["real_A"], pictures["real_B"], step=0, learning_rate=recipe.learning_rate)
    return {key: loss.item() for key, loss in losses.items()}, networks.files()


# Two formats of the same weights.
@pytest.mark.parametrize("name", ["mini_step_before.pt", "mini_step_before_legacy.pt"])
def test_the_golden_step(golden: Path, name: str) -> None:
    folder = golden / "pt"
    losses, weights = official_step(folder, name)
    expected = json.loads((folder / "mini_step_losses.json").read_text())["losses"]
    assert len(expected) > 25
    assert official(losses) == {key: pytest.approx(loss, rel=1e-5, abs=0) for key, loss in expected.items()}
    after = tensors(imported(folder, "mini_step_after.pt"))
    assert set(weights) == set(after)
    differences = []
    for stem, named in weights.items():
        assert set(named) == set(after[stem])
        assert any(key.endswith(".u") for key in named) == (stem == "discriminators")
        differences += [(tensor - after[stem][key]).abs().flatten() for key, tensor in named.items()]
    every = torch.cat(differences)
    assert every.max() <= 2.1e-4
    assert (every > 1e-5).double().mean() <= 1e-3
    # Without the step they would be further away.
    before = tensors(imported(folder, name))
    moved = torch.cat([(before[s][k] - after[s][k]).abs().flatten() for s in after for k in after[s]])
    assert (moved > 1e-5).double().mean() > 0.9

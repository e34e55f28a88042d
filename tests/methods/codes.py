"""Recorded outputs and steps of the official code of UNIT and MUNIT, and networks with its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import GOLDEN
from ugatit_cli.device import Group
from ugatit_cli.methods.base import Method, Official, OfficialSettings
from ugatit_cli.methods.networks import Networks, build_networks
from ugatit_cli.methods.registry import method

NETWORKS = ("gen_a", "gen_b", "dis_a", "dis_b")
States = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Recording(Group):
    """Keeps the gradients that processes would average, call by call."""

    seen: list[list[Tensor]] = field(default_factory=list)

    def average(self, tensors: list[Tensor]) -> None:
        self.seen.append([tensor.clone() for tensor in tensors])


def golden(name: str, file: str) -> dict[str, Tensor]:
    """A recorded file of a method."""
    return load_file(GOLDEN / "baselines" / name / f"{file}.safetensors")


def states_of(tensors: Mapping[str, Tensor], prefix: str = "") -> States:
    """Tensors of a golden file by network."""
    return {
        network: {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        for network in NETWORKS
        for start in (f"{prefix}{network}.",)
    }


def official(name: str, states: States, **settings: Any) -> Official:
    """A checkpoint by our names."""
    found = method(name).official(states, OfficialSettings(**{"image_size": 64} | settings))
    assert found is not None
    return found


def networks_of(made: Method, found: Official, dtype: torch.dtype) -> Networks:
    """Networks with an official checkpoint's weights."""
    assert found.critics is not None
    options: dict[str, Any] = {"seed": 0, "device": torch.device("cpu"), "precision": "fp32", "averaged": False}
    networks = build_networks(found.config, made.translators, made.critics, **options)
    for file, tensors in (("generators", found.translators), ("discriminators", found.critics)):
        own = networks.files()[file]
        assert set(own) == set(tensors)
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    for network in (*networks.translators.values(), *networks.critics.values()):
        network.to(dtype)
        network.compute_dtype = None
    return networks


def decoded(pictures: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes -> [-1, 1]."""
    return pictures.to(dtype) / 127.5 - 1


def assert_two_steps(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    draws: tuple[str, ...],
    authors: Callable[[Mapping[str, float]], dict[str, float]],
) -> None:
    """Runs the two recorded steps in float64, and compares losses, gradients and weights.

    Args:
        draws: the random numbers of a step, in their official order, as the file names them.
        authors: our losses of a step by the authors' names.
    """
    made = method(name)
    recipe = made.recipe("paper")
    recorded, logged = golden(name, "step"), json.loads((GOLDEN / "baselines" / name / "losses.json").read_text())
    noise = iter([recorded[f"noise.{i}.{draw}"] for i in range(2) for draw in draws])

    def drawn(shape: tuple[int, ...], _: torch.Generator) -> Tensor:
        return next(noise).reshape(shape)

    monkeypatch.setattr(f"ugatit_cli.methods.{name}.random_codes", drawn)
    networks = networks_of(made, official(name, states_of(golden(name, "weights"))), torch.float64)
    group = Recording()
    step = made.step(networks, recipe, seed=0, group=group)
    for i, terms in enumerate(logged["steps"]):
        a, b = (decoded(recorded[f"x_{domain}.{i}_u8"], torch.float64) for domain in "ab")
        losses = step(a, b, step=i, learning_rate=recipe.learning_rate)
        found = authors({key: loss.item() for key, loss in losses.items()})
        found |= {f"loss_{kind}_total": sum(losses[f"{kind[0]}_{d}"].item() for d in "ab") for kind in ("gen", "dis")}
        assert found == pytest.approx({key: value for key, value in terms.items() if "vgg" not in key}, rel=1e-12)
        if i == 0:
            assert_close(weights(networks), tensors_of(name, recorded, "after1."), 1e-7)
    assert next(noise, None) is None
    # The discriminators of b and a, each when it has judged, then all else.
    names = sorted(weights(networks), key=lambda key: not key.startswith("dis."))
    gradients = dict(zip(names, [one for call in group.seen[:3] for one in call], strict=True))
    assert_close(gradients, tensors_of(name, recorded, "grad."), 1e-5)


def weights(networks: Networks) -> dict[str, Tensor]:
    """All of them, by name: those of discriminators begin with `dis.`."""
    files = networks.files()
    return files["generators"] | {f"dis.{name}": tensor for name, tensor in files["discriminators"].items()}


def tensors_of(name: str, recorded: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What is recorded of all weights, by our names."""
    found = official(name, states_of(recorded, prefix))
    return {**found.translators, **{f"dis.{key}": tensor for key, tensor in (found.critics or {}).items()}}


def assert_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> None:
    """Whether tensors of the same names differ by no more than that."""
    expected = {name: tensor.to(ours[name].dtype) for name, tensor in theirs.items()}
    torch.testing.assert_close(dict(ours), expected, rtol=0, atol=tolerance)

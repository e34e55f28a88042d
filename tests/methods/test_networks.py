"""Networks of a run: where their weights come from, their averages, and checkpointing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny
from ugatit_cli.config import DOMAINS, SCALES, Direction, Domain, ModelConfig, Precision
from ugatit_cli.methods.networks import Networks, Swapped, build_networks
from ugatit_cli.methods.ugatit import UGATIT
from ugatit_cli.weights.folder import ModelFolder, open_model

METHOD = UGATIT()
CPU = torch.device("cpu")


def build(config: ModelConfig = tiny.LIGHT, **options: Any) -> Networks:
    every: dict[str, Any] = {"seed": 0, "device": CPU, "precision": "fp32", "averaged": False} | options
    return build_networks(config, METHOD.translators, METHOD.critics, **every)


def state(networks: Networks) -> dict[str, Tensor]:
    return {
        f"{stem}/{name}": tensor.clone() for stem, file in networks.files().items() for name, tensor in file.items()
    }


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# --- Where weights come from ---------------------------------------------------------------------------


def test_the_seed_decides_the_weights_and_nothing_else() -> None:
    before = torch.get_rng_state()
    one = state(build(seed=3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    assert_same(one, state(build(seed=3)))
    other = state(build(seed=4))
    assert not torch.equal(one["generators/a2b.to_rgb.weight"], other["generators/a2b.to_rgb.weight"])
    weight = one["generators/a2b.stem.conv.weight"]
    assert weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not torch.equal(weight, one["generators/b2a.stem.conv.weight"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_are_float32_and_channels_last_and_averages_start_as_the_generators(precision: Precision) -> None:
    networks = build(precision=precision, averaged=True)
    assert set(networks.files()) == {"generators", "discriminators", "averages"}
    assert {tensor.dtype for tensor in state(networks).values()} == {torch.float32}
    weight = networks.translators["a2b"].stem.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert all(network.training for network in networks.translators.values())
    assert networks.best_translators is networks.averages
    assert_same(tiny.tensors(networks.averages["a2b"], ""), tiny.tensors(networks.translators["a2b"], ""))
    assert not any(weight.requires_grad for weight in networks.averages["a2b"].parameters())
    without = build()
    assert not without.averages
    assert without.best_translators is without.translators


@pytest.fixture
def start(tmp_path: Path) -> ModelFolder:
    return open_model(tiny.save(tmp_path / "model", discriminators=True))


@pytest.mark.parametrize("swap", [False, True])
def test_starting_from_a_model(start: ModelFolder, swap: bool) -> None:
    networks = build(start=Swapped(start) if swap else start, averaged=True)
    ways: dict[Direction, Direction] = {"a2b": "b2a", "b2a": "a2b"} if swap else {"a2b": "a2b", "b2a": "b2a"}
    sides: dict[Domain, Domain] = {"a": "b", "b": "a"} if swap else {"a": "a", "b": "b"}
    for ours, theirs in ways.items():
        expected = tiny.tensors(start.generator(theirs), "")
        assert_same(tiny.tensors(networks.translators[ours], ""), expected)
        assert_same(tiny.tensors(networks.averages[ours], ""), expected)
    for domain in DOMAINS:
        for scale in SCALES:
            expected = tiny.tensors(start.discriminator(sides[domain], scale), "")
            assert_same(tiny.tensors(networks.critics[f"{domain}.{scale}"], ""), expected)


LOCAL = dataclasses.replace(tiny.LIGHT, discriminators="local")


@pytest.mark.parametrize(
    ("theirs", "config"),
    [
        (None, tiny.LIGHT),
        (tiny.LIGHT, dataclasses.replace(tiny.LIGHT, global_layers=4)),
        (tiny.LIGHT, LOCAL),
        (LOCAL, tiny.LIGHT),
    ],
    ids=["none", "another depth", "fewer", "more"],
)
def test_discriminators_that_the_start_lacks_are_new(
    tmp_path: Path, theirs: ModelConfig | None, config: ModelConfig
) -> None:
    start = open_model(tiny.save(tmp_path / "model", theirs or tiny.LIGHT, discriminators=theirs is not None))
    networks, new = build(config, start=start, seed=5), build(config, seed=5)
    assert_same(tiny.tensors(networks.translators["a2b"], ""), tiny.tensors(start.generator("a2b"), ""))
    for domain in DOMAINS:
        for scale in config.scales:
            kept = theirs is not None and scale == "local"
            name = f"{domain}.{scale}"
            expected = start.discriminator(domain, scale) if kept else new.critics[name]
            assert_same(tiny.tensors(networks.critics[name], ""), tiny.tensors(expected, ""))


# --- Moving averages -----------------------------------------------------------------------------------


def test_the_moving_average_is_its_formula() -> None:
    networks = build(averaged=True)
    source = torch.Generator().manual_seed(0)
    expected = {way: tiny.tensors(network, "") for way, network in networks.averages.items()}
    expected = {way: {name: value.double() for name, value in named.items()} for way, named in expected.items()}
    for step, decay in ((0, 0.1), (1, 2 / 11), (90, 0.5), (10_000, 0.5)):
        for way, network in networks.translators.items():
            for name, weight in network.named_parameters():
                weight.data.add_(torch.randn(weight.shape, generator=source))
                expected[way][name] = decay * expected[way][name] + (1 - decay) * weight.detach().double()
        networks.update_averages(0.5, step)
        for way, average in networks.averages.items():
            for name, weight in average.named_parameters():
                torch.testing.assert_close(weight.double(), expected[way][name], rtol=1e-5, atol=1e-6)

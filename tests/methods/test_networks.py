"""Networks of a run: where their weights come from, their averages, and the optimizer."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny
from ugatit_cli.config import DOMAINS, SCALES, Direction, Domain, ModelConfig, Precision
from ugatit_cli.methods import optimizer as optimizer_module
from ugatit_cli.methods.networks import Networks, build_networks
from ugatit_cli.methods.optimizer import Adam
from ugatit_cli.methods.recipe import Recipe, preset
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.weights.folder import ModelFolder, open_model

CPU = torch.device("cpu")


def build(config: ModelConfig = tiny.LIGHT, recipe: Recipe | None = None, **options: Any) -> Networks:
    every: dict[str, Any] = {"seed": 0, "device": CPU, "precision": "fp32"} | options
    return build_networks(config, recipe or preset("paper"), **every)


def state(networks: Networks) -> dict[str, Tensor]:
    return {
        f"{stem}/{name}": tensor.clone() for stem, file in networks.files().items() for name, tensor in file.items()
    }


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def nothing(_: list[Tensor]) -> None:
    """What a group of one does to gradients."""


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
def test_weights_are_float32_and_channels_last(precision: Precision) -> None:
    networks = build(precision=precision, recipe=preset("default"))
    assert set(networks.files()) == {"generators", "discriminators", "averages"}
    assert {tensor.dtype for tensor in state(networks).values()} == {torch.float32}
    weight = networks.generators["a2b"].stem.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert all(network.training for network in networks.generators.values())


def test_averages_start_as_the_generators() -> None:
    networks = build(recipe=preset("default"))
    assert networks.best_generators is networks.averages
    assert_same(tiny.tensors(networks.averages["a2b"], ""), tiny.tensors(networks.generators["a2b"], ""))
    assert not any(weight.requires_grad for weight in networks.averages["a2b"].parameters())
    without = build()
    assert not without.averages
    assert without.best_generators is without.generators


@pytest.fixture
def start(tmp_path: Path) -> ModelFolder:
    return open_model(tiny.save(tmp_path / "model", discriminators=True))


@pytest.mark.parametrize("swap", [False, True])
def test_starting_from_a_model(start: ModelFolder, swap: bool) -> None:
    networks = build(start=start, swap=swap, recipe=preset("default"))
    ways: dict[Direction, Direction] = {"a2b": "b2a", "b2a": "a2b"} if swap else {"a2b": "a2b", "b2a": "b2a"}
    sides: dict[Domain, Domain] = {"a": "b", "b": "a"} if swap else {"a": "a", "b": "b"}
    for ours, theirs in ways.items():
        expected = tiny.tensors(start.generator(theirs), "")
        assert_same(tiny.tensors(networks.generators[ours], ""), expected)
        assert_same(tiny.tensors(networks.averages[ours], ""), expected)
    for domain in DOMAINS:
        for scale in SCALES:
            expected = tiny.tensors(start.discriminator(sides[domain], scale), "")
            assert_same(tiny.tensors(networks.discriminators[domain, scale], ""), expected)


def test_starting_without_discriminators(tmp_path: Path) -> None:
    start = open_model(tiny.save(tmp_path / "model"))
    networks, new = build(start=start, seed=5), build(seed=5)
    assert_same(tiny.tensors(networks.generators["a2b"], ""), tiny.tensors(start.generator("a2b"), ""))
    assert_same(dict(networks.discriminator_tensors()), dict(new.discriminator_tensors()))


def test_a_global_discriminator_of_another_depth_is_new(start: ModelFolder) -> None:
    config = dataclasses.replace(tiny.LIGHT, global_layers=4)
    networks, new = build(config, start=start, seed=5), build(config, seed=5)
    for domain in DOMAINS:
        ours = networks.discriminators
        assert_same(tiny.tensors(ours[domain, "local"], ""), tiny.tensors(start.discriminator(domain, "local"), ""))
        expected = tiny.tensors(new.discriminators[domain, "global"], "")
        assert_same(tiny.tensors(ours[domain, "global"], ""), expected)


LOCAL = dataclasses.replace(tiny.LIGHT, discriminators="local")


def test_global_discriminators_may_be_left_out_or_added(start: ModelFolder, tmp_path: Path) -> None:
    fewer = build(LOCAL, start=start)
    local_start = open_model(tiny.save(tmp_path / "local", LOCAL, discriminators=True))
    more, new = build(start=local_start, seed=5), build(seed=5)
    for domain in DOMAINS:
        for networks, model in ((fewer, start), (more, local_start)):
            ours = tiny.tensors(networks.discriminators[domain, "local"], "")
            assert_same(ours, tiny.tensors(model.discriminator(domain, "local"), ""))
        ours = tiny.tensors(more.discriminators[domain, "global"], "")
        assert_same(ours, tiny.tensors(new.discriminators[domain, "global"], ""))


# --- Moving averages -----------------------------------------------------------------------------------


def test_the_moving_average_is_its_formula() -> None:
    networks = build(recipe=preset("default"))
    source = torch.Generator().manual_seed(0)
    expected = {way: tiny.tensors(network, "") for way, network in networks.averages.items()}
    expected = {way: {name: value.double() for name, value in named.items()} for way, named in expected.items()}
    for step, decay in ((0, 0.1), (1, 2 / 11), (90, 0.5), (10_000, 0.5)):
        for way, network in networks.generators.items():
            for name, weight in network.named_parameters():
                weight.data.add_(torch.randn(weight.shape, generator=source))
                expected[way][name] = decay * expected[way][name] + (1 - decay) * weight.detach().double()
        networks.update_averages(0.5, step)
        for way, average in networks.averages.items():
            for name, weight in average.named_parameters():
                torch.testing.assert_close(weight.double(), expected[way][name], rtol=1e-5, atol=1e-6)


# --- Adam ----------------------------------------------------------------------------------------------


def fill_gradients(network: Generator | Discriminator, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        # In the weight's memory format, as autograd leaves it.
        weight.grad = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=source))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("format_", [torch.channels_last, torch.contiguous_format])
def test_updates_are_those_of_torch(decay: float, format_: torch.memory_format) -> None:
    ours, theirs = build().generators["a2b"].to(memory_format=format_), build().generators["a2b"].double()
    recipe = dataclasses.replace(preset("paper"), weight_decay=decay)
    optimizer = Adam({"a2b": ours}, recipe, nothing)
    reference = torch.optim.Adam(theirs.parameters(), betas=(0.5, 0.999), weight_decay=decay)
    for step in range(5):
        optimizer.learning_rate = reference.param_groups[0]["lr"] = 1e-2 / (1 + step)
        fill_gradients(ours, step)
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert weight.grad is not None
            other.grad = weight.grad.double()
        optimizer.step()
        reference.step()
        assert all(weight.grad is None for weight in ours.parameters())
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight.double(), other, rtol=1e-5, atol=1e-6)
    moments = optimizer.tensors()
    for name, other in theirs.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            stored = moments[f"a2b.{name}.{moment}"].double()
            torch.testing.assert_close(stored, reference.state[other][moment], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("format_", [torch.channels_last, torch.contiguous_format])
def test_moments_come_back_by_name(format_: torch.memory_format) -> None:
    one, other = (build().generators["a2b"].to(memory_format=format_) for _ in range(2))
    first, second = (Adam({"a2b": network}, preset("paper"), nothing) for network in (one, other))
    assert all((tensor == 0).all() for tensor in first.tensors().values())
    for step in range(3):
        fill_gradients(one, step)
        first.step()
    other.load_state_dict(one.state_dict())
    stored = {name: tensor.clone() for name, tensor in first.tensors().items()}
    assert len(stored) == 2 * len(list(one.parameters()))
    for name, tensor in second.prepare(3).items():
        assert tensor.shape == stored[name].shape
        tensor.copy_(stored[name])
    for step in (3, 4):
        for network, optimizer in ((one, first), (other, second)):
            fill_gradients(network, step)
            optimizer.step()
    assert_same(tiny.tensors(one, ""), tiny.tensors(other, ""))
    assert_same(first.tensors(), second.tensors())


def test_large_weights_are_updated_as_soon_as_their_gradient_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "LARGE", 200)
    x = torch.randn(1, 3, 32, 32)
    ends = []
    for eager in (False, True):
        network = build().discriminators["a", "local"]
        optimizer = Adam({"d": network}, preset("paper"), nothing, eager=eager)
        large = [weight for weight in network.parameters() if weight.numel() >= 200]
        assert 0 < len(large) < len(list(network.parameters()))
        for _ in range(3):
            before = [weight.detach().clone() for weight in large]
            output = network(x)
            torch.autograd.backward(output.logit.square().sum() + output.cam_logit.sum())
            updated = [not torch.equal(weight, old) for weight, old in zip(large, before, strict=True)]
            assert updated == [eager] * len(large)
            assert all((weight.grad is None) == eager for weight in large)
            optimizer.step()
            assert all(weight.grad is None for weight in network.parameters())
        ends.append(tiny.tensors(network, "") | optimizer.tensors())
    assert_same(*ends)


def test_gradients_are_averaged_before_the_update() -> None:
    def negate(gradients: list[Tensor]) -> None:
        for gradient in gradients:
            gradient.neg_()

    ends = []
    for average, sign in ((negate, 1), (nothing, -1)):
        network = build().generators["a2b"]
        optimizer = Adam({"a2b": network}, preset("paper"), average)
        fill_gradients(network, 1)
        for weight in network.parameters():
            assert weight.grad is not None
            weight.grad.mul_(sign)
        optimizer.step()
        ends.append(tiny.tensors(network, ""))
    assert_same(*ends)


# --- Precision and memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [tiny.LIGHT, tiny.FULL], ids=["light", "full"])
def test_checkpointing_gives_the_same_gradients(config: ModelConfig) -> None:
    x = torch.randn(2, 3, 32, 32)
    found = []
    for checkpointing in (False, True):
        generator = build(config, checkpointing=checkpointing).generators["a2b"]
        assert generator.checkpointing == checkpointing
        image, cam_logit, _ = generator(x)
        assert cam_logit is not None
        torch.autograd.backward(image.square().sum() + cam_logit.sum())
        found.append({name: w.grad for name, w in generator.named_parameters() if w.grad is not None})
    assert len(found[0]) > 15
    assert_same(*found)


def test_optimizers_are_freed_with_their_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "LARGE", 100)
    network = Discriminator(tiny.LIGHT, "local")
    optimizer = Adam({"a": network}, preset("default"), lambda _: None, eager=True)
    remains = weakref.ref(optimizer), weakref.ref(network)
    del optimizer, network
    gc.collect()
    assert [one() for one in remains] == [None, None]

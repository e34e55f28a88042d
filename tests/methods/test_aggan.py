"""AGGAN against recorded outputs and steps of the authors' code, and what its two phases are."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests import tiny
from tests.helpers import images
from tests.methods.test_cyclegan import Threads, all_of, assert_all_close, assert_same, tensors_of, weights
from tests.tensor_bundle_writer import write_bundle
from ugatit_cli.config import Precision
from ugatit_cli.device import Group
from ugatit_cli.errors import ModelError
from ugatit_cli.methods.adam import Adam, Clock
from ugatit_cli.methods.aggan import AGGAN, AGGANStep, enlarged
from ugatit_cli.methods.base import Official, OfficialSettings
from ugatit_cli.methods.configs import AGGANConfig
from ugatit_cli.methods.networks import Networks, build_networks
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.weights.official import convert

METHOD = AGGAN()
PAPER = METHOD.recipe("paper")
# Progress of the training in either phase.
PHASES = (0.0, 0.3)


def golden_file(golden: Path, name: str) -> dict[str, Tensor]:
    return load_file(golden / "baselines" / "aggan" / f"{name}.safetensors")


def official(state: Mapping[str, Tensor]) -> Official:
    found = METHOD.official({"": state}, OfficialSettings())
    assert found is not None
    return found


def build(config: Any, precision: Precision = "fp32", seed: int = 0) -> Networks:
    options: dict[str, Any] = {"seed": seed, "device": torch.device("cpu"), "precision": precision}
    return build_networks(config, METHOD.translators, METHOD.critics, averaged=False, **options)


def doubled(networks: Networks) -> Networks:
    for network in all_of(networks):
        network.double()
        network.compute_dtype = None  # type: ignore[assignment]  # no module, but a switch of theirs
    return networks


def step_of(networks: Networks, recipe: Recipe = PAPER, group: Group | None = None) -> AGGANStep:
    step = METHOD.step(networks, recipe, seed=0, group=group or Group())
    assert isinstance(step, AGGANStep)
    return step


def ours(pictures: Tensor) -> Tensor:
    """(N, H, W, C), bytes or floats, as (N, C, H, W) in [-1, 1], float64."""
    values = pictures.permute(0, 3, 1, 2).double()
    return values / 127.5 - 1 if pictures.dtype == torch.uint8 else values


# --- The authors' numbers ------------------------------------------------------------------------------


def looked_at(networks: Networks, a: Tensor, b: Tensor, threshold: float | None) -> dict[str, Tensor]:
    """What the networks make of a pair, by the names of the recorded outputs."""
    a2b, b2a = (networks.translators[direction] for direction in ("a2b", "b2a"))
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for domain, other, x, there, back in (("a", "b", a, a2b, b2a), ("b", "a", b, b2a, a2b)):
            result = there(x)
            mask = enlarged(result.heatmap)
            shown = 1 if threshold is None else mask >= threshold
            found |= {f"fake_{other}": result.image, f"mask_{domain}": mask}
            found[f"cycle_{domain}"] = back(result.image).image
            for name, judge, picture in (("real", domain, x), ("fake", other, result.image)):
                found[f"d_{name}_{judge}"] = networks.critics[judge](picture * shown, normed=threshold is None)
    return found


class Halves(AGGANStep):
    """Keeps the losses of either half."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.halves: list[dict[str, float]] = []

    def _half(self, *given: Any) -> dict[str, Tensor]:
        losses = super()._half(*given)
        self.halves.append({name: loss.item() for name, loss in losses.items()})
        return losses

    def authors(self) -> dict[str, float]:
        """The last step's, as the authors log them."""
        found = {}
        for letter, other, half in zip("AB", "ba", self.halves[-2:], strict=True):
            found[f"g_{letter}"] = 10 * (half["cycle_a"] + half["cycle_b"]) + half[f"g_patch_{other}"]
            found[f"d_{other.upper()}"] = 0.5 * half[f"d_patch_{other}"]
        return found


# What an independent implementation saw beside theirs, which is in float32 (see the README there).
TOLERANCES = ((7e-6, 2e-6, 2.5e-5), (4.1e-5, 2.4e-5, 8e-5))


def test_outputs_and_steps_of_both_phases_are_the_authors(golden: Path) -> None:
    networks = build(official(golden_file(golden, "weights")).config)
    fill(networks, official(golden_file(golden, "weights")))
    doubled(networks)
    step = Halves(networks, PAPER, seed=0, group=Group())
    io, ends = golden_file(golden, "io"), golden_file(golden, "step")
    logged = json.loads((golden / "baselines" / "aggan" / "losses.json").read_text())["iterations"]
    for i, (terms, progress, (output, loss, weight)) in enumerate(zip(logged, PHASES, TOLERANCES, strict=True)):
        a, b = (ours(io[f"{domain}.{i}_u8"]) for domain in "ab")
        for name, found in looked_at(networks, a, b, 0.1 if i else None).items():
            torch.testing.assert_close(found, ours(io[f"{name}.{i}"]), rtol=0, atol=output)
        step(a, b, step=i, learning_rate=1e-4, progress=progress)
        assert step.authors() == pytest.approx({name: terms[name] for name in step.authors()}, rel=loss)
        start = f"after{i + 1}."
        after = tensors_of(official({n.removeprefix(start): t for n, t in ends.items() if n.startswith(start)}))
        # Before a norm, Adam moves a bias by rounding alone.
        assert_all_close(but_biases(weights(networks)), but_biases(after), weight)
        assert_all_close(only_biases(weights(networks)), only_biases(after), 1e-4)


def fill(networks: Networks, found: Official) -> None:
    own, theirs = weights(networks), tensors_of(found)
    assert set(own) == set(theirs)
    for name, tensor in own.items():
        tensor.copy_(theirs[name])


def only_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if ".layers." in name and name.endswith("conv.bias")}


def but_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in only_biases(tensors)}


def test_parameters_are_the_authors_but_for_biases_before_norms() -> None:
    with torch.device("meta"):
        networks = {**METHOD.translators(AGGANConfig()), **METHOD.critics(AGGANConfig())}
    counts = {name: sum(one.numel() for one in network.parameters()) for name, network in networks.items()}
    generator = 2_855_811 - (32 + 64 + 128 + 18 * 128 + 64 + 32)
    attention = 104_001 - (32 + 64 + 2 * 64 + 64 + 32)
    assert counts == {"a2b": generator + attention, "b2a": generator + attention, "a": 2_766_657, "b": 2_766_657}


def test_weights_start_as_the_authors() -> None:
    for name, tensor in weights(build(tiny.AGGAN)).items():
        middle = 1.0 if name.endswith("gamma") else 0.0
        assert (tensor - middle).abs().max() <= 0.04
        assert (tensor == 0).all() == name.endswith(("bias", "beta"))


def test_the_papers_recipe_is_the_authors() -> None:
    assert (PAPER.batch_size, PAPER.learning_rate, PAPER.weight_decay, PAPER.pool_size) == (1, 1e-4, 0, 50)
    assert (PAPER.beta1, PAPER.beta2, PAPER.epochs, PAPER.decay_from, PAPER.flip) == (0.5, 0.999, 100, 0.5, True)
    assert (PAPER.adversarial_weight, PAPER.cycle_weight, PAPER.attention_share) == (1, 10, 0.3)
    assert (PAPER.ema, PAPER.augment, PAPER.fit, PAPER.jitter) == (0, "off", "squash", True)


def test_adam_is_tensorflows_with_the_updates_of_all_networks() -> None:
    weight = torch.nn.Module()
    weight.x = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    clock = Clock()
    optimizer = Adam({"": weight}, PAPER, lambda _: None, clock=clock)
    optimizer.learning_rate = 1e-2
    x, mean, square = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for updates, gradient in ((1, [1e-7, 3.0]), (5, [2e-8, -1.0]), (6, [0.0, 0.0])):
        clock.updates, weight.x.grad = updates, torch.tensor(gradient)
        optimizer.step()
        mean, square = 0.5 * mean + 0.5 * np.array(gradient), 0.999 * square + 0.001 * np.array(gradient) ** 2
        rate = 1e-2 * np.sqrt(1 - 0.999**updates) / (1 - 0.5**updates)
        x -= rate * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(weight.x.detach().numpy(), x, rtol=1e-6)


# --- The authors' files --------------------------------------------------------------------------------


def test_their_checkpoint_converts(golden: Path, tmp_path: Path) -> None:
    state = golden_file(golden, "weights")
    variables: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    slots = {f"{name}/Adam{n}": one for name, one in variables.items() for n in ("", "_1") if "/c1/" in name}
    others: dict[str, Any] = {
        "Model/beta1_power": np.ones((), np.float32),
        "Model/global_step": np.ones((), np.int64),
    }
    write_bundle(tmp_path / "theirs" / "AGGAN_99", variables | slots | others, shards=2)
    folder, notes = convert([tmp_path / "theirs"], tmp_path / "model", OfficialSettings(image_size=64))
    assert (folder.config.method, folder.config.image_size, folder.discriminators is not None) == ("aggan", 64, True)
    assert not notes
    expected = official(state)
    for key, tensors in ((key, folder.state(key)) for key in ("a2b", "b2a", "a", "b")):
        assert tensors is not None
        named = {f"{key}.{name}": tensor for name, tensor in tensors.items()}
        assert_same(named, {name: one for name, one in tensors_of(expected).items() if name.startswith(f"{key}.")})
    assert "AGGAN" in folder.provenance["code"]


def test_a_checkpoint_without_discriminators_is_a_model_without(golden: Path) -> None:
    state = {name: one for name, one in golden_file(golden, "weights").items() if "/d_" not in name}
    found = official(state)
    assert found.critics is None
    assert len(found.notes) == 2


def test_another_network_of_that_layout_is_refused(golden: Path, tmp_path: Path) -> None:
    variables = {name: tensor.numpy() for name, tensor in golden_file(golden, "weights").items()}
    write_bundle(tmp_path / "x" / "model", variables | {"Model/g_A/c7/Conv/weights": np.zeros(3, np.float32)})
    with pytest.raises(ModelError, match="c7") as caught:
        convert([tmp_path / "x"], tmp_path / "model")
    assert str(tmp_path / "x") in caught.value.message


# --- A step --------------------------------------------------------------------------------------------


def train(step: AGGANStep, progress: list[float], n: int = 1) -> list[dict[str, float]]:
    found = []
    for number, done in enumerate(progress):
        a, b = images(2 * n, 3, 32, 32, seed=number).to(next(step.networks.critics["a"].parameters())).chunk(2)
        losses = step(a, b, step=number, learning_rate=1e-3, progress=done)
        found.append({name: loss.item() for name, loss in losses.items()})
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_rests_in_the_second_phase_and_biases_before_norms_in_the_first(precision: Precision) -> None:
    step = step_of(build(tiny.AGGAN, precision), dataclasses.replace(METHOD.recipe("default"), augment="on"))
    for progress, resting in zip(([0.0, 0.299], [0.3, 1.0]), ("layers.*conv.bias", "attention"), strict=True):
        before = copies(step.networks)
        losses = train(step, progress)
        assert all(np.isfinite(list(one.values())).all() for one in losses)
        changed = {name for name, one in weights(step.networks).items() if not torch.equal(one, before[name])}
        for name in before:
            rests = "attention" in name if resting == "attention" else name in only_biases(before)
            assert (name in changed) != rests, name


def copies(networks: Networks) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in weights(networks).items()}


def test_pictures_that_are_seen_again_come_with_their_own_masks() -> None:
    step = step_of(build(tiny.AGGAN), dataclasses.replace(PAPER, pool_size=2))
    pairs = []
    query = step.pools.query

    def kept(domain: Any, pictures: Tensor, group: Group) -> Tensor:
        pairs.append(pictures.clone())
        return query(domain, pictures, group)

    step.pools.query = kept  # type: ignore[method-assign]
    train(step, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert {tuple(pool.shape) for pool in step.memory().values()} == {(2, 4, 32, 32)}
    for pool in step.memory().values():
        for stored in pool:
            assert any(torch.equal(stored, pair[0]) for pair in pairs)
            assert 0 < stored[3].min() <= stored[3].max() < 1


def test_two_processes_train_like_one_with_the_pictures_of_both() -> None:
    recipe, progress = dataclasses.replace(PAPER, pool_size=3), [0.0, 0.1, 0.4, 0.5]
    alone = step_of(doubled(build(tiny.AGGAN)), recipe)
    first = Threads(0, 2)
    pair = [step_of(doubled(build(tiny.AGGAN)), recipe, g) for g in (first, dataclasses.replace(first, rank=1))]

    def run(rank: int) -> None:
        for number, done in enumerate(progress):
            a, b = (one[rank : rank + 1] for one in images(4, 3, 32, 32, seed=number).double().chunk(2))
            pair[rank](a, b, step=number, learning_rate=1e-3, progress=done)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    train(alone, progress, n=2)
    for thread in threads:
        thread.join()
    for step in pair:
        assert_all_close(weights(step.networks), weights(alone.networks), 1e-7)
        assert_all_close(step.memory(), alone.memory(), 1e-6)

"""CycleGAN against recorded outputs and steps of the authors' code, and what a run needs beside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ugatit_cli.config import Precision
from ugatit_cli.device import Group
from ugatit_cli.methods.base import Official, OfficialSettings, Step
from ugatit_cli.methods.cyclegan import CycleGAN, CycleGANConfig
from ugatit_cli.methods.networks import Networks, build_networks

METHOD = CycleGAN()
TINY = CycleGANConfig(image_size=32, channels=4, blocks=1, discriminator_channels=4)
PAPER = METHOD.recipe("paper")
NETWORKS = ("G_A", "G_B", "D_A", "D_B")
States = dict[str, dict[str, Tensor]]


# --- The authors' numbers ------------------------------------------------------------------------------


def states_of(tensors: Mapping[str, Tensor], prefix: str = "") -> States:
    """Tensors of a golden file by network: what the authors' files hold."""
    return {
        network: {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        for network in NETWORKS
        for start in (f"{prefix}{network}.",)
    }


def official(states: Mapping[str, Mapping[str, Tensor]], **settings: Any) -> Official:
    found = METHOD.official(states, OfficialSettings(**settings))
    assert found is not None
    return found


def networks_of(found: Official, dtype: torch.dtype = torch.float32) -> Networks:
    networks = build(found.config, "fp32")
    for file, tensors in (("generators", found.translators), ("discriminators", found.critics or {})):
        own = networks.files()[file]
        assert set(own) == set(tensors)
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    for network in all_of(networks):
        network.to(dtype)
        network.compute_dtype = None  # type: ignore[assignment]  # no module, but a switch of theirs
    return networks


def build(config: Any, precision: Precision, seed: int = 0) -> Networks:
    options: dict[str, Any] = {"seed": seed, "device": torch.device("cpu"), "precision": precision}
    return build_networks(config, METHOD.translators, METHOD.critics, averaged=False, **options)


def all_of(networks: Networks) -> list[nn.Module]:
    return [*networks.translators.values(), *networks.critics.values()]


def decoded(pictures: Tensor, dtype: torch.dtype) -> Tensor:
    return pictures.to(dtype) / 127.5 - 1


def golden_states(golden: Path, name: str = "weights", prefix: str = "") -> States:
    return states_of(load_file(golden / "baselines" / "cyclegan" / f"{name}.safetensors"), prefix)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_outputs_are_the_authors(golden: Path, dtype: torch.dtype, tolerance: float) -> None:
    networks = networks_of(official(golden_states(golden)), dtype)
    io = load_file(golden / "baselines" / "cyclegan" / "io.safetensors")
    generator, judge = networks.translators["a2b"], networks.critics["b"]
    found = {}
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            found[f"square {grad}"] = generator(decoded(io["x_u8"], dtype)).image
            found[f"oblong {grad}"] = generator(decoded(io["x_48x64_u8"], dtype)).image
            found[f"scores {grad}"] = judge(decoded(io["x_u8"], dtype))
    assert {one.dtype for one in found.values()} == {dtype}
    for name, one in found.items():
        expected = io[{"square": "G_A.y", "oblong": "G_A.y_48x64", "scores": "D_A.y"}[name.split()[0]]]
        torch.testing.assert_close(one, expected.to(dtype), rtol=0, atol=tolerance)


def gradients_before(step: Step) -> dict[str, Tensor]:
    """Fills up with the gradients of all weights as their optimizers find them, by our names."""
    found: dict[str, Tensor] = {}
    for optimizer in step.optimizers:
        average = optimizer._average

        def keep(gradients: list[Tensor], optimizer: Any = optimizer, average: Any = average) -> None:
            names = {id(one.grad): name for name, one in optimizer.parameters.items() if one.grad is not None}
            found.update({names[id(gradient)]: gradient.clone() for gradient in gradients})
            average(gradients)

        optimizer._average = keep
    return found


def authors_terms(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Our losses by the authors' names and with their weights. Their D_A judges domain B."""
    weighted = {name: loss.item() for name, loss in losses.items()}
    terms: dict[str, float] = {}
    for ours, theirs, other in (("a", "A", "B"), ("b", "B", "A")):
        terms |= {
            f"D_{other}": 0.5 * weighted[f"d_patch_{ours}"],
            f"G_{other}": weighted[f"g_patch_{ours}"],
            f"cycle_{theirs}": 10 * weighted[f"cycle_{ours}"],
            # Their idt_A is G_A(b) beside b.
            f"idt_{other}": 5 * weighted[f"identity_{ours}"],
        }
    return terms | {"G": weighted["g_a"] + weighted["g_b"]}


def test_three_steps_are_the_authors(golden: Path) -> None:
    networks = networks_of(official(golden_states(golden)), torch.float64)
    step = METHOD.step(networks, PAPER, seed=0, group=Group())
    recorded = load_file(golden / "baselines" / "cyclegan" / "step.safetensors")
    logged = json.loads((golden / "baselines" / "cyclegan" / "losses.json").read_text())["steps"]
    found = gradients_before(step)
    ends = (golden_states(golden, "step", "after1."), None, golden_states(golden, "after3"))
    for i, (terms, after) in enumerate(zip(logged, ends, strict=True)):
        a, b = (decoded(recorded[f"real_{domain}.{i}_u8"], torch.float64) for domain in "AB")
        losses = step(a, b, step=i, learning_rate=PAPER.learning_rate)
        assert authors_terms(losses) == pytest.approx(terms, rel=1e-12)
        if i == 0:
            assert_all_close(found, tensors_of(official(golden_states(golden, "step", "grad."))), 1e-5)
        if after:
            files = networks.files()
            assert_all_close(files["generators"] | files["discriminators"], tensors_of(official(after)), 1e-7)


def tensors_of(found: Official) -> dict[str, Tensor]:
    assert found.critics is not None
    return {**found.translators, **found.critics}


def assert_all_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> None:
    expected = {name: tensor.double() for name, tensor in theirs.items()}
    torch.testing.assert_close(dict(ours), expected, rtol=0, atol=tolerance)

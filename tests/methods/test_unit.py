"""UNIT against recorded outputs and steps of the authors' code; and what it has in common with MUNIT."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers import images
from tests.methods.codes import (
    assert_close,
    assert_two_steps,
    decoded,
    golden,
    networks_of,
    official,
    states_of,
    weights,
)
from ugatit_cli.config import Precision
from ugatit_cli.device import Group
from ugatit_cli.errors import ModelError
from ugatit_cli.methods.base import Step
from ugatit_cli.methods.networks import build_networks
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import method
from ugatit_cli.methods.unit import UNIT
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.official import convert

METHOD = UNIT()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-6)])
def test_outputs_are_the_authors(dtype: torch.dtype, tolerance: float) -> None:
    networks = networks_of(METHOD, official("unit", states_of(golden("unit", "weights"))), dtype)
    io = golden("unit", "io")
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            code = networks.translators["a.encoder"](decoded(io["x_u8"], dtype))
            found = {
                "a.mean": code,
                "b.decode": networks.translators["b.decoder"](code).image,
                "b.decode_first_alone": networks.translators["b.decoder"](code[:1]).image,
            }
            scores = networks.critics["a"](decoded(io["x_u8"], dtype))
            found |= {f"dis_a.{i}": one for i, one in enumerate(scores)}
            assert_close(found, {name: io[name] for name in io if name != "x_u8"}, tolerance)
            image = METHOD.translator(networks.translators, "a2b")(decoded(io["x_u8"], dtype)).image
            assert torch.equal(image, found["b.decode"])


def authors_terms(losses: Mapping[str, float]) -> dict[str, float]:
    """Our losses by the authors' names: theirs are sums over a discriminator's three scales."""
    terms: dict[str, float] = {}
    for domain, there_and_back in (("a", "aba"), ("b", "bab")):
        terms |= {
            f"loss_dis_{domain}": 3 * losses[f"d_patch_{domain}"],
            f"loss_gen_adv_{domain}": 3 * losses[f"g_patch_{domain}"],
            f"loss_gen_recon_x_{domain}": losses[f"reconstruction_{domain}"],
            f"loss_gen_recon_kl_{domain}": losses[f"kl_{domain}"],
            f"loss_gen_cyc_x_{domain}": losses[f"cycle_{domain}"],
            f"loss_gen_recon_kl_cyc_{there_and_back}": losses[f"kl_cycle_{domain}"],
        }
    return terms


def test_two_steps_are_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = ("dis.n_a", "dis.n_b", "gen.n_a", "gen.n_b", "gen.n_b_recon", "gen.n_a_recon")
    assert_two_steps("unit", monkeypatch, draws, authors_terms)


# --- Both methods of that code -------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("name", ["unit", "munit"])


def test_parameters_are_the_authors_but_for_biases_before_norms() -> None:
    counts = {}
    for name in ("unit", "munit"):
        made = method(name)
        with torch.device("meta"):
            networks = {**made.translators(made.config()), **made.critics(made.config())}
        for key, network in networks.items():
            counts[f"{name} {key}"] = sum(one.numel() for one in network.parameters())
    encoder, decoder = 5_385_856 - (64 + 128 + 256 + 8 * 256), 5_754_627 - 8 * 256
    for domain in "ab":
        assert counts[f"unit {domain}.encoder"] == counts[f"munit {domain}.encoder"] == encoder
        assert counts[f"unit {domain}.decoder"] == decoder
        assert counts[f"munit {domain}.decoder"] == decoder + 1_120_768
        assert counts[f"munit {domain}.style"] == 2_764_936
        assert counts[f"unit {domain}"] == counts[f"munit {domain}"] == 8_271_171
    assert len(counts) == 14


@BOTH
def test_the_papers_recipe_is_the_authors(name: str) -> None:
    paper = method(name).recipe("paper")
    assert (paper.batch_size, paper.learning_rate, paper.weight_decay, paper.flip) == (1, 1e-4, 1e-4, True)
    assert (paper.beta1, paper.beta2, paper.halve_every, paper.decay_from) == (0.5, 0.999, 100_000, 1)
    assert (paper.adversarial_weight, paper.reconstruction_weight, paper.cycle_weight) == (1, 10, 10)
    assert (paper.kl_weight if name == "unit" else paper.content_weight) == (0.01 if name == "unit" else 1)
    assert (paper.ema, paper.augment, paper.fit, paper.jitter, paper.warm_up) == (0, "off", "aspect", False, "off")
    assert method(name).paper_iterations == 1_000_000


def tiny_step(name: str, recipe: Recipe, side: int = 32, precision: Precision = "fp32", **sizes: Any) -> Step:
    made = method(name)
    config = made.config(image_size=side, **{"channels": 4, "blocks": 1, "discriminator_channels": 4} | sizes)
    options: dict[str, Any] = {"seed": 0, "device": torch.device("cpu"), "precision": precision, "averaged": False}
    networks = build_networks(config, made.translators, made.critics, **options)
    return made.step(networks, recipe, seed=0, group=Group())


@BOTH
@pytest.mark.parametrize(("side", "scales"), [(16, 1), (28, 1), (32, 2), (60, 2), (64, 3)])
def test_smaller_pictures_have_discriminators_of_fewer_scales(name: str, side: int, scales: int) -> None:
    step = tiny_step(name, method(name).recipe("paper"), side)
    a, b = images(2, 1, 3, side, side)
    assert len(step.networks.critics["a"](a)) == scales
    losses = step(a, b, step=0, learning_rate=1e-4)
    assert all(loss.isfinite() for loss in losses.values())
    # At the start scores are about 0, and a discriminator's loss 1 on each scale.
    assert losses["d_patch_a"].item() == pytest.approx(1, abs=0.3)
    assert losses["d_a"].item() == pytest.approx(scales * losses["d_patch_a"].item())


@BOTH
def test_a_step_in_half_precision_trains_every_weight(name: str) -> None:
    recipe = dataclasses.replace(method(name).recipe("default"), augment="on")
    step = tiny_step(name, recipe, precision="bf16")
    before = {key: tensor.clone() for key, tensor in weights(step.networks).items()}
    a, b = images(2, 2, 3, 32, 32)
    for number in range(2):
        losses = step(a, b, step=number, learning_rate=1e-3)
    assert all(loss.isfinite() for loss in losses.values())
    for key, tensor in weights(step.networks).items():
        assert (tensor.dtype, bool(tensor.isfinite().all())) == (torch.float32, True)
        assert not torch.equal(tensor, before[key]), key


# --- Their authors' files ------------------------------------------------------------------------------


def authors_files(folder: Path, name: str, number: int = 20_000, *, dead: bool = False) -> list[Path]:
    """What the authors' training saves, `gen_*.pt` first; `dead`: with the buffers of old versions."""
    folder.mkdir(exist_ok=True)
    states = states_of(golden(name, "weights"))
    files = []
    for kind in ("gen", "dis"):
        pair = {domain: states[f"{kind}_{domain}"] for domain in "ab"}
        if dead and kind == "gen":
            encoder = "enc" if name == "unit" else "enc_content"
            for state in pair.values():
                state |= {f"{encoder}.model.0.norm.running_{one}": torch.zeros(3) for one in ("mean", "var")}
        files.append(folder / f"{kind}_{number:08}.pt")
        torch.save(pair, files[-1])
    torch.save({"gen": {"state": {}, "param_groups": []}}, folder / "optimizer.pt")
    return files


def converted(files: Sequence[Path], folder: Path) -> dict[str, dict[str, Tensor]]:
    model = convert(files, folder)[0]
    names = [file.name for file in folder.glob("*.safetensors")]
    assert (model.discriminators is not None) == ("discriminators.safetensors" in names)
    return {one: load_file(folder / one) for one in names}


@BOTH
def test_pairs_of_files_and_their_folder_become_a_model(name: str, tmp_path: Path) -> None:
    gen, dis = authors_files(tmp_path / "checkpoints", name, dead=True)
    whole = converted([gen, dis], tmp_path / "whole")
    expected = official(name, states_of(golden(name, "weights")))
    assert_close(whole["model.safetensors"], expected.translators, 0)
    assert_close(whole["discriminators.safetensors"], expected.critics or {}, 0)
    assert converted([gen], tmp_path / "alone").keys() == {"model.safetensors"}
    assert open_model(tmp_path / "alone").config.method == name
    for number, files in enumerate(([dis, gen], [gen.parent])):
        again = converted(files, tmp_path / f"{number}")
        assert again.keys() == whole.keys()
        for file, tensors in whole.items():
            assert_close(again[file], tensors, 0)


def test_the_newest_of_a_folder_is_taken(tmp_path: Path) -> None:
    authors_files(tmp_path / "checkpoints", "munit", 30_000)
    authors_files(tmp_path / "checkpoints", "unit", 9_000_000)
    converted([tmp_path / "checkpoints"], tmp_path / "model")
    assert open_model(tmp_path / "model").config.method == "unit"


@BOTH
def test_what_is_not_whole_is_refused(name: str, tmp_path: Path) -> None:
    gen, dis = authors_files(tmp_path / "checkpoints", name)
    state = torch.load(gen)
    foreign = {**state, "b": state["b"] | {"dec.model.7.weight": torch.zeros(2)}}
    missing = {**state, "b": {key: one for key, one in state["b"].items() if key != "dec.model.5.conv.bias"}}
    wide = {domain: one | {"dec.model.4.norm.gamma": torch.zeros(9)} for domain, one in state.items()}
    for number, content in enumerate((foreign, missing, wide, {"a": state["a"]})):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(ModelError) as caught:
            convert([tmp_path / "x.pt"], tmp_path / f"{number}")
        assert str(tmp_path / "x.pt") in caught.value.message
    for files in ([dis], [gen, gen], [dis, dis]):
        with pytest.raises(ModelError):
            convert(files, tmp_path / "other")

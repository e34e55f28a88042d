"""`ugatit train`: CycleGAN to compare with, and the paper's ablations; `translate` and `cam` with what comes out."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.conftest import Command, Outcome, below, picture, put
from ugatit_cli.cli import train_view
from ugatit_cli.config import ModelConfig
from ugatit_cli.methods.recipe import MODEL_DEFAULTS, preset
from ugatit_cli.training.listeners import StepReport

CPU = ["--device", "cpu", "--precision", "fp32"]
SIZES = ["--image-size", "32", "--channels", "8", "--blocks", "1"]
RUN = "runs/horses2zebras"

Train = Callable[..., Outcome]


@pytest.fixture
def train(ugatit: Command) -> Train:
    """`ugatit train` on two small folders, with a tiny model."""
    for folder in ("horses", "zebras"):
        Path(folder).mkdir()
        for index in range(8):
            picture(40, 36, seed=index + len(folder)).save(f"{folder}/{index}.png")
    folders = ["--domain-a", "horses", "--domain-b", "zebras"]
    return lambda *arguments: ugatit("train", *folders, *SIZES, *CPU, "--workers", "1", *arguments)


def model_config(run: str = RUN) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(Path(run, "model", "config.json").read_text())["model"]
    return config


def weights(run: str) -> dict[str, torch.Tensor]:
    names = ("model", "discriminators")
    return {f"{name}/{key}": w for name in names for key, w in load_file(f"{run}/model/{name}.safetensors").items()}


def test_cyclegan(train: Train, ugatit: Command) -> None:
    outcome = train("--recipe", "cyclegan", "--iterations", "2")
    assert outcome.code == 0, outcome.stderr
    assert "cyclegan recipe, batch size 1, 2 steps\n" in outcome.stderr
    document = tomllib.loads(Path(RUN, "config.toml").read_text())
    assert document["recipe"] == preset("cyclegan").to_dict()
    assert {name: document["model"][name] for name in MODEL_DEFAULTS["cyclegan"]} == MODEL_DEFAULTS["cyclegan"]
    assert {name: model_config()[name] for name in MODEL_DEFAULTS["cyclegan"]} == MODEL_DEFAULTS["cyclegan"]
    names = load_file(f"{RUN}/model/discriminators.safetensors")
    assert {name.split(".")[1] for name in names} == {"local"}
    (line,) = map(json.loads, Path(RUN, "metrics.jsonl").read_text().splitlines())
    losses = set(line) - {"step", "elapsed", "learning_rate", "images_per_second"}
    assert losses == {f"{name}_{d}" for name in ("d_local", "g_local", "cycle", "identity", "d", "g") for d in "ab"}

    put("in.png")
    outcome = ugatit("translate", "in.png", "--model", RUN, "-o", "out.png", *CPU)
    assert (outcome.code, outcome.lines) == (0, ["out.png"])
    outcome = ugatit("cam", "in.png", "--model", RUN, *CPU)
    (error,) = outcome.errors
    assert outcome.code == 3
    assert "no attention to show: its generators have no CAM, its discriminators have no CAM" in error


def test_an_interrupted_cyclegan_goes_on(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--recipe", "cyclegan", "--iterations", "4")
    assert train(*arguments, "-o", "whole").code == 0
    original = train_view.PlainWatch.stepped

    def stepped(self: train_view.PlainWatch, report: StepReport) -> None:
        original(self, report)
        if report.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_view.PlainWatch, "stepped", stepped)
        assert train(*arguments, "-o", "parts", "--checkpoint-every", "1").code == 130
    outcome = train(*arguments, "-o", "parts")
    assert outcome.code == 0, outcome.stderr
    assert "parts: goes on at step 1" in outcome.stderr
    whole, parts = weights("whole"), weights("parts")
    assert set(whole) == set(parts)
    assert all(torch.equal(weight, parts[name]) for name, weight in whole.items())
    (error,) = train("--iterations", "4", "--discriminators", "both", "-o", "parts").errors
    assert "its discriminators is local, not both" in error


def test_what_the_user_says_of_the_model_comes_first(train: Train) -> None:
    stated = ("--discriminator-cam", "--decoder-norm", "gn", "--discriminators", "both", "--cam-weight", "7")
    outcome = train("--recipe", "cyclegan", *stated, "--iterations", "1")
    assert outcome.code == 0, outcome.stderr
    assert model_config()["decoder_norm"] == "gn"
    assert model_config()["discriminator_cam"]
    assert not model_config()["generator_cam"]
    assert "discriminators" not in model_config()  # both


def test_a_cam_weight_without_cam_changes_nothing(train: Train) -> None:
    assert train("--recipe", "cyclegan", "--iterations", "1", "-o", "one").code == 0
    assert train("--recipe", "cyclegan", "--iterations", "1", "--cam-weight", "3", "-o", "other").code == 0
    one, other = weights("one"), weights("other")
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_the_global_map_is_missing_without_global_discriminators(train: Train, ugatit: Command) -> None:
    assert train("--discriminators", "local", "--iterations", "1").code == 0
    assert model_config()["discriminators"] == "local"
    put("in.png")
    outcome = ugatit("cam", "in.png", "--model", RUN, "--layout", "overlay", *CPU)
    assert outcome.code == 0
    assert below("attention") == ["in.generator.png", "in.local.png"]
    assert "no global attention: it has local discriminators only" in outcome.stderr
    outcome = ugatit("cam", "in.png", "--model", RUN, "--maps", "global", *CPU)
    assert outcome.code == 3
    (error,) = outcome.errors
    assert error.endswith("no global attention: it has local discriminators only")


def test_a_run_may_start_from_one_without_global_discriminators(train: Train) -> None:
    assert train("--discriminators", "local", "--iterations", "1").code == 0
    outcome = train("--from", RUN, "--discriminators", "both", "--iterations", "1", "-o", "both")
    assert outcome.code == 0, outcome.stderr
    assert "has local discriminators only: new global ones are trained as well" in outcome.stderr
    names = load_file("both/model/discriminators.safetensors")
    assert {name.split(".")[1] for name in names} == {"local", "global"}


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        (("--decoder-norm", "ln"), "decoder_norm", "ln"),
        (("--no-generator-cam",), "generator_cam", False),
        (("--no-discriminator-cam",), "discriminator_cam", False),
    ],
)
def test_ablations(train: Train, option: tuple[str, ...], field: str, value: object) -> None:
    assert train(*option, "--iterations", "1").code == 0
    changed = {name for name, found in model_config().items() if found != ModelConfig().to_dict()[name]}
    assert field in changed
    assert model_config()[field] == value
    assert changed <= {
        "domain_a", "domain_b", "image_size", "channels", "blocks", "discriminator_channels", "global_layers", field,
    }  # fmt: skip

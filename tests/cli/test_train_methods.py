"""`ugatit train --method`: each method from its first step to its use, and what is refused."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests import tiny
from tests.cli.conftest import Command, Outcome, below, put
from tests.trainings import make_folders
from ugatit_cli.methods.configs import CycleGANConfig
from ugatit_cli.methods.registry import METHODS, method

DEVICE = ["--device", "cpu", "--precision", "fp32"]
SIZES = ["--image-size", "32", "--channels", "4", "--blocks", "1"]
FOLDERS = ["--domain-a", "horses", "--domain-b", "zebras", "--workers", "1"]
RUN = "runs/horses2zebras"
ALL = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(autouse=True)
def folders() -> None:
    make_folders(Path(), 8, ("horses", "zebras"))


def train(ugatit: Command, name: str, vgg: str, *arguments: object) -> Outcome:
    """`ugatit train --method NAME` on two small folders, with tiny networks."""
    own = ["--vgg", vgg] if name == "cartoongan" else []
    return ugatit("train", *FOLDERS, *SIZES, *DEVICE, "--method", name, *own, *arguments)


def lines_of(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def test_cyclegan(ugatit: Command, vgg: str) -> None:
    outcome = train(ugatit, "cyclegan", vgg, "--iterations", "2")
    assert (outcome.code, outcome.lines, outcome.errors) == (0, [RUN], [])
    assert "horses <-> zebras: cyclegan, 4 channels, 1 blocks, 32 px\n" in outcome.stderr
    for document in (
        tomllib.loads(Path(RUN, "config.toml").read_text()),
        json.loads(Path(RUN, "model", "config.json").read_text()),
    ):
        assert document["method"] == "cyclegan"
        assert document["model"]["blocks"] == 1
    (line,) = lines_of(RUN)
    losses = set(line) - {"step", "elapsed", "learning_rate", "images_per_second"}
    assert losses == {f"{name}_{d}" for name in ("d_patch", "g_patch", "cycle", "identity", "d", "g") for d in "ab"}
    outcome = ugatit("translate", "horses/0.png", "--model", RUN, "--to", "zebras", "-o", "out.png", *DEVICE)
    assert (outcome.code, outcome.lines) == (0, ["out.png"])
    assert ugatit("cam", "horses/0.png", "--model", RUN, *DEVICE).code == 3
    again = ugatit("train", *FOLDERS, *SIZES, *DEVICE, "--method", "cyclegan", "--iterations", "3")
    assert (again.code, again.lines) == (0, [RUN])
    again = ugatit("train", "--resume", RUN, "--iterations", "4", "--workers", "1", "--device", "cpu")
    assert (again.code, [line["step"] for line in lines_of(RUN)]) == (0, [2, 3, 4])


def test_cartoongan_from_its_warm_up_on(ugatit: Command, vgg: str) -> None:
    outcome = train(ugatit, "cartoongan", vgg, "--iterations", "3", "--warm-up", "40%", "--checkpoint-every", "1")
    assert (outcome.code, outcome.lines, outcome.errors) == (0, [RUN], [])
    assert "horses -> zebras: cartoongan, 4 channels, 1 blocks, 32 px\n" in outcome.stderr
    assert "content " in outcome.stderr
    (line,) = lines_of(RUN)
    assert {"content_a", "g_patch_b", "d_patch_b", "d_edges_b", "g_a", "g_b", "d_b"} <= set(line)
    # The discriminator begins with the second step; the third one is kept with it.
    before, after = (load_file(f"{RUN}/checkpoints/step_0000000{step}/discriminators.safetensors") for step in (2, 3))
    assert any((before[name] != after[name]).any() for name in before)
    assert ugatit("translate", "horses/0.png", "--model", RUN, "-o", "out.png", *DEVICE).code == 0
    outcome = ugatit("translate", "zebras/0.png", "--model", RUN, "--to", "horses", "-o", "back.png", *DEVICE)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "horses to zebras only" in outcome.errors[0]


@ALL
def test_a_dry_run_writes_nothing(ugatit: Command, vgg: str, name: str) -> None:
    before = below(".")
    outcome = train(ugatit, name, vgg, "--iterations", "9", "--dry-run", "--json")
    assert outcome.code == 0, outcome.stderr
    (document,) = outcome.documents
    assert document.get("method", "ugatit") == name
    assert set(document["recipe"]) <= method(name).settings
    assert document["estimate"]["generator_parameters"] > 1000
    assert document["estimate"]["discriminator_parameters"] > 1000
    text = train(ugatit, name, vgg, "--iterations", "9", "--dry-run", "--verbose").stdout.decode()
    assert tomllib.loads(text).items() >= {"model": document["model"], "recipe": document["recipe"]}.items()
    assert below(".") == before


@pytest.mark.parametrize(
    ("name", "arguments", "words", "hint"),
    [
        ("cyclegan", ("--cam-weight", "5"), "--cam-weight means nothing to CycleGAN", "--method ugatit."),
        ("cyclegan", ("--variant", "full"), "--variant means nothing to CycleGAN", "--method ugatit."),
        ("cyclegan", ("--vgg", "x.pth"), "--vgg means nothing to CycleGAN", "--method cartoongan."),
        ("cartoongan", ("--cycle-weight", "5"), "--cycle-weight means nothing to CartoonGAN", "ugatit or"),
        ("ugatit", ("--pool-size", "5"), "--pool-size means nothing to U-GAT-IT", "--method cyclegan"),
    ],
)
def test_options_of_other_methods(
    ugatit: Command, vgg: str, name: str, arguments: tuple[str, ...], words: str, hint: str
) -> None:
    outcome = train(ugatit, name, vgg, "--iterations", "1", *arguments)
    assert (outcome.code, outcome.lines, outcome.errors) == (2, [], [words])
    assert hint in outcome.stderr
    assert not Path("runs").exists()


def test_methods_that_there_are_not(ugatit: Command, vgg: str) -> None:
    outcome = train(ugatit, "pix2pix", vgg)
    assert outcome.code == 2
    assert "pix2pix" in outcome.stderr
    assert "cyclegan" in outcome.stderr


def test_a_start_of_one_way(ugatit: Command) -> None:
    sizes: dict[str, Any] = {"image_size": 32, "channels": 4, "blocks": 1, "discriminator_channels": 4}
    start = tiny.save(Path("start"), CycleGANConfig("photo", "painting", ways="a2b", **sizes))
    still = ("--from", start, "--iterations", "1", "--learning-rate", "0", *DEVICE)
    outcome = ugatit("train", *FOLDERS, *still)
    assert (outcome.code, outcome.lines) == (0, [RUN])
    assert "the model to start from has one generator: that of horses, and discriminators, are new" in outcome.stderr
    theirs, ours = (load_file(Path(path, "model.safetensors")) for path in (start, f"{RUN}/model"))
    assert {name.split(".")[0] for name in ours} == {"a2b", "b2a"}
    assert all((ours[name] == tensor).all() for name, tensor in theirs.items())
    outcome = ugatit("train", *FOLDERS, *still, "--method", "ugatit", "-o", "other")
    assert (outcome.code, outcome.lines, len(outcome.errors)) == (2, [], 1)
    assert "--method ugatit contradicts the model to start from, which is one of CycleGAN" in outcome.errors[0]


def test_a_run_of_a_recipe_that_is_gone(ugatit: Command, vgg: str) -> None:
    assert train(ugatit, "ugatit", vgg, "--iterations", "1", "--no-generator-cam").code == 0
    config = Path(RUN, "config.toml")
    config.write_text(config.read_text().replace('name = "default"', 'name = "cyclegan"'))
    before = below(RUN)
    for arguments in (("--resume", RUN), (*FOLDERS, *SIZES, "--method", "cyclegan"), (*FOLDERS, *SIZES)):
        outcome = ugatit("train", *arguments, *DEVICE)
        assert (outcome.code, outcome.lines, len(outcome.errors)) == (3, [], 1)
        assert "an earlier version's recipe 'cyclegan', which is gone" in outcome.errors[0]
        assert "damaged" not in outcome.stderr
    assert below(RUN) == before
    put("in.png")
    outcome = ugatit("translate", "in.png", "--model", RUN, "-o", "out.png", *DEVICE)
    assert (outcome.code, outcome.lines) == (0, ["out.png"])
    shutil.copytree(Path(RUN, "model"), "model")
    outcome = ugatit("train", *FOLDERS, "--from", "model", "--iterations", "1", "-o", "on", *DEVICE)
    assert (outcome.code, outcome.lines) == (0, ["on"])

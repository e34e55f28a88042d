"""`ugatit convert`: official checkpoints in, models that translate out."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ugatit_cli
from tests import tiny
from tests.cli.conftest import Command, below, put

CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    tiny.save_official(tmp_path / "selfie2anime_params_0100000.pt", tiny.LIGHT)
    return "selfie2anime_params_0100000.pt"


def test_into_a_folder(ugatit: Command, checkpoint: str) -> None:
    outcome = ugatit("convert", checkpoint, "-o", "models/mine", "--domains", "selfie,anime", "--image-size", "32")
    assert (outcome.code, outcome.lines) == (0, ["models/mine"])
    config = ugatit_cli.load("models/mine").config
    assert f"selfie <-> anime: {config.summary}, with discriminators" in outcome.stderr
    assert "ugatit translate PICTURES --model models/mine -o out/" in outcome.stderr
    names = ["SHA256SUMS", "config.json", "discriminators.safetensors", "model.safetensors"]
    assert below("models") == [f"mine/{name}" for name in names]
    document = json.loads(Path("models/mine/config.json").read_text())
    assert document["provenance"]["imported_from"] == checkpoint
    put("a.png")
    outcome = ugatit("translate", "a.png", "-o", "b.png", "--model", "models/mine", "--to", "anime", *CPU)
    assert outcome.code == 0
    assert "model models/mine (selfie -> anime)" in outcome.stderr


def test_into_the_store_by_name(ugatit: Command, checkpoint: str) -> None:
    outcome = ugatit("convert", checkpoint, "--name", "mine", "--dtype", "fp16")
    assert (outcome.code, outcome.lines) == (0, [str(Path(".ugatit/models/mine").absolute())])
    assert "--model mine" in outcome.stderr
    assert "256 is assumed (--image-size)" in outcome.stderr
    put("a.png")
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", "mine", *CPU).code == 0
    outcome = ugatit("translate", "a.png", "-o", "c.png", "--model", "mien")
    assert outcome.code == 3
    assert "Did you mean mine?" in outcome.stderr


def test_overwriting(ugatit: Command, checkpoint: str) -> None:
    assert ugatit("convert", checkpoint, "m").code == 0
    outcome = ugatit("convert", checkpoint, "m", "--domains", "x,y")
    assert (outcome.code, outcome.errors) == (2, ["m: exists already"])
    assert "--overwrite" in outcome.stderr
    assert ugatit("convert", checkpoint, "m", "--domains", "x,y", "--overwrite").code == 0
    assert ugatit_cli.load("m").config.domain_a == "x"


def test_wrong_usage(ugatit: Command, checkpoint: str) -> None:
    for arguments, reason in (
        ((), "give one or two checkpoints, and either --output DIR or --name NAME"),
        (("m", "--name", "mine"), "give one or two checkpoints, and either --output DIR or --name NAME"),
        (("--name", "../mine"), "'../mine' is not a model name"),
        (("--name", "flat2clay"), "flat2clay is the name of a bundled model"),
        (("m", "--image-size", "30"), "--image-size 30: it must be a multiple of 4"),
        (("m", "--domains", "selfie"), "--domains selfie: names two domains, A first"),
    ):
        outcome = ugatit("convert", checkpoint, *arguments)
        assert (outcome.code, outcome.errors) == (2, [reason])
    assert ugatit("convert", checkpoint, "m", "--dtype", "fp8").code == 2
    assert ugatit("convert").code == 2
    assert below(".") == [checkpoint]


@pytest.mark.parametrize(
    ("file", "wrong", "right"),
    [
        ("baselines/drit/concat.weights.safetensors", 208, 212),
        ("baselines/unit/weights.safetensors", 60, 64),
        ("baselines/munit/weights.safetensors", 32, 64),
    ],
)
def test_an_image_size_that_contradicts(ugatit: Command, golden: Path, file: str, wrong: int, right: int) -> None:
    outcome = ugatit("convert", golden / file, "-o", "m", "--image-size", wrong)
    assert outcome.code == 3
    assert f"--image-size {wrong} contradicts" in outcome.errors[0]
    assert f"{right} px" in outcome.errors[0]
    assert ugatit("convert", golden / file, "-o", "m", "--image-size", right).code == 0


def test_a_file_for_each_way(ugatit: Command, golden: Path) -> None:
    weights = load_file(golden / "baselines/cyclegan/weights.safetensors")
    for key in ("G_A", "G_B"):
        state = {name.partition(".")[2]: one for name, one in weights.items() if name.startswith(key)}
        torch.save(state, f"latest_net_{key}.pth")
    files = "latest_net_G_B.pth", "latest_net_G_A.pth"
    outcome = ugatit("convert", *files, "-o", "both", "--domains", "horse,zebra")
    assert (outcome.code, outcome.lines) == (0, ["both"])
    assert "horse <-> zebra: cyclegan" in outcome.stderr
    assert ugatit("convert", *files[1:], "there", "--domains", "horse,zebra").code == 0
    put("a.png")
    for model in ("both", "there"):
        outcome = ugatit("translate", "a.png", "-o", f"{model}.png", "--model", model, "--to", "zebra", *CPU)
        assert outcome.code == 0
    assert Path("both.png").read_bytes() == Path("there.png").read_bytes()
    outcome = ugatit("translate", "a.png", "-o", "b.png", "--model", "there", "--to", "horse", *CPU)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "only, not back" in outcome.errors[0]


@pytest.mark.parametrize("data", [b"not a checkpoint", pickle.dumps(print), None])
def test_what_is_no_checkpoint(ugatit: Command, data: bytes | None) -> None:
    if data is not None:
        Path("a.pt").write_bytes(data)
    outcome = ugatit("convert", "a.pt", "m")
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (3, b"", 1)
    assert outcome.errors[0].startswith("a.pt: ")
    assert "internal error" not in outcome.stderr
    assert not Path("m").exists()

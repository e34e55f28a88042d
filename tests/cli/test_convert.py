"""`ugatit convert`: official checkpoints in, models that translate out."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

import ugatit_cli
from tests import tiny
from tests.cli.conftest import Command, below, put

CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    tiny.save_official(tmp_path / "selfie2anime_params_0100000.pt", tiny.LIGHT)
    return "selfie2anime_params_0100000.pt"


def test_into_a_folder(ugatit: Command, checkpoint: str) -> None:
    outcome = ugatit("convert", checkpoint, "models/mine", "--domains", "selfie,anime", "--image-size", "32")
    assert (outcome.code, outcome.lines) == (0, ["models/mine"])
    assert (
        "selfie <-> anime: light, 4 channels, 1 blocks, 32 px, pytorch dialect, with discriminators" in outcome.stderr
    )
    assert "ugatit translate PICTURES --model models/mine -o out/" in outcome.stderr
    assert below("models") == ["mine/config.json", "mine/discriminators.safetensors", "mine/model.safetensors"]
    document = json.loads(Path("models/mine/config.json").read_text())
    assert document["provenance"]["imported_from"] == checkpoint
    put("a.png")
    outcome = ugatit("translate", "a.png", "-o", "b.png", "--model", "models/mine", "--to", "anime", *CPU)
    assert outcome.code == 0
    assert "model models/mine (selfie -> anime)" in outcome.stderr


def test_into_the_store_by_name(ugatit: Command, checkpoint: str) -> None:
    outcome = ugatit("convert", checkpoint, "--name", "mine", "--dtype", "fp16")
    assert outcome.code == 0
    assert outcome.lines == [str(Path(".ugatit/models/mine").absolute())]
    assert "--model mine" in outcome.stderr
    assert "note: A light checkpoint doesn't tell its image size; 256 is assumed (--image-size)." in outcome.stderr
    put("a.png")
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", "mine", *CPU).code == 0
    assert Path("b.png").is_file()
    outcome = ugatit("translate", "a.png", "-o", "c.png", "--model", "mien")
    assert outcome.code == 3
    assert "Did you mean mine?" in outcome.stderr


def test_a_name_of_the_manifest_gets_its_weights(ugatit: Command, checkpoint: str) -> None:
    put("a.png")
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", "selfie2anime", *CPU).code == 3
    assert ugatit("convert", checkpoint, "--name", "selfie2anime", "--image-size", "32").code == 0
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", "selfie2anime", *CPU).code == 0


def test_weights_arrive_unchanged(ugatit: Command, checkpoint: str) -> None:
    ugatit("convert", checkpoint, "m", "--image-size", "32")
    official = torch.load(checkpoint, weights_only=True)
    model = ugatit_cli.load("m", device="cpu", precision="fp32")
    stem = model.generator("b2a").stem.conv.weight
    torch.testing.assert_close(stem.contiguous(), official["genB2A"]["DownBlock.1.weight"], rtol=0, atol=0)
    head = model.discriminator("a", "global").head.weight
    torch.testing.assert_close(head, official["disGA"]["conv.weight_orig"], rtol=0, atol=0)


def test_without_discriminators(ugatit: Command, tmp_path: Path) -> None:
    tiny.save_official(tmp_path / "a.pt", tiny.FULL, discriminators=False)
    outcome = ugatit("convert", "a.pt", "m")
    assert outcome.code == 0
    assert "note: The checkpoint has no discriminators" in outcome.stderr
    assert "full, 4 channels, 1 blocks, 32 px" in outcome.stderr
    assert below("m") == ["config.json", "model.safetensors"]


def test_overwriting(ugatit: Command, checkpoint: str) -> None:
    put("pictures/a.png")
    assert ugatit("convert", checkpoint, "m").code == 0
    outcome = ugatit("convert", checkpoint, "m", "--domains", "x,y")
    assert outcome.code == 1
    assert outcome.errors == ["m: exists already"]
    assert "--overwrite" in outcome.stderr
    assert ugatit("convert", checkpoint, "m", "--domains", "x,y", "--overwrite").code == 0
    assert ugatit_cli.load("m").config.domain_a == "x"
    outcome = ugatit("convert", checkpoint, "pictures", "--overwrite")
    assert outcome.code == 1
    assert below("pictures") == ["a.png"]


def test_wrong_usage(ugatit: Command, checkpoint: str) -> None:
    for arguments, reason in (
        ((), "give either OUT_DIR or --name NAME"),
        (("m", "--name", "mine"), "give either OUT_DIR or --name NAME"),
        (("--name", "../mine"), "'../mine' is not a model name"),
        (("--name", ""), "'' is not a model name"),
        (("m", "--domains", "selfie"), "--domains selfie: names two domains, A first"),
    ):
        outcome = ugatit("convert", checkpoint, *arguments)
        assert (outcome.code, outcome.errors) == (2, [reason])
    assert ugatit("convert", checkpoint, "m", "--dtype", "fp8").code == 2
    assert ugatit("convert").code == 2
    assert below(".") == [checkpoint]


def garbage(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "empty":
        path.touch()
    elif kind == "code":
        path.write_bytes(pickle.dumps(print))
    elif kind == "cut":
        tiny.save_official(path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "other":
        torch.save({"model": {"weight": torch.ones(3)}}, path)
    elif kind == "a list":
        torch.save([torch.ones(3)], path)
    elif kind == "half":
        torch.save({"genA2B": {}, "genB2A": {}}, path)


@pytest.mark.parametrize("kind", ["text", "empty", "code", "cut", "other", "a list", "half", "missing"])
def test_garbage(ugatit: Command, tmp_path: Path, kind: str) -> None:
    garbage(tmp_path / "a.pt", kind)
    outcome = ugatit("convert", "a.pt", "m")
    assert outcome.code == 3
    assert outcome.stdout == b""
    assert len(outcome.errors) == 1
    assert outcome.errors[0].startswith("a.pt: ")
    assert "internal error" not in outcome.stderr
    assert not Path("m").exists()


def test_a_checkpoint_is_not_a_model(ugatit: Command, checkpoint: str) -> None:
    put("a.png")
    outcome = ugatit("translate", "a.png", "-o", "b.png", "--model", f"./{checkpoint}")
    assert outcome.code == 3
    assert f"ugatit convert {checkpoint} OUT_DIR" in outcome.stderr


def test_a_bundled_name_is_taken(ugatit: Command, tmp_path: Path) -> None:
    outcome = ugatit("convert", str(tiny.save_official(tmp_path / "x.pt")), "--name", "flat2clay")
    assert outcome.code == 2
    assert "bundled" in outcome.stderr


@pytest.mark.parametrize(("option", "value"), [("--domains", "a,a"), ("--domains", "a/b,c"), ("--image-size", "30")])
def test_settings_that_no_model_has(ugatit: Command, tmp_path: Path, option: str, value: str) -> None:
    outcome = ugatit("convert", str(tiny.save_official(tmp_path / "x.pt")), str(tmp_path / "m"), option, value)
    assert outcome.code == 2
    assert "x.pt" not in outcome.stderr

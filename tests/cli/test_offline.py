"""What is carried to a machine without a network: models by name, and the network that `evaluate` measures with."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.cli.conftest import Command, below, put
from ugatit_cli.metrics import inception


@pytest.fixture
def stick() -> Path:
    """A model folder with its hashes."""
    return tiny.save(Path("usb/clay"))


def test_a_folder_becomes_a_model_with_a_name(ugatit: Command, translate: Command, stick: Path) -> None:
    outcome = ugatit("fetch", "--from-file", stick, "--name", "clay")
    assert (outcome.code, outcome.errors) == (0, [])
    assert outcome.lines[0].endswith("models/clay")
    shutil.rmtree(stick)
    put("a.png")
    assert translate("a.png", "-o", "out", "--model", "clay").code == 0
    assert ugatit("models", "verify", "clay").code == 0


def test_a_bundled_model_takes_its_licence_along(ugatit: Command) -> None:
    def licence(name: str) -> object:
        return json.loads(ugatit("models", "show", name, "--json").stdout)["licence"]

    assert ugatit("fetch", "flat2clay", "-o", "usb/flat").code == 0
    assert ugatit("fetch", "--from-file", "usb/flat", "--name", "flat").code == 0
    assert "MIT" in str(licence("flat2clay"))
    assert licence("usb/flat") == licence("flat") == licence("flat2clay")


def test_what_is_installed_is_what_was_copied(ugatit: Command, stick: Path) -> None:
    weights = stick / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    outcome = ugatit("fetch", "--from-file", stick, "--name", "clay")
    assert outcome.code == 3
    assert "sha256" in outcome.errors[0]
    assert below(".ugatit") == []
    weights.write_bytes(data)
    assert ugatit("fetch", "--from-file", stick, "--name", "clay").code == 0
    again = ugatit("fetch", "--from-file", stick, "--name", "clay")
    assert (again.code, "--force" in again.stderr) == (2, True)
    assert ugatit("fetch", "--from-file", stick, "--name", "clay", "--force").code == 0
    (stick / "SHA256SUMS").unlink()
    unknown = ugatit("fetch", "--from-file", stick, "--name", "other")
    assert (unknown.code, "nobody recorded the hashes" in unknown.stderr) == (0, True)


def test_a_folder_without_a_name_is_told_the_command_that_gives_it_one(ugatit: Command, stick: Path) -> None:
    tiny.save(Path("usb/flat2clay"))
    for path in (stick, Path("usb/flat2clay")):
        outcome = ugatit("fetch", "--from-file", path)
        assert outcome.code == 2
        command = outcome.stderr.rpartition("ugatit fetch ")[2].split()
        assert ugatit("fetch", *command).code == 0
    assert (
        f"ugatit fetch MODEL --from-file {stick}/model.safetensors"
        in ugatit("fetch", "--from-file", stick / "model.safetensors").stderr
    )


def test_a_folder_that_nobody_can_verify_works_with_one_note(
    ugatit: Command, translate: Command, stick: Path
) -> None:
    (stick / "SHA256SUMS").unlink()
    put("a.png")
    outcome = translate("a.png", "-o", "out", "--model", stick, "--json")
    assert (outcome.code, outcome.stderr.count(f"ugatit models verify {stick}")) == (0, 1)
    assert [one["status"] for one in outcome.documents] == ["translated"]
    assert ugatit("models", "verify", stick).code == 1
    shutil.copytree(stick, "run/model")
    Path("run/config.toml").touch()
    for run in ("run", "run/model"):
        outcome = translate("a.png", "-o", "out", "--overwrite", "--model", run)
        assert (outcome.code, "verify" in outcome.stderr) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "ways"),
    [
        ("fetch selfie2anime", ["--from-file selfie2anime --name selfie2anime", "selfie2anime --from-file FILE"]),
        ("fetch someone/clay@v1", ["ugatit fetch someone/clay@v1 -o clay", "--from-file clay --name clay"]),
        ("fetch selfie2anime-full", ["--from-file selfie2anime-full --name selfie2anime-full", "ugatit convert"]),
        ("data fetch horse2zebra", ["--from-file ZIP"]),
    ],
)
def test_what_works_without_a_network_is_said_before_how_to_allow_one(
    ugatit: Command, arguments: str, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGATIT_OFFLINE", "1")
    outcome = ugatit(*arguments.split())
    *hints, last = outcome.stderr.partition("error: ")[2].splitlines()
    assert outcome.code == 3
    assert all(way in "\n".join(hints) for way in ways)
    assert "unset UGATIT_OFFLINE" in last


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ("--name clay", 2, "--from-file"),
        ("flat2clay --from-file usb/clay --name clay", 2, "MODEL"),
        ("--from-file usb/clay --name clay -o x", 2, "--output"),
        ("--from-file usb/clay --name flat2clay", 2, "bundled"),
        ("--from-file usb/clay --name a/b", 2, "a/b"),
        ("--from-file usb/gone --name clay", 3, "usb/gone"),
        ("--from-file usb --name clay", 3, "config.json"),
        ("--from-file usb/clay", 2, "MODEL"),
        ("", 2, "MODEL"),
        ("inception --from-file usb/gone", 3, "usb/gone"),
        ("inception --from-file usb/clay/config.json", 3, "Inception"),
        ("inception --from-file usb -o x", 2, "contradict"),
    ],
)
@pytest.mark.usefixtures("stick")
def test_what_can_not_be_installed(ugatit: Command, arguments: str, code: int, word: str) -> None:
    outcome = ugatit("fetch", *arguments.split())
    assert outcome.code == code
    assert word in outcome.stderr


def test_inception_is_put_where_evaluate_finds_it(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    library = find_spec("torch_fidelity")  # whose import takes a second
    assert library
    assert library.origin
    source = Path(library.origin).with_name("feature_extractor_inceptionv3.py").read_text()
    assert inception.ADDRESS in "".join(re.findall(r'"([^"]*)"', source))
    assert inception.place() == Path(torch.hub.get_dir(), "checkpoints", inception.NAME)
    file = Path("usb", inception.NAME)
    file.parent.mkdir()
    file.write_bytes(b"weights")
    monkeypatch.setattr(inception, "DIGITS", hashlib.sha256(b"weights").hexdigest()[:8])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "cache")
    assert ugatit("fetch", "inception", "--dry-run").lines[0].endswith("to download")
    outcome = ugatit("fetch", "inception", "--from-file", "usb")
    assert (outcome.code, outcome.lines) == (0, [f"cache/checkpoints/{inception.NAME}"])
    assert below("cache") == [f"checkpoints/{inception.NAME}"]
    assert ugatit("fetch", "inception").code == 0  # is here
    file.write_bytes(b"others")
    assert ugatit("fetch", "inception", "--from-file", file).code == 3
    assert Path("cache/checkpoints", inception.NAME).read_bytes() == b"weights"


def test_inception_that_can_not_be_had_without_a_network(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGATIT_OFFLINE", "1")
    outcome = ugatit("fetch", "inception", "-o", "usb")
    assert outcome.code == 3
    assert "--from-file" in outcome.stderr
    assert below("usb") == []

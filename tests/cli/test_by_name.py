"""Models by name, from nothing to pictures: what the commands say, under the real addresses of the manifest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import ugatit_cli
from tests import paddlegan
from tests.cli.conftest import Command, below, program, put
from tests.conftest import GOLDEN
from tests.programs import genuine
from tests.web_server import WebServer
from tests.weights.test_imports import published, tensorflow, zipped
from tests.weights.test_imports import put as put_online
from ugatit_cli.weights.home import store_path
from ugatit_cli.weights.manifest import read_manifest
from ugatit_cli.weights.tables import entry_of

CPU = ("--device", "cpu", "--precision", "fp32")
NAME = "selfie2anime"


@pytest.fixture
def golden_weights() -> bytes:
    """All networks of the authors' code, small, in the file that PaddleGAN makes of them."""
    return paddlegan.written(torch.load(GOLDEN / "pt" / "mini_step_before.pt", weights_only=True))


@pytest.fixture
def web_at_home(web: WebServer, golden_weights: bytes) -> WebServer:
    web.put(read_manifest()[NAME].address, golden_weights)
    return web


def test_from_nothing_to_pictures(
    ugatit: Command, web_at_home: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a home folder with nothing in it, by a mirror; then without a network."""
    put("selfies/a.png", "selfies/b.png")
    home = tmp_path / "empty"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "UGATIT_", "XDG_"))}
    command = ("translate", "./selfies", "--model", NAME, *CPU)
    environment = {**kept, "HOME": str(home), "UGATIT_MIRROR": web_at_home.serve()}
    outcome = program(*command, "-o", "out/", start=genuine, env=environment)
    assert (outcome.code, len(outcome.lines)) == (0, 2), outcome.stderr
    assert below("out") == ["a.png", "b.png"]
    assert below(home / ".local/share/ugatit/downloads") == []
    monkeypatch.setenv("UGATIT_HOME", str(home / ".local/share/ugatit"))
    monkeypatch.setenv("UGATIT_OFFLINE", "1")
    asked = len(web_at_home.requests)
    outcome = ugatit(*command, "-o", "again/")
    assert outcome.code == 0, outcome.stderr
    assert len(web_at_home.requests) == asked
    assert Path("again/a.png").read_bytes() == Path("out/a.png").read_bytes()


def test_what_would_be_downloaded(ugatit: Command, web_at_home: WebServer) -> None:
    address, about = read_manifest()[NAME].address, read_manifest()[NAME].about or "not stated"
    put("a.png")
    ((name, size, state),) = (line.split("\t") for line in ugatit("fetch", NAME, "--dry-run").lines)
    assert (name, state) == (address, "to download")
    assert about in size
    for command in ("translate", "cam"):
        outcome = ugatit(command, "a.png", "-o", "b.png", "--model", NAME, "--dry-run", *CPU)
        assert (outcome.code, outcome.lines) == (0, ["a.png -> b.png"])
        assert address in outcome.stderr
        assert about in outcome.stderr
        assert "licence of the weights" in outcome.stderr
    assert web_at_home.requests == []
    assert not Path("b.png").exists()
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", NAME, *CPU).code == 0
    outcome = ugatit("translate", "a.png", "-o", "c.png", "--model", NAME, "--dry-run", *CPU)
    assert address not in outcome.stderr


def test_one_model_through_all_commands(ugatit: Command, web_at_home: WebServer, golden_weights: bytes) -> None:
    put("a.png")
    assert ugatit_cli.load(NAME, device="cpu").config.domain_b == "anime"  # which fetches it
    outcome = ugatit("fetch", NAME)
    assert (outcome.code, outcome.lines) == (0, [str(store_path(NAME))])
    assert len(web_at_home.requests) == 1
    assert ugatit("cam", "a.png", "-o", "b.png", "--model", NAME, *CPU).code == 0
    document = json.loads(ugatit("models", "show", NAME, "--json").stdout)
    assert (document["state"], document["provenance"]["download_size"]) == ("ready", len(golden_weights))
    assert ugatit("models", "verify", NAME).code == 0
    assert ugatit("models", "rm", NAME, "--yes").code == 0
    assert json.loads(ugatit("models", "show", NAME, "--json").stdout)["state"] == "not fetched"
    web_at_home.put(read_manifest()[NAME].address, b"<html>", type="text/html", status=403)
    outcome = ugatit("translate", "a.png", "-o", "c.png", "--model", NAME, *CPU)
    assert (outcome.code, len(outcome.errors)) == (3, 1)
    Path("ugatit_light.pdparams").write_bytes(golden_weights)
    assert ugatit("fetch", NAME, "--from-file", "ugatit_light.pdparams").code == 0
    assert ugatit("translate", "a.png", "-o", "c.png", "--model", NAME, *CPU).code == 0


@pytest.mark.parametrize(
    ("name", "kind", "way"),
    [
        ("zebra2horse", "cyclegan", "zebra -> horse"),
        ("photo2vangogh", "cyclegan", "photo -> vangogh"),
        ("cat2dog", "kaggle", "cat -> dog"),
    ],
)
def test_other_kinds(ugatit: Command, web: WebServer, name: str, kind: str, way: str) -> None:
    """Each under its real address; what they compute is compared elsewhere."""
    entry = entry_of(read_manifest(), name)
    assert entry is not None
    data = published(kind)
    if entry.folder:
        data = zipped({f"{entry.folder}/{Path(file).name}": one for file, one in tensorflow().items()})
    put_online(web, entry, data)
    put("a.png")
    outcome = ugatit("translate", "a.png", "-o", "b.png", "--model", name, *CPU)
    assert outcome.code == 0, outcome.stderr
    assert way in outcome.stderr

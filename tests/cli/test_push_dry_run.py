"""`ugatit push --dry-run`: what it writes, and the command that publishes just that."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tests import tiny
from tests.cli.conftest import Command, below, put
from tests.cli.test_push import MODEL, REPO, local, logged_in, remote
from tests.hub_server import HubServer
from ugatit_cli.weights.folder import open_model


@pytest.fixture
def model(tmp_path: Path) -> str:
    tiny.save(tmp_path / "model", discriminators=True)
    return "model"


@pytest.fixture
def push(ugatit: Command, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Command:
    return logged_in(ugatit, hub, monkeypatch)


def test_a_dry_run(push: Command, hub: HubServer, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    before = local()
    outcome = push(model, REPO, "--dry-run", "--licence", "mit")
    assert outcome.code == 0
    assert outcome.lines == [str(Path("flat2clay").absolute())]
    assert sorted(local("flat2clay")) == sorted([*MODEL, "README.md"])
    assert local("flat2clay")["model.safetensors"] == before["model.safetensors"]
    assert not Path("flat2clay/model.safetensors").samefile("model/model.safetensors")
    assert f"would publish to the repository {hub.url}/{REPO}:" in outcome.stderr
    assert re.search(r"^  model.safetensors  [\d.]+ kB$", outcome.stderr, re.MULTILINE)
    assert hub.requests == []
    assert local() == before
    assert open_model(Path("flat2clay")).discriminators is None


def test_a_dry_run_is_published_as_it_is(push: Command, hub: HubServer, model: str) -> None:
    push(model, REPO, "--dry-run", "--to", "look/it", "--with-discriminators")
    Path("look/it/README.md").write_text("---\nlibrary_name: ugatit\n---\n# Edited\n")
    assert push("look/it", REPO, "--with-discriminators").code == 0
    assert remote(hub) == local("look/it")


def test_the_command_after_a_dry_run_says_all_that_was_said(push: Command, hub: HubServer, model: str) -> None:
    said = ("--licence", "MIT", "--data", "Ada's icons & more", "--description", "Icons, $HOME made")
    told = push(model, REPO, "--dry-run", "--to", "a look", "--private", "--overwrite", *said).stderr
    line = told.partition("then: ugatit push ")[2].splitlines()[0]
    arguments = shlex.split(line)
    switches = ["--private", "--overwrite"]
    assert arguments == [str(Path("a look").absolute()), REPO, *switches, said[0], "mit", *said[2:]]
    outcome = push(*arguments)
    assert outcome.code == 0
    assert "not written into that card" not in outcome.stderr
    assert remote(hub) == local("a look")
    entry = tomllib.loads(outcome.stdout.decode())["models"]["flat2clay"]
    assert (entry["licence"], entry["training_data"], entry["description"]) == ("mit", said[3], said[5])


def test_the_licence_on_the_card_is_the_entrys(push: Command, model: str) -> None:
    push(model, REPO, "--dry-run", "--to", "look", "--licence", "cc-by-4.0")
    assert tomllib.loads(push("look", REPO).stdout.decode())["models"]["flat2clay"]["licence"] == "cc-by-4.0"


def test_a_dry_run_replaces_only_models(push: Command, model: str) -> None:
    put("pictures/a.png")
    outcome = push(model, REPO, "--dry-run", "--to", "pictures", "--overwrite")
    assert outcome.code == 1
    assert below("pictures") == ["a.png"]
    assert push(model, REPO, "--dry-run", "--to", "look").code == 0
    outcome = push(model, REPO, "--dry-run", "--to", "look")
    assert outcome.code == 1
    assert "exists already" in outcome.errors[0]
    assert push(model, REPO, "--dry-run", "--to", "look", "--licence", "mit", "--overwrite").code == 0
    assert b"license: mit" in local("look")["README.md"]


def test_where_a_dry_run_writes_is_looked_at_first(push: Command, model: str) -> None:
    put("pictures/a.png")
    outcome = push(model, REPO, "--dry-run", "--to", "pictures", "--samples", "missing.png")
    assert "pictures: exists and is not a model folder" in outcome.errors[0]


def test_a_dry_run_that_cannot_write(push: Command, model: str) -> None:
    Path("file").touch()
    outcome = push(model, REPO, "--dry-run", "--to", "file/look")
    assert outcome.code == 1
    assert outcome.errors == [f"{Path('file/look').absolute()}: can't be written (file exists)"]


def test_a_dry_run_never_replaces_the_model_itself(push: Command, model: str) -> None:
    before = local()
    outcome = push(model, "tester/model", "--dry-run", "--overwrite")
    assert outcome.code == 2
    assert "is the model itself" in outcome.errors[0]
    assert local() == before

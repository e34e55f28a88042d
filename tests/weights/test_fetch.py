"""What `ugatit fetch` is asked for: names of a manifest and Hub ids, other places, files that are here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests import tiny
from tests.hub_client import Notes
from tests.hub_server import HubServer
from ugatit_cli.errors import ModelError, OutputError, UsageError
from ugatit_cli.weights import fetch, home
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.home import BUNDLED, store_path
from ugatit_cli.weights.hub_cache import digest_of
from ugatit_cli.weights.manifest import Entry, FileRecord, entry_toml


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "model", discriminators=True)


@pytest.fixture
def entry(hub: HubServer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A model on the Hub that the user's manifest knows."""
    commit = hub.add("me/clay", model)
    digests = {path.name: digest_of(path) for path in sorted(model.iterdir())}
    records = {name: FileRecord(digest.size, digest.sha256) for name, digest in digests.items()}
    made = Entry("clay", "Clay", ("flat", "clay"), 32, "MIT", "emoji", "hub", "me/clay", commit, records)
    know(made, tmp_path, monkeypatch)
    return made


def know(entry: Entry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "weights.toml").write_text("schema = 1\n\n" + entry_toml(entry), encoding="utf-8")
    monkeypatch.setenv("UGATIT_MANIFEST", str(folder / "weights.toml"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_name(entry: Entry, model: Path) -> None:
    fetched = fetch.fetch("clay", Notes())
    assert contents(fetched.path) == contents(model)
    assert fetched.path.name == entry.revision
    assert find_model("clay") == fetched


def test_a_name_into_a_folder(entry: Entry, model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "picture.png").touch()
    for force in (False, True):
        with pytest.raises(OutputError, match="is not a model folder"):
            fetch.fetch("clay", Notes(), to=tmp_path / "full", force=force)
    assert contents(fetch.fetch("clay", Notes(), to=tmp_path / "here").path) == contents(model)
    with pytest.raises(OutputError, match="exists already") as caught:
        fetch.fetch("clay", Notes(), to=tmp_path / "here")
    assert caught.value.hint == "Name another folder, or pass --force."
    fetch.fetch("clay", Notes(), to=tmp_path / "here", force=True)
    assert entry.source == "hub"


def test_a_bundled_model(hub: HubServer, tmp_path: Path) -> None:
    assert fetch.fetch("flat2clay", Notes()).path == BUNDLED / "flat2clay"
    copied = fetch.fetch("flat2clay", Notes(), to=tmp_path / "here")
    assert contents(copied.path) == contents(BUNDLED / "flat2clay")
    assert fetch.preview("flat2clay", Notes()).to_download == 0
    assert hub.requests == []


def test_a_model_of_the_users_own(hub: HubServer) -> None:
    tiny.save(store_path("mine"))
    with pytest.raises(UsageError, match="mine is your own"):
        fetch.fetch("mine", Notes())
    assert hub.requests == []


@pytest.mark.usefixtures("entry")
def test_a_model_of_the_users_own_that_wins_is_mentioned() -> None:
    tiny.save(store_path("clay"))
    notes = Notes()
    fetch.fetch("clay", notes)
    assert "which wins over this one until `ugatit models rm clay`" in notes.notes[-1]


@pytest.mark.usefixtures("entry")
def test_from_a_folder(hub: HubServer, model: Path, tmp_path: Path) -> None:
    """As on a machine without a network."""
    (model / "README.md").write_text("not in the manifest")
    installed = fetch.fetch("clay", Notes(), from_file=model)
    assert installed.path == store_path("clay")
    assert set(contents(installed.path)) == {"config.json", "model.safetensors", "discriminators.safetensors"}
    receipt = home.load("clay")
    assert receipt is not None
    assert receipt.damage() == []
    with pytest.raises(OutputError, match="exists already") as caught:
        fetch.fetch("clay", Notes(), from_file=model)
    assert "--force" in caught.value.hint
    fetch.fetch("clay", Notes(), from_file=model / "model.safetensors", force=True)
    (tmp_path / "run").mkdir()
    model.rename(tmp_path / "run" / "model")
    fetch.fetch("clay", Notes(), from_file=tmp_path / "run", force=True)
    assert hub.requests == []


@pytest.mark.usefixtures("entry")
def test_from_a_folder_with_other_files(hub: HubServer, model: Path) -> None:
    path = model / "discriminators.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ModelError, match=r"discriminators\.safetensors: expected .* bytes with sha256 .*, found"):
        fetch.fetch("clay", Notes(), from_file=model)
    path.unlink()
    with pytest.raises(ModelError, match="can't be read"):
        fetch.fetch("clay", Notes(), from_file=model)
    assert not store_path("clay").exists()
    assert hub.requests == []


@pytest.mark.usefixtures("entry")
def test_from_a_folder_whose_links_lead_out(hub: HubServer, model: Path, tmp_path: Path) -> None:
    path = model / "model.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="a link that leads out of its folder"):
        fetch.fetch("clay", Notes(), from_file=model)
    assert not store_path("clay").exists()
    assert hub.requests == []


def test_a_plan(hub: HubServer, entry: Entry, model: Path, tmp_path: Path) -> None:
    for name in ("clay", "me/clay"):
        plan = fetch.preview(name, Notes(), to=tmp_path / "here")
        assert {file.name: file.size for file in plan.files} == {n: len(data) for n, data in contents(model).items()}
        assert plan.to_download == entry.download_size
    assert hub.bytes_sent() == 0
    with pytest.raises(OutputError):
        fetch.preview("clay", Notes(), to=model)
    fetch.fetch("clay", Notes())
    assert fetch.preview("clay", Notes()).to_download == 0
    assert fetch.preview("clay", Notes(), force=True).to_download == entry.download_size


def test_a_manifest_that_promises_something_else(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {**entry.files, "config.json": FileRecord(10, "0" * 64)}
    know(dataclasses.replace(entry, files=wrong), tmp_path, monkeypatch)
    for call in (fetch.preview, fetch.fetch):
        with pytest.raises(ModelError, match=r"config\.json: expected 10 bytes, the Hub has"):
            call("clay", Notes())

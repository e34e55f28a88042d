"""Models from a Hub on loopback: fetched, checked, used without it; official checkpoints converted."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests import tiny
from tests.fetched import contents, flip
from tests.hub_api import Answer, Call
from tests.hub_client import Notes, altered
from tests.hub_server import HubServer
from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ModelError
from ugatit_cli.remote import hub_download
from ugatit_cli.remote.hub import HubId, RemoteFile
from ugatit_cli.remote.patience import Listener
from ugatit_cli.weights import fetch, home
from ugatit_cli.weights.fetch import find_model


def test_a_model_is_fetched_whole_and_nothing_else(hub: HubServer, model: Path) -> None:
    (model / "README.md").write_text("# Clay")
    more = dict.fromkeys(("pytorch_model.bin", "modeling.py", "samples.png", "a/config.json"), b"{}")
    commit = hub.add("me/clay", contents(model) | more)
    notes = Notes()
    fetched = fetch.fetch("me/clay", notes)
    assert contents(fetched.path) == contents(model)
    assert fetched.path.name == commit
    assert fetched.discriminators is not None
    assert notes.notes == [f"fetching me/clay at {commit[:12]}"]
    assert notes.received == sum(len(data) for data in contents(model).values())
    assert not [request.path for request in hub.requests if any(name in request.path for name in more)]
    receipt = home.load("me/clay")
    assert receipt is not None
    assert (receipt.repository, receipt.commit, receipt.folder) == ("me/clay", commit, fetched.path)
    assert receipt.damage() == []
    assert set(receipt.files) == set(contents(model))


def test_once_fetched_it_needs_no_hub(hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="me/clay is not on this machine, and HF_HUB_OFFLINE forbids"):
        find_model("me/clay", Notes())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert hub.requests == []
    hub.add("me/clay", model)
    first = find_model("me/clay", Notes())
    asked = len(hub.requests)
    notes = Notes()
    assert find_model("me/clay", notes) == first
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model("me/clay", notes) == first
    # And a user who lost the receipts, but not the cache, isn't lost.
    home.remove("me/clay")
    assert find_model("me/clay", notes) == first
    assert len(hub.requests) == asked
    assert notes.received == 0
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids"):
        fetch.fetch("me/clay", Notes(), force=True)


def test_fetching_again_brings_the_newest_or_everything_use_does_not(
    hub: HubServer, model: Path, tmp_path: Path
) -> None:
    hub.add("me/clay", model)
    first = find_model("me/clay", Notes())
    sent, notes = hub.bytes_sent(), Notes()
    fetch.fetch("me/clay", notes)
    assert hub.bytes_sent() == sent
    assert notes.notes == [f"checking me/clay at {first.path.name[:12]}"]
    fetch.fetch("me/clay", Notes(), force=True)
    assert hub.bytes_sent() == 2 * sent
    second = hub.add("me/clay", tiny.save(tmp_path / "other", tiny.LIGHT))
    assert find_model("me/clay", Notes()) == first
    newest = fetch.fetch("me/clay", Notes())
    assert newest.path.name == second
    assert find_model("me/clay", Notes()).path == newest.path
    old = fetch.fetch(f"me/clay@{first.path.name}", Notes())
    assert old.path == first.path


def test_files_that_changed_on_disk(hub: HubServer, model: Path) -> None:
    hub.add("me/clay", model)
    path = fetch.fetch("me/clay", Notes()).weights.resolve()
    os.utime(path, ns=(1, 1))
    assert find_model("me/clay", Notes()).weights.resolve() == path  # only touched
    flip(path)
    with pytest.raises(ModelError, match=r"damaged: expected sha256 .*, found ") as caught:
        find_model("me/clay", Notes())
    assert caught.value.hint == "Fetch it again: ugatit fetch me/clay"
    notes = Notes()
    fetch.fetch("me/clay", notes)
    assert "damaged" in notes.notes[1]
    assert contents(find_model("me/clay", Notes()).path) == contents(model)


def config_text(**changes: object) -> bytes:
    return json.dumps({"format": 1, "model": ModelConfig().to_dict() | changes}).encode()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (None, "is not a ugatit model: it has no config.json"),
        (b'{"architectures": ["Bert"]}', "not a ugatit model config"),
        (b"not json", "can't be read"),
        (b" " * (2 << 20), "config.json has 2,097,152 bytes"),
        (config_text(channels=10**6), "channels is 1000000; it must be from 1 to 1024"),
        (config_text(image_size=10**9), "image_size"),
        (config_text(), "its config asks for"),
        (config_text(channels=1024, variant="full", image_size=4096), "its config asks for"),
        (b'{"format": 99, "model": {}}', "written by a newer ugatit"),
    ],
)
def test_what_has_no_sound_config_is_refused_before_the_weights_come(
    hub: HubServer, model: Path, config: bytes | None, text: str
) -> None:
    files = contents(model) | {"pytorch_model.bin": b"x"}
    hub.add("me/clay", files | {"config.json": config} if config else {"pytorch_model.bin": b"x"})
    with pytest.raises(ModelError) as caught:
        find_model("me/clay", Notes())
    assert text in caught.value.message
    assert "me/clay" in caught.value.message
    assert hub.bytes_sent(".safetensors") == 0


def test_weights_of_another_model(hub: HubServer, model: Path, tmp_path: Path) -> None:
    other = tiny.save(tmp_path / "other", tiny.FULL)
    hub.add("me/clay", contents(model) | {"model.safetensors": (other / "model.safetensors").read_bytes()})
    with pytest.raises(ModelError, match=r"its config asks for|doesn't fit its config"):
        find_model("me/clay", Notes())
    assert home.load("me/clay") is None


def test_all_files_are_of_one_commit(hub: HubServer, model: Path, tmp_path: Path) -> None:
    """Also if the branch moves on in between."""
    commit, other = hub.add("me/clay", model), tiny.save(tmp_path / "other", tiny.FULL)

    def moving(call: Call, answer: Answer) -> Answer:
        if call.path.endswith("config.json"):
            hub.add("me/clay", other)
        return answer

    with altered(hub, moving):
        fetched = fetch.fetch("me/clay", Notes())
    assert fetched.path.name == commit
    assert contents(fetched.path) == contents(model)


def test_a_home_that_cannot_be_written(hub: HubServer, model: Path, tmp_path: Path) -> None:
    hub.add("me/clay", model)
    (tmp_path / "home").write_bytes(b"a file")
    notes = Notes()
    assert contents(find_model("me/clay", notes).path) == contents(model)
    assert "each use will check the model again" in notes.notes[-1]
    assert contents(find_model("me/clay", Notes()).path) == contents(model)


def test_a_size_that_the_hub_does_not_tell(hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/clay", model)
    locate = hub_download.locate

    def untold(identity: HubId, name: str, listener: Listener) -> RemoteFile | None:
        found = locate(identity, name, listener)
        return replace(found, size=None) if found is not None else None

    monkeypatch.setattr(hub_download, "locate", untold)
    with pytest.raises(ModelError, match=r"me/clay: model\.safetensors has a size that the Hub doesn't tell"):
        find_model("me/clay", Notes())
    assert hub.bytes_sent("model.safetensors") == 0

"""What `--model` finds: the store, the manifest, folders; and what it says when it finds nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hub_client import Notes
from tests.hub_server import HubServer
from ugatit_cli.config import DIRECTIONS, ModelConfig
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.nn.generator import Generator
from ugatit_cli.weights.catalog import known_models
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import save_model
from ugatit_cli.weights.home import store_folder, store_path
from ugatit_cli.weights.hub_cache import digest_of
from ugatit_cli.weights.manifest import FileRecord, entry_toml, read_manifest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and an empty folder to stand in."""
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def make(folder: Path, domain: str) -> Path:
    """A model whose second domain tells which one it is."""
    config = ModelConfig(domain_b=domain, channels=1, blocks=0)
    state = Generator(config).state_dict()
    save_model(folder, config, {f"{d}.{name}": tensor for d in DIRECTIONS for name, tensor in state.items()})
    return folder


def test_store_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_folder() == home / "models"
    assert store_path("my-model_1.0") == home / "models" / "my-model_1.0"
    monkeypatch.setenv("UGATIT_HOME", "~/u")
    assert store_folder() == Path.home() / "u" / "models"
    monkeypatch.delenv("UGATIT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "xdg"))
    assert store_folder() == home / "xdg" / "ugatit" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert store_folder() == Path.home() / ".local/share/ugatit/models"
    monkeypatch.setenv("UGATIT_HOME", "")
    assert store_folder() == Path.home() / ".local/share/ugatit/models"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-x", "a b", "ü", "a\n", "x" * 101]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="not a model name"):
        store_path(name)


def test_the_default_model_is_there() -> None:
    model = find_model("flat2clay")
    entry = read_manifest()["flat2clay"]
    assert (model.config.domain_a, model.config.domain_b) == entry.domains
    assert model.config.image_size == entry.image_size


def test_the_store_wins_over_the_manifest_and_folders(home: Path) -> None:
    make(Path("flat2clay"), "folder")
    assert find_model("flat2clay").config.domain_b == read_manifest()["flat2clay"].domains[1]
    make(home / "models" / "flat2clay", "stored")
    assert find_model("flat2clay").config.domain_b == "stored"
    assert find_model("./flat2clay").config.domain_b == "folder"
    assert find_model(str(Path("flat2clay").absolute())).config.domain_b == "folder"


def test_a_name_in_the_store(home: Path) -> None:
    make(home / "models" / "mine", "stored")
    assert find_model("mine").path == home / "models" / "mine"


def test_a_damaged_model_in_the_store_is_not_passed_over(home: Path) -> None:
    (home / "models" / "flat2clay").mkdir(parents=True)
    with pytest.raises(ModelError, match="no such file") as caught:
        find_model("flat2clay")
    assert str(home) in caught.value.message


@pytest.mark.parametrize("name", ["model", "./model", "deep/model", "with space", "model/model.safetensors"])
def test_folders_and_files(name: str) -> None:
    make(Path(name.removesuffix("/model.safetensors")), "folder")
    assert find_model(name).config.domain_b == "folder"


def test_a_folder_below_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    make(tmp_path / "m", "home")
    assert find_model("~/m").config.domain_b == "home"


def test_a_model_that_nobody_has_published_tells_how_to_make_it() -> None:
    entry = read_manifest()["horse2zebra"]
    with pytest.raises(ModelError, match="nobody has published weights of horse2zebra") as caught:
        find_model("horse2zebra")
    assert caught.value.hint == entry.instructions.strip()
    assert "ugatit train" in caught.value.hint
    assert caught.value.exit_code == 3


def test_an_import_without_a_repository_tells_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(read_manifest()["selfie2anime"], name="portraits", repository="", files={})
    (tmp_path / "weights.toml").write_text("schema = 1\n" + entry_toml(entry), encoding="utf-8")
    monkeypatch.setenv("UGATIT_MANIFEST", str(tmp_path / "weights.toml"))
    with pytest.raises(ModelError, match="the weights of portraits are not on this machine") as caught:
        find_model("portraits")
    assert caught.value.hint == entry.instructions.strip()
    assert caught.value.exit_code == 3


def test_a_hub_id(hub: HubServer, tmp_path: Path) -> None:
    first = hub.add("me/clay", make(tmp_path / "model", "first"))
    second = hub.add("me/clay", make(tmp_path / "newer", "second"))
    notes = Notes()
    assert find_model("me/clay", notes).config.domain_b == "second"
    assert find_model(f"me/clay@{first}", notes).config.domain_b == "first"
    assert notes.notes == [f"fetching me/clay at {second[:12]}", f"fetching me/clay@{first} at {first[:12]}"]


def test_a_folder_wins_over_a_hub_id(hub: HubServer) -> None:
    make(Path("me/clay"), "folder")
    assert find_model("me/clay").config.domain_b == "folder"
    assert hub.requests == []


@pytest.mark.parametrize("name", ["selfie2anime", "horse2zebra"])
def test_a_folder_of_that_name_wins_only_with_a_model_in_it(hub: HubServer, name: str) -> None:
    """Whoever trains horse2zebra has a folder of pictures of that name."""
    (Path(name) / "trainA").mkdir(parents=True)
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert "config.json" not in caught.value.message
    make(Path(name) / "model", "run")
    assert find_model(name).config.domain_b == "run"
    assert not hub.bytes_sent()


def test_no_name(hub: HubServer) -> None:
    for path in make(Path("m"), "here").iterdir():
        path.rename(path.name)
    with pytest.raises(UsageError, match="no name"):
        find_model("")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["./me/clay", "/me/clay", "../me/clay", "me/clay/", "a/b/c", "me//clay", "~/clay"])
def test_paths_are_never_asked_for_on_the_hub(hub: HubServer, name: str) -> None:
    with pytest.raises(ModelError, match="no model"):
        find_model(name)
    assert hub.requests == []


def test_neither_a_folder_nor_a_hub_id(hub: HubServer) -> None:
    with pytest.raises(ModelError, match=r"no folder me/clay here; http.* has no repository me/clay") as caught:
        find_model("me/clay")
    assert hub.url in caught.value.message


def test_a_model_on_the_hub_that_the_manifest_names(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "model", "published")
    commit = hub.add("me/clay", folder)
    digests = {path.name: digest_of(path) for path in folder.iterdir()}
    entry = replace(
        read_manifest()["selfie2anime"],
        name="clay",
        source="hub",
        repository="me/clay",
        revision=commit,
        files={name: FileRecord(digest.size, digest.sha256) for name, digest in digests.items()},
        instructions="",
    )
    (tmp_path / "weights.toml").write_text("schema = 1\n" + entry_toml(entry), encoding="utf-8")
    monkeypatch.setenv("UGATIT_MANIFEST", str(tmp_path / "weights.toml"))
    make(Path("clay"), "folder")
    assert find_model("clay").config.domain_b == "published"
    asked = len(hub.requests)
    assert find_model("clay").config.domain_b == "published"
    assert len(hub.requests) == asked


def test_an_imported_model(home: Path) -> None:
    make(home / "models" / "selfie2anime", "anime")
    assert find_model("selfie2anime").config.domain_b == "anime"


@pytest.mark.parametrize(
    ("name", "near"), [("flat2cley", "flat2clay"), ("selfie2anima", "selfie2anime"), ("minee", "mine")]
)
def test_a_near_miss(home: Path, name: str, near: str) -> None:
    make(home / "models" / "mine", "stored")
    with pytest.raises(ModelError, match=f"no model '{name}'") as caught:
        find_model(name)
    assert str(home / "models") in caught.value.message
    assert f"Did you mean {near}?" in caught.value.hint


@pytest.mark.parametrize("name", ["zzzzzz", "./nothing", "/nothing/at/all", "a b"])
def test_nothing_near(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert repr(name) in caught.value.message
    assert caught.value.hint.startswith("Known models: ")
    assert "flat2clay" in caught.value.hint


def test_known_models(home: Path) -> None:
    assert known_models() == sorted(read_manifest())
    for name in ("zebra", "flat2clay", ".zebra.tmp"):
        (home / "models" / name).mkdir(parents=True)
    (home / "models" / "file").touch()
    assert known_models() == sorted({*read_manifest(), "zebra"})


def test_a_store_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(store_folder())):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        store_path("x").is_dir()
    assert "flat2clay" in known_models()
    assert find_model("flat2clay").config.domain_b == "clay"


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(ModelError, match="no model"):
        find_model("x" * 5000)

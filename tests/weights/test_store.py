"""What `--model` finds: the store, the manifest, folders; and what it says when it finds nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ugatit_cli.checkpoint import save_model
from ugatit_cli.config import DIRECTIONS, ModelConfig
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.nn.generator import Generator
from ugatit_cli.weights.manifest import read_manifest
from ugatit_cli.weights.store import DEFAULT_MODEL, find_model, known_models, store_folder, store_path


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
    model = find_model(DEFAULT_MODEL)
    entry = read_manifest()[DEFAULT_MODEL]
    assert (model.config.domain_a, model.config.domain_b) == entry.domains
    assert model.config.image_size == entry.image_size


def test_the_store_wins_over_the_manifest_and_folders(home: Path) -> None:
    make(Path(DEFAULT_MODEL), "folder")
    assert find_model(DEFAULT_MODEL).config.domain_b == read_manifest()[DEFAULT_MODEL].domains[1]
    make(home / "models" / DEFAULT_MODEL, "stored")
    assert find_model(DEFAULT_MODEL).config.domain_b == "stored"
    assert find_model(f"./{DEFAULT_MODEL}").config.domain_b == "folder"
    assert find_model(str(Path(DEFAULT_MODEL).absolute())).config.domain_b == "folder"


def test_a_name_in_the_store(home: Path) -> None:
    make(home / "models" / "mine", "stored")
    assert find_model("mine").path == home / "models" / "mine"


def test_a_damaged_model_in_the_store_is_not_passed_over(home: Path) -> None:
    (home / "models" / DEFAULT_MODEL).mkdir(parents=True)
    with pytest.raises(ModelError, match="no such file") as caught:
        find_model(DEFAULT_MODEL)
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


def test_an_import_entry_tells_how_to_get_it() -> None:
    entry = read_manifest()["selfie2anime"]
    with pytest.raises(ModelError, match="weights of selfie2anime are not on this machine") as caught:
        find_model("selfie2anime")
    assert caught.value.hint == entry.instructions.strip()
    assert "ugatit convert" in caught.value.hint
    assert caught.value.exit_code == 3


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
    assert DEFAULT_MODEL in caught.value.hint


def test_known_models(home: Path) -> None:
    assert known_models() == sorted(read_manifest())
    for name in ("zebra", DEFAULT_MODEL, ".zebra.tmp"):
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

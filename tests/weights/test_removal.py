"""Removing models: what goes, what stays, and what a killed removal leaves."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fetched import Aloud, fetched, say, stored
from tests.hub_client import Notes
from tests.weights.test_catalog import COMMIT, checkpoint
from ugatit_cli.errors import ModelError, OutputError, UsageError
from ugatit_cli.leftovers import sweep
from ugatit_cli.remote import hub_download
from ugatit_cli.weights import home
from ugatit_cli.weights.catalog import known
from ugatit_cli.weights.home import BUNDLED, store_folder, store_path
from ugatit_cli.weights.manifest import read_manifest
from ugatit_cli.weights.removal import removal, remove

pytestmark = pytest.mark.usefixtures("cache")
OTHER = "f" * 40


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def below(folder: Path) -> list[str]:
    """All files and links, without the locks that lie beside repositories."""
    paths = (path for path in folder.rglob("*") if not path.is_dir() and ".locks" not in path.parts)
    return sorted(path.relative_to(folder).as_posix() for path in paths)


# --- The store -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [False, True])
def test_a_model_in_the_store(damaged: bool) -> None:
    say(stored("other", receipt=False), made_by="others")
    home.save(home.of_folder("other", store_path("other"), ["config.json"]))
    folder = stored("mine", receipt=not damaged)
    if damaged:
        (folder / "config.json").write_text("{")
        (folder / "notes").mkdir()
        (folder / "notes" / "my.txt").write_text("text")
    expected = size(folder)
    file = home.exported(folder, "b2a")
    for path in (file, file.with_name("of-another.onnx")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"onnx")
    removed = removal(known("mine"))
    expected += 4
    assert (removed.places, removed.size, removed.also) == ((folder,), expected, ())
    assert folder.is_dir()
    assert remove(removed) == expected
    assert os.listdir(store_folder()) == ["other"]  # noqa: PTH208  # hidden names, too
    assert [path.name for path in file.parent.iterdir()] == ["of-another.onnx"]
    assert [receipt.key for receipt in home.load_all()] == ["other"]
    with pytest.raises(ModelError, match="no model 'mine'"):
        known("mine")


@pytest.mark.parametrize("twin", ["bundled", "stored", "fetched"])
def test_what_was_exported_stays_for_another_model_that_is_the_same(cache: Path, twin: str) -> None:
    bundled = BUNDLED / "flat2clay"
    folder = shutil.copytree(bundled, store_path("mine")) if twin == "bundled" else stored("mine")
    if twin == "stored":
        stored("other")
    elif twin == "fetched":
        fetched(cache, folder, "ann/cats", COMMIT)
    file = home.exported(folder, "a2b")
    file.parent.mkdir()
    file.write_bytes(b"onnx")
    expected = size(folder)
    assert remove(removal(known("mine"))) == expected
    assert file.is_file()
    if twin == "stored":  # with the last one it goes
        remove(removal(known("other")))
        assert not file.exists()


def test_a_removal_that_fails_or_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    folder = stored("mine")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OutputError, match="mine: can't be written"):
            remove(removal(known("mine")))
    assert known("mine").state == "ready"
    assert home.load("mine") is not None
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(removal(known("mine")))
    assert not folder.exists()
    assert home.load_all() == []
    assert len(list(store_folder().iterdir())) == 1
    sweep(store_folder(), alone=True)
    assert list(store_folder().iterdir()) == []
    stored("mine")
    (store_folder() / ".cats.x1y2.tmp").mkdir()  # another program's unfinished model
    remove(removal(known("mine")))
    assert [path.name for path in store_folder().iterdir()] == [".cats.x1y2.tmp"]


def test_a_link_in_the_store(model: Path) -> None:
    store_folder().mkdir(parents=True)
    store_path("linked").symlink_to(model)
    removed = removal(known("linked"))
    assert removed.size == 0
    remove(removed)
    assert list(store_folder().iterdir()) == []
    assert (model / "model.safetensors").is_file()


def test_what_is_not_ours_to_remove(model: Path) -> None:
    with pytest.raises(UsageError, match="flat2clay comes with the package"):
        removal(known("flat2clay"))
    with pytest.raises(UsageError, match="a folder of your own"):
        removal(known("./made"))
    assert model.is_dir()
    for name in ("selfie2anime-full", "photo2portrait"):
        with pytest.raises(ModelError):
            removal(known(name))
    # In the user's store, a bundled name is one as any other.
    stored("flat2clay")
    remove(removal(known("flat2clay")))
    assert known("flat2clay").folder == BUNDLED / "flat2clay"


# --- The Hub's cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [False, True])
def test_a_fetched_model(cache: Path, model: Path, tmp_path: Path, linked: bool) -> None:
    if linked:
        (tmp_path / "real").mkdir()
        cache.symlink_to(tmp_path / "real")
    receipt = fetched(cache, model, "ann/cats", COMMIT)
    fetched(cache, model, "bob/cats", COMMIT)  # a copy of the repository has the same commits
    stored("mine")
    others = below(cache / "models--bob--cats")
    removed = removal(known("ann/cats"))
    assert (removed.places, removed.size) == ((receipt.folder,), size(model))
    assert remove(removed) == size(model)
    assert not (cache / "models--ann--cats").exists()
    assert below(cache / "models--bob--cats") == others
    assert [one.key for one in home.load_all()] == ["bob/cats", "mine"]
    assert known("bob/cats").state == known("mine").state == "ready"


def test_only_one_commit_of_several(cache: Path, model: Path) -> None:
    old = fetched(cache, model, "ann/cats", COMMIT, f"ann/cats@{COMMIT}", branch="")
    (model / "README.md").write_text("new")
    fetched(cache, model, "ann/cats", OTHER)
    removed = removal(known("ann/cats"))
    assert removed.size == 3  # all but the card is in both
    assert remove(removed) == 3
    assert known(f"ann/cats@{COMMIT}").state == "ready"
    assert old.damage() == []
    assert [path.name for path in (cache / "models--ann--cats" / "snapshots").iterdir()] == [COMMIT]
    assert below(cache / "models--ann--cats" / "refs") == []


def test_a_fetch_that_goes_on_ends_first(cache: Path, model: Path) -> None:
    folder, listener = fetched(cache, model, "ann/cats", COMMIT).folder, Aloud()
    thread = threading.Thread(target=remove, args=(removal(known("ann/cats")), listener))
    with hub_download.locked("ann/cats", Notes()):
        thread.start()
        assert listener.heard.wait(10)
        assert known("ann/cats").state == "ready"
    thread.join()
    assert listener.notes == ["another ugatit is fetching ann/cats; waiting for it"]
    assert not folder.exists()
    assert home.load_all() == []


@pytest.mark.parametrize("kind", ["blob", "link", "all links"])
def test_a_damaged_model_in_the_cache(cache: Path, model: Path, kind: str) -> None:
    receipt = fetched(cache, model, "ann/cats", COMMIT)
    links = sorted(receipt.folder.iterdir())
    for link in links if kind == "all links" else links[:1]:
        (link.resolve() if kind == "blob" else link).unlink()
    remove(removal(known("ann/cats")))
    assert home.load_all() == []
    assert not (cache / "models--ann--cats").exists()


def test_a_removal_from_the_cache_that_is_killed(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched(cache, model, "ann/cats", COMMIT)

    def killed(_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(home, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(removal(known("ann/cats")))
    assert known("ann/cats").state == "not fetched"
    assert remove(removal(known("ann/cats"))) == 0
    assert home.load_all() == []


def test_nothing_outside_of_the_cache_goes(cache: Path, model: Path, tmp_path: Path) -> None:
    precious = shutil.copytree(model, tmp_path / "precious")
    before = below(precious)
    home.save(home.of_folder("bob/dogs", precious, ["config.json"], "bob/dogs", COMMIT))
    with pytest.raises(OutputError):
        remove(removal(known("bob/dogs")))
    link = fetched(cache, model, "ann/cats", COMMIT).folder / "config.json"
    link.unlink()
    link.symlink_to(precious / "config.json")
    remove(removal(known("ann/cats")))
    assert not (cache / "models--ann--cats").exists()
    assert below(precious) == before


# --- Imports -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("converted", [True, False])
def test_an_import_goes_with_its_checkpoint(cache: Path, converted: bool) -> None:
    receipt = checkpoint(cache, read_manifest()["selfie2anime-full"])
    folders = (stored("selfie2anime-full"),) if converted else ()
    for folder in folders:
        say(folder, repository=receipt.repository)
    expected = sum(map(size, folders)) + sum(stamp.size for stamp in receipt.files.values())
    removed = removal(known("selfie2anime-full"))
    assert removed.places == (*folders, receipt.folder)
    assert remove(removed) == expected
    assert not store_path("selfie2anime-full").exists()
    assert below(cache) == []
    assert home.load_all() == []

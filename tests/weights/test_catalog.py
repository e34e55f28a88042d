"""Names and the catalog: what `--model` means, what is here, and what is no longer what it was."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.fetched import fetched, flip, say, stored
from tests.hub_client import Notes
from ugatit_cli.errors import ModelError, ModelMissing, UsageError
from ugatit_cli.remote.hub import HubId
from ugatit_cli.remote.records import FileRecord
from ugatit_cli.weights import catalog, home
from ugatit_cli.weights.catalog import argument_for, known, known_models, resolve
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.hashes import sums_text
from ugatit_cli.weights.home import BUNDLED, Receipt, store_folder, store_path
from ugatit_cli.weights.known import Known, checkpoint_key, checkpoint_of, verify
from ugatit_cli.weights.manifest import Entry, entry_toml, read_manifest

pytestmark = pytest.mark.usefixtures("cache")
COMMIT = "0123456789" * 4
PINNED = f"ann/cats@{COMMIT}"


def hub_entry(monkeypatch: pytest.MonkeyPatch, folder: Path, **other_files: FileRecord) -> Entry:
    """The user's manifest says that `cats` is this folder, but for these files."""
    receipt = home.of_folder("x", folder, sorted(path.name for path in folder.iterdir()))
    records = {name: FileRecord(stamp.size, stamp.sha256) for name, stamp in receipt.files.items()}
    facts = ("Cats", ("flat", "clay"), 32, "MIT", "pictures")
    entry = Entry("cats", *facts, "hub", "ann/cats", COMMIT, {**records, **other_files})
    path = Path("weights.toml").absolute()
    path.write_text("schema = 1\n" + entry_toml(entry), encoding="utf-8")
    monkeypatch.setenv("UGATIT_MANIFEST", str(path))
    return entry


def listed() -> dict[str, Known]:
    return {one.name: one for one in catalog.catalog()}


def checkpoint(cache: Path, entry: Entry) -> Receipt:
    """An import's checkpoint in the cache, as `fetch_checkpoint` leaves it."""
    files = cache.parent / "checkpoint"
    for name in entry.files:
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(b"weights of " + name.encode())
    return fetched(cache, files, entry.repository, COMMIT, checkpoint_key(entry))


# --- What there is -------------------------------------------------------------------------------------


def test_models_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored("zebra")
    stored("cats", discriminators=True)
    (folder.parent / ".hidden").mkdir()
    (folder.parent / "file").touch()
    found = listed()
    assert list(found)[-2:] == ["cats", "zebra"]
    assert (found["zebra"].kind, found["zebra"].state, found["zebra"].folder) == ("store", "ready", folder)
    assert found["cats"].files == ("config.json", "model.safetensors", "discriminators.safetensors")
    with monkeypatch.context() as patch:  # nothing of it needs torch, which takes a second and a half to import
        patch.setitem(sys.modules, "ugatit_cli.weights.folder", None)
        assert listed() == found
    (tmp_path / "home").rename(tmp_path / "elsewhere")  # receipts go with the store
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "elsewhere"))
    assert verify(known("zebra")).problem == ""
    assert len(known("zebra").recorded) == 2


def test_models_from_the_hub(cache: Path, model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: mit # as the code\n---\n# Cats")
    receipt = fetched(cache, model, "ann/cats", COMMIT)
    assert list(listed()) == [*read_manifest(), "ann/cats"]
    assert known("ann/cats") == known("ann/cats@main") == listed()["ann/cats"]
    assert known("ann/cats").fact("licence") == "mit"
    with pytest.raises(ModelError, match="nothing fetched from the Hub as ann/cats@v2") as caught:
        known("ann/cats@v2")
    assert "ugatit fetch ann/cats@v2" in caught.value.hint
    shutil.rmtree(cache)
    one = listed()["ann/cats"]
    assert (one.state, one.folder, one.next_step) == ("not fetched", None, ("Fetch it", "ugatit fetch ann/cats"))
    assert one.size == sum(stamp.size for stamp in receipt.files.values())
    with pytest.raises(ModelError, match="ann/cats is not on this machine"):
        verify(one)


def test_an_entry_and_what_was_fetched_for_it_are_one(
    cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = hub_entry(monkeypatch, model)
    before = listed()["cats"]
    size = sum(path.stat().st_size for path in model.iterdir())
    assert (before.state, before.folder, before.size, before.commit) == ("not fetched", None, size, "")
    assert str(before.hub) == PINNED
    fetched(cache, model, "ann/cats", COMMIT, PINNED)
    after = listed()
    assert list(after) == list(read_manifest())
    assert (after["cats"].state, after["cats"].entry, after["cats"].size) == ("ready", entry, size)
    assert known(PINNED).name == PINNED


def test_a_model_of_the_users_own_under_a_known_name() -> None:
    for name in ("flat2clay", "photo2portrait"):
        stored(name)
        one = listed()[name]
        # The manifest's licence is about other weights.
        assert (one.kind, one.state, one.entry, one.fact("licence")) == ("store", "ready", None, None)


def test_an_imported_model_keeps_the_facts_of_its_entry(cache: Path) -> None:
    entry = read_manifest()["selfie2anime-full"]
    receipt = checkpoint(cache, entry)
    assert (known("selfie2anime-full").state, checkpoint_of(known("selfie2anime-full"))) == ("not fetched", receipt)
    assert list(listed()) == list(read_manifest())
    shutil.rmtree(cache)
    assert checkpoint_of(known("selfie2anime-full")) is None
    config = stored("selfie2anime-full") / "config.json"
    provenance = {"repository": "hylee/UGATIT_model", "commit": COMMIT}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"provenance": provenance}))
    one = known("selfie2anime-full")
    assert (one.kind, one.entry, one.domains, one.commit) == ("store", entry, ("flat", "clay"), COMMIT)
    assert str(one.hub) == f"hylee/UGATIT_model@{COMMIT}"


# --- Names ---------------------------------------------------------------------------------------------

FOLDER, STORE, FETCHED = "a folder", "the store", "the Hub's cache"
WINNERS = [
    # Name, where there are models of that name, and the kind of source that wins.
    ("flat2clay", (), "bundled"),
    ("flat2clay", (FOLDER,), "bundled"),
    ("flat2clay", (FOLDER, STORE), "store"),
    ("./flat2clay", (FOLDER, STORE), "folder"),
    ("cats", (FOLDER, FETCHED), "hub"),  # the manifest's
    ("cats", (STORE, FETCHED), "store"),
    ("mine", (STORE, FOLDER), "store"),
    ("mine", (FOLDER,), "folder"),
    ("with space", (FOLDER,), "folder"),
    ("selfie2anime-full", (FOLDER,), "folder"),
    ("selfie2anime-full", (STORE, FOLDER), "store"),
    ("photo2portrait", (FOLDER,), "folder"),
    ("ann/cats", (FETCHED,), "hub"),
    ("ann/cats", (FOLDER, FETCHED), "folder"),
    (f"ann/cats@{COMMIT}", (FETCHED,), "hub"),
]


@pytest.mark.parametrize(("name", "places", "kind"), WINNERS)
def test_which_of_several_models_a_name_means(
    cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch, name: str, places: tuple[str, ...], kind: str
) -> None:
    """Whatever `resolve` says is what is shown, and what is used."""
    hub_entry(monkeypatch, model)
    if STORE in places:
        stored(name.removeprefix("./"))
    if FOLDER in places:
        shutil.copytree(model, name)
    if FETCHED in places:
        fetched(cache, model, "ann/cats", COMMIT, PINNED)
        fetched(cache, model, "ann/cats", COMMIT)
    source, shown, used = resolve(name), known(name), find_model(name)
    assert (source.kind, shown.kind, shown.folder) == (kind, kind, used.path)
    assert source.path in (None, used.path)


def test_where_it_could_be_fetched_from_is_known_even_if_it_is_here(model: Path) -> None:
    shutil.copytree(model, "ann/cats")
    stored("selfie2anime-full")
    stored("mine")
    assert resolve("ann/cats").origin == HubId("ann/cats")
    assert resolve("selfie2anime-full").origin == read_manifest()["selfie2anime-full"]
    assert resolve("mine").origin is resolve("made").origin is None


def test_what_begins_with_a_folder_is_not_asked_for_on_the_hub() -> None:
    Path("runs/kept").mkdir(parents=True)
    with pytest.raises(ModelMissing, match="runs/keep: there is no such run") as caught:
        resolve("runs/keep")
    assert "runs/kept? " in caught.value.hint
    assert resolve("runs/keep@main").origin == HubId("runs/keep")


def test_a_folder_of_a_known_name_wins_only_with_a_model_in_it(model: Path) -> None:
    """Whoever trains photo2portrait has a folder of pictures of that name."""
    Path("photo2portrait/trainA").mkdir(parents=True)
    assert resolve("photo2portrait").kind == "train"
    shutil.copytree(model, "photo2portrait/model")
    assert (resolve("photo2portrait").kind, find_model("photo2portrait").path) == (
        "folder",
        Path("photo2portrait/model"),
    )


def test_a_model_folder_that_a_name_does_not_mean_is_named() -> None:
    tiny.save(store_path("clay"))
    tiny.save(Path("mine"))
    assert argument_for(Path("mine")) == "mine"
    notes = Notes()
    for name in ("clay", "flat2clay"):
        Path(name).mkdir()
        assert find_model(name, notes).path != Path(name)
        assert notes.notes == []  # of pictures, say
        tiny.save(Path(name, "model"))
        other = find_model(name, notes)
        (said,) = notes.notes
        assert said.endswith(f" {argument_for(Path(name))}")
        assert find_model(argument_for(Path(name)), quiet := Notes()).path == Path(name, "model") != other.path
        assert not [text for text in quiet.notes if "the folder that is here" in text]
        notes.notes.clear()


def test_folders_need_no_manifest_of_the_package(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugatit_cli.weights.tables.FILE", "nothing.toml")
    assert find_model(model.name).path == Path(model.name)


BROKEN = [
    "schema = 1\n[models.cats",
    "schema = 7",
    '[models]\ncats = "x"\n[surprise]',
    "schema = 1\n[models.cats]\nsize = 1",
]


@pytest.mark.parametrize("text", [*BROKEN, None])
def test_a_broken_manifest_of_the_users_matters_to_what_it_is_about(
    text: str | None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.toml"
    if text is not None:
        own.write_text(text)
    monkeypatch.setenv("UGATIT_MANIFEST", str(own))
    stored("mine")
    (model / "SHA256SUMS").write_text(sums_text(open_model(model).hashes))
    for name in ("mine", "flat2clay", model.name):
        notes = Notes()
        assert find_model(name, notes).path == known(name).folder
        assert [str(own) in note for note in notes.notes] == [True]
    notes = Notes()
    assert {"mine", "flat2clay"} <= {one.name for one in catalog.catalog(notes)}
    assert [str(own) in note for note in notes.notes] == [True]
    stored("cats")
    assert known("cats").kind == "store"
    shutil.rmtree(home.store_path("cats"))
    for use in (resolve, known, find_model):
        with pytest.raises(ModelError) as caught:
            use("cats")
        assert (str(own) in caught.value.message) == ("cats" in (text or ""))


NOTHING = ["", "zzzz", "./nothing", "/nothing/at/all", "a b", "a/b/c", "me//clay", "me/clay/", "~/clay", "x" * 5000]


@pytest.mark.parametrize("name", NOTHING)
def test_names_of_nothing(name: str) -> None:
    for use in (resolve, known, find_model):
        with pytest.raises(ModelError if name else UsageError) as caught:
            use(name)
        assert not name or repr(name) in caught.value.message
        assert not name or str(store_folder()) in caught.value.message
        assert "ugatit models" in caught.value.hint


def test_near_misses(cache: Path, model: Path) -> None:
    stored("mine")
    cats = f"tester/a-cat@{COMMIT}"
    fetched(cache, model, "tester/a-cat", COMMIT, cats)
    checkpoint(cache, read_manifest()["selfie2anime-full"])
    meant = {"flat2cley": "flat2clay", "minee": "mine", "tester/b-cat": cats, "a-cat": cats, "testr": cats}
    for name, near in meant.items():
        with pytest.raises(ModelError) as caught:
            known(name)
        assert f"Did you mean {near}?" in caught.value.hint
    with pytest.raises(ModelError) as caught:  # nobody has published weights of photo2portrait
        known("photo2portrai")
    assert "Did you mean" not in caught.value.hint
    assert "Known models: ink2clay, flat2clay, mine," in caught.value.hint
    for name in ("vangogh2photo", "vangogh2foto"):
        with pytest.raises(ModelError) as caught:
            known(name)
        assert "ugatit data show vangogh2photo" in caught.value.hint


def test_a_store_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(store_folder())):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert set(read_manifest()) <= set(known_models())
    assert find_model("flat2clay").config.domain_b == "clay"


def test_folders_and_files(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model.parent))
    monkeypatch.setenv("USERPROFILE", str(model.parent))
    assert find_model("~/made").path == known("~/made").folder == model
    shutil.copytree(model, "run/model")
    assert known("made").folder == Path("made")
    assert known("run").folder == Path("run/model")
    assert known("made/model.safetensors").folder == Path("made")
    Path("made/discriminators.safetensors").unlink()
    Path("made/model.safetensors").rename("made/other.safetensors")
    one = known("made/other.safetensors")
    assert (one.kind, one.state, one.files) == ("folder", "ready", ("config.json", "other.safetensors"))
    assert (verify(one).problem, one.recorded) == ("", {})
    with pytest.raises(ModelError, match="no such file"):
        known("run/../..")


# --- Damage --------------------------------------------------------------------------------------------


DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-5])),
    ("model.safetensors", Path.unlink),
    ("config.json", Path.unlink),
    ("config.json", lambda path: path.write_text("{")),
    ("config.json", lambda path: path.write_text("[]")),
    ("config.json", lambda path: path.write_text(path.read_text().replace('"format": 1', '"format": 99'))),
    ("discriminators.safetensors", lambda path: path.write_bytes(b"x" * 100)),
]


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_damaged_models_are_listed(file: str, damage: Callable[[Path], object]) -> None:
    damage(stored("mine") / file)
    one = listed()["mine"]
    with pytest.raises(ModelError) as caught:
        open_model(store_path("mine"))
    assert (one.state, one.problem) == ("damaged", caught.value.message)
    assert one.next_step[1] == "ugatit models rm mine"
    assert verify(one).problem


def test_the_bundled_model_is_compared_with_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = verify(known("flat2clay"))
    assert verified.problem == ""
    assert set(verified.recorded) == set(read_manifest()["flat2clay"].files)
    shutil.copytree(BUNDLED, tmp_path / "copy")
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path / "copy")
    flip(tmp_path / "copy" / "flat2clay" / "model.safetensors")
    one = known("flat2clay")
    assert one.state == "ready"
    verified = verify(one)
    assert len(verified.problem.splitlines()) == 1
    assert verified.next_step == ("Install it again, in a checkout", "pip install --force-reinstall --no-deps .")
    (tmp_path / "copy" / "flat2clay" / "model.safetensors").unlink()
    assert known("flat2clay").problem.endswith("missing: model.safetensors")


def test_a_manifest_that_promises_something_else(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched(cache, model, "ann/cats", COMMIT, PINNED)
    hub_entry(monkeypatch, model)
    assert verify(known("cats")).problem == ""
    hub_entry(monkeypatch, model, **{"config.json": FileRecord(407, "a" * 64), "README.md": FileRecord(5, "b" * 64)})
    first, second = verify(known("cats")).problem.splitlines()
    assert first.startswith(f"config.json: expected sha256 {'a' * 64} (the manifest), found ")
    assert second == "README.md: in the manifest, but not fetched"


def test_a_users_own_model_under_an_entrys_name_is_not_what_the_entry_is_about() -> None:
    folder = stored("selfie2anime")
    assert known("selfie2anime").fact("licence") is None
    say(folder, address=read_manifest()["selfie2anime"].address)
    assert known("selfie2anime").entry == read_manifest()["selfie2anime"]

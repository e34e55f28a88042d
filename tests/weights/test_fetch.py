"""`find_model` and `ugatit fetch`: models of the Hub, the package and the user's disk; the authors' checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from tests import tiny
from tests.fetched import Aloud, contents, flip
from tests.hub_client import Notes
from tests.hub_server import Fault, HubServer
from tests.tensor_bundle_writer import write_bundle
from tests.weights.test_tensorflow import random_variables, write
from ugatit_cli.errors import ModelError, OutputError, UsageError
from ugatit_cli.methods.base import OfficialSettings
from ugatit_cli.remote import patience
from ugatit_cli.remote.records import FileRecord, digest_of
from ugatit_cli.weights import fetch, imports
from ugatit_cli.weights.catalog import known
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.home import BUNDLED, home_folder, store_path
from ugatit_cli.weights.known import verify
from ugatit_cli.weights.manifest import Entry, entry_toml, read_manifest
from ugatit_cli.weights.official import convert

Know = Callable[..., object]


@pytest.fixture
def know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Know:
    """Makes these entries the user's manifest."""
    path = tmp_path / "weights.toml"
    monkeypatch.setenv("UGATIT_MANIFEST", str(path))
    return lambda *entries: path.write_text("\n".join(["schema = 1", *map(entry_toml, entries)]), encoding="utf-8")


def record(path: Path) -> FileRecord:
    digest = digest_of(path)
    return FileRecord(digest.size, digest.sha256)


@pytest.fixture
def entry(hub: HubServer, model: Path, know: Know) -> Entry:
    """A model on the Hub that the user's manifest knows."""
    commit = hub.add("me/clay", model)
    records = {path.name: record(path) for path in sorted(model.iterdir())}
    made = Entry("clay", "Clay", ("flat", "clay"), 32, "MIT", "emoji", "hub", "me/clay", commit, records)
    know(made)
    return made


def test_a_name(hub: HubServer, entry: Entry, model: Path, tmp_path: Path) -> None:
    fetched = fetch.fetch("clay", Notes())
    assert contents(fetched.path) == contents(model)
    assert fetched.path.name == entry.revision
    asked = len(hub.requests)
    assert find_model("clay") == fetched
    assert len(hub.requests) == asked
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "picture.png").touch()
    for force in (False, True):
        with pytest.raises(OutputError, match="is not a model folder"):
            fetch.fetch("clay", Notes(), to=tmp_path / "full", force=force)
    written = fetch.fetch("clay", Notes(), to=tmp_path / "here").path
    assert {**contents(model), "SHA256SUMS": (written / "SHA256SUMS").read_bytes()} == contents(written)
    assert verify(known(str(written))).unverifiable == []
    with pytest.raises(OutputError, match="exists already") as caught:
        fetch.fetch("clay", Notes(), to=tmp_path / "here")
    assert caught.value.hint == "Name another folder, or pass --force."
    fetch.fetch("clay", Notes(), to=tmp_path / "here", force=True)


def test_a_bundled_model(hub: HubServer, tmp_path: Path) -> None:
    assert fetch.fetch("flat2clay", Notes()).path == BUNDLED / "flat2clay"
    copied = fetch.fetch("flat2clay", Notes(), to=tmp_path / "here")
    hashes = {name: record.sha256 for name, record in read_manifest()["flat2clay"].files.items() if record}
    assert known(str(copied.path)).hashes == hashes
    planned, _ = fetch.preview("flat2clay", Notes())
    assert {file.name for file in planned if file.here} == set(hashes)
    assert hub.requests == []


@pytest.mark.usefixtures("entry")
def test_a_model_of_the_users_own(hub: HubServer, model: Path) -> None:
    tiny.save(store_path("mine"))
    for name in ("mine", str(model)):
        with pytest.raises(UsageError, match="is your own"):
            fetch.fetch(name, Notes())
    assert hub.requests == []
    tiny.save(store_path("clay"))
    notes = Notes()
    fetch.fetch("clay", notes)
    assert "which wins over this one until `ugatit models rm clay`" in notes.notes[-1]


def test_from_a_folder(hub: HubServer, entry: Entry, model: Path, tmp_path: Path) -> None:
    """As on a machine without a network."""
    (model / "README.md").write_text("not in the manifest")
    installed = fetch.fetch("clay", Notes(), from_file=model)
    assert installed.path == store_path("clay")
    assert set(contents(installed.path)) == {*entry.files, "SHA256SUMS"}
    verified = verify(known("clay"))
    assert (verified.problem, verified.unverifiable) == ("", [])
    assert verified.fact("licence") == entry.licence
    with pytest.raises(OutputError, match="exists already") as caught:
        fetch.fetch("clay", Notes(), from_file=model)
    assert "--force" in caught.value.hint
    fetch.fetch("clay", Notes(), from_file=model / "model.safetensors", force=True)
    (tmp_path / "run").mkdir()
    model.rename(tmp_path / "run" / "model")
    fetch.fetch("clay", Notes(), from_file=tmp_path / "run", force=True)
    assert hub.requests == []


@pytest.mark.usefixtures("entry")
@pytest.mark.parametrize("kind", ["other", "missing", "a link that leads out"])
def test_from_a_folder_with_other_files(hub: HubServer, model: Path, tmp_path: Path, kind: str) -> None:
    path = model / "discriminators.safetensors"
    if kind == "other":
        flip(path)
    else:
        path.rename(tmp_path / "elsewhere")
        if kind == "a link that leads out":
            path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError) as caught:
        fetch.fetch("clay", Notes(), from_file=model)
    assert caught.value.message.startswith(f"{path}: ")
    assert not store_path("clay").exists()
    assert hub.requests == []


def test_a_manifest_that_promises_other_files_since(hub: HubServer, entry: Entry, know: Know, tmp_path: Path) -> None:
    find_model("clay")
    hub.add("me/clay", tiny.save(tmp_path / "newer"))
    assert find_model("clay").path.name == entry.revision
    sent = hub.bytes_sent()
    know(dataclasses.replace(entry, files={**entry.files, "model.safetensors": FileRecord(1, "0" * 64)}))
    for use in (find_model, fetch.preview, fetch.fetch):
        with pytest.raises(ModelError, match=r"me/clay: model\.safetensors: expected 1 bytes"):
            use("clay", Notes())
    assert hub.bytes_sent() == sent


# --- Official checkpoints ------------------------------------------------------------------------------

FOLDER = "UGATIT_light_cats_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing"
INDEX = f"{FOLDER}/UGATIT.model-1000000.index"
DATA = f"{FOLDER}/UGATIT.model-1000000.data-00000-of-00001"
ENTRY = Entry(
    name="cats",
    description="Cats to dogs",
    domains=("cat", "dog"),
    image_size=64,
    licence="not stated",
    training_data="cats and dogs",
    source="import",
    repository="authors/weights",
    files={INDEX: None, DATA: None},
    instructions="Ask the authors, then: ugatit convert FOLDER --name cats",
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The files of a checkpoint, as the authors have them."""
    folder = tmp_path / "authors" / FOLDER
    folder.mkdir(parents=True)
    write(folder, random_variables("light"))
    (folder / "UGATIT.model-1000000.meta").write_bytes(b"a graph that nobody needs")
    return folder


def files(checkpoint: Path) -> dict[str, bytes]:
    return {f"{FOLDER}/{path.name}": path.read_bytes() for path in checkpoint.iterdir()}


@pytest.fixture
def published(hub: HubServer, checkpoint: Path, know: Know) -> str:
    """The commit of the authors' repository, which the user's manifest knows."""
    know(ENTRY)
    return hub.add(ENTRY.repository, files(checkpoint))


def test_a_checkpoint_is_fetched_and_converted_on_first_use(hub: HubServer, published: str, checkpoint: Path) -> None:
    planned, told = fetch.preview("cats", Notes())
    assert [(file.name, file.size, file.here) for file in planned] == [
        (name, len(files(checkpoint)[name]), False) for name in (INDEX, DATA)
    ]
    assert told[-1] == f"then converted to {store_path('cats')}"
    assert hub.bytes_sent() == 0
    assert not store_path("cats").exists()
    notes = Notes()
    model = find_model("cats", notes)
    assert model.path == store_path("cats")
    assert (model.config.domain_a, model.config.domain_b, model.config.image_size) == ("cat", "dog", 64)
    assert model.config.to_dict()["rho_smoothing"]
    data = record(checkpoint / Path(DATA).name)
    source = {"sha256": data.sha256, "repository": "authors/weights", "commit": published}
    assert source.items() <= dict(model.provenance).items()
    assert any("nobody had verified it before" in note and data.sha256 in note for note in notes.notes)
    assert hub.bytes_sent(".meta") == 0
    verified = verify(known("cats"))
    assert (verified.problem, verified.unverifiable) == ("", [])
    assert "isn't needed any more" in notes.notes[-1]
    shutil.rmtree(notes.notes[-1].partition(": ")[2])
    asked = len(hub.requests)
    assert find_model("cats", Notes()) == model
    assert fetch.fetch("cats", Notes()) == model
    assert fetch.preview("cats", Notes())[0] == []
    assert len(hub.requests) == asked


def test_hashes_are_binding_from_the_manifest_or_the_first_use(
    hub: HubServer, published: str, checkpoint: Path, know: Know
) -> None:
    data = record(checkpoint / Path(DATA).name)
    know(dataclasses.replace(ENTRY, files={INDEX: None, DATA: FileRecord(data.size, "0" * 64)}))
    with pytest.raises(ModelError, match="expected sha256 000"):
        find_model("cats", Notes())
    assert not store_path("cats").exists()
    know(dataclasses.replace(ENTRY, files={INDEX: None, DATA: data}, revision=published))
    assert find_model("cats", Notes()).config.domain_a == "cat"
    know(ENTRY)
    fetch.fetch("cats", Notes(), force=True)
    flip(checkpoint / Path(DATA).name)
    hub.add(ENTRY.repository, files(checkpoint))
    with pytest.raises(ModelError, match=r"expected sha256 .*, found .* on the Hub") as caught:
        fetch.fetch("cats", Notes(), force=True)
    assert data.sha256 in caught.value.message
    assert caught.value.hint.endswith("ugatit models rm cats")
    assert open_model(store_path("cats")).provenance["commit"] == published


@pytest.mark.usefixtures("published")
def test_two_checkpoints_of_one_folder_are_remembered_apart(hub: HubServer, checkpoint: Path, know: Know) -> None:
    other = {name: name.replace("1000000", "2000000") for name in (INDEX, DATA)}
    hub.add(ENTRY.repository, {other[name]: files(checkpoint)[name] for name in other})
    second = dataclasses.replace(ENTRY, name="more", files=dict.fromkeys(other.values()))
    find_model("cats", Notes())
    know(ENTRY, second)
    find_model("more", Notes())
    assert all(imports.known_hashes(ENTRY).values())


def test_offline(hub: HubServer, published: str, monkeypatch: pytest.MonkeyPatch, know: Know) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cats are not on this machine, and HF_HUB_OFFLINE forbids") as caught:
        find_model("cats", Notes())
    assert ENTRY.instructions in caught.value.hint
    assert hub.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    find_model("cats", Notes())
    shutil.rmtree(store_path("cats"))
    know(dataclasses.replace(ENTRY, revision=published))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model("cats", Notes()).provenance["commit"] == published


def test_an_index_that_is_none(hub: HubServer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, know: Know) -> None:
    know(ENTRY)
    monkeypatch.setattr(imports, "LARGEST_INDEX", 1000)
    hub.add(ENTRY.repository, files(checkpoint))
    with pytest.raises(ModelError, match="not the index of a U-GAT-IT checkpoint"):
        find_model("cats", Notes())
    assert hub.bytes_sent() == 0


@pytest.mark.usefixtures("published")
def test_several_at_once_convert_it_once(hub: HubServer, checkpoint: Path) -> None:
    """Some by their first use, some by `ugatit fetch`: none finds that it exists already."""
    hub.fault(Fault("drip", file=".data-00000-of-00001", chunk=30_000, delay=0.02))
    said = [Notes() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(find_model, "cats", said[0])
        others = [pool.submit(fetch.fetch, "cats", notes) for notes in said[1:3]]
        models = [job.result() for job in (first, *others, pool.submit(find_model, "cats", said[3]))]
    assert len({model.path for model in models}) == 1
    assert sum("converting" in note for notes in said for note in notes.notes) == 1
    assert hub.bytes_sent(".data-") == len(files(checkpoint)[DATA])


@pytest.mark.usefixtures("published")
def test_a_store_that_others_fill_from_another_cache(hub: HubServer) -> None:
    """The lock of the Hub's cache is another one then."""
    notes = Aloud()
    with ThreadPoolExecutor(1) as pool:
        with patience.waiting(home_folder() / "locks" / "cats", "", Notes()):
            job = pool.submit(find_model, "cats", notes)
            assert notes.heard.wait(60)
            theirs = tiny.save(store_path("cats"))
        assert job.result(timeout=60).path == theirs
    assert notes.notes == ["another ugatit is installing cats; waiting for it"]
    assert hub.requests == []


@pytest.mark.parametrize("lacks", ["an address", "the repository", "a file"])
def test_the_way_by_hand_is_told(hub: HubServer, checkpoint: Path, know: Know, lacks: str) -> None:
    know(dataclasses.replace(ENTRY, repository="", files={}) if lacks == "an address" else ENTRY)
    if lacks == "a file":
        hub.add(ENTRY.repository, {INDEX: files(checkpoint)[INDEX]})
    with pytest.raises(ModelError) as caught:
        find_model("cats", Notes())
    assert ENTRY.instructions in caught.value.hint
    assert lacks != "a file" or DATA in caught.value.message
    assert hub.bytes_sent(".data-") == 0
    assert not store_path("cats").exists()


@pytest.mark.parametrize("part", ["", "UGATIT.model-1000000.index", "UGATIT.model-1000000"])
def test_from_the_users_disk(hub: HubServer, checkpoint: Path, tmp_path: Path, know: Know, part: str) -> None:
    know(ENTRY)
    model = fetch.fetch("cats", Notes(), from_file=checkpoint / part)
    assert model.path == store_path("cats")
    assert model.config.domain_b == "dog"
    data = record(checkpoint / Path(DATA).name)
    know(dataclasses.replace(ENTRY, files={INDEX: None, DATA: data}))
    fetch.fetch("cats", Notes(), to=tmp_path / "here", from_file=checkpoint / part)
    flip(checkpoint / Path(DATA).name)
    with pytest.raises(ModelError, match=rf"{data.sha256}.* found"):
        fetch.fetch("cats", Notes(), from_file=checkpoint / part, force=True)
    assert hub.requests == []


# --- Converting ----------------------------------------------------------------------------------------


def test_a_converted_checkpoint(tmp_path: Path) -> None:
    path, settings = tiny.save_official(tmp_path / "cats_0000100.pt"), OfficialSettings(("cat", "dog"), image_size=64)
    model, _ = convert([path], tmp_path / "out", settings)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = {"imported_from": "cats_0000100.pt", "code": "official U-GAT-IT code", "sha256": sha256}
    assert model.provenance == expected
    assert open_model(tmp_path / "out") == model
    assert (model.config.domain_a, model.config.domain_b, model.config.image_size) == ("cat", "dog", 64)
    convert([path], tmp_path / "out", storage="fp16", overwrite=True)
    for file in ("model.safetensors", "discriminators.safetensors"):
        for name, tensor in load_file(tmp_path / "out" / file).items():
            assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32), name


def test_no_checkpoint_there(tmp_path: Path) -> None:
    write_bundle(tmp_path / "other.pt", {})  # other.pt.index
    for name in ("gone", "gone/gone.pt", "gone.index", "gone.data-00000-of-00001", "a.index.txt", "other.pt"):
        with pytest.raises(ModelError) as caught:
            convert([tmp_path / name], tmp_path / "out")
        assert str(tmp_path / name) in caught.value.message


def test_from_inside_the_checkpoint_and_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny.save_official(tmp_path / "x.pt")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelError, match="no checkpoint in it"):
        convert([Path()], tmp_path / "out")
    assert convert([checkpoint], Path())[0].path == tmp_path / "here"
    (tmp_path / "here" / "a.txt").touch()
    with pytest.raises(OutputError):  # before anything is read
        convert([tmp_path / "no such checkpoint.pt"], tmp_path)

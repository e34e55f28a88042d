"""Official checkpoints from a Hub on loopback: fetched, remembered, converted; and those that a user has on disk."""

from __future__ import annotations

import dataclasses
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants

import ugatit_cli
from tests import tiny
from tests.hub_client import Notes
from tests.hub_server import Fault, HubServer
from tests.weights.test_tensorflow import random_variables, write
from ugatit_cli.errors import ModelError, OutputError
from ugatit_cli.weights import fetch, home
from ugatit_cli.weights import hub as hub_module
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.home import home_folder, store_path
from ugatit_cli.weights.hub_cache import digest_of
from ugatit_cli.weights.manifest import Entry, FileRecord, entry_toml

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
def published(hub: HubServer, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The commit of the authors' repository, which the user's manifest knows."""
    know(ENTRY, tmp_path, monkeypatch)
    return hub.add(ENTRY.repository, files(checkpoint))


def know(entry: Entry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an entry into the user's manifest."""
    path = folder / "weights.toml"
    path.write_text("schema = 1\n\n" + entry_toml(entry), encoding="utf-8")
    monkeypatch.setenv("UGATIT_MANIFEST", str(path))


def test_a_checkpoint_is_fetched_and_converted_on_first_use(hub: HubServer, published: str, checkpoint: Path) -> None:
    notes = Notes()
    model = find_model("cats", notes)
    assert model.path == store_path("cats")
    assert (model.config.domain_a, model.config.domain_b, model.config.image_size) == ("cat", "dog", 64)
    assert model.config.rho_smoothing
    data = digest_of(checkpoint / "UGATIT.model-1000000.data-00000-of-00001")
    assert model.provenance["sha256"] == data.sha256
    assert model.provenance["repository"] == "authors/weights"
    assert model.provenance["commit"] == published
    assert any("nobody had verified it before" in note and data.sha256 in note for note in notes.notes)
    assert hub.bytes_sent(".meta") == 0
    receipt = home.load("cats")
    assert receipt is not None
    assert receipt.damage() == []
    assert "isn't needed any more" in notes.notes[-1]
    shutil.rmtree(notes.notes[-1].partition(": ")[2])
    asked = len(hub.requests)
    assert find_model("cats", Notes()) == model
    assert fetch.fetch("cats", Notes()) == model
    assert len(hub.requests) == asked


def test_hashes_of_the_first_use_are_binding(hub: HubServer, published: str, checkpoint: Path) -> None:
    find_model("cats", Notes())
    changed = files(checkpoint)
    changed[DATA] = changed[DATA][:-1] + bytes([changed[DATA][-1] ^ 1])
    hub.add(ENTRY.repository, changed)
    with pytest.raises(ModelError, match=r"expected sha256 .*, found .* on the Hub") as caught:
        fetch.fetch("cats", Notes(), force=True)
    assert digest_of(checkpoint / "UGATIT.model-1000000.data-00000-of-00001").sha256 in caught.value.message
    assert caught.value.hint.endswith("ugatit models rm cats")
    assert open_model(store_path("cats")).provenance["commit"] == published


@pytest.mark.usefixtures("hub")
def test_a_hash_of_the_manifest_is_binding_from_the_start(
    published: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_of(checkpoint / "UGATIT.model-1000000.data-00000-of-00001")
    wrong = {INDEX: None, DATA: FileRecord(digest.size, "0" * 64)}
    know(dataclasses.replace(ENTRY, files=wrong), tmp_path, monkeypatch)
    with pytest.raises(ModelError, match="expected sha256 000"):
        find_model("cats", Notes())
    assert not store_path("cats").exists()
    right = {INDEX: None, DATA: FileRecord(digest.size, digest.sha256)}
    know(dataclasses.replace(ENTRY, files=right, revision=published), tmp_path, monkeypatch)
    assert find_model("cats", Notes()).config.domain_a == "cat"


@pytest.mark.usefixtures("published")
def test_a_download_that_breaks_off_goes_on(hub: HubServer, checkpoint: Path) -> None:
    size = (checkpoint / "UGATIT.model-1000000.data-00000-of-00001").stat().st_size
    hub.fault(Fault("cut", file=".data-00000-of-00001", after=size // 2, times=1))
    hub.fault(Fault("status", file=".data-00000-of-00001", status=503, method="GET"))
    with pytest.raises(ModelError, match=r"authors/weights: .*data-00000-of-00001.*after "):
        find_model("cats", Notes())
    assert not store_path("cats").exists()
    hub.heal()
    assert find_model("cats", Notes()).config.domain_a == "cat"
    assert hub.bytes_sent("data-00000") <= size * 1.05


def test_a_checkpoint_that_is_damaged_at_the_source(
    hub: HubServer, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(ENTRY, tmp_path, monkeypatch)
    hub.add(ENTRY.repository, files(checkpoint) | {DATA: b"<html>quota exceeded</html>"})
    with pytest.raises(ModelError):
        find_model("cats", Notes())
    assert not store_path("cats").exists()


def test_two_checkpoints_of_one_folder_are_remembered_apart(
    hub: HubServer, published: str, checkpoint: Path, tmp_path: Path
) -> None:
    other = {name: name.replace("1000000", "2000000") for name in (INDEX, DATA)}
    hub.add(ENTRY.repository, {other[name]: files(checkpoint)[name] for name in other})
    second = dataclasses.replace(ENTRY, name="more", files=dict.fromkeys(other.values()))
    find_model("cats", Notes())
    (tmp_path / "weights.toml").write_text("schema = 1\n" + entry_toml(ENTRY) + entry_toml(second), encoding="utf-8")
    find_model("more", Notes())
    assert all(fetch.known_hashes(ENTRY).values())
    assert published


def test_offline_it_says_so(hub: HubServer, published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cats are not on this machine, and HF_HUB_OFFLINE forbids") as caught:
        find_model("cats", Notes())
    assert ENTRY.instructions in caught.value.hint
    assert published
    assert hub.requests == []


def test_a_repository_that_is_gone_leaves_the_way_by_hand(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(ENTRY, tmp_path, monkeypatch)
    with pytest.raises(ModelError, match="has no repository authors/weights") as caught:
        find_model("cats", Notes())
    assert ENTRY.instructions in caught.value.hint
    assert hub.bytes_sent() == 0


def test_an_index_that_is_none(
    hub: HubServer, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(ENTRY, tmp_path, monkeypatch)
    monkeypatch.setattr(fetch, "LARGEST_INDEX", 1000)
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
    notes = Notes()
    with ThreadPoolExecutor(1) as pool:
        with hub_module.waiting(home_folder() / "locks" / "cats", "", Notes()):
            job = pool.submit(find_model, "cats", notes)
            while not notes.notes:
                time.sleep(0.01)
            theirs = tiny.save(store_path("cats"))
        assert job.result(timeout=60).path == theirs
    assert notes.notes == ["another ugatit is installing cats; waiting for it"]
    assert hub.requests == []


def test_a_repository_that_lacks_a_file(
    hub: HubServer, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(ENTRY, tmp_path, monkeypatch)
    hub.add(ENTRY.repository, {INDEX: files(checkpoint)[INDEX]})
    with pytest.raises(ModelError, match=r"authors/weights.* has no file .*data-00000") as caught:
        find_model("cats", Notes())
    assert caught.value.hint == ENTRY.instructions
    assert not store_path("cats").exists()


@pytest.mark.usefixtures("published")
def test_to_a_folder(tmp_path: Path) -> None:
    model = fetch.fetch("cats", Notes(), to=tmp_path / "here")
    assert model.path == tmp_path / "here"
    assert not store_path("cats").exists()
    with pytest.raises(OutputError, match="exists already") as caught:
        fetch.fetch("cats", Notes(), to=tmp_path / "here")
    assert "--force" in caught.value.hint
    assert fetch.fetch("cats", Notes(), to=tmp_path / "here", force=True).path == tmp_path / "here"


@pytest.mark.usefixtures("published")
def test_a_plan_changes_nothing(hub: HubServer, checkpoint: Path) -> None:
    plan = fetch.preview("cats", Notes())
    sizes = {name: len(data) for name, data in files(checkpoint).items()}
    assert [(file.name, file.size, file.here) for file in plan.files] == [
        (INDEX, sizes[INDEX], False),
        (DATA, sizes[DATA], False),
    ]
    assert plan.to_download == sizes[INDEX] + sizes[DATA]
    assert plan.notes == (f"then converted to {store_path('cats')}",)
    assert hub.bytes_sent() == 0
    assert not store_path("cats").exists()
    find_model("cats", Notes())
    assert fetch.preview("cats", Notes()).to_download == 0


@pytest.mark.parametrize("part", ["", "UGATIT.model-1000000.index", "UGATIT.model-1000000"])
def test_from_the_users_disk(hub: HubServer, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:  # fmt: skip  # noqa: E501
    know(ENTRY, tmp_path, monkeypatch)
    model = fetch.fetch("cats", Notes(), from_file=checkpoint / part)
    assert model.path == store_path("cats")
    assert model.config.domain_b == "dog"
    assert hub.requests == []


def test_from_the_users_disk_with_known_hashes(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "home"))
    digest = digest_of(checkpoint / "UGATIT.model-1000000.data-00000-of-00001")
    entry = dataclasses.replace(ENTRY, files={INDEX: None, DATA: FileRecord(digest.size, digest.sha256)})
    know(entry, tmp_path, monkeypatch)
    assert fetch.fetch("cats", Notes(), to=tmp_path / "good", from_file=checkpoint).config.domain_a == "cat"
    path = checkpoint / "UGATIT.model-1000000.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"data-00000-of-00001: expected .* found") as caught:
        fetch.fetch("cats", Notes(), from_file=checkpoint)
    assert digest.sha256 in caught.value.message
    assert not store_path("cats").exists()


@pytest.mark.usefixtures("hub")
def test_offline_with_the_checkpoint_in_the_cache(
    published: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetch.fetch_checkpoint(ENTRY, Notes())
    know(dataclasses.replace(ENTRY, revision=published), tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model("cats", Notes()).provenance["commit"] == published


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("tf_light_nosmooth_ch4_32", "UGATIT_light_tf_light_nosmooth_ch4_32_lsgan_4resblock_6dis_1_1_10_10_1000_sn"),
        ("tf_full_ch8_32", "UGATIT_tf_full_ch8_32_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing"),
    ],
)
@torch.inference_mode()
def test_official_checkpoints_end_to_end(
    golden: Path, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str
) -> None:
    """The authors' files from a repository to pictures as the official code makes them."""
    source = golden / "tf" / folder
    paths = {f"{folder}/{path.name}": path.read_bytes() for path in source.iterdir()}
    hub.add(ENTRY.repository, paths)
    wanted = {key: None for key in paths if ".index" in key or ".data-" in key}
    know(dataclasses.replace(ENTRY, files=wanted, image_size=32), tmp_path, monkeypatch)
    model = ugatit_cli.load("cats", device="cpu", precision="fp32")
    with np.load(golden / "tf" / f"{name}_io.npz") as file:
        x = torch.from_numpy(file["input_nhwc"]).permute(0, 3, 1, 2)
        expected = torch.from_numpy(file["generator_B.image_nhwc"])
    image = model.generator("a2b")(x).image.permute(0, 2, 3, 1)
    assert (image - expected).abs().max() <= 5e-5

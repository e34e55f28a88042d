"""Authors' checkpoints by name, from an address, Kaggle or the Hub: fetched, checked, converted."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import paddlegan, tiny
from tests.conftest import GOLDEN
from tests.fetched import contents
from tests.hub_client import Notes
from tests.web_server import QUOTA, WebServer
from tests.weights.test_tensorflow import drop, random_variables, write
from ugatit_cli.errors import ModelError, NoRoomError, OutputError, StorageError
from ugatit_cli.remote.records import FileRecord
from ugatit_cli.weights import fetch
from ugatit_cli.weights.catalog import known
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.home import download_folder, home_folder, load, store_path
from ugatit_cli.weights.known import verify
from ugatit_cli.weights.manifest import Entry, Layout, entry_toml
from ugatit_cli.weights.removal import removal, remove

FOLDER = "UGATIT_light_cats_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing"
COMMON = {
    "description": "One to the other",
    "domains": ("one", "other"),
    "image_size": 64,
    "licence": "not stated",
    "training_data": "pictures",
    "made_by": "somebody",
    "read_at": ("a page",),
    "verified": False,
}
PADDLE = Entry(
    "paddle",
    source="url",
    url="https://paddlegan.example.org/models/ugatit_light.pdparams",
    layout="paddle",
    files={"ugatit_light.pdparams": None},
    **COMMON,  # type: ignore[arg-type]  # all of the kinds that they have to be
)
CYCLEGAN = dataclasses.replace(
    PADDLE,
    name="cyclegan",
    url="http://cyclegan.example.org/pretrained_models/horse2zebra.pth",
    layout="cyclegan",
    files={"horse2zebra.pth": None},
    ways="a2b",
)
KAGGLE = dataclasses.replace(
    PADDLE,
    name="kaggle",
    source="kaggle",
    url="",
    dataset="somebody/pretrained",
    layout="tensorflow",
    folder=f"checkpoint/{FOLDER}",
    files={},
)
CARTOONGAN = dataclasses.replace(
    PADDLE,
    name="cartoongan",
    source="import",
    url="",
    repository="authors/cartoons",
    layout="cartoongan",
    files={"Hayao_net_G_float.pth": None},
    ways="a2b",
    instructions="Ask the authors.",
)
ZIPPED = dataclasses.replace(
    CYCLEGAN, name="zipped", url="https://example.org/horses.zip", files={"nets/latest_net_G.pth": None}
)
ENTRIES = {one.name: one for one in (PADDLE, CYCLEGAN, KAGGLE, CARTOONGAN, ZIPPED)}


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@functools.cache
def tensorflow() -> dict[str, bytes]:
    """A folder of the authors, with an older step that is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), drop(random_variables("light"), "Adam|discriminator"))
        files = {one.name: one.read_bytes() for one in path.iterdir()}
    older = {name.replace("1000000", "990000"): b"damaged" for name in files if "1000000" in name}
    return {f"{FOLDER}/{name}": data for name, data in {**older, **files}.items()}


@functools.cache
def published(name: str) -> bytes:
    """What its authors offer."""
    if name == "paddle":
        return paddlegan.written(tiny.official())
    if name == "kaggle":
        return zipped({"README.md": b"", **tensorflow(), "samples/other.index": b""})
    if name == "zipped":
        return zipped({"README.md": b"", ZIPPED.checkpoint: published("cyclegan")})
    weights = load_file(GOLDEN / "baselines" / name / "weights.safetensors")
    first = {key.removeprefix("G_A."): one for key, one in weights.items() if key.startswith("G_A.")}
    return saved(first or weights)


Know = Callable[..., None]


@pytest.fixture
def know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Know:
    """Makes these entries the user's manifest."""
    path = tmp_path / "weights.toml"
    monkeypatch.setenv("UGATIT_MANIFEST", str(path))

    def write(*entries: Entry) -> None:
        path.write_text("\n".join(["schema = 2", *map(entry_toml, entries)]), encoding="utf-8")

    return write


def put(web: WebServer, entry: Entry, data: bytes) -> None:
    """Where its makers have it: at Kaggle, that is behind a redirect that is signed."""
    if entry.repository:
        web.add(entry.repository, {entry.checkpoint: data})
    elif entry.dataset:
        place = "https://storage.googleapis.com/kaggle-data-sets/1/archive.zip"
        web.put(place, data)
        web.redirect(entry.address, f"{place}?X-Goog-Signature=secret")
    else:
        web.put(entry.address, data)


@pytest.fixture
def offered(web: WebServer, know: Know) -> WebServer:
    """The web, where everything is that the user's manifest knows."""
    know(*ENTRIES.values())
    for entry in ENTRIES.values():
        put(web, entry, published(entry.name))
    return web


def nothing_left(name: str) -> bool:
    return not download_folder(name).exists() and not store_path(name).exists()


@pytest.mark.parametrize(
    ("name", "method", "ways", "ending"),
    [
        ("paddle", "ugatit", "both", "PaddlePaddle"),
        ("cyclegan", "cyclegan", "a2b", "CycleGAN code"),
        ("kaggle", "ugatit", "both", "TensorFlow code"),
        ("cartoongan", "cartoongan", "a2b", "CartoonGAN code"),
    ],
)
def test_by_name(
    offered: WebServer, monkeypatch: pytest.MonkeyPatch, name: str, method: str, ways: str, ending: str
) -> None:
    notes, entry, data = Notes(), ENTRIES[name], published(name)
    planned, told = fetch.preview(name, notes)
    assert [(file.name, file.here) for file in planned] == [(entry.address or entry.checkpoint, False)]
    assert told[-1] == f"then converted to {store_path(name)}"
    assert not fetch.is_here(name)
    assert offered.bytes_sent() == 0
    model = find_model(name, notes)
    assert model.path == store_path(name)
    assert (model.config.method, model.config.ways) == (method, ways)
    assert (model.config.domain_a, model.config.domain_b) == ("one", "other")
    assert all(any(fact in note for note in notes.notes) for fact in ("not stated", "somebody"))
    assert any("verified" in note for note in notes.notes)
    digest = hashlib.sha256(data).hexdigest()
    assert any(digest in note for note in notes.notes)
    said = model.provenance
    assert (str(said["code"]).endswith(ending), said["licence"], said["made_by"]) == (True, "not stated", "somebody")
    if entry.address:
        assert (said["address"], said["download_size"], said["download_sha256"]) == (entry.address, len(data), digest)
    assert "secret" not in str(said) + str(notes.notes)
    assert name != "kaggle" or model.config.to_dict()["rho_smoothing"]  # as the folder's name says
    assert not download_folder(name).exists()
    assert offered.bytes_sent() == len(data)
    asked = len(offered.requests)
    monkeypatch.setenv("UGATIT_OFFLINE", "1")
    assert find_model(name) == model
    assert fetch.is_here(name)
    verified = verify(known(name))
    assert (verified.problem, verified.unverifiable, verified.fact("licence")) == ("", [], "not stated")
    assert len(offered.requests) == asked


@pytest.mark.parametrize("name", ["paddle", "kaggle"])
def test_a_hash_is_binding_from_the_first_use(offered: WebServer, name: str) -> None:
    entry = ENTRIES[name]
    first = find_model(name).hashes["model.safetensors"]
    other = zipped({**tensorflow(), "more": b"1"}) if name == "kaggle" else published("cyclegan")
    put(offered, entry, other)
    with pytest.raises(ModelError) as caught:
        fetch.fetch(name, Notes(), force=True)
    assert f"expected {len(published(name)):,} bytes" in caught.value.message
    assert caught.value.hint.endswith(f"ugatit models rm {name}")
    assert find_model(name).hashes["model.safetensors"] == first
    remove(removal(known(name)))
    assert nothing_left(name)
    if name == "kaggle":
        assert find_model(name).hashes["model.safetensors"] == first
        return
    with pytest.raises(ModelError, match="PaddlePaddle"):
        find_model(name)
    assert nothing_left(name)
    assert load(entry.address) is None


@pytest.mark.parametrize("name", ["paddle", "kaggle"])
def test_stated_hashes(offered: WebServer, know: Know, name: str) -> None:
    entry, data = ENTRIES[name], published(name)
    right = FileRecord(len(data), hashlib.sha256(data).hexdigest())

    def states(record: FileRecord) -> Entry:
        if entry.is_archive:
            return dataclasses.replace(entry, archive=record)
        return dataclasses.replace(entry, files=dict.fromkeys(entry.files, record))

    for wrong in (FileRecord(len(data), "0" * 64), FileRecord(len(data) + 1, right.sha256)):
        know(states(wrong))
        with pytest.raises(ModelError) as caught:
            find_model(name)
        assert caught.value.exit_code == 3
        assert "models rm" not in caught.value.hint
        assert nothing_left(name)
    know(states(right))
    assert fetch.preview(name, Notes())[0][0].size == len(data)
    notes = Notes()
    find_model(name, notes)
    assert not any("nobody had verified" in note for note in notes.notes)
    assert offered.bytes_sent() > 0


class Killed(BaseException):
    pass


class Killing(Notes):
    """Kills the process when so many bytes are here."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def advance(self, count: int) -> None:
        super().advance(count)
        if self.received >= self.after:
            raise Killed


@pytest.mark.parametrize("name", ["paddle", "kaggle"])
def test_killed_at_half_and_resumed(offered: WebServer, name: str) -> None:
    size = len(published(name))
    with pytest.raises(Killed):
        find_model(name, Killing(size // 2))
    assert not store_path(name).exists()
    assert known(name).state == "not fetched"
    notes = Notes()
    model = find_model(name, notes)
    assert notes.begun[0][1] == size
    assert notes.begun[0][2] >= size // 2
    assert not download_folder(name).exists()
    assert verify(known(name)).problem == ""
    assert model.config.method == "ugatit"
    assert offered.requests[-1].headers["range"] == f"bytes={notes.begun[0][2]}-"


def bomb() -> bytes:
    """A zip whose checkpoint would become a thousand times as large."""
    return zipped({ZIPPED.checkpoint: b"\0" * 101_000_000})


SPOILT: dict[str, Callable[[WebServer], object]] = {
    "404": lambda web: web.pages.pop(ZIPPED.address),
    "403": lambda web: web.put(ZIPPED.address, b"<html><title>No</title></html>", status=403, type="text/html"),
    "quota": lambda web: web.put(ZIPPED.address, QUOTA, type="text/html"),
    "elsewhere": lambda web: web.redirect(ZIPPED.address, "https://evil.example.net/x.zip"),
    "truncated": lambda web: web.put(ZIPPED.address, published("zipped")[:-200]),
    "outside": lambda web: web.put(ZIPPED.address, zipped({f"../{ZIPPED.checkpoint}": b"x"})),
    "bomb": lambda web: web.put(ZIPPED.address, bomb()),
    "no zip": lambda web: web.put(ZIPPED.address, b"x" * 1000),
    "other zip": lambda web: web.put(ZIPPED.address, zipped({"a.txt": b"a"})),
    "no checkpoint": lambda web: web.put(ZIPPED.address, zipped({ZIPPED.checkpoint: b"x" * 1000})),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_none_leaves_nothing_and_the_next_call_works(offered: WebServer, how: str) -> None:
    SPOILT[how](offered)
    with pytest.raises(ModelError) as caught:
        find_model("zipped")
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message
    assert str(home_folder()) not in caught.value.message  # where nothing is left
    assert not store_path("zipped").exists()
    assert not (home_folder() / "nets").exists()
    assert load(ZIPPED.address) is None
    put(offered, ZIPPED, published("zipped"))
    assert find_model("zipped").config.method == "cyclegan"


@pytest.mark.parametrize("where", ["remote.transfer", "remote.archives", "weights.folder"])
def test_a_full_disk_keeps_what_has_arrived(offered: WebServer, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def full(*_: object) -> None:
        raise StorageError("full")

    with monkeypatch.context() as patch:
        patch.setattr(f"ugatit_cli.{where}.check_space", full)
        with pytest.raises(NoRoomError) as caught:
            find_model("zipped")
    assert caught.value.exit_code == 3
    assert not store_path("zipped").exists()
    find_model("zipped")
    assert offered.bytes_sent() == len(published("zipped"))
    assert not download_folder("zipped").exists()


@pytest.mark.parametrize(
    ("name", "layout", "words"),
    [
        ("paddle", "pytorch", ("PaddlePaddle", "official U-GAT-IT code")),
        ("cyclegan", "cartoongan", ("CycleGAN", "CartoonGAN")),
        ("kaggle", "paddle", ("TensorFlow", "PaddlePaddle")),
        ("cartoongan", "cyclegan", ("CartoonGAN", "CycleGAN")),
    ],
)
@pytest.mark.usefixtures("offered")
def test_a_checkpoint_of_another_kind(know: Know, name: str, layout: Layout, words: tuple[str, str]) -> None:
    other = dataclasses.replace(ENTRIES[name], layout=layout)
    if name == "kaggle":
        other = dataclasses.replace(other, files={})
    know(other)
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert all(word in caught.value.message for word in words)
    assert nothing_left(name)
    know(ENTRIES[name])
    assert find_model(name).path == store_path(name)


def test_several_at_once_fetch_it_once(offered: WebServer) -> None:
    with ThreadPoolExecutor(3) as pool:
        models = list(pool.map(find_model, ["paddle"] * 3))
    assert len({model.path for model in models}) == 1
    assert offered.bytes_sent() == len(published("paddle"))


def test_to_a_folder_and_from_a_file(offered: WebServer, tmp_path: Path) -> None:
    """As on a machine without a network, to which somebody has carried the file, or what was in it."""
    (tmp_path / "a.zip").write_bytes(published("kaggle"))
    (tmp_path / "x.pdparams").write_bytes(published("paddle"))
    for name, data in tensorflow().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    wanted = fetch.fetch("kaggle", Notes(), from_file=tmp_path / "a.zip")
    assert wanted.provenance["imported_by"] == "hand"
    with pytest.raises(OutputError):
        fetch.fetch("kaggle", Notes(), from_file=tmp_path / "a.zip")
    for source in (FOLDER, f"{FOLDER}/UGATIT.model-1000000.index"):
        found = fetch.fetch("kaggle", Notes(), from_file=tmp_path / source, force=True)
        assert found.weights.read_bytes() == contents(wanted.path)["model.safetensors"]
    fetch.fetch("paddle", Notes(), from_file=tmp_path / "x.pdparams", to=tmp_path / "here")
    assert not store_path("paddle").exists()
    assert offered.requests == []
    there = fetch.fetch("paddle", Notes(), to=tmp_path / "there")
    assert there.hashes["model.safetensors"] == open_model(tmp_path / "here").hashes["model.safetensors"]
    with pytest.raises(ModelError, match=r"x\.pdparams"):
        fetch.fetch("kaggle", Notes(), from_file=tmp_path / "x.pdparams", force=True)
    (tmp_path / "x.pdparams").write_bytes(published("paddle")[:-1] + b"x")
    with pytest.raises(ModelError, match=r"x\.pdparams: expected"):  # than when it was first used
        fetch.fetch("paddle", Notes(), from_file=tmp_path / "x.pdparams")


def test_offline_and_by_hand(offered: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGATIT_OFFLINE", "1")
    with pytest.raises(ModelError, match="UGATIT_OFFLINE") as caught:
        find_model("paddle")
    assert PADDLE.by_hand() in caught.value.hint
    assert offered.requests == []


def test_what_was_begun_goes_with_rm(offered: WebServer) -> None:
    with pytest.raises(Killed):
        find_model("paddle", Killing(1))
    planned = removal(known("paddle"))
    assert planned.places == (download_folder("paddle"),)
    assert remove(planned) == planned.size > 0
    assert nothing_left("paddle")
    with pytest.raises(ModelError, match="not on this machine"):
        removal(known("paddle"))
    assert len(offered.requests) == 1


@pytest.mark.usefixtures("offered")
def test_another_name_of_the_same(know: Know) -> None:
    know(dataclasses.replace(PADDLE, aliases=("photo2painting",)))
    assert find_model("photo2painting").path == store_path("paddle")
    assert known("photo2painting").name == "paddle"
    tiny.save(store_path("photo2painting"))  # of the user's own
    assert find_model("photo2painting").path == store_path("photo2painting")
    assert known("photo2painting").entry is None
    shutil.rmtree(store_path("photo2painting"))
    with pytest.raises(ModelError) as caught:
        find_model("photo2paintin")
    assert "photo2painting" in caught.value.hint

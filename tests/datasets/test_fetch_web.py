"""Data sets by name, from the web: whole or not at all; whatever the server does, the next call goes on."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.data_sets import URL, archive, entry, files_in, pictures, write_manifest
from tests.datasets.conftest import REPO, TEST, TRAIN
from tests.hub_client import Notes
from tests.hub_server import Fault, HubServer
from tests.kills import posix_only
from tests.web_server import QUOTA, WebServer
from ugatit_cli.datasets import emoji
from ugatit_cli.datasets.fetch import fetch, find, remove
from ugatit_cli.errors import ModelError, NoRoomError, UsageError
from ugatit_cli.weights.home import home_folder

PLAIN: Final = "http://vllab.ucmerced.edu/hylee/DRIT/datasets/cat2dog.zip"


@pytest.fixture
def packed(tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An archive at its address; the manifest knows its hash."""
    path = archive(tmp_path / "packed.zip")
    know(monkeypatch, tmp_path, entry(path))
    web.put(URL, path.read_bytes())
    return path.read_bytes()


def know(monkeypatch: pytest.MonkeyPatch, folder: Path, entry: dict[str, Any]) -> None:
    monkeypatch.setenv("UGATIT_MANIFEST", str(write_manifest(folder / "manifest.toml", horse2zebra=entry)))


def is_right(folder: Path) -> bool:
    """Whether it is the data set, and nothing is left of how it came here but locks."""
    left = [*home_folder().glob("data/.*"), *home_folder().glob("downloads/*"), *home_folder().glob("downloads/.*")]
    return files_in(folder) == pictures() and {path.suffix for path in left} <= {".lock"}


def refused(web: WebServer, host: str = "") -> ModelError:
    """The one error that a fetch ends with; nothing is there afterwards."""
    with pytest.raises(ModelError) as caught:
        fetch("horse2zebra", Notes())
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message
    assert "horse2zebra" in caught.value.message
    assert not [*(home_folder() / "data").iterdir()]
    assert not host or not web.asked(host)
    return caught.value


def test_a_name_is_enough_and_afterwards_no_network_is_needed(
    web: WebServer, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    found = find("horse2zebra", notes)
    assert is_right(found.path)
    assert ("horse2zebra.zip", len(packed), 0) in notes.begun
    assert notes.ended == len(notes.begun)
    monkeypatch.setenv("UGATIT_OFFLINE", "1")
    web.pages.clear()
    asked = len(web.requests)
    assert find("horse2zebra", Notes()).path == fetch("horse2zebra", Notes()) == found.path
    assert len(web.requests) == asked
    with pytest.raises(ModelError):
        fetch("horse2zebra", Notes(), force=True)
    assert is_right(found.path)


def _elsewhere(web: WebServer, packed: bytes) -> None:
    web.redirect(URL, "https://evil.example.com/horse2zebra.zip")
    web.put("https://evil.example.com/horse2zebra.zip", packed)


FAULTS: dict[str, Callable[[WebServer, bytes], object]] = {
    "a page": lambda web, _: web.put(URL, QUOTA, type="text/html"),
    "forbidden": lambda web, _: web.put(URL, QUOTA, type="text/html", status=403),
    "missing": lambda web, _: web.pages.clear(),
    "elsewhere": _elsewhere,
    "unencrypted": lambda web, _: web.redirect(URL, URL.replace("https", "http")),
    "changed": lambda web, packed: web.put(URL, packed[:-1] + b"!"),
    "shorter": lambda web, packed: web.put(URL, packed[:-1]),
    "cut": lambda web, _: web.fault(Fault("cut", "horse2zebra.zip", after=100)),
}


@pytest.mark.parametrize("fails", FAULTS.values(), ids=FAULTS)
def test_whatever_comes_instead_ends_with_one_message_and_the_next_call_works(
    web: WebServer, packed: bytes, fails: Callable[[WebServer, bytes], object]
) -> None:
    fails(web, packed)
    refused(web, "evil.example.com")
    web.heal()
    web.put(URL, packed)
    assert is_right(fetch("horse2zebra", Notes()))


def test_a_download_that_broke_off_goes_on(web: WebServer, packed: bytes) -> None:
    web.put(URL, packed, etag='"1"')
    web.fault(Fault("cut", "horse2zebra.zip", after=1000))
    refused(web)
    web.heal()
    notes = Notes()
    assert is_right(fetch("horse2zebra", notes))
    assert [done for label, _, done in notes.begun if label == "horse2zebra.zip" and done >= 1000]


class _Killed(Notes):
    """Kills its process once so many bytes are here."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def advance(self, count: int) -> None:
        super().advance(count)
        if self.received >= self.after:
            os.kill(os.getpid(), signal.SIGKILL)


@posix_only
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the web is in this process alone
@pytest.mark.parametrize("part", [0.5, 1.0, 1.5])
def test_killed_anywhere_the_next_call_goes_on(web: WebServer, packed: bytes, part: float) -> None:
    web.put(URL, packed, etag='"1"')
    web.fault(Fault("drip", "horse2zebra.zip", chunk=1000))
    dying = _Killed(int(part * len(packed)))
    process = multiprocessing.get_context("fork").Process(target=fetch, args=("horse2zebra", dying))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    notes = Notes()
    assert is_right(fetch("horse2zebra", notes))
    _, _, done = next((begun for begun in notes.begun if begun[0] == "horse2zebra.zip"), ("", 0, len(packed)))
    assert done >= min(0.5 * len(packed), len(packed))


def test_two_at_once_download_it_once(web: WebServer, packed: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: fetch("horse2zebra", Notes()), range(2)))
    assert folders[0] == folders[1]
    assert is_right(folders[0])
    assert web.bytes_sent("horse2zebra.zip") == len(packed)


@pytest.mark.parametrize(("hostile", "stated"), [("../up.jpg", True), ("../up.jpg", False), ("bomb", False)])
def test_a_hostile_archive_is_refused_and_the_next_call_works(
    web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: str, stated: bool
) -> None:
    path = archive(tmp_path / "hostile.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        name = "horse2zebra/trainA/bomb.jpg" if hostile == "bomb" else hostile
        file.writestr(name, bytes(110_000_000) if hostile == "bomb" else b"up")
    know(monkeypatch, tmp_path, entry(path if stated else None))
    web.put(URL, path.read_bytes())
    assert URL in refused(web).message
    assert not list(tmp_path.rglob("up.jpg"))
    good = archive(tmp_path / "good.zip")
    know(monkeypatch, tmp_path, entry(good if stated else None))
    web.put(URL, good.read_bytes())
    assert is_right(fetch("horse2zebra", Notes()))


def test_a_truncated_archive_is_refused_and_the_next_call_works(
    web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = archive(tmp_path / "good.zip").read_bytes()
    know(monkeypatch, tmp_path, entry())
    web.put(URL, good[: len(good) // 2])
    refused(web)
    web.put(URL, good)
    assert is_right(fetch("horse2zebra", Notes()))


def test_without_encryption_and_a_hash_it_is_what_it_was_at_its_first_use(
    web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, tmp_path, entry(url=PLAIN))
    web.put(PLAIN, archive(tmp_path / "one.zip").read_bytes())
    notes = Notes()
    folder = fetch("horse2zebra", notes)
    assert is_right(folder)
    assert [text for text in notes.notes if "without encryption" in text]
    web.put(PLAIN, archive(tmp_path / "other.zip", {**pictures(), "trainA/more.jpg": b"more"}).read_bytes())
    with pytest.raises(ModelError) as caught:
        fetch("horse2zebra", Notes(), force=True)
    assert "ugatit data rm horse2zebra" in caught.value.hint
    assert files_in(folder) == pictures()
    remove("horse2zebra")
    assert len(files_in(fetch("horse2zebra", Notes()))) == len(pictures()) + 1


def test_nothing_is_asked_for_when_the_disk_has_no_room(
    web: WebServer, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: (10**9, 10**9, int(1.5 * len(packed))))
        with pytest.raises(NoRoomError) as caught:
            fetch("horse2zebra", Notes())
    assert caught.value.exit_code == 3
    assert str(home_folder() / "data" / "horse2zebra") in caught.value.message
    assert "UGATIT_HOME" in caught.value.hint
    assert not web.requests
    assert is_right(fetch("horse2zebra", Notes()))


def test_what_is_on_its_way_can_be_removed(web: WebServer, packed: bytes) -> None:
    web.put(URL, packed, etag='"1"')
    web.fault(Fault("cut", "horse2zebra.zip", after=1000))
    refused(web)
    assert remove("horse2zebra") >= 1000
    with pytest.raises(ModelError):
        remove("horse2zebra")


# --- Other sources -------------------------------------------------------------------------------------


OURS: Final = ("description", "domains", "image_size", "licence", "read_at", "verified")


def other(**more: Any) -> dict[str, Any]:
    return {key: value for key, value in entry().items() if key in OURS} | more


def of_hub(hub: HubServer, **hashes: str) -> dict[str, Any]:
    """An entry for the small data set of the Hub."""
    stated = {TRAIN: hashlib.sha256(hub.files(REPO)[TRAIN]).hexdigest()} | hashes
    files = {name: {"sha256": sha256} for name, sha256 in stated.items()} | {TEST: {}}
    repository, revision = REPO.removeprefix("datasets/"), hub.commits(REPO)[-1]
    return other(source="hub", repository=repository, revision=revision, files=files, columns=["imageB", "imageA"])


def test_parquet_files_of_the_hub_are_written_out(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, tmp_path, of_hub(hub))
    found = find("horse2zebra", Notes())
    assert found.domains == ("horse", "zebra")
    assert found.folders.test_a == found.path / "testA"
    assert len(files_in(found.path)) == 36
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find("horse2zebra", Notes()) == found
    for name in (TRAIN, TEST):
        (tmp_path / Path(name).name).write_bytes(hub.files(REPO)[name])
    to = fetch("horse2zebra", Notes(), to=tmp_path / "to", from_file=tmp_path)
    assert files_in(to) == files_in(found.path)


def test_other_parquet_files_than_were_stated_are_refused(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, tmp_path, of_hub(hub, **{TRAIN: "0" * 64}))
    with pytest.raises(ModelError) as caught:
        find("horse2zebra", Notes())
    assert TRAIN in caught.value.message
    assert not [*(home_folder() / "data").iterdir()]


def test_pictures_of_packages_are_drawn(tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(recipe: str, folder: Path, listener: Notes, *, packages: Path | None = None) -> None:  # noqa: ARG001
        assert (recipe, packages) == ("ink2clay", tmp_path)
        for name, data in drawn.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)

    drawn = pictures({"trainA": 2, "trainB": 3, "testA": 2, "testB": 2})
    monkeypatch.setattr(emoji, "build", build)
    know(monkeypatch, tmp_path, other(source="packages", recipe="ink2clay", paired=True))
    found = find(str(fetch("horse2zebra", Notes(), from_file=tmp_path)), Notes())
    assert found.paired
    assert files_in(found.path) == drawn
    know(monkeypatch, tmp_path, other(source="packages", recipe="none"))
    with pytest.raises(UsageError, match="none"):
        fetch("horse2zebra", Notes(), force=True)
    assert not web.requests

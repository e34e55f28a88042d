"""URLs as places: what they are called, which are refused, and what of them is shown."""

from __future__ import annotations

import contextlib
import errno
import importlib
import socket
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.programs import starting
from tests.remote.test_transfer import files_of_at_most
from ugatit_cli import files
from ugatit_cli.errors import OutputError, PictureError, StorageError, UsageError
from ugatit_cli.remote import places, zipping
from ugatit_cli.remote.addresses import forbidden_by
from ugatit_cli.remote.places import Known
from ugatit_cli.remote.systems import check
from ugatit_cli.remote.urls import Url, is_folder_text, place


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def url(text: str) -> Url:
    found = place(text)
    assert isinstance(found, Url)
    return found


@pytest.mark.parametrize(
    ("text", "name", "parent"),
    [
        ("s3://pics/in/a.b.png", "a.b.png", "s3://pics/in"),
        ("S3://pics/in/", "in", "s3://pics"),
        ("hf://datasets/me/cats@main/x/1.jpg", "1.jpg", "hf://datasets/me/cats@main/x"),
        ("zip://x/1.png::s3://pics/a.zip", "1.png", "zip://x::s3://pics/a.zip"),
        ("https://host/my%20cat.png", "my cat.png", "https://host"),
        ("memory://a", "a", "memory://"),
    ],
)
def test_a_url_is_called_and_joined_like_a_path(text: str, name: str, parent: str) -> None:
    found = url(text)
    assert found.name == name
    assert str(found.parent) == parent
    assert (found.stem, found.suffix) == (Path(name).stem, Path(name).suffix)
    assert str(place(found.full)) == str(found)
    child = found.parent / "y/z.png"
    assert found.parent.holds(child)
    assert found.parent.below(child) == "y/z.png"
    assert not child.holds(found.parent)


def test_what_is_here_comes_before_a_url(tmp_path: Path) -> None:
    folder = Path("s3:/pics")
    folder.mkdir(parents=True)
    assert place("s3://pics") == Path("s3://pics")
    assert isinstance(place("s3://pics/a.png"), Url)
    (folder / "a.png").touch()
    assert place("s3://pics/a.png") == Path("s3://pics/a.png")
    (tmp_path / "my cat.png").touch()
    for text in (f"file://{tmp_path}/my cat.png", f"file://{tmp_path}/my%20cat.png", "~/../x"):
        assert isinstance(place(text), Path)
    assert place(f"file://localhost{tmp_path}/my%20cat.png") == tmp_path / "my cat.png"


@pytest.mark.parametrize(
    "text",
    ["foo://bucket/a.png", "s3://", "zip://", "zip://a.png::", "zip://zip://a.zip", "http://", "file://other/a.png"],
)
def test_a_url_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        place(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:PASSWORD@host/a.png",
        "https://host/a.png?X-Amz-Signature=PASSWORD",
        "zip://a.png::https://me:PASSWORD@host/a.zip?token=PASSWORD",
    ],
)
def test_passwords_and_signatures_are_not_shown(text: str) -> None:
    found = url(text)
    assert "PASSWORD" in found.full
    assert "PASSWORD" not in f"{found} {found!r} {found.parent} {found.with_name('b.png')}"


def test_a_slash_at_the_end_names_a_folder() -> None:
    assert [is_folder_text(text) for text in ("s3://b/x/", "zip://a.zip", "zip://x/::a.zip", "s3://b/x", "x/")] == [
        True, True, True, False, True,
    ]  # fmt: skip


def test_nothing_is_written_to_the_web_and_nothing_asked_where_that_is_forbidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="nothing can be written"):
        check(url("https://host/out"), writing=True)
    for allowed in ("", "0", "no", "off"):
        monkeypatch.setenv("UGATIT_OFFLINE", allowed)
        assert forbidden_by() != "UGATIT_OFFLINE"
    monkeypatch.setenv("UGATIT_OFFLINE", "perhaps")
    check(url("memory://a"))
    for text in ("s3://b/a.png", "zip://s3://b/a.zip"):
        with pytest.raises(UsageError, match="UGATIT_OFFLINE forbids"):
            check(url(text))


def test_without_its_package_a_url_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError) as caught:
        check(url("s3://b/a.png"))
    assert "pip install fsspec s3fs" in caught.value.hint


def test_no_more_than_the_limit_is_read_out_of_an_archive() -> None:
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small.png", b"x" * 1000)
        archive.writestr("bomb.png", b"\0" * 2_000_000)
    assert len(places.read(url("zip://small.png::a.zip"), 1000)) == 1000
    for name in ("small", "bomb"):
        with pytest.raises(PictureError, match=f"{name}.png::a.zip: has more than 999 bytes"):
            places.read(url(f"zip://{name}.png::a.zip"), 999)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut off", None], ids=["empty", "cut off", "missing"])
def test_what_is_no_archive_is_named(data: bytes | None) -> None:
    if data is not None:
        Path("a.zip").write_bytes(data)
    with pytest.raises(PictureError, match=r"zip://x\.png::a\.zip: "):
        places.read(url("zip://x.png::a.zip"), 1000)


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[Url]:
    """A picture at a server that says the same to everybody."""

    def answer_all() -> None:
        with contextlib.suppress(OSError):
            while True:
                with server.accept()[0] as one, contextlib.suppress(OSError):
                    one.recv(1 << 16)
                    one.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_all)
        thread.start()
        yield url(f"http://127.0.0.1:{server.getsockname()[1]}/x.png")
        server.shutdown(socket.SHUT_RDWR)  # which ends waiting for the next
        thread.join()


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("200 OK\r\nContent-Length: many", "answer is broken"),
        ("200 OK\r\nContent-Length: 2", "answer is broken"),
        ("200 OK\r\nConnection: close\r\nContent-Length: 200", "broke off"),
        ("200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n8", "broke off"),
        ("200 OK\r\nX: " + "x" * 100_000, "answer is broken"),
        ("302 Found\r\nConnection: close\r\nLocation: /x.png", "too many redirects"),
        ("302 Found\r\nConnection: close\r\nLocation: file:///etc/passwd", "no web address"),
        ("400 Bad Request\r\nContent-Length: 6", "answered 400"),
    ],
    ids=["no length", "longer", "shorter", "no last chunk", "a long header", "in a circle", "to a file", "an error"],
)
def test_answers_that_make_no_sense_are_told_from_errors(head: str, reason: str) -> None:
    with (
        answering(f"HTTP/1.1 {head}\r\n\r\nabcdef".encode()) as picture,
        pytest.raises(PictureError, match=reason) as caught,
    ):
        places.read(picture, 1000)
    assert "passwd" not in caught.value.message


def test_what_is_read_is_in_memory_once() -> None:
    size = 32_000_000
    with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(size)) as endless:
        with contextlib.suppress(PictureError):
            places.read(endless, 1)  # what is imported for it
        tracemalloc.start()
        try:
            assert len(places.read(endless, 2 * size)) == size
            assert tracemalloc.get_traced_memory()[1] < 1.5 * size
        finally:
            tracemalloc.stop()


def test_an_archive_is_the_old_or_the_new_one() -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("kept.png", b"old")
        archive.writestr("x/new.png", b"old")
    before = Path("a.zip").read_bytes()
    with places.finishing():
        places.write_together([(url("zip://x/new.png::a.zip"), b"new"), (url("zip://b.png::a.zip"), b"b")])
        assert Path("a.zip").read_bytes() == before
    with zipfile.ZipFile("a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "kept.png": b"old", "x/new.png": b"new", "b.png": b"b",
        }  # fmt: skip
        assert archive.testzip() is None
    assert [path.name for path in Path().iterdir()] == ["a.zip"]
    known = Known(url("zip://a.zip"))
    assert known.state(url("zip://x/new.png::a.zip")) is not None
    assert known.state(url("zip://none.png::a.zip")) is None


def write_at_once(name: str, together: Barrier) -> None:
    """A process with a result for the archive that others end with at the same time."""
    with places.finishing():
        places.write_together([(url(f"zip://{name}::a.zip"), name.encode())])
        together.wait()


def test_no_result_is_lost_where_processes_end_with_one_archive_at_the_same_time() -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("kept.png", bytes(1 << 24))  # what takes a while to take over
    names = [f"{number}.png" for number in range(4)]
    context = starting()
    together = context.Barrier(len(names))
    processes = [context.Process(target=write_at_once, args=(name, together)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with zipfile.ZipFile("a.zip") as archive:
        assert sorted(archive.namelist()) == [*names, "kept.png"]
    assert [path.name for path in Path().iterdir()] == ["a.zip"]


def test_an_archive_that_cannot_be_taken_over_stays() -> None:
    Path("a.zip").write_bytes(b"no archive")
    with pytest.raises(OutputError, match=r"a\.zip"), places.finishing():
        places.write_together([(url("zip://b.png::a.zip"), b"b")])
    assert Path("a.zip").read_bytes() == b"no archive"
    assert zipping.begun() == []
    assert [path.name for path in Path().iterdir()] == ["a.zip"]


@pytest.mark.parametrize("again", [False, True], ids=["stays full", "has room again"])
def test_what_was_whole_when_the_disk_filled_up_is_in_the_archive(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "DISK_FULL", files.DISK_FULL | {errno.EFBIG})
    with places.finishing():
        with files_of_at_most(9_000):
            places.write_together([(url("zip://a.png::a.zip"), b"a" * 3_000)])
            styles = [(url("zip://b-1.png::a.zip"), b"b"), (url("zip://b-2.png::a.zip"), b"b" * 60_000)]
            with pytest.raises(StorageError, match=r"b-2\.png"):  # which no further picture tries
                places.write_together(styles)
        if again:
            places.write_together([(url("zip://c.png::a.zip"), b"c" * 90)])
    with zipfile.ZipFile("a.zip") as archive:
        assert archive.namelist() == ["a.png", *(["c.png"] if again else [])]
        assert archive.testzip() is None
    assert [path.name for path in Path().iterdir()] == ["a.zip"]


def test_a_full_disk_at_the_end_is_said_to_have_lost_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("kept.png", bytes(9_000))
    before = Path("a.zip").read_bytes()
    monkeypatch.setattr(files, "DISK_FULL", files.DISK_FULL | {errno.EFBIG})
    with files_of_at_most(5_000), pytest.raises(StorageError, match="lost"), places.finishing():
        places.write_together([(url("zip://b.png::a.zip"), b"b")])
    assert Path("a.zip").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["a.zip"]


@pytest.mark.parametrize(("place", "value"), [(8, 1), (10, 99)], ids=["a password", "an unknown method"])
def test_nothing_is_begun_for_an_archive_that_cannot_be_taken_over(place: int, value: int) -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("kept.png", b"old")
    before = bytearray(Path("a.zip").read_bytes())
    before[before.index(b"PK\1\2") + place] = value  # in the list of contents
    Path("a.zip").write_bytes(before)
    with pytest.raises(OutputError, match=r"a\.zip: .*kept\.png"), places.finishing():
        places.write_together([(url("zip://b.png::a.zip"), b"b")])
    assert Path("a.zip").read_bytes() == before
    assert [path.name for path in Path().iterdir()] == ["a.zip"]

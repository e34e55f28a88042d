"""Files and folders are the old or the new ones, whole; errors say which and why."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kills import without_exchange
from ugatit_cli.errors import OutputError, StorageError, plain_reason
from ugatit_cli.files import (
    expanded,
    open_file,
    read_file,
    read_toml,
    replace_folder,
    sync_folder,
    write_file,
    write_together,
)
from ugatit_cli.leftovers import hidden


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def special(path: Path, kind: str) -> None:
    """Something under a file's name that is none, or is without end."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 39)
    elif kind != "missing":
        path.symlink_to(path if kind == "loop" else "/dev/zero")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["FIFO", "folder", "huge", "loop", "endless", "missing"])
@pytest.mark.parametrize("read", [open_file, read_file, read_toml])
def test_only_regular_files_of_a_bounded_size_are_read(
    tmp_path: Path, kind: str, read: Callable[[Path], object]
) -> None:
    special(tmp_path / "f", kind)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        read(tmp_path / "f")
    assert plain_reason(caught.value)


def test_what_is_read_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(b"a = 1")
    assert (read_file(path), read_file(path, 5), read_toml(path)) == (b"a = 1", b"a = 1", {"a": 1})
    with pytest.raises(OSError, match="5 bytes"):
        read_file(path, 4)
    with open_file(path) as file:
        assert (file.readline(), file.seek(0), file.read(1)) == (b"a = 1", 0, b"a")
    with pytest.raises(OSError, match="name"):
        open_file(tmp_path / "a\0b")
    path.write_bytes(b"a." * 50_000 + b"a = 1")  # the TOML reader of Python would take half a minute
    with pytest.raises(ValueError, match="dots"):
        read_toml(path)


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_made_with_its_folders_and_replaced(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a" / "b" / "c.png"
    for data in (b"old", b"", b"new" * 100_000):
        write_file(path, data, durable=durable)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_file(tmp_path / "a.png", b"data")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageError),
        (PermissionError(errno.EACCES, "Permission denied"), OutputError),
        (OSError(errno.EIO, "Input/output error"), OutputError),
        (KeyboardInterrupt("stop"), KeyboardInterrupt),
        (RuntimeError("anything"), RuntimeError),
    ],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException, raised: type[BaseException]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, failing(error))
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        write_file(path, b"new", durable=True)
    assert type(caught.value) is raised
    if isinstance(caught.value, OutputError):
        assert caught.value.message.startswith(f"{path}: ")
        assert caught.value.hint
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"new"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError):
        write_file(tmp_path / "a.png", parts())
    assert list(tmp_path.iterdir()) == []


def test_data_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        events.append("fsync folder" if stat.S_ISDIR(status.st_mode) else f"fsync {status.st_size}")
        fsync(descriptor)

    def watched_replace(source: Path, target: Path) -> None:
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_file(tmp_path / "f", b"12345", durable=True)
    assert events == ["fsync 5", "replace", "fsync folder"]


@pytest.mark.parametrize("name", ["a.png", "b/c.png", "x" * 300])
def test_what_is_in_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(OutputError):
        write_file(tmp_path / name, b"data")
    if os.name != "nt":
        with pytest.raises(OutputError):
            write_file(Path("/dev/null"), b"data")
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255)
longest = st.sampled_from(["x" * 251 + ".png", "é" * 125 + ".png", "漢" * 83 + ".png"])


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses many of these characters")
@given(name=longest | names.filter(lambda name: name not in {".", ".."} and len(name.encode()) <= 255))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_that_a_file_may_have(name: str, tmp_path: Path) -> None:
    write_file(tmp_path / name, name.encode())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == name.encode()
    (tmp_path / name).unlink()


def test_files_of_one_result_are_written_together(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("new.png", "old.png", "folder")]
    paths[1].write_bytes(b"old")
    paths[2].mkdir()
    with pytest.raises(OutputError, match="folder: "):
        write_together([(path, path.name.encode()) for path in paths])
    assert not paths[0].exists()  # it would be a result that lacks others
    assert paths[1].read_bytes() == b"old.png"  # what was there is never removed
    write_together([(path, b"data") for path in paths[:2]])
    assert [path.read_bytes() for path in paths[:2]] == [b"data"] * 2


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "f").write_text(text)
    return path


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        without_exchange(monkeypatch)
    for text in ("old", "new"):
        replace_folder(folder(hidden(tmp_path / "m"), text), tmp_path / "m")
        assert (tmp_path / "m" / "f").read_text() == text
        assert list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_a_failure_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_exchange(monkeypatch)
    old, new = folder(tmp_path / "m", "old"), folder(hidden(tmp_path / "m"), "new")
    rename = os.rename

    def fail(source: Path, target: Path) -> None:
        if source == new:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        replace_folder(new, old)
    assert (old / "f").read_text() == "old"
    assert sorted(tmp_path.iterdir()) == sorted([old, new])


@pytest.mark.parametrize(("number", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_folders_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: bool
) -> None:
    monkeypatch.setattr(os, "fsync", failing(OSError(number, os.strerror(number))))
    with pytest.raises(OSError, match=os.strerror(number)) if raised else contextlib.nullcontext():
        sync_folder(tmp_path)


def test_without_a_home_folder_nothing_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    pwd = pytest.importorskip("pwd")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    path = expanded("~/a.txt")
    assert not path.exists()
    for place in (path, path.absolute()):
        with pytest.raises(OutputError, match="home"):
            write_file(place, b"")
    assert list(tmp_path.iterdir()) == []

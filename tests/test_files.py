"""Files that survive a crash: the old or the new one, and errors that say which file and why."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ugatit_cli.errors import OutputError, StorageError
from ugatit_cli.files import hidden, reported, sync_folder, write_durable


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for data in (b"old", b"", b"new" * 100_000):
        write_durable(tmp_path / "f", data)
        assert (tmp_path / "f").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    write_durable(tmp_path / "f", b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_durable(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


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
    write_durable(tmp_path / "f", b"12345")
    assert events == ["fsync 5", "replace", "fsync folder"]


def test_hidden_names_are_new_each_time(tmp_path: Path) -> None:
    names = {hidden(tmp_path / "model").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".model.") and name.endswith(".tmp") for name in names)


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOSPC, StorageError, "no space left"),
        (errno.EDQUOT, StorageError, "no space left"),
        (errno.EACCES, OutputError, "permission denied"),
        (errno.EIO, OutputError, "input/output error"),
    ],
)
def test_errors_name_the_file(number: int, kind: type[OutputError], text: str) -> None:
    with pytest.raises(OutputError, match=text) as caught, reported(Path("runs/x")):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind
    assert caught.value.message.startswith(f"{Path('runs/x')}: ")
    assert caught.value.hint


@pytest.mark.parametrize(("number", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_folders_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: bool
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if raised:
        with pytest.raises(OSError, match=os.strerror(number)):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)

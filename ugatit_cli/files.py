"""Files that survive a crash: written under a hidden name, waited for until they are on the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ugatit_cli.errors import OutputError, StorageError, plain_reason


def write_atomic(path: Path, data: bytes) -> None:
    """Writes the file so that at any time it is the old or the new one, whole; makes its folders."""
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise OutputError(f"{path}: is a folder or a device, not a file", "Choose another output name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def write_together(files: Sequence[tuple[Path, bytes]]) -> None:
    """Writes the files of one result: all of them, or none that wasn't there before."""
    new: list[Path] = []
    try:
        for path, data in files:
            before = path.exists()
            write_atomic(path, data)
            if not before:
                new.append(path)
    except OutputError:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary_name(name: str) -> str:
    short = name.encode("utf-8", "ignore")[:200].decode("utf-8", "ignore")  # 255 bytes is a name's limit
    return f".{short}.{secrets.token_hex(4)}.tmp"


def _unwritable(path: Path, error: Exception) -> OutputError:
    number = error.errno if isinstance(error, OSError) else None
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(f"no space left on the device for {path}", "Free some space, or write elsewhere.")
    hint = "Choose another output folder or name."
    if number in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return OutputError(f"{path}: permission denied", "Choose an output folder that you may write to.")
    return OutputError(f"{path}: can't be written ({plain_reason(error)})", hint)


DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk, or a quota that is used up."""


def hidden(path: Path) -> Path:
    """A name beside `path` that nothing has yet: `.NAME.1a2b3c4d.tmp`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_durable(path: Path, data: bytes) -> None:
    """Writes a file so that, even after a power cut, it is the old or the new one, whole.

    Unlike `encoding.write_atomic`, it waits until the file is on the disk.

    Raises:
        OSError: it can't be written; the file is the old one.
    """
    temporary = hidden(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk: those of new, renamed and removed files.

    Raises:
        OSError: the disk failed.
    """
    if os.name == "nt":  # where folders can't be opened, and NTFS keeps a journal of names
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems can't do it for folders
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns every OSError inside into `unwritable(path, error)`."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error to raise when a file or folder can't be written: a StorageError if the disk is full."""
    if error.errno in DISK_FULL:
        return StorageError(
            f"{path}: no space left on the device", "Free some space, then run the same command again."
        )
    return OutputError(f"{path}: can't be written ({plain_reason(error)})", "Check its permissions, or name another.")

"""Files that survive a crash: written under a hidden name, waited for until they are on the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ugatit_cli.errors import OutputError, StorageError
from ugatit_cli.images import plain_reason

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

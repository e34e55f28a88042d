"""Files: only regular ones are opened, and all are written whole or not at all: hidden first, then renamed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ugatit_cli.errors import OutputError, StorageError, plain_reason
from ugatit_cli.leftovers import discard, hidden, sweep_once

DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk, or a quota that is used up."""

DOCUMENT: Final = 1 << 20
"""Bytes of the largest file of settings or text; real ones have some kilobytes."""

WEIGHTS: Final = 1 << 38
"""Bytes of the largest file of weights, or of anything else that nobody reads at once."""

DOTS: Final = 500
"""Most dots in a line of TOML."""

TOML_WORDS: Final[Mapping[str, str]] = {
    r"Cannot overwrite a value": "a key is there twice",
    r"Cannot declare \((.*?),?\) twice": r"the table \1 is there twice",
    r"Invalid value": "no value, and no text, which is in quotes",
    r"Expected '=' after a key in a key/value pair": "neither [TABLE] nor KEY = VALUE",
    r"Invalid statement": "neither [TABLE] nor KEY = VALUE",
}
"""What the parser says of TOML, as patterns, and what whoever wrote it understands."""


CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no name or line of text should have."""


def expanded(path: str | Path) -> Path:
    """With the home folder for a leading `~`, if there is one: a user of a container may have none."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # where `Path.expanduser` fails


def config_folder() -> Path:
    """`ugatit` in the folder of the user's settings, there or not: `$XDG_CONFIG_HOME`, `%APPDATA%` or `~/.config`."""
    windows = os.environ.get("APPDATA") if os.name == "nt" else None
    return expanded(Path(os.environ.get("XDG_CONFIG_HOME") or windows or "~/.config", "ugatit"))


def wrong_name(name: str) -> str:
    """Why a name is not that of a file below a folder, on any system; empty if it is."""
    if CONTROLS.search(name):
        return "has control characters"
    # Windows drops dots and spaces at the end of a name, and takes a colon for a drive or a stream.
    if "\\" in name or ":" in name or any(part.rstrip(" .") != part or not part for part in name.split("/")):
        return "must be a path below a folder, like folder/file"
    return ""


def open_file(path: Path, limit: int = WEIGHTS) -> io.BufferedReader:
    """A regular file to read; for one that another library opens, too, this is the check before.

    Args:
        limit: bytes that it may have.

    Raises:
        OSError: it isn't there, may not be read, is a folder, a pipe or a device, or larger.
    """
    try:
        _check_regular(path.stat(), limit)
        file = path.open("rb")
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no file has such a name: {error}") from None
    try:
        _check_regular(os.fstat(file.fileno()), limit)
    except OSError:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, not a file")
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"has {status.st_size:,} bytes; no more than {limit:,} are read")


def read_file(path: Path, limit: int = DOCUMENT) -> bytes:
    """All of a regular file.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:  # it grew, or is one whose size the system doesn't tell
        raise OSError(errno.EFBIG, f"has more than {limit:,} bytes; no more are read")
    return data


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        OSError: as `open_file`.
        ValueError, RecursionError: it is not TOML, or nobody's.
    """
    import tomllib

    data = read_file(path)
    if any(line.count(b".") > DOTS for line in data.splitlines()):  # each part of a key copies all before it
        raise ValueError("a line with far more dots than any key has")
    return tomllib.loads(data.decode("utf-8-sig"))  # some editors on Windows begin files with the mark


def toml_reason(error: BaseException) -> str:
    """Why `read_toml` can't read a file, in words for whoever wrote it."""
    reason = plain_reason(error)
    for pattern, words in TOML_WORDS.items():
        reason = re.sub(pattern, words, reason)
    return reason


def write_file(path: Path, data: bytes | Iterable[bytes], *, durable: bool = False) -> None:
    """Writes a file so that at any time it is the old or the new one, whole; makes its folders.

    Args:
        data: all at once, or in parts that are made while they are written.
        durable: wait until it is on the disk, so that this holds after a power cut, too.

    Raises:
        OutputError: it can't be written; the file is the old one.
    """
    with reported(path):
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise OutputError(f"{path}: is a folder or a device, not a file", "Choose another output name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(path.parent)
        replace_file(path, data, durable=durable)


def replace_file(path: Path, data: bytes | Iterable[bytes], *, durable: bool = False) -> None:
    """As `write_file`, in a folder that exists.

    Raises:
        OSError: it can't be written; the file is the old one.
    """
    temporary = hidden(path)
    try:
        with temporary.open("xb") as file:
            for part in [data] if isinstance(data, bytes) else data:
                file.write(part)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        discard(temporary)


def write_together(files: Sequence[tuple[Path, bytes]]) -> None:
    """Writes the files of one result: all of them, or none that wasn't there before.

    Raises:
        OutputError: one of them can't be written.
    """
    new: list[Path] = []
    try:
        for path, data in files:
            before = os.path.lexists(path)
            write_file(path, data)
            if not before:
                new.append(path)
    except OutputError:
        for path in new:
            discard(path)
        raise


def replace_folder(temporary: Path, folder: Path) -> None:
    """Renames a folder, written beside it, to its final name, in the place of one that has it, durably.

    Whatever kills the process, one of the two is there; where the system can't let names change places, `sweep` may
    first have to put it back.

    Raises:
        OSError: it can't be renamed; the old folder is back under its name.
    """
    if not os.path.lexists(folder):
        temporary.rename(folder)
    elif not exchange(temporary, folder):
        retired = folder.rename(temporary.with_suffix(".old"))
        try:
            temporary.rename(folder)
        except BaseException:
            retired.rename(folder)
            raise
        retired.rename(temporary)  # never to be put back
    sync_folder(folder.parent)
    discard(temporary)


def exchange(one: Path, other: Path) -> bool:
    """Lets two names change places at once; False where the system, or its disk, can't do that."""
    import ctypes

    try:
        rename: Any = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or an old one
        return False
    here, exchange = -100, 2
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def retire(folder: Path) -> Path:
    """Hides a folder, or a link to one, that is to be removed: at once, so that under its name there is never a part.

    Returns:
        Its hidden name, to `discard`.

    Raises:
        OSError: it can't be renamed.
    """
    gone = folder.rename(hidden(folder))
    sync_folder(folder.parent)
    return gone


def check_space(folder: Path, size: int, hint: str = "Free some space, or name a folder on another disk.") -> None:
    """Whether a disk has room for what is to be written, before anything is.

    Raises:
        StorageError: it hasn't.
        OSError: there is no such folder.
    """
    total, _, free = shutil.disk_usage(folder)
    if size > free and total:  # some network file systems know neither
        raise StorageError(f"{folder}: {size / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free", hint)


def sync_files(folder: Path) -> None:
    """Waits until a folder and the files in it are on the disk.

    Raises:
        OSError: the disk failed.
    """
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


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
    """Turns every OSError, or a name that no file can have, into `unwritable(path, error)`."""
    if "~" in path.parts and expanded("~") == Path("~"):
        raise OutputError(f"{path}: there is no home folder", "Set HOME, or UGATIT_HOME and HF_HOME.")
    try:
        yield
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError | ValueError) -> OutputError:
    """The error to raise when a file or folder can't be written: a StorageError if the disk takes nothing more."""
    number = getattr(error, "errno", None)
    if number in DISK_FULL:
        return StorageError(
            f"{path}: no space left on the device", "Free some space, then run the same command again."
        )
    if number == errno.EROFS:
        return StorageError(f"{path}: the disk is read-only", "Make it writable, or name another place.")
    return OutputError(f"{path}: can't be written ({plain_reason(error)})", "Check its permissions, or name another.")

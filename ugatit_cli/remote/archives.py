"""Zip archives from strangers: data, of which only files come out, whole, under plain names.

What an archive says of itself is checked before anything is written; what comes out of it, as it comes: no more than
was said, with the checksum that was said.
"""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

from ugatit_cli.errors import ModelError, plain_reason
from ugatit_cli.files import WEIGHTS, check_space, open_file, reported, write_file, wrong_name
from ugatit_cli.remote.patience import Listener

LARGEST_LIST: Final = 1 << 23
"""Bytes of an archive's list of members, which is read at once; that of 8,000 pictures has a tenth."""

CHUNK: Final = 1 << 20
METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED: Final = 1 | 1 << 6
# Bytes of a member before its name.
HEADER: Final = 30

_AGAIN: Final = "Download it again; if that doesn't help, ask whoever offers it."
_HOSTILE: Final = "Nothing of it was used: it may be made to do harm. Ask whoever offers it."


@dataclass(frozen=True)
class Limits:
    """The most that is taken out of an archive.

    Attributes:
        member: bytes of one file.
        total: bytes of all.
        ratio: times the archive's own size, which counts as a megabyte at least.
    """

    member: int = WEIGHTS
    total: int = WEIGHTS
    ratio: int = 100


ORDINARY: Final = Limits()


class _Bounded(io.BufferedReader):
    """A file of which nothing longer than a list of members is read at once, whatever its end says."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGEST_LIST:
            raise zipfile.BadZipFile("far too many members")
        return super().read(size)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns whatever `zipfile` raises for archives that it can't read into one error."""
    try:
        yield
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, OverflowError, RuntimeError,
    ) as error:  # fmt: skip
        raise ModelError(f"{path}: a damaged zip archive, or none ({plain_reason(error)})", _AGAIN) from None


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, perhaps a damaged one: its end says so."""
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, struct.error, ValueError):  # of several disks, it says
        return True


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file whose list of members isn't endless; nothing else of it is checked.

    Raises:
        ModelError: it can't be read.
    """
    with _readable(path):
        raw = open_file(path).detach()
    with _Bounded(raw) as file:
        with _readable(path):
            archive = zipfile.ZipFile(file)
        yield archive


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files in an archive by name, in its order, without its folders.

    Raises:
        ModelError: it can't be read, or one of its members isn't a file below a folder, with bytes of its own.
    """
    with opened(path) as archive:
        return _members(path, archive)


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    # Names as they are written there: `zipfile` ends them at a zero.
    wrong = next(((entry.orig_filename, why) for entry in entries if (why := _wrong(entry))), None)
    wrong = wrong or _overlapping(entries, archive.start_dir) or _twice(entries)
    if wrong:
        raise ModelError(f"{path}: {shown(wrong[0])} {wrong[1]}", _HOSTILE)
    return {entry.filename: entry for entry in entries if not entry.is_dir()}


def shown(name: str) -> str:
    """A name from elsewhere in a message: short, without control characters."""
    return ascii(name if len(name) <= 80 else f"{name[:77]}...")


def _wrong(entry: zipfile.ZipInfo) -> str:
    """Why a member is no file or folder that could be taken; empty if it is."""
    if wrong := wrong_name(entry.orig_filename.removesuffix("/")):
        return wrong
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in METHODS:
        return f"is packed by a method that isn't known here ({entry.compress_type})"
    return ""


Wrong = tuple[str, str]
"""A member's name, and what is wrong with it."""


def _overlapping(entries: Collection[zipfile.ZipInfo], end: int) -> Wrong | None:
    """Members that share their bytes would be far more than the archive has."""
    starts = sorted(
        (one.header_offset, one.header_offset + HEADER + one.compress_size, one.orig_filename) for one in entries
    )
    for (_, last, name), (first, *_) in pairwise([*starts, (end, end, "")]):
        if last > first:
            return name, "overlaps with what comes after it"
    return None


def _twice(entries: Collection[zipfile.ZipInfo]) -> Wrong | None:
    """Names that are the same to some file system."""
    files, folders = set[PurePosixPath](), set[PurePosixPath]()
    for entry in entries:
        key = PurePosixPath(unicodedata.normalize("NFC", unicodedata.normalize("NFD", entry.filename).casefold()))
        folders.update([key] if entry.is_dir() else key.parents)
        if not entry.is_dir() and key in files:
            return entry.orig_filename, "is there twice"
        files.update([] if entry.is_dir() else [key])
    return next(((str(key), "is a file and a folder") for key in files & folders), None)


def take(path: Path, targets: Mapping[str, Path], listener: Listener, limits: Limits = ORDINARY) -> None:
    """Writes some of an archive's files elsewhere, each whole or not at all, and unpacks nothing else.

    Args:
        targets: member -> its file to be.

    Raises:
        ModelError: the archive can't be read, has no such member, or is damaged or hostile.
        OutputError: a file can't be written.
    """
    with opened(path) as archive:
        found = _members(path, archive)
        if missing := [name for name in targets if name not in found]:
            raise ModelError(f"{path}: has no {shown(missing[0])}", _AGAIN)
        total = sum(found[name].file_size for name in targets)
        _check_limits(path, [found[name] for name in targets], limits)
        for target in list(targets.values())[:1]:
            with reported(target):
                check_space(next(folder for folder in target.parents if folder.is_dir()), total)
        listener.begin(f"unpacking {path.name}", total, 0)
        try:
            for name, target in targets.items():
                write_file(target, _content(path, archive, found[name], listener))
        finally:
            listener.end()


def _check_limits(path: Path, entries: Collection[zipfile.ZipInfo], limits: Limits) -> None:
    total, own = sum(entry.file_size for entry in entries), path.stat().st_size
    if large := [entry for entry in entries if entry.file_size > limits.member]:
        what = f"{shown(large[0].filename)} has {large[0].file_size:,} bytes"
    elif total > min(limits.total, limits.ratio * max(own, 1_000_000)):
        what = f"{own:,} bytes that would become {total:,}"
    else:
        return
    raise ModelError(f"{path}: {what}: far more than such an archive holds", _HOSTILE)


def _content(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, listener: Listener) -> Iterator[bytes]:
    left = entry.file_size
    with _readable(path):
        with archive.open(entry) as file:
            while data := file.read(CHUNK):
                left -= len(data)
                if left < 0:
                    break
                yield data
                listener.advance(len(data))
        if left:
            raise EOFError(f"{shown(entry.filename)} has another size than it says")

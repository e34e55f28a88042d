"""Results that go into a zip archive: it is written beside its place, and put there whole when all is done.

What is in an archive that exists stays in it, but for members that have a new content.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from ugatit_cli.errors import OutputError
from ugatit_cli.files import reported
from ugatit_cli.leftovers import discard, hidden, sweep_once
from ugatit_cli.remote.systems import path_in, system
from ugatit_cli.remote.urls import Place, Url, place

if os.name == "posix":
    import fcntl


_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_ENCRYPTED: Final = 1  # a flag


class _Unbuffered(io.FileIO):
    """A file in which nothing of what a full disk refused waits to be written later."""

    def write(self, data: Any) -> int:
        left = memoryview(data)
        while left:
            left = left[super().write(left) :]
        return len(data)


@dataclass
class _Archive:
    """An archive that is being written to a temporary file."""

    where: Place
    temporary: Path
    file: _Unbuffered
    packed: zipfile.ZipFile
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, data: bytes) -> None:
        with self.lock:
            end, count = self.packed.start_dir, len(self.packed.filelist)
            try:
                self.packed.writestr(name, data)
            except BaseException:  # closing a member lists it, even if a part of it is missing
                self.packed.start_dir = end
                del self.packed.filelist[count:]
                self.packed.NameToInfo.pop(name, None)
                self.file.truncate(end)
                raise

    def drop(self, name: str) -> None:
        with self.lock:
            self.packed.filelist.remove(self.packed.NameToInfo.pop(name))

    def finish(self) -> None:
        """Puts it in its place, with what is there already."""
        try:
            with _alone(self.where):
                with self.packed:
                    self._take_over()
                self.file.close()
                if isinstance(self.where, Path):
                    self.temporary.replace(self.where)
                else:
                    system(self.where).put_file(str(self.temporary), path_in(self.where))
        finally:
            with contextlib.suppress(OSError):
                self.packed.close()
            self.file.close()
            discard(self.temporary)

    def _take_over(self) -> None:
        with contextlib.suppress(FileNotFoundError), _opened(self.where) as file, zipfile.ZipFile(file) as old:
            done = {*self.packed.namelist()}
            for member in old.infolist():
                if member.filename not in done and not member.is_dir():
                    with old.open(member) as content, self.packed.open(_copied(member), "w") as copy:
                        shutil.copyfileobj(content, copy)


_BEGUN: Final[dict[Url, _Archive]] = {}
_LOCK: Final = threading.Lock()


def add(url: Url, data: bytes) -> None:
    """Has a file in its archive, when that is finished.

    Raises:
        OutputError, OSError: it can't be written.
    """
    root = Url("zip", "", url.rest)
    with _LOCK:
        if root not in _BEGUN:
            _BEGUN[root] = _begin(root)
    _BEGUN[root].add(url.path, data)


def drop(url: Url) -> None:
    """Takes back what was added."""
    _BEGUN[Url("zip", "", url.rest)].drop(url.path)


def begun() -> list[Url]:
    """All archives that are to be finished."""
    return list(_BEGUN)


def finish(root: Url) -> None:
    """Writes an archive.

    Raises:
        Exception: it can't be written; what was there is there still.
    """
    _BEGUN.pop(root).finish()


def _begin(root: Url) -> _Archive:
    where = place(root.archive)
    check_members(root)
    if isinstance(where, Path):
        with reported(where):
            where.parent.mkdir(parents=True, exist_ok=True)
            sweep_once(where.parent)
            temporary = hidden(where)
            file = _Unbuffered(temporary, "x+")
    else:
        handle, name = tempfile.mkstemp(".zip", "ugatit-")
        temporary, file = Path(name), _Unbuffered(handle, "w+")
    return _Archive(where, temporary, file, zipfile.ZipFile(file, "w"))


def check_members(root: Url) -> None:
    """Whether what is in the archive already can be taken over in the end, before there are results to lose.

    Raises:
        OutputError: it can't.
        Exception: it can't be read.
    """
    with contextlib.suppress(FileNotFoundError):
        for member in system(root).zip.infolist():
            if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
                what = "needs a password" if member.flag_bits & _ENCRYPTED else "is packed in a way that nobody knows"
                raise OutputError(
                    f"{root}: nothing can be added, as {member.filename} in it {what}", "Name another archive."
                )


def _copied(member: zipfile.ZipInfo) -> zipfile.ZipInfo:
    copy = zipfile.ZipInfo(member.filename, member.date_time)
    copy.compress_type, copy.external_attr, copy.file_size = (
        member.compress_type,
        member.external_attr,
        member.file_size,
    )
    return copy


@contextlib.contextmanager
def _alone(where: Place) -> Iterator[None]:
    """Keeps other processes waiting that put an archive into the same folder here, where the system can do that."""
    descriptor = None
    if isinstance(where, Path) and os.name == "posix":
        with contextlib.suppress(OSError):  # some network file systems have no locks
            descriptor = os.open(where.parent, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def _opened(where: Place) -> Iterator[IO[bytes]]:
    with where.open("rb") if isinstance(where, Path) else system(where).open(path_in(where), "rb") as file:
        yield file

"""Which source each result in a folder was made of, and which results a process is at: one hidden file there.

A line for each result, only ever appended, so that several processes can write: what is torn or missing is not known,
and a result that nothing is known of counts as one of the same source. Claims are locks on bytes of the file, one for
each result: they end with their process, and where a file system has none, nobody has to wait for anybody.
"""
# ruff: noqa: PTH114, PTH116, PTH118, PTH121

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import stat
import unicodedata
from pathlib import Path
from types import TracebackType
from typing import Final

from ugatit_cli.remote.urls import Place, Url

if os.name == "posix":
    import fcntl

RECORD: Final = ".ugatit-sources"
"""The file's name."""

_HEADER: Final = b"# What each result here was made of. ugatit reads it; without it, any source counts as the same."
_MOST_BYTES: Final = 1 << 28
_HELD: Final = frozenset({errno.EACCES, errno.EAGAIN})
_URL: Final = "://"  # in no real path
_PRESENT: Final = 0  # the byte that all who have the file open share


def fold(name: str) -> str:
    """The same for names that are one file on macOS or Windows."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


class Sources:
    """The record of a folder, read at once, written after `open`; all of it does what it can and never fails.

    Args:
        folder: where results go.
        create: whether `open` makes a record where there is none.
    """

    def __init__(self, folder: Path, *, create: bool) -> None:
        self.folder = folder
        self.path = folder / RECORD
        self._real = os.path.realpath(folder)
        self._create = create
        self._opened = False
        self._file: int | None = None
        self._read = 0
        self._known: dict[str, tuple[str, int, int]] = {}
        self._folded: dict[str, str] = {}
        self._real_folder = functools.cache(os.path.realpath)
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_RDONLY | _SAFELY)
            try:
                self._load(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Sources:
        self.open()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    # --- What results were made of

    def other(self, output: Place, source: Place | None) -> str | None:
        """The source of an existing result, if it is known to be another one than `source` (None: standard input).

        A source that was only renamed, or moved together with its folder, is the same. Nothing is known of results
        elsewhere.
        """
        if isinstance(output, Url):
            return None
        if (file := self._current()) is not None:
            with contextlib.suppress(OSError):
                self._load(file)
        name = self._name(output)
        if name not in self._known:
            name = self._folded.get(fold(name), name)
            if name not in self._known or not _one_file(output, os.path.join(self._real, name)):
                return None
        recorded, *state = self._known[name]
        if recorded == "-" or source is None:
            return None if source is None and recorded == "-" else self._shown(recorded)
        if _URL in recorded or isinstance(source, Url):
            return None if recorded == str(source) else self._shown(recorded)
        before, now = os.path.normpath(os.path.join(self._real, recorded)), self._path(source)
        if before == now or _one_file(before, now) or (not os.path.lexists(before) and tuple(state) == _state(now)):
            return None
        return self._shown(recorded)

    def add(self, output: Place, source: Place | None) -> None:
        """Records of what a result here is made."""
        if isinstance(output, Url) or (file := self._current()) is None:
            return
        path = "-" if source is None else self._relative(self._path(source))
        self._write(file, self._name(output), (path, *_state(source)))

    def _write(self, file: int, name: str, line: tuple[str, int, int]) -> None:
        if self._known.get(name) != line:
            self._keep(name, line)
            with contextlib.suppress(OSError):  # a full disk is for the result itself to report
                # The line break comes first: what a kill has torn before it stays a line of its own.
                os.write(file, b"\n" + json.dumps([name, *line]).encode())

    def _keep(self, name: str, line: tuple[str, int, int]) -> None:
        self._known[name] = line
        self._folded[fold(name)] = name

    def _name(self, output: Path) -> str:
        place = os.path.join(self._real_folder(output.parent), output.name)
        return self._relative(place)

    def _path(self, source: Place) -> str:
        if isinstance(source, Url):
            return str(source)
        place = os.path.join(self._real_folder(source.parent), source.name)
        return os.path.realpath(place) if os.path.islink(place) else place

    def _relative(self, path: str) -> str:
        """As seen from the folder, so that both can be moved together."""
        if _URL in path:
            return path
        if path.startswith(os.path.join(self._real, "")):
            return path[len(self._real) :].lstrip(os.sep)
        try:
            return os.path.relpath(path, self._real)
        except ValueError:  # another drive of Windows
            return path

    def _shown(self, recorded: str) -> str:
        if recorded == "-":
            return "<stdin>"
        if _URL in recorded:
            return recorded
        path = os.path.normpath(os.path.join(self._real, recorded))
        here = os.path.join(os.path.realpath("."), "")
        return path.removeprefix(here)

    def _load(self, descriptor: int) -> None:
        """Reads what was appended since the last time."""
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_size > _MOST_BYTES:
            raise OSError(errno.EINVAL, "not a record")
        os.lseek(descriptor, self._read, os.SEEK_SET)
        data = bytearray()
        while chunk := os.read(descriptor, state.st_size - self._read - len(data)):
            data += chunk
        self._read += len(data)
        for line in data.split(b"\n"):
            with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
                name, path, size, time = json.loads(line)
                if isinstance(name, str) and isinstance(path, str):
                    self._keep(name, (path, int(size), int(time)))

    # --- What is being made

    def _current(self) -> int | None:
        """The file, opened anew where it was removed meanwhile, alone or with its folder; None without one."""
        if self._opened and (self._file is None or not _is(self._file, self.path)):
            before = self._known
            self._forget()
            self.open()
            if (file := self._file) is not None:
                for name, line in before.items():
                    if name not in self._known and os.path.lexists(os.path.join(self._real, name)):
                        self._write(file, name, line)
        return self._file

    def _forget(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._read, self._known, self._folded = None, 0, {}, {}

    def open(self) -> None:
        """Lets `add` and `claim` work, from now on until `close`: what `with` does."""
        self._opened = True
        flags = os.O_RDWR | os.O_APPEND | _SAFELY | (os.O_CREAT if self._create else 0)
        with contextlib.suppress(OSError):
            while self._file is None:
                descriptor = os.open(self.path, flags, 0o666)
                try:
                    _lock(descriptor, _PRESENT, shared=True, wait=True)
                    if not _is(descriptor, self.path):  # removed by who was alone with it until now
                        continue
                    self._load(descriptor)
                    self._file = descriptor
                finally:
                    if self._file is None:
                        os.close(descriptor)
        if self._file is not None and not os.fstat(self._file).st_size:
            with contextlib.suppress(OSError):
                os.write(self._file, _HEADER)

    def claim(self, output: Place) -> bool:
        """Whether this process may make a result; False while another one is at it, which shows of those here."""
        file = self._current()
        return file is None or isinstance(output, Url) or _lock(file, _byte(self._name(output)))

    def release(self, output: Place) -> None:
        """Gives a claim back."""
        if self._file is not None and isinstance(output, Path) and os.name == "posix":
            with contextlib.suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(self._name(output)))

    def close(self) -> None:
        """Ends all claims, and takes the file away again where nothing came of it."""
        self._opened = False
        if self._file is None:
            return
        descriptor, self._file = self._file, None
        with contextlib.suppress(OSError):
            # Whoever opens the file meanwhile waits, and finds out that it is gone.
            if _is(descriptor, self.path) and _lock(descriptor, _PRESENT):
                self._load(descriptor)
                if not any(os.path.lexists(os.path.join(self._real, name)) for name in self._known):
                    self.path.unlink()
        os.close(descriptor)


# A stranger's pipe, link or terminal of that name is none of ours.
_SAFELY: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def _lock(descriptor: int, byte: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Whether nobody else has the byte; True, too, where there are no locks."""
    if os.name != "posix":
        return True
    try:
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        fcntl.lockf(descriptor, how, 1, byte)
    except OSError as error:
        return error.errno not in _HELD
    return True


def _byte(name: str) -> int:
    """A byte of a result's own, wherever names are folded."""
    digest = hashlib.blake2b(fold(name).encode(errors="surrogateescape"), digest_size=8).digest()
    return 1 + (int.from_bytes(digest) >> 2)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _one_file(one: str | Path, other: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return os.path.samefile(one, other)
    return False


def _state(source: str | Place | None) -> tuple[int, int]:
    """Size and time of change of a source, which tell it where its name has changed."""
    with contextlib.suppress(OSError):
        if source is not None and not isinstance(source, Url):
            state = os.stat(source)
            return state.st_size, state.st_mtime_ns
    return 0, 0

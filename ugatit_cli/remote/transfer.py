"""Downloads of files of any server: going on where they stopped, given up when they stall, never longer than told."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ugatit_cli.errors import NoRoomError, StorageError
from ugatit_cli.files import check_space, reported
from ugatit_cli.remote import patience
from ugatit_cli.remote.patience import Listener, TransferError

UNPACKED: Final = 100
"""How much longer than what is sent a file may be that a server packs, though nobody asked it to."""


@contextlib.contextmanager
def room_needed() -> Iterator[None]:
    """Turns a full disk into something that can't be fetched: for functions that do all of it."""
    try:
        yield
    except StorageError as error:
        raise NoRoomError(error.message, error.hint) from error


class Source:
    """A file on a server.

    Attributes:
        label: what a listener is told of it.
        size: its bytes, if known; the first answer may tell.
        elsewhere: what to do if the disk is too small.
    """

    label: str
    size: int | None
    elsewhere: str

    @property
    def most(self) -> int:
        """Bytes after which it is longer than it can be."""
        raise NotImplementedError

    def ask(self, start: int) -> contextlib.AbstractContextManager[Any]:
        """The answer to a request for the file from a byte on."""
        raise NotImplementedError

    def check(self, answer: Any) -> None:
        """Whether the file comes, or something else.

        Raises:
            Exception: something else.
        """

    def is_same(self, answer: Any) -> bool:  # noqa: ARG002
        """Whether a part belongs to the file of which there is a part already."""
        return True

    def begins(self, answer: Any) -> None:
        """The file comes from its first byte on; nothing is left of a part."""

    def excess(self, most: int) -> str:
        """In words, what one with more bytes than it can have does."""
        if most < self.most:
            return f"unpacks to more than {most:,} bytes, over {UNPACKED} times what was sent"
        why = "the most of a file whose size nobody tells" if self.size is None else "which it should have"
        return f"is longer than {most:,} bytes, {why}"

    def too_long(self, most: int) -> Exception:
        """What to raise for one with more bytes than it can have."""
        raise NotImplementedError


def download(source: Source, part: Path, listener: Listener) -> None:
    """Downloads a file to `part`, going on with what is there; what came before an error stays, for the next call.

    Not by the Hub client's `hf_hub_download`, which begins again after a kill, nor by its `http_get`: that writes
    10 MB at once, loses what it has of them when the line breaks, and appends whatever comes instead of the file.

    Raises:
        StorageError: the disk is full.
        OutputError: `part` can't be written.
        Exception: those of the source, and of the HTTP library.
    """
    with reported(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.exists() and part.stat().st_size > (source.size or 0):
            part.unlink()
        # Unbuffered: what was written is there, and nothing is left for closing to write.
        no_link = getattr(os, "O_NOFOLLOW", 0)
        file = io.FileIO(part, "a", opener=lambda name, flags: os.open(name, flags | no_link, 0o666))
    with file:
        transfer = _Transfer(source, file, part, listener)
        try:
            patience.patiently(transfer.receive, listener, lambda: transfer.size)
        finally:
            transfer.end()
        with reported(part):
            os.fsync(file.fileno())


class _Transfer:
    """A file on its way into `part`, which has `size` bytes of it."""

    def __init__(self, source: Source, file: io.FileIO, part: Path, listener: Listener) -> None:
        self.source, self.file, self.part, self.listener = source, file, part, listener
        self.begun = False
        with reported(part):
            self.size = os.fstat(file.fileno()).st_size
        if source.size is not None:
            self._begin()

    def _begin(self) -> None:
        """As soon as the size is known, or that nobody tells it."""
        if self.begun:
            return
        with reported(self.part):
            check_space(self.part.parent, (self.source.size or 0) - self.size, self.source.elsewhere)
        self.listener.begin(self.source.label, self.source.size, self.size)
        self.begun = True

    def end(self) -> None:
        """The file is here, or has failed."""
        if self.begun:
            self.listener.end()

    def _begin_again(self) -> None:
        if self.begun:
            self.listener.advance(-self.size)
        with reported(self.part):
            self.file.truncate(0)
        self.size = 0

    def receive(self) -> None:
        """One request, unless everything is here."""
        if self.size == self.source.size:
            return
        with self.source.ask(self.size) as answer:
            self._check(answer)
            self._begin()
            start, packed = self.size, "Content-Encoding" in answer.headers
            for data in _steadily(answer.iter_bytes()):
                most = start + UNPACKED * answer.num_bytes_downloaded if packed else self.source.most
                self._take(data, min(most, self.source.most))
        if self.size < (self.source.size or 0):
            raise TransferError("the connection broke off")

    def _check(self, answer: Any) -> None:
        start = self.size
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if answer.status_code == 416 or (answer.status_code == 206 and not (goes_on and self.source.is_same(answer))):
            self._begin_again()
            raise TransferError("another part came than that of the file")
        self.source.check(answer)
        length = announced(answer)
        if length is not None and self.source.size not in (None, length):
            raise TransferError(f"a file of {length:,} bytes came")  # nothing of it gets among what is here
        if start and answer.status_code == 200:  # a server that sends nothing but whole files, or another version
            self._begin_again()
        if not self.size:
            self.source.begins(answer)

    def _take(self, data: bytes, most: int) -> None:
        if self.size + len(data) > most:
            self._begin_again()
            raise self.source.too_long(most)
        with reported(self.part):
            rest = memoryview(data)
            while rest:
                rest = rest[self.file.write(rest) :]
        self.size += len(data)
        self.listener.advance(len(data))


def announced(answer: Any) -> int | None:
    """Bytes that the whole file has, as an answer tells; None if it doesn't."""
    length = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if answer.status_code == 200 and "Content-Encoding" not in answer.headers:
        length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _steadily(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Passes blocks on while enough of them come.

    Raises:
        TransferError: too few bytes per second.
    """
    since, count = time.monotonic(), 0
    for block in blocks:
        yield block
        count += len(block)
        passed = time.monotonic() - since
        if passed >= patience.PATIENCE.window:
            if count < patience.PATIENCE.least * passed:
                raise TransferError(f"only {count / passed:.0f} bytes per second came")
            since, count = time.monotonic(), 0

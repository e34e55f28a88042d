"""The standard streams: messages never end the work, and what is said of strangers' files commands no terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Final, TextIO, cast

from ugatit_cli.cli import voice
from ugatit_cli.errors import StorageError
from ugatit_cli.wording import shown

# How progress bars of libraries move: to the line's start, and between lines.
_MOVES: Final = re.compile(r"\r|\n*(?:\x1b\[A)*")


class NobodyReadsError(StorageError):
    """Standard output was closed from the start."""


class _Stream:
    """A text stream; what isn't said here is as the stream has it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Unfiltered(_Stream):
    """Standard error for who filters by himself: what can't be written is dropped."""

    def write(self, text: str) -> int:
        """Writes it, if that can be."""
        with contextlib.suppress(OSError, ValueError):
            try:
                self._stream.write(text)
            except RuntimeError:  # a signal's handler speaks while another message is being written
                os.write(self._stream.fileno(), text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Writes what is left, if that can be."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._stream.flush()


class Messages(Unfiltered):
    """Standard error: libraries' warnings, logs and bars."""

    @property
    def unfiltered(self) -> Unfiltered:
        """For rich, which adds colours and filters texts sooner."""
        return Unfiltered(self._stream)

    def write(self, text: str) -> int:
        """Writes it, if that can be."""
        voice.current.overhear(text)
        moves = _MOVES.match(text)
        start = moves.end() if moves else 0
        super().write(text[:start] + "\n".join(shown(line, sys.maxsize) for line in text[start:].split("\n")))
        return len(text)


class Results(_Stream):
    """Standard output, which somebody has asked for.

    Raises:
        StorageError: (from all methods) it can't be written, because it is full or closed.
        BrokenPipeError: its reader has left.
    """

    _failure: Exception | None = None

    @property
    def buffer(self) -> Results:
        """The same for bytes."""
        return Results(self._stream.buffer)

    def write(self, data: Any) -> int:
        """Writes it."""
        if self._failure:
            raise self._failure
        with self._checked():
            return int(self._stream.write(data))

    def flush(self) -> None:
        """Writes what is left."""
        with self._checked():
            self._stream.flush()

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is still buffered would fail again, with a traceback, when Python ends.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._failure = _understood(error)
            raise self._failure from None


def _understood(error: OSError) -> Exception:
    if error.errno == errno.EPIPE:
        return error
    if error.errno == errno.EBADF:
        return NobodyReadsError("standard output is closed", "Send it to a file or a program.")
    return StorageError(f"standard output can't be written: {error.strerror}")


def open_streams() -> None:
    """Takes the standard streams' places.

    One that is closed gets the null device, so that no file takes its number: one of the system that can't be read,
    or not be written, which fails as a closed one does.
    """
    # In the order of their numbers: a new file gets the lowest that is free.
    if sys.stdin is None:
        sys.stdin = _null(os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = _null(os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = _null(os.O_WRONLY)
    if not isinstance(sys.stdout, _Stream):
        sys.stdout = cast(TextIO, Results(sys.stdout))
    if not isinstance(sys.stderr, _Stream):
        sys.stderr = cast(TextIO, Messages(sys.stderr))


def _null(flags: int) -> TextIO:
    return open(os.open(os.devnull, flags), "w", encoding="utf-8", errors="backslashreplace", closefd=False)

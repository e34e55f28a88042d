"""Pictures that wait: in memory as long as there is room, else on disk."""

from __future__ import annotations

import itertools
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from ugatit_cli.errors import StorageError, plain_reason
from ugatit_cli.pictures.reading import Frame

# Bytes of all pictures that wait in memory.
ROOM: Final = 256_000_000


@dataclass(frozen=True, eq=False)
class Kept:
    """Pictures in a spool: `frames` in memory, or in the file `path`, and whether each is without alpha."""

    frames: tuple[Frame, ...]
    path: Path | None = None
    opaque: tuple[bool, ...] = ()


class Spool:
    """Keeps pictures, for several threads: `room` bytes in memory, the rest in a folder that is removed in the end.

    What can't be written or read is a StorageError.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._lock = threading.RLock()  # memory may be collected anywhere
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, frames: Sequence[Frame]) -> Kept:
        """Keeps pictures until they are taken."""
        size = sum(frame.rgb.width * frame.rgb.height * (3 if frame.alpha is None else 4) for frame in frames)
        with self._lock:
            if size <= self._room:
                self._room -= size
                kept = Kept(tuple(frames))
                weakref.finalize(kept, self._make_room, size)  # also where nobody takes them
                return kept
        path = Path()
        try:
            path = self._new_path()
            with path.open("wb") as file:
                for layer in (layer for frame in frames for layer in (frame.rgb, frame.alpha) if layer is not None):
                    np.save(file, np.asarray(layer), allow_pickle=False)
        except OSError as error:
            folder = path.parent if path.name else "the folder for temporary files"
            message = f"{folder}: can't be written ({plain_reason(error)})"
            raise StorageError(message, "Set TMPDIR to a folder with more space.") from error
        return Kept((), path, tuple(frame.alpha is None for frame in frames))

    def _make_room(self, size: int) -> None:
        with self._lock:
            self._room += size

    def _new_path(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="ugatit-", ignore_cleanup_errors=True)
            return Path(self._folder.name) / f"{next(self._numbers)}.npy"

    def take(self, kept: Kept) -> tuple[Frame, ...]:
        """The pictures; those on disk a single time."""
        if kept.path is None:
            return kept.frames
        try:
            with kept.path.open("rb") as file:
                frames = tuple(
                    Frame(
                        Image.fromarray(np.load(file, allow_pickle=False)),
                        None if opaque else Image.fromarray(np.load(file, allow_pickle=False)),
                    )
                    for opaque in kept.opaque
                )
            kept.path.unlink()
        except (OSError, ValueError, EOFError) as error:
            reason = f"{kept.path}: can't be read ({plain_reason(error)})"
            raise StorageError(reason, "Run the command again.") from error
        return frames

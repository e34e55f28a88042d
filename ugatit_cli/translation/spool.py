"""Pictures that wait: in memory as long as there is room, else on disk."""

from __future__ import annotations

import itertools
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar, cast

import numpy as np
from PIL import Image

from ugatit_cli.errors import StorageError, plain_reason
from ugatit_cli.pictures.geometry import Pixels

# Bytes of all pictures that wait in memory.
ROOM: Final = 256_000_000

Kind = TypeVar("Kind", bound=Pixels | Image.Image)


class Kept(Generic[Kind]):
    """A picture in a spool, which has it as long as this object exists: in memory, or in the file `path`."""

    def __init__(self, picture: Kind, path: Path | None = None) -> None:
        self.path = path
        self._picture = None if path else picture
        self._image = isinstance(picture, Image.Image)

    def load(self) -> Kind:
        """The picture, as it was.

        Raises:
            StorageError: its file can't be read.
        """
        if self._picture is not None:
            return self._picture
        assert self.path is not None
        try:
            values = np.load(self.path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = f"{self.path}: can't be read ({plain_reason(error)})"
            raise StorageError(reason, "Run the command again.") from error
        return cast(Kind, Image.fromarray(values) if self._image else values)


class Keep(Protocol):
    """`Spool.keep`, or `Spool.hold`."""

    def __call__(self, picture: Kind) -> Kept[Kind]:
        """Keeps uint8 pixels, or an RGB or L image."""


def _size(picture: Pixels | Image.Image) -> int:
    return picture.nbytes if isinstance(picture, np.ndarray) else picture.width * picture.height * len(picture.mode)


class Spool:
    """Pictures of several threads: `room` bytes in memory, the rest in a folder that is removed at the end."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = self._left = room
        self._lock = threading.RLock()  # memory may be collected anywhere
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def crowded(self) -> bool:
        """Whether there is hardly any room in memory."""
        return 2 * self._left < self._room

    def hold(self, picture: Kind) -> Kept[Kind]:
        """Keeps uint8 pixels, or an RGB or L image, in memory, even if there is no room."""
        with self._lock:
            self._left -= _size(picture)
        kept = Kept(picture)
        weakref.finalize(kept, self._make_room, _size(picture)).atexit = False
        return kept

    def keep(self, picture: Kind) -> Kept[Kind]:
        """Keeps the same where there is room.

        Raises:
            StorageError: it can't be written.
        """
        with self._lock:
            if _size(picture) <= self._left:
                return self.hold(picture)
        path = self._written(np.asarray(picture))
        kept = Kept(picture, path)
        weakref.finalize(kept, path.unlink, missing_ok=True).atexit = False
        return kept

    def _written(self, pixels: Pixels) -> Path:
        folder: str | Path = "the folder for temporary files"
        try:
            with self._lock:
                self._folder = self._folder or tempfile.TemporaryDirectory(
                    prefix="ugatit-", ignore_cleanup_errors=True
                )
                folder = self._folder.name
                path = Path(folder) / f"{next(self._numbers)}.npy"
            with path.open("wb") as file:
                np.save(file, pixels, allow_pickle=False)
        except OSError as error:
            message = f"{folder}: can't be written ({plain_reason(error)})"
            raise StorageError(message, "Set TMPDIR to a folder with more space.") from error
        return path

    def _make_room(self, size: int) -> None:
        with self._lock:
            self._left += size

"""Pictures that wait on disk, so that any number of them takes no memory."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from ugatit_cli.errors import StorageError
from ugatit_cli.geometry import Pixels
from ugatit_cli.images import plain_reason


class Spool:
    """A temporary folder, made when it is needed and removed in the end."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, pictures: Sequence[Pixels]) -> Path:
        """Writes arrays of one shape; the path is for `take`.

        Raises:
            StorageError: they can't be written.
        """
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="ugatit-", ignore_cleanup_errors=True)
            path = Path(self._folder.name) / f"{next(self._numbers)}.npy"
            np.save(path, np.stack(pictures), allow_pickle=False)
        except OSError as error:
            folder = self._folder.name if self._folder else "the folder for temporary files"
            message = f"{folder}: can't be written ({plain_reason(error)})"
            raise StorageError(message, "Set TMPDIR to a folder with more space.") from error
        return path

    def take(self, path: Path) -> list[Pixels]:
        """The arrays that `put` has written, a single time.

        Raises:
            StorageError: they are gone.
        """
        try:
            pictures = list(np.load(path, allow_pickle=False))
            path.unlink()
        except (OSError, ValueError, EOFError) as error:
            raise StorageError(f"{path}: can't be read ({plain_reason(error)})", "Run the command again.") from error
        return pictures

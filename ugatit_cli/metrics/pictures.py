"""Sets of pictures to measure: found below folders, read as equal tensors, and matched by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ugatit_cli import images
from ugatit_cli.dataset_files import below, find_pictures
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.geometry import Pixels

BATCH: Final = 16
WHITE: Final = (255, 255, 255)

Size = tuple[int, int]


@dataclass(frozen=True)
class PictureSet:
    """The pictures below a folder.

    Attributes:
        folder: where they are.
        files: in an order that doesn't depend on the machine.
    """

    folder: Path
    files: tuple[Path, ...]

    def by_name(self) -> dict[str, Path]:
        """The files by what they are called below the folder, without their suffix.

        Raises:
            UsageError: two pictures differ by their suffix only.
        """
        named: dict[str, Path] = {}
        for path in self.files:
            name = below(self.folder, path.with_suffix(""))
            if name in named:
                raise UsageError(
                    f"{path}: has the name of {named[name]}", "With --pairs, names must tell pictures apart."
                )
            named[name] = path
        return named


def find_set(folder: Path) -> PictureSet:
    """All pictures below a folder.

    Raises:
        UsageError: there is no such folder, or no picture in it.
    """
    files = find_pictures(folder)
    if not files:
        raise UsageError(f"{folder}: there are no pictures", "Give a folder with pictures.")
    return PictureSet(folder, tuple(files))


def pairs_of(pictures: PictureSet, truth: PictureSet) -> dict[Path, Path]:
    """For each picture that has one, the ground truth of the same name.

    Raises:
        UsageError: none has one, or names are not unique.
    """
    mine, theirs = pictures.by_name(), truth.by_name()
    found = {mine[name]: theirs[name] for name in mine if name in theirs}
    if not found:
        raise UsageError(
            f"no picture in {pictures.folder} has the name of one in {truth.folder}",
            "--pairs takes a folder with the same file names: what each translation should look like.",
        )
    return found


@dataclass
class Reader:
    """Reads pictures as tensors of one size; those that can't be read are remembered, and the rest goes on.

    Attributes:
        side: makes all pictures square, with this side; None: they must have one size already.
        workers: threads that decode.
        broken: what couldn't be read.
    """

    side: int | None = None
    workers: int = 2
    broken: dict[Path, PictureError] = field(default_factory=dict)
    _first: tuple[Path, Size] | None = None

    @property
    def size(self) -> Size:
        """Width and height of all pictures; of the first one that was read unless `side` says it."""
        return self._first[1] if self._first else (self.side or 0, self.side or 0)

    def batches(self, files: Sequence[Path]) -> Iterator[tuple[list[Path], Tensor]]:
        """The pictures that can be read, with their files: uint8 (N, 3, H, W), N from 1 to 16.

        Raises:
            UsageError: they have different sizes.
        """
        chunks = [files[first : first + BATCH] for first in range(0, len(files), BATCH)]
        with ThreadPoolExecutor(self.workers, "ugatit-read") as pool:
            ahead = list(pool.map(self._try, chunks[0])) if chunks else []
            for i, chunk in enumerate(chunks):
                following = [pool.submit(self._try, path) for path in (chunks[i + 1] if i + 1 < len(chunks) else ())]
                good, pixels = self._batch(chunk, ahead)
                if good:
                    yield good, pixels
                ahead = [one.result() for one in following]

    def _try(self, path: Path) -> Pixels | PictureError:
        try:
            return self._read(path)
        except PictureError as error:
            return error
        except MemoryError:
            return PictureError(f"{path}: not enough memory to decode it")

    def _read(self, path: Path) -> Pixels:
        """The first frame, upright in sRGB, on white: uint8 (H, W, 3)."""
        picture = images.composite(images.read_picture(path, first_only=True).frames[0], WHITE)
        if self.side is not None and picture.size != (self.side, self.side):
            picture = picture.resize((self.side, self.side), Image.Resampling.LANCZOS)
        return np.asarray(picture)

    def _batch(self, files: Sequence[Path], read: Sequence[Pixels | PictureError]) -> tuple[list[Path], Tensor]:
        good: list[Path] = []
        pixels: list[Tensor] = []
        for path, one in zip(files, read, strict=True):
            if isinstance(one, PictureError):
                self.broken[path] = one
                continue
            self._check_size(path, one)
            good.append(path)
            pixels.append(torch.from_numpy(one.copy()).permute(2, 0, 1))
        return good, torch.stack(pixels) if pixels else torch.empty(0, 3, 1, 1, dtype=torch.uint8)

    def _check_size(self, path: Path, pixels: Pixels) -> None:
        size = (pixels.shape[1], pixels.shape[0])
        if self._first is None:
            self._first = path, size
        first, expected = self._first
        if size != expected:
            raise UsageError(
                f"pictures have different sizes: {first} has {expected[0]}x{expected[1]} pixels, "
                f"{path} has {size[0]}x{size[1]}",
                "--size N makes all of them N x N pixels: sharpness counts, so take the translations' size.",
            )

    def one(self, path: Path) -> Tensor | None:
        """A single picture, uint8 (1, 3, H, W); None if it can't be read.

        Raises:
            UsageError: it has another size.
        """
        good, pixels = self._batch([path], [self._try(path)])
        return pixels if good else None

    def check_first(self, sets: Iterable[Sequence[Path]]) -> None:
        """Finds sets of different sizes before anything is computed.

        Raises:
            UsageError: their first pictures that can be read differ.
        """
        for files in sets:
            next((one for one in map(self.one, files) if one is not None), None)

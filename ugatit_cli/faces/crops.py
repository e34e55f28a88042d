"""Training pictures of faces: square crops of one size, cut out of photos."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from ugatit_cli import files
from ugatit_cli.errors import OutputError, UsageError
from ugatit_cli.faces.finder import FaceFinder
from ugatit_cli.pictures import encoding, reading
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.geometry import WHITE
from ugatit_cli.pictures.reading import Picture
from ugatit_cli.pictures.regions import Region, cut
from ugatit_cli.remote.places import exists, write_together
from ugatit_cli.remote.urls import Place

LEAST: Final = 16
MOST: Final = 2048


ENDING: Final = "_face1"
"""What the name of the first face's file has before its suffix."""


def numbered(path: Place, number: int) -> Place:
    """The file of a face, of that of the first one: `cat_face1.png`, `cat_face2.png`, ..."""
    return path.with_name(f"{path.stem.removesuffix(ENDING)}_face{number}{path.suffix}")


def named_faces(path: Place, count: int, *, replaces: bool) -> tuple[Place, ...]:
    """The files of all faces, of that of the first one.

    Raises:
        OutputError: a further one exists, and nobody said that it may be replaced.
    """
    paths = (path, *(numbered(path, number) for number in range(2, count + 1)))
    taken = [] if replaces else [one for one in paths[1:] if exists(one)]
    if taken:
        raise OutputError(f"{taken[0]}: exists already", "Pass --overwrite, or name another folder.")
    return paths[:count]


def from_before(paths: Iterable[Place]) -> tuple[str, ...]:
    """A note that names results which were not made this time, up to the first that isn't there."""
    there = ", ".join(str(one) for one in itertools.takewhile(exists, paths))
    return (f"{there}: from before, not made this time",) if there else ()


def further_faces(path: Place, count: int) -> Iterator[Place]:
    """Files of faces after so many, of that of the first one."""
    return (numbered(path, number) for number in itertools.count(count + 1))


@dataclass(frozen=True)
class Cropped:
    """What became of a photo.

    Attributes:
        paths: files that were written, that of the largest face first.
        small: how many faces were left out, as they would have had to be enlarged too much.
        notes: what else there is to say.
    """

    paths: tuple[Place, ...]
    small: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaceCropper:
    """Cuts faces out of photos, turned so that the eyes are level.

    Attributes:
        size: side of the crops in pixels.
        least: side in the photo that a crop has at least; smaller ones are left out.
        replaces: files that exist may be overwritten.
    """

    finder: FaceFinder
    size: int = 256
    least: int = 128
    replaces: bool = False
    max_pixels: int | None = MAX_PIXELS

    def __post_init__(self) -> None:
        if not LEAST <= self.size <= MOST:
            raise UsageError(f"--size {self.size}: unknown", f"It goes from {LEAST} to {MOST} pixels.")

    def __call__(self, source: Path, output: Path) -> Cropped:
        """Writes the faces of a photo's first frame, all of them or none: PNG.

        Args:
            output: the file of the first face, see `numbered`.

        Raises:
            PictureError: the photo can't be read.
            OutputError: a file can't be written; StorageError if the disk is full.
        """
        frame = reading.read_picture(source, max_pixels=self.max_pixels, first_only=True).frames[0]
        found = self.finder(frame, source)
        wanted = [region for region in reversed(found) if region.size[0] >= self.least]
        photo = reading.Frame(reading.composite(frame, WHITE), None)
        paths = named_faces(output, len(wanted), replaces=self.replaces)
        if wanted:
            with files.reported(output):
                output.parent.mkdir(parents=True, exist_ok=True)
        write_together([(path, self._encoded(photo, one)) for path, one in zip(paths, wanted, strict=True)])
        notes = from_before(further_faces(output, len(paths)))
        return Cropped(paths, len(found) - len(wanted), notes)

    def _encoded(self, photo: reading.Frame, region: Region) -> bytes:
        crop = cut(photo, region).rgb
        sized = crop.resize((self.size, self.size), Image.Resampling.LANCZOS)
        return encoding.encode(Picture([reading.Frame(sized, None)], "PNG"), "PNG")

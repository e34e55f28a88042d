"""Pictures to train on, ready to take crops from.

Every file is decoded once before training starts: a truncated picture is found now and not in the night, and what
fits into memory needn't be decoded again. Which picture comes when is the business of `batches.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, NoReturn, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from ugatit_cli.config import DOMAINS, Domain
from ugatit_cli.errors import DataError, Interrupted, PictureError, UsageError, plain_reason
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.jobs import LINKED, in_words
from ugatit_cli.pictures.names import kind_of
from ugatit_cli.pictures.reading import SUFFIXES

# Pictures that a domain needs to train on, and from which on it spares some for a hold-out in percent.
MINIMUM, HOLDOUT_FROM = 8, 20


# --- Finding -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folders:
    """Where the pictures of both domains are: to train on, and to hold out (None: some of the others are)."""

    a: Path
    b: Path
    test_a: Path | None = None
    test_b: Path | None = None


Split = Literal["trainA", "trainB", "testA", "testB"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)


def split_named(name: str) -> Split | None:
    """The set that a name is that of: `trainA` as the authors write it, or `train_A`, `Train-a`, `train a`."""
    plain = re.sub("[ _-]", "", name).casefold()
    return next((split for split in SPLITS if split.casefold() == plain), None)


def split_layout(data: Path) -> Folders:
    """The folders of a dataset: `trainA`, `trainB`, and `testA`, `testB` if there.

    Case doesn't matter, and between `train` and `A` there may be a `_`, `-` or space, or `A` may be a folder inside
    `train`: `train_A`, `TrainA`, `train/A`.

    Raises:
        UsageError: `data` or one of the two training folders is missing, or a set has two folders.
    """
    found = layout_of(data)
    missing = [name for name in SPLITS[:2] if name not in found]
    if missing:
        raise UsageError(
            f"{data}: has no folder {' and no folder '.join(missing)}",
            "It should have trainA and trainB with the pictures of both domains, and may have testA and testB.",
        )
    return Folders(found["trainA"], found["trainB"], found.get("testA"), found.get("testB"))


def layout_of(data: Path) -> dict[Split, Path]:
    """The folders that `split_layout` takes, as far as they are there; it raises the same errors."""
    _check_folder(data)
    found: dict[Split, Path] = {}
    for outer in _subfolders(data):
        inside = _subfolders(outer) if outer.name.casefold() in ("train", "test") else []
        for path in (outer, *inside):
            split = split_named("".join(path.relative_to(data).parts))
            if split is not None and split in found:
                raise UsageError(f"{found[split]} and {path}: both are {split}", "Rename or remove one of them.")
            if split is not None:
                found[split] = path
    return found


def layout_root(folders: Folders) -> Path | None:
    """The dataset that the training folders are the sets of, for its name; None if they aren't named like sets."""
    a, b = folders.a.resolve(), folders.b.resolve()
    for root in (a.parent, a.parent.parent):
        names = ["".join(path.parts[len(root.parts) :]) for path in (a, b) if path.is_relative_to(root)]
        if [split_named(name) for name in names] == ["trainA", "trainB"]:
            return root
    return None


def domains_in(name: str) -> tuple[str, str] | None:
    """The domains that a dataset is named after: of `horse2zebra` horse and zebra."""
    halves = re.fullmatch(r"([^\W\d]+)2([^\W\d]+)", name)
    return (halves[1], halves[2]) if halves else None


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if os.path.isdir(path))  # noqa: PTH112  # never raises
    except OSError as error:
        _unreadable(error)


def find_pictures(folder: Path, *, exclude: Collection[Path] = ()) -> list[Path]:
    """All files below `folder` that are named like pictures, in an order that doesn't depend on the machine.

    Hidden files and folders are skipped, and `exclude`, and folders of training runs: samples are no pictures of a
    domain. Links to files are followed, those to folders aren't.

    Raises:
        UsageError: there is no such folder, or one can't be read.
    """
    _check_folder(folder)
    files = (path for _, files in _walk(folder, exclude) for path in files)
    found = [path for path in files if path.name[0] != "." and path.suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda path: below(folder, path))


@dataclass(frozen=True)
class PictureSet:
    """The pictures below a folder, in an order that doesn't depend on the machine."""

    folder: Path
    files: tuple[Path, ...]

    def by_name(self) -> dict[str, Path]:
        """Each by its path below the folder without its suffix, as translations are named like their sources.

        Raises:
            UsageError: two differ by their suffix only.
        """
        named: dict[str, Path] = {}
        for path in self.files:
            first = named.setdefault(below(self.folder, path.with_suffix("")), path)
            if first != path:
                raise UsageError(f"{path}: has the name of {first}", "Names must tell pictures apart.")
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


def passed_over(folder: Path, *, exclude: Collection[Path] = ()) -> Counter[str]:
    """What `find_pictures` leaves: how many files of which suffix, and linked folders; it raises the same errors."""
    counts = Counter[str]()
    for folders, files in _walk(folder, exclude):
        counts.update(LINKED for path in folders if path.is_symlink())
        counts.update(
            kind_of(path.name) for path in files if path.name[0] != "." and path.suffix.lower() not in SUFFIXES
        )
    return counts


def _walk(folder: Path, exclude: Collection[Path]) -> Iterator[tuple[list[Path], list[Path]]]:
    """The subfolders and files of each folder that is searched; links to folders are among the subfolders."""
    closed = {os.path.realpath(path) for path in exclude}
    for parent, names, files in os.walk(folder, onerror=_unreadable):
        open_ = [Path(parent, name) for name in names if name[0] != "."]
        open_ = [path for path in open_ if os.path.realpath(path) not in closed and not _is_run(path)]
        names[:] = [path.name for path in open_]
        yield open_, [Path(parent, name) for name in files]


def _unreadable(error: OSError) -> NoReturn:
    raise UsageError(f"{error.filename}: {plain_reason(error)}", "Check the permissions of this folder.") from error


def _is_run(folder: Path) -> bool:
    # Not the methods of `Path`: they raise where a folder can't be read, which is for the search itself to report.
    return os.path.isfile(folder / "config.toml") and os.path.isdir(folder / "checkpoints")  # noqa: PTH112, PTH113


def _check_folder(folder: Path) -> None:
    # Not the methods of `Path`, which raise where a name is too long.
    if not os.path.isdir(folder):  # noqa: PTH112
        reason = "is a file, not a folder" if os.path.exists(folder) else "there is no such folder"  # noqa: PTH110
        raise UsageError(f"{folder}: {reason}", "Give a folder with pictures.")


def below(folder: Path, path: Path) -> str:
    """What `path` is called below `folder`, the same on every machine."""
    return path.relative_to(folder).as_posix()


def check_apart(given: Sequence[Path]) -> None:
    """Pictures in two sets at once would teach that horses are zebras, or be a test of what was learnt by heart.

    Raises:
        UsageError: a folder is another one, or inside another one.
    """
    for (i, one), (j, other) in itertools.permutations(enumerate(given), 2):
        inner, outer = one.resolve(), other.resolve()
        if i > j and inner == outer:
            raise UsageError(f"{one}: the same folder as {other}", "Give each set a folder of its own.")
        if outer in inner.parents:
            raise UsageError(f"{one}: is inside {other}", "Move one of them out of the other.")


# --- Hold-out ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holdout:
    """How many pictures are kept from training, to look at later: a number of them, or a percentage."""

    amount: float
    percent: bool = False

    def count(self, pictures: int) -> int:
        """How many of `pictures` are held out; in percent at least one, but none of fewer than 20."""
        if not self.percent or not self.amount:
            return int(self.amount)
        return max(1, math.floor(pictures * self.amount / 100 + 0.5)) if pictures >= HOLDOUT_FROM else 0


def parse_holdout(text: str) -> Holdout:
    """`5%`, `20` pictures, or none: `0`, `off`.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"(\d{1,9})|(\d{1,2}(?:\.\d{1,9})?)%", text.strip(), re.ASCII)
    if match:
        return Holdout(float(match[2]), percent=True) if match[2] else Holdout(int(match[1]))
    if text.strip() == "off":
        return Holdout(0)
    raise UsageError(f"a hold-out of {text!r}", "Give a percentage (5%), a number of pictures (20), or off.")


def split_holdout(
    folder: Path, files: Sequence[Path], holdout: Holdout, seed: int
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Training and held-out pictures, both in the order of `files`.

    The pictures whose hashes are lowest are held out: a function of the seed and the names below `folder` only. A
    picture more or less moves at most one other across.

    Raises:
        UsageError: fewer than 8 pictures would be left for training.
    """
    count = holdout.count(len(files))
    if count and len(files) - count < MINIMUM:
        left = f"{max(len(files) - count, 0)} of {len(files)}"
        raise UsageError(
            f"{folder}: holding out {count} pictures leaves {left} for training, which needs {MINIMUM}",
            "Hold out fewer, or none (off).",
        )
    chosen = frozenset(sorted(files, key=lambda path: digest(f"{seed}/{below(folder, path)}"))[:count])
    return tuple(path for path in files if path not in chosen), tuple(path for path in files if path in chosen)


def digest(text: str) -> str:
    """SHA-256 in hex of any text; names that are no valid Unicode come as surrogates."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


Array = npt.NDArray[np.uint8]

# With the fit `aspect`, pictures longer than this many times their short side lose both ends.
MAX_ASPECT: Final = 2
# How much larger than a crop pictures are: the paper's sizes. The official code adds pixels: 286 at 256, 158 at 128.
JITTER: Final = 286 / 256
OFFICIAL_MARGIN: Final = 30
# Pictures and crops whose colours differ by no more levels than this are blank, and never trained on: instance norm
# multiplies the gradient of a constant map by 1 / sqrt(1e-5) = 316, and a dozen of them make it infinite.
BLANK: Final = 2

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")


def is_blank(pixels: Array) -> bool:
    """Whether a picture (H, W, 3) shows nothing but one colour."""
    return bool(np.ptp(pixels, axis=(0, 1)).max() <= BLANK)


# --- Preparing one picture -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Preparation:
    """How a picture of any size becomes one that crops are taken from.

    Attributes:
        image_size: side of the square crops in pixels.
        fit: `aspect`: the short side becomes `load_size`, what sticks out of a shape of 2:1 is cut off both ends;
            `squash`: both sides become `load_size`, as in the official code.
        background: RGB colour put behind transparent pixels.
        jitter: whether pictures are larger than crops, so that crops differ.
        margin: by so many pixels, with `squash`.
        bicubic: how they are resized; if not, bilinearly.
    """

    image_size: int
    fit: Literal["aspect", "squash"] = "aspect"
    background: tuple[int, int, int] = (255, 255, 255)
    jitter: bool = True
    margin: int = OFFICIAL_MARGIN
    bicubic: bool = False

    @property
    def load_size(self) -> int:
        """Short side of a prepared picture in pixels."""
        if not self.jitter:
            return self.image_size
        return self.image_size + self.margin if self.fit == "squash" else round(self.image_size * JITTER)


def prepare_picture(path: Path, preparation: Preparation, max_pixels: int | None = MAX_PIXELS) -> Array:
    """The first frame of a picture, upright in sRGB, over the background and resized: uint8 (H, W, 3).

    Raises:
        PictureError: it can't be read.
    """
    with _upright(path, preparation, max_pixels) as image:
        return _prepared(image, preparation)


@contextlib.contextmanager
def _upright(path: Path, preparation: Preparation, max_pixels: int | None) -> Iterator[Image.Image]:
    """The picture, which has its part of `bounds.ROOM` meanwhile."""
    with reading.open_picture(path, max_pixels=max_pixels, first_only=True) as opened:
        yield reading.composite(next(opened.frames()), preparation.background)


def _prepared(image: Image.Image, preparation: Preparation) -> Array:
    """Antialiased, as torchvision resizes for the authors' codes."""
    side = preparation.load_size
    width, height = size = image.size
    target = (side, side)
    if preparation.fit == "aspect":
        longest = MAX_ASPECT * min(size)
        width, height = min(width, longest), min(height, longest)
        scale = side / min(size)
        target = (round(width * scale), round(height * scale))
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (left, top, left + width, top + height)
    way = Image.Resampling.BICUBIC if preparation.bicubic else Image.Resampling.BILINEAR
    return np.asarray(image.resize(target, way, box), np.uint8)


# --- Loading -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pictures:
    """The pictures of one domain that can be used.

    Attributes:
        folder: where the training pictures are.
        files: training pictures, sorted by their path below `folder`.
        sizes: their sizes on disk in bytes.
        pixels: each prepared, uint8 (H, W, 3); None: they are decoded when used.
        held_out: pictures kept from training.
        broken: why others can't be used, training and held-out ones.
        upscaled: how many of all usable ones have a side smaller than a crop.
        max_pixels: the most that each may have on disk; None: any number.
    """

    domain: Domain
    folder: Path
    preparation: Preparation
    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    pixels: tuple[Array, ...] | None
    held_out: tuple[Path, ...]
    broken: tuple[PictureError, ...]
    upscaled: int
    max_pixels: int | None = MAX_PIXELS

    def picture(self, index: int) -> Array:
        """A training picture, prepared: uint8 (H, W, 3).

        Raises:
            PictureError: it can't be read any more.
        """
        return self.pixels[index] if self.pixels else self.prepare(self.files[index], self.preparation)

    def prepare(self, path: Path, preparation: Preparation) -> Array:
        """One of its pictures, prepared in this way; see `prepare_picture`."""
        return prepare_picture(path, preparation, self.max_pixels)


def load_pictures(
    folders: Folders,
    preparation: Preparation,
    holdout: Holdout,
    seed: int,
    *,
    workers: int,
    budget_bytes: int | None = None,
    max_pixels: int | None = MAX_PIXELS,
    exclude: Collection[Path] = (),
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> tuple[Pictures, Pictures]:
    """Decodes every picture of both domains once, and keeps their pixels if all of them fit into memory.

    Args:
        folders: none may be another one or inside it.
        holdout, seed: how many pictures are split off where there is no folder of test pictures, and which.
        workers: decoding threads.
        budget_bytes: memory for the pixels of both domains; None: see `memory_budget`; 0: none are kept.
        max_pixels: the most that a picture may have; None: any number.
        exclude: folders inside the others that are not searched.
        progress: called in this thread with the number of files decoded and that of all.
        stop: ends the loading when set.

    Raises:
        UsageError: a folder is missing or given twice, or the hold-out leaves too little.
        DataError: a domain has fewer than 8 pictures that can be used.
        Interrupted: `stop` was set.
    """
    train = {"a": folders.a, "b": folders.b}
    test = {"test_a": folders.test_a, "test_b": folders.test_b}
    roots = train | {key: root for key, root in test.items() if root is not None}
    found = {key: find_pictures(root, exclude=exclude) for key, root in roots.items()}
    check_apart(list(roots.values()))
    for key, root in train.items():
        if not found[key]:
            raise _nothing_in(root, exclude)
    budget = memory_budget() if budget_bytes is None else budget_bytes
    reader = _Reader(preparation, workers, budget, max_pixels, sum(map(len, found.values())), progress, stop)
    read: dict[str, list[_Read]] = {}
    for key in sorted(found, key=lambda key: len(found[key])):  # too few are reported soon
        read[key] = reader.read(found[key], keep=key in train)
        if key in train:
            _check_enough(roots[key], read[key])
    a, b = (
        _assemble(key, train[key], preparation, read[key], read.get(f"test_{key}"), holdout, seed) for key in DOMAINS
    )
    return replace(a, max_pixels=max_pixels), replace(b, max_pixels=max_pixels)


@dataclass
class _Read:
    """A file that was decoded; `pixels` only while everything fits into memory, `error` if it is broken."""

    path: Path
    size: int = 0
    upscaled: bool = False
    pixels: Array | None = None
    error: PictureError | None = None


@dataclass
class _Reader:
    """Decodes files in threads (Pillow lets go of Python's lock) and keeps pixels until they are too many."""

    preparation: Preparation
    workers: int
    left: int
    max_pixels: int | None
    total: int
    progress: Callable[[int, int], None] | None
    stop: threading.Event | None
    done: list[_Read] = field(default_factory=list)

    def read(self, files: Sequence[Path], *, keep: bool) -> list[_Read]:
        """Every file, in order; with their pixels if `keep`."""
        first = len(self.done)
        with ThreadPoolExecutor(self.workers) as pool:
            for one in pool.map(self.decode, files):
                self.take(one, keep)
        return self.done[first:]

    def take(self, one: _Read, keep: bool) -> None:
        self.done.append(one)
        if keep and one.pixels is not None and self.left >= 0:
            self.left -= one.pixels.nbytes
            if self.left < 0:
                for earlier in self.done:
                    earlier.pixels = None
        else:
            one.pixels = None
        if self.progress:
            self.progress(len(self.done), self.total)

    def decode(self, path: Path) -> _Read:
        if self.stop and self.stop.is_set():
            raise Interrupted("interrupted while the pictures were read; nothing was trained yet")
        try:
            with _upright(path, self.preparation, self.max_pixels) as image:
                size, pixels = image.size, _prepared(image, self.preparation)
        except PictureError as error:
            return _Read(path, error=error)
        if is_blank(pixels):
            return _Read(path, error=PictureError(f"{path}: blank: all of it is one colour"))
        return _Read(path, path.stat().st_size, min(size) < self.preparation.image_size, pixels)


def _nothing_in(folder: Path, exclude: Collection[Path]) -> DataError:
    message, others = f"{folder}: no pictures in this folder or below", passed_over(folder, exclude=exclude)
    if others:
        message = f"{message}; {in_words(others)}"
    if others[LINKED]:
        return DataError(message, "Name the folder that has the pictures itself.")
    return DataError(message, f"These suffixes are searched: {' '.join(sorted(SUFFIXES))}")


def _check_enough(folder: Path, read: Sequence[_Read]) -> None:
    broken = [(below(folder, one.path), one.error) for one in read if one.error]
    usable = len(read) - len(broken)
    if usable >= MINIMUM:
        return
    message = f"{folder}: {usable or 'no'} picture{'' if usable == 1 else 's'} that can be used"
    if broken:
        names = ", ".join(name for name, _ in broken[:3]) + (", ..." if len(broken) > 3 else "")
        message += f", {len(broken)} broken ({names})"
    message += f"; training needs at least {MINIMUM} (a few hundred give good results)"
    raise DataError(message, f"{broken[0][1]}." if broken else "Add pictures, or check the folder.")


def _assemble(
    domain: Domain,
    folder: Path,
    preparation: Preparation,
    read: Sequence[_Read],
    test: Sequence[_Read] | None,
    holdout: Holdout,
    seed: int,
) -> Pictures:
    usable = {one.path: one for one in read if not one.error}
    if test is None:
        files, held_out = split_holdout(folder, list(usable), holdout, seed)
    else:
        files, held_out = tuple(usable), tuple(one.path for one in test if not one.error)
    pixels = tuple(one.pixels for path in files if (one := usable[path]).pixels is not None)
    every = [*read, *(test or ())]
    return Pictures(
        domain,
        folder,
        preparation,
        files,
        tuple(usable[path].size for path in files),
        pixels if len(pixels) == len(files) else None,
        held_out,
        tuple(one.error for one in every if one.error),
        sum(one.upscaled for one in every),
    )


def memory_budget() -> int:
    """Bytes that pixels may take by default: 40 % of the memory that is available now."""
    available = 2**30  # where nothing tells
    with contextlib.suppress(OSError, ValueError, IndexError):
        available = 1024 * int(_MEMINFO.read_text().partition("MemAvailable:")[2].split()[0])
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        available = min(available, int(_CGROUP_LIMIT.read_text()))
    return int(available * 0.4)


def fingerprint(pictures: tuple[Pictures, Pictures]) -> str:
    """SHA-256 in hex that changes when training pictures or their preparation do, not when folders move.

    Pictures count by their names below the folder and their sizes on disk, so that it costs nothing.
    """
    sets = [
        [one.domain, _stored(one.preparation), [below(one.folder, path) for path in one.files], one.sizes]
        for one in pictures
    ]
    return digest(json.dumps(sets))


def _stored(preparation: Preparation) -> dict[str, object]:
    """As runs of earlier versions have it, which knew one way to resize."""
    return {name: value for name, value in asdict(preparation).items() if name != "bicubic" or value}

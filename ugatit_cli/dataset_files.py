"""Which pictures there are to train on: found below folders, and some of them held out."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from ugatit_cli.errors import UsageError
from ugatit_cli.images import SUFFIXES, plain_reason

MINIMUM: Final = 8
"""Pictures that a domain needs to train on."""

HOLDOUT_FROM: Final = 20
"""Pictures from which on a domain spares some for a hold-out in percent."""


# --- Finding -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folders:
    """Where the pictures of both domains are.

    Attributes:
        a: training pictures of domain a.
        b: training pictures of domain b.
        test_a: pictures of domain a to hold out; None: some of `a` are split off.
        test_b: the same for domain b.
    """

    a: Path
    b: Path
    test_a: Path | None = None
    test_b: Path | None = None


def split_layout(data: Path) -> Folders:
    """The folders of a dataset as the authors lay theirs out: `trainA`, `trainB`, and `testA`, `testB` if there.

    Raises:
        UsageError: `data` or one of the two training folders is missing.
    """
    _check_folder(data)
    missing = [name for name in ("trainA", "trainB") if not (data / name).is_dir()]
    if missing:
        raise UsageError(
            f"{data}: has no folder {' and no folder '.join(missing)}",
            "It should have trainA and trainB with the pictures of both domains, and may have testA and testB.",
        )
    test_a, test_b = (path if path.is_dir() else None for path in (data / "testA", data / "testB"))
    return Folders(data / "trainA", data / "trainB", test_a, test_b)


def find_pictures(folder: Path, *, exclude: Collection[Path] = ()) -> list[Path]:
    """All files below `folder` that are named like pictures, in an order that doesn't depend on the machine.

    Hidden files and folders are skipped, and folders of training runs: samples are no pictures of a domain. Links to
    files are followed, those to folders aren't.

    Args:
        folder: where to search, with its subfolders.
        exclude: more folders that are not searched.

    Raises:
        UsageError: there is no such folder, or one can't be read.
    """
    _check_folder(folder)
    found = [path for _, files in _walk(folder, exclude) for path in files if _is_picture(path.name)]
    return sorted(found, key=lambda path: below(folder, path))


def count_links(folder: Path, *, exclude: Collection[Path] = ()) -> int:
    """How many links to folders `find_pictures` doesn't follow; it raises the same errors."""
    return sum(path.is_symlink() for folders, _ in _walk(folder, exclude) for path in folders)


def _walk(folder: Path, exclude: Collection[Path]) -> Iterator[tuple[list[Path], list[Path]]]:
    """The subfolders and files of each folder that is searched; links to folders are among the subfolders."""
    closed = {os.path.realpath(path) for path in exclude}
    for parent, names, files in os.walk(folder, onerror=_unreadable):
        open_ = [Path(parent, name) for name in names if name[0] != "."]
        open_ = [path for path in open_ if os.path.realpath(path) not in closed and not _is_run(path)]
        names[:] = [path.name for path in open_]
        yield open_, [Path(parent, name) for name in files]


def _is_run(folder: Path) -> bool:
    # Not the methods of `Path`: they raise where a folder can't be read, which is for the search itself to report.
    return os.path.isfile(folder / "config.toml") and os.path.isdir(folder / "checkpoints")  # noqa: PTH112, PTH113


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        reason = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise UsageError(f"{folder}: {reason}", "Give a folder with pictures.")


def _unreadable(error: OSError) -> NoReturn:
    raise UsageError(f"{error.filename}: {plain_reason(error)}", "Check the permissions of this folder.") from error


def _is_picture(name: str) -> bool:
    return name[0] != "." and Path(name).suffix.lower() in SUFFIXES


def below(folder: Path, path: Path) -> str:
    """What `path` is called below `folder`, the same on every machine."""
    return path.relative_to(folder).as_posix()


def check_apart(given: Sequence[Path]) -> None:
    """Pictures in two sets at once would teach that horses are zebras, or be a test of what was learnt by heart.

    Raises:
        UsageError: a folder is another one, or inside another one.
    """
    resolved = [path.resolve() for path in given]
    for i, inner in enumerate(resolved):
        for j, outer in enumerate(resolved):
            if i > j and inner == outer:
                raise UsageError(f"{given[i]}: the same folder as {given[j]}", "Give each set a folder of its own.")
            if i != j and outer in inner.parents:
                raise UsageError(f"{given[i]}: is inside {given[j]}", "Move one of them out of the other.")


# --- Hold-out ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holdout:
    """How many pictures are kept from training, to look at later.

    Attributes:
        amount: a number of pictures, or a percentage of them.
        percent: which of the two.
    """

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

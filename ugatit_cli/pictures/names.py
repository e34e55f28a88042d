"""Names of results: what a user expects, distinct also where upper and lower case are the same."""
# ruff: noqa: PTH122

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

from ugatit_cli.pictures.sources import fold

_NAME_BYTES = 255
_TAG_LENGTH = 16
_SAME_FORMAT = {".jpeg": ".jpg", ".jfif": ".jpg", ".jpe": ".jpg", ".tiff": ".tif"}


def kind_of(name: str) -> str:
    """A file's suffix in lower case; "" where what comes after the last dot says nothing."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if len(suffix) <= _TAG_LENGTH and len(suffix.split()) == 1 else ""


def joined(folder: str, name: str) -> str:
    """The path of `name` in `folder`, both below OUT, which is "" itself."""
    return f"{folder}/{name}" if folder else name


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a result in its folder: `tag` tells it apart from those with the same stem."""

    folder: str
    stem: str
    tag: str
    suffix: str
    kept: bool

    def natural(self) -> str:
        """The path below OUT that a user expects."""
        # A name that exists already is never shortened: Windows allows more than 255 bytes of UTF-8.
        name = self.stem + self.suffix if self.kept else _fit(self.stem, self.suffix)
        return joined(self.folder, name)

    def generated(self, number: int) -> str:
        """The path below OUT where the natural one is taken."""
        tag = f"_{self.tag}" if self.tag else ""
        count = f"_{number}" if number > 1 else ""
        return joined(self.folder, _fit(self.stem, tag + count + self.suffix))


def result_name(below: str, suffix: str) -> Name:
    """The name of a picture's result, of the path that it would have below OUT."""
    folder, _, name = below.rpartition("/")
    stem, own = os.path.splitext(name)
    if own and _format(own) == _format(suffix):
        return Name(folder, stem, own[1:], own, kept=True)
    return Name(folder, stem, own[1 : 1 + _TAG_LENGTH], suffix, kept=False)


def _format(suffix: str) -> str:
    return _SAME_FORMAT.get(suffix.lower(), suffix.lower())


def assigned(names: list[Name]) -> list[str]:
    """A path below OUT for each of `names`, distinct also where upper and lower case are the same."""
    naturals = [name.natural() for name in names]
    keys = [fold(natural) for natural in naturals]
    folders = _folder_keys({name.folder for name in names})
    counts, owners = Counter(keys), dict[str, int]()
    for index, key in enumerate(keys):
        # A natural name goes to the only one, or the first one that was called so before.
        if key not in folders and (counts[key] == 1 or names[index].kept):
            owners.setdefault(key, index)
    taken, numbers = folders.union(keys), dict[str, int]()
    return [
        naturals[index] if owners.get(keys[index]) == index else _free(name, taken, numbers)
        for index, name in enumerate(names)
    ]


def _free(name: Name, taken: set[str], numbers: dict[str, int]) -> str:
    first = fold(name.generated(1))
    # Going on from the last number keeps thousands of equal names linear.
    number = numbers.get(first, 1)
    while (key := fold(name.generated(number))) in taken:
        number += 1
    taken.add(key)
    numbers[first] = number
    return name.generated(number)


def _folder_keys(folders: set[str]) -> set[str]:
    """The keys of `folders` and of all above them: a result can't have the name of a folder."""
    keys: set[str] = set()
    for folder in folders:
        key = fold(folder)
        while key and key not in keys:
            keys.add(key)
            key = key.rpartition("/")[0]
    return keys


def _fit(stem: str, ending: str) -> str:
    """`stem` + `ending`, the stem shortened by whole characters to what file systems allow."""
    while len(stem) > 1 and len(os.fsencode(stem + ending)) > _NAME_BYTES:
        stem = stem[:-1]
    return stem + ending

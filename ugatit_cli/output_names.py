"""Where each result goes: to a file, or into a folder under a name that no other result has.

Nothing is written here. Names count as equal where macOS or Windows take them for one file.
"""

# Strings and os.path: Path objects cost seconds for 100,000 files, and raise where these answer.
# ruff: noqa: PTH112, PTH118, PTH122

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ugatit_cli.errors import UsageError

STDOUT = Path("-")

_NAME_BYTES = 255
_TAG_LENGTH = 16
_SAME_FORMAT = {".jpeg": ".jpg", ".jfif": ".jpg", ".jpe": ".jpg", ".tiff": ".tif"}


@dataclass(frozen=True, slots=True)
class Found:
    """A picture: `below` is its path in OUT before renaming, `direct` whether an argument names it itself.

    `place` is its path with the folder resolved, `real` with a link of its own resolved, too.
    """

    source: Path | None
    below: str
    place: str
    real: str
    direct: bool = False


def join(folder: str, name: str) -> str:
    """The path of `name` in `folder`, both below OUT, which is "" itself."""
    return f"{folder}/{name}" if folder else name


def output_paths(
    found: list[Found], out: Path, suffixes: frozenset[str], rename: Callable[[Path], str]
) -> list[Path | None]:
    """The output of each of `found`, distinct also where upper and lower case are the same.

    Args:
        found: the pictures, each a single time.
        out: the folder for the results, or the output file of a single picture; `-` for standard output.
        suffixes: lower-case suffixes that make `out` a file, with their dot.
        rename: gives the suffix of a source's result, with its dot.

    Returns:
        One path for each of `found`; None for standard output.

    Raises:
        UsageError: `out` can't hold the results, or one of them would overwrite an input.
    """
    if not found:
        return []
    single = len(found) == 1 and found[0].direct
    if out == STDOUT:
        if not single:
            raise UsageError("only a single picture can go to standard output", "Give a folder (-o results).")
        return [None]
    if single and out.suffix.lower() in suffixes and not os.path.isdir(out):
        _require_folder(out.parent)
        _check_sources(found, [os.path.realpath(out)], out)
        return [out]
    _require_folder(out)
    names = _assign([_name(one, rename) for one in found])
    real = os.path.realpath(out)
    _check_sources(found, [os.path.join(real, *name.split("/")) for name in names], out)
    return [out / name for name in names]


def _require_folder(out: Path) -> None:
    existing = next((place for place in (out, *out.parents) if os.path.lexists(place)), None)
    if existing is not None and not os.path.isdir(existing):
        raise UsageError(
            f"{existing} is a file, but the results need a folder",
            "Give another folder (-o results). A single picture may also go to a file (-o result.png).",
        )


def _check_sources(found: list[Found], outputs: list[str], out: Path) -> None:
    sources = {place: one for one in found if one.source for place in (one.place, one.real)}
    for one, output in zip(found, outputs, strict=True):
        if output in sources:
            of = "itself" if sources[output] is one else f"the input {sources[output].source}"
            raise UsageError(
                f"the result of {one.source or '<stdin>'} would overwrite {of}",
                f"Give another output than {out} (-o results).",
            )


# --- Names ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Name:
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
        return join(self.folder, name)

    def generated(self, number: int) -> str:
        """The path below OUT where the natural one is taken."""
        tag = f"_{self.tag}" if self.tag else ""
        count = f"_{number}" if number > 1 else ""
        return join(self.folder, _fit(self.stem, tag + count + self.suffix))


def _name(one: Found, rename: Callable[[Path], str]) -> _Name:
    folder, _, name = one.below.rpartition("/")
    suffix = rename(one.source or Path("stdin"))
    stem, own = os.path.splitext(name)
    if own and _format(own) == _format(suffix):
        return _Name(folder, stem, own[1:], own, kept=True)
    return _Name(folder, stem, own[1 : 1 + _TAG_LENGTH], suffix, kept=False)


def _format(suffix: str) -> str:
    return _SAME_FORMAT.get(suffix.lower(), suffix.lower())


def _assign(names: list[_Name]) -> list[str]:
    """A path below OUT for each of `names`, distinct also where upper and lower case are the same."""
    naturals = [name.natural() for name in names]
    keys = [_key(natural) for natural in naturals]
    folders = _folder_keys({name.folder for name in names})
    owners = _owners(names, keys, folders)
    taken = folders.union(keys)
    numbers: dict[str, int] = {}
    result = []
    for index, (name, natural) in enumerate(zip(names, naturals, strict=True)):
        if owners.get(keys[index]) == index:
            result.append(natural)
        else:
            result.append(_free(name, taken, numbers))
    return result


def _owners(names: list[_Name], keys: list[str], folders: set[str]) -> dict[str, int]:
    """Which of `names` has each natural name: the only one, or the first one that was called so before."""
    counts = Counter(keys)
    owners: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key not in folders and (counts[key] == 1 or names[index].kept):
            owners.setdefault(key, index)
    return owners


def _free(name: _Name, taken: set[str], numbers: dict[str, int]) -> str:
    first = _key(name.generated(1))
    # Going on from the last number keeps thousands of equal names linear.
    number = numbers.get(first, 1)
    while (key := _key(name.generated(number))) in taken:
        number += 1
    taken.add(key)
    numbers[first] = number
    return name.generated(number)


def _folder_keys(folders: set[str]) -> set[str]:
    """The keys of `folders` and of all above them: a result can't have the name of a folder."""
    keys: set[str] = set()
    for folder in folders:
        key = _key(folder)
        while key and key not in keys:
            keys.add(key)
            key = key.rpartition("/")[0]
    return keys


def _key(name: str) -> str:
    """The same for names that are one file on macOS or Windows."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", name.casefold())


def _fit(stem: str, ending: str) -> str:
    """`stem` + `ending`, the stem shortened by whole characters to what file systems allow."""
    while len(stem) > 1 and len(os.fsencode(stem + ending)) > _NAME_BYTES:
        stem = stem[:-1]
    return stem + ending

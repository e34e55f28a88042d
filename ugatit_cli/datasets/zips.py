"""Data sets that are zips: which of their pictures are whose, and what of them is written out."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from ugatit_cli.data.pictures import SPLITS, Split, split_named
from ugatit_cli.datasets.catalog import DataEntry
from ugatit_cli.errors import ModelError
from ugatit_cli.pictures.reading import SUFFIXES
from ugatit_cli.pictures.sources import fold
from ugatit_cli.remote import archives
from ugatit_cli.remote.archives import Limits
from ugatit_cli.remote.patience import Listener

# Bytes of one picture. Those of these archives have less than a thousandth.
LARGEST: Final = Limits(member=1 << 28)
_MACOS: Final = "__MACOSX"

Layout = Mapping[Split, Mapping[str, str]]
"""Set -> member of an archive -> what it is called below the set's folder."""


def unpack(entry: DataEntry, archive: Path, folder: Path, listener: Listener) -> list[str]:
    """Writes the pictures of each set into a folder, as they are; a set to test with that is none is left out.

    Returns:
        What else there is to know.

    Raises:
        ModelError: the archive is damaged or hostile, or holds something else.
        OutputError: a picture can't be written.
    """
    found = archives.members(archive)
    layout = _layout(archive, list(found))
    notes: list[str] = []
    targets: dict[str, Path] = {}
    for split in SPLITS:
        inside: Split = entry.set_in_archive(split)  # type: ignore[assignment]  # A or B for the other
        if split.startswith("test") and _is_trained_with(inside, layout, found, entry):
            notes.append(f"{split} is left out: its pictures are among those of train{split[-1]}")
            listener.note(f"{notes[-1]}; `train` keeps others from training instead, see --holdout")
            continue
        names = _of_pairs(layout.get(inside, {})) if entry.paired else layout.get(inside, {})
        targets |= {member: folder / split / name for member, name in names.items()}
    archives.take(archive, targets, listener, LARGEST)
    return notes


def _layout(archive: Path, names: Sequence[str]) -> Layout:
    """The pictures of each set, in the folder of an archive that has those of both domains."""
    roots: dict[PurePosixPath, dict[Split, dict[str, str]]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        if any(part[0] == "." or part == _MACOS for part in parts) or Path(name).suffix.lower() not in SUFFIXES:
            continue
        spans = (
            (start, end) for start in range(len(parts) - 1) for end in (start + 1, start + 2) if end < len(parts)
        )
        for start, end in spans:  # `trainA`, or `A` in `train`
            if (split := split_named("".join(parts[start:end]))) is not None:
                inside = roots.setdefault(PurePosixPath(*parts[:start]), {}).setdefault(split, {})
                inside[name] = "/".join(parts[end:])
                break
    whole = [layout for layout in roots.values() if {"trainA", "trainB"} <= layout.keys()]
    if len(whole) != 1:
        what = "more than one data set" if whole else "no folders trainA and trainB with pictures"
        raise ModelError(f"{archive}: {what} in it", "It is not the archive that is meant, or was changed.")
    for split, inside in whole[0].items():
        if len(folders := sorted({member.removesuffix(name) for member, name in inside.items()})) > 1:
            both = f"{archives.shown(folders[0])} and {archives.shown(folders[1])}: both are {split}"
            raise ModelError(f"{archive}: {both}", "Give an archive in which one folder has all pictures of a set.")
    return whole[0]


def _of_pairs(names: Mapping[str, str]) -> Mapping[str, str]:
    """Without what tells two of a pair apart: `1_A.jpg` and `1_B.jpg` are both `1.jpg`."""
    found = {member: re.sub(r"_[AB](?=\.\w+$)", "", name) for member, name in names.items()}
    return found if len(set(map(fold, found.values()))) == len(found) else names


def _is_trained_with(test: Split, layout: Layout, found: Mapping[str, zipfile.ZipInfo], entry: DataEntry) -> bool:
    """Whether test pictures are among those to train with: by their bytes, or as the manifest says by names."""
    train: Split = "trainA" if test == "testA" else "trainB"

    def keys(split: Split, of: Callable[[str, str], object]) -> set[object]:
        return {of(member, name) for member, name in layout.get(split, {}).items()}

    def content(member: str, _: str) -> object:
        return found[member].CRC, found[member].file_size

    same_bytes = keys(test, content) <= keys(train, content)
    same_names = keys(test, lambda _, name: name) == keys(train, lambda _, name: name)
    return test in layout and (same_bytes or (entry.holdout == "train" and same_names))

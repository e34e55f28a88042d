"""Which emoji goes into which folder: decided by its name alone, so the same in all sets and on every machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

TRAINING: Final = ("trainA", "trainB")
"""Folders to train on."""

VALIDATION: Final = ("valA", "valB")
"""Folders to steer a training by: the same names in both, none of them in a training folder."""

HELD_OUT: Final = ("testA", "testB")
"""Folders to measure with: the same names in both, so each picture of A has its true translation in B."""

VALIDATION_SHARE: Final = 38
"""One of so many groups that aren't held out is for validation."""

_NAME: Final = re.compile("[0-9a-f]{1,6}(-[0-9a-f]{1,6})*")
_SKIN_TONE: Final = re.compile("1f3f[b-f]")
_NATIONAL_FLAG: Final = re.compile(r"(1f1[ef][0-9a-f]-1f1[ef][0-9a-f]|1f3f4(-e00[0-9a-f]{2})+)")
_TRADEMARKS: Final = frozenset({"1f4ce", "1f587", "1f3ae", "1f579"})  # paperclips, video game, joystick
_LAPTOP: Final = "-200d-1f4bb"
_CONFUSED: Final = {"1f3fc": "1f3fd", "1f3fd": "1f3fc"}  # medium-light and medium skin
_COUPLES: Final = frozenset({"1f46b", "1f46c", "1f46d", "1f48f", "1f491"})


def emoji_name(stem: str) -> str:
    """What files of all packages have in common: code points in hex without leading zeros, joined by `-`.

    Variation selectors (`fe0f`) are dropped, because one package has them where the other one doesn't.

    Args:
        stem: a file's name without suffix, such as `0023-fe0f-20e3` or `1f3f4-e0067_e007f`.
    """
    points = (point.lstrip("0") or "0" for point in re.split("[-_]", stem.lower()))
    return "-".join(point for point in points if point != "fe0f")


def files_by_name(files: Iterable[str]) -> dict[str, str]:
    """Emoji name to file name, of all that are named after code points.

    Where one emoji has two files, it is the last one in alphabetical order: the Fluent package has 16 emoji twice,
    drawn alike.
    """
    named = {emoji_name(PurePosixPath(file).stem): file for file in sorted(files)}
    return {name: file for name, file in named.items() if _NAME.fullmatch(name)}


def group(name: str) -> str:
    """What is never split: the name without skin tones. All skin tones of one emoji are one group."""
    return "-".join(point for point in name.split("-") if not _SKIN_TONE.fullmatch(point))


def shown(name: str) -> str:
    """The emoji that the Fluent 3D file of this name shows.

    That package confuses medium-light and medium skin: of 297 emoji with one skin tone, in all (as their brightness
    tells) but five couples, three technologists, and the mountain biker 1f6b5, whose tones are in an order of their
    own. That one is for training, where names don't matter.
    """
    points = name.split("-")
    tones = [point for point in points if _SKIN_TONE.fullmatch(point)]
    if len(tones) != 1 or points[0] in _COUPLES or name.endswith(_LAPTOP):
        return name
    return "-".join(_CONFUSED.get(point, point) for point in points)


def places(name: str, *, validation: bool = True) -> tuple[str, ...]:
    """The folders of an emoji's pictures: `HELD_OUT` for one group of twenty, else one of `TRAINING` or `VALIDATION`.

    No emoji is in both training folders: nothing there is a pair. What Microsoft doesn't publish under MIT is
    measured with at most: it has no folder unless it is held out.

    Args:
        validation: whether some groups of the others are for validation.
    """
    number = int(hashlib.sha1(group(name).encode(), usedforsecurity=False).hexdigest(), 16)
    part = number % 20
    if part == 0:
        return HELD_OUT
    if is_unlicensed(name):
        return ()
    if validation and number // 20 % VALIDATION_SHARE == 0:
        return VALIDATION
    return TRAINING[:1] if part <= 9 else TRAINING[1:]


def is_unlicensed(name: str) -> bool:
    """Whether Microsoft keeps its drawing back from the MIT licence.

    Its README names "the Clippy-like paperclip, national flags, technologist and video games emojis".
    """
    return bool(_NATIONAL_FLAG.match(name)) or name in _TRADEMARKS or name.endswith(_LAPTOP)

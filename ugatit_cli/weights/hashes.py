"""Hashes of a model's files, in a `SHA256SUMS` as `sha256sum` writes it, and one that stands for all of them."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ugatit_cli.errors import ModelError, UsageError, plain_reason
from ugatit_cli.files import DOCUMENT, WEIGHTS, open_file, read_file
from ugatit_cli.weights.manifest import HASHED_FILES

SUMS_FILE: Final = "SHA256SUMS"
PIN: Final = "@sha256:"
_LINE: Final = re.compile(r"([0-9A-Fa-f]{64}) [ *](?:\./)?(.+)")


@dataclass(frozen=True)
class Record:
    """What the files of a model should be.

    Attributes:
        hashes: file name -> SHA-256 in hex; what isn't there is not compared.
        place: who says so.
        way_out: what to do about a file that is another one.
    """

    hashes: Mapping[str, str]
    place: str
    way_out: str = ""

    def damage(self, path: Path, found: str) -> str:
        """How a file with this hash differs from the recorded one; empty if it doesn't, or isn't recorded."""
        expected = self.hashes.get(path.name, found)
        words = f"{path}: damaged: expected sha256 {expected} ({self.place}), found {found}"
        return words if found != expected else ""


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        OSError: it can't be read.
    """
    with open_file(path, DOCUMENT if path.suffix == ".json" else WEIGHTS) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_text(hashes: Mapping[str, str]) -> str:
    """A `SHA256SUMS`, the names in alphabetical order."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))


def digest_of(hashes: Mapping[str, str]) -> str:
    """What a model is pinned by: the SHA-256 of the `SHA256SUMS` of its config and weights."""
    return hashlib.sha256(sums_text(hashes).encode()).hexdigest()


def record_line(folder: Path) -> str:
    """The command that records the hashes of a folder's files as they are."""
    return f"(cd {shlex.quote(str(folder))} && sha256sum config.json *.safetensors > {SUMS_FILE})"


def read_sums(folder: Path) -> Record | None:
    """What the `SHA256SUMS` of a folder says; None if there is none.

    Raises:
        ModelError: it can't be read, or holds something else.
    """
    path = folder / SUMS_FILE
    try:
        text = read_file(path).decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({plain_reason(error)})") from None
    found = [_LINE.fullmatch(line) for line in text.split("\n")]
    way_out = f"Copy or fetch the model again. If it was you who changed it: {record_line(folder)}"
    if None in found:
        raise ModelError(f"{path}: damaged: must have lines with a SHA-256 and the name of a file", way_out)
    return Record({match[2]: match[1].lower() for match in found if match}, SUMS_FILE, way_out)


def check_hash(path: Path, record: Record | None = None) -> None:
    """Compares a file with what is recorded of it; nothing, if there is no record or no such file.

    Args:
        record: instead of the `SHA256SUMS` beside it.

    Raises:
        ModelError: it is another file, or can't be read.
    """
    before = record or read_sums(path.parent)
    while before is not None:
        if path.name not in before.hashes:
            if path.name in HASHED_FILES:
                _check_names(path, before)
            return
        try:
            problem = before.damage(path, hash_of(path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise ModelError(f"{path}: can't be read ({plain_reason(error)})") from None
        # A training run that replaces its model takes the old hashes away first, and puts the new ones there last.
        after = record or read_sums(path.parent)
        if problem and after == before:
            raise ModelError(problem, before.way_out)
        before = after if problem else None


def _check_names(path: Path, record: Record) -> None:
    """Whether a file is not recorded because a name in its `SHA256SUMS` is damaged."""
    strange = [name for name in record.hashes if not os.path.exists(path.parent / name)]  # noqa: PTH110  # which takes any name
    if record.place == SUMS_FILE and strange:
        message = f"{path.parent / SUMS_FILE}: damaged: names {strange[0]!r}, which is not there, and not {path.name}"
        raise ModelError(message, record.way_out)


def hashes_of(folder: Path, names: Iterable[str], record: Record | None = None) -> dict[str, str]:
    """Hashes of these files: those that are recorded, here or in the `SHA256SUMS`, else those that they have.

    Raises:
        ModelError: one can't be read.
    """
    known = (record or read_sums(folder) or Record({}, "")).hashes
    try:
        return {name: known.get(name) or hash_of(folder / name) for name in names}
    except OSError as error:
        raise ModelError(f"{error.filename}: can't be read ({plain_reason(error)})") from None


def split_pin(name: str) -> tuple[str, str]:
    """A model's name and what it is pinned by, which is empty if it isn't: `MODEL@sha256:HEX`.

    Raises:
        UsageError: that is no SHA-256.
    """
    model, at, pin = name.partition(PIN)
    if at and not re.fullmatch("[0-9A-Fa-f]{64}", pin):
        hint = f"`ugatit models show {shlex.quote(model)}` tells its digest, 64 hex digits." if model else ""
        raise UsageError(f"{name}: {pin!r} is not the SHA-256 of a model", hint)
    return model, pin.lower()


def check_pin(model: str, pin: str, digest: str) -> None:
    """Whether a model with this digest is the pinned one; any is, if the pin is empty.

    Raises:
        ModelError: it is another one.
    """
    if pin and digest != pin:
        raise ModelError(
            f"{model}: expected sha256:{pin} (the pin), found sha256:{digest}",
            f"It is another model, or damaged: `ugatit models verify {shlex.quote(model)}` tells.",
        )

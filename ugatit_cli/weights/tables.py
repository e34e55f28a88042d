"""The files that say what has a name, the package's and the user's: tables of models, and tables of data sets."""
# ruff: noqa: PTH113

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from ugatit_cli.errors import UPGRADE, ModelError
from ugatit_cli.files import config_folder, expanded, read_file, read_toml, toml_reason
from ugatit_cli.remote.patience import Listener
from ugatit_cli.weights.mistakes import Form, Table, all_of, said, table_mistakes, wrong_keys
from ugatit_cli.wording import byte_size, shown

SCHEMAS: Final = (1, 2)
SCHEMA: Final = SCHEMAS[-1]
FILE = "weights_manifest.toml"
KINDS: Final = ("models", "data")
VARIABLE = "UGATIT_MANIFEST"


class BrokenManifest(ModelError):
    """The user's own manifest can't be read, or has mistakes.

    Args:
        error: says so.
        entries: of the package's manifest.
        text: of the user's, as far as it can be read.
    """

    def __init__(self, error: ModelError, entries: dict[str, Any], text: str) -> None:
        super().__init__(error.message, error.hint)
        self.entries = entries
        self.text = text

    def mentions(self, name: str) -> bool:
        """Whether it may have an entry of this name."""
        return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w.-])", self.text) is not None


def manifest_path() -> Path:
    """The manifest inside the installed package, or at the repository's top level in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / FILE
    return installed if installed.is_file() else package.parent / FILE


def place_of_user_manifest() -> Path:
    """`$UGATIT_MANIFEST`, else `ugatit/weights.toml` below the user's configuration folder, there or not."""
    return expanded(os.environ.get(VARIABLE) or config_folder() / "weights.toml")


class Named(Protocol):
    """An entry of any kind."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names for it."""


E = TypeVar("E", bound=Named)


@dataclass(frozen=True)
class Tables(Generic[E]):
    """The tables of one kind in the manifest.

    Attributes:
        key: what they stand below, one of `KINDS`; tables of other kinds are left alone.
        form: what they may say.
        made: an entry of its name, of a table without mistakes, and of the file that it stands in.
    """

    key: str
    form: Form
    made: Callable[[str, Table, Path], E]

    def read(self, path: Path | None = None) -> dict[str, E]:
        """All entries by name, in the file's order.

        Args:
            path: the only file to read; None: the package's manifest, then the user's, whose entries take the places
                of those of the same name, or come last.

        Raises:
            ModelError: a file can't be read, or has mistakes: all of them, each with its table and key.
            BrokenManifest: it is the user's own; or `$UGATIT_MANIFEST` names a folder, or a file that isn't there.
        """
        if path is not None:
            return self._read(path)
        # Without the package's, as in a copy of its modules alone, folders and Hub ids are still models.
        entries = self._read(manifest_path()) if manifest_path().is_file() else {}
        own = place_of_user_manifest()
        try:
            return entries | self._read_own(own)
        except ModelError as error:
            with contextlib.suppress(OSError):
                raise BrokenManifest(error, entries, read_file(own).decode(errors="replace")) from None
            raise BrokenManifest(error, entries, "") from None

    def usable(self, listener: Listener, wanted: str | None = None) -> dict[str, E]:
        """As `read`, but a user's file that has mistakes is left out, which is said.

        Raises:
            BrokenManifest: it may have the entry that is wanted.
        """
        try:
            return self.read()
        except BrokenManifest as error:
            if wanted is not None and error.mentions(wanted):
                raise
            listener.note(f"the manifest is left out: {error.message}")
            return error.entries

    def _read_own(self, path: Path) -> dict[str, E]:
        named = os.environ.get(VARIABLE)
        if os.path.isfile(path) or (named and os.path.lexists(path)):
            return self._read(path, users=True)
        if named:
            raise ModelError(f"{path}: no such file, but {VARIABLE} names it", f"Unset {VARIABLE}, or correct it.")
        return {}

    def _read(self, path: Path, *, users: bool = False) -> dict[str, E]:
        try:
            document = read_toml(path)
        except (OSError, ValueError, RecursionError) as error:
            # What `ugatit push` prints was appended a second time. `tomllib` has no error of its own for it.
            twice = isinstance(error, tomllib.TOMLDecodeError) and str(error).startswith("Cannot declare")
            hint = "This table is there twice: keep one of them." if twice else ""
            raise ModelError(f"{path}: can't be read: {shown(toml_reason(error))}", hint) from None
        _check_schema(path, document.get("schema"))
        tables = document.get(self.key, {})
        wrong = (
            *wrong_keys(document, (), ("schema", *KINDS)),
            *table_mistakes(tables, self.key, self.form, users=users),
        )
        if wrong:
            raise ModelError(f"{path}: {all_of(wrong)}")
        return {name: self.made(name, table, path) for name, table in tables.items()}


def entry_of(entries: Mapping[str, E], name: str) -> E | None:
    """The entry of a name, which may be one of its aliases; None if there is none."""
    return entries.get(name) or next((one for one in entries.values() if name in one.aliases), None)


def nearest_in(key: str, name: str) -> str:
    """The name of an entry of one of `KINDS` that this one is, or is most like; empty if there is none."""
    names: list[str] = []
    for path in (manifest_path(), place_of_user_manifest()):
        with contextlib.suppress(OSError, ValueError, RecursionError, LookupError, AttributeError, TypeError):
            for own, table in read_toml(path)[key].items():
                names += [own, *table.get("aliases", ())]
    return next(iter(difflib.get_close_matches(name[:100], names, n=1)), "")


def _check_schema(path: Path, schema: object) -> None:
    known = " and ".join(map(str, SCHEMAS))
    if type(schema) is int and schema > SCHEMA:
        message = f"{path}: schema: written for a newer ugatit (schema {said(schema)}, this one reads {known})"
        raise ModelError(message, UPGRADE)
    if type(schema) is not int or schema not in SCHEMAS:
        found = "missing" if schema is None else said(schema)
        raise ModelError(f"{path}: schema: {found}; this ugatit reads {known}", f"Begin with: schema = {SCHEMA}")


def origin_of(entry: Any, what: str, place: str) -> list[str]:
    """What a user should know before anything is downloaded: a line each.

    Args:
        entry: of either kind, a `manifest.Entry` or a `datasets.catalog.DataEntry`.
        what: the licence is of: weights, pictures.
        place: where it comes from.
    """
    size = byte_size(entry.download_size) if entry.download_size else f"about {entry.about}" if entry.about else ""
    lines = [
        f"{entry.name}: {entry.description}{f', made by {entry.made_by}' if entry.made_by else ''}",
        f"licence of the {what}: {entry.licence}",
        f"from {place} ({size or 'its size is not stated'})",
    ]
    return lines if entry.verified else [*lines, "nobody of this project has downloaded it yet"]

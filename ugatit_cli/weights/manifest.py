"""`weights_manifest.toml`: the models that a name stands for, as typed entries; users can have their own."""

# os.path: a file that may not be seen is one that isn't there.
# ruff: noqa: PTH112, PTH113

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from ugatit_cli.errors import ModelError
from ugatit_cli.images import plain_reason
from ugatit_cli.weights.manifest_check import (
    MODEL_FILES,
    MODEL_NAME,
    REPOSITORY,
    REVISION,
    SOURCES,
    Source,
    find_mistakes,
    toml_key,
)

__all__ = [
    "MODEL_FILES", "MODEL_NAME", "REPOSITORY", "REVISION", "SOURCES",
    "Entry", "FileRecord", "Source", "entry_toml", "manifest_path", "read_manifest", "user_manifest_path",
]  # fmt: skip

SCHEMA = 1
FILE = "weights_manifest.toml"
VARIABLE = "UGATIT_MANIFEST"


@dataclass(frozen=True)
class FileRecord:
    """What a file is known to be.

    Attributes:
        size: in bytes.
        sha256: 64 lower-case hex digits.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One model.

    Attributes:
        name: what `--model` takes.
        description: one line.
        domains: names of domains A and B.
        image_size: training size in pixels.
        licence: of the weights, one line.
        training_data: one line.
        source: `bundled` (inside the package), `hub` (a model folder on the Hub), `import` (official weights that are
            converted on the user's machine), or `train` (no weights are known; the user trains them).
        repository: for `hub` and `import`: `owner/name` on the Hub. An import may have none: its checkpoint is got by
            hand.
        revision: for `hub` and `import`: a commit, 40 lower-case hex digits. An import may have none: the newest.
        files: for `bundled` and `hub`: every file of the model folder. For `import`: the TensorFlow checkpoint, paths
            in the repository; None where size and hash aren't known.
        smoothing: for `import`: whether rho was smoothed; None: the checkpoint's folder name tells.
        instructions: for `import`: where the authors offer it, with the exact `ugatit convert` line; for `train`: the
            exact `ugatit train` line.
        path: the manifest that says so.
    """

    name: str
    description: str
    domains: tuple[str, str]
    image_size: int
    licence: str
    training_data: str
    source: Source
    repository: str = ""
    revision: str = ""
    files: Mapping[str, FileRecord | None] = field(default_factory=dict)
    smoothing: bool | None = None
    instructions: str = ""
    path: Path = field(default=Path(), compare=False)

    @property
    def download_size(self) -> int | None:
        """Bytes of all files together; None if there are none, or one's size is not known."""
        sizes = [record.size for record in self.files.values() if record is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.files) else None


def manifest_path() -> Path:
    """The manifest inside the installed package, or at the repository's top level in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / FILE
    return installed if installed.is_file() else package.parent / FILE


def user_manifest_path() -> Path | None:
    """The user's own manifest: `$UGATIT_MANIFEST`, else `ugatit/weights.toml` below the user's configuration folder.

    Raises:
        ModelError: the variable names a folder, or a file that isn't there.
    """
    path = place_of_user_manifest()
    if os.path.isfile(path):
        return path
    if os.environ.get(VARIABLE):
        kind = "a folder, not a file" if os.path.isdir(path) else "no such file"
        raise ModelError(f"{path}: {kind}, but {VARIABLE} names it", f"Unset {VARIABLE}, or correct it.")
    return None


def place_of_user_manifest() -> Path:
    """Where the user's own manifest is looked for, there or not."""
    named = os.environ.get(VARIABLE)
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(named).expanduser() if named else Path(folder).expanduser() / "ugatit" / "weights.toml"


def read_manifest(path: Path | None = None) -> dict[str, Entry]:
    """All entries by name, in the file's order.

    Args:
        path: the only file to read; None: the package's manifest, then the user's, whose entries take the places of
            those of the same name, or come last.

    Raises:
        ModelError: a file can't be read, or has mistakes: one line for each, which names the table and key.
    """
    if path is not None:
        return _read(path, SOURCES)
    entries, own = _read(manifest_path(), SOURCES), user_manifest_path()
    if own is None:
        return entries
    return entries | _read(own, [source for source in SOURCES if source != "bundled"])


def _read(path: Path, sources: Collection[Source]) -> dict[str, Entry]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: can't be read: {plain_reason(error)}", _way_out(error)) from None
    _check_schema(path, document.get("schema"))
    mistakes = list(find_mistakes(document, sources))
    if mistakes:
        raise ModelError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    return {name: _entry(path, name, table) for name, table in document.get("models", {}).items()}


def _way_out(error: Exception) -> str:
    # What `ugatit push` prints was appended a second time. `tomllib` has no error of its own for it.
    twice = isinstance(error, tomllib.TOMLDecodeError) and str(error).startswith("Cannot declare")
    return "This table is there twice: keep one of them." if twice else ""


def _check_schema(path: Path, schema: object) -> None:
    if type(schema) is int and schema > SCHEMA:
        message = f"{path}: schema: written for a newer ugatit (schema {schema}, this one reads {SCHEMA})"
        raise ModelError(message, "Upgrade: pip install --upgrade ugatit-cli")
    if type(schema) is not int or schema != SCHEMA:
        found = "missing" if schema is None else repr(schema)
        raise ModelError(f"{path}: schema: {found}; this ugatit reads {SCHEMA}", f"Begin with: schema = {SCHEMA}")


def _entry(path: Path, name: str, table: Mapping[str, Any]) -> Entry:
    """From a table without mistakes."""
    first, second = table["domains"]
    files = {file: FileRecord(**record) if record else None for file, record in table.get("files", {}).items()}
    return Entry(name=name, **{**table, "domains": (first, second), "files": files, "path": path})


def entry_toml(entry: Entry) -> str:
    """The tables of one entry, which `read_manifest` reads back below a line `schema = 1`."""
    table = f"models.{toml_key(entry.name)}"
    lines = [
        f"[{table}]",
        f"description = {_value(entry.description)}",
        f"domains = [{', '.join(map(_value, entry.domains))}]",
        f"image_size = {entry.image_size}",
        f"licence = {_value(entry.licence)}",
        f"training_data = {_value(entry.training_data)}",
        f"source = {_value(entry.source)}",
    ]
    for key in ("repository", "revision", "smoothing", "instructions"):
        value = getattr(entry, key)
        if value not in (None, ""):
            lines.append(f"{key} = {_value(value)}")
    if entry.files:
        lines += ["", f"[{table}.files]"]
        lines += [f"{toml_key(name)} = {_record(record)}" for name, record in entry.files.items()]
    return "\n".join([*lines, ""])


def _value(value: str | bool) -> str:
    return tomli_w.dumps({"x": value}, multiline_strings=True).removeprefix("x = ").removesuffix("\n")


def _record(record: FileRecord | None) -> str:
    return "{}" if record is None else f"{{ size = {record.size}, sha256 = {_value(record.sha256)} }}"

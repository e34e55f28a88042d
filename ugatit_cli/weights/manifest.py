"""`weights_manifest.toml`: the models that a name stands for, as typed entries."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ugatit_cli.errors import ModelError

SCHEMA = 1
FILE = "weights_manifest.toml"
Source = Literal["bundled", "import"]


@dataclass(frozen=True)
class Entry:
    """One model.

    Attributes:
        name: what `--model` takes.
        domains: names of domains A and B.
        image_size: training size in pixels.
        source: `bundled` (inside the package), or `import` (official weights that the user downloads and converts).
        instructions: for `import`: how to get it, with the exact `ugatit convert` line.
    """

    name: str
    description: str
    domains: tuple[str, str]
    image_size: int
    licence: str
    training_data: str
    source: Source
    instructions: str = ""


def manifest_path() -> Path:
    """The manifest inside the installed package, or at the repository's top level in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / FILE
    return installed if installed.is_file() else package.parent / FILE


def read_manifest(path: Path | None = None) -> dict[str, Entry]:
    """All entries by name, in the file's order.

    Raises:
        ModelError: the file can't be read, or an entry is wrong; names the table and key.
    """
    path = path or manifest_path()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: can't be read: {error}") from None
    if document.get("schema") != SCHEMA:
        raise ModelError(f"{path}: schema is {document.get('schema')!r}, this ugatit reads {SCHEMA}")
    models = document.get("models", {})
    if not isinstance(models, dict):
        raise ModelError(f"{path}: models: must be tables")
    return {name: _entry(path, name, table) for name, table in models.items()}


def _entry(path: Path, name: str, table: Any) -> Entry:
    where = f"{path}: [models.{name}]"
    if not isinstance(table, dict):
        raise ModelError(f"{where}: must be a table")
    kinds: dict[str, type] = {
        "description": str, "domains": list, "image_size": int, "licence": str, "training_data": str, "source": str
    }  # fmt: skip
    for key, kind in kinds.items():
        if type(table.get(key)) is not kind:
            raise ModelError(f"{where} {key}: missing, or not of type {kind.__name__}")
    unknown = sorted(set(table) - set(kinds) - {"instructions"})
    if unknown:
        raise ModelError(f"{where} {unknown[0]}: unknown key")
    if table["source"] not in get_args(Source):
        raise ModelError(f"{where} source: {table['source']!r} is none of {', '.join(get_args(Source))}")
    if len(table["domains"]) != 2 or not all(isinstance(domain, str) for domain in table["domains"]):
        raise ModelError(f"{where} domains: must be two names")
    if table["source"] == "import" and not isinstance(table.get("instructions"), str):
        raise ModelError(f"{where} instructions: missing; an import says how to get the weights")
    first, second = table["domains"]
    return Entry(name=name, **{**table, "domains": (first, second)})

"""Finds the model that `--model` names: in the user's model store, bundled, or anywhere on disk."""

# os.path: a store that may not be read, or a name that is too long, is one that isn't there.
# ruff: noqa: PTH110, PTH112

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from ugatit_cli.checkpoint import ModelFolder, open_model
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.weights.manifest import read_manifest

DEFAULT_MODEL = "flat2clay"
BUNDLED = Path(__file__).parents[1] / "models"


def store_folder() -> Path:
    """Where named models live: `$UGATIT_HOME/models`, else below the user's data folder."""
    home = os.environ.get("UGATIT_HOME")
    if home:
        return Path(home).expanduser() / "models"
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "ugatit" / "models"


def store_path(name: str) -> Path:
    """The folder of a named model in the store, existing or not.

    Raises:
        UsageError: not a plain name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(f"{name!r} is not a model name", "Names are made of letters, digits, '.', '_' and '-'.")
    return store_folder() / name


def find_model(name: str) -> ModelFolder:
    """Opens the model that a name or path stands for.

    Names win over folders of the same name; `./NAME` is always a folder.

    Raises:
        ModelError: nothing there (says where it looked), or the model is damaged.
    """
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None
    if plain:
        stored = store_path(name)
        if os.path.isdir(stored):
            return open_model(stored)
        entry = read_manifest().get(name)
        if entry is not None and entry.source == "bundled":
            return open_model(BUNDLED / name)
        if entry is not None and not os.path.exists(name):
            raise ModelError(f"the weights of {name} are not on this machine", entry.instructions.strip())
    path = Path(name).expanduser()
    if os.path.exists(path):
        return open_model(path)
    raise _not_found(name)


def _not_found(name: str) -> ModelError:
    known = known_models()
    near = difflib.get_close_matches(name, known, n=1)
    suggestion = f"Did you mean {near[0]}? " if near else ""
    return ModelError(
        f"no model {name!r}: no such folder, nothing of that name in {store_folder()}, not in the manifest",
        f"{suggestion}Known models: {', '.join(known)}.",
    )


def bundled_models() -> list[str]:
    """Names of the models inside the package."""
    return [name for name, entry in read_manifest().items() if entry.source == "bundled"]


def known_models() -> list[str]:
    """Names that are in the manifest or in the store."""
    store = store_folder()
    stored = [path.name for path in store.iterdir() if path.is_dir()] if os.access(store, os.R_OK | os.X_OK) else []
    return sorted({*read_manifest(), *(name for name in stored if not name.startswith("."))})

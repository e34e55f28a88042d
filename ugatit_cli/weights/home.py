"""Where models live on this machine: inside the package, and in the user's own folder."""

# os.path: a folder that may not be seen is one that isn't there.
# ruff: noqa: PTH113

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ugatit_cli.errors import UsageError
from ugatit_cli.weights.manifest_check import MODEL_NAME

BUNDLED: Final = Path(__file__).parents[1] / "models"


def home_folder() -> Path:
    """`$UGATIT_HOME`, else `ugatit` in the user's data folder."""
    home = os.environ.get("UGATIT_HOME")
    if home:
        return Path(home).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "ugatit"


def store_folder() -> Path:
    """Where named models live."""
    return home_folder() / "models"


def store_path(name: str) -> Path:
    """The folder of a named model in the store, existing or not.

    Raises:
        UsageError: not a plain name.
    """
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a model name", "Names are made of letters, digits, '.', '_' and '-'.")
    return store_folder() / name


def stored_models() -> list[str]:
    """Names of the models in the store, sorted; none if it may not be read."""
    store = store_folder()
    paths = list(store.iterdir()) if os.access(store, os.R_OK | os.X_OK) else []
    return sorted(path.name for path in paths if MODEL_NAME.fullmatch(path.name) and path.is_dir())


def holds_model(path: Path) -> bool:
    """Whether a path is a model folder or a run; reads nothing."""
    return any(os.path.isfile(path / name) for name in ("config.json", "model/config.json"))

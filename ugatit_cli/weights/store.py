"""Finds the model that `--model` names: in the user's store, bundled, anywhere on disk, or on the Hub."""
# ruff: noqa: PTH110, PTH112

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.weights import home, hub_models, imports
from ugatit_cli.weights.folder import ModelFolder, open_model
from ugatit_cli.weights.home import BUNDLED, holds_model, known_models, not_found, store_path
from ugatit_cli.weights.hub import HubId, Listener, Silent, parse_hub_id
from ugatit_cli.weights.manifest import MODEL_NAME, Entry, manifest_path, read_manifest

__all__ = ["DEFAULT_MODEL", "bundled_models", "find_model", "known_models", "not_found"]

DEFAULT_MODEL: Final = "flat2clay"


def find_model(name: str, listener: Listener | None = None) -> ModelFolder:
    """Opens the model that a name, path or Hub id stands for; fetches it on its first use.

    Names win over folders of the same name, unless nothing but that folder has such a model; folders win over Hub
    ids. `./NAME` is always a folder.

    Raises:
        ModelError: nothing there (says where it looked), the model is damaged, or it can't be fetched.
        UsageError: an empty name.
        OutputError: what was fetched can't be written.
    """
    if not name:
        raise UsageError("the model has no name", "Name one: `ugatit models` lists them.")
    listener = listener or Silent()
    entry = None
    if MODEL_NAME.fullmatch(name):
        stored = store_path(name)
        if os.path.isdir(stored):
            return open_model(stored)
        entry = read_manifest().get(name)
    path = Path(name).expanduser()
    if entry is not None and not (entry.source in ("import", "train") and holds_model(path)):
        return _from_entry(entry, listener)
    if os.path.exists(path):
        return open_model(path)
    identity = parse_hub_id(name)
    if identity is not None:
        return _from_hub(identity, listener)
    raise not_found(name)


def _from_entry(entry: Entry, listener: Listener) -> ModelFolder:
    if entry.source == "bundled":
        return open_model(BUNDLED / entry.name)
    if entry.source == "hub":
        return hub_models.use_model(hub_models.wanted_by(entry), listener)
    if entry.source == "import":
        return imports.fetch_import(entry, listener, unless_there=True)
    raise ModelError(f"nobody has published weights of {entry.name}", entry.instructions.strip())


def _from_hub(identity: HubId, listener: Listener) -> ModelFolder:
    try:
        return hub_models.use_model(hub_models.Wanted(identity), listener)
    except ModelError as error:
        if home.load(str(identity)) is not None:
            raise
        # A mistyped path looks like a Hub id.
        raise ModelError(f"no folder {identity} here; {error.message}", error.hint) from error


def bundled_models() -> list[str]:
    """Names of the models inside the package."""
    return [name for name, entry in read_manifest(manifest_path()).items() if entry.source == "bundled"]

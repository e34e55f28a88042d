"""From a name to a model folder, whatever its source: used where it is, fetched from the Hub, or converted."""
# ruff: noqa: PTH112

from __future__ import annotations

import dataclasses
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from ugatit_cli.errors import FetchError, ModelError, ModelMissing, UsageError
from ugatit_cli.remote import hub_download
from ugatit_cli.remote.hub import HubId
from ugatit_cli.remote.patience import Listener, Logged
from ugatit_cli.remote.transfer import room_needed
from ugatit_cli.weights import home
from ugatit_cli.weights.catalog import Source, argument_for, hidden_folder, resolve
from ugatit_cli.weights.folder import GENERATORS_FILE, ModelFolder, check_target, copy_model, open_model
from ugatit_cli.weights.hashes import Record, check_pin, digest_of, read_sums
from ugatit_cli.weights.home import BUNDLED, store_path
from ugatit_cli.weights.hub_models import hub_model, is_fetched, locate_model
from ugatit_cli.weights.imports import check_files, fetch_import, locate_checkpoint, origin_of
from ugatit_cli.weights.known import REINSTALL, hub_of, no_weights
from ugatit_cli.weights.manifest import Entry, read_manifest


@room_needed()
def find_model(name: str, listener: Listener | None = None) -> ModelFolder:
    """Opens the model that a name, path or Hub id stands for (`catalog.resolve`); fetches it on its first use.

    Raises:
        ModelError: nothing there (says where it looked), the model is damaged, or it can't be fetched.
        UsageError: an empty name.
        OutputError: what was fetched can't be written; `NoRoomError` if the disk is full.
    """
    listener = listener or Logged()
    source = resolve(name, listener)
    if (folder := hidden_folder(source)) is not None:
        where = "that comes with the package" if source.kind == "bundled" else "of that name"
        listener.note(f"note: {folder} is the model {where}; the folder that is here is {argument_for(folder)}")
    model = _pinned(_found(source, listener), source)
    model.intact(model.weights)  # before anything is begun
    if _is_unrecorded(source, model):
        check = f"ugatit models verify {shlex.quote(source.name)}"
        listener.note(f"note: nobody recorded the hashes of {source.name}, so damage may go unnoticed: {check}")
    return model


def _is_unrecorded(source: Source, model: ModelFolder) -> bool:
    """Whether nobody could tell that a folder is damaged; not of a run, which may be at its model right now."""
    stored = source.kind == "store" and home.load(source.name) is not None
    run = (model.path.parent / "config.toml").is_file()
    return model.record is None and not stored and not run and read_sums(model.path) is None


def _found(source: Source, listener: Listener) -> ModelFolder:
    origin = source.origin
    if source.kind == "bundled" and isinstance(origin, Entry):
        return _bundled(origin)
    if source.path is not None or origin is None:
        return open_model(source.path or Path(source.name))
    if isinstance(origin, Entry):
        if origin.source == "train":
            raise no_weights(origin)
        if origin.converted:
            return fetch_import(origin, listener)
        return hub_model(hub_of(origin), listener, origin.files)
    try:
        return hub_model(origin, listener, None)
    except ModelError as error:
        if home.load(str(origin)) is not None:
            raise
        # A mistyped path looks like a Hub id.
        kind = type(error) if isinstance(error, FetchError) else ModelMissing
        raise kind(f"no folder {origin} here; {error.message}", error.hint) from error


def _pinned(model: ModelFolder, source: Source) -> ModelFolder:
    """A model that is the pinned one, if there is a pin, and whose files are read as such."""
    if not source.pin:
        return model
    hashes = model.hashes
    check_pin(source.name, source.pin, digest_of(hashes))
    recorded = model.record or read_sums(model.path)
    return dataclasses.replace(model, record=Record(hashes, "the pin")) if recorded else model


def is_here(name: str, listener: Listener | None = None) -> bool:
    """Whether `find_model` finds a model without fetching it, or would say that there is none to fetch.

    Raises:
        ModelError, UsageError: as `find_model`, of what the name stands for.
    """
    source = resolve(name, listener)
    origin = source.origin
    if source.path is not None or origin is None:
        return True
    if isinstance(origin, HubId):
        return is_fetched(origin)
    return not origin.converted and (origin.source != "hub" or is_fetched(hub_of(origin), origin.files))


def _bundled(entry: Entry) -> ModelFolder:
    hashes = {name: record.sha256 for name, record in entry.files.items() if record is not None}
    hint = f"Install it again, in a checkout: {REINSTALL}"
    return open_model(BUNDLED / entry.name, Record(hashes, "the manifest", hint))


@room_needed()
def fetch(
    name: str, listener: Listener, *, to: Path | None = None, force: bool = False, from_file: Path | None = None
) -> ModelFolder:
    """Fetches a model, or makes sure that it is here and up to date.

    Args:
        name: a manifest's name or a Hub id, perhaps with a pin.
        to: write a model folder there instead of keeping it in the cache or store.
        force: download it again, and replace what is there.
        from_file: take it from there instead of a network: a model folder, or an official checkpoint.

    Raises:
        UsageError: options that don't go with this model, or a model of the user's own.
        ModelError: there is none of that name, it can't be fetched, or isn't what it should be.
        OutputError: it can't be written; `NoRoomError` if the disk is full.
    """
    if to is not None:
        check_target(to, overwrite=force, option="--force")
    source = resolve(name, listener)
    wanted = _wanted(source)
    if from_file is not None:
        return _pinned(_from_file(wanted, from_file, to, listener, force=force), source)
    if isinstance(wanted, Entry) and wanted.converted:
        return _pinned(_import(wanted, listener, to, force=force), source)
    model = _pinned(_current(wanted, listener, force=force), source)
    return copy_model(model, to, overwrite=force, option="--force") if to is not None else model


def _current(wanted: Entry | HubId, listener: Listener, *, force: bool) -> ModelFolder:
    """A model folder that needs no conversion, as the Hub has it now."""
    if isinstance(wanted, HubId):
        return hub_model(wanted, listener, None, ask=True, force=force)
    name = wanted.name
    if wanted.source == "bundled":
        listener.note(f"{name} comes with the package")
        return _bundled(wanted)
    model = hub_model(hub_of(wanted), listener, wanted.files, ask=True, force=force)
    if os.path.isdir(store_path(name)):
        wins = f"which wins over this one until `ugatit models rm {name}`"
        listener.note(f"note: your store has a model {name} of its own, {wins}")
    return model


def _import(entry: Entry, listener: Listener, to: Path | None, *, force: bool) -> ModelFolder:
    if to is None and not force and os.path.isdir(store_path(entry.name)):
        listener.note(f"{entry.name} is here already; --force fetches and converts it again")
        return open_model(store_path(entry.name))
    return fetch_import(entry, listener, folder=to, force=force)


def _wanted(source: Source) -> Entry | HubId:
    if source.origin is None:
        read_manifest()  # one that is broken may know more
        raise UsageError(f"{source.name} is your own: there is nothing to fetch", f"It is in {source.path}.")
    if isinstance(source.origin, Entry) and source.origin.source == "train":
        raise no_weights(source.origin)
    return source.origin


@dataclass(frozen=True)
class PlannedFile:
    """A file that would be fetched, by its name or address: its size in bytes, or `about`, and whether it is here."""

    name: str
    size: int | None
    here: bool
    about: str = ""


def preview(
    name: str, listener: Listener, *, to: Path | None = None, force: bool = False
) -> tuple[list[PlannedFile], list[str]]:
    """What `fetch` would download, and what else there is to say. Raises the same errors."""
    if to is not None:
        check_target(to, overwrite=force, option="--force")
    source, notes = resolve(name, listener), []
    name, wanted = source.name, _wanted(source)
    if isinstance(wanted, HubId):
        remotes = locate_model(wanted, listener)
    elif wanted.source == "bundled":
        records = wanted.files.items()
        files = [PlannedFile(file, record.size if record else None, here=True) for file, record in records]
        return files, [f"{name} comes with the package"]
    elif wanted.source == "hub":
        remotes = locate_model(hub_of(wanted), listener, wanted.files)
    else:
        if to is None and os.path.isdir(store_path(name)) and not force:
            return [], [f"{name} is here already, in {store_path(name)}"]
        notes = [*origin_of(wanted), f"then converted to {to or store_path(name)}"]
        if wanted.address:
            return [PlannedFile(wanted.address, wanted.download_size, here=False, about=wanted.about)], notes
        remotes = locate_checkpoint(wanted, listener)
    return [
        PlannedFile(remote.name, remote.size, here=hub_download.on_disk(remote) is not None and not force)
        for remote in remotes.values()
    ], notes


# --- From the user's disk ------------------------------------------------------------------------------


@room_needed()
def install(source: Path, name: str, listener: Listener, *, force: bool = False) -> ModelFolder:
    """Copies a model folder, or a run's, into the store, where `--model NAME` finds it without a network.

    Args:
        force: replace a model of that name in the store.

    Raises:
        UsageError: no plain name, or a bundled model's.
        ModelError: there is no model, or a file isn't what its `SHA256SUMS` says.
        OutputError: the store has one of that name, or can't be written.
    """
    target = store_path(name)
    if (BUNDLED / name).is_dir():
        raise UsageError(f"{name} is the name of a bundled model", "Choose another --name.")
    if not source.exists():
        raise ModelMissing(f"{source}: no such file or folder", "Name the model folder that was copied.")
    model = open_model(source)
    if model.record is None and read_sums(model.path) is None:
        listener.note(f"note: nobody recorded the hashes of {source}; they are taken as they are now")
    return copy_model(model, target, overwrite=force, option="--force")


def _from_file(
    wanted: Entry | HubId, source: Path, folder: Path | None, listener: Listener, *, force: bool
) -> ModelFolder:
    if isinstance(wanted, HubId) or wanted.source == "bundled":
        raise UsageError(
            f"--from-file doesn't go with {wanted if isinstance(wanted, HubId) else wanted.name}",
            "A model folder that is here needs no fetching: --model FOLDER, or give it a name of its own: "
            f"ugatit fetch --from-file {shlex.quote(str(source))} --name NAME",
        )
    if not source.exists() and not Path(f"{source}.index").exists():
        raise ModelError(f"{source}: no such file or folder")
    if wanted.converted:
        return fetch_import(wanted, listener, folder=folder, force=force, from_file=source)
    model = open_model(source)
    check_files({name: _below(model, name) for name in wanted.files}, wanted.files)
    target = folder or store_path(wanted.name)
    return copy_model(model, target, names=wanted.files, overwrite=force, option="--force")


def _below(model: ModelFolder, name: str) -> Path:
    """A file of a model folder, which is no link that leads out of it."""
    path = model.weights if name == GENERATORS_FILE else model.path / name
    if not path.resolve().is_relative_to(model.path.resolve()):
        raise ModelError(f"{path}: a link that leads out of its folder", "Put the file itself there.")
    return path

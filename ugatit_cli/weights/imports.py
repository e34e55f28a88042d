"""Official checkpoints, wherever they are: fetched, remembered, and converted with the settings of the manifest.

Those of the Hub stay in its cache; what comes from an address, Kaggle's included, is removed once it is converted.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ugatit_cli.errors import ModelError
from ugatit_cli.leftovers import discard
from ugatit_cli.methods.base import OfficialSettings
from ugatit_cli.remote import archives, hub, hub_download, patience, records, web
from ugatit_cli.remote.addresses import forbidden_by, without_network
from ugatit_cli.remote.hub import HubId, RemoteFile
from ugatit_cli.remote.patience import Listener
from ugatit_cli.remote.records import FileRecord, Stamp
from ugatit_cli.weights import home, tables
from ugatit_cli.weights.folder import ModelFolder, check_target, open_model
from ugatit_cli.weights.home import download_folder, home_folder, store_path
from ugatit_cli.weights.known import checkpoint_key, hub_of
from ugatit_cli.weights.manifest import CHECKPOINTS, Entry
from ugatit_cli.weights.official import convert
from ugatit_cli.weights.tensorflow import checkpoint_prefix

# That of the full model has 31 kB; it is read whole.
LARGEST_INDEX: Final = 1 << 26


@dataclass(frozen=True)
class Brought:
    """An official checkpoint that is here: what `convert` takes, and where it is from, for the model's provenance."""

    checkpoint: Path
    source: Mapping[str, Any]


def fetch_import(
    entry: Entry,
    listener: Listener,
    *,
    folder: Path | None = None,
    force: bool = False,
    from_file: Path | None = None,
) -> ModelFolder:
    """An official checkpoint, fetched and converted: into a folder, or into the store unless that has it by now.

    Args:
        from_file: take it from there, instead of from where the manifest says.

    Raises:
        ModelError: it can't be fetched, or isn't what it should be.
        OutputError: the folder exists, or can't be written.
    """
    if from_file is None and not entry.repository and not entry.address:
        raise _not_here(entry)
    target = folder or store_path(entry.name)
    # Other processes may have another cache, but the same store.
    lock, saying = home_folder() / "locks" / entry.name, f"another ugatit is installing {entry.name}; waiting for it"
    with patience.waiting(lock, saying, listener):
        if folder is None and not force and not from_file and target.is_dir():
            return open_model(target)
        check_target(target, overwrite=force, option="--force")
        with _brought(entry, from_file, listener, force=force) as brought:
            listener.note(f"converting {brought.checkpoint.name} to {target}")
            return _converted(entry, brought, target, listener, force=force)


def _brought(
    entry: Entry, from_file: Path | None, listener: Listener, *, force: bool
) -> contextlib.AbstractContextManager[Brought]:
    if from_file is not None:
        return _from_disk(entry, from_file, listener)
    for text in origin_of(entry):
        listener.note(text)
    return (_from_web if entry.address else _from_hub)(entry, listener, force=force)


def origin_of(entry: Entry) -> list[str]:
    """What a user should know of weights before they are downloaded."""
    return tables.origin_of(entry, "weights", entry.address or f"{entry.repository} on the Hub")


def _converted(entry: Entry, brought: Brought, target: Path, listener: Listener, *, force: bool) -> ModelFolder:
    """With the settings of the manifest, and what it says of the weights."""
    settings = OfficialSettings(entry.domains, entry.image_size, entry.smoothing)
    facts = {key: getattr(entry, key) for key in ("licence", "made_by", "training_data") if getattr(entry, key)}
    model, notes = convert(
        [brought.checkpoint],
        target,
        settings,
        overwrite=force,
        source={**brought.source, **facts},
        layout=entry.layout,
    )
    for text in notes:
        listener.note(text)
    return model


def known_hashes(entry: Entry) -> dict[str, FileRecord | None]:
    """What is to be downloaded must be: as the manifest says, else as it was at the first use."""
    receipt = home.load(checkpoint_key(entry)) if entry.repository or entry.address else None
    earlier = receipt.files if receipt is not None else {}
    files = {download_path(entry).name: entry.archive} if entry.is_archive else entry.files
    return {
        name: record or (FileRecord(earlier[name].size, earlier[name].sha256) if name in earlier else None)
        for name, record in files.items()
    }


def _changed(entry: Entry, error: ModelError) -> ModelError:
    """For a file that is another one than at its first use."""
    return ModelError(
        error.message,
        "It was another file when you first used it. If you trust the new one, forget the old one, then "
        f"fetch it: ugatit models rm {entry.name}",
    )


def _recorded(listener: Listener, name: str, sha256: str) -> None:
    file = PurePosixPath(name).name
    listener.note(f"{file}: nobody had verified it before; sha256 {sha256} is recorded now")


def _not_here(entry: Entry) -> ModelError:
    return ModelError(f"the weights of {entry.name} are not on this machine", entry.by_hand())


# --- From the Hub --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _from_hub(entry: Entry, listener: Listener, *, force: bool) -> Iterator[Brought]:
    """Into the Hub's cache, where it stays."""
    with hub_download.locked(entry.repository, listener):
        known, remotes = known_hashes(entry), locate_checkpoint(entry, listener)
        stamps: dict[str, Stamp] = {}
        for name, remote in remotes.items():
            try:
                stamps[name] = hub_download.obtain(remote, known[name], listener, force=force)
            except records.Mismatch as error:
                raise error if entry.files[name] is not None else _changed(entry, error) from None
        commit, repository = next(iter(remotes.values())).commit, hub.cache_folder(entry.repository)
        folder = repository / "snapshots" / commit
        home.save(home.make(checkpoint_key(entry), folder, stamps, entry.repository, commit))
        for name in (name for name, record in known.items() if record is None):
            _recorded(listener, name, stamps[name].sha256)
        yield Brought(folder / entry.checkpoint, {"repository": entry.repository, "commit": commit})
    size = f"{sum(stamp.size for stamp in stamps.values()) / 1e6:,.1f} MB"
    listener.note(f"the checkpoint stays in the Hub's cache ({size}), and isn't needed any more: {repository}")


def locate_checkpoint(entry: Entry, listener: Listener) -> dict[str, RemoteFile]:
    """The files of an official checkpoint on the Hub, all of one commit; errors say how else to get it.

    Raises:
        ModelError: it has no address, can't be asked for, or lacks a file.
    """
    if not entry.repository:
        raise _not_here(entry)
    identity, by_hand = hub_of(entry), entry.by_hand()
    found: dict[str, RemoteFile] = {}
    for name in entry.files:
        try:
            remote = hub_download.locate(identity, name, listener)
        except ModelError as error:
            raise ModelError(error.message, f"{error.hint}\n{by_hand}") from None
        if remote is None and (variable := forbidden_by()):
            message = f"the weights of {entry.name} are not on this machine, and {variable} forbids to ask the Hub"
            raise ModelError(message, without_network(entry.name, entry.by_hand()))
        if remote is None:
            raise ModelError(f"{entry.repository} has no file {name}", by_hand)
        if name.endswith(".index") and (remote.size or 0) > LARGEST_INDEX:
            raise ModelError(f"{identity}: {name} has {remote.size:,} bytes: not the index of a U-GAT-IT checkpoint")
        found[name] = remote
        identity = HubId(entry.repository, remote.commit)
    return found


# --- From an address -----------------------------------------------------------------------------------


def download_path(entry: Entry) -> Path:
    """Where what is at an entry's address is kept until it is converted."""
    zipped = f"{PurePosixPath(entry.dataset).name or entry.name}.zip"
    return download_folder(entry.name) / (zipped if entry.is_archive else entry.checkpoint)


@contextlib.contextmanager
def _from_web(entry: Entry, listener: Listener, *, force: bool) -> Iterator[Brought]:
    """Beside the store, and removed in the end; but kept where the same file may do better, as after a full disk."""
    path = download_path(entry)
    known = known_hashes(entry)[path.name]
    stamp = _obtained(entry, path, known, listener, force=force)
    source = {"address": entry.address, "download_size": stamp.size, "download_sha256": stamp.sha256}
    try:
        receipt = home.make(checkpoint_key(entry), path.parent, {path.name: stamp})
        yield Brought(_unpacked(entry, path, listener) if entry.is_archive else path, source)
    except ModelError as error:
        discard(path.parent)
        inside = f"{_members_folder(entry)}{os.sep}"
        message = error.message.replace(inside, f"{entry.address}: ").replace(str(path), entry.address)
        raise ModelError(message, f"{error.hint}\nWhat was downloaded was thrown away.".strip()) from None
    home.save(receipt)
    if known is None:
        _recorded(listener, path.name, stamp.sha256)
    discard(path.parent)


def _obtained(entry: Entry, path: Path, known: FileRecord | None, listener: Listener, *, force: bool) -> Stamp:
    file = web.kaggle(entry.dataset) if entry.dataset else web.WebFile(entry.url, entry.hosts)
    try:
        return web.obtain(file, path, known, listener, force=force)
    except ModelError as error:
        if all(one.name.endswith(".lock") for one in path.parent.glob("*")):
            discard(path.parent)
        stated = entry.archive if entry.is_archive else entry.files[path.name]
        if not isinstance(error, records.Mismatch):
            hint = "\n".join(filter(None, (error.hint, entry.by_hand())))
            hint = without_network(entry.name, entry.by_hand()) if forbidden_by() else hint
            raise type(error)(error.message, hint) from None
        raise error if stated is not None or known is None else _changed(entry, error) from None


def _members_folder(entry: Entry) -> Path:
    return download_folder(entry.name) / "members"


def _unpacked(entry: Entry, archive: Path, listener: Listener) -> Path:
    """The checkpoint of an archive, without the rest of it."""
    names = list(entry.files) or _newest(entry.folder, archives.members(archive), archive)
    targets = {name: _members_folder(entry) / name for name in names}
    archives.take(archive, targets, listener)
    check_files(targets, entry.files)
    return targets[entry.checkpoint or names[0]]


def _newest(folder: str, names: Collection[str], archive: Path) -> list[str]:
    """The files of the newest checkpoint in a folder of an archive, wherever that lies; the main one first."""
    last = PurePosixPath(folder).name
    inside = [path for path in map(PurePosixPath, names) if path.parent.name == last]
    found = [path for path in inside if path.suffix in (".index", *CHECKPOINTS)]
    if not found:
        raise ModelError(f"{archive}: no checkpoint in a folder {last}", "It is not what the manifest promises.")
    newest = max(found, key=lambda path: [(len(digits), digits) for digits in re.findall(r"[1-9]\d*", path.name)])
    beside = (path for path in inside if path.parent == newest.parent)
    shards = [str(path) for path in beside if path.name.startswith(f"{newest.stem}.data-")]
    return [str(newest), *(shards if newest.suffix == ".index" else ())]


# --- From the user's disk ------------------------------------------------------------------------------


@contextlib.contextmanager
def _from_disk(entry: Entry, path: Path, listener: Listener) -> Iterator[Brought]:
    """An archive that was downloaded by hand, or what is in it, or the checkpoint itself."""
    known, source = known_hashes(entry), {"imported_by": "hand"}
    if entry.is_archive and path.is_file() and archives.is_zip(path):
        check_files(dict.fromkeys(known, path), known)
        try:
            yield Brought(_unpacked(entry, path, listener), source)
        finally:
            discard(_members_folder(entry))
        return
    files = entry.files if entry.is_archive else known
    if any(files.values()):
        check_files(_beside(path, files), files)
    yield Brought(path, source)


def _beside(path: Path, files: Collection[str]) -> dict[str, Path]:
    """Where the files of a checkpoint are that a user has named by one of them, or by their folder."""
    if any(name.endswith(".index") for name in files):
        prefix = checkpoint_prefix(path)
        return {name: Path(f"{prefix}{name[name.rindex('.') :]}") for name in files}
    return {name: path / PurePosixPath(name).name if path.is_dir() else path for name in files}


def check_files(paths: Mapping[str, Path], known: Mapping[str, FileRecord | None]) -> None:
    """Whether files are what the manifest says, as far as it does.

    Raises:
        ModelError: one isn't, or can't be read.
    """
    for name, path in paths.items():
        record = known.get(name)
        if record is None:
            continue
        try:
            problem = records.digest_of(path).differs(record)
        except OSError as error:
            raise ModelError(f"{path}: can't be read: {error.strerror}") from None
        if problem:
            raise ModelError(f"{path}: {problem}", "It is damaged, or another model. Nothing was changed.")

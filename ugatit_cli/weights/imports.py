"""Official checkpoints, fetched, remembered, and converted with the settings of the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from ugatit_cli.errors import ModelError
from ugatit_cli.methods.base import OfficialSettings
from ugatit_cli.remote import hub, hub_download, patience, records
from ugatit_cli.remote.hub import HubId, RemoteFile
from ugatit_cli.remote.patience import Listener
from ugatit_cli.remote.records import FileRecord, Stamp
from ugatit_cli.weights import home
from ugatit_cli.weights.folder import ModelFolder, check_target, open_model
from ugatit_cli.weights.home import Receipt, home_folder, store_path
from ugatit_cli.weights.known import checkpoint_key, hub_of
from ugatit_cli.weights.manifest import Entry
from ugatit_cli.weights.official import convert

# That of the full model has 31 kB; it is read whole.
LARGEST_INDEX: Final = 1 << 26


def fetch_import(entry: Entry, listener: Listener, *, folder: Path | None = None, force: bool = False) -> ModelFolder:
    """An official checkpoint, fetched and converted: into a folder, or into the store unless that has it by now."""
    if not entry.repository:
        raise _not_here(entry)
    target = folder or store_path(entry.name)
    # Other processes may have another cache, but the same store.
    lock, saying = home_folder() / "locks" / entry.name, f"another ugatit is installing {entry.name}; waiting for it"
    with patience.waiting(lock, saying, listener), hub_download.locked(entry.repository, listener):
        if folder is None and not force and target.is_dir():
            return open_model(target)
        check_target(target, overwrite=force, option="--force")
        receipt = _fetch_checkpoint(entry, listener, force=force)
        source = {"repository": receipt.repository, "commit": receipt.commit}
        index = next(name for name in receipt.files if name.endswith(".index"))
        model = install(entry, receipt.folder / index, folder, source, listener, force=force)
    size = f"{sum(stamp.size for stamp in receipt.files.values()) / 1e6:,.1f} MB"
    place = hub.cache_folder(entry.repository)
    listener.note(f"the checkpoint stays in the Hub's cache ({size}), and isn't needed any more: {place}")
    return model


def _fetch_checkpoint(entry: Entry, listener: Listener, *, force: bool) -> Receipt:
    """Into the Hub's cache. Hashes that nobody has verified are recorded at the first use, then binding."""
    known, remotes = known_hashes(entry), locate_checkpoint(entry, listener)
    stamps: dict[str, Stamp] = {}
    for name, remote in remotes.items():
        try:
            stamps[name] = hub_download.obtain(remote, known[name], listener, force=force)
        except records.Mismatch as error:
            if entry.files[name] is not None:
                raise
            raise ModelError(
                error.message,
                "It was another file when you first used it. If you trust the new one, forget the old one, then "
                f"fetch it: ugatit models rm {entry.name}",
            ) from None
    commit = next(iter(remotes.values())).commit
    folder = hub.cache_folder(entry.repository) / "snapshots" / commit
    receipt = home.make(checkpoint_key(entry), folder, stamps, entry.repository, commit)
    home.save(receipt)
    for name in (name for name, record in known.items() if record is None):
        file, sha256 = PurePosixPath(name).name, stamps[name].sha256
        listener.note(f"{file}: nobody had verified it before; sha256 {sha256} is recorded now")
    return receipt


def known_hashes(entry: Entry) -> dict[str, FileRecord | None]:
    """What the files of an import must be: as the manifest says, else as they were at the first use."""
    receipt = home.load(checkpoint_key(entry)) if entry.repository else None
    earlier = receipt.files if receipt is not None else {}
    return {
        name: record or (FileRecord(earlier[name].size, earlier[name].sha256) if name in earlier else None)
        for name, record in entry.files.items()
    }


def _not_here(entry: Entry, why: str = "", way: str = "") -> ModelError:
    return ModelError(f"the weights of {entry.name} are not on this machine{why}", way + entry.instructions.strip())


def locate_checkpoint(entry: Entry, listener: Listener) -> dict[str, RemoteFile]:
    """The files of an official checkpoint, all of one commit; errors say how else to get it."""
    if not entry.repository:
        raise _not_here(entry)
    identity, by_hand = hub_of(entry), entry.instructions.strip()
    found: dict[str, RemoteFile] = {}
    for name in entry.files:
        try:
            remote = hub_download.locate(identity, name, listener)
        except ModelError as error:
            raise ModelError(error.message, f"{error.hint}\n{by_hand}") from None
        if remote is None and hub.is_offline():
            raise _not_here(entry, ", and HF_HUB_OFFLINE forbids to ask the Hub", "Unset it to fetch them.\n")
        if remote is None:
            raise ModelError(f"{entry.repository} has no file {name}", by_hand)
        if name.endswith(".index") and (remote.size or 0) > LARGEST_INDEX:
            raise ModelError(f"{identity}: {name} has {remote.size:,} bytes: not the index of a U-GAT-IT checkpoint")
        found[name] = remote
        identity = HubId(entry.repository, remote.commit)
    return found


def install(
    entry: Entry, checkpoint: Path, folder: Path | None, source: Mapping[str, str], listener: Listener, *, force: bool
) -> ModelFolder:
    """Converts an official checkpoint with the settings of its manifest entry."""
    target = folder or store_path(entry.name)
    settings = OfficialSettings(entry.domains, entry.image_size, entry.smoothing)
    listener.note(f"converting {checkpoint.name} to {target}")
    model, notes = convert([checkpoint], target, settings, overwrite=force, source=source)
    for text in notes:
        listener.note(text)
    return model

"""Official checkpoints that a manifest names: fetched from the Hub or found on disk, remembered, and converted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from ugatit_cli.errors import ModelError
from ugatit_cli.files import reported
from ugatit_cli.weights import home, hub, hub_cache
from ugatit_cli.weights.folder import MODEL_FILES, ModelFolder, check_target, open_model
from ugatit_cli.weights.home import Receipt, Stamp, home_folder, store_path
from ugatit_cli.weights.hub import HubId, Listener, RemoteFile
from ugatit_cli.weights.manifest import Entry, FileRecord

# That of the full model has 31 kB; it is read whole.
LARGEST_INDEX: Final = 1 << 26


def checkpoint_key(entry: Entry) -> str:
    """The name of the receipt of an official checkpoint."""
    return f"{HubId(entry.repository, entry.revision or hub.NEWEST)}/{_index(entry)}"


def _index(entry: Entry) -> PurePosixPath:
    return next(PurePosixPath(name) for name in entry.files if name.endswith(".index"))


def fetch_checkpoint(entry: Entry, listener: Listener, *, force: bool = False) -> Receipt:
    """Fetches an official checkpoint into the Hub's cache.

    Hashes that nobody has verified are recorded at the first use, and binding from then on.

    Raises:
        ModelError: it can't be fetched, or isn't what it was at the first use.
        OutputError: the cache or the user's folder can't be written.
    """
    known = known_hashes(entry)
    remotes = locate_checkpoint(entry, listener)
    stamps: dict[str, Stamp] = {}
    for name, remote in remotes.items():
        try:
            stamps[name] = hub_cache.obtain(remote, known[name], listener, force=force)
        except hub_cache.Mismatch as error:
            raise error if entry.files[name] is not None else _replaced(entry, error) from None
    commit = next(iter(remotes.values())).commit
    folder = hub.cache_folder(entry.repository) / "snapshots" / commit
    receipt = home.make(checkpoint_key(entry), folder, stamps, entry.repository, commit)
    home.save(receipt)
    for name, record in known.items():
        if record is None:
            sha256 = stamps[name].sha256
            listener.note(
                f"{PurePosixPath(name).name}: nobody had verified it before; sha256 {sha256} is recorded now"
            )
    return receipt


def locate_checkpoint(entry: Entry, listener: Listener) -> dict[str, RemoteFile]:
    """The files of an official checkpoint; all of one commit.

    Raises:
        ModelError: the Hub can't tell, or the repository lacks one; says how else to get the checkpoint.
    """
    if not entry.repository:
        raise ModelError(f"the weights of {entry.name} are not on this machine", entry.instructions.strip())
    identity = HubId(entry.repository, entry.revision or hub.NEWEST)
    found: dict[str, RemoteFile] = {}
    for name in entry.files:
        try:
            remote = hub_cache.locate(identity, name, listener)
        except ModelError as error:
            raise ModelError(error.message, f"{error.hint}\n{entry.instructions.strip()}") from None
        if remote is None:
            raise _lacking(entry, name)
        if name.endswith(".index") and (remote.size or 0) > LARGEST_INDEX:
            raise ModelError(f"{identity}: {name} has {remote.size:,} bytes: not the index of a U-GAT-IT checkpoint")
        found[name] = remote
        identity = HubId(entry.repository, remote.commit)
    return found


def _lacking(entry: Entry, name: str) -> ModelError:
    if hub.is_offline():
        return ModelError(
            f"the weights of {entry.name} are not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub",
            f"Unset it to fetch them.\n{entry.instructions.strip()}",
        )
    return ModelError(f"{entry.repository} has no file {name}", entry.instructions.strip())


def _replaced(entry: Entry, error: ModelError) -> ModelError:
    return ModelError(
        error.message,
        "It was another file when you first used it. If you trust the new one, forget the old one, then fetch it: "
        f"ugatit models rm {entry.name}",
    )


def known_hashes(entry: Entry) -> dict[str, FileRecord | None]:
    """What the files of an import must be: as the manifest says, else as they were at the first use."""
    receipt = home.load(checkpoint_key(entry)) if entry.repository else None
    earlier = receipt.files if receipt is not None else {}
    return {
        name: record or (FileRecord(earlier[name].size, earlier[name].sha256) if name in earlier else None)
        for name, record in entry.files.items()
    }


def fetch_import(
    entry: Entry, listener: Listener, *, folder: Path | None = None, force: bool = False, unless_there: bool = False
) -> ModelFolder:
    """Fetches an official checkpoint and converts it into a model folder.

    Args:
        folder: where to; by default the store, under the entry's name.
        force: download it again, and replace the model.
        unless_there: do nothing if the store has it by now.

    Raises:
        ModelError: it can't be fetched or converted.
        OutputError: something can't be written.
    """
    if not entry.repository:
        raise ModelError(f"the weights of {entry.name} are not on this machine", entry.instructions.strip())
    target = folder or store_path(entry.name)
    # Other processes may have another cache, but the same store.
    lock, saying = home_folder() / "locks" / entry.name, f"another ugatit is installing {entry.name}; waiting for it"
    with hub.waiting(lock, saying, listener), hub_cache.locked(entry.repository, listener):
        if unless_there and target.is_dir():
            return open_model(target)
        check_target(target, overwrite=force, option="--force")
        receipt = fetch_checkpoint(entry, listener, force=force)
        source = {"repository": receipt.repository, "commit": receipt.commit}
        model = install(entry, receipt.folder / _index(entry), listener, folder=folder, force=force, source=source)
    size = sum(stamp.size for stamp in receipt.files.values())
    listener.note(
        f"the checkpoint stays in the Hub's cache ({size / 1e6:,.1f} MB), and isn't needed any more: "
        f"{hub.cache_folder(entry.repository)}"
    )
    return model


def install(
    entry: Entry,
    checkpoint: Path,
    listener: Listener,
    *,
    folder: Path | None = None,
    force: bool = False,
    source: Mapping[str, str] | None = None,
) -> ModelFolder:
    """Converts an official checkpoint with the settings of its manifest entry.

    Raises:
        ModelError: it can't be converted.
        OutputError: the folder exists, or can't be written.
    """
    # Only needed here, and slow to import.
    from ugatit_cli.weights.convert import convert
    from ugatit_cli.weights.official import ImportSettings

    target = folder or store_path(entry.name)
    settings = ImportSettings(entry.domains, entry.image_size, entry.smoothing)
    listener.note(f"converting {checkpoint.name} to {target}")
    model, notes = convert(checkpoint, target, settings, overwrite=force, source=source)
    for text in notes:
        listener.note(text)
    if folder is None:
        keep_receipt(entry.name, model)
    return model


def keep_receipt(name: str, model: ModelFolder) -> None:
    """Records the hashes of a model that was put into the store, so that `ugatit models verify` can check it.

    Raises:
        OutputError: a file can't be read, or the receipt not written.
    """
    with reported(model.path):
        names = [file for file in MODEL_FILES if (model.path / file).is_file()]
        home.save(home.of_folder(name, model.path, names))

"""`ugatit fetch`, and every first use of a model: from the Hub into the cache or the store, checked on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ugatit_cli.checkpoint import (
    CARD_FILE,
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    GENERATORS_FILE,
    MODEL_FILES,
    SAMPLES_FILE,
    ModelFolder,
    discriminator_shapes,
    generator_shapes,
    open_model,
    read_config,
)
from ugatit_cli.durable import reported
from ugatit_cli.errors import ModelError
from ugatit_cli.weights import hub, hub_cache, receipts
from ugatit_cli.weights.home import store_path
from ugatit_cli.weights.hub import HubId, Listener, RemoteFile
from ugatit_cli.weights.hub_cache import Records
from ugatit_cli.weights.manifest import Entry, FileRecord
from ugatit_cli.weights.receipts import Receipt, Stamp

# Pictures are for the Hub's page.
OF_USE: Final = frozenset(MODEL_FILES) - {SAMPLES_FILE}
# Read into memory whole; a config has a kilobyte.
LARGEST_TEXT: Final = 1 << 20
# A safetensors header with the names of all tensors, generously.
LARGEST_HEADER: Final = 4 << 20


@dataclass(frozen=True)
class Wanted:
    """A repository and what to fetch of it.

    Attributes:
        hub: where.
        files: what its files must be, for a repository that a manifest knows; None: whatever model folder is there.
    """

    hub: HubId
    files: Records | None = None

    @property
    def key(self) -> str:
        """The name of its receipt."""
        return str(self.hub)

    @property
    def is_pinned(self) -> bool:
        """Whether it can never change."""
        return hub.COMMIT.fullmatch(self.hub.revision) is not None


def wanted_by(entry: Entry) -> Wanted:
    """What a manifest's `hub` entry stands for."""
    return Wanted(HubId(entry.repository, entry.revision), entry.files)


def fetch_model(wanted: Wanted, listener: Listener, *, force: bool = False) -> ModelFolder:
    """Fetches a model folder into the Hub's cache, or makes sure that it is there and up to date.

    Args:
        force: download it even if it is there.

    Raises:
        ModelError: it can't be fetched, isn't a model, or isn't what the manifest says.
        OutputError: the cache or the user's folder can't be written.
    """
    with hub_cache.locked(wanted.hub.repository, listener):
        return _fetch_model(wanted, listener, force=force)


def use_model(wanted: Wanted, listener: Listener) -> ModelFolder:
    """The model if it was fetched before, without asking the Hub; else fetches it.

    Raises:
        ModelError: it can't be fetched, or its files have changed since.
        OutputError: the cache or the user's folder can't be written.
    """
    model = _fetched(wanted)
    if model is not None:
        return model
    with hub_cache.locked(wanted.hub.repository, listener):
        return _fetched(wanted) or _fetch_model(wanted, listener)


def _fetched(wanted: Wanted) -> ModelFolder | None:
    receipt = receipts.load(wanted.key)
    if receipt is None or not receipt.is_there() or not _as_promised(receipt, wanted.files or {}):
        return None
    receipt.check(f"Fetch it again: ugatit fetch {wanted.key}")
    return open_model(receipt.folder)


def _as_promised(receipt: Receipt, records: Records) -> bool:
    """Whether a receipt has the files of the manifest, which may have changed since."""
    return all(
        name in receipt.files and (record is None or receipt.files[name].sha256 == record.sha256)
        for name, record in records.items()
    )


def _fetch_model(wanted: Wanted, listener: Listener, *, force: bool = False) -> ModelFolder:
    remotes = locate_model(wanted, listener)
    commit = remotes[CONFIG_FILE].commit
    complete = not force and all(hub_cache.on_disk(remote) for remote in remotes.values())
    listener.note(f"{'checking' if complete else 'fetching'} {wanted.hub} at {commit[:12]}")
    stamps: dict[str, Stamp] = {}
    for name, remote in remotes.items():
        if name == GENERATORS_FILE:
            _check_sizes(remotes)
        stamps[name] = hub_cache.obtain(remote, (wanted.files or {}).get(name), listener, force=force)
    folder = hub_cache.pointer_path(remotes[CONFIG_FILE]).parent
    model = open_model(folder)
    hub_cache.keep_reference(wanted.hub, commit)
    receipts.save(receipts.make(wanted.key, folder, stamps, wanted.hub.repository, commit))
    return model


def locate_model(wanted: Wanted, listener: Listener) -> dict[str, RemoteFile]:
    """The files of a model folder in a repository, the config first; all of one commit.

    Raises:
        ModelError: the Hub can't tell, or the repository holds no model.
    """
    config = _located(wanted.hub, CONFIG_FILE, wanted.files, listener)
    if config is None:
        raise _no_model(wanted.hub, CONFIG_FILE)
    found = {CONFIG_FILE: config}
    pinned = HubId(wanted.hub.repository, config.commit)
    for name in MODEL_FILES[1:]:
        if name not in (OF_USE if wanted.files is None else wanted.files):
            continue
        remote = _located(pinned, name, wanted.files, listener)
        if remote is not None:
            found[name] = remote
        elif name == GENERATORS_FILE or wanted.files is not None:
            raise _no_model(wanted.hub, name)
    return found


def _located(identity: HubId, name: str, records: Records | None, listener: Listener) -> RemoteFile | None:
    remote = hub_cache.locate(identity, name, listener)
    if remote is not None:
        hub_cache.check_announced(remote, (records or {}).get(name))
        if name in (CONFIG_FILE, CARD_FILE) and (remote.size or 0) > LARGEST_TEXT:
            raise ModelError(f"{identity}: {name} has {remote.size:,} bytes: not that of a model")
    return remote


def _no_model(identity: HubId, name: str) -> ModelError:
    if hub.is_offline():
        return ModelError(
            f"{identity} is not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub",
            "Unset it to fetch the model.",
        )
    return ModelError(
        f"{identity} is not a ugatit model: it has no {name}",
        "A model has config.json and model.safetensors. Pickles and other programs' files are not fetched.",
    )


def _check_sizes(remotes: Mapping[str, RemoteFile]) -> None:
    """Whether files of tensors have a size that their config can have, before they are downloaded.

    Raises:
        ModelError: a wrong config, or a size that doesn't fit it.
    """
    path = hub_cache.pointer_path(remotes[CONFIG_FILE])
    config, _ = read_config(path)
    for name, shapes in ((GENERATORS_FILE, generator_shapes), (DISCRIMINATORS_FILE, discriminator_shapes)):
        remote = remotes.get(name)
        if remote is None or remote.size is None:
            continue
        count = 0
        for shape in shapes(config).values():
            numbers = 1
            for length in shape:
                numbers *= length
            count += numbers
        if not 2 * count <= remote.size <= 4 * count + LARGEST_HEADER:
            raise ModelError(
                f"{remote.repository}: {name} has {remote.size:,} bytes; its config asks for {2 * count:,} to "
                f"{4 * count + LARGEST_HEADER:,}",
                "The repository is damaged, or not a ugatit model.",
            )


def checkpoint_key(entry: Entry) -> str:
    """The name of the receipt of an official checkpoint."""
    return f"{HubId(entry.repository, entry.revision or hub.NEWEST)}/{_index(entry).parent}"


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
        stamps[name] = hub_cache.obtain(remote, known[name], listener, force=force)
    commit = next(iter(remotes.values())).commit
    folder = hub.cache_folder(entry.repository) / "snapshots" / commit
    receipt = receipts.make(checkpoint_key(entry), folder, stamps, entry.repository, commit)
    receipts.save(receipt)
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
        remote = hub_cache.locate(identity, name, listener)
        if remote is None:
            raise ModelError(f"{identity} has no file {name}", entry.instructions.strip())
        found[name] = remote
        identity = HubId(entry.repository, remote.commit)
    return found


def known_hashes(entry: Entry) -> dict[str, FileRecord | None]:
    """What the files of an import must be: as the manifest says, else as they were at the first use."""
    receipt = receipts.load(checkpoint_key(entry)) if entry.repository else None
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
    with hub_cache.locked(entry.repository, listener):
        if unless_there and store_path(entry.name).is_dir():
            return open_model(store_path(entry.name))
        receipt = fetch_checkpoint(entry, listener, force=force)
        source = {"repository": receipt.repository, "commit": receipt.commit}
        return install(entry, receipt.folder / _index(entry), listener, folder=folder, force=force, source=source)


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
        receipts.save(receipts.of_folder(name, model.path, names))

"""From a name to a model folder, whatever its source: used where it is, fetched from the Hub, or converted.

Official checkpoints are fetched or found on disk, remembered, and converted with the settings of the manifest.
"""
# ruff: noqa: PTH112

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ugatit_cli.config import Precision
from ugatit_cli.device import DTYPES
from ugatit_cli.errors import ModelError, OutputError, UsageError
from ugatit_cli.files import DOCUMENT
from ugatit_cli.methods.base import OfficialSettings
from ugatit_cli.weights import home, hub, hub_download
from ugatit_cli.weights.catalog import REINSTALL, Source, checkpoint_key, hub_of, no_weights, resolve
from ugatit_cli.weights.folder import (
    CARD_FILE,
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    GENERATORS_FILE,
    MODEL_FILES,
    SAMPLES_FILE,
    ModelFolder,
    check_target,
    copy_model,
    critic_shapes,
    open_model,
    read_config,
    save_model,
    translator_shapes,
)
from ugatit_cli.weights.hashes import Record, check_pin, digest_of, hash_of, read_sums
from ugatit_cli.weights.home import BUNDLED, Receipt, home_folder, store_path
from ugatit_cli.weights.hub import HubId, Listener, Logged, RemoteFile
from ugatit_cli.weights.hub_download import Records, Stamp
from ugatit_cli.weights.kinds import LARGEST_HEADER
from ugatit_cli.weights.manifest import NEEDED_FILES, Entry, FileRecord, read_manifest
from ugatit_cli.weights.official import read_official
from ugatit_cli.weights.tensorflow import checkpoint_prefix

# Pictures are for the Hub's page.
OF_USE: Final = frozenset(MODEL_FILES) - {SAMPLES_FILE}
# That of the full model has 31 kB; it is read whole.
LARGEST_INDEX: Final = 1 << 26
_NOT_OURS: Final = "The repository is damaged, or not a ugatit model."


def find_model(name: str, listener: Listener | None = None) -> ModelFolder:
    """Opens the model that a name, path or Hub id stands for (`catalog.resolve`); fetches it on its first use.

    Raises:
        ModelError: nothing there (says where it looked), the model is damaged, or it can't be fetched.
        UsageError: an empty name.
        OutputError: what was fetched can't be written.
    """
    listener = listener or Logged()
    source = resolve(name, listener)
    model = _pinned(_found(source, listener), source)
    model.intact(model.weights)  # before anything is begun
    return model


def _found(source: Source, listener: Listener) -> ModelFolder:
    origin = source.origin
    if source.kind == "bundled" and isinstance(origin, Entry):
        return _bundled(origin)
    if source.path is not None or origin is None:
        return open_model(source.path or Path(source.name))
    if isinstance(origin, Entry):
        if origin.source == "train":
            raise no_weights(origin)
        if origin.source == "import":
            return _fetch_import(origin, listener)
        return _hub_model(hub_of(origin), listener, origin.files)
    try:
        return _hub_model(origin, listener, None)
    except ModelError as error:
        if home.load(str(origin)) is not None:
            raise
        # A mistyped path looks like a Hub id.
        raise ModelError(f"no folder {origin} here; {error.message}", error.hint) from error


def _pinned(model: ModelFolder, source: Source) -> ModelFolder:
    """A model that is the pinned one, if there is a pin, and whose files are read as such."""
    if not source.pin:
        return model
    hashes = model.hashes
    check_pin(source.name, source.pin, digest_of(hashes))
    recorded = model.record or read_sums(model.path)
    return dataclasses.replace(model, record=Record(hashes, "the pin")) if recorded else model


def _bundled(entry: Entry) -> ModelFolder:
    hashes = {name: record.sha256 for name, record in entry.files.items() if record is not None}
    hint = f"Install it again, in a checkout: {REINSTALL}"
    return open_model(BUNDLED / entry.name, Record(hashes, "the manifest", hint))


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
        OutputError: it can't be written.
    """
    if to is not None:
        check_target(to, overwrite=force, option="--force")
    source = resolve(name, listener)
    wanted = _wanted(source)
    if from_file is not None:
        return _pinned(_from_file(wanted, from_file, to, listener, force=force), source)
    if isinstance(wanted, Entry) and wanted.source == "import":
        return _pinned(_import(wanted, listener, to, force=force), source)
    model = _pinned(_current(wanted, listener, force=force), source)
    return copy_model(model, to, overwrite=force, option="--force") if to is not None else model


def _current(wanted: Entry | HubId, listener: Listener, *, force: bool) -> ModelFolder:
    """A model folder that needs no conversion, as the Hub has it now."""
    if isinstance(wanted, HubId):
        return _hub_model(wanted, listener, None, ask=True, force=force)
    name = wanted.name
    if wanted.source == "bundled":
        listener.note(f"{name} comes with the package")
        return _bundled(wanted)
    model = _hub_model(hub_of(wanted), listener, wanted.files, ask=True, force=force)
    if os.path.isdir(store_path(name)):
        wins = f"which wins over this one until `ugatit models rm {name}`"
        listener.note(f"note: your store has a model {name} of its own, {wins}")
    return model


def _import(entry: Entry, listener: Listener, to: Path | None, *, force: bool) -> ModelFolder:
    if to is None and not force and os.path.isdir(store_path(entry.name)):
        listener.note(f"{entry.name} is here already; --force fetches and converts it again")
        return open_model(store_path(entry.name))
    return _fetch_import(entry, listener, folder=to, force=force)


def _wanted(source: Source) -> Entry | HubId:
    if source.origin is None:
        read_manifest()  # one that is broken may know more
        raise UsageError(f"{source.name} is your own: there is nothing to fetch", f"It is in {source.path}.")
    if isinstance(source.origin, Entry) and source.origin.source == "train":
        raise no_weights(source.origin)
    return source.origin


@dataclass(frozen=True)
class PlannedFile:
    """A file that would be fetched: its size in bytes if known, and whether it is here."""

    name: str
    size: int | None
    here: bool


def preview(
    name: str, listener: Listener, *, to: Path | None = None, force: bool = False
) -> tuple[list[PlannedFile], list[str]]:
    """What `fetch` would download, and what else there is to say. Raises the same errors."""
    if to is not None:
        check_target(to, overwrite=force, option="--force")
    source, notes = resolve(name, listener), []
    name, wanted = source.name, _wanted(source)
    if isinstance(wanted, HubId):
        remotes = _locate_model(wanted, listener)
    elif wanted.source == "bundled":
        records = wanted.files.items()
        files = [PlannedFile(file, record.size if record else None, here=True) for file, record in records]
        return files, [f"{name} comes with the package"]
    elif wanted.source == "hub":
        remotes = _locate_model(hub_of(wanted), listener, wanted.files)
    else:
        if to is None and os.path.isdir(store_path(name)) and not force:
            return [], [f"{name} is here already, in {store_path(name)}"]
        remotes, notes = _locate_checkpoint(wanted, listener), [f"then converted to {to or store_path(name)}"]
    return [
        PlannedFile(remote.name, remote.size, here=hub_download.on_disk(remote) is not None and not force)
        for remote in remotes.values()
    ], notes


# --- From the user's disk ------------------------------------------------------------------------------


def _from_file(
    wanted: Entry | HubId, source: Path, folder: Path | None, listener: Listener, *, force: bool
) -> ModelFolder:
    if isinstance(wanted, HubId) or wanted.source == "bundled":
        raise UsageError(
            f"--from-file doesn't go with {wanted if isinstance(wanted, HubId) else wanted.name}",
            "A model folder that is here needs no fetching: --model FOLDER.",
        )
    if not source.exists() and not Path(f"{source}.index").exists():
        raise ModelError(f"{source}: no such file or folder")
    if wanted.source == "import":
        known = known_hashes(wanted)
        if any(known.values()):
            prefix = checkpoint_prefix(source)
            _check_files({name: Path(f"{prefix}{name[name.rindex('.') :]}") for name in known}, known)
        return _install(wanted, source, folder, {"imported_by": "hand"}, listener, force=force)
    model = open_model(source)
    _check_files({name: _below(model, name) for name in wanted.files}, wanted.files)
    target = folder or store_path(wanted.name)
    return copy_model(model, target, names=wanted.files, overwrite=force, option="--force")


def _below(model: ModelFolder, name: str) -> Path:
    """A file of a model folder, which is no link that leads out of it."""
    path = model.weights if name == GENERATORS_FILE else model.path / name
    if not path.resolve().is_relative_to(model.path.resolve()):
        raise ModelError(f"{path}: a link that leads out of its folder", "Put the file itself there.")
    return path


def _check_files(paths: Mapping[str, Path], records: Records) -> None:
    """Whether files are what the manifest says."""
    for name, path in paths.items():
        record = records[name]
        if record is None:
            continue
        try:
            digest = hub_download.digest_of(path)
        except OSError as error:
            raise ModelError(f"{path}: can't be read: {error.strerror}") from None
        if (digest.size, digest.sha256) != (record.size, record.sha256):
            expected = f"expected {record.size:,} bytes with sha256 {record.sha256}"
            raise ModelError(
                f"{path}: {expected}, found {digest.size:,} with {digest.sha256}",
                "It is damaged, or another model. Nothing was changed.",
            )


# --- Model folders on the Hub --------------------------------------------------------------------------


def _hub_model(
    identity: HubId, listener: Listener, files: Records | None, *, ask: bool = False, force: bool = False
) -> ModelFolder:
    """As it was fetched before, without asking the Hub; else, or to `ask` for the newest, fetched into its cache."""
    if not ask and (model := _fetched(identity, files or {})):
        return model
    with hub_download.locked(identity.repository, listener):
        model = None if ask else _fetched(identity, files or {})
        return model or _fetch_model(identity, listener, files, force=force)


def _fetched(identity: HubId, records: Records) -> ModelFolder | None:
    """The model of a receipt that fits the manifest, which may have changed since."""
    receipt = home.load(str(identity))
    if receipt is None or not receipt.is_there():
        return None
    stamps = receipt.files
    for name, record in records.items():
        if name not in stamps or (record is not None and stamps[name].sha256 != record.sha256):
            return None
    if not all(hub_download.is_inside(receipt.folder / name, identity.repository) for name in stamps):
        return None
    receipt.check(_again(identity))
    return open_model(receipt.folder, _as_fetched(stamps, identity))


def _as_fetched(stamps: Mapping[str, Stamp], identity: HubId) -> Record:
    return Record({name: stamp.sha256 for name, stamp in stamps.items()}, "as fetched", _again(identity))


def _again(identity: HubId) -> str:
    return f"Fetch it again: ugatit fetch {identity}"


def _fetch_model(identity: HubId, listener: Listener, files: Records | None, *, force: bool) -> ModelFolder:
    if force and hub.is_offline():
        raise ModelError(f"{identity} can't be downloaded again: HF_HUB_OFFLINE forbids to ask the Hub", "Unset it.")
    remotes = _locate_model(identity, listener, files)
    commit = remotes[CONFIG_FILE].commit
    complete = not force and all(hub_download.on_disk(remote) for remote in remotes.values())
    listener.note(f"{'checking' if complete else 'fetching'} {identity} at {commit[:12]}")
    stamps: dict[str, Stamp] = {}
    for name, remote in remotes.items():
        if name == GENERATORS_FILE:
            _check_sizes(identity, remotes)
        stamps[name] = hub_download.obtain(remote, (files or {}).get(name), listener, force=force)
    folder = hub_download.pointer_path(remotes[CONFIG_FILE]).parent
    model = open_model(folder, _as_fetched(stamps, identity))
    hub_download.keep_reference(identity, commit)
    try:
        home.save(home.make(str(identity), folder, stamps, identity.repository, commit))
    except OutputError as error:
        listener.note(f"note: {error.message}: each use will check the model again")
    return model


def _locate_model(identity: HubId, listener: Listener, files: Records | None = None) -> dict[str, RemoteFile]:
    """The files of a model folder in a repository, the config first; all of one commit."""
    pinned, found = identity, dict[str, RemoteFile]()
    for name in (name for name in MODEL_FILES if name in (OF_USE if files is None else files)):
        remote = hub_download.locate(pinned, name, listener)
        if remote is not None:
            hub_download.check_announced(remote, (files or {}).get(name))
            if name in (CONFIG_FILE, CARD_FILE) and (remote.size or 0) > DOCUMENT:
                raise ModelError(f"{identity}: {name} has {remote.size:,} bytes: not that of a model")
            found[name] = remote
            pinned = HubId(identity.repository, remote.commit)
        elif name in NEEDED_FILES or files is not None:
            raise _no_model(identity, name)
    return found


def _no_model(identity: HubId, name: str) -> ModelError:
    if hub.is_offline():
        message = f"{identity} is not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub"
        return ModelError(message, "Unset it to fetch the model.")
    return ModelError(
        f"{identity} is not a ugatit model: it has no {name}",
        "A model has config.json and model.safetensors. Pickles and other programs' files are not fetched.",
    )


def _check_sizes(identity: HubId, remotes: Mapping[str, RemoteFile]) -> None:
    """Whether files of tensors have a size that their config can have, before they are downloaded."""
    try:
        config, _ = read_config(hub_download.pointer_path(remotes[CONFIG_FILE]))
    except ModelError as error:
        raise ModelError(f"{identity}: {error.message}", error.hint or _NOT_OURS) from None
    for name, shapes in ((GENERATORS_FILE, translator_shapes), (DISCRIMINATORS_FILE, critic_shapes)):
        remote = remotes.get(name)
        if remote is None:
            continue
        count = sum(math.prod(shape) for shape in shapes(config).values())
        if remote.size is None or not 2 * count <= remote.size <= 4 * count + LARGEST_HEADER:
            size = f"{remote.size:,} bytes" if remote.size is not None else "a size that the Hub doesn't tell"
            raise ModelError(
                f"{identity}: {name} has {size}; its config asks for {2 * count:,} to {4 * count + LARGEST_HEADER:,}",
                _NOT_OURS,
            )


# --- Official checkpoints ------------------------------------------------------------------------------


def _fetch_import(
    entry: Entry, listener: Listener, *, folder: Path | None = None, force: bool = False
) -> ModelFolder:
    """An official checkpoint, fetched and converted: into a folder, or into the store unless that has it by now."""
    if not entry.repository:
        raise _not_here(entry)
    target = folder or store_path(entry.name)
    # Other processes may have another cache, but the same store.
    lock, saying = home_folder() / "locks" / entry.name, f"another ugatit is installing {entry.name}; waiting for it"
    with hub.waiting(lock, saying, listener), hub_download.locked(entry.repository, listener):
        if folder is None and not force and target.is_dir():
            return open_model(target)
        check_target(target, overwrite=force, option="--force")
        receipt = _fetch_checkpoint(entry, listener, force=force)
        source = {"repository": receipt.repository, "commit": receipt.commit}
        index = next(name for name in receipt.files if name.endswith(".index"))
        model = _install(entry, receipt.folder / index, folder, source, listener, force=force)
    size = f"{sum(stamp.size for stamp in receipt.files.values()) / 1e6:,.1f} MB"
    place = hub.cache_folder(entry.repository)
    listener.note(f"the checkpoint stays in the Hub's cache ({size}), and isn't needed any more: {place}")
    return model


def _fetch_checkpoint(entry: Entry, listener: Listener, *, force: bool) -> Receipt:
    """Into the Hub's cache. Hashes that nobody has verified are recorded at the first use, then binding."""
    known, remotes = known_hashes(entry), _locate_checkpoint(entry, listener)
    stamps: dict[str, Stamp] = {}
    for name, remote in remotes.items():
        try:
            stamps[name] = hub_download.obtain(remote, known[name], listener, force=force)
        except hub_download.Mismatch as error:
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


def _locate_checkpoint(entry: Entry, listener: Listener) -> dict[str, RemoteFile]:
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


def _install(
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


def convert(
    checkpoints: Sequence[Path],
    folder: Path,
    settings: OfficialSettings | None = None,
    *,
    storage: Precision = "fp32",
    overwrite: bool = False,
    source: Mapping[str, str] | None = None,
) -> tuple[ModelFolder, tuple[str, ...]]:
    """Converts an official checkpoint.

    Args:
        checkpoints: see `read_official`.
        folder: the model folder to write.
        source: where the checkpoint comes from, for the model's provenance.

    Returns:
        The model folder, and notes for the user.

    Raises:
        ModelError: the checkpoint can't be read, or isn't one that is known.
        OutputError: the folder exists, or can't be written.
    """
    if not folder.name:  # `.` can't be renamed
        folder = folder.absolute()
    check_target(folder, overwrite=overwrite)
    official, code, files = read_official(checkpoints, settings or OfficialSettings(), DTYPES[storage])
    said = {"imported_from": ", ".join(file.name for file in files), "code": code}
    provenance = {**said, "sha256": ", ".join(map(hash_of, files)), **(source or {})}
    tensors = official.translators, official.critics
    try:
        save_model(folder, official.config, *tensors, storage=storage, provenance=provenance, overwrite=overwrite)
    except ModelError as error:
        raise ModelError(f"{files[0]}: {error.message}", error.hint) from None
    return open_model(folder), official.notes

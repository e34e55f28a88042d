"""Model folders on the Hub: as they were fetched before, or fetched into its cache and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ugatit_cli.errors import ModelError, OutputError
from ugatit_cli.files import DOCUMENT
from ugatit_cli.remote import hub_download
from ugatit_cli.remote.addresses import allow, forbidden_by
from ugatit_cli.remote.hub import HubId, RemoteFile, not_here
from ugatit_cli.remote.hub_download import Records
from ugatit_cli.remote.patience import Listener
from ugatit_cli.remote.records import Stamp
from ugatit_cli.weights import home
from ugatit_cli.weights.folder import (
    CARD_FILE,
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    GENERATORS_FILE,
    MODEL_FILES,
    SAMPLES_FILE,
    ModelFolder,
    critic_shapes,
    open_model,
    read_config,
    translator_shapes,
)
from ugatit_cli.weights.hashes import Record
from ugatit_cli.weights.kinds import LARGEST_HEADER
from ugatit_cli.weights.manifest import NEEDED_FILES

# Pictures are for the Hub's page.
OF_USE: Final = frozenset(MODEL_FILES) - {SAMPLES_FILE}
_NOT_OURS: Final = "The repository is damaged, or not a ugatit model."


def hub_model(
    identity: HubId, listener: Listener, files: Records | None, *, ask: bool = False, force: bool = False
) -> ModelFolder:
    """As it was fetched before, without asking the Hub; else, or to `ask` for the newest, fetched into its cache."""
    if not ask and (model := _fetched(identity, files or {})):
        return model
    with hub_download.locked(identity.repository, listener):
        model = None if ask else _fetched(identity, files or {})
        return model or _fetch_model(identity, listener, files, force=force)


def is_fetched(identity: HubId, files: Records | None = None) -> bool:
    """Whether a model is here as the manifest promises it."""
    return _fetched(identity, files or {}) is not None


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
    if force and (variable := forbidden_by()):
        raise ModelError(
            f"{identity} can't be downloaded again: {variable} forbids to ask the Hub",
            f"Without --force, what is here is used.\n{allow()}",
        )
    remotes = locate_model(identity, listener, files)
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


def locate_model(identity: HubId, listener: Listener, files: Records | None = None) -> dict[str, RemoteFile]:
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
    if forbidden_by():
        return not_here(identity)
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

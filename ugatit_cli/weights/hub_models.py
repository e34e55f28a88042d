"""Model folders on the Hub: fetched into its cache, checked on the way, and opened from there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ugatit_cli.errors import ModelError, OutputError
from ugatit_cli.weights import home, hub_download
from ugatit_cli.weights import hub as hub_module
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
from ugatit_cli.weights.hub import HubId, Listener, RemoteFile
from ugatit_cli.weights.hub_download import Records, Stamp
from ugatit_cli.weights.manifest import NEEDED_FILES

# Pictures are for the Hub's page.
OF_USE: Final = frozenset(MODEL_FILES) - {SAMPLES_FILE}
# Read into memory whole; a config has a kilobyte.
LARGEST_TEXT: Final = 1 << 20
# A safetensors header with the names of all tensors, generously.
LARGEST_HEADER: Final = 4 << 20


def fetch_model(
    identity: HubId, listener: Listener, files: Records | None = None, *, force: bool = False
) -> ModelFolder:
    """Fetches a model folder into the Hub's cache, or makes sure that it is there and up to date.

    Args:
        files: what its files must be, for a repository that a manifest knows; None: whatever model folder is there.
        force: download it even if it is there.

    Raises:
        ModelError: it can't be fetched, isn't a model, or isn't what the manifest says.
        OutputError: the cache or the user's folder can't be written.
    """
    with hub_download.locked(identity.repository, listener):
        return _fetch_model(identity, listener, files, force=force)


def use_model(identity: HubId, listener: Listener, files: Records | None = None) -> ModelFolder:
    """The model if it was fetched before, without asking the Hub; else fetches it, as `fetch_model` does.

    Raises:
        ModelError: also if its files have changed since.
    """
    if model := _fetched(identity, files or {}):
        return model
    with hub_download.locked(identity.repository, listener):
        return _fetched(identity, files or {}) or _fetch_model(identity, listener, files)


def _fetched(identity: HubId, records: Records) -> ModelFolder | None:
    """The model of a receipt that fits the manifest, which may have changed since."""
    receipt = home.load(str(identity))
    if receipt is None or not receipt.is_there():
        return None
    stamps = receipt.files
    if not all(
        name in stamps and (one is None or stamps[name].sha256 == one.sha256) for name, one in records.items()
    ):
        return None
    if not all(hub_download.is_inside(receipt.folder / name, identity.repository) for name in stamps):
        return None
    receipt.check(f"Fetch it again: ugatit fetch {identity}")
    return open_model(receipt.folder)


def _fetch_model(identity: HubId, listener: Listener, files: Records | None, *, force: bool = False) -> ModelFolder:
    if force and hub_module.is_offline():
        raise ModelError(f"{identity} can't be downloaded again: HF_HUB_OFFLINE forbids to ask the Hub", "Unset it.")
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
    model = open_model(folder)
    hub_download.keep_reference(identity, commit)
    try:
        home.save(home.make(str(identity), folder, stamps, identity.repository, commit))
    except OutputError as error:
        listener.note(f"note: {error.message}: each use will check the model again")
    return model


def locate_model(identity: HubId, listener: Listener, files: Records | None = None) -> dict[str, RemoteFile]:
    """The files of a model folder in a repository, the config first; all of one commit.

    Raises:
        ModelError: the Hub can't tell, or the repository holds no model.
    """
    pinned, found = identity, dict[str, RemoteFile]()
    for name in (name for name in MODEL_FILES if name in (OF_USE if files is None else files)):
        remote = hub_download.locate(pinned, name, listener)
        if remote is not None:
            hub_download.check_announced(remote, (files or {}).get(name))
            if name in (CONFIG_FILE, CARD_FILE) and (remote.size or 0) > LARGEST_TEXT:
                raise ModelError(f"{identity}: {name} has {remote.size:,} bytes: not that of a model")
            found[name] = remote
            pinned = HubId(identity.repository, remote.commit)
        elif name in NEEDED_FILES or files is not None:
            raise _no_model(identity, name)
    return found


def _no_model(identity: HubId, name: str) -> ModelError:
    if hub_module.is_offline():
        return ModelError(
            f"{identity} is not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub",
            "Unset it to fetch the model.",
        )
    return ModelError(
        f"{identity} is not a ugatit model: it has no {name}",
        "A model has config.json and model.safetensors. Pickles and other programs' files are not fetched.",
    )


_NOT_OURS: Final = "The repository is damaged, or not a ugatit model."


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

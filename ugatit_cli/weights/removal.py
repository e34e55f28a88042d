"""Removing a model: from the store, or from the Hub's cache, with what it was made of."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ugatit_cli.errors import OutputError, UsageError
from ugatit_cli.files import read_file, reported, retire
from ugatit_cli.leftovers import discard, sweep
from ugatit_cli.remote import hub_download
from ugatit_cli.remote.hub import cache_folder
from ugatit_cli.remote.patience import Listener, Logged
from ugatit_cli.weights import home
from ugatit_cli.weights.home import BUNDLED, Receipt, download_folder, store_folder, store_path, stored_models
from ugatit_cli.weights.known import Known, absent, checkpoint_of, size_of


@dataclass(frozen=True)
class Removal:
    """What removing a model means.

    Attributes:
        known: the model: its folder in the store goes, if it is of the store.
        fetched: what goes from the Hub's cache: the model, or the official checkpoint it was made of.
        address: of what it was made of, which is as good as never seen then; empty for one that was on the Hub.
        places: the folders that go.
        size: bytes that get free.
        also: names under which the same files of the cache are known.
        exports: what `ugatit export` made of it without a name, and of no other model that is here.
    """

    known: Known
    fetched: Receipt | None
    address: str
    places: tuple[Path, ...]
    size: int
    also: tuple[str, ...]
    exports: tuple[Path, ...]


def removal(known: Known) -> Removal:
    """What `remove` would do; changes nothing.

    Raises:
        UsageError: it isn't ugatit's to remove: a bundled model, or a folder of the user's.
        ModelError: it is not here.
    """
    if known.kind == "bundled":
        raise UsageError(f"{known.name} comes with the package", "It goes with: pip uninstall ugatit-cli")
    if known.kind == "folder":
        message = f"{known.name} is a folder of your own, neither in the store nor fetched"
        raise UsageError(message, "Remove it as any other folder.")
    stored = known.folder if known.kind == "store" else None
    fetched = known.receipt if known.kind == "hub" else checkpoint_of(known)
    address = known.entry.address if known.entry is not None else ""
    downloads = download_folder(known.name)
    if stored is None and fetched is None and not downloads.is_dir() and not (address and home.load(address)):
        raise absent(known)
    # Somebody's link into the store goes; what it leads to stays.
    gone = set(stored.rglob("*")) if stored is not None and not stored.is_symlink() else set()
    if fetched is not None:
        gone |= _own_blobs(fetched)
    gone |= set(downloads.rglob("*"))
    folders = (stored, fetched.folder if fetched is not None else None, downloads)
    places = tuple(path for path in folders if path is not None and path.is_dir())
    exports = _own_exports(places)
    gone.update(exports)
    return Removal(
        known,
        fetched,
        address,
        places,
        sum(size_of(path) for path in gone if path.is_file()),
        tuple(one.key for one in _same_files(fetched) if one != fetched),
        exports,
    )


def remove(planned: Removal, listener: Listener | None = None) -> int:
    """Removes a model; killed in between, it is there, or damaged and removed by the next call.

    Returns:
        Bytes that are free now.

    Raises:
        OutputError: something can't be removed.
    """
    if planned.known.kind == "store" and planned.known.folder is not None:
        _remove_stored(planned.known.name, planned.known.folder)
    if planned.address:
        discard(download_folder(planned.known.name))
        home.remove(planned.address)
    if planned.fetched is not None:
        with hub_download.locked(planned.fetched.repository, listener or Logged()):
            _remove_fetched(planned.fetched)
            # Last: until then it is known what is to be removed.
            for receipt in _same_files(planned.fetched):
                home.remove(receipt.key)
    for path in planned.exports:
        discard(path)
    return planned.size


def _own_exports(places: tuple[Path, ...]) -> tuple[Path, ...]:
    """What was exported of the model in these folders; not what is as much that of a copy that stays."""
    own = home.exports_of(places[0]) if places else ()
    others = [*BUNDLED.glob("*"), *map(store_path, stored_models()), *(one.folder for one in home.load_all())]
    shared = {path for folder in others if own and folder not in places for path in home.exports_of(folder)}
    return tuple(path for path in own if path not in shared)


def _remove_stored(name: str, folder: Path) -> None:
    with reported(folder):
        retired = retire(folder)
    home.remove(name)
    discard(retired)
    if os.path.lexists(retired):
        raise OutputError(f"{retired}: can't be removed, or not all of it", "Check its permissions.")
    sweep(store_folder())


def _same_files(receipt: Receipt | None) -> list[Receipt]:
    """All receipts of the same commit, this one among them: a branch, its commit, a checkpoint in it."""
    return [one for one in home.load_all() if receipt is not None and one.folder == receipt.folder]


def _repository(receipt: Receipt) -> Path | None:
    """The folder of a repository in the Hub's cache that a receipt's folder is in; None if it is elsewhere."""
    place = (cache_folder(receipt.repository).name, "snapshots", receipt.commit)
    return receipt.folder.parents[1] if receipt.folder.parts[-3:] == place else None


def _own_blobs(receipt: Receipt) -> set[Path]:
    """Files of one commit that no other commit in the repository's cache has; never any outside of that."""
    if (repository := _repository(receipt)) is None:
        return set()
    commits = (repository / "snapshots").glob("*")
    blobs = {one: {path.resolve() for path in one.rglob("*") if path.is_file()} for one in commits}
    own = blobs.pop(receipt.folder, set()).difference(*blobs.values())
    return {path for path in own if path.is_relative_to(repository.resolve())}


def _remove_fetched(receipt: Receipt) -> None:
    """As `huggingface_hub` does, which removes nothing of a repository with a damaged link in it."""
    snapshot, repository = receipt.folder, _repository(receipt)
    if repository is None:
        raise OutputError(f"{snapshot}: can't be removed", "It isn't where the Hub's cache has it: do it by hand.")
    with reported(snapshot):
        for blob in _own_blobs(receipt):
            blob.unlink()
        if snapshot.is_dir():
            shutil.rmtree(snapshot)
        for path in [path for path in (repository / "refs").rglob("*") if path.is_file()]:
            if read_file(path) == receipt.commit.encode():
                path.unlink()
        if repository.is_dir() and not any(snapshot.parent.glob("*")) and not repository.is_symlink():
            shutil.rmtree(repository)

"""`ugatit models rm`: takes a model off this machine, and nothing else."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ugatit_cli.durable import hidden, reported, sync_folder
from ugatit_cli.errors import OutputError, UsageError
from ugatit_cli.weights import hub_cache, receipts
from ugatit_cli.weights.catalog import Known, absent, checkpoint_of, size_of
from ugatit_cli.weights.home import store_folder
from ugatit_cli.weights.hub import Listener, Silent
from ugatit_cli.weights.receipts import Receipt

if TYPE_CHECKING:
    from huggingface_hub import DeleteCacheStrategy

REMOVED: Final = ".removed"


@dataclass(frozen=True)
class Removal:
    """What removing a model means.

    Attributes:
        stored: its folder in the store, if it has one.
        fetched: what goes from the Hub's cache: the model, or the official checkpoint it was made of.
        size: bytes that get free.
        also: names under which the same files of the cache are known.
        only_copy: whether nothing is known of where it could be got again.
    """

    known: Known
    stored: Path | None
    fetched: Receipt | None
    size: int
    also: tuple[str, ...]
    only_copy: bool

    @property
    def places(self) -> list[Path]:
        """The folders that go."""
        there = (self.stored, self.fetched.folder if self.fetched is not None else None)
        return [path for path in there if path is not None and path.is_dir()]


def plan(known: Known) -> Removal:
    """What `remove` would do; changes nothing.

    Raises:
        UsageError: it isn't ugatit's to remove: a bundled model, or a folder of the user's.
        ModelError: it is not here.
    """
    if known.kind == "bundled":
        raise UsageError(f"{known.name} comes with the package", "It goes with: pip uninstall ugatit-cli")
    if known.kind == "folder":
        raise UsageError(
            f"{known.name} is a folder of your own, neither in the store nor fetched",
            "Remove it as any other folder.",
        )
    stored = known.folder if known.kind == "store" else None
    fetched = known.receipt if known.kind == "hub" else checkpoint_of(known)
    if stored is None and fetched is None:
        raise absent(known)
    size = _size_of_folder(stored) if stored is not None else 0
    also: tuple[str, ...] = ()
    if fetched is not None:
        size += sum(size_of(blob) for blob in _own_blobs(fetched.folder))
        also = tuple(one.key for one in _same_files(fetched) if one.key != fetched.key)
    return Removal(known, stored, fetched, size, also, stored is not None and known.hub is None)


def remove(removal: Removal, listener: Listener | None = None) -> int:
    """Removes a model; killed in between, it is there, or damaged and removed by the next call.

    Returns:
        Bytes that are free now.

    Raises:
        OutputError: something can't be removed.
    """
    if removal.stored is not None:
        _remove_stored(removal.known.name, removal.stored)
    if removal.fetched is not None:
        with hub_cache.locked(removal.fetched.repository, listener or Silent()):
            _remove_fetched(removal.fetched)
            # Last: until then it is known what is to be removed.
            for receipt in _same_files(removal.fetched):
                receipts.remove(receipt.key)
    return removal.size


# --- The store -----------------------------------------------------------------------------------------


def _size_of_folder(folder: Path) -> int:
    # Somebody's link into the store goes; what it leads to stays.
    return 0 if folder.is_symlink() else sum(size_of(path) for path in folder.rglob("*") if path.is_file())


def _remove_stored(name: str, folder: Path) -> None:
    retired = hidden(folder).with_suffix(REMOVED)
    with reported(folder):
        # At once: a name of the store stands for a whole model, or for none.
        folder.rename(retired)
        sync_folder(folder.parent)
    receipts.remove(name)
    with reported(retired):
        retired.unlink() if retired.is_symlink() else shutil.rmtree(retired)
    # What an earlier, killed removal has left goes, too.
    for path in store_folder().glob(f".*{REMOVED}"):
        shutil.rmtree(path, ignore_errors=True)


# --- The Hub's cache -----------------------------------------------------------------------------------


def _same_files(receipt: Receipt) -> list[Receipt]:
    """All receipts of the same commit, this one among them: a branch, its commit, a checkpoint in it."""
    return [one for one in receipts.load_all() if one.folder == receipt.folder]


def _blobs(snapshot: Path) -> Iterator[Path]:
    return (path.resolve() for path in snapshot.rglob("*") if path.is_file())


def _own_blobs(snapshot: Path) -> set[Path]:
    """Files of one commit that no other commit in the cache has."""
    others = [path for path in _entries(snapshot.parent) if path != snapshot]
    return set(_blobs(snapshot)) - {blob for other in others for blob in _blobs(other)}


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove_fetched(receipt: Receipt) -> None:
    snapshot = receipt.folder
    with reported(snapshot):
        if not os.path.lexists(snapshot):
            return
        # With one of them, `huggingface_hub` takes the whole repository for damaged, and removes nothing.
        for path in snapshot.rglob("*"):
            if path.is_symlink() and not path.exists():
                path.unlink()
    strategy = _strategy(receipt)
    if strategy is not None:
        strategy.execute()
    if snapshot.is_dir():
        raise OutputError(f"{snapshot}: can't be removed", "Check its permissions, or remove it by hand.")


def _strategy(receipt: Receipt) -> DeleteCacheStrategy | None:
    """How `huggingface_hub` removes one commit of one repository; None if it doesn't find it."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    snapshot = receipt.folder
    if snapshot.parent.name != "snapshots" or snapshot.name != receipt.commit:
        return None
    try:
        cache = scan_cache_dir(snapshot.parents[2])
    except (CacheNotFound, ValueError):
        return None
    # It looks for commits in all repositories, and copies of a repository share theirs.
    repositories = frozenset(one for one in cache.repos if one.repo_path == snapshot.parents[1].resolve())
    found = {revision.commit_hash for one in repositories for revision in one.revisions}
    if receipt.commit not in found:
        return None
    return dataclasses.replace(cache, repos=repositories).delete_revisions(receipt.commit)

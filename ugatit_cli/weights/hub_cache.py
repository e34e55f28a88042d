"""Files of a repository in the Hub's cache: brought there, checked, and shared with all programs that use it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ugatit_cli.errors import ModelError, OutputError
from ugatit_cli.files import hidden, reported, sync_folder, write_file
from ugatit_cli.weights import hub
from ugatit_cli.weights.home import Stamp
from ugatit_cli.weights.hub import HubId, Listener, RemoteFile
from ugatit_cli.weights.manifest import SHA256, FileRecord
from ugatit_cli.weights.transfer import Digest, digest_of, download

Records = Mapping[str, FileRecord | None]
"""File name in a repository -> size and hash if somebody has verified them."""


@contextlib.contextmanager
def locked(repository: str, listener: Listener) -> Iterator[None]:
    """One process at a time for a repository; a second one waits, then finds everything there.

    A cache that can't be written needs no lock: it has everything, or what is missing can't be put there either.
    """
    folder = hub.cache_folder(repository)
    path = folder.parent / ".locks" / folder.name / "ugatit.lock"
    with hub.waiting(path, f"another ugatit is fetching {repository}; waiting for it", listener):
        yield


def locate(identity: HubId, name: str, listener: Listener) -> RemoteFile | None:
    """A file on the Hub or, without a connection to it, in the cache; None if the repository has none of that name.

    Raises:
        ModelError: the Hub can't tell.
    """
    if not hub.is_offline():
        return hub.look_up(identity, name, listener)
    return cached(identity, name)


def cached(identity: HubId, name: str) -> RemoteFile | None:
    """A file in the cache, as some program has left it there; None if it isn't there."""
    from huggingface_hub import constants, try_to_load_from_cache

    with hub.errors_reported(identity, name):
        found = try_to_load_from_cache(
            identity.repository,
            name,
            cache_dir=Path(constants.HF_HUB_CACHE).expanduser(),
            revision=identity.revision,
        )
    if not isinstance(found, str):
        return None
    path = Path(found).absolute()
    commit = path.relative_to(hub.cache_folder(identity.repository) / "snapshots").parts[0]
    # Only the first link is named after the hash that the Hub told.
    etag = path.readlink().name if path.is_symlink() else "unknown"
    return RemoteFile(identity.repository, name, commit, path.stat().st_size, etag)


def blob_path(remote: RemoteFile) -> Path:
    """Where the cache keeps a file's content."""
    return hub.cache_folder(remote.repository) / "blobs" / remote.etag


def pointer_path(remote: RemoteFile) -> Path:
    """Where the cache shows a file under its name: a link to its content, or the file itself without links."""
    return hub.cache_folder(remote.repository) / "snapshots" / remote.commit / remote.name


def part_path(remote: RemoteFile) -> Path:
    """Where a file is downloaded to; no other program writes there."""
    return blob_path(remote).with_name(f"{remote.etag}.ugatit.incomplete")


def on_disk(remote: RemoteFile) -> Path | None:
    """Where the cache has a file's content, unchecked; None if it hasn't, or only a link that leads out of it."""
    places = (pointer_path(remote), blob_path(remote))
    return next((path for path in places if path.is_file() and is_inside(path, remote.repository)), None)


def is_inside(path: Path, repository: str) -> bool:
    """Whether a path, all links followed, is in the cache; a user may have put a repository's folder elsewhere."""
    roots = (hub.cache_folder(repository), hub.cache_folder(repository).parent)
    return any(path.resolve().is_relative_to(root.resolve()) for root in roots)


class Mismatch(ModelError):
    """A file that isn't what a manifest, or its first use, says; nothing was changed."""


_REPLACED: Final = "It is not the file that was verified. Nothing was changed; ask whoever offers it."


def check_announced(remote: RemoteFile, record: FileRecord | None) -> None:
    """Whether the Hub offers what the manifest, or the first use, promises; before anything is downloaded.

    Raises:
        ModelError: another size or hash.
    """
    if record is None:
        return
    # Without a connection, the size is that of a file in the cache, which may be damaged.
    if remote.size not in (None, record.size) and not hub.is_offline():
        raise Mismatch(
            f"{remote.repository}: {remote.name}: expected {record.size:,} bytes, the Hub has {remote.size:,}",
            _REPLACED,
        )
    if SHA256.fullmatch(remote.etag) and remote.etag != record.sha256:
        raise Mismatch(
            f"{remote.repository}: {remote.name}: expected sha256 {record.sha256}, found {remote.etag} on the Hub",
            _REPLACED,
        )


def obtain(remote: RemoteFile, record: FileRecord | None, listener: Listener, *, force: bool = False) -> Stamp:
    """Brings one file into the cache unless it is there, and checks it either way.

    Args:
        record: what it must be, if known.
        force: download it even if it is there.

    Returns:
        What it is.

    Raises:
        ModelError: it can't be fetched, or isn't what it should be; then it is not in the cache.
        OutputError: the cache can't be written.
    """
    check_announced(remote, record)
    place = on_disk(remote)
    with reported(place or blob_path(remote)):
        digest = digest_of(place) if place is not None and not force else None
    if digest is not None and place is not None and (problem := _problem(remote, record, digest)):
        if hub.is_offline():
            raise ModelError(f"{place}: damaged: {problem}", "Unset HF_HUB_OFFLINE to fetch it again.")
        listener.note(f"{place}: damaged ({problem}); fetching it again")
        digest = None
    if digest is None:
        digest, place = _fetched(remote, record, listener), None
    path = pointer_path(remote)
    with reported(path):
        if place != path:
            _show(remote)
        return Stamp(digest.size, digest.sha256, path.stat().st_mtime_ns)


def _problem(remote: RemoteFile, record: FileRecord | None, digest: Digest) -> str:
    """Expected and found, if they differ."""
    if record is not None and (record.size, record.sha256) != (digest.size, digest.sha256):
        return f"expected sha256 {record.sha256}, found {digest.sha256}"
    if remote.size not in (None, digest.size):
        return f"expected {remote.size:,} bytes, found {digest.size:,}"
    if difference := digest.differs(remote):
        return "expected sha256 {}, found {}".format(*difference).replace("sha256 git", "git hash")
    return ""


def _fetched(remote: RemoteFile, record: FileRecord | None, listener: Listener) -> Digest:
    blob = blob_path(remote)
    part = part_path(remote)
    digest = download(remote, part, listener)
    with reported(part):
        if remote.size is None:  # for the git hash, which begins with it
            digest = digest_of(part)
        if problem := _problem(remote, record, digest):
            part.unlink()
            raise ModelError(
                f"{remote.repository}: {remote.name}: {problem}",
                "What was downloaded is not the file that was asked for, and was thrown away. Run the command again.",
            )
        part.replace(blob)
        sync_folder(blob.parent)
    return digest


def _show(remote: RemoteFile) -> None:
    """Shows a checked file of the cache under its name, as `huggingface_hub` does.

    Not by that itself: it would ask the Hub again, which could now tell of another file.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import are_symlinks_supported

    blob, pointer = blob_path(remote), pointer_path(remote)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if not is_inside(pointer.parent, remote.repository):
        raise ModelError(f"{pointer.parent}: leads outside of the Hub's cache", "Remove this link.")
    if not are_symlinks_supported(constants.HF_HUB_CACHE):
        blob.replace(pointer)  # the cache then keeps the file itself under its name
        return
    link = hidden(pointer)
    try:
        link.symlink_to(os.path.relpath(blob, pointer.parent))
        link.replace(pointer)
    finally:
        link.unlink(missing_ok=True)


def keep_reference(identity: HubId, commit: str) -> None:
    """Notes in the cache which commit a branch or tag is, for programs that work offline."""
    if hub.COMMIT.fullmatch(identity.revision):
        return
    path = hub.cache_folder(identity.repository) / "refs" / identity.revision
    with contextlib.suppress(OutputError):  # a read-only cache; or a branch `x` where `x/y` was before
        write_file(path, commit.encode(), durable=True)

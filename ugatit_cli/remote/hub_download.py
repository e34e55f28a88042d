"""Files of the Hub: looked up, downloaded (going on where it stopped), checked, and kept in its cache."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ugatit_cli.errors import ModelError, OutputError
from ugatit_cli.files import read_file, reported, sync_folder, write_file, wrong_name
from ugatit_cli.leftovers import discard, hidden, sweep_once
from ugatit_cli.remote import hub, patience, transfer
from ugatit_cli.remote.addresses import answered, forbidden_by
from ugatit_cli.remote.hub import REVISION, HubId, RemoteFile, Words, cache_folder
from ugatit_cli.remote.patience import Listener, TransferError
from ugatit_cli.remote.records import SHA256, Digest, FileRecord, Mismatch, Stamp, digest_of

Records = Mapping[str, FileRecord | None]
"""File name in a repository -> size and hash if somebody has verified them."""

# The most that is taken of a file whose size the Hub doesn't tell; large ones have their size told.
LARGEST_UNTOLD: Final = 1 << 20
_KEPT: Final[Words] = ("{wanted}: {plain}", "What has arrived is kept: the same command goes on from there.")
# The name of a file in the cache: whatever else a server says could lead anywhere.
_ETAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{5,127}")


def locate(identity: HubId, name: str, listener: Listener) -> RemoteFile | None:
    """A file on the Hub or, without a connection to it, in the cache; None if the repository has none of that name.

    Raises:
        ModelError: no such repository or revision, no access, no connection, or not a Hub.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    if forbidden_by():
        return _cached(identity, name)
    with hub.errors_reported(identity, name):
        repository, address = hub.id_and_type(identity.repository), hub.endpoint()
        url = hf_hub_url(**repository, filename=name, revision=identity.revision, endpoint=address)
        try:
            found = patience.patiently(lambda: get_hf_file_metadata(url, hub.token(), endpoint=address), listener)
        except EntryNotFoundError:
            return None
    commit, etag = found.commit_hash or "", found.etag or ""
    other = REVISION.fullmatch(identity.revision) and commit != identity.revision
    if other or not REVISION.fullmatch(commit) or not _ETAG.fullmatch(etag) or (found.size or 0) < 0:
        raise hub.in_words(hub.NO_HUB, identity)
    return RemoteFile(identity.repository, name, commit, found.size, etag)


def listing(identity: HubId, listener: Listener) -> list[RemoteFile]:
    """The files of a repository, all at one commit, or those of them in the cache, without a connection to the Hub.

    Those that can't have their names on any system are left out.

    Raises:
        ModelError: as `locate`.
    """
    from huggingface_hub import HfApi

    if forbidden_by():
        return _all_cached(identity)
    with hub.errors_reported(identity):
        api = HfApi(endpoint=hub.endpoint(), token=hub.token(), library_name="ugatit")
        asked: Any = {**hub.id_and_type(identity.repository), "revision": identity.revision, "files_metadata": True}
        found: Any = patience.patiently(lambda: api.repo_info(**asked), listener)
        commit = found.sha or ""
        listed = [(one, one.lfs.sha256 if one.lfs else one.blob_id or "") for one in found.siblings]
    other = REVISION.fullmatch(identity.revision) and commit != identity.revision
    if other or not REVISION.fullmatch(commit) or not all(_ETAG.fullmatch(etag) for _, etag in listed):
        raise hub.in_words(hub.NO_HUB, identity)
    return [
        RemoteFile(identity.repository, one.rfilename, commit, one.size, etag)
        for one, etag in listed
        if not wrong_name(one.rfilename)
    ]


def _cached(identity: HubId, name: str) -> RemoteFile | None:
    """A file in the cache, as some program has left it there."""
    from huggingface_hub import try_to_load_from_cache

    cache = cache_folder(identity.repository).parent
    with hub.errors_reported(identity, name):
        found = try_to_load_from_cache(
            filename=name, cache_dir=cache, revision=identity.revision, **hub.id_and_type(identity.repository)
        )
    if not isinstance(found, str):
        return None
    path = Path(found).absolute()
    commit = path.relative_to(cache_folder(identity.repository) / "snapshots").parts[0]
    # Only the first link is named after the hash that the Hub told.
    etag = path.readlink().name if path.is_symlink() else "unknown"
    return RemoteFile(identity.repository, name, commit, path.stat().st_size, etag)


def _all_cached(identity: HubId) -> list[RemoteFile]:
    folder, commit = cache_folder(identity.repository), identity.revision
    with contextlib.suppress(OSError):
        commit = read_file(folder / "refs" / identity.revision).decode("ascii", "replace").strip()
    root = folder / "snapshots" / commit
    found = [path.relative_to(root).as_posix() for path in root.rglob("*")] if REVISION.fullmatch(commit) else []
    remotes = [_cached(HubId(identity.repository, commit), name) for name in found]
    return [remote for remote in remotes if remote is not None]


def blob_path(remote: RemoteFile) -> Path:
    """Where the cache keeps a file's content."""
    return cache_folder(remote.repository) / "blobs" / remote.etag


def pointer_path(remote: RemoteFile) -> Path:
    """Where the cache shows a file under its name: a link to its content, or the file itself without links."""
    return cache_folder(remote.repository) / "snapshots" / remote.commit / remote.name


def on_disk(remote: RemoteFile) -> Path | None:
    """Where the cache has a file's content, unchecked; None if it hasn't, or only a link that leads out of it."""
    places = (pointer_path(remote), blob_path(remote))
    return next((path for path in places if path.is_file() and is_inside(path, remote.repository)), None)


def is_inside(path: Path, repository: str) -> bool:
    """Whether a path, all links followed, is in the cache; a user may have put a repository's folder elsewhere."""
    roots = (cache_folder(repository), cache_folder(repository).parent)
    return any(path.resolve().is_relative_to(root.resolve()) for root in roots)


def locked(repository: str, listener: Listener) -> contextlib.AbstractContextManager[None]:
    """One process at a time for a repository; a second one waits, then finds everything there.

    A cache that can't be written needs no lock: it has everything, or what is missing can't be put there either.
    """
    folder = cache_folder(repository)
    path = folder.parent / ".locks" / folder.name / "ugatit.lock"
    return patience.waiting(path, f"another ugatit is fetching {repository}; waiting for it", listener)


def check_announced(remote: RemoteFile, record: FileRecord | None) -> None:
    """Whether the Hub offers what the manifest, or the first use, promises; before anything is downloaded.

    Raises:
        Mismatch: another size or hash.
    """
    if record is None:
        return
    problem = ""
    # Without a connection, the size is that of a file in the cache, which may be damaged.
    if None not in (remote.size, record.size) and remote.size != record.size and not forbidden_by():
        problem = f"expected {record.size:,} bytes, the Hub has {remote.size:,}"
    elif SHA256.fullmatch(remote.etag) and remote.etag != record.sha256:
        problem = f"expected sha256 {record.sha256}, found {remote.etag} on the Hub"
    if problem:
        raise Mismatch(
            f"{remote.repository}: {remote.name}: {problem}",
            "It is not the file that was verified. Nothing was changed; ask whoever offers it.",
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
    if digest is not None and (problem := _contradiction(digest, remote, record)):
        if variable := forbidden_by():
            raise ModelError(f"{place}: damaged: {problem}", f"Unset {variable} to fetch it again.")
        listener.note(f"{place}: damaged ({problem}); fetching it again")
        digest = None
    if digest is None:
        digest, place = _fetched(remote, record, listener), None
    path = pointer_path(remote)
    with reported(path):
        if place != path:
            _show(remote)
        return Stamp(digest.size, digest.sha256, path.stat().st_mtime_ns)


def _contradiction(digest: Digest, remote: RemoteFile, record: FileRecord | None) -> str:
    """What the Hub or a record says and what was found, if they contradict each other; else empty."""
    if problem := digest.differs(record, remote.size):
        return problem
    for kind, pattern, found in (("sha256", SHA256, digest.sha256), ("git hash", REVISION, digest.git)):
        if pattern.fullmatch(remote.etag) and found != remote.etag:
            return f"expected {kind} {remote.etag}, found {found}"
    return ""


def _fetched(remote: RemoteFile, record: FileRecord | None, listener: Listener) -> Digest:
    blob = blob_path(remote)
    part = blob.with_name(f"{blob.name}.ugatit.incomplete")  # where no other program writes
    download(remote, part, listener)
    with reported(part):
        digest = digest_of(part)
        if problem := _contradiction(digest, remote, record):
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
    sweep_once(pointer.parent)
    link = hidden(pointer)
    try:
        link.symlink_to(os.path.relpath(blob, pointer.parent))
        link.replace(pointer)
    finally:
        discard(link)


def forget(remote: RemoteFile) -> None:
    """Removes a file from the cache, but for its content if another commit has that, too.

    Raises:
        OutputError: it can't be removed.
    """
    pointer, blob, root = pointer_path(remote), blob_path(remote), cache_folder(remote.repository)
    with reported(pointer):
        pointer.unlink(missing_ok=True)
        if not any(path.is_symlink() and path.resolve() == blob.resolve() for path in root.glob("snapshots/**/*")):
            blob.unlink(missing_ok=True)
    for folder in (*pointer.parents, blob.parent, root):
        if folder.is_relative_to(root):
            with contextlib.suppress(OSError):  # others are in it
                folder.rmdir()


def keep_reference(identity: HubId, commit: str) -> None:
    """Notes in the cache which commit a branch or tag is, for programs that work offline."""
    if REVISION.fullmatch(identity.revision):
        return
    path = cache_folder(identity.repository) / "refs" / identity.revision
    with contextlib.suppress(OutputError):  # a read-only cache; or a branch `x` where `x/y` was before
        write_file(path, commit.encode(), durable=True)


def download(remote: RemoteFile, part: Path, listener: Listener) -> None:
    """Downloads a file to `part`, going on with what is there; what came before an error stays, for the next call.

    Raises:
        ModelError: the Hub can't be reached, refuses, stalls, or sends more than it announced.
        StorageError: the disk is full.
        OutputError: `part` can't be written.
    """
    with hub.errors_reported(
        HubId(remote.repository), remote.name, lambda error: _KEPT if patience.is_transient(error) else None
    ):
        transfer.download(_Source(remote), part, listener)


class _Source(transfer.Source):
    """A file of the Hub."""

    elsewhere = "Free some space, or choose another disk with HF_HUB_CACHE."

    def __init__(self, remote: RemoteFile) -> None:
        self.remote, self.size, self.label = remote, remote.size, Path(remote.name).name

    @property
    def most(self) -> int:
        return LARGEST_UNTOLD if self.size is None else self.size

    def ask(self, start: int) -> contextlib.AbstractContextManager[Any]:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented there

        remote = self.remote
        repository, address = hub.id_and_type(remote.repository), hub.endpoint()
        url = hf_hub_url(**repository, filename=remote.name, revision=remote.commit, endpoint=address)
        headers = {**build_hf_headers(token=hub.token(), library_name="ugatit"), "Accept-Encoding": "identity"}
        token = headers.pop("authorization", "")
        if start:
            headers["Range"] = f"bytes={start}-"
        secrets = {"authorization": token} if token else {}
        return answered(url, headers, secrets, direct=not hub.is_mirrored())

    def check(self, answer: Any) -> None:
        from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented there

        if answer.is_error:  # without its body, which may be endless
            kept = {name: text for name, text in answer.headers.items() if name.startswith(("x-", "retry-"))}
            answer = type(answer)(answer.status_code, headers=kept, request=answer.request)
        hf_raise_for_status(answer)
        if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise TransferError("a web page came instead of the file, perhaps one to log in")

    def too_long(self, most: int) -> ModelError:
        return ModelError(f"{self.remote.repository}: {self.remote.name} {self.excess(most)}")

"""The Hub's cache: right files get in and stay, wrong ones don't, and other programs find them where they look."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from huggingface_hub import constants, file_download, hf_hub_download, scan_cache_dir

from tests.hub_client import FILES, NAME, REPO, SHA256, SIZE, WEIGHTS, Notes, environment, refused, remote
from tests.hub_server import HubServer
from ugatit_cli.errors import OutputError
from ugatit_cli.remote.hub import HubId, RemoteFile, cache_folder
from ugatit_cli.remote.hub_download import blob_path, keep_reference, locate, locked, obtain, on_disk, pointer_path
from ugatit_cli.remote.records import FileRecord, Mismatch

RECORD: Final = FileRecord(SIZE, SHA256)


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether links can be made in the cache; both are tried."""
    supported = bool(request.param == "links")
    monkeypatch.setattr(file_download, "are_symlinks_supported", lambda *_: supported)
    return supported


def fetch(name: str = NAME, record: FileRecord | None = None, *, force: bool = False) -> Notes:
    """Brings a file into the cache; what was said on the way."""
    notes, wanted = Notes(), remote(name)
    stamp = obtain(wanted, record, notes, force=force)
    path = pointer_path(wanted)
    data = path.read_bytes()
    assert data == FILES[name]
    assert stamp.size == len(data)
    assert stamp.sha256 == hashlib.sha256(data).hexdigest()
    assert stamp.mtime_ns == path.stat().st_mtime_ns
    return notes


def part_path(remote: RemoteFile) -> Path:
    return blob_path(remote).with_name(f"{remote.etag}.ugatit.incomplete")


def leftovers() -> list[str]:
    """Files in the cache that should have been something else."""
    paths = (path for path in Path(constants.HF_HUB_CACHE).rglob("*") if ".locks" not in path.parts)
    return [path.name for path in paths if path.name.endswith((".incomplete", ".tmp"))]


def test_a_file_is_brought_and_found(filled: HubServer, links: bool) -> None:
    for name in FILES:
        fetch(name)
        path = pointer_path(remote(name))
        assert path.is_symlink() == links
        assert blob_path(remote(name)).is_file() == links
    assert filled.bytes_sent() == sum(map(len, FILES.values()))
    for name in FILES:
        assert not fetch(name).begun
    assert filled.bytes_sent() == sum(map(len, FILES.values()))
    assert not leftovers()


@pytest.mark.usefixtures("links")
def test_the_client_finds_it(filled: HubServer) -> None:
    fetch()
    wanted = remote()
    keep_reference(HubId(REPO), wanted.commit)
    requests = len(filled.requests)
    for revision in ("main", wanted.commit):
        path = Path(hf_hub_download(REPO, NAME, revision=revision, local_files_only=True))
        assert path == pointer_path(wanted)
        assert path.read_bytes() == WEIGHTS
    assert len(filled.requests) == requests
    assert hf_hub_download(REPO, NAME) == str(pointer_path(wanted))
    assert filled.bytes_sent() == SIZE
    (repo,) = scan_cache_dir(constants.HF_HUB_CACHE).repos
    assert (repo.repo_id, repo.size_on_disk, {ref for rev in repo.revisions for ref in rev.refs}) == (
        REPO, SIZE, {"main"},
    )  # fmt: skip


@pytest.mark.usefixtures("links")
def test_what_the_client_fetched_is_used(filled: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hf_hub_download(REPO, NAME)
    sent = filled.bytes_sent()
    assert sent == SIZE
    fetch(NAME, RECORD)
    assert filled.bytes_sent() == sent
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    requests = len(filled.requests)
    fetch(NAME, RECORD)
    assert path == str(pointer_path(remote()))
    assert len(filled.requests) == requests
    assert locate(HubId(REPO), "samples.png", Notes()) is None


def test_force(filled: HubServer, links: bool) -> None:
    fetch()
    path = pointer_path(remote())
    path.write_bytes(b"damaged")
    fetch(force=True)
    assert filled.bytes_sent() == 2 * SIZE
    assert path.is_symlink() == links
    assert not leftovers()
    # What it replaces is gone.
    assert sum(p.stat().st_size for p in path.parents[2].rglob("*") if p.is_file() and not p.is_symlink()) == SIZE


DAMAGED: Final = (WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]), WEIGHTS[:1000], b"", WEIGHTS + b"x")


@pytest.mark.parametrize("data", DAMAGED)
@pytest.mark.usefixtures("links")
def test_a_damaged_file_is_fetched_again(filled: HubServer, data: bytes) -> None:
    fetch()
    pointer_path(remote()).write_bytes(data)
    (note,) = fetch().notes
    assert str(pointer_path(remote())) in note
    assert filled.bytes_sent() == 2 * SIZE
    assert not fetch(NAME, RECORD).notes


@pytest.mark.usefixtures("filled")
def test_a_damaged_file_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch()
    wanted = remote()
    keep_reference(HubId(REPO), wanted.commit)
    pointer_path(wanted).write_bytes(DAMAGED[0])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for record in (RECORD, None):
        error = refused(lambda record=record: obtain(remote(), record, Notes()))  # type: ignore[misc]
        assert str(pointer_path(wanted)) in error.message
        assert "HF_HUB_OFFLINE" in error.hint


def test_a_hub_that_changes_its_mind_is_not_asked_again(filled: HubServer) -> None:
    wanted = remote()
    filled.add(REPO, {NAME: b"another file"})
    asked = len(filled.requests)
    obtain(wanted, RECORD, Notes())
    assert pointer_path(wanted).read_bytes() == WEIGHTS
    assert "HEAD" not in {request.method for request in filled.requests[asked:]}


@pytest.mark.parametrize(
    ("name", "record"),
    [
        (NAME, FileRecord(SIZE + 1, SHA256)),
        (NAME, FileRecord(SIZE, "0" * 64)),
        ("config.json", FileRecord(len(FILES["config.json"]), "0" * 64)),  # of which the Hub tells no sha256
    ],
)
def test_a_promise_is_checked(filled: HubServer, name: str, record: FileRecord) -> None:
    error = refused(lambda: obtain(remote(name), record, Notes()))
    assert f"{REPO}: {name}: " in error.message
    assert isinstance(error, Mismatch) == (name == NAME)
    assert (filled.bytes_sent() == 0) == (name == NAME)  # before anything is downloaded, where that can be
    assert not on_disk(remote(name))
    assert not leftovers()


def test_references(hub: HubServer) -> None:
    folder = cache_folder(REPO) / "refs"
    for revision in ("main", "v1.0", "refs/pr/1"):
        for commit in ("1" * 40, "2" * 40):
            keep_reference(HubId(REPO, revision), commit)
            assert (folder / revision).read_text() == commit
    for revision in ("3" * 40, "refs/pr"):  # of a commit there is none; a name that can't be a file is done without
        keep_reference(HubId(REPO, revision), "3" * 40)
        assert not (folder / revision).is_file()
    assert not leftovers()
    assert not hub.requests


@pytest.mark.parametrize("which", [pointer_path, blob_path])
def test_a_link_to_something_else_is_put_right(
    filled: HubServer, tmp_path: Path, which: Callable[[RemoteFile], Path]
) -> None:
    fetch()
    wanted, mine = remote(), tmp_path / "mine"
    other = blob_path(wanted).with_name("0" * 64)
    other.write_bytes(b"something else")
    mine.write_bytes(WEIGHTS)  # which is right now, but not the cache's
    for target in (other, mine, "nowhere", Path("/dev/null")):
        which(wanted).unlink()
        which(wanted).symlink_to(target)
        fetch()
        assert pointer_path(wanted).resolve().is_relative_to(constants.HF_HUB_CACHE)
    assert (mine.read_bytes(), other.read_bytes()) == (WEIGHTS, b"something else")
    assert filled.bytes_sent() <= 5 * SIZE


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_leads_outside_is_refused(tmp_path: Path, there: bool) -> None:
    wanted, outside = remote(), tmp_path / "outside"
    outside.mkdir()
    if there:
        (outside / NAME).write_bytes(WEIGHTS)
    pointer_path(wanted).parent.parent.mkdir(parents=True)
    pointer_path(wanted).parent.symlink_to(outside)
    assert str(pointer_path(wanted).parent) in refused(lambda: obtain(wanted, None, Notes())).message
    assert len(list(outside.iterdir())) == there
    pointer_path(wanted).parent.unlink()
    fetch()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.usefixtures("filled")
def test_a_part_that_is_wrong(name: str) -> None:
    wanted, right = remote(name), FILES[name]
    part = part_path(wanted)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" + right[1:5])
    error = refused(lambda: obtain(wanted, None, Notes()))
    assert f"{REPO}: {name}: " in error.message
    assert wanted.etag in error.message
    assert not part.exists()
    assert not on_disk(wanted)
    fetch(name)


def test_a_content_that_is_here_but_not_shown(filled: HubServer) -> None:
    fetch()
    pointer_path(remote()).unlink()
    fetch()
    commit = filled.add(REPO, {"README.md": b"# New\n"})
    fetch()
    assert pointer_path(remote()).parent.name == commit
    assert filled.bytes_sent() == SIZE


@pytest.mark.usefixtures("filled")
def test_an_unknown_kind_of_hash() -> None:
    wanted = replace(remote(), etag="some-other-kind-of-tag")
    obtain(wanted, None, Notes())
    blob_path(wanted).write_bytes(WEIGHTS[:-1])
    obtain(wanted, None, Notes())  # there is still the size
    assert pointer_path(wanted).read_bytes() == WEIGHTS


def test_a_cache_that_cannot_be_written(filled: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = remote()

    def fail(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        with pytest.raises(OutputError) as caught:
            obtain(wanted, None, Notes())
    assert str(constants.HF_HUB_CACHE) in caught.value.message
    fetch()
    assert filled.bytes_sent() == SIZE


def test_a_cache_that_is_complete_and_read_only(filled: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "open", "symlink", "replace"):
        monkeypatch.setattr(os, name, refuse)
    with locked(REPO, Notes()):
        stamp = obtain(remote(), RECORD, Notes())
        keep_reference(HubId(REPO), "1" * 40)
    assert stamp.sha256 == SHA256
    assert filled.bytes_sent() == SIZE


def test_a_part_that_is_a_link(filled: HubServer, tmp_path: Path) -> None:
    wanted, mine = remote(), tmp_path / "mine"
    mine.write_bytes(b"precious")
    part_path(wanted).parent.mkdir(parents=True)
    part_path(wanted).symlink_to(mine)
    with pytest.raises(OutputError):
        obtain(wanted, RECORD, Notes())
    assert mine.read_bytes() == b"precious"
    assert filled.bytes_sent() == 0


def test_a_repository_on_another_disk(filled: HubServer, tmp_path: Path) -> None:
    fetch()
    folder = cache_folder(REPO)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    fetch()
    assert filled.bytes_sent() == SIZE


OTHER_PROCESS: Final = f"""
from tests.hub_client import Notes
from ugatit_cli.remote.hub import HubId
from ugatit_cli.remote.hub_download import locate, locked, obtain

class Aloud(Notes):
    def note(self, text):
        print(text, flush=True)

with locked("{REPO}", Aloud()):
    print(obtain(locate(HubId("{REPO}"), "{NAME}", Aloud()), None, Aloud()).sha256)
"""


def test_another_process_waits(filled: HubServer, tmp_path: Path) -> None:
    held, root, command = Notes(), Path(__file__).parents[2], [sys.executable, "-c", OTHER_PROCESS]
    variables = environment(filled.serve(), tmp_path)
    with locked(REPO, held):
        process = subprocess.Popen(command, cwd=root, env=variables, text=True, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert REPO in process.stdout.readline()
            obtain(remote(), RECORD, held)
        except BaseException:
            process.kill()
            raise
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, f"{SHA256}\n")
    assert filled.bytes_sent() == SIZE
    assert not held.notes

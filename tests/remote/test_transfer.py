"""Downloads that break off, stall or bring something else: what came is kept, and the right file arrives."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.hub_api import Answer, Call
from tests.hub_client import NAME, REPO, SHA256, SIZE, WEIGHTS, Notes, altered, refused, remote
from tests.hub_server import Fault, HubServer
from ugatit_cli import files
from ugatit_cli.errors import ModelError, OutputError, StorageError
from ugatit_cli.remote import hub_download, patience
from ugatit_cli.remote.hub import RemoteFile
from ugatit_cli.remote.hub_download import download


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "part"


@pytest.fixture
def begun(part: Path) -> Path:
    """A part that has half of the file."""
    part.parent.mkdir()
    part.write_bytes(WEIGHTS[:150_000])
    return part


def fails(hub: HubServer, part: Path, wanted: RemoteFile | None = None) -> ModelError:
    """The error that a download ends with: one line that names the repository and holds no secret."""
    notes, wanted = Notes(), wanted or remote()
    error = refused(lambda: download(wanted, part, notes), hub.token)
    assert REPO in error.message
    assert hub.token not in "".join(notes.notes)
    assert len(notes.begun) == notes.ended == 1
    return error


def arrives(hub: HubServer, part: Path, wanted: RemoteFile | None = None) -> tuple[int, Notes]:
    """Downloads the file; how many bytes the Hub sent for it."""
    notes, wanted = Notes(), wanted or remote()
    before = len(hub.requests)
    download(wanted, part, notes)
    data = hub.files(REPO)[wanted.name]
    assert part.read_bytes() == data
    assert notes.begun == [(wanted.name, wanted.size, len(data) - notes.received)]
    assert notes.ended == 1
    # Those of calls before may still be under way.
    return sum(request.sent for request in hub.requests[before:] if request.file), notes


def test_a_download(filled: HubServer, part: Path) -> None:
    sent, notes = arrives(filled, part)
    assert (sent, notes.received, notes.notes) == (SIZE, SIZE, [])
    get = filled.requests[-1]
    assert get.headers["accept-encoding"] == "identity"
    assert "authorization" not in get.headers  # another host
    assert filled.requests[-2].headers["authorization"] == f"Bearer {filled.token}"
    requests = len(filled.requests)
    assert arrives(filled, part)[0] == 0
    assert len(filled.requests) == requests + 1  # what is complete isn't asked for
    filled.add(REPO, {"README.md": b""})
    assert arrives(filled, part.with_name("empty"), remote("README.md"))[0] == 0


def test_a_hub_that_does_not_tell_the_size(filled: HubServer, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_download, "LARGEST_UNTOLD", SIZE)
    filled.fault(Fault("cut", after=100_000, times=1))
    for _ in range(2):  # nothing says that the part is complete
        assert arrives(filled, part, replace(remote(), size=None))[0] == SIZE
    monkeypatch.setattr(hub_download, "LARGEST_UNTOLD", SIZE - 1)
    assert "longer" in fails(filled, part, replace(remote(), size=None)).message
    assert part.stat().st_size == 0


# A fault that lasts, and how many more bytes of the file are here then.
BROKEN: Final = {
    "401": (Fault("status", status=401), 0),
    "404": (Fault("status", status=404), 0),
    "429 for an hour": (Fault("status", status=429, retry_after=3600), 0),
    "503": (Fault("status", status=503), 0),
    "503 of the storage": (Fault("status", f"/{SHA256}/{NAME}", status=503), 0),
    "403 of the storage": (Fault("status", f"/{SHA256}/{NAME}", status=403), 0),
    "cut at once": (Fault("cut"), 0),
    "cut after 40 kB": (Fault("cut", after=40_000), 120_000),
    "stall": (Fault("stall", after=40_000), 120_000),
    "drip": (Fault("drip", after=200_000, delay=0.05), 50_000),
    "short": (Fault("short", after=60_000), 0),
    "page": (Fault("html"), 0),
    "text": (Fault("other"), 0),
    "loop": (Fault("redirect-loop"), 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_and_the_call_after_it(filled: HubServer, begun: Path, name: str) -> None:
    fault, wanted = filled.fault(replace(BROKEN[name][0], method="GET")), remote()
    assert fails(filled, begun, wanted).hint
    assert 1 <= fault.hits <= (21 if fault.kind == "redirect-loop" else 3)
    kept = begun.stat().st_size
    # A Hub that has no such part means that the file was another one.
    assert kept >= (0 if fault.kind == "short" else 150_000 + BROKEN[name][1])
    assert WEIGHTS[:kept] == begun.read_bytes()
    filled.heal()
    assert arrives(filled, begun, wanted)[0] == SIZE - kept


@pytest.mark.parametrize(
    "name", [name for name in BROKEN if name[:2] != "40" and name not in ("429 for an hour", "loop")]
)
def test_a_fault_that_passes(filled: HubServer, part: Path, name: str) -> None:
    fault = filled.fault(replace(BROKEN[name][0], method="GET", times=1))
    sent, notes = arrives(filled, part)
    # Beside those of a file that is another one, and the one that was under way when a drip was given up.
    assert sent - SIZE in range(fault.after + 1 if name == "short" else 2)
    assert len(notes.notes) >= 1


def test_a_file_that_is_longer_than_announced(filled: HubServer, part: Path) -> None:
    wanted = remote()
    with altered(filled, lambda _, answer: replace(answer, data=answer.data * 2) if answer.file else answer):
        fails(filled, part, wanted)
    assert part.stat().st_size == 0
    assert arrives(filled, part, wanted)[0] == SIZE


def test_what_a_hub_packs_is_not_said_to_have_an_announced_size(filled: HubServer, part: Path) -> None:
    def packed(_: Call, answer: Answer) -> Answer:
        headers = {**answer.headers, "Content-Encoding": "gzip"}
        return replace(answer, data=gzip.compress(bytes(1_000_000)), headers=headers) if answer.file else answer

    with altered(filled, packed):
        error = fails(filled, part, replace(remote(), size=None))
    assert "unpacks to more than" in error.message


def test_a_hub_without_ranges(filled: HubServer, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", replace(patience.PATIENCE, progress=60_000))
    fault, wanted = filled.fault(Fault("cut", after=150_000)), remote()
    with altered(filled, lambda _, answer: replace(answer, etag="") if answer.file else answer):
        fails(filled, part, wanted)
        assert fault.hits <= 4  # to get as far as before is no progress
        filled.heal()
        sent, notes = arrives(filled, part, wanted)
    assert (sent, notes.received) == (SIZE, SIZE - 150_000)  # what was heard of it is taken back


def test_another_part_than_was_asked_for(filled: HubServer, begun: Path) -> None:
    def elsewhere(call: Call, answer: Answer) -> Answer:
        if not answer.file or "range" not in call.headers:
            return answer
        return Answer(WEIGHTS[9:], 206, {"Content-Range": f"bytes 9-{SIZE - 1}/{SIZE}"}, file=answer.file)

    with altered(filled, elsewhere):
        assert len(arrives(filled, begun)[1].notes) == 1


def test_a_part_that_is_too_long(filled: HubServer, begun: Path) -> None:
    filled.fault(Fault("short", after=100_000, times=1))  # so the Hub finds
    assert arrives(filled, begun)[0] == SIZE
    asked = len(filled.requests)
    begun.write_bytes(WEIGHTS + b"x")
    assert arrives(filled, begun)[0] == SIZE
    assert 416 not in {request.status for request in filled.requests[asked:]}


def test_progress_makes_patient_again(filled: HubServer, part: Path, pauses: list[float]) -> None:
    filled.fault(Fault("cut", times=2))
    filled.fault(Fault("cut", after=100_000, times=1))
    filled.fault(Fault("cut", times=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "PATIENCE", replace(patience.PATIENCE, progress=50_000))
        assert arrives(filled, part)[0] == SIZE
    assert pauses == [0.01, 0.02, 0.01, 0.02]


def test_ctrl_c(filled: HubServer, part: Path) -> None:
    class Impatient(Notes):
        def advance(self, count: int) -> None:
            super().advance(count)
            if self.received >= 100_000:
                raise KeyboardInterrupt

    notes, wanted = Impatient(), remote()
    with pytest.raises(KeyboardInterrupt):
        download(wanted, part, notes)
    kept = part.stat().st_size
    assert (kept, notes.ended) == (notes.received, 1)
    assert arrives(filled, part, wanted)[0] == SIZE - kept
    assert filled.requests[-1].headers["range"] == f"bytes={kept}-"


def test_little_space(filled: HubServer, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage, wanted = shutil.disk_usage(begun.parent), remote()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=SIZE - 150_001))
    with pytest.raises(StorageError) as caught:
        download(wanted, begun, Notes())
    assert str(begun.parent) in caught.value.message
    assert "HF_HUB_CACHE" in caught.value.hint
    assert (begun.stat().st_size, filled.bytes_sent()) == (150_000, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=SIZE - 150_000))
    assert arrives(filled, begun, wanted)[0] == SIZE - 150_000


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Whatever is written beyond fails, as on a full disk: after a part of the last block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_disk_fills_up(filled: HubServer, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = remote()
    with files_of_at_most(100_001), pytest.raises(OutputError) as other:
        download(wanted, part, Notes())
    assert not isinstance(other.value, StorageError)
    monkeypatch.setattr(files, "DISK_FULL", files.DISK_FULL | {errno.EFBIG})
    with files_of_at_most(200_001), pytest.raises(StorageError) as caught:
        download(wanted, part, Notes())
    assert str(part) in caught.value.message
    assert part.read_bytes() == WEIGHTS[:200_001]
    assert arrives(filled, part, wanted)[0] == SIZE - 200_001


def test_the_file_is_on_the_disk_when_it_is_complete(
    filled: HubServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    arrives(filled, part)
    assert sizes == [SIZE]


@pytest.mark.parametrize("status", [404, 400, 500])
def test_an_error_page_without_end(filled: HubServer, part: Path, status: int) -> None:
    def endless(call: Call, answer: Answer) -> Answer:
        return Answer(b"x" * 30_000_000, status) if call.method == "GET" else answer

    wanted = remote()
    before = len(filled.requests)
    with altered(filled, endless):
        fails(filled, part, wanted)
    sent = [request.sent for request in filled.requests[before:] if request.method == "GET"]
    assert sent
    assert max(sent) < 10_000_000  # what the sockets hold

"""Files at an address: whole and right, or one message and nothing; what has arrived of one is gone on with."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Final

import pytest

from tests.hub_client import Notes
from tests.web_server import WebServer
from ugatit_cli.remote.records import FileRecord
from ugatit_cli.remote.web import WebFile, obtain

URL: Final = "https://example.org/pub/horse2zebra.zip"
DATA: Final = random.Random(1).randbytes(50_000) * 6
KNOWN: Final = FileRecord(len(DATA), hashlib.sha256(DATA).hexdigest())
FILE: Final = WebFile(URL, headers={"Authorization": "Basic c2VjcmV0"})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "horse2zebra.zip"


def arrives(target: Path, file: WebFile = FILE, data: bytes = DATA, known: FileRecord | None = KNOWN) -> Notes:
    """Obtains the file; nothing else is left then."""
    notes = Notes()
    stamp = obtain(file, target, known, notes)
    assert (stamp.size, stamp.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert target.read_bytes() == data
    assert stamp.mtime_ns == target.stat().st_mtime_ns
    assert {path.name for path in target.parent.iterdir()} <= {target.name, f".{target.name}.lock"}
    return notes


def test_a_file_is_obtained_once(web: WebServer, target: Path) -> None:
    web.put(URL, DATA)
    notes = arrives(target)
    assert notes.begun == [(target.name, len(DATA), 0)]
    assert (notes.received, notes.notes, notes.ended) == (len(DATA), [], 1)
    assert web.requests[0].headers["authorization"] == "Basic c2VjcmV0"
    assert not arrives(target).begun
    assert len(web.requests) == 1

"""A Hub that has a data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.datasets.test_parquet import cells, save
from tests.hub_client import in_process
from tests.hub_server import HubServer

REPO = "datasets/huggan/selfie2anime"
TRAIN, TEST = "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub with a small data set under its real name."""
    with in_process(monkeypatch, tmp_path, HubServer()) as server:
        rows = {"imageA": cells(*range(9)), "imageB": cells(*range(9, 18))}
        files = {name: save(tmp_path / "rows.parquet", rows).read_bytes() for name in (TRAIN, TEST)}
        server.add(REPO, files | {"README.md": b"---\n---\n", ".gitattributes": b""})
        yield server

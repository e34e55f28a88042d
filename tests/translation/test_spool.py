"""Pictures that wait, in memory and on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import picture
from ugatit_cli.errors import StorageError
from ugatit_cli.translation.spool import Kept, Spool


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("room", [0, 110, 10_000], ids=["on disk", "in both", "in memory"])
def test_what_is_kept_comes_back(temporary: Path, room: int) -> None:
    image, alpha, pixels = picture(5, 7), picture(9, 3).convert("L"), np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    with Spool(room) as spool:
        kept = spool.keep(image), spool.keep(alpha), spool.keep(pixels)
        assert len(files(temporary)) == {0: 3, 110: 2, 10_000: 0}[room]
        for _ in range(2):
            assert [kept[0].load(), kept[1].load(), kept[2].load().tolist()] == [image, alpha, pixels.tolist()]
        del kept
        assert files(temporary) == []


def test_room_in_memory_comes_back(temporary: Path) -> None:
    with Spool(48) as spool:
        first, second = spool.keep(picture(4, 4)), spool.keep(picture(4, 4))
        assert (first.path, files(temporary)) == (None, [second.path])
        del first
        assert spool.keep(picture(4, 4)).path is None


def test_what_is_held_is_in_memory_and_crowds_it(temporary: Path) -> None:
    with Spool(90) as spool:
        assert not spool.crowded
        held = spool.hold(picture(6, 6))
        assert (spool.crowded, files(temporary)) == (True, [])
        assert spool.keep(picture(1, 1)).path
        del held
        assert not spool.crowded


@pytest.mark.parametrize("length", [0, 20, 140])
def test_a_file_that_was_cut_off(length: int) -> None:
    with Spool(0) as spool:
        kept: Kept[Any] = spool.keep(Image.new("RGB", (4, 4)))
        assert kept.path
        kept.path.write_bytes(kept.path.read_bytes()[:length])
        with pytest.raises(StorageError) as caught:
            kept.load()
        assert str(kept.path) in caught.value.message
        assert caught.value.hint

"""Pictures that wait, in memory and on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import picture
from ugatit_cli.errors import StorageError
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.translation.spool import Kept, Spool


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def frame(width: int = 4, height: int = 4, *, alpha: bool = False) -> Frame:
    return Frame(picture(width, height), picture(width, height, 1).convert("L") if alpha else None)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def path_of(kept: Kept) -> Path:
    assert kept.path is not None
    return kept.path


def content(frame: Frame) -> list[bytes | None]:
    return [None if layer is None else layer.tobytes() for layer in (frame.rgb, frame.alpha)]


@pytest.mark.parametrize("room", [0, 200, 10_000], ids=["on disk", "in both", "in memory"])
def test_what_is_put_can_be_taken(temporary: Path, room: int) -> None:
    several, one = [frame(5, 7), frame(5, 7, alpha=True), frame(3, 2)], [frame(1, 1, alpha=True)]
    with Spool(room) as spool:
        places = spool.put(several), spool.put(one)
        assert len(files(temporary)) == {0: 2, 200: 1, 10_000: 0}[room]
        for place, frames in zip(reversed(places), (one, several), strict=True):
            assert list(map(content, spool.take(place))) == list(map(content, frames))
        assert files(temporary) == []


def test_room_in_memory_comes_back(temporary: Path) -> None:
    with Spool(48) as spool:
        first, second = spool.put([frame()]), spool.put([frame()])
        assert (first.path is None, files(temporary)) == (True, [second.path])
        spool.take(first)
        del first
        assert spool.put([frame()]).path is None


@pytest.mark.parametrize("length", [0, 20, 140])
def test_a_file_that_was_cut_off(length: int) -> None:
    with Spool(0) as spool:
        place = spool.put([Frame(Image.new("RGB", (4, 4)), None)])
        path_of(place).write_bytes(path_of(place).read_bytes()[:length])
        with pytest.raises(StorageError) as caught:
            spool.take(place)
        assert str(place.path) in caught.value.message
        assert caught.value.hint

"""Pictures that wait on disk."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ugatit_cli.errors import StorageError
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.translation.pipeline import Spool


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_put_can_be_taken(temporary: Path) -> None:
    several, one = [noise(5, 7, 3), 255 - noise(5, 7, 3)], [noise(1, 1, 3)]
    with Spool() as spool:
        places = spool.put(several), spool.put(one)
        assert len(set(places)) == 2
        assert sorted(places) == sorted(files(temporary))
        for place, pictures in zip(reversed(places), (one, several), strict=True):
            taken = spool.take(place)
            assert len(taken) == len(pictures)
            for before, after in zip(pictures, taken, strict=True):
                assert after.dtype == np.uint8
                np.testing.assert_array_equal(after, before)


def test_what_was_taken_takes_no_space(temporary: Path) -> None:
    with Spool() as spool:
        first, second = spool.put([noise(4, 4, 3)]), spool.put([noise(4, 4, 3)])
        spool.take(first)
        assert files(temporary) == [second]
        with pytest.raises(StorageError, match=f"{first}: can't be read \\(no such file\\)"):
            spool.take(first)


def test_nothing_is_left(temporary: Path) -> None:
    with Spool() as spool:
        spool.put([noise(4, 4, 3)])
    assert list(temporary.iterdir()) == []

    def fail() -> None:
        with Spool() as spool:
            spool.put([noise(4, 4, 3)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_not_needed_is_not_made(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "nowhere"))
    with Spool():
        pass
    with Spool() as spool, pytest.raises(StorageError, match=r"temporary files: can't be written \(no such file\)"):
        spool.put([noise(4, 4, 3)])
    assert list(temporary.iterdir()) == []


def test_two_spools_do_not_meet() -> None:
    with Spool() as first, Spool() as second:
        one, other = first.put([noise(2, 2, 3)]), second.put([noise(3, 3, 3)])
        assert one != other
        assert [first.take(one)[0].shape, second.take(other)[0].shape] == [(2, 2, 3), (3, 3, 3)]


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Spool() as spool:
        kept = spool.put([noise(4, 4, 3)])
        monkeypatch.setattr(np, "save", full)
        with pytest.raises(StorageError, match=r"can't be written \(no space left on device\)") as caught:
            spool.put([noise(4, 4, 3)])
        assert str(kept.parent) in caught.value.message
        assert "TMPDIR" in caught.value.hint
        np.testing.assert_array_equal(spool.take(kept), [noise(4, 4, 3)])
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("length", [0, 20, 140])
def test_a_file_that_was_cut_off(length: int) -> None:
    with Spool() as spool:
        place = spool.put([noise(4, 4, 3)])
        place.write_bytes(place.read_bytes()[:length])
        with pytest.raises(StorageError, match="can't be read") as caught:
            spool.take(place)
        assert str(place) in caught.value.message
        assert caught.value.hint

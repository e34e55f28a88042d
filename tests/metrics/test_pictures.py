"""Sets of pictures: found, read as equal tensors, matched by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.evaluations import save_pictures
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.metrics.scores import BATCH, PictureSet, Reader, find_set, pairs_of
from ugatit_cli.pictures.geometry import Pixels

RED, WHITE = (255, 0, 0), (255, 255, 255)


def a_set(folder: Path, *names: str) -> PictureSet:
    return PictureSet(folder, tuple(folder / name for name in names))


def read(path: Path, side: int | None = None) -> Pixels:
    """uint8 (H, W, 3)"""
    picture = Reader(side).one(path)
    assert picture is not None
    return picture[0].permute(1, 2, 0).numpy()


# --- Sets and pairs ------------------------------------------------------------------------------------


def test_a_set_has_all_pictures_below_a_folder(tmp_path: Path) -> None:
    save_pictures(tmp_path / "b", 2)
    save_pictures(tmp_path, 1)
    (tmp_path / "notes.txt").write_text("no picture")
    found = find_set(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found.files] == ["0.png", "b/0.png", "b/1.png"]


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}: there are no pictures"):
        find_set(tmp_path)
    with pytest.raises(UsageError, match="there is no such folder"):
        find_set(tmp_path / "gone")
    (tmp_path / "a.png").touch()
    with pytest.raises(UsageError, match="is a file, not a folder"):
        find_set(tmp_path / "a.png")


def test_pairs_have_the_same_name_below_their_folders() -> None:
    one = a_set(Path("one"), "a.png", "b/c.v1.jpg", "only.png")
    other = a_set(Path("other"), "b/c.v1.webp", "a.gif", "c.png", "b/a.png")
    assert pairs_of(one, other) == {
        Path("one/a.png"): Path("other/a.gif"),
        Path("one/b/c.v1.jpg"): Path("other/b/c.v1.webp"),
    }


def test_no_pairs() -> None:
    with pytest.raises(UsageError, match="no picture in one has the name of one in other"):
        pairs_of(a_set(Path("one"), "a.png"), a_set(Path("other"), "b.png", "c/a.png"))


def test_names_that_do_not_tell_pictures_apart() -> None:
    twice, once = a_set(Path("one"), "a.png", "a.jpg"), a_set(Path("other"), "a.png")
    for sets in ((twice, once), (once, twice)):
        with pytest.raises(UsageError, match=r"one/a\.jpg: has the name of one/a\.png"):
            pairs_of(*sets)


# --- Reading -------------------------------------------------------------------------------------------


def test_pictures_are_read_on_white_upright_and_in_colour(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    half = Image.new("RGBA", (2, 1), (*RED, 255))
    half.putpixel((1, 0), (*RED, 0))
    half.save(path)
    assert read(path).tolist() == [[list(RED), list(WHITE)]]
    half.convert("P").save(path)  # a palette
    assert read(path)[0, 0].tolist() == list(RED)
    Image.new("L", (2, 1), 7).save(path)
    assert read(path).tolist() == [[[7] * 3] * 2]
    turned = Image.new("RGB", (2, 1), RED)
    turned.putpixel((1, 0), WHITE)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
    assert read(path).tolist() == [[list(RED)], [list(WHITE)]]


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (3, 2), colour) for colour in (RED, WHITE)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert (read(path) == RED).all()


def test_a_side_makes_all_pictures_square(tmp_path: Path) -> None:
    save_pictures(tmp_path / "a", 1, size=(9, 30))
    save_pictures(tmp_path / "b", 1, size=(1, 1))
    save_pictures(tmp_path / "c", 1, size=(20, 20))
    reader = Reader(20)
    for name in ("a", "b", "c"):
        picture = reader.one(tmp_path / name / "0.png")
        assert picture is not None
        assert picture.shape == (1, 3, 20, 20)
    assert (read(tmp_path / "c/0.png", 20) == np.asarray(Image.open(tmp_path / "c/0.png"))).all()
    assert reader.size == (20, 20)


@pytest.mark.parametrize("size", [(1, 1), (30, 7)])
def test_equal_sizes_are_left_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    files = find_set(save_pictures(tmp_path, 3, size=size)).files
    reader = Reader()
    ((found, pixels),) = reader.batches(files)
    assert found == list(files)
    assert pixels.dtype == torch.uint8
    for path, one in zip(files, pixels, strict=True):
        assert (one.permute(1, 2, 0).numpy() == np.asarray(Image.open(path))).all()
    assert reader.size == size


def test_different_sizes(tmp_path: Path) -> None:
    save_pictures(tmp_path / "a", 1, size=(30, 20))
    save_pictures(tmp_path / "b", 1, size=(20, 30))
    sets = [find_set(tmp_path / name).files for name in ("a", "b")]
    with pytest.raises(UsageError) as caught:
        Reader().check_first(sets)
    message = f"{tmp_path}/a/0.png has 30x20 pixels, {tmp_path}/b/0.png has 20x30"
    assert message in caught.value.message
    assert "--size N" in caught.value.hint
    with pytest.raises(UsageError, match="different sizes"):
        list(Reader().batches([path for files in sets for path in files]))
    reader = Reader(16)
    reader.check_first(sets)


def test_what_can_not_be_read_is_left_out_once(tmp_path: Path) -> None:
    files = find_set(save_pictures(tmp_path, 5)).files
    for number in (0, 3):
        files[number].write_bytes(b"not a picture")
    reader = Reader()
    reader.check_first([files, files])
    assert list(reader.broken) == [files[0]]
    ((found, pixels),) = reader.batches(files)
    assert found == [files[1], files[2], files[4]]
    assert len(pixels) == 3
    assert reader.one(files[0]) is None
    assert list(reader.broken) == [files[0], files[3]]
    assert all(isinstance(error, PictureError) for error in reader.broken.values())


def test_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    reader = Reader()
    assert list(reader.batches([tmp_path / "a.png"])) == []
    assert len(reader.broken) == 1


def test_pictures_are_streamed_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_set(save_pictures(tmp_path, 3 * BATCH + 2, size=(2, 2))).files
    started: set[Path] = set()
    original = Reader._try

    def counting(self: Reader, path: Path) -> Pixels | PictureError:
        started.add(path)
        return original(self, path)

    monkeypatch.setattr(Reader, "_try", counting)
    for workers in (1, 3):
        started.clear()
        found: list[Path] = []
        for names, pixels in Reader(workers=workers).batches(files):
            assert len(pixels) == len(names) <= BATCH
            found += names
            assert len(started) <= len(found) + BATCH
        assert found == list(files)

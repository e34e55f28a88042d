"""`ugatit data crop-faces`."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Command, Outcome, below
from tests.faces.portraits import group, portrait
from tests.helpers import picture
from ugatit_cli import files
from ugatit_cli.faces.detector import detector


@pytest.fixture
def crop(ugatit: Command) -> Command:
    def run(*arguments: object) -> Outcome:
        return ugatit("data", "crop-faces", *arguments)

    return run


@pytest.fixture
def photos() -> Path:
    """Of two faces, of one in a folder, of none; and what is no photo."""
    Path("in/sub").mkdir(parents=True)
    group().photo.save("in/two.jpg", quality=95)
    portrait().save("in/sub/one.webp")
    picture(60, 40).save("in/none.png")
    Path("in/broken.png").write_bytes(b"nothing")
    return Path("in")


FACES = ["sub/one_face1.png", "two_face1.png", "two_face2.png"]


def test_a_folder(crop: Command, photos: Path) -> None:
    outcome = crop(photos, "out", "--size", 96, "--least", 32)
    assert outcome.code == 1
    assert below("out") == FACES
    assert sorted(outcome.lines) == [f"out/{name}" for name in FACES]
    assert "in/none.png: no face found" in outcome.stderr
    assert "in/broken.png: " in outcome.stderr
    assert "2 cropped, 1 without a face, 1 failed" in outcome.stderr
    for name in FACES:
        with Image.open(f"out/{name}") as image:
            assert (image.mode, image.size) == ("RGB", (96, 96))
            (face,) = detector()(image)
            assert np.hypot(*(face.landmarks[2] - 48)) < 20


def test_what_is_there(crop: Command, photos: Path) -> None:
    (photos / "broken.png").unlink()
    options = ("--size", 64)
    assert crop(photos, "out", *options).code == 0
    before = {name: Path("out", name).read_bytes() for name in FACES}
    refused = crop(photos, "out", *options)
    assert refused.code == 2
    assert "--skip-existing" in refused.stderr
    Path("out/two_face1.png").write_bytes(b"mine")
    again = crop(photos, "out", *options, "--skip-existing", "--json")
    assert again.code == 0
    assert {one["input"]: one["status"] for one in again.documents} == {
        "in/none.png": "nothing-found", "in/sub/one.webp": "skipped", "in/two.jpg": "skipped"
    }  # fmt: skip
    assert Path("out/two_face1.png").read_bytes() == b"mine"
    assert crop(photos, "out", *options, "--overwrite").code == 0
    assert {name: Path("out", name).read_bytes() for name in FACES} == before
    picture(60, 40).save("in/two.jpg")
    assert "out/two_face1.png, out/two_face2.png" in crop(photos, "out", *options, "--overwrite").stderr


def test_a_further_face_replaces_nothing(crop: Command, photos: Path) -> None:
    Path("out").mkdir()
    Path("out/two_face2.png").write_bytes(b"mine")
    outcome = crop(photos / "two.jpg", "out", "--size", 64)
    assert outcome.code == 1
    assert "two_face2.png: exists already" in outcome.stderr
    assert below("out") == ["two_face2.png"]
    assert Path("out/two_face2.png").read_bytes() == b"mine"


def test_small_faces_are_left_out(crop: Command, photos: Path) -> None:
    outcome = crop(photos / "two.jpg", "out", "--size", 512)
    assert outcome.code == 1
    assert "no face of 256 pixels or more found" in outcome.stderr
    assert "2 faces left out" in outcome.stderr
    assert not Path("out").exists()


def test_a_full_disk_ends_it(crop: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, **_: object) -> None:  # noqa: ARG001
        raise files.unwritable(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(files, "write_file", full)
    outcome = crop(photos, "out", "--size", 64)
    assert outcome.code == 1
    assert outcome.stderr.count("no space left") == 1
    assert "files are not done" in outcome.stderr


@pytest.mark.parametrize("options", [("--size", 8), ("--margin", -1), ("--skip-existing", "--overwrite")])
def test_what_makes_no_sense(crop: Command, photos: Path, options: tuple[object, ...]) -> None:
    assert crop(photos, "out", *options).code == 2
    assert not Path("out").exists()

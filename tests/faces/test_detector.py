"""The detector on real faces, and on pictures without any."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faces.portraits import BOX, group, portrait
from tests.helpers import picture
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.faces import detector as module
from ugatit_cli.faces.detector import SHA256, WEIGHTS, Face, FaceDetector, detector


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, across) * max(0.0, down)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def ordered(face: Face) -> bool:
    """Whether the landmarks lie as those of an upright face do, inside of its box."""
    (left, right, nose, *mouth), box = face.landmarks.tolist(), face.box
    inside = all(box[0] < x < box[2] and box[1] < y < box[3] for x, y in face.landmarks.tolist())
    upright = max(left[1], right[1]) < nose[1] < min(corner[1] for corner in mouth)
    return inside and upright and left[0] < nose[0] < right[0] and mouth[0][0] < mouth[1][0]


def test_the_weights_are_those_that_are_named() -> None:
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == SHA256
    assert SHA256[:16] in (Path(__file__).parents[2] / "NOTICE").read_text()


def test_a_face() -> None:
    (face,) = detector()(portrait())
    assert overlap(face.box, BOX) > 0.6
    assert face.score > 0.8
    assert ordered(face)


def test_two_faces_the_larger_one_first() -> None:
    two = group()
    faces = detector()(two.photo)
    assert [overlap(face.box, box) > 0.6 for face, box in zip(faces, two.boxes, strict=True)] == [True, True]
    assert all(map(ordered, faces))


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (600, 600)])
def test_faces_of_every_size(size: tuple[int, int]) -> None:
    (face,) = detector()(portrait().resize(size, Image.Resampling.BICUBIC))
    assert overlap(face.box, tuple(value * side / 160 for value, side in zip(BOX, size * 2, strict=True))) > 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (64, 64), (200, 120)])
def test_no_face(size: tuple[int, int]) -> None:
    assert detector()(picture(*size)) == []
    assert detector()(Image.new("RGB", size, "white")) == []


def test_weights_that_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(WEIGHTS.read_bytes())
    data[1000] ^= 1
    (tmp_path / "weights.onnx").write_bytes(data)
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "weights.onnx")
    with pytest.raises(ModelError, match="damaged"):
        FaceDetector()


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError) as caught:
        FaceDetector()
    assert caught.value.hint == "pip install onnxruntime"


def test_the_same_face_twice_is_one() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 5, 10, 15]], np.float32)
    assert module._kept(boxes, [1, 0, 2, 3]) == [1, 2, 3]

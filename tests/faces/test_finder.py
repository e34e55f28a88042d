"""Faces as regions."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.faces.portraits import BOX, group, portrait
from ugatit_cli.errors import UsageError
from ugatit_cli.faces.detector import Face, detector
from ugatit_cli.faces.finder import FaceFinder, tilt
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.regions import cut


def frame(image: Image.Image) -> Frame:
    return Frame(image, None)


def turned(degrees: float) -> Image.Image:
    """The portrait turned clockwise on a larger ground."""
    wide = Image.new("RGB", (300, 300), (110, 110, 110))
    wide.paste(portrait(), (70, 70))
    return wide.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=(110, 110, 110))


@pytest.mark.parametrize("degrees", [-30, 0, 15])
def test_turned_faces_are_upright_when_cut(degrees: int) -> None:
    straight = tilt(detector()(turned(0))[0])
    (region,) = FaceFinder()(frame(turned(degrees)))
    assert region.angle == pytest.approx(straight + degrees, abs=4)
    (again,) = detector()(cut(frame(turned(degrees)), region).rgb)
    assert abs(tilt(again)) < 4


def test_margins() -> None:
    image = frame(turned(0))
    sides = []
    for margin in (0, 0.5, 1):
        (region,) = FaceFinder(margin)(image)
        assert region.size[0] == region.size[1]
        sides.append(region.size[0])
    face = max(BOX[2] - BOX[0], BOX[3] - BOX[1])
    assert sides == pytest.approx([face, 2 * face, 3 * face], rel=0.2)
    with pytest.raises(UsageError, match="--margin"):
        FaceFinder(-0.1)


def test_two_faces_the_larger_one_on_top() -> None:
    first, last = FaceFinder()(frame(group().photo))
    assert first.size < last.size
    assert first.centre[0] > 200 > last.centre[0]
    assert min(first.score or 0, last.score or 0) > 0.8


def test_near_the_border_the_square_stays_inside() -> None:
    image = portrait().crop((30, 20, 160, 160))
    (region,) = FaceFinder(1.0)(frame(image))
    assert region.size == (130, 130)
    assert region.centre[0] == pytest.approx(65)
    assert 65 <= region.centre[1] <= 75


def test_a_face_from_the_side_is_not_turned() -> None:
    points = np.array([[50, 40], [52, 48], [45, 55], [50, 70], [52, 70]], np.float32)
    assert tilt(Face((40, 20, 90, 90), 0.9, points)) == 0
    points[1] = (80, 48)
    assert tilt(Face((40, 20, 90, 90), 0.9, points)) == pytest.approx(14.9, abs=0.1)

"""Faces as regions: square, upright by the eyes, with some of what is around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ugatit_cli.arguments import checked
from ugatit_cli.errors import UsageError
from ugatit_cli.faces.detector import Face, detector
from ugatit_cli.pictures.geometry import Size
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.regions import Angle, Feather, Region, cut

MARGIN: Final = 0.5
"""What a crop has on each side of a face, as a share of the face's longer side: hair, ears, the collar."""
MOST_MARGIN: Final = 3.0
FEATHER: Final = 0.25
# Smaller ones are no more than a few pixels of skin.
LEAST_SIDE: Final = 16
# Degrees from which on a second look at a face tells better how it is turned: of 30 degrees, the first one tells 25.
_SLOPE: Final = 8.0
# Hair is above a face, and the neck matters less.
_RAISED: Final = 0.1
# Where the eyes lie nearer together than this share of the face's width, it is seen from the side.
_FRONTAL: Final = 0.2


@checked
@dataclass(frozen=True)
class FaceFinder:
    """Finds the faces of each frame.

    Attributes:
        margin: see `MARGIN`.
        feather: see `Region`.
    """

    margin: float = MARGIN
    feather: Feather = FEATHER
    what: str = "face"

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= MOST_MARGIN:
            hint = f"It goes from 0 (the face alone) to {MOST_MARGIN:g}, in sizes of the face."
            raise UsageError(f"--margin {self.margin:g}: unknown", hint)

    @checked
    def __call__(self, frame: Frame, source: Path | None = None) -> Sequence[Region]:  # noqa: ARG002  # a Finder's
        """A region for each face, the largest last: in front of the others.

        Raises:
            UsageError, ModelError: see `FaceDetector`.
        """
        faces = detector()(frame.rgb)
        wide_enough = [face for face in faces if min(_sides(face)) >= LEAST_SIDE]
        return [self._upright(frame, face) for face in reversed(wide_enough)]

    def _upright(self, frame: Frame, face: Face) -> Region:
        """Its square; that of a face on a slope after a second look, as a first one tells too little of the slope."""
        region = self.region(face, frame.rgb.size, tilt(face))
        if abs(region.angle) < _SLOPE:
            return region
        again = detector()(cut(frame, region).rgb)
        return self.region(face, frame.rgb.size, region.angle + tilt(again[0])) if again else region

    @checked
    def region(self, face: Face, size: Size, angle: Angle) -> Region:
        """The square around a face, turned by an angle, of a picture of a size.

        It is moved, or has less of a margin, rather than that it lies beyond the picture's border.
        """
        longer = max(_sides(face))
        side = round(max(longer, min(longer * (1 + 2 * self.margin), *size)))
        raised = _RAISED * longer * min(1.0, 2 * self.margin)
        left, top, right, bottom = face.box
        turned = math.radians(angle)
        x = (left + right) / 2 + raised * math.sin(turned)
        y = (top + bottom) / 2 - raised * math.cos(turned)
        box = round(left), round(top), round(right - left), round(bottom - top)
        x, y = (_moved(place, side, length) for place, length in zip((x, y), size, strict=True))
        return Region((x, y), (side, side), angle, self.feather, subject=box, score=face.score)


def tilt(face: Face) -> float:
    """By how many degrees the line through the eyes is turned clockwise; 0 for a face that is seen from the side."""
    across, down = (face.landmarks[1] - face.landmarks[0]).tolist()
    if math.hypot(across, down) < _FRONTAL * _sides(face)[0] or across <= 0:
        return 0.0
    return float(np.degrees(np.arctan2(down, across)))


def _moved(middle: float, side: int, length: int) -> float:
    """Where a side lies inside of a length, if it fits."""
    return min(max(middle, side / 2), length - side / 2) if side <= length else middle


def _sides(face: Face) -> tuple[float, float]:
    left, top, right, bottom = face.box
    return right - left, bottom - top

"""Parts of a picture that go through a network alone, and come back with a soft edge; all around stays as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ugatit_cli.arguments import checked, fitted
from ugatit_cli.config import BaseConfig
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.fields import Range
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.geometry import MAX_SIDE, Geometry, Size, SizeOptions, plan_geometry
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame

FEATHER: Final = 0.15
"""Width of a region's soft edge, as a share of its shorter side."""

Box = tuple[int, int, int, int]
Rectangle = tuple[float, float, float, float]

# Pixels around what is cut that interpolation looks at.
_AROUND: Final = 2
# From one frame to the next: how far off a region is still the same one, in its sides; how much of a new place is
# taken at least; from which movement on, in sides and degrees, all of it is. A face in noise trembles by 0.02 sides
# and 3 degrees.
_FAR: Final = 0.5
_CALM: Final = 0.2
_TREMBLE: Final = 0.12
_TREMBLE_DEGREES: Final = 10.0
# Darker than this is black: JPEG doesn't keep it exactly.
_BLACK: Final = 8
# A mask of another shape than the picture was drawn for another one.
_SAME_ASPECT: Final = 0.02


# What soft edges may be, and where anything may lie: no NaN, no infinity.
Feather = Annotated[float, Range(0, 0.5)]
_FAR_AWAY: Final = 1e6
Angle = Annotated[float, Range(-_FAR_AWAY, _FAR_AWAY)]
_Place = Annotated[tuple[float, float], Range(-_FAR_AWAY, _FAR_AWAY)]
_Sides = Annotated[Size, Range(1, MAX_SIDE)]


@checked
@dataclass(frozen=True)
class Region:
    """A rectangle of a picture, upright or turned, and how much of it counts.

    Attributes:
        centre: (x, y) in pixels, of which the picture's left upper corner is (0, 0).
        size: (width, height) of the rectangle, and of what is cut, in pixels.
        angle: by how many degrees it is turned clockwise.
        feather: width of the soft edge inside of it, as a share of the shorter side: 0 to 0.5.
        weights: of an upright one, how much each pixel counts, mode L of its size; instead of `feather`.
        subject: left, top, width and height of what it is about, such as a face.
        score: how sure that is, 0 to 1.
    """

    centre: _Place
    size: _Sides
    angle: Angle = 0.0
    feather: Feather = FEATHER
    weights: Image.Image | None = None
    subject: Box | None = None
    score: float | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and (self.weights.mode, self.weights.size) != ("L", self.size):
            found, wanted = ("x".join(map(str, size)) for size in (self.weights.size, self.size))
            raise UsageError(f"weights: a picture of mode {self.weights.mode}, {found}; it must be L, {wanted}")

    @property
    def upright(self) -> bool:
        """Whether its pixels are those of the picture."""
        return self.angle == 0 and all(
            float(middle - side / 2).is_integer() for middle, side in zip(self.centre, self.size, strict=True)
        )

    @property
    def bounds(self) -> Box:
        """Left, top, right, bottom of the upright rectangle around it, which may lie outside of the picture."""
        cos, sin = abs(math.cos(math.radians(self.angle))), abs(math.sin(math.radians(self.angle)))
        (width, height), (x, y) = self.size, self.centre
        across, down = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
        return _outside((x - across, y - down, x + across, y + down))

    @checked
    def matrix(self, origin: tuple[int, int] = (0, 0)) -> NDArray[np.float64]:
        """The affine way (2, 3) from a pixel of what is cut to one of the picture, counted from `origin`."""
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        turn = np.array([[cos, -sin], [sin, cos]])
        shift = np.subtract(self.centre, origin) - turn @ (np.array(self.size) / 2)
        return np.column_stack([turn, shift])


Finder = Callable[[Frame, Path | None], Sequence[Region]]
"""Finds the regions of a picture, or of each frame of an animation: those of a frame of a file, in the order in which
they are pasted. `what`, if it has one, is its word for them: `face`."""

_Found = Annotated[Sequence[Region], "a sequence of Region"]


@dataclass(frozen=True)
class RegionOptions:
    """Which parts of pictures are translated.

    Attributes:
        finder: finds them.
        none: what becomes of a picture that has none of them: it is left out, or translated whole.
        alone: they are the results, rather than the picture with them.
    """

    finder: Finder
    none: Literal["skip", "whole"] = "skip"
    alone: bool = False

    @property
    def what(self) -> str:
        """What the finder looks for."""
        return str(getattr(self.finder, "what", "region"))

    def find(self, frame: Frame, source: Path | None) -> Sequence[Region]:
        """The regions of a frame of a file.

        Raises:
            PictureError: it can't be said.
            WrongType: the finder gives something else.
        """
        found = fitted("regions' result", self.finder(frame, source), _Found)
        return [fitted("a region", one, Region) for one in found]

    def way(self, region: Region, config: BaseConfig, sizes: SizeOptions) -> Geometry:
        """A region's way through the network: `fit` and `tile` are about the region alone."""
        wanted = sizes if self.alone else replace(sizes, output="same")
        return plan_geometry(region.size, config, wanted)


class Follower:
    """Regions of frames that follow each other: as finders tremble, each hardly leaves its place until it moves."""

    def __init__(self) -> None:
        self._last: Sequence[Region] = ()

    def __call__(self, found: Sequence[Region]) -> Sequence[Region]:
        """The regions of the next frame, from what was found in it; those that users name are as they are."""
        self._last = [self._followed(region) for region in found]
        return self._last

    def _followed(self, region: Region) -> Region:
        side = min(region.size)
        before = min(self._last, key=lambda one: math.dist(one.centre, region.centre), default=None)
        if region.score is None or before is None or math.dist(before.centre, region.centre) > side * _FAR:
            return region
        moved = max(math.dist(before.centre, region.centre), abs(min(before.size) - side))
        place = min(1.0, max(_CALM, moved / (side * _TREMBLE)))
        turned = (region.angle - before.angle + 180) % 360 - 180
        turn = min(1.0, max(_CALM, abs(turned) / _TREMBLE_DEGREES))
        x, y = (old + place * (new - old) for old, new in zip(before.centre, region.centre, strict=True))
        width, height = (round(old + place * (new - old)) for old, new in zip(before.size, region.size, strict=True))
        return replace(region, centre=(x, y), size=(width, height), angle=before.angle + turn * turned)


@dataclass(frozen=True)
class Parts:
    """The regions of all frames of a picture, which go through the networks one after the other.

    Attributes:
        regions: of each frame.
        ways: that of each region through the networks; those of all frames in one row.
    """

    regions: Sequence[Sequence[Region]]
    ways: Sequence[Geometry]

    def of(self, frame: int) -> Sequence[tuple[int, Region]]:
        """The regions of a frame, by their number among all."""
        first = sum(map(len, self.regions[:frame]))
        return list(enumerate(self.regions[frame], first))


def cut(frame: Frame, region: Region) -> Frame:
    """The region as a frame of its own, of the size `region.size`; beyond the border the picture is mirrored."""
    return Frame(_cut(frame.rgb, region), frame.alpha and _cut(frame.alpha, region))


def _cut(image: Image.Image, region: Region) -> Image.Image:
    left, top, right, bottom = region.bounds
    if region.upright:
        return _mirrored(image, (left, top, right, bottom))
    around = left - _AROUND, top - _AROUND, right + _AROUND, bottom + _AROUND
    return _affine(_mirrored(image, around), region.size, region.matrix(around[:2]))


def _affine(image: Image.Image, size: Size, matrix: NDArray[np.float64]) -> Image.Image:
    data = tuple(matrix.ravel().tolist())
    return image.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)


def _mirrored(image: Image.Image, box: Box) -> Image.Image:
    """A part of a picture, which is mirrored where the box is larger than it."""
    left, top, right, bottom = box
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.crop(box)
    columns, rows = _reflected(left, right, image.width), _reflected(top, bottom, image.height)
    inside = min(columns), min(rows), max(columns) + 1, max(rows) + 1
    pixels = np.asarray(image.crop(inside))
    return Image.fromarray(pixels[np.ix_(rows - inside[1], columns - inside[0])])


def _reflected(start: int, end: int, length: int) -> NDArray[np.intp]:
    places = np.arange(start, end) % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)


def paste(
    picture: Image.Image,
    region: Region,
    translated: Image.Image,
    source: Image.Image | None = None,
    look: Look = Look(),  # noqa: B008  # it can't be changed
) -> None:
    """Puts what was cut back into its place in a picture.

    Args:
        picture: is changed; mode RGB.
        translated: mode RGB, of the size `region.size`.
        source: the picture as it was before all regions, for a look that needs it.
        look: what becomes of the translation before it is pasted.
    """
    left, top, right, bottom = region.bounds
    box = max(0, left), max(0, top), min(picture.width, right), min(picture.height, bottom)
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    for _, upper, _, lower in reading.strips((box[2] - box[0], box[3] - box[1])):
        strip = box[0], box[1] + upper, box[2], box[1] + lower
        placed = Frame(_placed(translated, region, strip), None)
        shown = look.applied(placed, Frame((source or picture).crop(strip), None)).rgb
        picture.paste(shown, strip[:2], _weights(region, strip, picture.size))


def pasted(source: Frame, crops: Sequence[tuple[Region, Frame]], look: Look) -> Frame:
    """A frame with what became of its regions, each as it is to look; else with its own pixels, and its alpha."""
    shown = source.rgb.copy()
    for region, crop in crops:
        fitting = crop.rgb if crop.rgb.size == region.size else crop.rgb.resize(region.size)
        paste(shown, region, fitting, source.rgb, look)
    return Frame(shown, source.alpha)


def _placed(translated: Image.Image, region: Region, box: Box) -> Image.Image:
    """What was cut as it lies in a part of the picture."""
    if region.upright:
        left, top, *_ = region.bounds
        return translated.crop((box[0] - left, box[1] - top, box[2] - left, box[3] - top))
    return _affine(translated, (box[2] - box[0], box[3] - box[1]), _inverse(region.matrix(box[:2])))


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    turn = np.linalg.inv(matrix[:, :2])
    return np.column_stack([turn, -turn @ matrix[:, 2]])


def _weights(region: Region, box: Box, size: Size) -> Image.Image:
    """How much of a region counts at each pixel of a part of a picture of this size: mode L."""
    if region.weights is not None:
        return _placed(region.weights, region, box)
    matrix = _inverse(region.matrix(box[:2]))
    x, y = np.arange(box[2] - box[0]) + 0.5, np.arange(box[3] - box[1])[:, None] + 0.5
    places = [row[0] * x + row[1] * y + row[2] for row in matrix.astype(np.float32)]
    soft = max(region.feather * min(region.size), 1e-6)
    beyond = [_beyond(place, *ends, soft) for place, ends in zip(places, _ends(region, size, soft), strict=True)]
    share = 1 - np.hypot(*beyond) / soft
    inside = np.clip(share, 0, 1)
    return Image.fromarray(np.rint(255 * inside * inside * (3 - 2 * inside)).astype(np.uint8))


def _ends(region: Region, size: Size, soft: float) -> list[tuple[float, float]]:
    """Where a region begins and ends, along both of its sides; where the picture ends with it, there is no edge."""
    left, top, right, bottom = region.bounds
    width, height = region.size
    if not region.upright:
        return [(0, width), (0, height)]
    across = -soft * (left <= 0), width + soft * (right >= size[0])
    return [across, (-soft * (top <= 0), height + soft * (bottom >= size[1]))]


def _beyond(places: NDArray[Any], start: float, end: float, soft: float) -> NDArray[Any]:
    """How far places lie in a soft edge, or further out: `soft` at the end."""
    return np.clip(np.maximum(start + soft - places, places - (end - soft)), 0, None)


# --- Regions that users name


_Edge = tuple[float, bool]
_BOX: Final = "four times (number, whether it is a share): BoxFinder.parse makes it of 10%,20%,50%,50%"


@checked
@dataclass(frozen=True)
class BoxFinder:
    """A rectangle of each picture.

    Attributes:
        box: x, y, width and height, each in pixels or, with True, as a share of the picture's width or height.
    """

    box: Annotated[tuple[_Edge, _Edge, _Edge, _Edge], Range(0, _FAR_AWAY), _BOX]
    feather: Feather = FEATHER
    what: str = "box"

    @classmethod
    @checked
    def parse(cls, text: str, feather: float = FEATHER) -> BoxFinder:
        """`10,20,300,200` or `10%,20%,50%,50%`; else a UsageError."""
        found = [re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)(%?)\s*", part) for part in text.split(",")]
        numbers = tuple((float(one[1]) / (100 if one[2] else 1), bool(one[2])) for one in found if one)
        if len(numbers) != 4 or len(found) != 4 or not (numbers[2][0] and numbers[3][0]):
            hint = "It is left, top, width and height, in pixels or percent: --box 120,80,256,256 or 25%,10%,50%,50%."
            raise UsageError(f"--box {text or repr(text)}: not a box", hint)
        left, top, width, height = numbers
        return cls((left, top, width, height), feather)

    @checked
    def __call__(self, frame: Frame, source: Path | None) -> Sequence[Region]:  # noqa: ARG002  # a Finder's
        """The rectangle, as far as the picture has it.

        Raises:
            PictureError: it lies outside.
        """
        sides = (*frame.rgb.size, *frame.rgb.size)
        x, y, width, height = (
            value * side if share else value for (value, share), side in zip(self.box, sides, strict=True)
        )
        left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
        box = left, top, min(max(right, left + 1), sides[0]), min(max(bottom, top + 1), sides[1])
        if box[0] >= box[2] or box[1] >= box[3]:
            reason = (
                f"the box {left},{top},{right - left},{bottom - top} lies outside of {sides[0]} x {sides[1]} pixels"
            )
            raise PictureError(reason, "Give --box in percent, for pictures of several sizes.")
        return [region_of(box, self.feather)]


def region_of(box: Box, feather: float = FEATHER, weights: Image.Image | None = None) -> Region:
    """The upright region with these left, top, right, bottom."""
    left, top, right, bottom = box
    size = right - left, bottom - top
    return Region(((left + right) / 2, (top + bottom) / 2), size, 0.0, feather, weights, (left, top, *size))


@checked
@dataclass(frozen=True)
class MaskFinder:
    """What a mask shows: white (or opaque) is translated, black is not, grey in part.

    Attributes:
        path: a picture, or a folder with one for each file, called like it, in folders as it is or in none.
    """

    path: str | PathLike[str]
    feather: Feather = FEATHER
    max_pixels: Annotated[int | None, Range(1, math.inf)] = MAX_PIXELS
    what: str = "mask"
    # The last one, as one mask may be for many pictures.
    _known: dict[tuple[Path, Size], Region] = field(default_factory=dict, init=False, repr=False, compare=False)

    @checked
    def __call__(self, frame: Frame, source: Path | None) -> Sequence[Region]:
        """The rectangle around all that isn't black.

        Raises:
            PictureError: there is no mask, it can't be read, or it is of another shape.
        """
        key = self._path_for(source), frame.rgb.size
        region = self._known.get(key)
        if region is None:
            region = self._region(*key)
            self._known.clear()
            self._known[key] = region
        return [region]

    def _region(self, path: Path, size: Size) -> Region:
        mask = _grey(reading.read_picture(path, max_pixels=self.max_pixels, first_only=True).frames[0])
        (width, height), own = size, mask.size
        if abs(math.log(own[0] * height / (own[1] * width))) > max(_SAME_ASPECT, 1 / min(own), 1 / min(size)):
            reason = f"the mask {path} has {own[0]} x {own[1]} pixels, the picture {width} x {height}"
            raise PictureError(reason, "Give a mask of the picture's shape.")
        if own != size:
            mask = mask.resize(size, Image.Resampling.BILINEAR)
        box = mask.getbbox()
        if box is None:
            raise PictureError(f"the mask {path} is black everywhere", "Paint white what shall be translated.")
        soft = self.feather * min(box[2] - box[0], box[3] - box[1])
        return region_of(box, self.feather, _softened(mask.crop(box), soft, _cropped(box, size)))

    def _path_for(self, source: Path | None) -> Path:
        path = Path(self.path)
        if not path.is_dir():
            return path
        if source is None:
            raise PictureError("it has no name, and so none of the masks", "Give --mask the file of its mask.")
        names = [source.name, *(source.stem + suffix for suffix in sorted(reading.SUFFIXES))]
        parents = source.absolute().parent.parts[1:]
        below = (parents[start:] for start in range(len(parents) + 1))
        folders = [path.joinpath(*parts) for parts in below if ".." not in parts]
        there = (one for folder in folders if folder.is_dir() for name in names if (one := folder / name).is_file())
        picture = source.resolve()  # in a folder above the pictures it is there, too
        if (found := next((one for one in there if one.resolve() != picture), None)) is None:
            hint = f"It would be called {source.stem}.png, there or in a folder called like the picture's."
            raise PictureError(f"no mask for it in {path}", hint)
        return found


def _grey(frame: Frame) -> Image.Image:
    return (frame.alpha or frame.rgb.convert("L")).point(lambda value: value if value >= _BLACK else 0)


def _cropped(box: Box, size: Size) -> tuple[bool, bool, bool, bool]:
    """On which sides a box ends where the picture does."""
    return box[0] == 0, box[1] == 0, box[2] == size[0], box[3] == size[1]


def _softened(mask: Image.Image, soft: float, open_sides: Sequence[bool]) -> Image.Image:
    """A mask whose edge fades inwards, so that nothing outside of it counts; not at sides where the picture ends."""
    radius = soft / 2
    if radius < 0.5:
        return mask
    pad = math.ceil(2 * soft)
    shown = np.asarray(mask) > 0
    left, top, right, bottom = (pad * is_open for is_open in open_sides)
    wide = np.pad(shown, ((pad, pad), (pad, pad)))
    wide[pad - top : wide.shape[0] - pad + bottom, pad - left : wide.shape[1] - pad + right] = np.pad(
        shown, ((top, bottom), (left, right)), mode="edge"
    )
    blurred = Image.fromarray(wide * np.uint8(255)).filter(ImageFilter.GaussianBlur(radius))
    inner = np.asarray(blurred, np.float32)[pad : pad + mask.height, pad : pad + mask.width]
    inside = np.clip(2 * inner / 255 - 1, 0, 1)
    return Image.fromarray(np.rint(np.asarray(mask, np.float32) * inside).astype(np.uint8))


def _outside(rectangle: Rectangle) -> Box:
    left, top, right, bottom = rectangle
    return math.floor(left + 1e-6), math.floor(top + 1e-6), math.ceil(right - 1e-6), math.ceil(bottom - 1e-6)

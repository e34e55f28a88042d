"""How a picture of any size goes through a network, and back to the size people want."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from ugatit_cli.config import FITS, BaseConfig, Fit
from ugatit_cli.errors import UsageError
from ugatit_cli.fields import Range
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.transparency import with_painted

Size = tuple[int, int]
Pixels = NDArray[Any]

# Two strided layers, and reflection padding on what is left, need this much.
MULTIPLE = 4
MIN_SIDE = 16
# `aspect` scales the short side to the model's size, but never the long side beyond this many times that: a
# picture of 1 x 10,000 pixels would ask for a network input of a hundred megapixels.
MAX_ASPECT = 8
# Native pictures above this many pixels go through the network tile by tile: it takes 0.8 GB in bf16 on the CPU
# with 64 channels. A fixed number, so that results don't depend on a machine's memory.
TILE_ABOVE = 1536 * 1536
TILE_SIDE = 1024
MAX_SIDE = 65_500
# Where tiles overlap, the edge of one hardly counts; but along the border of a picture there is no other.
LEAST_WEIGHT = 1e-3
# What all of a picture is like is told by squares of this side, as many as have a tile's pixels, or 512 x 512.
# Measured on photos of 1024 x 1024 pixels: 81 of 64 pixels come within 39 to 44 dB of all of it, 144 of 32 within 38
# to 39, a copy of half the side within 32 to 34; of 640 x 640, tiles by themselves within 13 to 14.
SAMPLE_SIDE = 64
LEAST_SAMPLE = 512


@dataclass(frozen=True)
class Geometry:
    """One picture's way through the network; sizes are (width, height) in pixels.

    Attributes:
        scaled: the picture is resized to this,
        network: then padded to this by reflection, centred, and translated,
        output: and after the padding is cropped off, resized to this.
        tile: side of the square tiles that the network sees; 0: all at once.
    """

    scaled: Size
    network: Size
    output: Size
    tile: int = 0


@dataclass(frozen=True)
class SizeOptions:
    """What users may ask for.

    Attributes:
        fit: `aspect`: short side at the model's size; `native`: the picture's own resolution; `squash`: resized to
            the model's square, as the paper does.
        tile: side of overlapping tiles; 0: never; None: for native pictures too large for memory.
        output: `same`: the picture's own size; `model`: as it leaves the network; `N`: short side of N pixels;
            `WxH`.
        only: width and height that the networks take, where a file was exported for them; None: as the config says.
    """

    fit: Fit = "aspect"
    tile: int | None = None
    output: str = "same"
    only: Size | None = None

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UsageError(f"unknown fit {self.fit!r}", f"It is one of: {', '.join(FITS)}.")
        if self.tile and (self.tile < 64 or self.tile % MULTIPLE or self.tile > MAX_SIDE):
            raise UsageError(
                f"a tile of {self.tile} pixels", f"Tiles are a multiple of 4 from 64 to {MAX_SIDE} pixels."
            )
        output_size((1, 1), (1, 1), self.output)


def check_options(config: BaseConfig, options: SizeOptions) -> None:
    """A UsageError before the first picture: a full model sees only one size, so its tiles have that size."""
    if options.only and (options.tile or options.fit == "native"):
        width, height = options.only
        reason = f"it was exported for pictures of {width}x{height} pixels only"
        raise UsageError(reason, "Leave --fit native and --tile out, or export it without --size.")
    if config.light or options.tile in (None, config.image_size):
        return
    if options.tile or options.fit == "native":
        asked = f"tiles of {options.tile} pixels" if options.tile else "native pictures without tiles"
        raise UsageError(
            f"a full model can't translate {asked}", f"Its tiles have {config.image_size} pixels: --tile auto."
        )


def plan_geometry(size: Size, config: BaseConfig, options: SizeOptions) -> Geometry:
    """The way of a picture of a size (width, height) through a model; a UsageError where there is none."""
    check_options(config, options)
    side, tile = config.image_size, options.tile
    only = options.only or (None if config.light else (side, side))
    if options.fit == "squash":
        scaled = network = only or (side, side)
    elif options.fit == "native":
        scaled, network = size, _padded(size)
        if not config.light:
            tile = tile or side
            network = max(network[0], tile), max(network[1], tile)
        elif tile is None:
            tile = TILE_SIDE if network[0] * network[1] > TILE_ABOVE else 0
    elif only is None:
        scaled = scaled_by(size, min(side / min(size), MAX_ASPECT * side / max(size)))
        network = _padded(scaled)
    else:
        scaled, network = scaled_by(size, min(only[0] / size[0], only[1] / size[1])), only
    tile = tile if tile and network != (tile, tile) and max(network) > tile else 0
    return Geometry(scaled, network, output_size(size, scaled, options.output), tile)


def _padded(size: Size) -> Size:
    width, height = (max(MIN_SIDE, -(-side // MULTIPLE) * MULTIPLE) for side in size)
    return width, height


def scaled_by(size: Size, factor: float) -> Size:
    """A size times a factor, no side below 1 pixel."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def output_size(size: Size, scaled: Size, wanted: str) -> Size:
    """The size of the result: `size` for same, `scaled` for model; beyond 65,500 pixels a side a UsageError."""
    if wanted == "same":
        return size
    if wanted == "model":
        return scaled
    match = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", wanted)
    if match is None:
        raise UsageError(
            f"unknown size {wanted!r}", "It is same, model, a number (512), or width x height (512x384)."
        )
    result = (int(match[1]), int(match[2])) if match[2] else scaled_by(size, int(match[1]) / min(size))
    if min(int(match[1]), *result) < 1 or max(result) > MAX_SIDE:
        here = f" ({result[0]}x{result[1]} pixels)" if max(result) > MAX_SIDE else ""
        raise UsageError(f"a size of {wanted}{here}", f"Sides go from 1 to {MAX_SIDE} pixels.")
    return result


def to_network(image: Image.Image, geometry: Geometry) -> Pixels:
    """An RGB picture as the network sees it: uint8 (H, W, 3)."""
    if image.size != geometry.scaled:
        image = image.resize(geometry.scaled, Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    if geometry.scaled == geometry.network:
        return pixels
    left, top = corner(geometry)
    (width, height), (across, down) = geometry.network, geometry.scaled
    right, bottom = width - across - left, height - down - top
    return np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="reflect")


def from_network(pixels: Pixels, geometry: Geometry) -> Image.Image:
    """The network's uint8 (H, W, 3) as an RGB picture of the output size."""
    left, top = corner(geometry)
    width, height = geometry.scaled
    image = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
    if image.size != geometry.output:
        image = image.resize(geometry.output, Image.Resampling.LANCZOS)
    return image


def corner(geometry: Geometry) -> tuple[int, int]:
    """Left and top of the picture in the network's input, where padding surrounds it."""
    (width, height), (across, down) = geometry.network, geometry.scaled
    return (width - across) // 2, (height - down) // 2


def tile_corners(size: Size, tile: int) -> Iterator[tuple[int, int]]:
    """Left and top of overlapping tiles that cover a size evenly, row by row, with at least a quarter of overlap.

    Of sizes and tiles that are multiples of 4 the corners are, too: tiles see the same places of strided layers.
    """
    for top in _starts(size[1], tile):
        for left in _starts(size[0], tile):
            yield left, top


def _starts(side: int, tile: int) -> list[int]:
    if side <= tile:
        return [0]
    step = tile * 3 // (4 * MULTIPLE) * MULTIPLE
    count = -(-(side - tile) // step) + 1
    inner = [i * (side - tile) // (count - 1) // MULTIPLE * MULTIPLE for i in range(count - 1)]
    return [*inner, side - tile]


def sampled(pixels: Pixels, tile: int, side: int) -> list[Pixels]:
    """Squares evenly spread over a picture, with as many pixels as a tile together; the picture, if it has no more.

    Args:
        pixels: (H, W, 3).
        side: that of the squares, or 0: small ones, as many as possible.
    """
    height, width = pixels.shape[:2]
    area = max(tile, LEAST_SAMPLE) ** 2
    if width * height <= area and not side:
        return [pixels]
    side = min(side or SAMPLE_SIDE, width, height)
    count = area / side**2
    across = max(1, round(math.sqrt(count * width / height)))
    down = max(1, int(count / across))
    places = [(x, y) for y in _middles(height, side, down) for x in _middles(width, side, across)]
    return [pixels[y : y + side, x : x + side] for x, y in dict.fromkeys(places)]


def _middles(length: int, side: int, count: int) -> list[int]:
    """Where squares begin that lie in the middle of equal parts of a length."""
    wanted = (round((i + 0.5) * length / count - side / 2) for i in range(count))
    return [max(0, min(length - side, start)) // MULTIPLE * MULTIPLE for start in wanted]


def tile_weights(width: int, height: int) -> NDArray[np.float32]:
    """How much each pixel of a tile counts, (height, width, 1): see `tile_weight`."""
    x, y = (tile_weight(np.arange(side) + 0.5, side) for side in (width, height))
    return np.minimum(y[:, None], x[None, :])[:, :, None]


def tile_weight(positions: NDArray[Any], side: int) -> NDArray[np.float32]:
    """How much a tile counts at pixels from its edge: there as much as at the outermost pixels, 0 beyond.

    Hardly in its outer sixteenth, where the network doesn't see what lies around; over the next two, more and more.
    """
    inside = np.clip(np.minimum(positions, side - positions), 0.5, None) / side
    weights = np.clip((inside - 1 / 16) * 8, LEAST_WEIGHT, 1)
    return np.where((positions >= 0) & (positions <= side), weights, 0).astype(np.float32)


OutputSize = Annotated[
    str | int | Size, "same, model, a number of pixels, or width and height: 512x384 or (512, 384)"
]
Tile = Annotated[str | int, "auto, off, or a number of pixels"]


def as_output(size: str | int | Size) -> str:
    """A size that may be stated as a number, or as width and height, as `SizeOptions.output` has it."""
    return "x".join(map(str, size)) if isinstance(size, tuple) else str(size)


def as_size(size: str | int | Size, name: str = "size") -> Size:
    """Width and height that may be stated as a text, or as one number for both.

    Args:
        name: of the option, for the error.

    Raises:
        UsageError: it says something else.
    """
    if match := re.fullmatch("([0-9]{1,5})(?:[xX]([0-9]{1,5}))?", as_output(size)):
        return int(match[1]), int(match[2] or match[1])
    raise UsageError(f"{name} {size}: unknown", "It is a number of pixels, or WIDTHxHEIGHT: 640x480.")


def as_tile(tile: str | int, name: str = "tile") -> int | None:
    """`auto`, `off` or a number of pixels, as `SizeOptions.tile` has it.

    Args:
        name: of the option, for the error.

    Raises:
        UsageError: it says something else.
    """
    if tile in ("auto", "off"):
        return 0 if tile == "off" else None
    if re.fullmatch("[1-9][0-9]{0,7}", str(tile)):
        return int(tile)
    raise UsageError(f"{name} {tile}: unknown", "It is auto, off, or a number of pixels.")


Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
Background = Annotated[
    Colour | str, Range(0, 255), "a colour: its name, #rrggbb, or (red, green, blue) with numbers from 0 to 255"
]


def as_colour(colour: Colour | str, name: str = "background") -> Colour:
    """A colour that may be stated by its name or as #rrggbb.

    Args:
        name: of the option, for the error.

    Raises:
        UsageError: no such colour.
    """
    if not isinstance(colour, str):
        return colour
    try:
        red, green, blue, *_ = ImageColor.getrgb(colour)
        bytes((red, green, blue))  # each is from 0 to 255, of which Pillow doesn't make sure
    except ValueError:
        raise UsageError(f"{name} {colour}: no such colour", "Use a name such as white, or #rrggbb.") from None
    return red, green, blue


def prepare(frame: Frame, geometry: Geometry, background: Colour) -> Pixels:
    """A frame as the network sees it: over the background, uint8 (H, W, 3) of the size `geometry.network`."""
    return to_network(reading.composite(frame, background), geometry)


def source_picture(frame: Frame, geometry: Geometry, background: Colour) -> Image.Image:
    """What was translated, as large as the result: RGB over the background."""
    return _resized(reading.composite(frame, background), geometry)


def source_frame(frame: Frame, geometry: Geometry, background: Colour) -> Frame:
    """What was translated, as large as the result, with its own alpha."""
    if frame.rgb.size == geometry.output:
        return frame
    picture = source_picture(frame, geometry, background)
    alpha = None if frame.alpha is None else _resized(frame.alpha, geometry)
    return reading.restore_alpha(picture, alpha, background)


def finish(
    translated: Pixels, alpha: Image.Image | None, geometry: Geometry, background: Colour, source: Frame | None = None
) -> Frame:
    """What the network gave as a frame of the output size, as transparent as its source where nothing was painted.

    Args:
        alpha: the source's.
        source: also shows where things got thinner.
    """
    picture = from_network(translated, geometry)
    if alpha is not None:
        enlarged = max(geometry.output[side] / alpha.size[side] for side in (0, 1))
        before = None if source is None else _resized(source.rgb, geometry)
        alpha = with_painted(_resized(alpha, geometry), picture, before, background, enlarged)
    return reading.restore_alpha(picture, alpha, background)


def _resized(picture: Image.Image, geometry: Geometry) -> Image.Image:
    return picture if picture.size == geometry.output else picture.resize(geometry.output, Image.Resampling.LANCZOS)

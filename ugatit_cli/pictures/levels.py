"""Greys of any depth, sign and range as the 256 levels that everything here works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Values = npt.NDArray[Any]

_SIGNED: Final = 2
_STRIP: Final = 256
_ENOUGH: Final = 1_000_000  # values that tell how all of them are spread


@dataclass(frozen=True)
class Samples:
    """What a file says of its values.

    Attributes:
        bits: of each; 0 where nothing tells.
        signed: they are integers that may be negative.
        inverted: white is the smallest one.
    """

    bits: int = 0
    signed: bool = False
    inverted: bool = False


def samples_of(image: Image.Image) -> Samples:
    """What the file of an open picture says of its values."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        # Pillow brings the greys of these to 16 bits.
        wide = image.mode.startswith("I;") or image.format in {"PNG", "PPM", "JPEG2000"}
        return Samples(bits=16 if wide else 0)
    return Samples(int(tags.get(258, (1,))[0]), tags.get(339, (1,))[0] == _SIGNED, tags.get(262) == 0)


def is_deep(image: Image.Image, head: bytes) -> bool:
    """Whether the file of an open picture, which begins with `head`, has more than 8 bits a channel.

    Pillow brings colours of PNG and PPM to 8 bits, and says so only of greys; those of AVIF, too, and says nothing.
    """
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        return True
    if image.format == "PPM":  # the largest value is the last argument of its decoder
        tiles: Any = getattr(image, "tile", ())
        return any(isinstance(one, int) and one > 255 for tile in tiles for one in tile[3] or ())
    if head[12:16] == b"IHDR":
        return head[24] == 16
    bits = getattr(image, "tag_v2", {}).get(258, ()) or (image.info.get("bit_depth", 8),)
    return bool(max(bits) > 8)


def eight_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    """Greys of another depth as L, or LA where one grey stands for transparent; other pictures as they are.

    Args:
        notes: gets a line where the range is a guess.
    """
    samples = samples_of(image)
    if image.mode == "L" and samples.signed:
        return image.point([(level + 128) % 256 for level in range(256)])
    if image.mode not in {"I", "F"} and not image.mode.startswith("I;"):
        return image
    values = np.asarray(image)
    if image.mode == "I" and samples.bits == 32 and not samples.signed:
        values = values.view(np.uint32)
    grey = Image.fromarray(to_levels(values, samples, notes))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))


def to_levels(values: Values, samples: Samples, notes: list[str]) -> npt.NDArray[np.uint8]:
    """Numbers of any type and shape as levels, white being 255.

    Args:
        notes: gets a line where the range is a guess.
    """
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        table = _scaled(np.arange(256**values.dtype.itemsize), 0, 2**samples.bits - 1)
        levels = np.asarray(table[values.astype(np.uint16, copy=False)])
    else:
        levels = _scaled(values, *_range(values, samples, notes))
    return 255 - levels if samples.inverted else levels


def _range(values: Values, samples: Samples, notes: list[str]) -> tuple[float, float]:
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)] if values.size else values
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        black, white, guessed = _float_range(low, high, finite[:: 1 + finite.size // _ENOUGH])
    else:
        low, high = int(values.min()), int(values.max())
        black, white, guessed = _integer_range(low, high, samples)
    if guessed:
        notes.append(f"its values from {low:g} to {high:g} are read as {black:g} (black) to {white:g} (white)")
    return black, white


def _scaled(values: Values, black: float, white: float) -> npt.NDArray[np.uint8]:
    levels = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _STRIP):  # or the numbers in between would need many times the memory
        with np.errstate(invalid="ignore"):  # where a NaN is of the signalling kind
            strip = values[top : top + _STRIP].astype(np.float64)
        strip = np.nan_to_num(strip, nan=black, posinf=white, neginf=black)
        levels[top : top + _STRIP] = np.round((np.clip(strip, black, white) - black) * (255 / (white - black)))
    return levels


def _integer_range(low: int, high: int, samples: Samples) -> tuple[float, float, bool]:
    """That of the type; of a type much too wide for them, that of the values. And whether it is a guess."""
    if not samples.bits and low < 0:  # of Pillow's own arrays
        low = 0
    if 0 < samples.bits <= 16 and not samples.signed:
        return 0, 2**samples.bits - 1, False
    if low >= 0 and high <= 255 and samples.bits != 8:
        return 0, 255, True
    if low >= 0 and high <= 65535 and samples.bits != 16:
        return 0, 65535, True
    bits = (samples.bits or 32) - samples.signed
    whole = (-(2**bits) if low < 0 else 0, 2**bits - 1)
    if (high - low) * 256 >= whole[1] - whole[0]:
        return *whole, samples.signed and low >= 0
    return *_spread(low, high), True


def _float_range(low: float, high: float, values: Values) -> tuple[float, float, bool]:
    """0 to 1 unless they say otherwise; few that lie far outside say nothing. And whether it is a guess."""
    if low >= 0 and high <= 1:
        return 0, 1, False
    within = float(np.mean((values >= 0) & (values <= 1)))
    whole_numbers = bool(np.all(values == np.round(values)))
    if not whole_numbers and (within > 0.9 or (low >= -0.25 and high <= 1.25)):
        return 0, 1, True
    for white in (255, 65535):
        if (whole_numbers and low >= 0 and high <= white) or (low >= -white / 4 and white / 2 < high <= white * 1.25):
            return 0, white, True
    if not whole_numbers and within > 0.5:
        return 0, 1, True
    return *_spread(*np.percentile(values, [0.1, 99.9])), True


def _spread(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (min(low, 0), max(high, 1))

"""What a PNG says of its colours without an ICC profile (gAMA, cHRM, cICP), as such a profile."""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Each x and y of white, red, green, blue.
_D65: Final = (0.3127, 0.329)
_SRGB: Final = (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_P3: Final = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
_SRGB_CURVE: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# By the numbers of ITU-T H.273. Screens show what is coded as BT.709 much as sRGB.
_PRIMARIES: Final = {
    1: _SRGB,
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, *_P3),
    12: (*_D65, *_P3),
}
_CURVES: Final = {**dict.fromkeys((1, 6, 13, 14, 15), _SRGB_CURVE), 4: (2.2,), 5: (2.8,), 8: (1.0,)}
_HDR: Final = {16: "PQ", 18: "HLG"}
# By how much a gamma and chromaticities may be off, and nobody sees it: libpng's, and rounding.
_LIKE_GAMMA, _LIKE_PLACE = 0.05, 0.005
_D50: Final = (0.9642, 1.0, 0.8249)
_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def of_gamma(info: Mapping[Any, Any]) -> bytes | None:
    """An ICC profile of what Pillow knows of gAMA and cHRM; None where that is sRGB, nothing, or makes no sense."""
    gamma, places = info.get("gamma"), info.get("chromaticity") or _SRGB
    if not gamma or "srgb" in info:
        return None
    with contextlib.suppress(ArithmeticError, TypeError, ValueError, struct.error), np.errstate(all="raise"):
        if abs(gamma * 2.2 - 1) < _LIKE_GAMMA and np.allclose(places, _SRGB, rtol=0, atol=_LIKE_PLACE):
            return None
        return _profile(tuple(places), (1 / gamma,))
    return None


def of_code_points(code: bytes, notes: list[str]) -> bytes | None:
    """An ICC profile of what cICP says; None where that is sRGB, or nothing that is known, which is noted."""
    if len(code) != 4:
        return None
    primaries, curve, matrix, full = code
    if primaries in _PRIMARIES and curve in _CURVES and (matrix, full) == (0, 1):
        known = _PRIMARIES[primaries], _CURVES[curve]
        return None if known == (_SRGB, _SRGB_CURVE) else _profile(*known)
    kind = f"of HDR ({_HDR[curve]})" if curve in _HDR else f"of a kind that isn't known ({'-'.join(map(str, code))})"
    notes.append(f"its colours are {kind}, and read as if they weren't: export it in sRGB")
    return None


@functools.cache
def _profile(places: tuple[float, ...], curve: tuple[float, ...]) -> bytes:
    """Of primaries, and a curve as ICC has it: a gamma, or that with what is linear below."""
    shape = b"para\0\0\0\0" + struct.pack(">HH", 3 if len(curve) > 1 else 0, 0) + _numbers(curve)
    columns = _adapted(places).T.tolist()
    tags = {b"wtpt": b"XYZ \0\0\0\0" + _numbers(_D50)}
    for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
        tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + _numbers(column), name + b"TRC": shape}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    return (head + _numbers(_D50)).ljust(128, b"\0") + table + body


def _numbers(values: Sequence[float]) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _adapted(places: tuple[float, ...]) -> NDArray[np.float64]:
    """XYZ of red, green and blue, (3, 3), one a column, under the white of ICC profiles."""
    x, y = np.array(places, float).reshape(4, 2).T
    white, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], 1)
    colours = np.stack(primaries, 1)
    colours = colours * np.linalg.solve(colours, white)
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.asarray(np.linalg.inv(_BRADFORD) @ (scale[:, None] * (_BRADFORD @ colours)))

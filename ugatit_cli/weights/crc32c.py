"""CRC-32C (RFC 3720, appendix B.4), as TensorFlow's checkpoints have it, at the speed of memory in plain NumPy.

A checksum is the remainder of the data, as a polynomial over GF(2), divided by one of degree 32. Adding a multiple of
that divisor changes no remainder. x^6128 + x^2783 + x^358 + 1 is one, and so it is with all exponents times 8 or 64.
It takes a unit of as many bits out at the cost of three exclusive ors, whole arrays at once, until 6,128 are left.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL: Final = 0x82F63B78  # bit-reversed: the lowest bit is that of x^31
DEGREE: Final = 6128
# How far behind a unit those lie that it is added to, the nearest first.
SHIFTS: Final = (DEGREE - 2783, DEGREE - 358, DEGREE)
CHUNK: Final = 1 << 20
ONES: Final = 0xFFFFFFFF

Bytes = NDArray[np.uint8]


def _byte_remainders() -> list[int]:
    remainders = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)  # a register
        remainders.append(value)
    return remainders


_TABLE: Final = _byte_remainders()


def crc32c(data: Bytes) -> int:
    """The checksum of some bytes, which are read once, in order, and not copied as a whole."""
    rest = np.empty(0, np.uint8)
    for start in range(0, data.size, CHUNK):
        rest = np.concatenate([rest, data[start : start + CHUNK]])
        if start == 0:
            rest[:4] ^= 0xFF  # what the register begins with
        if rest.size % 8 == 0:
            rest = _shortened(rest.view("<u8")).view(np.uint8)
    register = 0
    for value in _shortened(rest).tobytes():
        register = register >> 8 ^ _TABLE[(register ^ value) & 0xFF]
    # Of fewer than four bytes the register keeps some of its first bits.
    return register ^ ONES ^ (ONES >> 8 * data.size if data.size < 4 else 0)


def _shortened(units: NDArray[Any]) -> NDArray[Any]:
    """The last units, with the same remainder as all of them; overwrites what it is given."""
    end = units.size - DEGREE
    for start in range(0, end, SHIFTS[0]):
        stop = min(start + SHIFTS[0], end)
        for shift in SHIFTS:
            units[start + shift : stop + shift] ^= units[start:stop]
    return units[max(end, 0) :]


def masked(checksum: int) -> int:
    """As TensorFlow stores a checksum, so that one of data that holds checksums is none of zeros."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & ONES

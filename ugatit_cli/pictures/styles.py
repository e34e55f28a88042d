"""Styles as numbers, by which a network that has many translations of a picture chooses one of them."""

from __future__ import annotations

import re
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ugatit_cli.errors import UsageError

StyleCode = NDArray[np.float32]
"""(size,) float32: a picture's style."""


MOST_SEED: Final = 999_999_999


def seed_of(text: str) -> int | None:
    """What `random` (0) and `random:SEED` name; None: the text names something else, a picture.

    Raises:
        UsageError: `random:` and no seed.
    """
    if text == "random":
        return 0
    if not text.startswith("random:"):
        return None
    if re.fullmatch("random:[0-9]{1,9}", text):
        return int(text.removeprefix("random:"))
    raise UsageError(f"style {text}: no such seed", "A seed is a whole number of up to nine digits: random:7")


def random_style(pixels: NDArray[np.uint8], size: int, seed: int = 0) -> StyleCode:
    """A picture's own style, drawn from N(0, 1): decided by its bytes and a seed, on every machine.

    Args:
        pixels: (H, W, 3), as the network takes them.
        size: numbers of a style.
        seed: any other one gives another style; at least 0.
    """
    entropy = np.random.SeedSequence([seed, zlib.crc32(pixels.tobytes())])
    # Unlike that of newer generators, its stream is the same in all versions of NumPy.
    numbers = np.random.RandomState(np.random.MT19937(entropy))
    return numbers.standard_normal(size).astype(np.float32)

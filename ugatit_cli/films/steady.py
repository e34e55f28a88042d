"""Against flicker: where a film hardly changes, its translation doesn't either.

A network sees each frame alone, and answers noise that nobody notices with changes that everybody does. So a pixel
of the result is mixed with that of the last one, by as much as the source around it is what it was: recursively, as
temporal noise reduction does, with the source as the guide. Where anything moves, the result is the translation
alone, so nothing leaves a trail.

Measured on two clips of 40 frames with the bundled model (docs/films.md). Dropped there: to replay the statistics of
the first frame's norms and poolings in all others, which changed flicker by 3 % and colours by far more; and to
compare each source with the last one rather than with its average, which left trails.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from PIL import Image, ImageFilter

from ugatit_cli.pictures.geometry import Pixels

# Levels of 255 by which a cell of the source may differ until little of the last result is kept.
_CHANGE: Final = 8.0
# Cells along the short side: large enough to average a camera's noise out.
_CELLS: Final = 64
# Cells around a change that count as changed: a network sees further than a pixel.
_AROUND: Final = 3


class Steadier:
    """Mixes each result of a film with those before.

    Args:
        amount: how much of the last one is kept where nothing changes: at least 0, less than 1.
    """

    def __init__(self, amount: float) -> None:
        self._amount = amount
        self._source: Pixels | None = None
        self._result: Pixels | None = None

    def steadied(self, result: Image.Image, source: Image.Image) -> Image.Image:
        """The next result as it is to be shown.

        Args:
            result, source: RGB, of any two sizes, which stay the same.
        """
        if not self._amount:
            return result
        seen = np.asarray(source.reduce(math.ceil(min(source.size) / _CELLS)), np.float32)
        made = np.asarray(result, np.float32)
        if self._source is None or self._result is None:
            self._source, self._result = seen, made
            return result
        kept = self._kept(seen)
        self._source = kept[:, :, None] * self._source + (1 - kept)[:, :, None] * seen
        wide = np.asarray(Image.fromarray(kept).resize(result.size, Image.Resampling.BILINEAR))[:, :, None]
        self._result = wide * self._result + (1 - wide) * made
        return Image.fromarray(np.round(self._result).astype(np.uint8))

    def _kept(self, seen: Pixels) -> Pixels:
        """How much of the last result is kept, (h, w) for cells (h, w, 3) of the source."""
        away = Image.fromarray(np.abs(seen - self._source).max(2)).filter(ImageFilter.MaxFilter(_AROUND))
        kept: Pixels = (self._amount * np.exp(-((np.asarray(away) / _CHANGE) ** 2))).astype(np.float32)
        return kept

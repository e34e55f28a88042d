"""How much of a translation shows: mixed with its source, or in the source's colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageChops

from ugatit_cli.errors import UsageError
from ugatit_cli.pictures.reading import Frame, strips

# Of red, green and blue, as W3C's Compositing and Blending has them.
_LUMA: Final = np.array([0.3, 0.59, 0.11], np.float32)


@dataclass(frozen=True)
class Look:
    """What becomes of a translation before anybody sees it; by default, nothing.

    Attributes:
        strength: 0: the source's pixels; 1: the translation's; between them, a mixture.
        keep_colour: the translation's light and dark with the source's hue and saturation.
    """

    strength: float = 1.0
    keep_colour: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            hint = "It goes from 0, the source, to 1, the translation."
            raise UsageError(f"a strength of {self.strength:g}", hint)

    @property
    def needs_source(self) -> bool:
        """Whether a picture can't be made of its translation alone."""
        return self.keep_colour or self.strength < 1

    def applied(self, result: Frame, source: Frame) -> Frame:
        """The translation as it is to look; neither of the two is changed.

        What it has painted on transparent ground has no colour in the source, and what it has left of the ground none
        in the result: that is as opaque as `strength` says, or as it leaves.

        Args:
            result, source: of the same size.
        """
        if not self.needs_source:
            return result
        if result.rgb.size != source.rgb.size:
            raise ValueError(f"a result of {result.rgb.size}, a source of {source.rgb.size}")
        if not self.strength:
            return Frame(source.rgb.copy(), source.alpha)
        own, new, alpha = source.rgb, result.rgb, result.alpha
        if source.alpha and alpha and ImageChops.difference(source.alpha, alpha).getbbox():
            own, new = own.copy(), new.copy()
            own.paste(result.rgb, mask=ImageChops.subtract(alpha, source.alpha))
            new.paste(source.rgb, mask=ImageChops.subtract(source.alpha, alpha))
            alpha = Image.blend(source.alpha, alpha, self.strength)
        shown = Image.new("RGB", result.rgb.size)
        for box in strips(shown.size):  # float32 needs four times the memory
            before, after = own.crop(box), new.crop(box)
            if self.keep_colour:
                after = _relit(before, after)
            shown.paste(Image.blend(before, after, self.strength), box)
        return Frame(shown, alpha)


def _relit(colours: Image.Image, light: Image.Image) -> Image.Image:
    """Colours with another picture's luma: the `luminosity` of W3C's Compositing and Blending Level 1, 10.2."""
    own, wanted = (np.asarray(picture, np.float32) @ _LUMA for picture in (colours, light))
    away = np.asarray(colours, np.float32) - own[:, :, None]
    # How far a colour may be from grey of that luma, along its hue, is where its first channel meets 0 or 255.
    room = np.where(away > 0, 255 - wanted[:, :, None], wanted[:, :, None])
    share = np.divide(room, np.abs(away), out=np.ones_like(away), where=np.abs(away) > room)
    relit = wanted[:, :, None] + away * share.min(axis=2, keepdims=True)
    return Image.fromarray(np.round(relit).clip(0, 255).astype(np.uint8))

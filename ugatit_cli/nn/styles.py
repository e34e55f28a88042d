"""Styles: the numbers by which a network that has many translations of a picture chooses one of them."""

from __future__ import annotations

import re
import zlib
from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ugatit_cli.device import sent
from ugatit_cli.errors import UsageError
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network

StyleCode = NDArray[np.float32]
"""(size,) float32: a picture's style."""


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


def picture_styles(x: Tensor, size: int, seed: int = 0) -> Tensor:
    """Each picture's `random_style`, whatever batch it comes in.

    Args:
        x: (N, 3, H, W) in [-1, 1].

    Returns:
        (N, size) float32, on the device of `x`.
    """
    pixels = x.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    styles = [random_style(one, size, seed) for one in pixels.permute(0, 2, 3, 1).cpu().numpy()]
    return sent(torch.from_numpy(np.stack(styles)), x.device)


class StyledNetwork(Network):
    """A translator with styles, as all are of a method whose `style_size` isn't 0.

    Attributes:
        style_size: numbers of a style.
    """

    style_size: int

    @abstractmethod
    def styled(self, x: Tensor, style: Tensor) -> Translation:
        """Translates pictures, (N, 3, H, W) in [-1, 1], each in a style: (N, style_size) float32."""

    def forward(self, x: Tensor, style: Tensor | None = None) -> Translation:
        """The same; without styles, each picture has its own random one."""
        return self.styled(x, picture_styles(x, self.style_size) if style is None else style)

"""Networks whose translations have styles; see `pictures.styles`."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from ugatit_cli.device import sent
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network
from ugatit_cli.pictures.styles import random_style


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

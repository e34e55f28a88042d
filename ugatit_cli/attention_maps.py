"""Where a network looks, as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ugatit_cli import colormaps
from ugatit_cli.errors import UsageError

ALPHA = 0.6


def normalise(heatmap: Tensor) -> Tensor:
    """Stretches each picture's attention over [0, 1], by its minimum and maximum as the official code does.

    Args:
        heatmap: (N, 1, h, w) float, as a network returns it.

    Returns:
        (N, 1, h, w) float32 in [0, 1]; zeros where a picture's attention is the same everywhere or not finite.
    """
    heatmap = heatmap.float()
    low = heatmap.amin((1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    span = heatmap.amax((1, 2, 3), keepdim=True) - low
    usable = (span > 0) & span.isfinite()
    return torch.where(usable, (heatmap - low) / torch.where(usable, span, 1.0), 0.0)


def enlarge(heatmap: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 1, h, w) float -> (N, 1, H, W), bilinear; `size` is (H, W)."""
    return F.interpolate(heatmap, size, mode="bilinear", align_corners=False)


def overlay(
    picture: npt.NDArray[np.uint8],
    heat: npt.NDArray[Any],
    alpha: float = ALPHA,
    colormap: str = colormaps.DEFAULT,
) -> npt.NDArray[np.uint8]:
    """A picture with attention as colours over it.

    Args:
        picture: uint8 (H, W, 3).
        heat: float (H, W) in [0, 1].
        alpha: how much of the colours shows: 0 is the picture, 1 the colours alone.
        colormap: see `colormaps.colour`.

    Returns:
        uint8 (H, W, 3).

    Raises:
        UsageError: `alpha` is out of range, or there is no such colour map.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha {alpha} is out of range", "Use a number from 0 to 1.")
    colours = colormaps.colour(heat, colormap).astype(np.float32)
    return np.asarray(np.rint(picture * np.float32(1 - alpha) + colours * np.float32(alpha)), np.uint8)

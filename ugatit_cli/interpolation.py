"""Feature maps between pixels: where cells lie in a picture, and what a map says between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ugatit_cli.errors import UsageError

Upsampling = Literal["bilinear", "bicubic"]
UPSAMPLINGS: tuple[Upsampling, ...] = get_args(Upsampling)

Floats = npt.NDArray[np.float32]

# The cubic of PyTorch's and most libraries' "bicubic".
CUBIC = -0.75


@dataclass(frozen=True)
class Grid:
    """Where the cells of a feature map lie along a side of the network's input, in pixels.

    Attributes:
        stride: from one cell's centre to the next.
        first: from the picture's edge to the centre of the first cell.
    """

    stride: int
    first: float

    def centres(self, cells: int) -> Floats:
        """(cells,) in pixels from the edge."""
        return np.asarray(self.first + self.stride * np.arange(cells), np.float32)


def sample(values: Floats, grid: Grid, rows: Floats, columns: Floats, method: Upsampling = "bilinear") -> Floats:
    """What a feature map says at points that lie on rows and columns.

    Beyond the outermost cells' centres it goes on as it is there.

    Args:
        values: float32 (h, w).
        rows, columns: positions (H,) and (W,) in pixels from the edges of the network's input.

    Returns:
        float32 (H, W).

    Raises:
        UsageError: no such method.
    """
    halfway = _mixed(values, *_taps(rows, values.shape[0], grid, method))  # (H, w)
    return _mixed(halfway.T, *_taps(columns, values.shape[1], grid, method)).T


def _mixed(values: Floats, indices: npt.NDArray[np.intp], weights: Floats) -> Floats:
    """Sums of rows of `values`."""
    result: Floats = weights[:, :1] * values[indices[:, 0]]
    for k in range(1, weights.shape[1]):
        result += weights[:, k : k + 1] * values[indices[:, k]]
    return result


def _taps(positions: Floats, cells: int, grid: Grid, method: Upsampling) -> tuple[npt.NDArray[np.intp], Floats]:
    """The cells that each position takes its value from, and how much of each: both (positions, 2 or 4)."""
    place = (positions - grid.first) / grid.stride
    left = np.floor(place)
    share = (place - left).astype(np.float32)
    if method == "bilinear":
        offsets, weights = np.array([0, 1]), np.stack([1 - share, share], 1)
    elif method == "bicubic":
        offsets, weights = np.array([-1, 0, 1, 2]), _cubic(share)
    else:
        raise UsageError(f"no up-sampling {method!r}", f"Use {' or '.join(UPSAMPLINGS)}.")
    indices = np.clip(left.astype(np.intp)[:, None] + offsets, 0, cells - 1)
    return indices, weights


def _cubic(share: npt.NDArray[Any]) -> Floats:
    """Weights (n, 4) of the cells around a place (Keys 1981)."""
    near, far = np.stack([share, 1 - share], 1), np.stack([1 + share, 2 - share], 1)
    inner = ((CUBIC + 2) * near - (CUBIC + 3)) * near * near + 1
    outer = ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC
    return np.stack([outer[:, 0], inner[:, 0], inner[:, 1], outer[:, 1]], 1)

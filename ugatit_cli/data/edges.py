"""Cartoons without their clear edges, which CartoonGAN's discriminator learns to refuse (Chen et al. 2018, section
3.2.1).

Edges are found, widened and blurred as by the port of U-GAT-IT's first author, which has OpenCV for it; to the pixel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ugatit_cli.data.pictures import Array

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int32]

WEAK, STRONG = 100, 200
# tan 22.5 degrees in units of 2**-15; tan 67.5 degrees is that and 2.
FRACTION = 15
TAN_22 = 13573
# Luma of ITU-R BT.601 in units of 2**-15.
LUMA = np.array([9798, 19235, 3735], np.int32)


def edge_smoothed(picture: Array) -> Array:
    """A picture with a Gaussian blur of 5x5 pixels wherever an edge is within two pixels.

    Args:
        picture: uint8 (H, W, 3) RGB, at least 3x3 pixels.

    Returns:
        uint8 (H, W, 3), equal to `picture` away from edges.
    """
    return np.where(dilated(canny(grey(picture)))[..., None], blurred(picture), picture)


def grey(picture: Array) -> Array:
    """Luma: uint8 (H, W, 3) RGB -> uint8 (H, W)."""
    return (picture @ LUMA + (1 << FRACTION - 1) >> FRACTION).astype(np.uint8)


def canny(luma: Array) -> Mask:
    """Edges by Canny: thresholds 100 and 200 of |dx| + |dy| by 3x3 Sobel kernels.

    Args:
        luma: uint8 (H, W).

    Returns:
        (H, W), what is an edge.
    """
    dx, dy = _sobel(luma)
    size = np.abs(dx) + np.abs(dy)
    thin = _thinned(np.pad(size, 1), dx, dy)
    return _followed(thin & (size > WEAK), thin & (size > STRONG))


def _sobel(luma: Array) -> tuple[Integers, Integers]:
    """Gradients to the right and down, borders repeated: two of (H, W)."""
    around = np.pad(luma.astype(np.int32), 1, "edge")
    down = around[:-2] + 2 * around[1:-1] + around[2:]  # (H, W + 2)
    across = around[:, :-2] + 2 * around[:, 1:-1] + around[:, 2:]  # (H + 2, W)
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def _thinned(size: Integers, dx: Integers, dy: Integers) -> Mask:
    """Where a gradient is the largest along its direction, of four.

    Args:
        size: (H + 2, W + 2), of the gradients and 0 around them.
        dx, dy: (H, W).
    """

    def beside(down: int, right: int) -> Integers:
        return size[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    height, width = dx.shape
    own = beside(0, 0)
    x, y = np.abs(dx), np.abs(dy) << FRACTION
    bound = x * TAN_22
    flat, steep = y < bound, y > bound + (x << FRACTION + 1)
    # Of two equal ones side by side OpenCV keeps the first.
    horizontal = (own > beside(0, -1)) & (own >= beside(0, 1))
    vertical = (own > beside(-1, 0)) & (own >= beside(1, 0))
    falling = (own > beside(-1, -1)) & (own > beside(1, 1))
    rising = (own > beside(-1, 1)) & (own > beside(1, -1))
    diagonal = np.where((dx ^ dy) < 0, rising, falling)
    return np.where(flat, horizontal, np.where(steep, vertical, diagonal))


def _followed(weak: Mask, strong: Mask) -> Mask:
    """Strong pixels, and those weak ones that a chain of weak neighbours, of eight, joins to them; all (H, W)."""
    open_, edges = np.pad(weak, 1), np.pad(strong, 1)
    width = edges.shape[1]
    around = np.array([down * width + right for down in (-1, 0, 1) for right in (-1, 0, 1)])
    open_flat, edges_flat = (open_ & ~edges).ravel(), edges.ravel()
    front = np.flatnonzero(edges_flat)
    while front.size:
        near = (front[:, None] + around).ravel()
        front = np.unique(near[open_flat[near]])
        open_flat[front] = False
        edges_flat[front] = True
    return edges[1:-1, 1:-1]


def dilated(edges: Mask) -> Mask:
    """Whether an edge is within two pixels, in a square: (H, W) -> (H, W)."""
    for _ in range(2):
        padded = np.pad(edges, ((2, 2), (0, 0)))
        edges = np.logical_or.reduce([padded[i : i + len(edges)] for i in range(5)]).T
    return edges


def blurred(picture: Array) -> Array:
    """By OpenCV's Gaussian of 5x5 pixels, mirrored at the border pixels and rounded down: uint8 (H, W, 3) -> same."""
    x = np.pad(picture.astype(np.uint16), ((2, 2), (2, 2), (0, 0)), "reflect")
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        x = np.moveaxis(x[:-4] + x[4:] + 4 * (x[1:-3] + x[3:-1]) + 6 * x[2:-2], 0, axis)
    return (x >> 8).astype(np.uint8)  # 255 * 256 fits into 16 bits

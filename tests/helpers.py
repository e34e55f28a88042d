"""Pictures of noise in every form that tests need, the same each time, no two alike; and strict JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ugatit_cli.pictures.geometry import Geometry, Pixels


def pixels(width: int, height: int, seed: int = 0) -> Pixels:
    """uint8 (height, width, 3)."""
    return np.random.default_rng([seed, width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB image."""
    return Image.fromarray(pixels(width, height, seed))


def images(*shape: int, seed: int = 0) -> Tensor:
    """float32 of any shape, (N, 3, H, W) for a network, in [-1, 1]."""
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1


def bytes_images(*shape: int, seed: int = 0) -> Tensor:
    """uint8 of any shape, (N, 3, H, W) as training data are."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def whole(width: int, height: int, tile: int = 0) -> Geometry:
    """A picture that goes through the network as large as it is."""
    return Geometry((width, height), (width, height), (width, height), tile)


def strict_json(data: bytes) -> dict[str, Any]:
    """An object without NaN and infinities, which no standard knows."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(data, parse_constant=refuse)
    assert isinstance(document, dict)
    return document

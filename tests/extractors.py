"""Extractors that are small enough for tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ugatit_cli.metrics.features import Extractor


def tiny_extractor(name: str = "tiny network, 6 features", seed: int = 0) -> Extractor:
    """Random convolutions, the same every time; draws from no global random numbers."""
    source = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 3, 5, 5, generator=source)

    def network(pictures: Tensor) -> Tensor:
        return F.conv2d(pictures.float() / 255, weight, stride=4).relu().mean((2, 3))

    return Extractor(name, 6, torch.device("cpu"), network)

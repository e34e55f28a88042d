"""Networks in use for a moment in the midst of their training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode again."""
    networks = list(networks)
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training

"""A generator as a graph that needs nothing of this package: pictures in, pictures out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ugatit_cli.config import BaseConfig
from ugatit_cli.exporting.store import CAM_LOGIT, HEATMAP, PICTURE, STYLE, TRANSLATION
from ugatit_cli.nn.layers import Network

# Of the picture that light generators are traced with; small, and not square.
TRACED = (32, 36)


class Portable(nn.Module):
    """A generator for pictures in [0, 1].

    Args:
        generator: in evaluation mode.
        maps: give the attention, too, if there is any.
    """

    def __init__(self, generator: Network, *, maps: bool) -> None:
        super().__init__()
        self.generator = generator
        self.maps = maps

    def forward(self, picture: Tensor, style: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Translates.

        Args:
            picture: (N, 3, H, W) float32, RGB in [0, 1].
            style: (N, style_size) float32, of generators that have styles.

        Returns:
            (N, 3, H, W) float32 in [0, 1]; with maps a tuple: this, the heatmap (N, 1, H/4, W/4) float32 and, of CAM,
            the logits (N, 2) float32.
        """
        image, logit, heatmap = self.generator(picture * 2 - 1, *([] if style is None else [style]))
        translation: Tensor = ((image + 1) / 2).clamp(0, 1)
        found = (translation, heatmap, logit) if self.maps else (translation,)
        tensors = tuple(one for one in found if one is not None)
        return tensors if self.maps else translation


def input_names(config: BaseConfig) -> list[str]:
    """What goes in."""
    return [PICTURE, STYLE] if config.style_size else [PICTURE]


def output_names(config: BaseConfig, *, maps: bool) -> list[str]:
    """What comes out; a mask has no logits."""
    found = [HEATMAP] if config.masks else [HEATMAP, CAM_LOGIT]
    return [TRANSLATION, *(found if maps else [])]


def inputs(config: BaseConfig, picture: Tensor) -> tuple[Tensor, ...]:
    """Pictures, and styles of theirs if the model has any: the same every time."""
    if not config.style_size:
        return (picture,)
    random = torch.Generator().manual_seed(0)
    return picture, torch.randn(len(picture), config.style_size, generator=random)


def traced(portable: Portable, config: BaseConfig) -> torch.jit.ScriptModule:
    """The graph, for any number of pictures, of any size if the model is light.

    In a trace, layers do without what only PyTorch has on CPUs.
    """
    size: Sequence[int] = TRACED if config.light else (config.image_size, config.image_size)
    random = torch.Generator().manual_seed(0)
    example = inputs(config, torch.rand(2, 3, *size, generator=random))
    with torch.no_grad(), silent():
        result: torch.jit.ScriptModule = torch.jit.trace(  # type: ignore[no-untyped-call]
            portable, example, check_trace=False
        )
    return result


@contextmanager
def silent() -> Iterator[None]:
    """Without the warnings of traces: that they go one way at each branch, and that they are an old means."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

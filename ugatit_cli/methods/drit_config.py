"""Sizes of DRIT's networks; without torch, since `ugatit train --help` lists its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from ugatit_cli.config import MAX_BLOCKS, MAX_CHANNELS, MAX_IMAGE_SIZE, BaseConfig
from ugatit_cli.fields import Option, Range

STYLE_SIZE: Final = 8
SCALES: Final = 3
# Pixels that one scale of a discriminator needs: of less, reflection padding has a single pixel to mirror.
SMALLEST_SCALE: Final = 16
# The content discriminator: its strided layers, and the side of the map that its last one needs.
CONTENT_LAYERS: Final = 3
SMALLEST_MAP: Final = 4

StyleWay = Literal["concat", "transform"]


@dataclass(frozen=True, slots=True)
class DRITConfig(BaseConfig):
    """Sizes of all networks of DRIT.

    Args:
        domain_a, domain_b, image_size, ways: as in `BaseConfig`; the authors train with crops of 216 pixels.
        channels: channels of the content encoders' first layer (the authors: 64).
        blocks: residual blocks of a domain's content encoder, and of its generator (the authors: 3); one more that
            both domains share, or of `transform` one more in each generator.
        discriminator_channels: channels of the discriminators' first layer (the authors: 64).
        style_way: how generators are told a style: `concat` puts it beside their features (the authors' choice where
            shapes stay); `transform` transforms these by it (where shapes change).
        style_channels: of the hidden layers that make the transforms (the authors: 256).

    Raises:
        ConfigError: a value is out of range or doesn't fit the others.
    """

    method: ClassVar[str] = "drit"

    image_size: Annotated[int, Range(16, MAX_IMAGE_SIZE)] = 216
    blocks: Annotated[int, Range(0, MAX_BLOCKS)] = 3
    discriminator_channels: Annotated[int, Range(1, MAX_CHANNELS)] = 64
    style_way: Annotated[
        StyleWay,
        Option("Model", "How generators are told a style: concat where shapes stay, transform where they change."),
    ] = "concat"
    style_channels: Annotated[int, Range(1, 16 * MAX_CHANNELS)] = 256

    @property
    def features(self) -> int:
        """Channels of a content code."""
        return 4 * self.channels

    @property
    def style_size(self) -> int:
        """Numbers of a style."""
        return STYLE_SIZE

    @property
    def scales(self) -> int:
        """Of each domain discriminator: the authors' three, fewer below 64 pixels."""
        return sum(self.image_size >= SMALLEST_SCALE << scale for scale in range(SCALES))

    @property
    def content_layers(self) -> int:
        """Strided layers of the content discriminator: the authors' three, fewer where no answer would be left."""
        side, layers = self.image_size // 4, 0
        while layers < CONTENT_LAYERS and (side := (side - 5) // 2 + 1) >= SMALLEST_MAP:
            layers += 1
        return layers

    @property
    def smallest_training(self) -> tuple[int, str]:
        """See `BaseConfig`."""
        return 16, "discriminator"

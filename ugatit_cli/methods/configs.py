"""Sizes of the networks of all methods but U-GAT-IT and DRIT; without torch, since exported models tell them, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from ugatit_cli.config import MAX_BLOCKS, MAX_CHANNELS, BaseConfig, MapName, Ways
from ugatit_cli.errors import ConfigError
from ugatit_cli.fields import Option, Range

# Of UNIT's and MUNIT's discriminators.
SCALES: Final = 3
# Pixels that one scale needs: of less, reflection padding has a single pixel to mirror.
SMALLEST_SCALE: Final = 16
# Numbers of MUNIT's styles.
STYLE_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class CycleGANConfig(BaseConfig):
    """Sizes of both generators and both discriminators of CycleGAN.

    Args:
        domain_a, domain_b, image_size, ways: as in `BaseConfig`.
        channels: channels of the generators' first layer (the paper: 64).
        blocks: residual blocks of a generator (the paper: 9, and 6 for pictures of 128 px).
        discriminator_channels: channels of the discriminators' first layer (the paper: 64).

    Raises:
        ConfigError: a value is out of range or doesn't fit the others.
    """

    method: ClassVar[str] = "cyclegan"

    blocks: Annotated[int, Range(0, MAX_BLOCKS), Option("Model", "Residual blocks.")] = 9
    discriminator_channels: Annotated[
        int,
        Range(1, MAX_CHANNELS),
        Option("Model", "Channels of the discriminators' first layer.", default="as --channels"),
    ] = 64

    @property
    def smallest_training(self) -> tuple[int, str]:
        """Pixels a side that training needs at least: of less, a discriminator leaves no patch."""
        return 24, "discriminator"


@dataclass(frozen=True, slots=True)
class CartoonGANConfig(BaseConfig):
    """Sizes of CartoonGAN's networks.

    Args:
        domain_a, domain_b, image_size, channels: as in `BaseConfig`; photos are domain A, cartoons domain B.
        blocks: residual blocks (the paper: 8).
        ways: always `a2b`.
        discriminator_channels: channels of the discriminator's first layer (the paper: 32).

    Raises:
        ConfigError: a value is out of range or doesn't fit the others.
    """

    method: ClassVar[str] = "cartoongan"
    trained_ways: ClassVar[Ways] = "a2b"
    discriminator_share: ClassVar[float] = 0.5

    blocks: Annotated[int, Range(0, MAX_BLOCKS), Option("Model", "Residual blocks.")] = 8
    ways: Ways = "a2b"
    discriminator_channels: Annotated[
        int, Range(1, MAX_CHANNELS), Option("Model", "Channels of the discriminator's first layer.")
    ] = 32

    def __post_init__(self) -> None:
        BaseConfig.__post_init__(self)
        if self.ways != "a2b":
            raise ConfigError("CartoonGAN translates one way, from photos to cartoons", "ways must be 'a2b'.")


@dataclass(frozen=True, slots=True)
class CodeConfig(BaseConfig):
    """Sizes of encoders, decoders and discriminators.

    Args:
        domain_a, domain_b, image_size, ways: as in `BaseConfig`.
        channels: channels of the encoders' first layer (the authors: 64).
        blocks: residual blocks of an encoder, and as many of a decoder (the authors: 4).
        discriminator_channels: channels of the discriminators' first layer (the authors: 64).

    Raises:
        ConfigError: a value is out of range or doesn't fit the others.
    """

    blocks: Annotated[int, Range(0, MAX_BLOCKS), Option("Model", "Residual blocks.")] = 4
    discriminator_channels: Annotated[
        int,
        Range(1, MAX_CHANNELS),
        Option("Model", "Channels of the discriminators' first layer.", default="as --channels"),
    ] = 64

    @property
    def features(self) -> int:
        """Channels of a content code."""
        return 4 * self.channels

    @property
    def scales(self) -> int:
        """Of each discriminator: the authors' three, fewer below 64 pixels."""
        return sum(self.image_size >= SMALLEST_SCALE << scale for scale in range(SCALES))


@dataclass(frozen=True, slots=True)
class UNITConfig(CodeConfig):
    """Sizes of UNIT's networks; see `CodeConfig`."""

    method: ClassVar[str] = "unit"


@dataclass(frozen=True, slots=True)
class MUNITConfig(CodeConfig):
    """Sizes of MUNIT's networks; see `CodeConfig`."""

    method: ClassVar[str] = "munit"

    @property
    def style_size(self) -> int:
        """Numbers of a style."""
        return STYLE_SIZE


@dataclass(frozen=True, slots=True)
class AGGANConfig(BaseConfig):
    """Sizes of AGGAN's networks.

    Args:
        domain_a, domain_b, image_size, ways: as in `BaseConfig`.
        channels: channels of the first layer of generators and attention networks (the authors: 32).
        blocks: residual blocks of a generator (the authors: 9).
        discriminator_channels: channels of the discriminators' first layer (the authors: 64).

    Raises:
        ConfigError: a value is out of range or doesn't fit the others.
    """

    method: ClassVar[str] = "aggan"
    discriminator_share: ClassVar[float] = 2.0

    channels: Annotated[int, Range(1, MAX_CHANNELS), Option("Model", "Channels of the first layer.")] = 32
    blocks: Annotated[int, Range(0, MAX_BLOCKS), Option("Model", "Residual blocks.")] = 9
    discriminator_channels: Annotated[
        int,
        Range(1, MAX_CHANNELS),
        Option("Model", "Channels of the discriminators' first layer.", default="twice --channels"),
    ] = 64

    @property
    def masks(self) -> bool:
        """Whether attention is a mask: it is."""
        return True

    def lacks(self, name: MapName) -> str | None:
        """Why the networks have no attention map of a name; None: they have it."""
        return None if name == "generator" else "its discriminators have none"

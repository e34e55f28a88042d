"""What a model is: every size and switch of its networks, in one validated dataclass a method."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from ugatit_cli.arguments import checked
from ugatit_cli.errors import ConfigError, UsageError
from ugatit_cli.fields import Option, Range, check_ranges, check_types

Variant = Literal["light", "full"]
Dialect = Literal["pytorch", "tensorflow"]
DecoderNorm = Literal["adalin", "in", "ln", "adain", "gn"]
Discriminators = Literal["both", "local"]
Ways = Literal["both", "a2b"]
Direction = Literal["a2b", "b2a"]
Domain = Literal["a", "b"]
Scale = Literal["local", "global"]
Precision = Literal["fp32", "bf16", "fp16"]
Fit = Literal["aspect", "native", "squash"]
MapName = Literal["generator", "local", "global"]
Order = Literal["shuffled", "zipped", "drawn-b", "drawn-smaller"]

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
DOMAINS: tuple[Domain, ...] = get_args(Domain)
SCALES: tuple[Scale, ...] = get_args(Scale)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
FITS: tuple[Fit, ...] = get_args(Fit)
MAPS: tuple[MapName, ...] = get_args(MapName)

DEFAULT_MODEL: Final = "ink2clay"
"""The bundled model that is taken where none is named."""

# Refused before memory is allocated: no real model comes near these.
MAX_IMAGE_SIZE, MAX_CHANNELS, MAX_BLOCKS, MAX_DEPTH = 4096, 1024, 64, 10


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """What models of every method have.

    Args:
        domain_a, domain_b: names of the two domains, used by `--to NAME`.
        image_size: side in pixels the model was trained at, a multiple of 4.
        channels: of the translators' first layer.
        blocks: residual blocks; of what, says the method.
        ways: `a2b`: the model translates from A to B only.

    Raises:
        ConfigError: a value is out of range or doesn't fit the others.
    """

    method: ClassVar[str]
    trained_ways: ClassVar[Ways] = "both"
    # Channels of discriminators for one of the generators, if users don't say otherwise.
    discriminator_share: ClassVar[float] = 1.0

    domain_a: str = "a"
    domain_b: str = "b"
    image_size: Annotated[
        int,
        Range(16, MAX_IMAGE_SIZE),
        Option(
            "Model",
            "Side of the training pictures: half is four times as fast, and less fine.",
            metavar="PX",
            default="256; drit: 216",
        ),
    ] = 256
    channels: Annotated[
        int,
        Range(1, MAX_CHANNELS),
        Option("Model", "Width of the networks: half is four times as fast, and coarser.", default="64; aggan: 32"),
    ] = 64
    blocks: Annotated[
        int,
        Range(0, MAX_BLOCKS),
        Option(
            "Model",
            "Residual blocks; of ugatit twice as many in all.",
            default="4; cyclegan, aggan: 9; cartoongan: 8; drit: 3",
        ),
    ] = 4
    ways: Ways = "both"

    def __post_init__(self) -> None:
        check_types(self, type(self))
        check_ranges(self, type(self))
        if self.image_size % 4:
            nearest = f"The nearest is {4 * round(self.image_size / 4)}."
            raise ConfigError(f"image_size is {self.image_size}; it must be a multiple of 4", nearest)
        for name, value in (("domain_a", self.domain_a), ("domain_b", self.domain_b)):
            if not value or value.strip() != value or not value.isprintable() or set(value) & set("/\\,:"):
                raise ConfigError(f"{name} is {value!r}; a domain name is plain text without / \\ , :")
        if self.domain_a.casefold() == self.domain_b.casefold():
            raise ConfigError(f"both domains are named {self.domain_a!r}; they must differ")

    @classmethod
    @checked
    def usual_discriminator_channels(cls, channels: Annotated[int, Range(1, MAX_CHANNELS)]) -> int:
        """Those of discriminators for so many channels of generators, if users don't say otherwise."""
        return max(1, round(cls.discriminator_share * channels))

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Those that the model translates in."""
        return DIRECTIONS if self.ways == "both" else ("a2b",)

    @property
    def only_way(self) -> str:
        """What a model of one way says to who asks for the other."""
        return f"this model translates {self.domain_a} to {self.domain_b} only, not back"

    @property
    def light(self) -> bool:
        """Whether it translates pictures of any size; if not, of `image_size` only."""
        return True

    @property
    def style_size(self) -> int:
        """Numbers of a style; 0: there is one translation of a picture only."""
        return 0

    @property
    def pair(self) -> str:
        """Both domains: `horses <-> zebras`, or `->` where there is one way only."""
        return f"{self.domain_a} {'<->' if self.ways == 'both' else '->'} {self.domain_b}"

    @property
    def summary(self) -> str:
        """What the networks are, in a line."""
        return f"{self.method}, {self.channels} channels, {self.blocks} blocks, {self.image_size} px"

    @property
    def critics(self) -> str:
        """Which discriminators there are, where there are any."""
        return "yes"

    @checked
    def lacks(self, name: MapName) -> str | None:  # noqa: ARG002  # it has none of any name
        """Why the networks have no attention map of a name; None: they have it."""
        return f"its method, {self.method}, has none"

    @property
    def masks(self) -> bool:
        """Whether the generators' attention is a mask: 0 where a picture stays as it is, 1 where it is replaced."""
        return False

    @property
    def smallest_training(self) -> tuple[int, str]:
        """Pixels a side that training needs at least, and what needs them."""
        return 16, "generator"

    @checked
    def source(self, direction: Direction) -> str:
        """Name of the domain that a direction starts from."""
        return self.domain_a if direction == "a2b" else self.domain_b

    @checked
    def target(self, direction: Direction) -> str:
        """Name of the domain that a direction leads to."""
        return self.domain_b if direction == "a2b" else self.domain_a

    @checked
    def direction_to(self, domain: str) -> Direction:
        """The direction that leads to a domain, by its name (case doesn't matter).

        Raises:
            UsageError: neither domain has that name, or the model doesn't translate into it.
        """
        for direction in self.directions:
            if self.target(direction).casefold() == domain.casefold():
                return direction
        if domain.casefold() == self.domain_a.casefold():
            raise UsageError(self.only_way)
        domains = f"Its domains are {self.domain_a!r} and {self.domain_b!r}."
        one_way = f"It translates {self.domain_a!r} to {self.domain_b!r} only."
        raise UsageError(f"this model has no domain {domain!r}", domains if self.ways == "both" else one_way)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values; `ways` and `discriminators` only where they aren't `both`.

        Versions of this package that don't know those fields refuse them, and yet read all models that have both.
        """
        values = dataclasses.asdict(self)
        for name in ("ways", "discriminators"):
            if values.get(name) == "both":
                del values[name]
        return values


@dataclass(frozen=True, slots=True)
class ModelConfig(BaseConfig):
    """Sizes and switches of both generators and all discriminators of U-GAT-IT.

    Args:
        domain_a, domain_b, image_size, ways: as in `BaseConfig`.
        channels: channels of the generator's first layer (the paper: 64).
        blocks: residual blocks in the encoder, and as many AdaLIN blocks in the decoder (the paper: 4).
        variant: `light` feeds the style MLP the averaged feature map and so runs at any picture size;
            `full` feeds it the whole map and runs at `image_size` only.
        dialect: which official code the network follows where they differ (norm variance, encoder affine,
            biases, CAM weight sharing, discriminator padding).
        rho_smoothing: AdaLIN uses clip(rho - 0.1, 0, 1) (the TensorFlow code's default).
        decoder_norm: norm of the decoder; all but `adalin` are the paper's ablations.
        generator_cam, discriminator_cam: the CAM modules, off in the paper's ablations.
        discriminators: of each domain: `both`, the local and the global one; `local`: that one alone, as CycleGAN.
        discriminator_channels: channels of the discriminators' first layer (the paper: 64).
        local_layers, global_layers: depth of the discriminators as the official PyTorch code counts it (the
            paper: 5 and 7); by default the global one gets as many, up to 7, as `image_size` allows.

    Raises:
        ConfigError: a value is out of range or doesn't fit the others.
    """

    method: ClassVar[str] = "ugatit"

    variant: Annotated[
        Variant, Option("Model", "light runs at any picture size; full is the paper's.", before="image_size")
    ] = "light"
    dialect: Dialect = "pytorch"
    rho_smoothing: bool = False
    decoder_norm: Annotated[
        DecoderNorm, Option("Model", "How the decoder takes the style in; all but adalin are ablations.")
    ] = "adalin"
    generator_cam: Annotated[bool, Option("Model", "Attention in the generators.", default="with")] = True
    discriminator_cam: Annotated[bool, Option("Model", "Attention in the discriminators.", default="with")] = True
    discriminator_channels: Annotated[
        int,
        Range(1, MAX_CHANNELS),
        Option(
            "Model",
            "Channels of the discriminators' first layer.",
            default="as --channels; cartoongan: half; aggan: twice",
            before="decoder_norm",
        ),
    ] = 64
    local_layers: Annotated[int, Range(3, MAX_DEPTH)] = 5
    global_layers: Annotated[int, Range(3, MAX_DEPTH)] = 0
    discriminators: Annotated[Discriminators, Option("Model", "Local and global ones, or local ones alone.")] = "both"

    def __post_init__(self) -> None:
        check_types(self, ModelConfig)
        if self.global_layers == 0:
            object.__setattr__(self, "global_layers", default_global_layers(self.image_size))
        BaseConfig.__post_init__(self)
        if self.decoder_norm == "gn" and self.channels % 8:
            raise ConfigError(f"channels is {self.channels}; group norm needs a multiple of 8")

    @property
    def features(self) -> int:
        """Channels of the bottleneck feature map."""
        return 4 * self.channels

    @property
    def light(self) -> bool:
        """Whether generators run at any picture size."""
        return self.variant == "light"

    @property
    def summary(self) -> str:
        """What the networks are, in a line: sizes, and what differs from the paper's."""
        switches = [] if self.decoder_norm == "adalin" else [f"{self.decoder_norm} norm"]
        switches += [] if self.generator_cam else ["no CAM"]
        switches += ["smoothed rho"] if self.rho_smoothing else []
        sizes = f"{self.channels} channels, {self.blocks} + {self.blocks} blocks, {self.image_size} px"
        return ", ".join([self.method, self.variant, sizes, f"{self.dialect} dialect", *switches])

    @property
    def critics(self) -> str:
        """Which discriminators there are, where there are any."""
        kinds = "yes" if self.discriminators == "both" else "local only"
        return kinds if self.discriminator_cam else f"{kinds}, no CAM"

    @property
    def adaptive(self) -> bool:
        """Whether the decoder takes its style (gamma, beta) from the MLP."""
        return self.decoder_norm in ("adalin", "adain")

    @property
    def unbiased_variance(self) -> bool:
        """Whether AdaLIN and LIN divide by n - 1, as the PyTorch code does."""
        return self.dialect == "pytorch"

    @property
    def conv_bias(self) -> bool:
        """Whether generator convolutions that a LIN, AdaLIN or tanh follows have a bias."""
        return self.dialect == "tensorflow"

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Those of the discriminators that each domain has."""
        return SCALES if self.discriminators == "both" else ("local",)

    @checked
    def lacks(self, name: MapName) -> str | None:
        """Why the networks have no attention map of a name; None: they have it."""
        if name == "generator":
            return None if self.generator_cam else "its generators have no CAM"
        if not self.discriminator_cam:
            return "its discriminators have no CAM"
        return None if name in self.scales else "it has local discriminators only"

    @property
    def smallest_training(self) -> tuple[int, str]:
        """Pixels a side that training needs at least, and what needs them."""
        return max((self.smallest(scale), f"{scale} discriminator") for scale in self.scales)

    @checked
    def layers(self, scale: Scale) -> int:
        """Depth of the discriminator of one scale."""
        return self.local_layers if scale == "local" else self.global_layers

    @checked
    def smallest(self, scale: Scale) -> int:
        """Pixels a side that the discriminator of one scale needs at least, for its reflection padding."""
        return 3 << (self.layers(scale) - 2)


def default_global_layers(image_size: int) -> int:
    """Depth of the global discriminator: the paper's 7 where its reflection padding has at least two pixels.

    Each strided layer halves the map and two stride-1 layers shrink it by one; at 96 px and above 7 fit.
    """
    depth = 7
    while depth > 3 and image_size < 3 * 2 ** (depth - 2):
        depth -= 1
    return depth

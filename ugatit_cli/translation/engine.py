"""What translating asks of a model, whatever runs its networks; neither this nor the pipeline imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Annotated, Any, NamedTuple, Protocol, Self

from PIL import Image

from ugatit_cli.arguments import Checked
from ugatit_cli.attention.maps import Floats, Logits
from ugatit_cli.config import BaseConfig, Direction, Fit, MapName
from ugatit_cli.fields import Range
from ugatit_cli.pictures.geometry import Colour, Pixels
from ugatit_cli.pictures.styles import StyleCode

# A picture of any mode, or a file.
Source = Image.Image | str | PathLike[str]
# What the public interface takes: `resolve_direction` says best which there are.
Way = Annotated[Direction, Checked(str)]
OptionalWay = Annotated[Direction | None, Checked(str | None)]
Cores = Annotated[int, Range(1, 4096)]
# A map's values (h, w) float32 and its two CAM logits; a mask has none.
Heat = tuple[Floats, Logits | None]


class Seen(NamedTuple):
    """What networks make of one picture: uint8 (H, W, 3), and maps, of which nobody has said yet where cells lie."""

    pixels: Pixels
    heats: Mapping[MapName, Heat]


class Begun(Protocol):
    """Pictures on their way through networks."""

    @property
    def late(self) -> bool:
        """Whether a device is at them, and takes the next ones meanwhile."""

    def finished(self) -> list[Seen] | None:
        """The results, once they are there; None: they aren't numbers."""


class Networks(Protocol):
    """The networks of one direction, and those that look at their translations."""

    def begin(self, batch: Sequence[Pixels], styles: Sequence[StyleCode], size: int) -> Begun:
        """Sends pictures of one size on their way.

        Args:
            batch: uint8 (H, W, 3) each.
            styles: of each picture; none if the model has none.
            size: how many of them the generator takes at once.

        Raises:
            MemoryError: there isn't enough for so many.
            DeviceError: the device can't do it.
        """

    def for_parts_of(self, sample: Sequence[Pixels], styles: Sequence[StyleCode]) -> Self:
        """The same for parts of a picture of which this is a sample, so that they are translated alike.

        Raises:
            MemoryError: there isn't enough for the sample.
        """

    def free(self) -> None:
        """Gives back memory that is only kept for later, after some was short."""


class Engine(Protocol):
    """A model whose networks something runs: PyTorch (`Model`), or onnxruntime (`ExportedModel`).

    Several threads may use one at once.

    Attributes:
        name: what messages call the model.
        provenance: where the weights come from: plain JSON values.
    """

    name: str
    config: BaseConfig
    provenance: Mapping[str, Any]

    @property
    def missing_maps(self) -> Mapping[MapName, str]:
        """The attention maps that it can't show, each with the reason."""

    @property
    def on_cpu(self) -> bool:
        """Whether the networks compute on the CPU, whose cores the threads of the pipeline want, too."""

    @property
    def place(self) -> str:
        """Where they compute, for people: `cuda:0 (NVIDIA H100)`, `cpu (2 threads)`."""

    @property
    def float_type(self) -> str:
        """In which they do, for people: `bf16, compiled`."""

    @property
    def cores(self) -> int:
        """How many CPU threads they take when the calling thread uses them."""

    def use_cores(self, count: Cores) -> None:
        """Sets that, for as long as the thread lives."""

    def networks(self, direction: Direction, maps: Sequence[MapName] = (), *, tiled: bool = False) -> Networks:
        """The networks of a direction, and those that some maps need; reads their weights.

        Args:
            tiled: whether they are given parts of pictures.

        Raises:
            ModelError: the weights can't be read.
        """

    def style(
        self,
        image: Source,
        direction: Direction | None = None,
        *,
        fit: Fit = "aspect",
        background: Colour = (255, 255, 255),
        max_pixels: int | None = None,
    ) -> StyleCode:
        """The style of a picture of the domain that a direction leads to.

        Raises:
            UsageError: there is nothing that tells it.
            PictureError: the picture can't be read.
        """

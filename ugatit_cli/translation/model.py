"""A model ready to use: networks on a device in a precision, and pictures through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

import torch
from PIL import Image

from ugatit_cli.attention.maps import AttentionMaps, Spans, chosen_maps, missing_maps
from ugatit_cli.config import DIRECTIONS, DOMAINS, Direction, Domain, Fit, MapName, ModelConfig, Precision, Scale
from ugatit_cli.device import DTYPES, resolve_device, resolve_precision
from ugatit_cli.errors import UsageError
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.pictures import geometry, reading
from ugatit_cli.pictures.geometry import WHITE, Colour, Geometry, Pixels, SizeOptions, finish, prepare, source_picture
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.translation import passes
from ugatit_cli.translation.passes import Translated
from ugatit_cli.weights.folder import ModelFolder

# Pixels in one batch when nobody says otherwise: 32 pictures of 256 x 256 fill a GPU. A CPU gains nothing from
# batches and takes one picture at a time, which keeps its caches warm.
BATCH_PIXELS = 32 * 256 * 256
MAX_BATCH = 64


class Model:
    """Both generators and, where there are any, the discriminators. Networks are loaded when first asked for.

    Made by `ugatit_cli.load` and `ugatit_cli.new`.

    Attributes:
        name: what messages call it.
        config: sizes and switches of the networks.
        provenance: where the weights come from.
        has_discriminators: whether there are any.
        device, precision: where and in which float type the networks run.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        *,
        make_generator: Callable[[Direction], Generator],
        make_discriminator: Callable[[Domain, Scale], Discriminator],
        has_discriminators: bool = True,
        reproducible: bool = False,
        provenance: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.name = name
        self.config = config
        self.has_discriminators = has_discriminators
        self.provenance = dict(provenance or {})
        self.device = resolve_device(device)
        self.precision: Precision = resolve_precision(precision, self.device)
        self._make_generator = make_generator
        self._make_discriminator = make_discriminator
        self._generators: dict[Direction, Generator] = {}
        self._discriminators: dict[tuple[Domain, Scale], Discriminator] = {}
        self._reproducible = reproducible
        self._folded: dict[tuple[Domain, Scale], Discriminator] = {}

    @classmethod
    def from_folder(cls, name: str, folder: ModelFolder, *, device: str = "auto", precision: str = "auto") -> Model:
        """A model whose networks are read from a model folder; their weights don't ask for gradients."""
        return cls(
            name,
            folder.config,
            make_generator=lambda direction: folder.generator(direction).requires_grad_(False),
            make_discriminator=lambda domain, scale: folder.discriminator(domain, scale).requires_grad_(False),
            has_discriminators=folder.discriminators is not None,
            reproducible=True,
            provenance=folder.provenance,
            device=device,
            precision=precision,
        )

    @classmethod
    def untrained(cls, config: ModelConfig, *, device: str = "auto", precision: str = "auto") -> Model:
        """A model with new weights, N(0, 0.02) as in the paper; in training mode."""
        return cls(
            "untrained",
            config,
            make_generator=lambda _: Generator(config),
            make_discriminator=lambda _, scale: Discriminator(config, scale),
            device=device,
            precision=precision,
        )

    def generator(self, direction: Direction = "a2b") -> Generator:
        """The generator of a direction, on the model's device.

        Its call takes float (N, 3, H, W) in [-1, 1] and returns `(image, cam_logit, heatmap)`, see `GeneratorOutput`.

        Raises:
            UsageError: no such direction.
            ModelError: its weights can't be read.
        """
        if direction not in DIRECTIONS:
            raise UsageError(f"unknown direction {direction!r}", f"It is one of: {', '.join(DIRECTIONS)}.")
        if direction not in self._generators:
            generator = self._make_generator(direction).set_precision(DTYPES[self.precision])
            self._generators[direction] = generator.to(self.device).to(memory_format=torch.channels_last)
        return self._generators[direction]

    def discriminator(self, domain: Domain, scale: Scale) -> Discriminator:
        """The discriminator of a domain and scale, in float32, on the model's device.

        Its call takes float (N, 3, H, W) in [-1, 1] and returns `(logit, cam_logit, heatmap)`, see
        `DiscriminatorOutput`.

        Raises:
            UsageError: the model has no such domain or scale.
            ModelError: the model has no discriminators.
        """
        if domain not in DOMAINS or scale not in self.config.scales:
            known = f"Domains: a, b. Scales: {', '.join(self.config.scales)}."
            raise UsageError(f"no discriminator ({domain!r}, {scale!r})", known)
        if (domain, scale) not in self._discriminators:
            discriminator = self._make_discriminator(domain, scale)
            self._discriminators[domain, scale] = discriminator.to(self.device)
            self._folded.pop((domain, scale), None)  # this one may be trained from now on
        return self._discriminators[domain, scale]

    def looking_discriminator(self, domain: Domain, scale: Scale) -> Discriminator:
        """The same for looking only: faster, and in the model's precision, unless `discriminator` has given it away.

        Raises:
            ModelError: the model has no discriminators.
        """
        if not self._reproducible or (domain, scale) in self._discriminators:
            return self.discriminator(domain, scale)
        if (domain, scale) not in self._folded:
            folded = self._make_discriminator(domain, scale).fold(DTYPES[self.precision])
            self._folded[domain, scale] = folded.to(self.device).to(memory_format=torch.channels_last)
        return self._folded[domain, scale]

    @overload
    def translate(
        self,
        image: Image.Image,
        direction: Direction = ...,
        *,
        fit: Fit = ...,
        size: str = ...,
        tile: int | None = ...,
        background: Colour = ...,
    ) -> Image.Image: ...

    @overload
    def translate(
        self,
        image: Sequence[Image.Image],
        direction: Direction = ...,
        *,
        fit: Fit = ...,
        size: str = ...,
        tile: int | None = ...,
        background: Colour = ...,
    ) -> list[Image.Image]: ...

    def translate(
        self,
        image: Image.Image | Sequence[Image.Image],
        direction: Direction = "a2b",
        *,
        fit: Fit = "aspect",
        size: str = "same",
        tile: int | None = None,
        background: Colour = WHITE,
    ) -> Image.Image | list[Image.Image]:
        """Translates pictures of any mode and size.

        Args:
            image: one picture, or several.
            direction: `a2b` or `b2a`.
            fit, size, tile: see `SizeOptions` (`size` is its `output`).
            background: RGB colour put behind transparent pixels while translating.

        Returns:
            RGB pictures, RGBA where the input has transparency; of the input's size unless `size` says otherwise.

        Raises:
            PictureError: a picture can't be decoded, or doesn't fit into memory.
            TypeError: something else than pictures.
            UsageError: an option makes no sense.
        """
        pictures = [image] if isinstance(image, Image.Image) else list(image)
        jobs = _planned(pictures, self.config, SizeOptions(fit, tile, size))
        results = [
            _flattened(finish(seen.pixels, frame.alpha, plan, background))
            for (frame, plan), seen in zip(jobs, self._look_at(jobs, direction, background, ()), strict=True)
        ]
        return results[0] if isinstance(image, Image.Image) else results

    def _look_at(
        self,
        jobs: Sequence[tuple[Frame, Geometry]],
        direction: Direction,
        background: Colour,
        maps: Sequence[MapName],
    ) -> list[Translated]:
        results: dict[int, Translated] = {}
        for indices in self._batches([plan for _, plan in jobs]):
            pixels = [prepare(*jobs[i], background) for i in indices]
            seen = self.look(pixels, direction, [jobs[i][1] for i in indices], maps)
            results |= zip(indices, seen, strict=True)
        return [results[i] for i in range(len(jobs))]

    def _batches(self, plans: Sequence[Geometry]) -> Iterator[list[int]]:
        """Indices of pictures that go through the network together."""
        groups: dict[tuple[geometry.Size, int], list[int]] = {}
        for i, plan in enumerate(plans):
            groups.setdefault((plan.network, plan.tile), []).append(i)
        for indices in groups.values():
            step = self.batch_size(plans[indices[0]])
            yield from (indices[first : first + step] for first in range(0, len(indices), step))

    @property
    def max_batch(self) -> int:
        """The most pictures that `batch_size` ever says."""
        return 1 if self.device.type == "cpu" else MAX_BATCH

    def batch_size(self, plan: Geometry) -> int:
        """How many pictures of one network size to translate at once, when nobody says otherwise."""
        return self.batch_of(plan.tile**2 or plan.network[0] * plan.network[1])

    def batch_of(self, area: int) -> int:
        """The same by the number of pixels that the network sees at once."""
        return max(1, min(self.max_batch, BATCH_PIXELS // area))

    def translate_pixels(self, batch: Sequence[Pixels], direction: Direction, plan: Geometry) -> list[Pixels]:
        """Translates pictures that are already of the network's size.

        Args:
            batch: uint8 (H, W, 3) each, all of the size `plan.network`.

        Returns:
            uint8 (H, W, 3) each.

        Raises:
            PictureError: not enough memory for even one of them.
        """
        return [one.pixels for one in self.look(batch, direction, [plan] * len(batch))]

    def look(
        self,
        batch: Sequence[Pixels],
        direction: Direction,
        plans: Sequence[Geometry],
        maps: Sequence[MapName] = (),
        at_once: int = 0,
    ) -> list[Translated]:
        """As `translate_pixels`, and tells where the networks look meanwhile.

        Args:
            plans: that of each picture; their network sizes and tiles are equal.
            maps: those to return; a discriminator's is left out where the picture is too small for it.
            at_once: pictures that the generator takes in one go; 0: all. Discriminators take all.

        Raises:
            PictureError: not enough memory for even one of them.
            ModelError: the model doesn't have such a map.
        """
        return passes.look(self, batch, direction, plans, maps, at_once)

    @property
    def missing_maps(self) -> dict[MapName, str]:
        """The attention maps that this model can't show, each with the reason."""
        return missing_maps(self.config, discriminators=self.has_discriminators)

    def attention_maps(
        self,
        images: Image.Image | Sequence[Image.Image],
        direction: Direction = "a2b",
        *,
        maps: str | Sequence[MapName | Literal["all"]] = "all",
        normalize: Literal["image", "batch"] = "image",
        fit: Fit = "aspect",
        size: str = "same",
        tile: int | None = None,
        background: Colour = WHITE,
    ) -> AttentionMaps:
        """Where the networks look on pictures of any mode and size, and the translations.

        Args:
            images: one picture, or several.
            maps: `generator`, `local`, `global` (discriminators of the target domain); `all`: those that it has.
            normalize: `image`: each map fills [0, 1] by its own lowest and highest value; `batch`: by the lowest and
                highest value of that map over all pictures, so that pictures compare.
            direction, fit, size, tile, background: as in `translate`.

        Raises:
            ModelError: the model doesn't have one of the maps, or none at all.
            PictureError, TypeError, UsageError: as in `translate`; no such map.
        """
        if normalize not in ("image", "batch"):
            raise UsageError(f"unknown normalize {normalize!r}", "It is image or batch.")
        names = [maps] if isinstance(maps, str) else maps
        chosen = chosen_maps(names, self.config, discriminators=self.has_discriminators, name=self.name)
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        jobs = _planned(pictures, self.config, SizeOptions(fit, tile, size))
        seen = self._look_at(jobs, direction, background, chosen)
        pairs = list(zip(jobs, seen, strict=True))
        spans = Spans.of(one.maps for one in seen) if normalize == "batch" else None
        return AttentionMaps(
            direction,
            tuple(source_picture(frame, plan, background) for (frame, plan) in jobs),
            tuple(geometry.from_network(one.pixels, plan) for (_, plan), one in pairs),
            tuple(one.maps for one in seen),
            self.missing_maps,
            spans,
        )


def _planned(
    pictures: Sequence[Image.Image], config: ModelConfig, options: SizeOptions
) -> list[tuple[Frame, Geometry]]:
    if not all(isinstance(picture, Image.Image) for picture in pictures):
        raise TypeError("a PIL image or a list of them is needed; open files with PIL.Image.open")
    frames = [reading.from_pil(picture).frames[0] for picture in pictures]
    return [(frame, geometry.plan_geometry(frame.rgb.size, config, options)) for frame in frames]


def _flattened(frame: Frame) -> Image.Image:
    """RGB, or RGBA where there is transparency."""
    if frame.alpha is not None:
        frame.rgb.putalpha(frame.alpha)
    return frame.rgb

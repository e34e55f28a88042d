"""A model ready to use: networks on a device in a precision, and pictures through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from PIL import Image

from ugatit_cli import geometry, images
from ugatit_cli.checkpoint import ModelFolder
from ugatit_cli.config import (
    DIRECTIONS,
    DOMAINS,
    SCALES,
    Direction,
    Domain,
    Fit,
    ModelConfig,
    Precision,
    Scale,
)
from ugatit_cli.device import DTYPES, is_out_of_memory, resolve_device, resolve_precision
from ugatit_cli.errors import PictureError, UsageError
from ugatit_cli.geometry import Geometry, Pixels, SizeOptions
from ugatit_cli.images import Frame
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
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
        device, precision: where and in which float type the networks run.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        *,
        make_generator: Callable[[Direction], Generator],
        make_discriminator: Callable[[Domain, Scale], Discriminator],
        provenance: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.name = name
        self.config = config
        self.provenance = dict(provenance or {})
        self.device = resolve_device(device)
        self.precision: Precision = resolve_precision(precision, self.device)
        self._make_generator = make_generator
        self._make_discriminator = make_discriminator
        self._generators: dict[Direction, Generator] = {}
        self._discriminators: dict[tuple[Domain, Scale], Discriminator] = {}

    @classmethod
    def from_folder(cls, name: str, folder: ModelFolder, *, device: str = "auto", precision: str = "auto") -> Model:
        """A model whose networks are read from a model folder; their weights don't ask for gradients."""
        return cls(
            name,
            folder.config,
            make_generator=lambda direction: folder.generator(direction).requires_grad_(False),
            make_discriminator=lambda domain, scale: folder.discriminator(domain, scale).requires_grad_(False),
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
            UsageError: no such domain or scale.
            ModelError: the model has no discriminators.
        """
        if domain not in DOMAINS or scale not in SCALES:
            raise UsageError(f"no discriminator ({domain!r}, {scale!r})", "Domains: a, b. Scales: local, global.")
        if (domain, scale) not in self._discriminators:
            discriminator = self._make_discriminator(domain, scale)
            self._discriminators[domain, scale] = discriminator.to(self.device)
        return self._discriminators[domain, scale]

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
        options = SizeOptions(fit, tile, size)
        pictures = [image] if isinstance(image, Image.Image) else list(image)
        if not all(isinstance(picture, Image.Image) for picture in pictures):
            raise TypeError("translate takes a PIL image or a list of them; open files with PIL.Image.open")
        frames = [images.from_pil(picture).frames[0] for picture in pictures]
        plans = [geometry.plan_geometry(frame.rgb.size, self.config, options) for frame in frames]
        results: dict[int, Image.Image] = {}
        for indices in self._batches(plans):
            pixels = [prepare(frames[i], plans[i], background) for i in indices]
            translated = self.translate_pixels(pixels, direction, plans[indices[0]])
            for i, one in zip(indices, translated, strict=True):
                results[i] = _flattened(finish(one, frames[i].alpha, plans[i], background))
        return results[0] if isinstance(image, Image.Image) else [results[i] for i in range(len(plans))]

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
        side = plan.tile
        area = side * side if side else plan.network[0] * plan.network[1]
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
        if plan.tile:
            return [self._translate_tiles(pixels, direction, plan) for pixels in batch]
        return self._within_memory(batch, direction)

    def _translate_tiles(self, pixels: Pixels, direction: Direction, plan: Geometry) -> Pixels:
        height, width = pixels.shape[:2]
        corners = list(geometry.tile_corners((width, height), plan.tile))
        weights = geometry.tile_weights(min(plan.tile, width), min(plan.tile, height))
        total = np.zeros((height, width, 3), np.float32)
        share = np.zeros((height, width, 1), np.float32)
        step = self.batch_size(plan)
        for start in range(0, len(corners), step):
            places = [(slice(y, y + plan.tile), slice(x, x + plan.tile)) for x, y in corners[start : start + step]]
            for place, tile in zip(
                places, self._within_memory([pixels[place] for place in places], direction), strict=True
            ):
                total[place] += tile * weights
                share[place] += weights
        return np.asarray(np.rint(total / share), dtype=np.uint8)

    def _within_memory(self, batch: Sequence[Pixels], direction: Direction) -> list[Pixels]:
        """Halves the batch as long as it doesn't fit into memory."""
        try:
            return self._forward(batch, direction)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if len(batch) == 1:
            height, width = batch[0].shape[:2]
            raise PictureError(
                f"not enough memory on {self.device} for {width}x{height} pixels at once", "Use --tile 512."
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        return self._within_memory(batch[:half], direction) + self._within_memory(batch[half:], direction)

    def _forward(self, batch: Sequence[Pixels], direction: Direction) -> list[Pixels]:
        generator = self.generator(direction)  # outside of inference mode, or it could never be trained
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(batch)).to(self.device)  # (N, H, W, 3) uint8
            x = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)  # (N, 3, H, W) in [-1, 1], channels last
            image = generator(x).image.add_(1).mul_(127.5).round_().clamp_(0, 255)
            if not image.isfinite().all():
                raise PictureError(
                    f"the network's result is not a number (NaN) in {self.precision}",
                    "Use --precision fp32; if that doesn't help, the model is damaged.",
                )
            return list(image.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


def prepare(frame: Frame, plan: Geometry, background: Colour) -> Pixels:
    """A frame as the network sees it: over the background, uint8 (H, W, 3) of the size `plan.network`."""
    return geometry.to_network(images.composite(frame, background), plan)


def finish(translated: Pixels, alpha: Image.Image | None, plan: Geometry, background: Colour) -> Frame:
    """What the network gave as a frame of the output size, with the alpha that its source had."""
    if alpha is not None and alpha.size != plan.output:
        alpha = alpha.resize(plan.output, Image.Resampling.LANCZOS)
    return images.restore_alpha(geometry.from_network(translated, plan), alpha, background)


def _flattened(frame: Frame) -> Image.Image:
    """RGB, or RGBA where there is transparency."""
    if frame.alpha is not None:
        frame.rgb.putalpha(frame.alpha)
    return frame.rgb

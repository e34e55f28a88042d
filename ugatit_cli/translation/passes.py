"""Pictures of the network's size through the networks, once: translations, and where the networks look meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from ugatit_cli.attention.maps import AttentionMap, Floats, Maps, cells_of, grid_of, sample
from ugatit_cli.config import SCALES, Direction, Domain, MapName, ModelConfig, Precision, Scale
from ugatit_cli.device import is_out_of_memory
from ugatit_cli.errors import ModelError, PictureError
from ugatit_cli.nn.discriminator import Discriminator, DiscriminatorOutput
from ugatit_cli.nn.generator import Generator, GeneratorOutput
from ugatit_cli.nn.layers import evaluating
from ugatit_cli.pictures import geometry
from ugatit_cli.pictures.geometry import Geometry, Pixels

# A map's values (h, w) float32 and its two CAM logits.
Heat = tuple[Floats, tuple[float, float]]


class Networks(Protocol):
    """What a pass needs of a `Model`."""

    name: str
    config: ModelConfig
    device: torch.device
    precision: Precision

    @property
    def missing_maps(self) -> dict[MapName, str]:
        """Maps that the networks can't show, with the reason."""

    def generator(self, direction: Direction) -> Generator:
        """That of a direction."""

    def looking_discriminator(self, domain: Domain, scale: Scale) -> Discriminator:
        """That of a domain and scale."""

    def batch_of(self, area: int) -> int:
        """How many pictures of so many pixels to take at once."""


@dataclass(frozen=True, eq=False)
class Translated:
    """What a pass gives for one picture.

    Attributes:
        pixels: uint8 (H, W, 3), the translation.
        maps: those that were asked for and exist.
    """

    pixels: Pixels
    maps: Maps


@dataclass(frozen=True, eq=False)
class Seen:
    """The same before anyone has said where in the picture the maps' cells lie."""

    pixels: Pixels
    heats: Mapping[MapName, Heat]


def look(
    model: Networks,
    batch: Sequence[Pixels],
    direction: Direction,
    plans: Sequence[Geometry],
    maps: Sequence[MapName],
    at_once: int = 0,
) -> list[Translated]:
    """See `Model.look`."""
    for name in maps:
        if name in model.missing_maps:
            raise ModelError(f"{model.name}: no {name} attention: {model.missing_maps[name]}")
    run = NetworkPass(model, direction, maps, at_once)
    tiled = plans[0].tile > 0
    seen = [run.tiles(pixels, plans[0].tile) for pixels in batch] if tiled else run.within_memory(batch)
    return [Translated(one.pixels, run.placed(one, plan)) for one, plan in zip(seen, plans, strict=True)]


class NetworkPass:
    """The networks of one direction: the generator, and those discriminators that are to look at its translation."""

    def __init__(self, model: Networks, direction: Direction, maps: Sequence[MapName], at_once: int = 0) -> None:
        self.model = model
        self.maps = maps
        self.at_once = at_once
        target: Domain = "b" if direction == "a2b" else "a"
        # Outside of inference mode, or they could never be trained.
        self.generator = model.generator(direction)
        self.discriminators = {scale: model.looking_discriminator(target, scale) for scale in SCALES if scale in maps}

    def placed(self, seen: Seen, plan: Geometry) -> Maps:
        """The maps of a picture that lies in the network's input as planned."""
        config = self.model.config
        return {
            name: AttentionMap(name, values, logits, grid_of(config, name), plan)
            for name, (values, logits) in seen.heats.items()
        }

    def tiles(self, pixels: Pixels, side: int) -> Seen:
        """A picture in overlapping tiles, which are blended."""
        height, width = pixels.shape[:2]
        blend = _Blend((height, width), side)
        heats = {name: _HeatBlend(self.model.config, name, (height, width), side) for name in self.maps}
        corners = list(geometry.tile_corners((width, height), side))
        step = self.model.batch_of(side * side)
        for start in range(0, len(corners), step):
            some = corners[start : start + step]
            parts = [pixels[y : y + side, x : x + side] for x, y in some]
            for place, seen in zip(some, self.within_memory(parts), strict=True):
                blend.add(place, seen.pixels)
                for name, heat in seen.heats.items():
                    heats[name].add(place, heat)
        return Seen(blend.result(), {name: one.result() for name, one in heats.items() if one.logits})

    def within_memory(self, batch: Sequence[Pixels]) -> list[Seen]:
        """Halves the batch as long as it doesn't fit into memory."""
        try:
            return self._forward(batch)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        device = self.model.device
        if len(batch) == 1:
            height, width = batch[0].shape[:2]
            raise PictureError(
                f"not enough memory on {device} for {width}x{height} pixels at once", "Use --tile 512."
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        return self.within_memory(batch[:half]) + self.within_memory(batch[half:])

    def _forward(self, batch: Sequence[Pixels]) -> list[Seen]:
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(batch)).to(self.model.device)  # (N, H, W, 3) uint8
            x = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)  # (N, 3, H, W) in [-1, 1], channels last
            image, heats = self.networks(x)
            image = image.add_(1).mul_(127.5).round_().clamp_(0, 255)
            if not image.isfinite().all():
                raise PictureError(
                    f"the network's result is not a number (NaN) in {self.model.precision}",
                    "Use --precision fp32; if that doesn't help, the model is damaged.",
                )
            translated = image.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Seen(one, {name: heats[name][i] for name in heats}) for i, one in enumerate(translated)]

    def networks(self, x: Tensor) -> tuple[Tensor, dict[MapName, list[Heat]]]:
        """The translation (N, 3, H, W) in [-1, 1], and each picture's maps."""
        outputs = [self.generator(part) for part in torch.split(x, self.at_once or len(x))]
        image = torch.cat([output.image for output in outputs]) if len(outputs) > 1 else outputs[0].image
        heats: dict[MapName, list[Heat]] = {}
        if "generator" in self.maps:
            heats["generator"] = [heat for output in outputs for heat in _heats(output)]
        for scale, discriminator in self.discriminators.items():
            if min(x.shape[2:]) >= self.model.config.smallest(scale):
                with evaluating([discriminator]):  # or it would take a step of power iteration
                    heats[scale] = _heats(discriminator(image))
        return image, heats


def _heats(output: GeneratorOutput | DiscriminatorOutput) -> list[Heat]:
    """Each picture's."""
    heatmap, cam_logit = cast(tuple[Tensor, Tensor], output[1:][::-1])  # `missing_maps` says that there is a CAM
    values, logits = heatmap[:, 0].cpu().numpy(), cam_logit.tolist()
    return [(one, (first, second)) for one, (first, second) in zip(values, logits, strict=True)]


class _Blend:
    """Tiles as one picture: where they overlap, each counts more towards its middle."""

    def __init__(self, size: tuple[int, int], tile: int) -> None:
        self.size = size
        self.tile = tile
        self.total = np.zeros((*size, 3), np.float32)
        self.share = np.zeros((*size, 1), np.float32)
        self.weights = geometry.tile_weights(min(tile, size[1]), min(tile, size[0]))

    def add(self, corner: tuple[int, int], tile: Pixels) -> None:
        x, y = corner
        place = slice(y, y + self.tile), slice(x, x + self.tile)
        self.total[place] += tile * self.weights
        self.share[place] += self.weights

    def result(self) -> Pixels:
        return np.asarray(np.rint(self.total / self.share), dtype=np.uint8)


class _HeatBlend:
    """The same for maps, whose cells needn't lie where those of the whole picture would: between them, they are
    interpolated. The picture's logits are the tiles' mean.
    """

    def __init__(self, config: ModelConfig, name: MapName, size: tuple[int, int], tile: int) -> None:
        self.grid = grid_of(config, name)
        self.tile = tuple(min(tile, side) for side in size)
        self.centres = [self.grid.centres(cells_of(config, name, side)) for side in size]
        self.total = np.zeros([len(centres) for centres in self.centres], np.float32)
        self.share = np.zeros_like(self.total)
        self.logits: list[tuple[float, float]] = []

    def add(self, corner: tuple[int, int], heat: Heat) -> None:
        values, logits = heat
        rows, columns = (centres - start for centres, start in zip(self.centres, reversed(corner), strict=True))
        y, x = (geometry.tile_weight(at, side) for at, side in zip((rows, columns), self.tile, strict=True))
        weights = np.minimum(y[:, None], x[None, :])
        place = np.ix_(y > 0, x > 0)
        inside = sample(values, self.grid, rows[y > 0], columns[x > 0])
        self.total[place] += inside * weights[place]
        self.share[place] += weights[place]
        self.logits.append(logits)

    def result(self) -> Heat:
        first, second = np.mean(self.logits, axis=0).tolist()
        return self.total / self.share, (first, second)

"""Pictures of the network's size through the networks, once: translations, and where the networks look meanwhile."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ugatit_cli.attention.maps import AttentionMap, Floats, Logits, Maps, cells_of, grid_of, sample, smallest_for
from ugatit_cli.config import SCALES, BaseConfig, Direction, Domain, MapName
from ugatit_cli.device import Readback, is_compiler_error, is_out_of_memory, sent
from ugatit_cli.errors import DeviceError, ModelError, PictureError
from ugatit_cli.nn.discriminator import DiscriminatorOutput
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import evaluating
from ugatit_cli.nn.styles import StyleCode, random_style
from ugatit_cli.nn.whole import Statistics
from ugatit_cli.pictures.geometry import Geometry, Pixels, sampled, tile_corners, tile_weight, tile_weights

if TYPE_CHECKING:
    from ugatit_cli.translation.model import Model

logger = logging.getLogger("ugatit")

Out = TypeVar("Out")
# Hears how many tiles of a picture are done, and how many there are.
Told = Callable[[int, int], object]

# A map's values (h, w) float32 and its two CAM logits; a mask has none.
Heat = tuple[Floats, Logits | None]

# Pixels that a generator takes at once when nobody says otherwise: 32 pictures of 256 x 256 fill a GPU. A CPU gains
# nothing from batches and takes one picture at a time, which keeps its caches warm.
BATCH_PIXELS: Final = 32 * 256 * 256
MAX_BATCH: Final = 64
# Pixels that discriminators take at once: their weights are so many that a small pass hardly pays.
LOOKED_PIXELS: Final = 131_072
# Turns that network and threads take on a CPU: long enough that a change of turns, in which PyTorch's threads go on
# spinning for milliseconds, doesn't matter; short enough for Ctrl-C.
TURN_SECONDS: Final = 0.5
MAX_TURN: Final = 16


@dataclass(frozen=True)
class Batching:
    """How many pictures of one size go through the networks together: decided here and nowhere else.

    `wanted` is the user's choice (0: as the device likes it), `looking` whether discriminators look, too.
    """

    device: torch.device
    wanted: int = 0
    looking: bool = False

    @property
    def most(self) -> int:
        """The most pictures that a generator takes, however small they are."""
        return self.wanted or (1 if self.device.type == "cpu" else MAX_BATCH)

    def size(self, area: int) -> int:
        """Pictures of `area` pixels each that a generator takes at once."""
        return self.wanted or max(1, min(self.most, BATCH_PIXELS // area))

    def one_pass(self, area: int) -> int:
        """Those that go through all networks in one pass: where discriminators look, several turns of a generator."""
        return max(self.size(area), LOOKED_PIXELS // area) if self.looking else self.size(area)

    def turn(self, area: int, pixel_seconds: float) -> int:
        """Those for a turn of the network, which needed `pixel_seconds` for a pixel so far (0: not known yet).

        Whole passes: what goes through a discriminator together doesn't depend on how fast the machine is.
        """
        if self.device.type != "cpu" or not pixel_seconds:
            return self.size(area)
        step = self.one_pass(area)
        return max(step, min(MAX_TURN, int(TURN_SECONDS / (pixel_seconds * area))) // step * step)


@dataclass(frozen=True, eq=False)
class Translated:
    """What a pass gives for one picture: uint8 (H, W, 3), and the maps that were asked for and exist."""

    pixels: Pixels
    maps: Maps


class Seen(NamedTuple):
    """The same before anyone has said where in the picture the maps' cells lie."""

    pixels: Pixels
    heats: Mapping[MapName, Heat]


def look(
    model: Model,
    batch: Sequence[Pixels],
    direction: Direction,
    geometries: Sequence[Geometry],
    maps: Sequence[MapName] = (),
    batch_size: int = 0,
    stop: threading.Event | None = None,
    styles: Sequence[StyleCode] = (),
    told: Told | None = None,
) -> Iterator[Translated]:
    """Translates pictures, and tells where the networks look meanwhile: as they are taken, some at a time.

    Args:
        batch: uint8 (H, W, 3) each, any number, all of one size.
        geometries: that of each picture; their network sizes and tiles are equal.
        maps: those to return; a discriminator's is left out where the picture is too small for it.
        batch_size: pictures, or tiles, that the generator takes at once; 0: as the device likes it.
        stop: once set, no further pass begins.
        styles: of each picture, if the model has them; default: its own random one.
        told: hears of each tile that is done.

    Raises:
        PictureError: not enough memory for even one of them, or a result that isn't a number.
        ModelError: the model doesn't have such a map, or its weights can't be read.
    """
    for name in maps:
        if name in model.missing_maps:
            raise ModelError(f"{model.name}: no {name} attention: {model.missing_maps[name]}")
    tile = geometries[0].tile if geometries else 0
    run = _NetworkPass(model, direction, maps, batch_size, tiled=tile > 0)
    run.told = told or run.told
    if (size := model.config.style_size) and not styles:
        styles = [random_style(pixels, size) for pixels in batch]
    seen = run.seen_in_tiles(batch, tile, stop, styles) if tile else run.seen(batch, stop, styles)
    return map(run.placed, seen, geometries)


def network_input(batch: Sequence[Pixels], device: torch.device) -> Tensor:
    """Pictures of one size, uint8 (H, W, 3) each, as networks take them: (N, 3, H, W) in [-1, 1], channels last."""
    pixels = sent(torch.from_numpy(np.stack(batch)), device)  # (N, H, W, 3) uint8
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class _NetworkPass:
    """The networks of one direction: the generator, and those discriminators that are to look at its translation."""

    def __init__(
        self, model: Model, direction: Direction, maps: Sequence[MapName], batch_size: int, *, tiled: bool
    ) -> None:
        self.model = model
        self.maps = maps
        self.batching = Batching(model.device, batch_size, not {*maps} <= {"generator"})
        target: Domain = "b" if direction == "a2b" else "a"
        self.told: Told = lambda _, __: None
        self.known: Callable[[], AbstractContextManager[None]] = nullcontext  # of the picture that tiles are of
        # Outside of inference mode, or they could never be trained.
        self.generator: Callable[..., Translation] = (
            model.generator(direction) if tiled else model.whole_picture_generator(direction)
        )
        self.discriminators = {scale: model.looking_discriminator(target, scale) for scale in SCALES if scale in maps}

    def placed(self, seen: Seen, geometry: Geometry) -> Translated:
        config = self.model.config
        maps = {
            name: AttentionMap(name, values, logits, grid_of(config, name), geometry)
            for name, (values, logits) in seen.heats.items()
        }
        return Translated(seen.pixels, maps)

    def seen_in_tiles(
        self, batch: Sequence[Pixels], side: int, stop: threading.Event | None, styles: Sequence[StyleCode]
    ) -> Iterator[Seen]:
        for i, pixels in enumerate(batch):
            if not (i and stop and stop.is_set()):
                yield self._blended(pixels, side, styles[i : i + 1])

    def _blended(self, pixels: Pixels, side: int, style: Sequence[StyleCode]) -> Seen:
        height, width = pixels.shape[:2]
        blend = _Blend((height, width), side)
        heats = {name: _HeatBlend(self.model.config, name, (height, width), side) for name in self.maps}
        corners = list(tile_corners((width, height), side))
        parts = [pixels[y : y + side, x : x + side] for x, y in corners]
        self.known = self._statistics(pixels, side, style).replayed
        tiles = zip(corners, self.seen(parts, styles=[*style] * len(parts)), strict=True)
        for done, (corner, seen) in enumerate(tiles, 1):
            blend.add(corner, seen.pixels)
            for name, heat in seen.heats.items():
                heats[name].add(corner, heat)
            self.told(done, len(corners))
        return Seen(blend.result(), {name: one.result() for name, one in heats.items() if one.logits})

    def _statistics(self, pixels: Pixels, side: int, style: Sequence[StyleCode]) -> Statistics:
        """Those of the whole picture, from a sample of it: by their own, tiles would differ in colour."""
        sample = sampled(pixels, side, 0 if self.model.config.light else side)
        statistics = Statistics()

        def record() -> bool:
            with torch.inference_mode(), statistics.recorded():
                self.generator(*self._inputs(sample, [*style] * len(sample)))
            return True

        if not self._in_memory(record):
            self._half([pixels[:side, :side]])
        return statistics

    def seen(
        self, batch: Sequence[Pixels], stop: threading.Event | None = None, styles: Sequence[StyleCode] = ()
    ) -> Iterator[Seen]:
        """Pictures of one size, as many at once as the device likes; half of them as long as memory is short."""
        area = batch[0].shape[0] * batch[0].shape[1] if batch else 1
        step = self.batching.one_pass(area)
        done, waiting = 0, deque[_Begun]()
        while done < len(batch) and not (done and stop and stop.is_set()):
            some = batch[done : done + step]
            if (begun := self._in_memory(partial(self._begin, some, styles[done : done + step]))) is None:
                step = self._half(some)
                continue
            waiting.append(begun)
            done += len(some)
            while len(waiting) > begun.reading.late:  # a GPU works on the next one while this is read
                yield from self._finished(waiting.popleft())
        for begun in waiting:
            yield from self._finished(begun)

    def _in_memory(self, make: Callable[[], Out]) -> Out | None:
        """What it makes; None where memory is short, and only then: an error holds what there was none for."""
        try:
            return make()
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if is_compiler_error(error):
                reason = f"the network can't be compiled here: {str(error).strip().partition(chr(10))[0]}"
                raise DeviceError(reason, "Leave --compile out.") from error
            if not is_out_of_memory(error):
                raise
        return None

    def _half(self, batch: Sequence[Pixels]) -> int:
        """How many fit perhaps, where these don't."""
        device = self.model.device
        if len(batch) == 1:
            height, width = batch[0].shape[:2]
            smaller = max(height, width) > 512 and self.model.config.light  # full models take one size
            raise PictureError(
                f"not enough memory on {device} for {width}x{height} pixels at once",
                "Use --tile 512." if smaller else "Close other programs, or use another --device.",
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        logger.info("%s: not enough memory on %s for %d pictures at once", self.model.name, device, len(batch))
        return len(batch) // 2

    @torch.inference_mode()
    def _begin(self, batch: Sequence[Pixels], styles: Sequence[StyleCode]) -> _Begun:
        """What the networks make of pictures; of a GPU nothing is waited for."""
        inputs = self._inputs(batch, styles)
        size = self.batching.size(batch[0].shape[0] * batch[0].shape[1])
        outputs = []
        for part in zip(*(torch.split(one, size) for one in inputs), strict=True):
            with self.known():
                outputs.append(self.generator(*part))
        image = torch.cat([output.image for output in outputs]) if len(outputs) > 1 else outputs[0].image
        maps = self.maps_of(outputs, image)
        image = image.add_(1).mul_(127.5).round_().clamp_(0, 255)
        pixels = image.to(torch.uint8).permute(0, 2, 3, 1)
        tensors = [pixels, image.isfinite().all(), *(tensor for pair in maps.values() for tensor in pair)]
        return _Begun([*maps], Readback(tensors))

    def _finished(self, begun: _Begun) -> list[Seen]:
        pixels, finite, *tensors = begun.reading.wait()
        if not finite:
            raise PictureError(
                f"the network's result is not a number (NaN) in {self.model.precision}",
                "The model is damaged: get it again."
                if self.model.precision == "fp32"
                else "Use --precision fp32; if that doesn't help, the model is damaged.",
            )
        # Not the pinned memory, of which there is little, for as long as somebody keeps a picture.
        translated = pixels.numpy().copy() if begun.reading.late else pixels.numpy()
        heats = {name: _heats(*tensors[2 * i : 2 * i + 2]) for i, name in enumerate(begun.maps)}
        return [Seen(one, {name: heats[name][i] for name in heats}) for i, one in enumerate(translated)]

    def _inputs(self, batch: Sequence[Pixels], styles: Sequence[StyleCode]) -> list[Tensor]:
        """What the generator takes: pictures, and their styles if there are any."""
        x = network_input(batch, self.model.device)
        return [x, sent(torch.from_numpy(np.stack(styles)), x.device)] if styles else [x]

    def maps_of(self, outputs: Sequence[Translation], image: Tensor) -> dict[MapName, tuple[Tensor, Tensor]]:
        """Maps (N, 1, h, w) and their logits, of what the generator gave and of its translations in [-1, 1]."""
        maps: dict[MapName, tuple[Tensor, Tensor]] = {}
        if "generator" in self.maps:
            maps["generator"] = _maps(outputs)
        for scale, discriminator in self.discriminators.items():
            if min(image.shape[2:]) >= smallest_for(self.model.config, scale):
                with evaluating([discriminator]):  # or it would take a step of power iteration
                    maps[scale] = _maps([discriminator(image)])
        return maps


class _Begun(NamedTuple):
    """A pass whose results are on their way: pictures, whether they are numbers, then each map and its logits."""

    maps: Sequence[MapName]
    reading: Readback


def _maps(outputs: Sequence[Translation | DiscriminatorOutput]) -> tuple[Tensor, Tensor]:
    """Maps (N, 1, h, w), and logits (N, 2), or (N, 0) of masks."""
    found = []
    for output in outputs:
        assert output.heatmap is not None  # `missing_maps` says that there is one
        none = output.heatmap.new_empty(len(output.heatmap), 0)
        found.append((output.heatmap, none if output.cam_logit is None else output.cam_logit))
    heatmaps, logits = zip(*found, strict=True)
    return torch.cat(heatmaps), torch.cat(logits)


def _heats(heatmaps: Tensor, logits: Tensor) -> list[Heat]:
    """Each picture's."""
    pairs = [(pair[0], pair[1]) if pair else None for pair in logits.tolist()]
    return list(zip(heatmaps[:, 0].numpy().copy(), pairs, strict=True))


class _Blend:
    """Tiles, which come row by row, as one picture: where they overlap, each counts more towards its middle.

    Only the rows that tiles can still add to are kept as floats, of a picture of any height.
    """

    def __init__(self, size: tuple[int, int], tile: int) -> None:
        height, width = size
        self.tile = tile
        self.weights = tile_weights(min(tile, width), min(tile, height))
        self.total = np.zeros((min(tile, height), width, 3), np.float32)
        self.share = np.zeros((min(tile, height), width, 1), np.float32)
        self.pixels = np.empty((*size, 3), np.uint8)
        self.top = 0

    def add(self, corner: tuple[int, int], tile: Pixels) -> None:
        x, y = corner
        self._finish(y)
        place = slice(x, x + self.tile)
        self.total[:, place] += tile * self.weights
        self.share[:, place] += self.weights

    def _finish(self, upto: int) -> None:
        """Rows above this one are complete."""
        rows = upto - self.top
        done = self.total[:rows]
        np.rint(np.divide(done, self.share[:rows], out=done), out=done)
        self.pixels[self.top : upto] = done
        for band in (self.total, self.share):
            band[: len(band) - rows] = band[rows:]
            band[len(band) - rows :] = 0
        self.top = upto

    def result(self) -> Pixels:
        self._finish(len(self.pixels))
        return self.pixels


class _HeatBlend:
    """The same for maps, whose cells needn't lie where those of the whole picture would: between them, they are
    interpolated. The picture's logits are the tiles' mean.
    """

    def __init__(self, config: BaseConfig, name: MapName, size: tuple[int, int], tile: int) -> None:
        self.grid = grid_of(config, name)
        self.tile = tuple(min(tile, side) for side in size)
        self.centres = [self.grid.centres(cells_of(config, name, side)) for side in size]
        self.total = np.zeros([len(centres) for centres in self.centres], np.float32)
        self.share = np.zeros_like(self.total)
        self.logits: list[Logits | None] = []

    def add(self, corner: tuple[int, int], heat: Heat) -> None:
        values, logits = heat
        rows, columns = (centres - start for centres, start in zip(self.centres, reversed(corner), strict=True))
        y, x = (tile_weight(at, side) for at, side in zip((rows, columns), self.tile, strict=True))
        weights = np.minimum(y[:, None], x[None, :])
        place = np.ix_(y > 0, x > 0)
        inside = sample(values, self.grid, rows[y > 0], columns[x > 0])
        self.total[place] += inside * weights[place]
        self.share[place] += weights[place]
        self.logits.append(logits)

    def result(self) -> Heat:
        known = [one for one in self.logits if one is not None]
        first, second = np.mean(known, axis=0).tolist() if known else (0.0, 0.0)
        return self.total / self.share, (first, second) if known else None

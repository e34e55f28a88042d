"""Pictures of the network's size through the networks, once: translations, and where the networks look meanwhile."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

import numpy as np

from ugatit_cli.attention.maps import AttentionMap, Logits, Maps, cells_of, grid_of, sample
from ugatit_cli.config import BaseConfig, Direction, MapName
from ugatit_cli.errors import Change, ModelError, PictureError
from ugatit_cli.pictures.geometry import Geometry, Pixels, sampled, tile_corners, tile_weight, tile_weights
from ugatit_cli.pictures.styles import StyleCode, random_style
from ugatit_cli.translation.engine import Begun, Engine, Heat, Networks, Seen

logger = logging.getLogger("ugatit")

Out = TypeVar("Out")
# Hears how many tiles of a picture are done, and how many there are.
Told = Callable[[int, int], object]

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

    on_cpu: bool
    wanted: int = 0
    looking: bool = False

    @property
    def most(self) -> int:
        """The most pictures that a generator takes, however small they are."""
        return self.wanted or (1 if self.on_cpu else MAX_BATCH)

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
        if not self.on_cpu or not pixel_seconds:
            return self.size(area)
        step = self.one_pass(area)
        return max(step, min(MAX_TURN, int(TURN_SECONDS / (pixel_seconds * area))) // step * step)


@dataclass(frozen=True, eq=False)
class Translated:
    """What a pass gives for one picture: uint8 (H, W, 3), and the maps that were asked for and exist."""

    pixels: Pixels
    maps: Maps


def look(
    model: Engine,
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
    batching = Batching(model.on_cpu, batch_size, not {*maps} <= {"generator"})
    run = _Pass(model, model.networks(direction, maps, tiled=tile > 0), maps, batching)
    if (size := model.config.style_size) and not styles:
        styles = [random_style(pixels, size) for pixels in batch]
    seen = run.seen_in_tiles(batch, tile, stop, styles, told) if tile else run.seen(batch, stop, styles)
    return map(run.placed, seen, geometries)


@dataclass(frozen=True)
class _Pass:
    model: Engine
    networks: Networks
    maps: Sequence[MapName]
    batching: Batching

    def placed(self, seen: Seen, geometry: Geometry) -> Translated:
        config = self.model.config
        maps = {
            name: AttentionMap(name, values, logits, grid_of(config, name), geometry)
            for name, (values, logits) in seen.heats.items()
        }
        return Translated(seen.pixels, maps)

    def seen_in_tiles(
        self,
        batch: Sequence[Pixels],
        side: int,
        stop: threading.Event | None,
        styles: Sequence[StyleCode],
        told: Told | None,
    ) -> Iterator[Seen]:
        for i, pixels in enumerate(batch):
            if not (i and stop and stop.is_set()):
                yield self._blended(pixels, side, styles[i : i + 1], told)

    def _blended(self, pixels: Pixels, side: int, style: Sequence[StyleCode], told: Told | None) -> Seen:
        height, width = pixels.shape[:2]
        blend = _Blend((height, width), side)
        heats = {name: _HeatBlend(self.model.config, name, (height, width), side) for name in self.maps}
        corners = list(tile_corners((width, height), side))
        parts = [pixels[y : y + side, x : x + side] for x, y in corners]
        alike = replace(self, networks=self._for_tiles(pixels, side, style))
        tiles = zip(corners, alike.seen(parts, styles=[*style] * len(parts)), strict=True)
        for done, (corner, seen) in enumerate(tiles, 1):
            blend.add(corner, seen.pixels)
            for name, heat in seen.heats.items():
                heats[name].add(corner, heat)
            if told is not None:
                told(done, len(corners))
        return Seen(blend.result(), {name: one.result() for name, one in heats.items() if one.logits})

    def _for_tiles(self, pixels: Pixels, side: int, style: Sequence[StyleCode]) -> Networks:
        """Those that know what all of a picture is like, from a sample of it."""
        sample = sampled(pixels, side, 0 if self.model.config.light else side)
        make = partial(self.networks.for_parts_of, sample, [*style] * len(sample))
        if (found := _in_memory(make)) is None:
            self._half([pixels[:side, :side]])
        return found or self.networks

    def seen(
        self, batch: Sequence[Pixels], stop: threading.Event | None = None, styles: Sequence[StyleCode] = ()
    ) -> Iterator[Seen]:
        """Pictures of one size, as many at once as the device likes; half of them as long as memory is short."""
        area = batch[0].shape[0] * batch[0].shape[1] if batch else 1
        step, size = self.batching.one_pass(area), self.batching.size(area)
        done, waiting = 0, deque[Begun]()
        while done < len(batch) and not (done and stop and stop.is_set()):
            some = batch[done : done + step]
            make = partial(self.networks.begin, some, styles[done : done + step], size)
            if (begun := _in_memory(make)) is None:
                step = self._half(some)
                continue
            waiting.append(begun)
            done += len(some)
            while len(waiting) > begun.late:  # a GPU works on the next one while this is read
                yield from self._finished(waiting.popleft())
        for begun in waiting:
            yield from self._finished(begun)

    def _half(self, batch: Sequence[Pixels]) -> int:
        """How many fit perhaps, where these don't."""
        if len(batch) == 1:
            height, width = batch[0].shape[:2]
            smaller = max(height, width) > 512 and self.model.config.light  # full models take one size
            message = f"not enough memory on {self.model.place} for {width}x{height} pixels at once"
            if smaller:
                raise PictureError(message, "Use --tile 512.", change=Change("tile", "512"))
            hint = "Close other programs, or use another --device."
            raise PictureError(message, hint, change=Change("device"))
        self.networks.free()
        place = self.model.place
        logger.info("%s: not enough memory on %s for %d pictures at once", self.model.name, place, len(batch))
        return len(batch) // 2

    def _finished(self, begun: Begun) -> list[Seen]:
        if (seen := begun.finished()) is None:
            float_type = self.model.float_type
            message = f"the network's result is not a number (NaN) in {float_type}"
            if float_type.startswith("fp32"):
                raise PictureError(message, "The model is damaged: get it again.")
            hint = "Use --precision fp32; if that doesn't help, the model is damaged."
            raise PictureError(message, hint, change=Change("precision", "fp32"))
        return seen


def _in_memory(make: Callable[[], Out]) -> Out | None:
    """What it makes; None where memory is short, and only then: an error holds what there was none for."""
    try:
        return make()
    except MemoryError:
        return None


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

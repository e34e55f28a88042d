"""Pictures of any kind through a model, in Python: what `Model` and `ExportedModel` have in common."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Final, Literal, TypedDict, Unpack, overload

import numpy as np
from PIL import Image

from ugatit_cli.arguments import checked, fitted
from ugatit_cli.attention.maps import AttentionMaps, Spans, chosen_maps
from ugatit_cli.config import Direction, Fit, MapName
from ugatit_cli.errors import UsageError
from ugatit_cli.fields import Range
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.geometry import (
    WHITE,
    Background,
    Colour,
    Geometry,
    OutputSize,
    Pixels,
    Size,
    SizeOptions,
    Tile,
    as_colour,
    as_output,
    as_tile,
    finish,
    from_network,
    plan_geometry,
    prepare,
    source_frame,
    source_picture,
)
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.regions import Finder, RegionOptions, cut, pasted
from ugatit_cli.pictures.styles import MOST_SEED, StyleCode, random_style
from ugatit_cli.translation import passes
from ugatit_cli.translation.choices import chosen_style, resolve_direction
from ugatit_cli.translation.engine import Engine, OptionalWay, Source, Way
from ugatit_cli.translation.passes import Translated

StyleOf = Callable[[Pixels], StyleCode]

ONE = (Image.Image, str, PathLike)
_PICTURES: Final = "a PIL image, a path, or several of them"
Pictures = Annotated[Source | Iterable[Source], _PICTURES]
_Maps = Annotated[str | Sequence[MapName | Literal["all"]], "names of maps: generator, local, global, all"]
_Picture = Annotated[Source, _PICTURES]
Regions = Annotated[Finder | None, "a function that finds regions, such as FaceFinder(), or None"]
_Seed = Annotated[int, Range(0, MOST_SEED)]
MostPixels = Annotated[int | None, Range(1, math.inf)]


class _Options(TypedDict, total=False):
    to: str | None
    style: Source | StyleCode | None
    fit: Fit
    size: str | int | Size
    tile: str | int
    strength: float
    keep_colour: bool
    regions: Finder | None
    background: Colour | str
    max_pixels: int | None


class Translator(Engine):
    """An engine that takes pictures of any kind. Several threads may translate with one at once.

    Attributes:
        size: width and height that the networks take; None: as the config says.
    """

    size: Size | None = None

    @checked
    def direction(self, direction: OptionalWay = None, to: str | None = None) -> Direction:
        """The direction that is stated, or leads to a domain.

        Raises:
            UsageError: there is no such direction or domain, or they contradict each other.
        """
        return resolve_direction(self.config, self.name, direction, to)

    @overload
    def translate(  # type: ignore[overload-overlap]  # a str is a path, not several of one letter
        self, image: Source, direction: Direction | None = ..., **options: Unpack[_Options]
    ) -> Image.Image: ...

    @overload
    def translate(
        self, image: Iterable[Source], direction: Direction | None = ..., **options: Unpack[_Options]
    ) -> list[Image.Image]: ...

    @checked
    def translate(
        self,
        image: Pictures,
        direction: OptionalWay = None,
        *,
        to: str | None = None,
        style: Source | StyleCode | None = None,
        fit: Fit = "aspect",
        size: OutputSize = "same",
        tile: Tile = "auto",
        strength: float = 1.0,
        keep_colour: bool = False,
        regions: Regions = None,
        background: Background = WHITE,
        max_pixels: MostPixels = MAX_PIXELS,
    ) -> Image.Image | list[Image.Image]:
        """Translates pictures of any mode and size.

        Args:
            image: one picture, or several: PIL images, or paths of files, whose first frame is taken.
            direction: `a2b`, which is the default, or `b2a`.
            to: instead of it, the name of the domain that it leads to.
            style: of models that have styles: `random`, which is the default, or `random:SEED`: each picture has its
                own; a picture of the domain that the direction leads to, or what `style` says of it: one for all.
            fit: see `SizeOptions`.
            size: `same`: as the picture; `model`: as it leaves the network; a number of pixels: of the short side;
                or width and height, as a pair or a text, `512x384`.
            tile: side of overlapping tiles in pixels; `off`: never; `auto`: for native pictures too large for memory.
            strength: 0: the picture's own pixels; 1: the translation's; between them, a mixture.
            keep_colour: the translation's light and dark with the picture's hue and saturation.
            regions: finds the parts of a picture that are translated, such as `FaceFinder()`, or any function of a
                frame and the path of its file, if it has one; all around stays as it is, and so does a picture that
                has none. `fit` and `tile` are about the parts. None: all of it.
            background: put behind transparent pixels while translating: a colour's name, `#rrggbb`, or RGB.
            max_pixels: the most that a file may have; None: any number.

        Returns:
            RGB pictures, RGBA where the input has transparency; of the input's size unless `size` says otherwise.

        Raises:
            PictureError: a picture can't be read or decoded, is too large, or doesn't fit into memory.
            ModelError: the weights can't be read.
            TypeError: something else than pictures.
            UsageError: an option makes no sense, or there is no such domain.
        """
        look = Look(strength, keep_colour)
        background = as_colour(background)
        way = self.direction(direction, to)
        images = [image] if isinstance(image, ONE) else list(image)
        jobs = self._planned("image", images, fit, size, tile, max_pixels)
        style_of = self._style_of(style, way, fit, background, max_pixels)
        if regions is None:
            results = self._whole(jobs, way, look, background, style_of)
        else:
            parts = functools.partial(
                self._pasted, RegionOptions(regions), way, SizeOptions(fit, as_tile(tile)), look, background, style_of
            )
            results = [
                source_frame(parts(frame, None if isinstance(one, Image.Image) else Path(one)), geometry, background)
                for one, (frame, geometry) in zip(images, jobs, strict=True)
            ]
        made = [_flattened(result) for result in results]
        return made[0] if isinstance(image, ONE) else made

    def _whole(
        self,
        jobs: Sequence[tuple[Frame, Geometry]],
        direction: Direction,
        look: Look,
        background: Colour,
        style_of: StyleOf | None,
    ) -> list[Frame]:
        results = []
        for (frame, geometry), one in zip(
            jobs, self._look_at(jobs, direction, background, style_of=style_of), strict=True
        ):
            result = finish(one.pixels, frame.alpha, geometry, background, frame)
            if look.needs_source:
                result = look.applied(result, source_frame(frame, geometry, background))
            results.append(result)
        return results

    def _pasted(
        self,
        options: RegionOptions,
        direction: Direction,
        sizes: SizeOptions,
        look: Look,
        background: Colour,
        style_of: StyleOf | None,
        frame: Frame,
        source: Path | None,
    ) -> Frame:
        """A picture with its translated parts, all in the style of the first one."""
        regions = options.find(frame, source)
        crops = [cut(frame, region) for region in regions]
        jobs = [(crop, plan_geometry(crop.rgb.size, self.config, sizes)) for crop in crops]
        if style_of is None and self.config.style_size:
            style_of = functools.partial(random_style, size=self.config.style_size)
        if style_of is not None and jobs:
            code = style_of(prepare(*jobs[0], background))
            results = self._whole(jobs, direction, Look(), background, lambda _: code)
        else:
            results = self._whole(jobs, direction, Look(), background, None)
        return pasted(frame, list(zip(regions, results, strict=True)), look)

    def _style_of(
        self,
        style: Source | StyleCode | None,
        direction: Direction,
        fit: Fit,
        background: Colour,
        max_pixels: int | None,
    ) -> StyleOf | None:
        """What gives a picture, as the network takes it, its style; None: it is nobody's choice."""
        if style is None:
            return None
        chosen = chosen_style(self, style, direction, fit=fit, background=background, max_pixels=max_pixels)
        if isinstance(chosen, int):
            return functools.partial(random_style, size=self.config.style_size, seed=chosen)
        return lambda _: chosen

    def _planned(
        self,
        name: str,
        images: Source | Iterable[Source],
        fit: Fit,
        size: str | int | Size,
        tile: str | int,
        max_pixels: int | None,
    ) -> list[tuple[Frame, Geometry]]:
        options = SizeOptions(fit, as_tile(tile), as_output(size), self.size)
        several = [images] if isinstance(images, ONE) else images
        frames = [frame_of(fitted(f"{name}[{i}]", one, _Picture), max_pixels) for i, one in enumerate(several)]
        return [(frame, plan_geometry(frame.rgb.size, self.config, options)) for frame in frames]

    def _look_at(
        self,
        jobs: Sequence[tuple[Frame, Geometry]],
        direction: Direction,
        background: Colour,
        maps: Sequence[MapName] = (),
        style_of: StyleOf | None = None,
    ) -> list[Translated]:
        groups: dict[tuple[Size, int], list[int]] = {}
        for i, (_, geometry) in enumerate(jobs):
            groups.setdefault((geometry.network, geometry.tile), []).append(i)
        results: dict[int, Translated] = {}
        for indices in groups.values():
            pixels = [prepare(*jobs[i], background) for i in indices]
            styles = [style_of(one) for one in pixels] if style_of else ()
            seen = passes.look(self, pixels, direction, [jobs[i][1] for i in indices], maps, styles=styles)
            results |= zip(indices, seen, strict=True)
        return [results[i] for i in range(len(jobs))]

    @checked
    def translate_pixels(
        self, batch: Sequence[Pixels], direction: Way, geometry: Geometry, *, seed: _Seed = 0
    ) -> list[Pixels]:
        """Translates pictures that are already of the network's size: uint8 (H, W, 3) each, as the results are.

        Args:
            seed: of each picture's random style, if the model has styles.
        """
        shape = (*reversed(geometry.network), 3)
        for i, one in enumerate(batch):
            if getattr(one, "shape", None) != shape or one.dtype != np.uint8:
                raise UsageError(f"batch[{i}] is no uint8 array {shape}", "It is a picture as the network takes it.")
        size = self.config.style_size
        styles = [random_style(one, size, seed) for one in batch] if size else ()
        geometries = [geometry] * len(batch)
        return [one.pixels for one in passes.look(self, batch, direction, geometries, styles=styles)]

    @checked
    def attention_maps(
        self,
        images: Pictures,
        direction: OptionalWay = None,
        *,
        to: str | None = None,
        maps: _Maps = "all",
        normalize: Literal["image", "batch"] = "image",
        fit: Fit = "aspect",
        size: OutputSize = "same",
        tile: Tile = "auto",
        background: Background = WHITE,
        max_pixels: MostPixels = MAX_PIXELS,
    ) -> AttentionMaps:
        """Where the networks look on pictures of any mode and size, and the translations.

        Args:
            images: one picture, or several.
            maps: `generator`, `local`, `global` (discriminators of the target domain); `all`: those that it has.
            normalize: `image`: each map fills [0, 1] by its own lowest and highest value; `batch`: by the lowest and
                highest value of that map over all pictures, so that pictures compare.
            direction, to, fit, size, tile, background, max_pixels: as in `translate`.

        Raises:
            ModelError: the model doesn't have one of the maps, or none at all.
            PictureError, TypeError, UsageError: as in `translate`; no such map.
        """
        names = [maps] if isinstance(maps, str) else [fitted("a name in maps", one, str) for one in maps]
        background = as_colour(background)
        chosen = chosen_maps(names, self.missing_maps, name=self.name)
        way = self.direction(direction, to)
        jobs = self._planned("images", images, fit, size, tile, max_pixels)
        seen = self._look_at(jobs, way, background, chosen)
        return AttentionMaps(
            way,
            tuple(source_picture(frame, geometry, background) for (frame, geometry) in jobs),
            tuple(from_network(one.pixels, geometry) for (_, geometry), one in zip(jobs, seen, strict=True)),
            tuple(one.maps for one in seen),
            self.missing_maps,
            Spans.of(one.maps for one in seen) if normalize == "batch" else None,
        )


def frame_of(image: Source, max_pixels: int | None) -> Frame:
    """A picture, or a file's first one."""
    if isinstance(image, Image.Image):
        return reading.from_pil(image).frames[0]
    return reading.read_picture(Path(image), max_pixels=max_pixels, first_only=True).frames[0]


def _flattened(frame: Frame) -> Image.Image:
    if frame.alpha is not None:
        frame.rgb.putalpha(frame.alpha)
    return frame.rgb

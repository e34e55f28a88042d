"""A model ready to use: networks on a device in a precision, and pictures through them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ugatit_cli.attention.maps import AttentionMaps, Spans, chosen_maps, missing_maps
from ugatit_cli.config import BaseConfig, Direction, Domain, Fit, MapName, Precision, Scale
from ugatit_cli.device import DTYPES, describe_device, require_compiler, resolve_device, resolve_precision
from ugatit_cli.errors import UsageError
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network
from ugatit_cli.pictures import reading
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.geometry import (
    WHITE,
    Colour,
    Geometry,
    Pixels,
    Size,
    SizeOptions,
    finish,
    from_network,
    plan_geometry,
    prepare,
    source_frame,
    source_picture,
)
from ugatit_cli.pictures.look import Look
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.pictures.styles import StyleCode, random_style, seed_of
from ugatit_cli.translation import passes
from ugatit_cli.translation.choices import no_style, require_styles, resolve_direction
from ugatit_cli.translation.networks import TorchNetworks, network_input
from ugatit_cli.translation.passes import Translated
from ugatit_cli.weights.folder import ModelFolder

# A picture of any mode, or a file.
Source = Image.Image | str | PathLike[str]
ONE = (Image.Image, str, PathLike)


class _Options(TypedDict, total=False):
    to: str | None
    style: Source | StyleCode | None
    fit: Fit
    size: str | int
    tile: int | None
    strength: float
    keep_colour: bool
    background: Colour
    max_pixels: int | None


class Model:
    """The generators and, where there are any, the discriminators. Networks are loaded when first asked for.

    Made by `ugatit_cli.load` and `ugatit_cli.new`. Several threads may translate with a loaded model at once.

    Attributes:
        name: what messages call it.
        provenance: where the weights come from.
        device, precision: where and in which float type the networks run.
    """

    def __init__(
        self,
        name: str,
        config: BaseConfig,
        *,
        make_generator: Callable[[Direction], Network],
        make_discriminator: Callable[[Domain, Scale | None], Network],
        make_style_encoder: Callable[[Direction], Network],
        has_discriminators: bool = True,
        reproducible: bool = False,
        provenance: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
        compiled: bool = False,
    ) -> None:
        self.name = name
        self.config = config
        self.has_discriminators = has_discriminators
        self.provenance = dict(provenance or {})
        self.device = resolve_device(device)
        self.precision: Precision = resolve_precision(precision, self.device)
        if compiled:
            require_compiler(self.device)
        self._compiled: dict[Direction, Callable[..., Translation]] | None = {} if compiled else None
        self._make_generator = make_generator
        self._make_discriminator = make_discriminator
        self._make_style_encoder = make_style_encoder
        self._reproducible = reproducible
        self._lock = threading.Lock()
        self._generators: dict[Direction, Network] = {}
        self._style_encoders: dict[Direction, Network] = {}
        self._discriminators: dict[tuple[Domain, Scale | None], Network] = {}
        self._looking: dict[tuple[Domain, Scale | None], Network] = {}

    @classmethod
    def from_folder(
        cls, name: str, folder: ModelFolder, *, device: str = "auto", precision: str = "auto", compiled: bool = False
    ) -> Model:
        """A model whose networks are read from a model folder; their weights don't ask for gradients."""
        return cls(
            name,
            folder.config,
            make_generator=lambda direction: folder.generator(direction).requires_grad_(False),
            make_discriminator=lambda domain, scale: folder.discriminator(domain, scale).requires_grad_(False),
            make_style_encoder=lambda direction: folder.style_encoder(direction).requires_grad_(False),
            has_discriminators=folder.discriminators is not None,
            reproducible=True,
            provenance=folder.provenance,
            device=device,
            precision=precision,
            compiled=compiled,
        )

    @classmethod
    def untrained(cls, config: BaseConfig, *, device: str = "auto", precision: str = "auto") -> Model:
        """A model with new weights, as its method's paper has them; in training mode."""
        method = method_of(config)
        translators = functools.cache(lambda: method.translators(config))

        def make_generator(direction: Direction) -> Network:
            return method.translator(translators(), direction)

        def make_style_encoder(direction: Direction) -> Network:
            encoder = method.style_encoder(translators(), direction)
            assert encoder is not None
            return encoder

        def make_discriminator(domain: Domain, scale: Scale | None) -> Network:
            return method.critics(config)[f"{domain}.{scale}" if scale else domain]

        return cls(
            "untrained",
            config,
            make_generator=make_generator,
            make_discriminator=make_discriminator,
            make_style_encoder=make_style_encoder,
            device=device,
            precision=precision,
        )

    def generator(self, direction: Direction = "a2b") -> Network:
        """The generator of a direction, on the model's device; the one that translates.

        Its call takes float (N, 3, H, W) in [-1, 1] and returns `(image, cam_logit, heatmap)`, see `Translation`;
        the last two are None where there is no attention.

        Raises:
            UsageError: no such direction, or the model has one way and it is the other one.
            ModelError: its weights can't be read.
        """
        direction = resolve_direction(self.config, direction)
        with self._lock:
            if direction not in self._generators:
                generator = self._make_generator(direction).set_precision(DTYPES[self.precision])
                self._generators[direction] = generator.to(self.device).to(memory_format=torch.channels_last)
            return self._generators[direction]

    @property
    def on_cpu(self) -> bool:
        """See `Engine`, too: of that, this is what PyTorch runs."""
        return self.device.type == "cpu"

    @property
    def place(self) -> str:
        """The device for people."""
        return describe_device(self.device)

    @property
    def float_type(self) -> str:
        """The precision, and whether the generators are compiled, for people."""
        return f"{self.precision}{', compiled' * (self._compiled is not None)}"

    @property
    def cores(self) -> int:
        """CPU threads of the calling thread."""
        return torch.get_num_threads()

    def use_cores(self, count: int) -> None:
        """Sets them."""
        torch.set_num_threads(count)

    def networks(self, direction: Direction, maps: Sequence[MapName] = (), *, tiled: bool = False) -> TorchNetworks:
        """The generator of a direction, and those discriminators that some maps need."""
        return TorchNetworks(self, direction, maps, tiled=tiled)

    def whole_picture_generator(self, direction: Direction) -> Callable[..., Translation]:
        """The same for pictures that aren't cut into tiles: compiled, with CUDA graphs, if the model is to be."""
        generator = self.generator(direction)
        if self._compiled is None:
            return generator
        with self._lock:
            if direction not in self._compiled:
                self._compiled[direction] = _compiled(generator)
            return self._compiled[direction]

    def style_encoder(self, direction: Direction = "a2b") -> Network:
        """What tells the styles of pictures of the domain that a direction leads to, on the model's device.

        Its call takes float (N, 3, H, W) in [-1, 1] and returns float (N, config.style_size).

        Raises:
            UsageError: the model has no styles, or no such direction.
            ModelError: its weights can't be read.
        """
        require_styles(self.config, self.name)
        direction = resolve_direction(self.config, direction)
        with self._lock:
            if direction not in self._style_encoders:
                encoder = self._make_style_encoder(direction).set_precision(DTYPES[self.precision])
                self._style_encoders[direction] = encoder.to(self.device).to(memory_format=torch.channels_last)
            return self._style_encoders[direction]

    def discriminator(self, domain: Domain, scale: Scale | None = None) -> Network:
        """The discriminator of a domain, and of a scale where there are several, in float32: to be trained.

        Its call takes float (N, 3, H, W) in [-1, 1]. U-GAT-IT's returns `(logit, cam_logit, heatmap)`, see
        `DiscriminatorOutput`, others' return scores. Attention of a loaded model doesn't depend on what becomes of
        it.

        Raises:
            UsageError: the model has no such domain or scale.
            ModelError: the model has no discriminators.
        """
        with torch.device("meta"):
            known = list(method_of(self.config).critics(self.config))
        if (name := f"{domain}.{scale}" if scale else domain) not in known:
            asked, *there = (str(one.split("."))[1:-1] for one in (name, *known))
            raise UsageError(f"no discriminator ({asked})", f"There are: ({'), ('.join(there)}).")
        with self._lock:
            if (domain, scale) not in self._discriminators:
                self._discriminators[domain, scale] = self._make_discriminator(domain, scale).to(self.device)
            return self._discriminators[domain, scale]

    def looking_discriminator(self, domain: Domain, scale: Scale) -> Network:
        """The same to look only: faster, and in the model's precision. A new model has none but `discriminator`."""
        if not self._reproducible:
            return self.discriminator(domain, scale)
        with self._lock:
            if (domain, scale) not in self._looking:
                folded = self._make_discriminator(domain, scale).set_precision(DTYPES[self.precision])
                self._looking[domain, scale] = folded.to(self.device).to(memory_format=torch.channels_last)
            return self._looking[domain, scale]

    @overload
    def translate(  # type: ignore[overload-overlap]  # a str is a path, not several of one letter
        self, image: Source, direction: Direction | None = ..., **options: Unpack[_Options]
    ) -> Image.Image: ...

    @overload
    def translate(
        self, image: Iterable[Source], direction: Direction | None = ..., **options: Unpack[_Options]
    ) -> list[Image.Image]: ...

    def translate(
        self,
        image: Source | Iterable[Source],
        direction: Direction | None = None,
        *,
        to: str | None = None,
        style: Source | StyleCode | None = None,
        fit: Fit = "aspect",
        size: str | int = "same",
        tile: int | None = None,
        strength: float = 1.0,
        keep_colour: bool = False,
        background: Colour = WHITE,
        max_pixels: int | None = MAX_PIXELS,
    ) -> Image.Image | list[Image.Image]:
        """Translates pictures of any mode and size.

        Args:
            image: one picture, or several: PIL images, or paths of files, whose first frame is taken.
            direction: `a2b`, which is the default, or `b2a`.
            to: instead of it, the name of the domain that it leads to.
            style: of models that have styles: `random`, which is the default, or `random:SEED`: each picture has its
                own; a picture of the domain that the direction leads to, or what `style` says of it: one for all.
            fit, size, tile: see `SizeOptions` (`size` is its `output`; a number is that of the short side).
            strength: 0: the picture's own pixels; 1: the translation's; between them, a mixture.
            keep_colour: the translation's light and dark with the picture's hue and saturation.
            background: RGB colour put behind transparent pixels while translating.
            max_pixels: the most that a file may have; None: any number.

        Returns:
            RGB pictures, RGBA where the input has transparency; of the input's size unless `size` says otherwise.

        Raises:
            PictureError: a picture can't be read or decoded, is too large, or doesn't fit into memory.
            ModelError: the weights can't be read.
            TypeError: something else than pictures.
            UsageError: an option makes no sense; ConfigError: there is no such domain.
        """
        look = Look(strength, keep_colour)
        way = resolve_direction(self.config, direction, to)
        jobs = self._planned(image, fit, size, tile, max_pixels)
        style_of = self._style_of(style, way, fit, background, max_pixels)
        seen = self._look_at(jobs, way, background, style_of=style_of)
        results = []
        for (frame, geometry), one in zip(jobs, seen, strict=True):
            result = finish(one.pixels, frame.alpha, geometry, background)
            if look.needs_source:
                result = look.applied(result, source_frame(frame, geometry, background))
            results.append(_flattened(result))
        return results[0] if isinstance(image, ONE) else results

    def style(
        self,
        image: Source,
        direction: Direction | None = None,
        *,
        to: str | None = None,
        fit: Fit = "aspect",
        background: Colour = WHITE,
        max_pixels: int | None = MAX_PIXELS,
    ) -> StyleCode:
        """The style of a picture of the domain that a direction leads to, for `translate` in that direction.

        Args:
            image: a PIL image, or the path of a file, whose first frame is taken.
            direction, to, fit, background, max_pixels: as in `translate`; `native` does as `aspect`.

        Returns:
            float32 (config.style_size,); those of two pictures may be mixed.

        Raises:
            UsageError: the model has no styles.
            PictureError, ModelError, TypeError: as in `translate`.
        """
        way = resolve_direction(self.config, direction, to)
        encoder, frame = self.style_encoder(way), _frame(image, max_pixels)
        geometry = plan_geometry(frame.rgb.size, self.config, SizeOptions("aspect" if fit == "native" else fit))
        with torch.inference_mode():
            found = encoder(network_input([prepare(frame, geometry, background)], self.device))
        code: StyleCode = found[0].float().cpu().numpy()
        return code

    def _style_of(
        self,
        style: Source | StyleCode | None,
        direction: Direction,
        fit: Fit,
        background: Colour,
        max_pixels: int | None,
    ) -> Callable[[Pixels], StyleCode] | None:
        """What gives a picture, as the network takes it, its style; None: it is nobody's choice."""
        if style is None:
            return None
        require_styles(self.config, self.name)
        size = self.config.style_size
        if isinstance(style, str) and (seed := seed_of(style)) is not None:
            return functools.partial(random_style, size=size, seed=seed)
        if not isinstance(style, np.ndarray):
            if isinstance(style, str) and not Path(style).exists():
                raise no_style(style)
            style = self.style(style, direction, fit=fit, background=background, max_pixels=max_pixels)
        code = np.asarray(style, np.float32)
        if code.shape != (size,) or not np.isfinite(code).all():
            raise UsageError(f"style: an array {code.shape}", f"Styles of {self.name} are {size} finite numbers.")
        return lambda _: code

    def _planned(
        self, images: Source | Iterable[Source], fit: Fit, size: str | int, tile: int | None, max_pixels: int | None
    ) -> list[tuple[Frame, Geometry]]:
        options = SizeOptions(fit, tile, str(size))
        frames = [_frame(image, max_pixels) for image in ([images] if isinstance(images, ONE) else images)]
        return [(frame, plan_geometry(frame.rgb.size, self.config, options)) for frame in frames]

    def _look_at(
        self,
        jobs: Sequence[tuple[Frame, Geometry]],
        direction: Direction,
        background: Colour,
        maps: Sequence[MapName] = (),
        style_of: Callable[[Pixels], StyleCode] | None = None,
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

    def translate_pixels(
        self, batch: Sequence[Pixels], direction: Direction, geometry: Geometry, *, seed: int = 0
    ) -> list[Pixels]:
        """Translates pictures that are already of the network's size: uint8 (H, W, 3) each, as the results are.

        Args:
            seed: of each picture's random style, if the model has styles.
        """
        size = self.config.style_size
        styles = [random_style(one, size, seed) for one in batch] if size else ()
        geometries = [geometry] * len(batch)
        return [one.pixels for one in passes.look(self, batch, direction, geometries, styles=styles)]

    @property
    def missing_maps(self) -> dict[MapName, str]:
        """The attention maps that this model can't show, each with the reason."""
        return missing_maps(self.config, discriminators=self.has_discriminators)

    def attention_maps(
        self,
        images: Source | Iterable[Source],
        direction: Direction | None = None,
        *,
        to: str | None = None,
        maps: str | Sequence[MapName | Literal["all"]] = "all",
        normalize: Literal["image", "batch"] = "image",
        fit: Fit = "aspect",
        size: str | int = "same",
        tile: int | None = None,
        background: Colour = WHITE,
        max_pixels: int | None = MAX_PIXELS,
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
        if normalize not in ("image", "batch"):
            raise UsageError(f"unknown normalize {normalize!r}", "It is image or batch.")
        names = [maps] if isinstance(maps, str) else maps
        chosen = chosen_maps(names, self.missing_maps, name=self.name)
        way = resolve_direction(self.config, direction, to)
        jobs = self._planned(images, fit, size, tile, max_pixels)
        seen = self._look_at(jobs, way, background, chosen)
        return AttentionMaps(
            way,
            tuple(source_picture(frame, geometry, background) for (frame, geometry) in jobs),
            tuple(from_network(one.pixels, geometry) for (_, geometry), one in zip(jobs, seen, strict=True)),
            tuple(one.maps for one in seen),
            self.missing_maps,
            Spans.of(one.maps for one in seen) if normalize == "batch" else None,
        )


def _frame(image: Source, max_pixels: int | None) -> Frame:
    if isinstance(image, Image.Image):
        return reading.from_pil(image).frames[0]
    if isinstance(image, str | PathLike):
        return reading.read_picture(Path(image), max_pixels=max_pixels, first_only=True).frames[0]
    raise TypeError(f"a PIL image, a path, or several of them are needed, not {type(image).__name__}")


def _compiled(generator: Network) -> Callable[..., Translation]:
    graphs = torch.compile(generator, mode="reduce-overhead")

    def run(*inputs: Tensor) -> Translation:
        # The next call of a CUDA graph writes where the last one's results are.
        image, *others = graphs(*inputs)
        return Translation(image.clone(), *(one if one is None else one.clone() for one in others))

    return run


def _flattened(frame: Frame) -> Image.Image:
    if frame.alpha is not None:
        frame.rgb.putalpha(frame.alpha)
    return frame.rgb

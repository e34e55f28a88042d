"""A model ready to use: networks on a device in a precision, and pictures through them."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ugatit_cli.arguments import checked
from ugatit_cli.attention.maps import missing_maps
from ugatit_cli.config import DOMAINS, BaseConfig, Direction, Domain, Fit, MapName, Precision, Scale
from ugatit_cli.device import DTYPES, describe_device, require_compiler, resolve_device, resolve_precision
from ugatit_cli.errors import UsageError
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network
from ugatit_cli.pictures.bounds import MAX_PIXELS
from ugatit_cli.pictures.geometry import (
    WHITE,
    Background,
    SizeOptions,
    as_colour,
    plan_geometry,
    prepare,
)
from ugatit_cli.pictures.styles import StyleCode
from ugatit_cli.translation.choices import require_styles
from ugatit_cli.translation.engine import Cores, OptionalWay, Source, Way
from ugatit_cli.translation.networks import TorchNetworks, network_input
from ugatit_cli.translation.translator import MostPixels, Translator, frame_of
from ugatit_cli.weights.folder import ModelFolder

logger = logging.getLogger("ugatit")


class Model(Translator):
    """The generators and, where there are any, the discriminators. Networks are loaded when first asked for.

    Made by `ugatit_cli.load` and `ugatit_cli.new`. Several threads may translate with a loaded model at once.

    Attributes:
        name: what messages call it.
        provenance: where the weights come from.
        device, precision: where and in which float type the networks run.
    """

    @checked
    def __init__(
        self,
        name: str,
        config: BaseConfig,
        *,
        make_generator: Callable[[Direction], Network],
        make_discriminator: Callable[[Domain, str | None], Network],
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
        self.provenance: Mapping[str, Any] = dict(provenance or {})
        self.device = resolve_device(device)
        self.precision: Precision = resolve_precision(precision, self.device)
        if compiled:
            require_compiler(self.device)
        logger.info("%s: device %s, precision %s, %d threads", name, self.place, self.precision, self.cores)
        self._compiled: dict[Direction, Callable[..., Translation]] | None = {} if compiled else None
        self._make_generator = make_generator
        self._make_discriminator = make_discriminator
        self._make_style_encoder = make_style_encoder
        self._reproducible = reproducible
        self._lock = threading.Lock()
        self._networks: dict[tuple[str | None, ...], Network] = {}

    @classmethod
    @checked
    def from_folder(
        cls, name: str, folder: ModelFolder, *, device: str = "auto", precision: str = "auto", compiled: bool = False
    ) -> Model:
        """A model whose networks are read from a model folder; their weights don't ask for gradients."""
        logger.info("%s: weights %s", name, folder.weights)
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
    @checked
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

        def make_discriminator(domain: Domain, scale: str | None) -> Network:
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

    @checked
    def generator(self, direction: Way = "a2b") -> Network:
        """The generator of a direction, on the model's device; the one that translates.

        Its call takes float (N, 3, H, W) in [-1, 1] and returns `(image, cam_logit, heatmap)`, see `Translation`;
        the last two are None where there is no attention.

        Raises:
            UsageError: no such direction, or the model has one way and it is the other one.
            ModelError: its weights can't be read.
        """
        return self._made("generator", self._make_generator, self.direction(direction))

    def _made(self, kind: str, make: Callable[..., Network], *which: str | None, exact: bool = False) -> Network:
        """A network, made when it is first asked for; in the model's precision unless `exact`.

        One at a time, and never in the caller's inference mode, as what is made there can't learn anywhere.
        """
        with self._lock, torch.inference_mode(False):
            if (kind, *which) not in self._networks:
                network = make(*which)
                if not exact:
                    network.set_precision(DTYPES[self.precision]).to(memory_format=torch.channels_last)
                self._networks[kind, *which] = network.to(self.device)
            return self._networks[kind, *which]

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

    @checked
    def use_cores(self, count: Cores) -> None:
        """Sets them."""
        torch.set_num_threads(count)

    def unload(self) -> None:
        """Lets go of the networks, and of the memory that they take; they are loaded again once they are needed."""
        with self._lock:
            self._networks.clear()
            self._compiled = {} if self._compiled is not None else None

    @checked
    def networks(self, direction: Way, maps: Sequence[MapName] = (), *, tiled: bool = False) -> TorchNetworks:
        """The generator of a direction, and those discriminators that some maps need."""
        return TorchNetworks(self, direction, maps, tiled=tiled)

    @checked
    def whole_picture_generator(self, direction: Way) -> Callable[..., Translation]:
        """The same for pictures that aren't cut into tiles: compiled, with CUDA graphs, if the model is to be."""
        generator = self.generator(direction)
        if self._compiled is None:
            return generator
        with self._lock:
            if direction not in self._compiled:
                self._compiled[direction] = _compiled(generator)
            return self._compiled[direction]

    @checked
    def style_encoder(self, direction: Way = "a2b") -> Network:
        """What tells the styles of pictures of the domain that a direction leads to, on the model's device.

        Its call takes float (N, 3, H, W) in [-1, 1] and returns float (N, config.style_size).

        Raises:
            UsageError: the model has no styles, or no such direction.
            ModelError: its weights can't be read.
        """
        require_styles(self.config, self.name)
        return self._made("style encoder", self._make_style_encoder, self.direction(direction))

    @checked
    def discriminator(self, domain: Domain, scale: str | None = None) -> Network:
        """The discriminator of a domain, and of a scale where there are several, in float32; a new model's learns.

        Its call takes float (N, 3, H, W) in [-1, 1]. U-GAT-IT's returns `(logit, cam_logit, heatmap)`, see
        `DiscriminatorOutput`, others' return scores. Attention of a loaded model doesn't depend on what becomes of
        it.

        Args:
            domain: the one whose pictures it tells from translations.
            scale: of U-GAT-IT's `local` or `global`; of DRIT's `encoded` or `random`, the styles of the translations
                that it has learned from.

        Raises:
            UsageError: the model has no such domain or scale.
            ModelError: the model has no discriminators.
        """
        with torch.device("meta"):
            critics = method_of(self.config).critics(self.config)
        known = [one for one in critics if one.partition(".")[0] in DOMAINS]  # another judges codes, not pictures
        if (name := f"{domain}.{scale}" if scale else domain) not in known:
            asked, *there = (str(one.split("."))[1:-1] for one in (name, *known))
            raise UsageError(
                f"no discriminator ({asked}), by domain and scale", f"There are: ({'), ('.join(there)})."
            )
        return self._made("discriminator", self._make_discriminator, domain, scale, exact=True)

    @checked
    def looking_discriminator(self, domain: Domain, scale: Scale) -> Network:
        """The same to look only: faster, and in the model's precision. A new model has none but `discriminator`."""
        if not self._reproducible:
            return self.discriminator(domain, scale)
        return self._made("looking", self._make_discriminator, domain, scale)

    @checked
    def style(
        self,
        image: Source,
        direction: OptionalWay = None,
        *,
        to: str | None = None,
        fit: Fit = "aspect",
        background: Background = WHITE,
        max_pixels: MostPixels = MAX_PIXELS,
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
        way = self.direction(direction, to)
        encoder, frame = self.style_encoder(way), frame_of(image, max_pixels)
        geometry = plan_geometry(frame.rgb.size, self.config, SizeOptions("aspect" if fit == "native" else fit))
        with torch.inference_mode():
            found = encoder(network_input([prepare(frame, geometry, as_colour(background))], self.device))
        code: StyleCode = found[0].float().cpu().numpy()
        return code

    @property
    def missing_maps(self) -> dict[MapName, str]:
        """The attention maps that this model can't show, each with the reason."""
        return missing_maps(self.config, discriminators=self.has_discriminators)


def _compiled(generator: Network) -> Callable[..., Translation]:
    graphs = torch.compile(generator, mode="reduce-overhead")

    def run(*inputs: Tensor) -> Translation:
        # The next call of a CUDA graph writes where the last one's results are.
        image, *others = graphs(*inputs)
        return Translation(image.clone(), *(one if one is None else one.clone() for one in others))

    return run

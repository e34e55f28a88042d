"""PyTorch's networks of a direction, as `passes` asks for them: pictures to a device, translations and maps back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from ugatit_cli.attention.maps import smallest_for
from ugatit_cli.config import SCALES, Direction, Domain, MapName
from ugatit_cli.device import Readback, is_compiler_error, is_out_of_memory, sent
from ugatit_cli.errors import DeviceError
from ugatit_cli.nn.discriminator import DiscriminatorOutput
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import evaluating
from ugatit_cli.nn.whole import Statistics
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.pictures.styles import StyleCode
from ugatit_cli.translation.engine import Heat, Seen

if TYPE_CHECKING:
    from ugatit_cli.translation.model import Model

Out = TypeVar("Out")


def network_input(batch: Sequence[Pixels], device: torch.device) -> Tensor:
    """Pictures of one size, uint8 (H, W, 3) each, as networks take them: (N, 3, H, W) in [-1, 1], channels last."""
    pixels = sent(torch.from_numpy(np.stack(batch)), device)  # (N, H, W, 3) uint8
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class TorchNetworks:
    """The generator of a direction, and those discriminators that are to look at its translation."""

    def __init__(self, model: Model, direction: Direction, maps: Sequence[MapName], *, tiled: bool) -> None:
        self.model = model
        self.maps = maps
        target: Domain = "b" if direction == "a2b" else "a"
        self.known: Callable[[], AbstractContextManager[None]] = nullcontext  # of the picture that parts are of
        # Outside of inference mode, or they could never be trained.
        self.generator: Callable[..., Translation] = (
            model.generator(direction) if tiled else model.whole_picture_generator(direction)
        )
        self.discriminators = {scale: model.looking_discriminator(target, scale) for scale in SCALES if scale in maps}

    def begin(self, batch: Sequence[Pixels], styles: Sequence[StyleCode], size: int) -> TorchBegun:
        """What the networks make of pictures; of a GPU nothing is waited for."""
        return _tried(partial(self._begun, batch, styles, size))

    @torch.inference_mode()
    def _begun(self, batch: Sequence[Pixels], styles: Sequence[StyleCode], size: int) -> TorchBegun:
        inputs = self._inputs(batch, styles)
        outputs = []
        for part in zip(*(torch.split(one, size) for one in inputs), strict=True):
            with self.known():
                outputs.append(self.generator(*part))
        image = torch.cat([output.image for output in outputs]) if len(outputs) > 1 else outputs[0].image
        maps = self._maps_of(outputs, image)
        image = image.add_(1).mul_(127.5).round_().clamp_(0, 255)
        pixels = image.to(torch.uint8).permute(0, 2, 3, 1)
        tensors = [pixels, image.isfinite().all(), *(tensor for pair in maps.values() for tensor in pair)]
        return TorchBegun([*maps], Readback(tensors))

    def for_parts_of(self, sample: Sequence[Pixels], styles: Sequence[StyleCode]) -> Self:
        """The same with the statistics of a whole picture: by their own, its parts would differ in colour."""
        statistics, parts = Statistics(), copy.copy(self)

        @torch.inference_mode()
        def record() -> None:
            with statistics.recorded():
                self.generator(*self._inputs(sample, styles))

        _tried(record)
        parts.known = statistics.replayed
        return parts

    def free(self) -> None:
        """Frees what PyTorch keeps of a GPU's memory."""
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _inputs(self, batch: Sequence[Pixels], styles: Sequence[StyleCode]) -> list[Tensor]:
        """What the generator takes: pictures, and their styles if there are any."""
        x = network_input(batch, self.model.device)
        return [x, sent(torch.from_numpy(np.stack(styles)), x.device)] if styles else [x]

    def _maps_of(self, outputs: Sequence[Translation], image: Tensor) -> dict[MapName, tuple[Tensor, Tensor]]:
        """Maps (N, 1, h, w) and their logits, of what the generator gave and of its translations in [-1, 1]."""
        maps: dict[MapName, tuple[Tensor, Tensor]] = {}
        if "generator" in self.maps:
            maps["generator"] = _maps(outputs)
        for scale, discriminator in self.discriminators.items():
            if min(image.shape[2:]) >= smallest_for(self.model.config, scale):
                with evaluating([discriminator]):  # or it would take a step of power iteration
                    maps[scale] = _maps([discriminator(image)])
        return maps


def _tried(make: Callable[[], Out]) -> Out:
    """What it makes; whatever a device says where memory is short becomes a MemoryError."""
    try:
        return make()
    except RuntimeError as error:
        if is_compiler_error(error):
            reason = f"the network can't be compiled here: {str(error).strip().partition(chr(10))[0]}"
            raise DeviceError(reason, "Leave --compile out.") from error
        if not is_out_of_memory(error):
            raise
        raise MemoryError from error


class TorchBegun:
    """A pass whose results are on their way: pictures, whether they are numbers, then each map and its logits."""

    def __init__(self, maps: Sequence[MapName], reading: Readback) -> None:
        self.maps = maps
        self.reading = reading

    @property
    def late(self) -> bool:
        """Whether they come from a GPU."""
        return self.reading.late

    def finished(self) -> list[Seen] | None:
        """The results on the CPU."""
        pixels, finite, *tensors = self.reading.wait()
        if not finite:
            return None
        # Not the pinned memory, of which there is little, for as long as somebody keeps a picture.
        translated = pixels.numpy().copy() if self.late else pixels.numpy()
        heats = {name: _heats(*tensors[2 * i : 2 * i + 2]) for i, name in enumerate(self.maps)}
        return [Seen(one, {name: heats[name][i] for name in heats}) for i, one in enumerate(translated)]


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

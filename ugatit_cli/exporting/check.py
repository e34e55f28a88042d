"""Whether an exported file does what PyTorch does, on pictures whose spectra are like those of photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ugatit_cli.config import BaseConfig
from ugatit_cli.errors import ModelError
from ugatit_cli.exporting.network import Portable, inputs
from ugatit_cli.exporting.store import CAM_LOGIT, TRANSLATION, FilePrecision

Arrays = Sequence[NDArray[np.float32]]
Run = Callable[[Arrays], Arrays]
"""Runs a file: float32 inputs in their order, float32 outputs in theirs."""

LEVELS: Final = 255
# The largest difference that there may be: of pictures in levels, of heatmaps as a share of their highest value, of
# logits as a share of the largest, or of 1 if that is more. In float16, up to 0.7 of a level and 2e-3 were seen.
BOUNDS: Final[Mapping[FilePrecision, Mapping[str, float]]] = {
    "fp32": {TRANSLATION: 1.0, "attention": 1e-3},
    "fp16": {TRANSLATION: 4.0, "attention": 2e-2},
}


@dataclass(frozen=True)
class Difference:
    """The largest one that was seen.

    Attributes:
        levels: of pictures, in levels of 255.
        attention: of heatmaps and logits, as a share of their largest value.
        pictures: on how many.
    """

    levels: float
    attention: float
    pictures: int


def pictures(count: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """Random pictures, (N, 3, H, W) in [0, 1], whose amplitudes fall as 1/f, as those of photographs (Field 1987)."""
    random = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    amplitudes = 1 / np.maximum(frequencies, 1 / max(height, width))
    shape = (count, 3, *amplitudes.shape)
    phases = np.exp(2j * np.pi * random.random(shape))
    # Half of what is seen is brightness, which all channels share.
    spectrum = amplitudes * (phases + phases.mean(1, keepdims=True))
    found = np.fft.irfft2(spectrum, s=(height, width))
    found -= found.mean((1, 2, 3), keepdims=True)
    found /= 4 * found.std((1, 2, 3), keepdims=True)
    return torch.from_numpy(np.clip(found + 0.5, 0, 1).astype(np.float32))


def batches(config: BaseConfig, size: tuple[int, int] | None, most: int = 512) -> list[Tensor]:
    """What a file is tried with: two pictures together, and one alone; of another size, if it takes any.

    Args:
        size: height and width of all that it takes.
        most: pixels a side, where there is a choice.
    """
    side = min(config.image_size, most)
    sizes = [size, size] if size is not None else [(side, side), (side + 36, max(16, side - 28))]
    return [pictures(count, *one, seed=count) for count, one in zip((2, 1), sizes, strict=True)]


@torch.inference_mode()
def compare(
    run: Run, reference: Portable, config: BaseConfig, outputs: Sequence[str], tried: Sequence[Tensor]
) -> Difference:
    """How far a file is from the float32 network, as it is used elsewhere.

    Args:
        run: what is asked of the file.
        reference: gives the same outputs.
        tried: pictures, (N, 3, H, W) in [0, 1] each.
    """
    levels, attention = [0.0], [0.0]
    for batch in tried:
        given = inputs(config, batch)
        expected: Any = reference(*given)
        found = run([one.numpy() for one in given])
        pairs = zip(outputs, found, expected if isinstance(expected, tuple) else [expected], strict=True)
        for name, one, other in pairs:
            most = float(np.abs(one - other.numpy()).max())
            if name == TRANSLATION:
                levels.append(LEVELS * most)
            else:
                scale = float(other.abs().max())
                attention.append(most / (max(scale, 1.0) if name == CAM_LOGIT else scale or 1.0))
    return Difference(float(np.max(levels)), float(np.max(attention)), sum(map(len, tried)))


def require(found: Difference, precision: FilePrecision, name: str) -> None:
    """Whether a difference is a matter of rounding.

    Raises:
        ModelError: it isn't.
    """
    bounds = BOUNDS[precision]
    # Of what isn't a number nothing holds.
    if found.levels <= bounds[TRANSLATION] and found.attention <= bounds["attention"]:
        return
    raise ModelError(
        f"{name}: as {precision} it isn't the same model: pictures differ by up to {found.levels:.3g} of {LEVELS} "
        f"levels, attention by {found.attention:.2g} of its highest value; nothing was written",
        "Use --precision fp32."
        if precision == "fp16"
        else "The model is damaged, or this is a bug: please report it.",
    )

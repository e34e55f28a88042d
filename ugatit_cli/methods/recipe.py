"""How a model is trained: losses' weights, optimizer, schedule, and what the default recipe adds to the paper's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, get_args, get_type_hints

from ugatit_cli.errors import ConfigError

RecipeName = Literal["default", "paper", "cyclegan"]
Augmentation = Literal["auto", "off", "on"]
PowerIterations = Literal["each-step", "each-pass"]
TrainingFit = Literal["aspect", "squash"]

RECIPES: tuple[RecipeName, ...] = get_args(RecipeName)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides which weights a training run ends with, beside the model's sizes and the pictures.

    Args:
        name: which preset it started from.
        batch_size: pictures of each domain per step and process.
        learning_rate, beta1, beta2, weight_decay: Adam's settings; weight decay is its L2 term, on every parameter.
        decay_from: share of the training after which the learning rate falls linearly to 0.
        adversarial_weight, cycle_weight, identity_weight, cam_weight: lambda 1 to 4 (paper section 2.2).
        power_iterations: `each-pass`: one power iteration of the spectral norms in each of a step's three passes
            through a discriminator, as the official code does; `each-step`: one per step, real and translated
            pictures going through together.
        ema: the generators' moving average keeps this share per step, ramped up at the start; 0: none.
        augment: differentiable augmentation of all that the discriminators see (Zhao et al. 2020); `auto`, which a
            run resolves when it begins: where every picture will be seen very often.
        flip: pictures are mirrored at random.
        fit: `squash` makes pictures square before the random crop, as the official code does; `aspect` keeps
            their proportions.

    Raises:
        ConfigError: a value is out of range.
    """

    name: RecipeName = "default"
    batch_size: int = 1
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    weight_decay: float = 1e-4
    decay_from: float = 0.5
    adversarial_weight: float = 1.0
    cycle_weight: float = 10.0
    identity_weight: float = 10.0
    cam_weight: float = 1000.0
    power_iterations: PowerIterations = "each-step"
    ema: float = 0.999
    augment: Augmentation = "auto"
    flip: bool = True
    fit: TrainingFit = "aspect"

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value, allowed = getattr(self, name), get_args(hint)
            if allowed and value not in allowed:
                raise ConfigError(f"{name} is {value!r}; it must be one of: {', '.join(allowed)}")
            if hint is float and type(value) is int:
                object.__setattr__(self, name, float(value))
            elif not allowed and type(value) is not hint:
                raise ConfigError(f"{name} is {value!r}; it must be of type {hint.__name__}")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from {low} to {high}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: unknown fields, or values that `Recipe` refuses.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ConfigError(f"unknown training settings: {', '.join(unknown)}")
        return cls(**values)


_RANGES: dict[str, tuple[float, float]] = {
    "batch_size": (1, 1024),
    "learning_rate": (0, 1),
    "beta1": (0, 0.9999999),
    "beta2": (0, 0.9999999),
    "weight_decay": (0, 1),
    "decay_from": (0, 1),
    "adversarial_weight": (0, 1e6),
    "cycle_weight": (0, 1e6),
    "identity_weight": (0, 1e6),
    "cam_weight": (0, 1e6),
    "ema": (0, 0.9999999),
}


# What a recipe changes in the model, by the names of `ModelConfig`, where the user doesn't say otherwise.
MODEL_DEFAULTS: Final[Mapping[RecipeName, Mapping[str, Any]]] = MappingProxyType(
    {
        "default": {},
        "paper": {},
        "cyclegan": {
            "decoder_norm": "in",
            "generator_cam": False,
            "discriminator_cam": False,
            "discriminators": "local",
        },
    }
)


def preset(name: RecipeName) -> Recipe:
    """The recipe of a name.

    `paper` follows the official PyTorch code to the letter. `cyclegan`, together with its `MODEL_DEFAULTS`, is
    CycleGAN (Zhu et al. 2017) as far as U-GAT-IT's networks are: its losses and their weights (identity at half of
    the cycle's), its Adam settings and learning rate, flat for one half of the training and falling to 0 in the
    other, a 70x70 PatchGAN for each domain, no moving average, no augmentation. It differs from the published one in
    this: discriminators have spectral norms where that has instance norms, and see the newest translations instead
    of a pool of the last 50; generators have as many residual blocks as `blocks` says (two for each; that has 9 at
    256 px), an affine instance norm in the decoder, and up-sampling with convolutions instead of transposed ones;
    pictures keep their proportions (at 256 px and for square pictures the same crops of 286). `cam_weight` counts
    only if the user turns a CAM on.
    """
    if name == "paper":
        return Recipe("paper", learning_rate=1e-4, power_iterations="each-pass", ema=0.0, augment="off", fit="squash")
    if name == "cyclegan":
        return Recipe("cyclegan", weight_decay=0.0, identity_weight=5.0, ema=0.0, augment="off")
    return Recipe()


def learning_rate_factor(progress: float, decay_from: float) -> float:
    """What the learning rate is multiplied with: 1, then linearly to 0 (paper section 3.1, appendix).

    Args:
        progress: share of the training that is done, in [0, 1].
        decay_from: where the decay begins, in [0, 1].
    """
    if progress <= decay_from:
        return 1.0
    return max(0.0, (1 - progress) / (1 - decay_from))

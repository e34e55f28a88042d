"""How a model is trained: losses' weights, optimizer, schedule, and what the default recipe adds to the paper's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

from ugatit_cli.fields import Option, Range, check_ranges, check_types

RecipeName = Literal["default", "paper", "cyclegan"]
Augmentation = Literal["auto", "on", "off"]
PowerIterations = Literal["each-step", "each-pass"]
TrainingFit = Literal["aspect", "squash"]

RECIPES: tuple[RecipeName, ...] = get_args(RecipeName)
BELOW_1 = 0.9999999


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides which weights a training run ends with, beside the model's sizes and the pictures.

    Args:
        name: which preset it started from.
        batch_size: pictures of each domain per step and process.
        learning_rate, beta1, beta2, weight_decay: Adam's settings; weight decay is its L2 term, on every parameter.
        decay_from: share of the training after which the learning rate falls linearly to 0.
        adversarial_weight, cycle_weight, identity_weight, cam_weight: lambda 1 to 4 (paper section 2.2).
        pool_size: the newest and random earlier translations are judged, of so many of each domain; 0: the newest
            alone.
        content_weight: of the content loss (CartoonGAN's omega).
        initial: share of the training at its start with the content loss alone (CartoonGAN).
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

    name: Annotated[
        RecipeName,
        Option(
            "Recipe",
            "default: for one machine and few pictures; paper: exactly the authors' training; cyclegan: CycleGAN's "
            "losses and networks, to compare with.",
            default="default",
            name="recipe",
        ),
    ] = "default"
    batch_size: Annotated[
        int,
        Range(1, 1024),
        Option(
            "Recipe",
            "Pictures of each domain per step.",
            metavar="auto|N",
            default="1; on a GPU up to 4, as many as fit; paper, cyclegan: 1",
            type=str,
        ),
    ] = 1
    learning_rate: Annotated[float, Range(0, 1), Option("Recipe", "Adam's step.")] = 2e-4
    beta1: Annotated[float, Range(0, BELOW_1)] = 0.5
    beta2: Annotated[float, Range(0, BELOW_1)] = 0.999
    weight_decay: Annotated[float, Range(0, 1), Option("Recipe", "Adam's L2 term.")] = 1e-4
    decay_from: Annotated[
        float,
        Range(0, 1),
        Option("Recipe", "Share of the training after which the learning rate falls to 0.", before="weight_decay"),
    ] = 0.5
    adversarial_weight: Annotated[float, Range(0, 1e6), Option("Recipe", "Looks like the other domain.")] = 1.0
    cycle_weight: Annotated[float, Range(0, 1e6), Option("Recipe", "There and back is the same.")] = 10.0
    identity_weight: Annotated[float, Range(0, 1e6), Option("Recipe", "The target domain stays as it is.")] = 10.0
    cam_weight: Annotated[float, Range(0, 1e6), Option("Recipe", "Attention tells the domains apart.")] = 1000.0
    pool_size: Annotated[
        int, Range(0, 10_000), Option("Recipe", "Translations of each domain that discriminators may see again.")
    ] = 0
    content_weight: Annotated[float, Range(0, 1e6), Option("Recipe", "The content of pictures stays as it is.")] = (
        10.0
    )
    initial: Annotated[
        float, Range(0, 1), Option("Recipe", "Share of the training that learns to copy pictures first.")
    ] = 0.0
    power_iterations: Annotated[
        PowerIterations, Option("Recipe", "How often spectral norms are estimated.", before="seed")
    ] = "each-step"
    ema: Annotated[
        float, Range(0, BELOW_1), Option("Recipe", "What the generators' moving average keeps per step; 0: none.")
    ] = 0.999
    augment: Annotated[
        Augmentation,
        Option("Recipe", "Augment what the discriminators see; auto: if --iterations is 200 epochs or more."),
    ] = "auto"
    flip: Annotated[bool, Option("Pictures", "Mirror pictures at random.", default="flip")] = True
    fit: Annotated[TrainingFit, Option("Pictures", "Keep proportions, or make pictures square.", before="flip")] = (
        "aspect"
    )

    def __post_init__(self) -> None:
        check_types(self, Recipe)
        check_ranges(self, Recipe)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dataclasses.asdict(self)


# What a recipe changes in the model, by the names of `ModelConfig`, where the user doesn't say otherwise.
MODEL_DEFAULTS: Final[Mapping[RecipeName, Mapping[str, Any]]] = {
    "default": {},
    "paper": {},
    "cyclegan": {"decoder_norm": "in", "generator_cam": False, "discriminator_cam": False, "discriminators": "local"},
}


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

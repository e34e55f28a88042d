"""How a model is trained: losses' weights, optimizer, schedule, and what the default recipe adds to the paper's."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from ugatit_cli.config import Order
from ugatit_cli.errors import ConfigError
from ugatit_cli.fields import Option, Range, check_ranges, check_types

RecipeName = Literal["default", "paper"]
Augmentation = Literal["auto", "on", "off"]
PowerIterations = Literal["each-step", "each-pass"]
TrainingFit = Literal["aspect", "squash"]
Cycle = Literal["pairs", "joint"]
EpochDecay = Literal["cyclegan", "drit", "aggan"]

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
        halve_every: steps after which the learning rate is halved, again and again, beside all else; 0: never.
        epochs: so many times the larger domain is gone through, where users don't say how long a training is; the
            learning rate then falls from epoch to epoch instead of from step to step; 0: neither.
        adversarial_weight, cycle_weight, identity_weight, cam_weight: lambda 1 to 4 (paper section 2.2).
        cycle: `joint`: the gradient of the cycle loss flows through both generators, as in the paper; `pairs`: each
            generator restores real pictures from what the moving average of the other one made of them.
        feature_weight: of the distance of such pairs in features of a network that knows photos.
        judge_weight: of what a projected discriminator on the same features says of translations.
        reconstruction_weight: of the L1 between a picture and what its own domain's decoder makes of its codes.
        style_weight: of the L1 between a style code and that of the picture that was made with it.
        kl_weight: of what keeps codes near N(0, 1).
        pool_size: the newest and random earlier translations are judged, of so many of each domain; 0: the newest
            alone.
        content_weight: of the content loss (CartoonGAN's omega), or of the L1 between content codes (MUNIT).
        attention_share: share of the training in which AGGAN's attention is trained, too.
        power_iterations: `each-pass`: one power iteration of the spectral norms in each of a step's three passes
            through a discriminator, as the official code does; `each-step`: one per step, real and translated
            pictures going through together.
        ema: the generators' moving average keeps this share per step, ramped up at the start; 0: none.
        augment: differentiable augmentation of all that the discriminators see (Zhao et al. 2020); `auto`, which a
            run resolves when it begins: where every picture will be seen very often.
        warm_up: what `parse_warm_up` takes: generators learn to copy before anything else.
        flip: pictures are mirrored at random.
        vgg: a file; None: see `methods.vgg.load_vgg`.
        mode_seeking_weight: of what makes translations differ as much as their styles (DRIT++); 0: without.
        epoch_decay: whose code it is that says how the learning rate falls from epoch to epoch.
        ends_after: share of the epochs after which the training ends; a run sets it when it begins.
        jitter: crops are random ones of pictures that are somewhat larger.
        margin: by so many pixels, where pictures are made square.
        fit: `squash` makes pictures square before the random crop, as the official code does; `aspect` keeps
            their proportions.
        bicubic: pictures are resized bicubically, not bilinearly.
        order: which pictures come when; see `data.batches.Batches`.

    Raises:
        ConfigError: a value is out of range.
    """

    name: Annotated[
        RecipeName,
        Option(
            "Recipe",
            "default: for one machine and few pictures; paper: the authors' training (its network: --variant full).",
            default="",
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
            default="4; paper, other methods without a GPU: 1; drit: 2 or more; on a GPU as many as fit",
            type=str,
        ),
    ] = 1
    learning_rate: Annotated[
        float,
        Range(0, 1),
        Option(
            "Recipe",
            "How far each step changes the networks; less is slower and steadier.",
            default="0.0001; cyclegan, default of cartoongan: 0.0002",
        ),
    ] = 2e-4
    beta1: Annotated[float, Range(0, BELOW_1)] = 0.5
    beta2: Annotated[float, Range(0, BELOW_1)] = 0.999
    weight_decay: Annotated[
        float,
        Range(0, 1),
        Option(
            "Recipe",
            "Pulls weights towards 0, against learning pictures by heart.",
            default="0; unit, munit, drit, paper of ugatit: 0.0001",
        ),
    ] = 1e-4
    decay_from: Annotated[
        float,
        Range(0, 1),
        Option(
            "Recipe",
            "Share of the training after which the learning rate falls to 0.",
            default="0.5; paper of cartoongan, unit, munit: 1",
            before="weight_decay",
        ),
    ] = 0.5
    halve_every: Annotated[int, Range(0, 10**9)] = 0
    epochs: Annotated[int, Range(0, 10**6)] = 0
    epoch_decay: EpochDecay = "cyclegan"
    ends_after: Annotated[float, Range(0, 1)] = 1.0
    adversarial_weight: Annotated[
        float, Range(0, 1e6), Option("Recipe", "How much a translation must look like the other domain.")
    ] = 1.0
    cycle: Annotated[
        Cycle,
        Option(
            "Recipe",
            "There and back: each way from pairs that the other makes, or both ways jointly, as in the paper.",
            default="pairs; paper: joint",
        ),
    ] = "joint"
    cycle_weight: Annotated[
        float,
        Range(0, 1e6),
        Option(
            "Recipe", "How much there and back must give the same picture.", default="5; paper, other methods: 10"
        ),
    ] = 10.0
    identity_weight: Annotated[
        float,
        Range(0, 1e6),
        Option(
            "Recipe",
            "How much pictures of the target domain must stay as they are.",
            default="1; paper: 10; cyclegan: 5",
        ),
    ] = 10.0
    cam_weight: Annotated[
        float,
        Range(0, 1e6),
        Option("Recipe", "How much attention must tell the domains apart.", default="5; paper: 1000"),
    ] = 1000.0
    feature_weight: Annotated[
        float,
        Range(0, 1e6),
        Option(
            "Recipe",
            "How much there and back must look the same to a network that knows photos.",
            default="1; paper: 0",
        ),
    ] = 0.0
    judge_weight: Annotated[
        float,
        Range(0, 1e6),
        Option(
            "Recipe",
            "How much a translation must look like the other domain to a discriminator on that network's features.",
            default="0.2; paper: 0",
        ),
    ] = 0.0
    reconstruction_weight: Annotated[
        float, Range(0, 1e6), Option("Recipe", "How much a picture, encoded and decoded, must stay the same.")
    ] = 10.0
    style_weight: Annotated[
        float,
        Range(0, 1e6),
        Option(
            "Recipe", "How much translations must have the style that they were made with.", default="1; drit: 10"
        ),
    ] = 1.0
    kl_weight: Annotated[
        float, Range(0, 1e6), Option("Recipe", "How near codes must stay to the normal distribution.")
    ] = 0.01
    mode_seeking_weight: Annotated[
        float, Range(0, 1e6), Option("Recipe", "How much other styles must give other translations; DRIT++ has 1.")
    ] = 0.0
    pool_size: Annotated[
        int,
        Range(0, 10_000),
        Option(
            "Recipe",
            "Earlier translations that discriminators may see again, of each domain.",
            default="cyclegan, aggan: 50",
        ),
    ] = 0
    content_weight: Annotated[
        float,
        Range(0, 1e6),
        Option("Recipe", "How much the content of pictures must stay as it is.", default="10; munit: 1"),
    ] = 10.0
    attention_share: Annotated[
        float,
        Range(0, 1),
        Option("Recipe", "Share of the training in which attention is trained, too.", default="aggan: 0.3"),
    ] = 0.3
    warm_up: Annotated[
        str,
        Option(
            "Recipe",
            "Learn to copy pictures first: for so many steps, or a share of the training.",
            metavar="N|N%|off",
            default="5%; paper, other methods: off; cartoongan: 5%; paper of cartoongan: 1%",
        ),
    ] = "off"
    power_iterations: Annotated[
        PowerIterations,
        Option("Recipe", "How often spectral norms, which tame discriminators, are estimated.", before="seed"),
    ] = "each-step"
    ema: Annotated[
        float,
        Range(0, BELOW_1),
        Option("Recipe", "Steadier models: what the average of all generators so far keeps per step; 0: none."),
    ] = 0.999
    augment: Annotated[
        Augmentation,
        Option(
            "Recipe",
            "For few pictures: shift and recolour what discriminators see; auto: in trainings of 200 epochs or more.",
        ),
    ] = "auto"
    flip: Annotated[
        bool, Option("Pictures", "Mirror pictures at random.", default="flip; paper of cartoongan: no-flip")
    ] = True
    vgg: Annotated[
        str | None,
        Option(
            "Recipe",
            "VGG19 for the content loss, with torchvision's names.",
            metavar="FILE",
            default="the standard one, downloaded",
            type=Path,
        ),
    ] = None
    jitter: bool = True
    margin: Annotated[int, Range(0, 4096)] = 30
    fit: Annotated[
        TrainingFit,
        Option(
            "Pictures",
            "Keep proportions, or make pictures square.",
            default="aspect; paper: squash; unit, munit: aspect",
            before="flip",
        ),
    ] = "aspect"
    bicubic: bool = False
    order: Order = "shuffled"

    def __post_init__(self) -> None:
        check_types(self, Recipe)
        check_ranges(self, Recipe)
        parse_warm_up(self.warm_up)
        if self.cycle == "joint" and (self.feature_weight or self.judge_weight):
            flag = "--feature-weight" if self.feature_weight else "--judge-weight"
            raise ConfigError(f"{flag} means nothing to --cycle joint", "Leave it out, or train with --cycle pairs.")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dataclasses.asdict(self)


COMMON: Final = frozenset(
    {
        *("name", "batch_size", "learning_rate", "beta1", "beta2", "weight_decay", "decay_from"),
        *("adversarial_weight", "warm_up", "ema", "augment", "flip", "fit"),
    }
)
"""Names of the fields that every method heeds."""


def parse_warm_up(text: str) -> tuple[int, float]:
    """`800` -> (800, 0.0): steps; `5%` -> (0, 0.05): a share of the training; `off`: neither.

    Raises:
        ConfigError: none of these.
    """
    match = re.fullmatch(r"(\d{1,9})|(\d{1,3}(?:\.\d{1,9})?)%", "0" if text == "off" else text, re.ASCII)
    if match and float(match[2] or 0) <= 100:
        return int(match[1] or 0), float(match[2] or 0) / 100
    raise ConfigError(f"--warm-up {text}: unknown", "It is a number of steps (800), a share (5%), or off.")


def preset(name: RecipeName) -> Recipe:
    """U-GAT-IT's recipe of a name; `paper` follows the official PyTorch code to the letter.

    Raises:
        KeyError: there is none.
    """
    paper = Recipe("paper", learning_rate=1e-4, power_iterations="each-pass", ema=0.0, augment="off", fit="squash")
    ours = Recipe(
        batch_size=4,
        learning_rate=1e-4,
        beta1=0.9,
        beta2=0.99,
        weight_decay=0.0,
        cycle="pairs",
        cycle_weight=5.0,
        feature_weight=1.0,
        judge_weight=0.2,
        identity_weight=1.0,
        cam_weight=5.0,
        warm_up="5%",
    )
    return {"default": ours, "paper": paper}[name]

"""The options of a run beside the model and the recipe: how long, from where, what is written. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ugatit_cli.config import Direction, Precision
from ugatit_cli.errors import UsageError
from ugatit_cli.fields import Option, Range, check_ranges, check_types


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The table `[run]` of `config.toml`: what each field means says its option.

    Attributes:
        checkpoint_every, sample_every, evaluate_every: as `parse_interval` takes it; `growing` samples; or `off`.
        extractor, features: see `metrics.features.load_extractor`; an absolute path.

    Raises:
        UsageError: values that make no sense.
    """

    holdout: Annotated[
        str,
        Option(
            "Pictures",
            "Pictures to keep from training, for samples and evaluation.",
            metavar="N%|N|off",
            default="5%, or all of testA, testB",
            before="fit",
        ),
    ] = "5%"
    precision: Annotated[
        Precision,
        Option(
            "Machine",
            "Number format; auto: bf16, which is faster, where the device is good at it.",
            default="auto; paper: fp32",
            type=Literal["auto", "fp32", "bf16", "fp16"],
            before="workers",
        ),
    ]
    iterations: Annotated[
        int | None,
        Range(1, 10**9),
        Option(
            "Start",
            "Train for so many steps in all.",
            default="100000; paper: 1000000; its epochs: cyclegan 200, aggan 100, drit 1200",
            shows_range=True,
            before="resume",
        ),
    ] = None
    minutes: Annotated[
        float | None,
        Range(0.001, 10**6),
        Option("Start", "Train for so many minutes in all.", metavar="M", shows_range=True, before="output"),
    ] = None
    seed: Annotated[
        int,
        Range(0, 2**63 - 1),
        Option(
            "Recipe",
            "Another number, other chances: of the first weights, and of the order of pictures.",
            shows_range=True,
        ),
    ] = 0
    checkpoint_every: Annotated[
        str,
        Option(
            "What is written",
            "Save every so many steps (500) or minutes (10m).",
            metavar="N|Mm",
            before="tensorboard",
        ),
    ] = "10m"
    sample_every: Annotated[
        str,
        Option(
            "What is written",
            "Pictures of what it can do so far, every so many steps or minutes; growing: at 10, 15, 23, 34, ...",
            metavar="N|Mm|growing",
            before="tensorboard",
        ),
    ] = "growing"
    keep: Annotated[
        int,
        Range(1, 10**6),
        Option("What is written", "How many checkpoints stay.", shows_range=True, before="tensorboard"),
    ] = 2
    start: Annotated[
        str | None,
        Option(
            "Start",
            "Start from this model: a name, a folder, a run, or OWNER/NAME.",
            metavar="MODEL",
            flags=("--from",),
        ),
    ] = None
    start_direction: Annotated[
        Direction, Option("Start", "Which way of that model goes from your A to your B.", flags=("--from-direction",))
    ] = "a2b"
    checkpointing: Annotated[
        bool,
        Option(
            "Machine",
            "Less memory, more time: compute things twice instead of keeping them.",
            default="for full models",
            flags=("--save-memory/--no-save-memory",),
        ),
    ]
    evaluate_every: Annotated[
        str,
        Option(
            "Evaluation",
            "Steps (1000) or minutes (30m) between evaluations: KID on the held-out pictures, each way; the best "
            "model is kept in RUN/best. Their time doesn't count as training time.",
            metavar="N|Mm|off",
        ),
    ] = "off"
    extractor: Annotated[
        Literal["auto", "inception", "bundled"],
        Option(
            "Evaluation",
            "Whose features KID compares: the standard Inception-v3's, downloaded once, or those of a bundled "
            "network, whose figures compare only with each other. auto: the first if it can be had.",
            default="auto",
        ),
    ] = "auto"
    features: Annotated[
        str | None,
        Option(
            "Evaluation",
            "Instead of these: an Inception-v3, safetensors with torchvision's names.",
            metavar="FILE",
            type=Path,
        ),
    ] = None
    feature_layer: Annotated[
        str | None, Option("Evaluation", "Which of its layers.", metavar="NAME", default="the last")
    ] = None

    def __post_init__(self) -> None:
        check_types(self, RunOptions)
        check_ranges(self, RunOptions)
        if (self.iterations is None) == (self.minutes is None):
            raise UsageError("a run has either --iterations or --minutes")
        parse_interval("--checkpoint-every", self.checkpoint_every)
        if self.sample_every != "growing":
            parse_interval("--sample-every", self.sample_every)
        if self.evaluates:
            parse_interval("--evaluate-every", self.evaluate_every)

    @property
    def evaluates(self) -> bool:
        """Whether the generators are evaluated on the hold-out."""
        return self.evaluate_every != "off"


def parse_interval(option: str, text: str) -> tuple[int, float]:
    """`500` -> (500, 0.0): steps; `10m` -> (0, 600.0): seconds.

    Raises:
        UsageError: neither.
    """
    number = re.fullmatch(r"(\d{1,12})|(\d{1,12}(?:\.\d{1,12})?)m", text, re.ASCII)
    if number and float(number[1] or number[2]) > 0:
        return (int(number[1]), 0.0) if number[1] else (0, 60 * float(number[2]))
    raise UsageError(f"{option} {text}: unknown", "It is a number of steps (500), or minutes (10m).")

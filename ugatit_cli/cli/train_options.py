"""The options of `ugatit train`. None of them has a value unless the user states one: the engine has the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

DATA = "Pictures"
START = "Start"
LENGTH = "Length"
MODEL = "Model"
RECIPE = "Recipe"
FILES = "What is written"
EVALUATION = "Evaluation"
MACHINE = "Machine"


class TrainCommand(TyperCommand):
    """A command whose help shows its options in sections."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes a section for each group of options, in the order of the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or "Other", []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _option(section: str, *names: str, help: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=section, show_default=False, **settings)


# --- Pictures ------------------------------------------------------------------------------------------

DomainAOption = Annotated[
    Path | None, _option(DATA, "--domain-a", metavar="DIR", help="Pictures of the first domain, subfolders included.")
]
DomainBOption = Annotated[
    Path | None, _option(DATA, "--domain-b", metavar="DIR", help="Pictures of the second domain.")
]
DataOption = Annotated[
    Path | None,
    _option(
        DATA,
        "--data",
        metavar="DIR",
        help="Instead of the two: a folder with trainA, trainB, and testA, testB if any.",
    ),
]
DomainsOption = Annotated[
    str | None,
    _option(DATA, "--domains", metavar="A,B", help="Names of the domains.  [default: those of the folders]"),
]
HoldoutOption = Annotated[
    str | None,
    _option(
        DATA,
        "--holdout",
        metavar="N%|N|off",
        help="Pictures to keep from training, for samples and evaluation.  [default: 5%, or all of testA, testB]",
    ),
]
FitOption = Annotated[
    Literal["aspect", "squash"] | None,
    _option(DATA, "--fit", help="Keep proportions, or make pictures square.  [default: aspect; paper: squash]"),
]
FlipOption = Annotated[
    bool | None, _option(DATA, "--flip/--no-flip", help="Mirror pictures at random.  [default: flip]")
]

# --- Start ---------------------------------------------------------------------------------------------

ResumeOption = Annotated[
    Path | None,
    _option(
        START,
        "--resume",
        metavar="RUN",
        help="Go on with this run, as it was begun. The same command again does it, too.",
    ),
]
FromOption = Annotated[
    str | None,
    _option(START, "--from", metavar="MODEL", help="Start from this model: a name, a folder, a run, or OWNER/NAME."),
]
FromDirectionOption = Annotated[
    Literal["a2b", "b2a"] | None,
    _option(START, "--from-direction", help="Which way of that model your A to B is.  [default: a2b]"),
]

# --- Length --------------------------------------------------------------------------------------------

IterationsOption = Annotated[
    int | None,
    _option(
        LENGTH,
        "--iterations",
        min=1,
        max=10**9,
        metavar="N",
        help="Train for so many steps in all.  [default: 100000; paper: 1000000]",
    ),
]
MinutesOption = Annotated[
    float | None,
    _option(LENGTH, "--minutes", min=0.001, max=10**6, metavar="M", help="Train for so many minutes in all instead."),
]

# --- Model ---------------------------------------------------------------------------------------------

VariantOption = Annotated[
    Literal["light", "full"] | None,
    _option(MODEL, "--variant", help="light runs at any picture size; full is the paper's.  [default: light]"),
]
ImageSizeOption = Annotated[
    int | None, _option(MODEL, "--image-size", metavar="PX", help="Side of the training pictures.  [default: 256]")
]
ChannelsOption = Annotated[
    int | None, _option(MODEL, "--channels", metavar="N", help="Channels of the first layer.  [default: 64]")
]
BlocksOption = Annotated[
    int | None, _option(MODEL, "--blocks", metavar="N", help="Residual blocks, twice as many in all.  [default: 4]")
]
DiscriminatorChannelsOption = Annotated[
    int | None,
    _option(
        MODEL,
        "--discriminator-channels",
        metavar="N",
        help="Channels of the discriminators' first layer.  [default: as --channels]",
    ),
]

DecoderNormOption = Annotated[
    Literal["adalin", "in", "ln", "adain", "gn"] | None,
    _option(
        MODEL,
        "--decoder-norm",
        help="Norm of the decoder; all but adalin are ablations.  [default: adalin; cyclegan: in]",
    ),
]
GeneratorCamOption = Annotated[
    bool | None,
    _option(
        MODEL,
        "--generator-cam/--no-generator-cam",
        help="Attention in the generators.  [default: with; cyclegan: without]",
    ),
]
DiscriminatorCamOption = Annotated[
    bool | None,
    _option(
        MODEL,
        "--discriminator-cam/--no-discriminator-cam",
        help="Attention in the discriminators.  [default: with; cyclegan: without]",
    ),
]
DiscriminatorsOption = Annotated[
    Literal["both", "local"] | None,
    _option(
        MODEL,
        "--discriminators",
        help="Local and global ones, or local ones alone.  [default: both; cyclegan: local]",
    ),
]

# --- Recipe --------------------------------------------------------------------------------------------

RecipeOption = Annotated[
    Literal["default", "paper", "cyclegan"] | None,
    _option(
        RECIPE,
        "--recipe",
        help="default: for one machine and few pictures; paper: exactly the authors' training; cyclegan: CycleGAN's "
        "losses and networks, to compare with.  [default: default]",
    ),
]
BatchSizeOption = Annotated[
    str | None,
    _option(
        RECIPE,
        "--batch-size",
        metavar="auto|N",
        help="Pictures of each domain per step.  [default: 1; on a GPU up to 4, as many as fit; paper, cyclegan: 1]",
    ),
]
LearningRateOption = Annotated[
    float | None,
    _option(RECIPE, "--learning-rate", metavar="X", help="Adam's step.  [default: 0.0002; paper: 0.0001]"),
]
DecayFromOption = Annotated[
    float | None,
    _option(
        RECIPE,
        "--decay-from",
        metavar="X",
        help="Share of the training after which the learning rate falls to 0.  [default: 0.5]",
    ),
]
WeightDecayOption = Annotated[
    float | None,
    _option(RECIPE, "--weight-decay", metavar="X", help="Adam's L2 term.  [default: 0.0001; cyclegan: 0]"),
]
AdversarialWeightOption = Annotated[
    float | None,
    _option(RECIPE, "--adversarial-weight", metavar="X", help="Looks like the other domain.  [default: 1]"),
]
CycleWeightOption = Annotated[
    float | None, _option(RECIPE, "--cycle-weight", metavar="X", help="There and back is the same.  [default: 10]")
]
IdentityWeightOption = Annotated[
    float | None,
    _option(
        RECIPE, "--identity-weight", metavar="X", help="The target domain stays as it is.  [default: 10; cyclegan: 5]"
    ),
]
CamWeightOption = Annotated[
    float | None,
    _option(RECIPE, "--cam-weight", metavar="X", help="Attention tells the domains apart.  [default: 1000]"),
]
EmaOption = Annotated[
    float | None,
    _option(
        RECIPE,
        "--ema",
        metavar="X",
        help="What the generators' moving average keeps per step; 0: none.  [default: 0.999; paper, cyclegan: 0]",
    ),
]
AugmentOption = Annotated[
    Literal["auto", "on", "off"] | None,
    _option(
        RECIPE,
        "--augment",
        help="Augment what the discriminators see; auto: if --iterations is 200 epochs or more.  "
        "[default: auto; paper, cyclegan: off]",
    ),
]
PowerIterationsOption = Annotated[
    Literal["each-step", "each-pass"] | None,
    _option(
        RECIPE,
        "--power-iterations",
        help="How often spectral norms are estimated.  [default: each-step; paper: each-pass]",
    ),
]
SeedOption = Annotated[
    int | None, _option(RECIPE, "--seed", min=0, max=2**63 - 1, metavar="N", help="Of all randomness.  [default: 0]")
]

# --- What is written -----------------------------------------------------------------------------------

RunOption = Annotated[
    Path | None,
    _option(
        FILES,
        "--output",
        "-o",
        metavar="RUN",
        help="The run folder.  [default: runs/A2B with the names of the domains]",
    ),
]
CheckpointEveryOption = Annotated[
    str | None,
    _option(FILES, "--checkpoint-every", metavar="N|Mm", help="Steps (500) or minutes (10m).  [default: 10m]"),
]
SampleEveryOption = Annotated[
    str | None,
    _option(
        FILES,
        "--sample-every",
        metavar="N|Mm|growing",
        help="Steps, minutes, or growing: at 10, 15, 23, 34, ... steps.  [default: growing]",
    ),
]
KeepOption = Annotated[
    int | None, _option(FILES, "--keep", min=1, max=10**6, metavar="N", help="How many checkpoints.  [default: 2]")
]
TensorBoardOption = Annotated[
    bool, _option(FILES, "--tensorboard", help="Write for TensorBoard, too: RUN/tensorboard.")
]
DryRunOption = Annotated[
    bool,
    _option(FILES, "--dry-run", help="Say what would be done, with measured speed and memory, and write nothing."),
]
JsonOption = Annotated[bool, _option(FILES, "--json", help="The result on stdout as JSON, one line.")]

# --- Evaluation ----------------------------------------------------------------------------------------

EvaluateEveryOption = Annotated[
    str | None,
    _option(
        EVALUATION,
        "--evaluate-every",
        metavar="N|Mm|off",
        help="Steps (1000) or minutes (30m) between evaluations: KID on the held-out pictures, both ways; the best "
        "model is kept in RUN/best. Their time doesn't count as training time.  [default: off]",
    ),
]
FeaturesOption = Annotated[
    Path | None,
    _option(
        EVALUATION,
        "--features",
        metavar="FILE",
        help="Inception-v3 for KID, safetensors with torchvision's names.  [default: the standard one, downloaded]",
    ),
]
FeatureLayerOption = Annotated[
    str | None,
    _option(EVALUATION, "--feature-layer", metavar="NAME", help="Which of its maps.  [default: the last]"),
]

# --- Machine -------------------------------------------------------------------------------------------

DeviceOption = Annotated[
    str | None,
    _option(MACHINE, "--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]"),
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"] | None,
    _option(
        MACHINE,
        "--precision",
        help="Float type of large products; auto: bf16 where the device is good at it.  [default: auto; paper: fp32]",
    ),
]
WorkersOption = Annotated[
    str | None,
    _option(MACHINE, "--workers", metavar="auto|N", help="Threads that decode pictures.  [default: auto]"),
]
SaveMemoryOption = Annotated[
    bool | None,
    _option(
        MACHINE,
        "--save-memory/--no-save-memory",
        help="Compute activations twice instead of keeping them.  [default: for full models]",
    ),
]

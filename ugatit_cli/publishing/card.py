"""Model cards: the page that people see on the Hub, written from what is known and nothing else."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from huggingface_hub import ModelCardData

from ugatit_cli.config import ModelConfig, Precision
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.weights.folder import (
    DISCRIMINATORS_FILE,
    GENERATORS_FILE,
    SAMPLES_FILE,
    ModelFolder,
    generator_shapes,
)
from ugatit_cli.wording import byte_size

# Their sections and rows say it better than a row of their own.
_TOLD: Final = frozenset(
    {"description", "training_data", "training", "trained with", "recipe", "steps", "batch size", "pictures",
     "started from", "imported_from", "code", "sha256", "repository", "commit", "kid", "extractor", "generators",
     "held-out pictures", "subsets"}
)  # fmt: skip
# What a page can't show, or that would end a line.
CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|~#&$])")
_ADDRESS: Final = re.compile(r"(https?://[^\s<>|]+[^\s<>|.,;:!?)'\"])")
_FRONT: Final = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_PRECISIONS: Final[Mapping[Precision, str]] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_CITATION: Final = """\
```bibtex
@inproceedings{kim2020ugatit,
  title     = {U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive Layer-Instance
               Normalization for Image-to-Image Translation},
  author    = {Junho Kim and Minjae Kim and Hyeonwoo Kang and Kwang Hee Lee},
  booktitle = {International Conference on Learning Representations},
  year      = {2020},
  url       = {https://arxiv.org/abs/1907.10830}
}
```"""


@dataclass(frozen=True)
class Training:
    """What a run folder knows of its training.

    Attributes:
        recipe: how it was trained.
        precision: what large products were computed in.
        iterations: how many steps were planned; None: it was given time, not steps.
    """

    recipe: Recipe
    precision: Precision
    iterations: int | None


@dataclass(frozen=True)
class Facts:
    """What a card tells beside what the model folder says.

    Attributes:
        repository: `owner/name` on the Hub.
        files: name -> size in bytes, of all that is published but the card.
        storage: float type of the weights: `float32`.
        licence: a licence id of the Hub; empty: not stated.
        data: what it was trained on; empty: as the model folder says.
        description: what it does; empty: as the model folder says.
        training: for the model of a run.
        samples_step: the step after which training drew `samples.png`; None: it is another picture, or none.
        evaluation: `kid`, not times 100, or several by what they are of; how it was measured: `extractor`,
            `held-out pictures`, `subsets`; `generators`: which of a run's kinds these are. Anything else is left.
    """

    repository: str
    files: Mapping[str, int]
    storage: str
    licence: str = ""
    data: str = ""
    description: str = ""
    training: Training | None = None
    samples_step: int | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)


def model_card(model: ModelFolder, facts: Facts) -> str:
    """The card: Markdown below the Hub's metadata in YAML, without sections of which nothing is known."""
    config, provenance = model.config, model.provenance
    title = f"# {escaped(config.domain_a)} ↔ {escaped(config.domain_b)}"
    sections = [
        _metadata(config, facts),
        title,
        _introduction(config, provenance, facts),
        _samples(config, facts),
        _usage(config, facts),
        _section("The model", _table(_model_rows(config, facts))),
        _section("Training", _training(config, provenance, facts)),
        _section("Where the weights come from", _origin(provenance)),
        _section("Evaluation", _evaluation(config, facts.evaluation)),
        _section("Limits", _limits(config)),
        _section("Licence", _licence(facts)),
        _section("Citation", f"The method is U-GAT-IT (Kim et al., ICLR 2020):\n\n{_CITATION}"),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def summary(model: ModelFolder, description: str) -> str:
    """One line on what a model does: as the user says it, as its folder does, or from its domains."""
    known = description or _line(model.provenance.get("description"))
    return known or f"{model.config.domain_a} to {model.config.domain_b}, and back"


def training_data(model: ModelFolder, data: str) -> str:
    """One line on what a model was trained on, as far as somebody has said so."""
    return data or _line(model.provenance.get("training_data")) or "not described"


def licence_of(card: str) -> str:
    """The licence in the metadata of a card; empty if it states none."""
    found = re.search(r"^license:[ \t]*(\S.*?)[ \t]*(?:\s#.*)?$", _parts(card)[0], re.MULTILINE)
    return _line(found[1].strip("'\"")) if found is not None else ""


def says_nothing(card: str) -> bool:
    """Whether a card is one that nobody would miss: without text, and without a licence."""
    return not _parts(card)[1].strip() and not licence_of(card)


def _parts(card: str) -> tuple[str, str]:
    """Metadata and Markdown."""
    text = card.removeprefix("\ufeff").replace("\r\n", "\n")
    front = _FRONT.match(text)
    return (front[1], text[front.end() :]) if front is not None else ("", text)


def escaped(text: str) -> str:
    """Plain text as Markdown, on one line; web addresses become links."""
    parts = _ADDRESS.split(_line(text))
    return "".join(f"<{part}>" if index % 2 else _MARKUP.sub(r"\\\1", part) for index, part in enumerate(parts))


def _code(text: str) -> str:
    """As code, where nothing in the text ends it early."""
    line = _line(text)
    return f"`{line}`" if line and not set("`|") & set(line) else escaped(line)


def _line(value: object) -> str:
    """A text as one line; anything else is none."""
    return " ".join(CONTROLS.sub(" ", value).split()) if isinstance(value, str) else ""


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _table(rows: Iterator[tuple[str, str]]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join(["| | |", "| --- | --- |", *lines]) if lines else ""


# --- Above -----------------------------------------------------------------------------------------------


def _metadata(config: ModelConfig, facts: Facts) -> str:
    domains = [_tag(name) for name in (config.domain_a, config.domain_b)]
    data = ModelCardData(
        license=facts.licence or None,
        library_name="ugatit",
        pipeline_tag="image-to-image",
        tags=["u-gat-it", "image-to-image", "unpaired", "gan", *(tag for tag in domains if len(tag) > 1)],
    )
    return f"---\n{data.to_yaml()}\n---"


def _tag(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.casefold()).strip("-")


def _introduction(config: ModelConfig, provenance: Mapping[str, Any], facts: Facts) -> str:
    a, b = escaped(config.domain_a), escaped(config.domain_b)
    own = facts.description or _line(provenance.get("description"))
    lead = [f"{escaped(own)}."] if own and own[-1] not in ".!?" else [escaped(own)] if own else []
    attention = " and with attention to what sets the two apart" if config.generator_cam else ""
    general = (
        f"This is a [U-GAT-IT](https://arxiv.org/abs/1907.10830) model: one network turns **{a}** pictures into "
        f"**{b}** pictures, a second one turns them back. Such networks learn from two sets of pictures, without "
        f"pairs{attention}."
    )
    return "\n\n".join([*lead, general])


def _samples(config: ModelConfig, facts: Facts) -> str:
    if SAMPLES_FILE not in facts.files:
        return ""
    a, b = escaped(config.domain_a), escaped(config.domain_b)
    picture = f"![Samples: {a} to {b}, and back]({SAMPLES_FILE})"
    if facts.samples_step is None:
        return picture
    attention = ["where the network looks (attention)"] if config.generator_cam else []
    columns = [
        "the picture",
        *attention,
        "its translation",
        "the translation turned back",
        "the picture through the other network, which should leave it as it is (identity)",
    ]
    return (
        f"{picture}\n\n*Drawn after {facts.samples_step:,} training steps, one picture a row: above {a} → {b}, "
        f"below {b} → {a}. From left to right: {'; '.join(columns)}.*"
    )


def _usage(config: ModelConfig, facts: Facts) -> str:
    there = f"ugatit translate PICTURES --model {facts.repository} -o out/"
    back = f"ugatit translate PICTURES --model {facts.repository} --to {shlex.quote(config.domain_a)} -o out/"
    size = (
        f"The network works with the short side at {config.image_size} px; `--fit native` keeps a picture's own "
        "resolution."
        if config.light
        else f"The network itself always works at {config.image_size} x {config.image_size} px."
    )
    return f"""\
## How to use it

```bash
pip install .  # in a checkout of ugatit

# {config.domain_a} → {config.domain_b}
{there}

# {config.domain_b} → {config.domain_a}
{back}
```

`PICTURES` are files, folders or globs; the results have the size and format of the originals. {size}

From Python:

```python
import ugatit_cli
from PIL import Image

model = ugatit_cli.load("{facts.repository}")
there = model.translate(Image.open("picture.jpg"))  # {config.domain_a} → {config.domain_b}
back = model.translate(there, direction="b2a")  # {config.domain_b} → {config.domain_a}
```"""


# --- The model -------------------------------------------------------------------------------------------


def _model_rows(config: ModelConfig, facts: Facts) -> Iterator[tuple[str, str]]:
    parameters = sum(math.prod(shape) for shape in generator_shapes(config).values())
    variant = "runs at any picture size" if config.light else "runs at its training size only"
    yield "Variant", f"{config.variant} ({variant})"
    yield "Image size in training", f"{config.image_size} px"
    yield "Channels", f"{config.channels}"
    yield "Residual blocks", f"{config.blocks} in the encoder, {config.blocks} in the decoder"
    if config.decoder_norm != "adalin":
        yield "Norm of the decoder", f"{config.decoder_norm} instead of AdaLIN (an ablation of the paper)"
    if not config.generator_cam:
        yield "Attention", "none (an ablation of the paper)"
    yield "Parameters", f"{parameters / 1e6:.3g} million in both generators"
    yield "Follows", f"the official {'PyTorch' if config.dialect == 'pytorch' else 'TensorFlow'} code"
    yield "Weights", f"{facts.storage}, {byte_size(facts.files[GENERATORS_FILE])}, safetensors"
    size = facts.files.get(DISCRIMINATORS_FILE)
    kept = f"included, {byte_size(size)}: for fine-tuning" if size is not None else "not included"
    local = ["local ones alone"] if config.discriminators == "local" else []
    traits = ", ".join(local + ([] if config.discriminator_cam else ["without attention"]))
    yield "Discriminators", kept + (f"; {traits}" if traits else "")


# --- Training --------------------------------------------------------------------------------------------


def _training(config: ModelConfig, provenance: Mapping[str, Any], facts: Facts) -> str:
    data = facts.data or _line(provenance.get("training_data")) or "not described"
    rows = list(_training_rows(config, provenance, facts))
    others = [
        (escaped(str(name)), escaped(str(value))) for name, value in provenance.items() if _is_plain(name, value)
    ]
    return _table(iter([("Data", escaped(data)), *rows, *others]))


def _is_plain(name: str, value: object) -> bool:
    """Whether it is something that the folder says and that no other row tells."""
    return name not in _TOLD and isinstance(value, str | int | float) and bool(str(value).strip())


def _training_rows(config: ModelConfig, provenance: Mapping[str, Any], facts: Facts) -> Iterator[tuple[str, str]]:
    if text := _line(provenance.get("training")):
        yield "Training", escaped(text)
    if pictures := _line(provenance.get("pictures")):
        yield "Pictures", escaped(pictures)
    if "recipe" in provenance:
        yield "Recipe", f"{_code(str(provenance['recipe']))} of `ugatit train`"
    steps, planned = provenance.get("steps"), facts.training.iterations if facts.training else None
    if isinstance(steps, int):
        yield "Steps", f"{steps:,}" + (f" of {planned:,} planned" if planned and steps < planned else "")
    if "batch size" in provenance:
        yield "Batch size", escaped(str(provenance["batch size"]))
    if facts.training:
        yield from _recipe_rows(config, facts.training, current=provenance.get("generators") == "current")
    if start := _line(provenance.get("started from")):
        yield "Started from", _code(_without_folders(start))


def _recipe_rows(config: ModelConfig, training: Training, *, current: bool) -> Iterator[tuple[str, str]]:
    recipe = training.recipe
    decay = (
        f", falling to 0 over the last {1 - recipe.decay_from:.0%} of the training" if recipe.decay_from < 1 else ""
    )
    yield "Learning rate", f"{recipe.learning_rate:g}{decay}"
    names = ("adversarial", "cycle", "identity", *(["CAM"] if config.generator_cam else []))
    weights = (recipe.adversarial_weight, recipe.cycle_weight, recipe.identity_weight, recipe.cam_weight)
    named = zip(names, weights, strict=False)
    yield "Weights of the losses", ", ".join(f"{name} {weight:g}" for name, weight in named)
    if recipe.ema and not current:
        yield "Moving average", f"of the generators, {recipe.ema:g} per step"
    if recipe.augment == "on":
        yield "Augmentation", "of all that the discriminators see"
    yield "Precision", "float32" if training.precision == "fp32" else f"{_PRECISIONS[training.precision]} products"


def _without_folders(start: str) -> str:
    """A path's last part, which says nothing about the machine it was on; names and Hub ids as they are."""
    if not re.match(r"[/\\~]|[A-Za-z]:|\.", start):
        return start
    parts = [part for part in re.split(r"[/\\]", start) if part not in ("", "model")]
    if parts[1:] and parts[-1] == "best":
        return f"{parts[-2]} (best)"
    return parts[-1] if parts else "a model"


def _origin(provenance: Mapping[str, Any]) -> str:
    file, code = _line(provenance.get("imported_from")), _line(provenance.get("code"))
    if not file:
        return ""
    made = f" of the {escaped(code)}" if code else ""
    text = f"Converted with `ugatit convert` from the checkpoint {_code(file)}{made}."
    if repository := _line(provenance.get("repository")):
        commit = _line(provenance.get("commit"))
        text += f" It comes from {_code(repository)} on the Hub{f', commit {_code(commit)}' if commit else ''}."
    if sha256 := _line(provenance.get("sha256")):
        text += f" Its SHA-256 is {_code(sha256)}."
    return text


# --- Below -----------------------------------------------------------------------------------------------


def _evaluation(config: ModelConfig, evaluation: Mapping[str, Any]) -> str:
    kid = evaluation.get("kid")
    ways = {
        "a2b": f"{escaped(config.domain_a)} → {escaped(config.domain_b)}",
        "b2a": f"{escaped(config.domain_b)} → {escaped(config.domain_a)}",
    }
    values = kid if isinstance(kid, Mapping) else {"KID x100": kid}
    rows = [
        (ways.get(str(name)) or escaped(str(name)), f"{100 * value:.3g}")
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
    if not rows:
        return ""
    extractor = _line(evaluation.get("extractor"))
    by = f", by {escaped(extractor)}" if extractor else ""
    told = ((name, _line(evaluation.get(name))) for name in ("generators", "held-out pictures", "subsets"))
    rows += [(name.capitalize(), escaped(text)) for name, text in told if text]
    return f"Kernel inception distance (KID x100){by}, lower is better:\n\n{_table(iter(rows))}"


def _limits(config: ModelConfig) -> str:
    size = (
        f"On pictures much larger than {config.image_size} px, `--fit native` shows it things larger than in "
        "training: they may change less."
        if config.light
        else f"Finer detail than {config.image_size} px can show is lost."
    )
    points = (
        "Unpaired translation changes texture, colour and style much more than shape: outlines mostly stay.",
        "It knows what its training pictures showed. Others (another framing or background, several subjects) may "
        "come out poorly, or hardly change.",
        "What it adds is made up. A translation is no evidence of what something or somebody looks like.",
        size,
    )
    return "\n".join(f"- {point}" for point in points)


def _licence(facts: Facts) -> str:
    if facts.licence:
        return f"{_code(facts.licence)}, for the weights."
    return "Not stated by the author. Ask before you use the weights for more than a look."

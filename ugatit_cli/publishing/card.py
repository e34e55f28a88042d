"""Model cards: the page that people see on the Hub, from `card.md` and what is known, and nothing else."""

from __future__ import annotations

import functools
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2
from huggingface_hub import ModelCardData

from ugatit_cli.config import BaseConfig
from ugatit_cli.errors import UsageError
from ugatit_cli.fields import fields_of
from ugatit_cli.methods.base import Method
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import method_of
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import SAMPLES_FILE, ModelFolder, open_tensors, translator_shapes
from ugatit_cli.weights.known import licence_of, split_card
from ugatit_cli.wording import byte_size

# Their sections and rows say it better than a row of their own.
_TOLD: Final = frozenset(
    {"description", "training_data", "training", "trained with", "recipe", "steps", "batch size", "pictures",
     "started from", "imported_from", "code", "sha256", "repository", "commit", "kid", "method", "extractor",
     "generators", "held-out pictures", "subsets"}
)  # fmt: skip
# What a page can't show, or that would end a line.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|~#&$])")
_ADDRESS: Final = re.compile(r"(https?://[^\s<>|]+[^\s<>|.,;:!?)'\"])")
_LICENCE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
# Larger ones, NaN among them, are none; a whole number may be too large to print.
LARGEST_KID: Final = 1e6
_TYPES: Final = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Options:
    """What the user says about a model, and how to publish it; empty where nothing is said.

    Attributes:
        licence: a licence id of the Hub, like `mit`, in lower case.
        data: one line on what it was trained on.
        description: one line on what it does.
        samples: a picture to show.
        discriminators: publish them, too.
        private: make a new repository private.
        overwrite: publish into a repository that holds something else than a ugatit model, and replace any card.

    Raises:
        UsageError: a licence of another shape, or a text that isn't one line.
    """

    licence: str = ""
    data: str = ""
    description: str = ""
    samples: Path | None = None
    discriminators: bool = False
    private: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.licence and not _LICENCE.fullmatch(self.licence):
            raise UsageError(
                f"--licence {self.licence}: not a licence id of the Hub", "Like mit, apache-2.0, cc-by-4.0, or other."
            )
        for option, text in (("data", self.data), ("description", self.description)):
            if _CONTROLS.search(text):
                raise UsageError(f"--{option}: must be one line of plain text")


def model_card(
    model: ModelFolder,
    repository: str,
    options: Options,
    settings: Settings | None = None,
    samples_step: int | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """The card: Markdown below the Hub's metadata in YAML, without sections of which nothing is known.

    Args:
        model: all that is published but the card.
        repository: `owner/name` on the Hub.
        options: what the user says; where that is nothing, what the model folder does.
        settings: how a run trained it; None: no run is known.
        samples_step: the step after which training drew `samples.png`; None: it is another picture, or none.
        evaluation: `kid`, not times 100, or several by what they are of; how it was measured: `extractor`,
            `held-out pictures`, `subsets`; `generators`: which of a run's kinds these are. Anything else is left.
    """
    config, provenance, evaluation = model.config, model.provenance, evaluation or {}
    method = method_of(config)
    lead = escaped(options.description or _line(provenance.get("description")))
    others = [
        (name, str(value))
        for name, value in provenance.items()
        if name not in _TOLD and isinstance(value, str | int | float) and str(value).strip()
    ]
    return _template().render(
        config=config,
        method=method,
        both=config.ways == "both",
        attention=config.lacks("generator") is None,
        losses=list(_losses(method, settings)) if settings else [],
        learning_rate=_learning_rate(settings.recipe) if settings else "",
        p=provenance,
        e=evaluation,
        repository=repository,
        options=options,
        settings=settings,
        metadata=_metadata(config, method, options),
        lead=f"{lead}." if lead and lead[-1] not in ".!?" else lead,
        samples=SAMPLES_FILE if (model.path / SAMPLES_FILE).is_file() else "",
        samples_step=samples_step,
        parameters=sum(math.prod(shape) for shape in translator_shapes(config).values()),
        storage=_storage(model),
        weights=model.weights,
        discriminators=model.discriminators,
        data=training_data(model, options.data),
        licence=stated_licence(model, options.licence),
        others=others,
        kid=list(_distances(config, evaluation.get("kid"))),
    )


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("ugatit_cli", "publishing")
    templates = jinja2.Environment(  # Markdown: `text` and `code` escape
        loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    templates.filters |= {
        "text": escaped, "code": _code, "line": _line, "shell": shlex.quote, "without_folders": _without_folders,
        "size": lambda path: byte_size(path.stat().st_size),
    }  # fmt: skip
    return templates.get_template("card.md")


def _metadata(config: BaseConfig, method: Method, options: Options) -> str:
    domains = [re.sub(r"[\W_]+", "-", name.casefold()).strip("-") for name in (config.domain_a, config.domain_b)]
    data = ModelCardData(
        license=options.licence or None,
        library_name="ugatit",
        pipeline_tag="image-to-image",
        tags=[method.title.lower(), "image-to-image", "unpaired", "gan", *(tag for tag in domains if len(tag) > 1)],
    )
    return data.to_yaml()


def _losses(method: Method, settings: Settings) -> Iterator[tuple[str, float]]:
    """What the losses of a training are called, and what they count."""
    titles = sorted(term.title for term in method.terms(settings.model, settings.recipe))
    for name in fields_of(Recipe):
        words = name.removesuffix("_weight").replace("_", " ")
        named = [title[: len(words)] for title in titles if f"{title.lower()} ".startswith(f"{words} ")]
        if named and name.endswith("_weight") and name in method.settings:
            yield named[0], getattr(settings.recipe, name)


def _learning_rate(recipe: Recipe) -> str:
    parts = [f"{recipe.learning_rate:g}"]
    if recipe.decay_from < recipe.ends_after:
        left = (1 - recipe.ends_after) / (1 - recipe.decay_from)
        lowest, share = f"{left:.0%} of that" if left else "0", 1 - recipe.decay_from / recipe.ends_after
        epochs = ", from epoch to epoch" if recipe.epochs else ""
        parts.append(f"falling to {lowest} over the last {share:.0%} of the training{epochs}")
    if recipe.halve_every:
        parts.append(f"halved every {recipe.halve_every:,} steps")
    return ", ".join(parts)


def _storage(model: ModelFolder) -> str:
    """The float type of matrices and kernels; vectors are float32 in any case."""
    with open_tensors(model.weights) as file:
        headers = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118  # it is no dict
        found = {_TYPES[header.get_dtype()] for header in headers if len(header.get_shape()) > 1}
    return " and ".join(sorted(found))


def _distances(config: BaseConfig, kid: object) -> Iterator[tuple[str, float]]:
    """What a distance is of, and the distance."""
    a, b = escaped(config.domain_a), escaped(config.domain_b)
    ways = {"a2b": f"{a} → {b}", "b2a": f"{b} → {a}"}
    for name, value in (kid if isinstance(kid, Mapping) else {"KID x100": kid}).items():
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_KID:
            yield ways.get(str(name)) or escaped(str(name)), value


def _without_folders(start: str) -> str:
    """A path's last part, which says nothing about the machine it was on; names and Hub ids as they are."""
    if not re.match(r"[/\\~]|[A-Za-z]:|\.", start):
        return start
    parts = [part for part in re.split(r"[/\\]", start) if part not in ("", "model")]
    if parts[1:] and parts[-1] == "best":
        return f"{parts[-2]} (best)"
    return parts[-1] if parts else "a model"


def summary(model: ModelFolder, description: str) -> str:
    """One line on what a model does: as the user says it, as its folder does, or from its domains."""
    known = description or _line(model.provenance.get("description"))
    back = ", and back" if model.config.ways == "both" else ""
    return known or f"{model.config.domain_a} to {model.config.domain_b}{back}"


def training_data(model: ModelFolder, data: str) -> str:
    """One line on what a model was trained on, as far as somebody has said so."""
    return data or _line(model.provenance.get("training_data")) or "not described"


def stated_licence(model: ModelFolder, licence: str) -> str:
    """That of the weights, on one line: as the user says it, or as the model's folder does."""
    return licence or _line(model.provenance.get("licence")) or "not stated"


def says_nothing(card: str) -> bool:
    """Whether a card is one that nobody would miss: without text, and without a licence."""
    return not split_card(card)[1].strip() and not licence_of(card)


def escaped(text: object) -> str:
    """Plain text as Markdown, on one line; web addresses become links; anything but text is nothing."""
    parts = _ADDRESS.split(_line(text))
    return "".join(f"<{part}>" if index % 2 else _MARKUP.sub(r"\\\1", part) for index, part in enumerate(parts))


def _code(text: object) -> str:
    """As code, where nothing in the text ends it early."""
    line = _line(text)
    return f"`{line}`" if line and not set("`|") & set(line) else escaped(line)


def _line(value: object) -> str:
    """A text as one line; anything else is none."""
    return " ".join(_CONTROLS.sub(" ", value).split()) if isinstance(value, str) else ""

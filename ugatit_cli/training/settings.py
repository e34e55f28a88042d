"""A run's settings: resolved once from what the user gives, stored in `config.toml`, and compared when it goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ugatit_cli.config import BaseConfig, ModelConfig, Precision, default_global_layers
from ugatit_cli.data.pictures import Folders, Holdout, Preparation, domains_in, layout_root, parse_holdout
from ugatit_cli.datasets import store
from ugatit_cli.device import resolve_precision
from ugatit_cli.errors import ConfigError, ModelError, UsageError
from ugatit_cli.fields import fields_of, read_table
from ugatit_cli.methods.base import Method
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import METHODS, method, method_of, networks_document, read_networks, size_fields
from ugatit_cli.training.options import RunOptions
from ugatit_cli.training.run_folder import RUN_FILE, RunFolder
from ugatit_cli.weights.folder import CONFIG_FILE, ModelFolder, read_config

ITERATIONS = 100_000
GPU_BATCH = 4

RUN_FIELDS = tuple(fields_of(RunOptions))
MODEL_FIELDS = frozenset(size_fields())
RECIPE_FIELDS = frozenset(fields_of(Recipe))
TABLES = (fields_of(RunOptions), size_fields(), fields_of(Recipe))
FLAGS = {field.name: field.flag for table in TABLES for field in table.values()}
FLAGS |= {"domain_a": "--domains", "domain_b": "--domains", "method": "--method"}
# Recipes of earlier versions whose runs can't go on, and the method that has taken their place.
GONE = {"cyclegan": "cyclegan"}
# What may change when a run goes on: how long it takes, what it writes, and where its pictures are.
CHANGEABLE = frozenset(
    {"iterations", "minutes", "checkpoint_every", "sample_every", "keep", "folders", "checkpointing"}
    | {"evaluate_every", "extractor", "features", "feature_layer"}
)
# What may change as well when the user names the run; not what its checkpoints have or haven't
# (moving averages, judges), nor the name.
TRAINING = (RECIPE_FIELDS - {"ema", "name", "cycle"}) | {"precision"}


class RecipeGone(ModelError):
    """A run's recipe is one of an earlier version: it can't go on, but its model can be used."""


@dataclass(frozen=True, kw_only=True)
class Settings(RunOptions):
    """Everything that a run's result depends on, and what it writes.

    Raises:
        UsageError: values that make no sense.
    """

    model: BaseConfig
    recipe: Recipe
    folders: Folders

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_holdout(self.holdout)
        least, network = self.model.smallest_training
        if self.model.image_size < least:
            raise UsageError(
                f"--image-size {self.model.image_size} is too small to train: the {network} needs {least} pixels"
            )
        if self.recipe.batch_size % (of := method_of(self.model).batch):
            raise UsageError(
                f"--batch-size {self.recipe.batch_size}: {method_of(self.model).title} takes pictures by {of}",
                f"Give a multiple of {of}.",
            )

    @property
    def kept_back(self) -> Holdout:
        """The hold-out."""
        return parse_holdout(self.holdout)

    def value_of(self, name: str) -> Any:
        """A setting by the name that users state it under, `method` and `recipe` too."""
        if name in ("recipe", "method"):
            return self.recipe.name if name == "recipe" else self.model.method
        tables: tuple[object, ...] = (self.recipe, self.model, self)
        return next(getattr(table, name) for table in tables if hasattr(table, name))

    @property
    def preparation(self) -> Preparation:
        """How its pictures are prepared."""
        recipe = self.recipe
        return Preparation(
            self.model.image_size, recipe.fit, jitter=recipe.jitter, margin=recipe.margin, bicubic=recipe.bicubic
        )

    def to_document(self) -> dict[str, Any]:
        """Tables of plain values for `config.toml`; what is None is left out."""
        run = {name: getattr(self, name) for name in RUN_FIELDS}
        data = {name: path and str(path) for name, path in dataclasses.asdict(self.folders).items()}
        heeded = method_of(self.model).settings
        recipe = {name: value for name, value in self.recipe.to_dict().items() if name in heeded}
        networks = networks_document(self.model)
        tables = {"run": run, "data": data, "model": networks.pop("model"), "recipe": recipe}
        return networks | {
            title: {name: value for name, value in table.items() if value is not None}
            for title, table in tables.items()
        }

    @classmethod
    def of_run(cls, run: RunFolder) -> Settings:
        """Those that a run was given, as `to_document` wrote them.

        Raises:
            RecipeGone: they are of a recipe that is gone.
            ModelError: they are missing, damaged, of a newer format, or of other networks than the run's model.
        """
        document = run.document()
        _check_recipe(run, document)
        try:
            unknown = document.keys() - {"method", "model", "recipe", "data", "run"}
            if unknown:
                raise ConfigError(f"unknown tables: {', '.join(sorted(unknown))}")
            model = read_networks(document)
            _check_model(run, model)
            return cls(
                model=model,
                recipe=read_table(Recipe, document.get("recipe")),
                folders=read_table(Folders, document.get("data")),
                **vars(read_table(RunOptions, document.get("run"))),
            )
        except UsageError as error:
            message = f"{run.path / RUN_FILE}: damaged: {error.message}"
            raise ModelError(message, "Correct it, or start again in another folder.") from None


def _check_model(run: RunFolder, config: BaseConfig) -> None:
    """Before networks are built that may be as large as a slip of somebody's finger says."""
    try:
        theirs, _ = read_config(run.model / CONFIG_FILE)
    except ModelError:
        return  # it is written anew
    for name, value in config.to_dict().items():
        if getattr(theirs, name, value) != value:
            raise ConfigError(f"{name} is {value}; the run's model has {getattr(theirs, name)}")


def _check_recipe(run: RunFolder, document: Mapping[str, Any]) -> None:
    recipe = document.get("recipe")
    name = recipe.get("name") if isinstance(recipe, Mapping) else None
    if isinstance(name, str) and name in GONE:
        raise RecipeGone(
            f"{run.path / RUN_FILE}: it was trained by an earlier version's recipe {name!r}, which is gone",
            f"Its model can still be used: --model {run.path}. To train a new one: --method {GONE[name]}.",
        )


def resolve_training_precision(name: str, device: torch.device) -> Precision:
    """The precision of a name for training on a device; `auto` never takes fp16.

    Raises:
        UsageError: fp16, whose small gradients become zero.
        DeviceError: the device doesn't have it.
    """
    if name == "auto":
        precision = resolve_precision("auto", device)
        return "fp32" if precision == "fp16" else precision
    if name == "fp16":
        raise UsageError("fp16 is not for training: small gradients become 0", "Use --precision bf16 or fp32.")
    return resolve_precision(name, device)


def new_settings(
    given: Mapping[str, Any], folders: Folders, *, device: torch.device, start: ModelFolder | None = None
) -> Settings:
    """Settings of a new run.

    Args:
        given: what the user says, by the names of `Settings`, `ModelConfig` and `Recipe`; `recipe` is the preset's
            name, `precision` may be `auto`.
        start: the model to start from, named in `given["start"]`.

    Raises:
        UsageError: values that make no sense, or that contradict `start`.
    """
    chosen = _method(given, start)
    _check_options(chosen, given)
    recipe = chosen.recipe(given.get("recipe", "default"))
    if recipe.name == "default" and device.type == "cuda":
        recipe = dataclasses.replace(recipe, batch_size=GPU_BATCH)
    if recipe.name == "default" and start is not None and start.config.ways == chosen.config.trained_ways:
        recipe = dataclasses.replace(recipe, warm_up="off")  # it would forget more than it learns
    if given.get("cycle") == "joint":
        recipe = dataclasses.replace(recipe, cycle="joint", feature_weight=0.0, judge_weight=0.0)
    recipe = dataclasses.replace(recipe, **{name: given[name] for name in RECIPE_FIELDS & set(given)})
    run = {name: given[name] for name in RUN_FIELDS if name in given}
    if run.get("iterations") is None and run.get("minutes") is None:
        run["iterations"] = chosen.paper_iterations if recipe.name == "paper" else ITERATIONS
    precision = given.get("precision", "fp32" if recipe.name == "paper" else "auto")
    run["precision"] = resolve_training_precision(precision, device)
    model = _model(chosen, given, folders, start)
    run.setdefault("checkpointing", not model.light)
    return Settings(model=model, recipe=recipe, folders=folders, **run)


def _method(given: Mapping[str, Any], start: ModelFolder | None) -> Method:
    """The method that is asked for, or that of the model to start from."""
    name = given.get("method", "ugatit" if start is None else start.config.method)
    if start is not None and name != start.config.method:
        raise UsageError(
            f"--method {name} contradicts the model to start from, which is one of {method_of(start.config).title}",
            "Leave --method out, or train without --from.",
        )
    if start is not None and given.get("start_direction", "a2b") not in start.config.directions:
        a, b = start.config.domain_a, start.config.domain_b
        raise UsageError(
            f"--from-direction b2a: the model to start from translates {a} to {b} only, not back",
            "Leave --from-direction out, or swap --domain-a and --domain-b.",
        )
    return method(name)


def _check_options(chosen: Method, given: Mapping[str, Any]) -> None:
    for name in (RECIPE_FIELDS | MODEL_FIELDS) & given.keys():
        if name not in heeded(chosen):
            others = [one for one in METHODS if name in heeded(method(one))]
            raise UsageError(
                f"{FLAGS[name]} means nothing to {chosen.title}",
                f"Leave it out; it is for --method {' or '.join(others)}.",
            )


def heeded(one: Method) -> frozenset[str]:
    """Names of the settings of recipe and networks that mean something to a method."""
    sizes: type = one.config
    return one.settings | frozenset(fields_of(sizes))


def _model(chosen: Method, given: Mapping[str, Any], folders: Folders, start: ModelFolder | None) -> BaseConfig:
    values = {name: given[name] for name in MODEL_FIELDS & set(given)}
    if "domain_a" not in values:
        values["domain_a"], values["domain_b"] = domain_names(folders)
    if start is not None:
        return _continued(start, values)
    if "channels" in values:
        values.setdefault("discriminator_channels", chosen.config.usual_discriminator_channels(values["channels"]))
    return chosen.config(**values)


def as_option(name: str, value: object) -> str:
    """A setting as the command line says it: `--image-size 64`, `--no-generator-cam`."""
    flag = FLAGS[name]
    if isinstance(value, bool):
        return flag if value else f"--no-{flag.removeprefix('--')}"
    return f"{flag} {value}"


def _continued(start: ModelFolder, values: Mapping[str, Any]) -> BaseConfig:
    """The config of a model that starts from another one: its own, but for names, image size and discriminators."""
    theirs = start.config
    free = {"domain_a", "domain_b", "discriminators"} | ({"image_size"} if theirs.light else set())
    if start.discriminators is None:
        free |= {"discriminator_channels", "local_layers", "global_layers", "discriminator_cam"}
        values = {"discriminator_channels": theirs.usual_discriminator_channels(theirs.channels)} | dict(values)
    for name in sorted(values.keys() - free):
        if values[name] != getattr(theirs, name):
            option = as_option(name, values[name])
            raise UsageError(
                f"{option} contradicts the model to start from: its {name.replace('_', '-')} is "
                f"{getattr(theirs, name)}",
                f"Leave {option.split()[0]} out, or train without --from.",
            )
    if isinstance(theirs, ModelConfig):
        fitting = default_global_layers(values.get("image_size", theirs.image_size))
        # A global discriminator that is too deep for a smaller size is replaced by a new one.
        layers = min(theirs.global_layers, fitting) if start.discriminators else fitting
        values = {"global_layers": layers} | dict(values)
    return dataclasses.replace(theirs, **({"ways": type(theirs).trained_ways} | dict(values)))


def domain_names(folders: Folders) -> tuple[str, str]:
    """Names for the domains: those of a data set that was fetched, else its halves, of `horse2zebra/trainA`.

    Of other folders their names: `horses`, `zebras`. What isn't told apart is `A` and `B`.
    """
    names = [_plain(folder.resolve().name) for folder in (folders.a, folders.b)]
    if (root := layout_root(folders)) is not None:
        stored = store.read(root)
        names = [_plain(name) for name in (stored and stored.domains) or domains_in(root.name) or ("A", "B")]
    if not all(names) or names[0].casefold() == names[1].casefold():
        return "A", "B"
    return names[0], names[1]


def _plain(name: str) -> str:
    return "".join(" " if c in "/\\,:" or not c.isprintable() else c for c in name).strip()


def resumed_settings(stored: Settings, given: Mapping[str, Any], run: Path, *, named: bool = False) -> Settings:
    """Settings of a run that goes on: its own, but for what may change.

    Args:
        named: the user says that it is this run (`--resume`), so that its training may change, too: after a loss that
            isn't finite, say.

    Raises:
        UsageError: the user wants something else than the run is.
    """
    free = CHANGEABLE | (TRAINING if named else frozenset())
    stated = {name: value for name, value in given.items() if value != "auto"}
    if "method" in stated:  # of another one, options may say nothing here
        _check_same(stored, "method", stated.pop("method"), run)
    _check_options(method_of(stored.model), stated)
    for name in [name for name in stated if name not in free]:
        _check_same(stored, name, stated.pop(name), run)
    recipe = {name: stated.pop(name) for name in RECIPE_FIELDS & stated.keys()}
    if "iterations" in stated or "minutes" in stated:
        stated = {"iterations": None, "minutes": None} | stated
    return dataclasses.replace(stored, **stated, recipe=dataclasses.replace(stored.recipe, **recipe))


def _check_same(stored: Settings, name: str, value: object, run: Path) -> None:
    current = stored.value_of(name)
    if current != value:
        option, way = FLAGS[name].removeprefix("--"), f"Go on: --resume {run}"
        if name in TRAINING:
            way = f"Change it with --resume {run} {as_option(name, value)}"
        raise UsageError(
            f"{run} is a run of another configuration: its {option} is {current}, not {value}",
            f"{way}, or name another folder: -o runs/NAME.",
        )


def check_start(start: ModelFolder, settings: Settings) -> str | None:
    """What users should know about the model that a run starts from."""
    ours, theirs = settings.model, start.config
    if ours.ways != theirs.ways:
        return f"the model to start from has one generator: that of {ours.target('b2a')}, and discriminators, are new"
    if start.discriminators is None:
        return "the model to start from comes without discriminators: new ones are trained from the start"
    if not isinstance(ours, ModelConfig) or not isinstance(theirs, ModelConfig):
        return None
    if len(ours.scales) > len(theirs.scales):
        return "the model to start from has local discriminators only: new global ones are trained as well"
    if "global" in ours.scales and theirs.global_layers != ours.global_layers:
        return (
            f"at {ours.image_size} px the global discriminator has {ours.global_layers} layers instead of "
            f"{theirs.global_layers}: it starts anew"
        )
    return None

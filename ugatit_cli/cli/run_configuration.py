"""A run's own `config.toml` as options of `ugatit train`, so that a training is done again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugatit_cli.cli.option_names import key_of, nearest
from ugatit_cli.cli.settings_file import Said, place_of
from ugatit_cli.config import MAX_CHANNELS
from ugatit_cli.errors import UPGRADE, UgatitError, UsageError, plain_reason
from ugatit_cli.fields import Field, fields_of
from ugatit_cli.methods.recipe import RECIPES, Recipe
from ugatit_cli.methods.registry import config_class, size_fields
from ugatit_cli.training.options import RunOptions

if TYPE_CHECKING:
    from ugatit_cli.data.pictures import Folders

FORMAT = 1  # that of `training.run_folder`, whose import takes torch
TABLES: Mapping[str, Mapping[str, Field]] = {
    "run": fields_of(RunOptions),
    "recipe": fields_of(Recipe),
    "model": size_fields(),
}
PICTURES = {"a", "b", "domain_a", "domain_b", "data"}


@dataclass(frozen=True)
class RunPlan:
    """What a run was told.

    Attributes:
        values: by options' keys, as the command line would have them.
        settled: options that it says nothing of, but that are what they are by default.
        others: of its recipe, what has no option.
    """

    values: dict[str, Said]
    settled: frozenset[str]
    others: dict[str, Any]


def plan_of_run(document: Mapping[str, Any], file: Path, stated: Mapping[str, Any]) -> RunPlan:
    """What a run was told that is to be done again.

    Args:
        document: of `config.toml`, or what `ugatit train --dry-run` writes to stdout.
        stated: what the command line says instead, by keys: a method or a recipe comes with settings of its own, and
            other pictures with names.

    Raises:
        UsageError: it is of a newer version, damaged, or has what no run has.
    """
    _check(document, file)
    method = document.get("method", "ugatit")
    values = {"method": Said(method, str(file))}
    settled, others = {"method", "domains", "columns", *PICTURES}, dict[str, Any]()
    tables = _tables(document, method, stated)
    for title, fields in TABLES.items():
        said = {name: value for name, value in tables[title].items() if value is not None}
        for name, value in said.items():
            if fields[name].option:
                text = value if isinstance(value, bool) else str(value)
                values[key_of(fields[name].flag)] = Said(text, place_of(file, title, name))
            elif title == "recipe":
                others[name] = value
        if said:
            settled |= {key_of(field.flag) for field in fields.values() if field.option}
    pictures = {key: Said(value, str(file)) for key, value in _pictures(document, file)}
    # What means nothing to this run, and would be refused.
    evaluates = "evaluate_every" in values and values["evaluate_every"].value != "off"
    nothing = ["from_direction"] * ("from" not in values) + ["holdout"] * ("data" in pictures)
    for key in nothing + ["extractor", "features", "feature_layer"] * (not evaluates):
        values.pop(key, None)
    if stated.keys() & PICTURES:
        pictures.pop("domains")
    return RunPlan(values | pictures, frozenset(settled), others)


def _tables(document: Mapping[str, Any], name: str, stated: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tables of a run of a method, without what the command line's method or recipe has of its own."""
    run, model, recipe = (dict(document[title]) for title in ("run", "model", "recipe"))
    _drop_consequences(name, run, model)
    if "recipe" in stated:
        run.pop("precision", None)  # which follows from that
    if (other := stated.get("method", name)) != name:
        kept = {"name": recipe["name"]} if recipe.get("name") in RECIPES else {}
        return {"run": run, "model": _sizes_for(other, name, model), "recipe": {} if "recipe" in stated else kept}
    return {"run": run, "model": model, "recipe": {} if "recipe" in stated else _with_unsaid(name, recipe)}


def _drop_consequences(name: str, run: dict[str, Any], model: dict[str, Any]) -> None:
    """Drops what follows from other settings, and will again, whatever the command line says of them."""
    channels: Any = model.get("channels")
    follows = config_class(name).usual_discriminator_channels
    if channels in range(1, MAX_CHANNELS + 1) and model.get("discriminator_channels") == follows(channels):
        del model["discriminator_channels"]
    if run.get("checkpointing") == (model.get("variant") == "full"):
        del run["checkpointing"]


def _sizes_for(other: str, name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's sizes those for another method: that of pictures, and what isn't its own method's default."""
    usual, told = config_class(name)(), {"image_size", "discriminator_channels"}
    kind: type = config_class(other)
    return {
        key: value
        for key, value in model.items()
        if key in fields_of(kind) and (key in told or value != getattr(usual, key, value))
    }


def defaults_of_run(asked: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """What each setting of a training that is asked for would be without it, all others being as they are.

    Args:
        asked: options by their names, as Typer gives them.
        others: settings that are no options.
    """
    from ugatit_cli.cli.train import parsed
    from ugatit_cli.device import resolve_device
    from ugatit_cli.training.settings import FLAGS, domain_names, new_settings

    folders = _folders(asked)
    given = {name: asked[name] for name in FLAGS.keys() - PICTURES if asked.get(name) is not None}
    start = given.pop("start", None)
    method = given.get("method") if start else "ugatit"  # another one than the model's is refused
    found = {"domains": ",".join(domain_names(folders)), "start_direction": "a2b", "method": method}
    with contextlib.suppress(UgatitError):  # the training itself will say it
        given, device = parsed({**others, **given}), resolve_device(asked["device"])
        for name in given.keys() - found.keys():
            rest = {one: value for one, value in given.items() if one != name}
            found[name] = new_settings(rest, folders, device=device).value_of(name)
    return found | ({"warm_up": "off"} if start else {})


def _folders(asked: Mapping[str, Any]) -> Folders:
    """Where the pictures are, as far as their domains' names tell; which need not exist."""
    from ugatit_cli.data.pictures import Folders

    if asked.get("data"):
        return Folders(Path(asked["data"], "trainA"), Path(asked["data"], "trainB"))
    a, b = (asked.get(name) or asked.get(f"domain_{name}") or Path() for name in "ab")
    return Folders(Path(a), Path(b))


def _check(document: Mapping[str, Any], file: Path) -> None:
    number = document.get("format", FORMAT)
    if type(number) is not int or number > FORMAT:
        known = f"format {number}, this one reads up to {FORMAT}"
        raise UsageError(f"{file}: written by a newer ugatit ({known})", UPGRADE)
    _check_names(file, "", document, ("format", "method", "data", *TABLES))
    for title, fields in TABLES.items():
        if not isinstance(document.get(title), dict):
            raise UsageError(f"{file}: damaged: there is no table [{title}]", "Name another file.")
        _check_names(file, title, document[title], fields)


def _with_unsaid(name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """With what had no setting when the run began: it trained as the defaults are, which presets may differ from."""
    from ugatit_cli.methods.registry import method
    from ugatit_cli.training.settings import heeded

    fields = TABLES["recipe"]
    return {one: fields[one].default for one in fields if one in heeded(method(name))} | dict(recipe)


def _check_names(file: Path, title: str, table: Mapping[str, Any], names: Iterable[str]) -> None:
    names = [*names]
    for name in table:
        if name not in names:
            what = f"{title or 'the settings of a run'} has no {name!r}"
            raise UsageError(f"{place_of(file, title, name)}: {what}", f"Leave it out{nearest(name, names)}.")


def _pictures(document: Mapping[str, Any], file: Path) -> Iterator[tuple[str, str]]:
    try:
        model, data = document["model"], document["data"]
        a, b = Path(data["a"]), Path(data["b"])
        yield "domains", f"{model['domain_a']},{model['domain_b']}"
    except (KeyError, TypeError) as error:
        raise UsageError(f"{file}: damaged: {plain_reason(error)} is missing", "Name another file.") from None
    if "test_a" in data:
        from ugatit_cli.data.pictures import Folders, layout_root

        if (root := layout_root(Folders(a, b))) is not None:
            yield "data", str(root)
            return
    yield "domain_a", str(a)
    yield "domain_b", str(b)

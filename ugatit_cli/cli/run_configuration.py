"""A run's own `config.toml` as options of `ugatit train`, so that a training is done again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ugatit_cli.cli.option_names import key_of, nearest
from ugatit_cli.cli.settings_file import Said, place_of
from ugatit_cli.errors import UPGRADE, UsageError, plain_reason
from ugatit_cli.fields import Field, fields_of
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import size_fields
from ugatit_cli.training.options import RunOptions

FORMAT = 1  # that of `training.run_folder`, whose import takes torch
TABLES: Mapping[str, Mapping[str, Field]] = {
    "run": fields_of(RunOptions),
    "recipe": fields_of(Recipe),
    "model": size_fields(),
}
PICTURES = ("a", "b", "domain_a", "domain_b", "data")


def options_of_run(document: Mapping[str, Any], file: Path) -> tuple[dict[str, Said], frozenset[str]]:
    """What a run was told, by keys, as the command line would have it; and the options that it settles.

    Args:
        document: of `config.toml`, or what `ugatit train --dry-run` writes to stdout.

    Raises:
        UsageError: it is of a newer version, damaged, or has what no run has.
    """
    number = document.get("format", FORMAT)
    if type(number) is not int or number > FORMAT:
        raise UsageError(
            f"{file}: written by a newer ugatit (format {number}, this one reads up to {FORMAT})", UPGRADE
        )
    _check_names(file, "", document, ("format", "method", "data", *TABLES))
    values: dict[str, Said] = {"method": Said(document.get("method", "ugatit"), str(file))}
    settled = {"method", "domains", "columns", *PICTURES}
    for title, fields in TABLES.items():
        table = document.get(title, {})
        if not isinstance(table, dict):
            raise UsageError(f"{file}: damaged: {title} is no table", "Name another file.")
        _check_names(file, title, table, fields)
        keys = {name: key_of(field.flag) for name, field in fields.items() if field.option}
        settled |= {*keys.values()}
        for name in keys.keys() & table.keys():
            value = table[name] if isinstance(table[name], bool) else str(table[name])
            values[keys[name]] = Said(value, place_of(file, title, name))
    for key, value in _unsaid(values["method"].value, document.get("recipe", {})):
        values[key] = Said(value, str(file))
    pictures = {key: Said(value, str(file)) for key, value in _pictures(document, file)}
    # What means nothing to this run, and would be refused.
    evaluates = "evaluate_every" in values and values["evaluate_every"].value != "off"
    nothing = ["from_direction"] * ("from" not in values) + ["holdout"] * ("data" in pictures)
    for key in nothing + ["extractor", "features", "feature_layer"] * (not evaluates):
        values.pop(key, None)
    return values | pictures, frozenset(settled)


def _unsaid(name: str, recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What recipes had no setting for when the run began: it trained as a recipe does by itself, not as a preset."""
    from ugatit_cli.methods.registry import method
    from ugatit_cli.training.settings import heeded

    for unsaid in heeded(method(name)) & (TABLES["recipe"].keys() - recipe.keys()):
        field = TABLES["recipe"][unsaid]
        if field.option and field.default is not None:
            yield key_of(field.flag), field.default if isinstance(field.default, bool) else str(field.default)


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

"""Fields of settings: types and ranges are checked for all alike, and each option of `train` is one field."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ConfigError
from ugatit_cli.fields import fields_of
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.training.options import RunOptions

TABLES: dict[type, dict[str, Any]] = {
    ModelConfig: {},
    Recipe: {},
    RunOptions: {"iterations": 1, "precision": "fp32", "checkpointing": False},
}
# Of other types than the key; a whole number counts as a float, True never as a number.
WRONG: dict[Any, list[Any]] = {
    int: [1.0, "1", True, [1], float("nan")],
    float: ["high", True, [0.5]],
    bool: [0, 1, "yes"],
    str: [3, ["b"], True],
}
EVERY = [pytest.param(table, name, id=f"{table.__name__}.{name}") for table in TABLES for name in fields_of(table)]


def refused(table: type, name: str, value: object) -> str:
    with pytest.raises(ConfigError, match=f"^{name} is ") as caught:
        table(**{**TABLES[table], name: value})
    return caught.value.message


@pytest.mark.parametrize(("table", "name"), EVERY)
def test_values_of_other_types_and_ranges_are_refused(table: type, name: str) -> None:
    field = fields_of(table)[name]
    choices = get_args(field.type)
    for value in ["", "Other", 1, ["light"], object] if choices else WRONG[field.type]:
        message = refused(table, name, value)
        assert all(part in message for part in (repr(value), *choices))
    if not field.optional:
        refused(table, name, None)
    if field.range is None:
        assert field.type not in (int, float)
        return
    low, high = field.range.low, field.range.high
    for value in [low - 1, high + 1, -(10**30)] + ([float("nan")] if field.type is float else []):
        if name != "global_layers" or value != 0:
            message = refused(table, name, value)
            assert all(str(limit) in message for limit in (low, high))


def test_whole_numbers_are_taken_for_floats() -> None:
    recipe = Recipe(cam_weight=500)
    assert type(recipe.cam_weight) is float
    assert recipe == Recipe(cam_weight=500.0)

"""Recipes: the presets of all methods, and checks."""

from __future__ import annotations

import pytest

from ugatit_cli.errors import ConfigError
from ugatit_cli.fields import read_table
from ugatit_cli.methods.recipe import RECIPES, Recipe, RecipeName, parse_warm_up, preset
from ugatit_cli.methods.registry import METHODS, method


def test_the_paper_adds_nothing() -> None:
    """The rest of its numbers are those of the golden step."""
    paper = preset("paper")
    assert (paper.ema, paper.augment, paper.fit, paper.flip) == (0.0, "off", "squash", True)
    assert (paper.batch_size, paper.decay_from) == (1, 0.5)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("method_name", METHODS)
def test_recipes_come_back_from_plain_values(method_name: str, name: RecipeName) -> None:
    recipe = method(method_name).recipe(name)
    assert recipe.name == name
    assert read_table(Recipe, recipe.to_dict()) == recipe
    # What a method doesn't heed isn't stored.
    stored = {key: value for key, value in recipe.to_dict().items() if key in method(method_name).settings}
    assert read_table(Recipe, stored) == recipe


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="momentum, speed"):
        read_table(Recipe, {"speed": 1, "momentum": 0.9, "ema": 0.0})


@pytest.mark.parametrize(
    ("text", "found"),
    [("800", (800, 0)), ("5%", (0, 0.05)), ("0.5%", (0, 0.005)), ("100%", (0, 1)), ("off", (0, 0)), ("0", (0, 0))],
)
def test_a_warm_up_is_a_number_of_steps_or_a_share(text: str, found: tuple[int, float]) -> None:
    assert parse_warm_up(text) == pytest.approx(found)


@pytest.mark.parametrize("text", ["", "-1", "10m", "101%", "%", "1e3", "0.5", "٣", "5 %"])
def test_a_warm_up_is_nothing_else(text: str) -> None:
    with pytest.raises(ConfigError, match="--warm-up"):
        Recipe(warm_up=text)


def test_pictures_of_the_papers_recipes_come_as_in_the_authors_codes() -> None:
    for name in METHODS:
        default, paper = (method(name).recipe(recipe) for recipe in RECIPES)
        assert (default.bicubic, default.order) == (False, "shuffled")
        assert paper.bicubic == (name in ("cyclegan", "drit"))
        orders = {"cyclegan": "drawn-b", "drit": "drawn-smaller", "unit": "zipped", "munit": "zipped"}
        assert paper.order == orders.get(name, "shuffled")


def test_who_warms_up_by_default() -> None:
    warm_ups = {name: [method(name).recipe(recipe).warm_up for recipe in RECIPES] for name in METHODS}
    assert warm_ups == {one: ["off", "off"] for one in METHODS} | {
        "ugatit": ["5%", "off"],
        "cartoongan": ["5%", "1%"],
    }

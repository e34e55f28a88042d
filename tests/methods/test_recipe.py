"""Recipes: presets, checks, and the learning rate over a run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ConfigError
from ugatit_cli.methods.recipe import MODEL_DEFAULTS, RECIPES, Recipe, learning_rate_factor, preset


def test_the_paper_adds_nothing() -> None:
    paper = preset("paper")
    assert (paper.ema, paper.augment, paper.fit, paper.power_iterations) == (0.0, "off", "squash", "each-pass")
    assert (paper.batch_size, paper.learning_rate, paper.weight_decay) == (1, 1e-4, 1e-4)
    assert (paper.beta1, paper.beta2, paper.decay_from, paper.flip) == (0.5, 0.999, 0.5, True)
    weights = (paper.adversarial_weight, paper.cycle_weight, paper.identity_weight, paper.cam_weight)
    assert weights == (1, 10, 10, 1000)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_come_back(name: Any) -> None:
    recipe = preset(name)
    assert recipe.name == name
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_the_recipes_differ_in_what_the_default_adds_only() -> None:
    paper, default = preset("paper").to_dict(), preset("default").to_dict()
    assert {name for name in paper if paper[name] != default[name]} == {
        "name", "learning_rate", "power_iterations", "ema", "augment", "fit",
    }  # fmt: skip


def test_cyclegan_has_the_published_losses_and_adam() -> None:
    recipe = preset("cyclegan")
    assert (recipe.batch_size, recipe.learning_rate, recipe.weight_decay) == (1, 2e-4, 0)
    assert (recipe.beta1, recipe.beta2, recipe.decay_from, recipe.flip) == (0.5, 0.999, 0.5, True)
    assert (recipe.adversarial_weight, recipe.cycle_weight, recipe.identity_weight) == (1, 10, 5)
    assert (recipe.ema, recipe.augment) == (0, "off")


def test_cyclegan_has_nothing_of_u_gat_it_in_its_networks() -> None:
    config = ModelConfig(**MODEL_DEFAULTS["cyclegan"])
    assert (config.decoder_norm, config.adaptive, config.scales) == ("in", False, ("local",))
    assert not config.generator_cam
    assert not config.discriminator_cam
    assert config.local_layers == 5  # patches of 70 x 70 pixels


def test_every_recipe_says_what_it_changes_in_the_model() -> None:
    assert set(MODEL_DEFAULTS) == set(RECIPES)
    for name in RECIPES:
        changed, plain = ModelConfig(**MODEL_DEFAULTS[name]), ModelConfig()
        assert all(getattr(changed, field) != getattr(plain, field) for field in MODEL_DEFAULTS[name])
        assert bool(MODEL_DEFAULTS[name]) == (name == "cyclegan")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "mine"}, "name is 'mine'; it must be one of: default, paper, cyclegan"),
        ({"batch_size": 0}, "batch_size is 0; it must be from 1 to 1024"),
        ({"batch_size": 1.0}, "batch_size is 1.0; it must be of type int"),
        ({"batch_size": True}, "batch_size is True; it must be of type int"),
        ({"flip": 1}, "flip is 1; it must be of type bool"),
        ({"learning_rate": "high"}, "learning_rate is 'high'; it must be of type float"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be from 0 to 1"),
        ({"beta1": 1.0}, "beta1 is 1.0; it must be from 0 to"),
        ({"ema": 1}, "ema is 1.0; it must be from 0 to"),
        ({"cam_weight": -1}, "cam_weight is -1.0; it must be from 0"),
        ({"augment": "maybe"}, "augment is 'maybe'; it must be one of: auto, on, off"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe(**values)
    assert caught.value.message.startswith(message)


def test_whole_numbers_are_taken_for_floats() -> None:
    recipe = Recipe(cam_weight=500)
    assert type(recipe.cam_weight) is float
    assert recipe == Recipe(cam_weight=500.0)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown training settings: momentum, speed"):
        Recipe.from_dict({"speed": 1, "momentum": 0.9, "ema": 0.0})


def test_recipes_are_values() -> None:
    assert dataclasses.replace(preset("paper"), ema=0.5) != preset("paper")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_factor_falls_from_1_to_0(decay_from: float, one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    factor = learning_rate_factor(later, decay_from)
    assert 0 <= factor <= learning_rate_factor(earlier, decay_from) <= 1
    assert learning_rate_factor(decay_from, decay_from) == 1
    if decay_from < 1:
        assert learning_rate_factor(1.0, decay_from) == 0

"""Recipes: presets, checks, and the learning rate over a run."""

from __future__ import annotations

import pytest

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ConfigError
from ugatit_cli.fields import read_table
from ugatit_cli.methods.recipe import MODEL_DEFAULTS, RECIPES, Recipe, preset


def test_the_paper_adds_nothing() -> None:
    """The rest of its numbers are those of the golden step."""
    paper = preset("paper")
    assert (paper.ema, paper.augment, paper.fit, paper.flip) == (0.0, "off", "squash", True)
    assert (paper.batch_size, paper.decay_from) == (1, 0.5)


def test_recipes_come_back_by_name() -> None:
    assert set(MODEL_DEFAULTS) == set(RECIPES)
    for name in RECIPES:
        assert preset(name).name == name
        assert read_table(Recipe, preset(name).to_dict()) == preset(name)
    with pytest.raises(ConfigError, match="momentum, speed"):
        read_table(Recipe, {"speed": 1, "momentum": 0.9, "ema": 0.0})


def test_cyclegan_has_the_published_losses_and_adam() -> None:
    recipe = preset("cyclegan")
    assert (recipe.batch_size, recipe.learning_rate, recipe.weight_decay) == (1, 2e-4, 0)
    assert (recipe.beta1, recipe.beta2, recipe.decay_from, recipe.flip) == (0.5, 0.999, 0.5, True)
    assert (recipe.adversarial_weight, recipe.cycle_weight, recipe.identity_weight) == (1, 10, 5)
    assert (recipe.ema, recipe.augment) == (0, "off")
    config = ModelConfig(**MODEL_DEFAULTS["cyclegan"])
    assert (config.decoder_norm, config.adaptive, config.scales) == ("in", False, ("local",))
    assert (config.generator_cam, config.discriminator_cam) == (False, False)
    assert config.local_layers == 5  # patches of 70 x 70 pixels

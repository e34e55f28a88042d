"""ModelConfig: round trip, a reason for every refused value, sizes that follow from others."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ugatit_cli.config import DIRECTIONS, Dialect, ModelConfig, default_global_layers
from ugatit_cli.errors import ConfigError, UsageError
from ugatit_cli.fields import fields_of, read_table
from ugatit_cli.nn.discriminator import Discriminator

names = (
    st.text(st.characters(codec="utf-8", exclude_characters="/\\,:"), min_size=1, max_size=20)
    .map(str.strip)
    .filter(lambda text: text and text.isprintable())
)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    values: dict[str, Any] = {"domain_a": draw(names)}
    values["domain_b"] = draw(names.filter(lambda name: name.casefold() != values["domain_a"].casefold()))
    for name, field in fields_of(ModelConfig).items():
        if field.range:
            factor = {"image_size": 4, "channels": 8}.get(name, 1)
            low, high = (int(limit) // factor for limit in (field.range.low, field.range.high))
            values[name] = factor * draw(st.integers(max(low, 1) if factor > 1 else low, high))
        elif field.type is not str:
            values[name] = draw(st.sampled_from(get_args(field.type) or (False, True)))
    return ModelConfig(**values)


@given(config=configs())
def test_round_trip_through_json(config: ModelConfig) -> None:
    values = config.to_dict()
    assert read_table(ModelConfig, json.loads(json.dumps(values))) == config
    # Versions without local discriminators alone, or without models of one way, read models that have both.
    assert values.get("discriminators") == (None if config.discriminators == "both" else "local")
    assert values.get("ways") == (None if config.ways == "both" else "a2b")


@pytest.mark.parametrize("name", ["", " x", "x ", "x\t", "a/b", "a\\b", "a,b", "a:b", ":", "a\nb", "a\0", "\ud800"])
@pytest.mark.parametrize("field", ["domain_a", "domain_b"])
def test_domain_names_are_plain_text(field: str, name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{field} is {name!r}")):
        read_table(ModelConfig, {field: name})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"image_size": 18}, "image_size is 18"),
        ({"image_size": 255}, "image_size is 255"),
        ({"channels": 12, "decoder_norm": "gn"}, "channels is 12"),
        ({"domain_a": "Cat", "domain_b": "cAT"}, "'Cat'"),
        ({"depth": 3, "channels": 4, "colour": "red"}, "colour, depth"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_table(ModelConfig, settings)


def test_defaults_are_the_papers() -> None:
    config = ModelConfig()
    assert (config.image_size, config.channels, config.blocks, config.discriminator_channels) == (256, 64, 4, 64)
    assert (config.local_layers, config.global_layers, config.variant, config.dialect) == (5, 7, "light", "pytorch")


def test_directions() -> None:
    config = ModelConfig(domain_a="selfie", domain_b="Anime")
    ways = [(config.source(direction), config.target(direction)) for direction in DIRECTIONS]
    assert ways == [("selfie", "Anime"), ("Anime", "selfie")]
    for name, direction in (("anime", "a2b"), ("ANIME", "a2b"), ("selfie", "b2a"), ("Selfie", "b2a")):
        assert config.direction_to(name) == direction
    with pytest.raises(UsageError, match="'cat'") as caught:
        config.direction_to("cat")
    assert all(name in caught.value.hint for name in ("'selfie'", "'Anime'"))


def test_a_model_of_one_way_says_so() -> None:
    config = ModelConfig(domain_a="selfie", domain_b="anime", ways="a2b")
    assert config.directions == ("a2b",)
    assert config.direction_to("anime") == "a2b"
    with pytest.raises(UsageError, match="only, not back"):
        config.direction_to("selfie")


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_the_global_discriminator_is_as_deep_as_the_picture_allows(dialect: Dialect) -> None:
    @torch.no_grad()
    def runs(size: int, layers: int) -> bool:
        config = ModelConfig(dialect=dialect, image_size=size, global_layers=layers, discriminator_channels=1)
        try:
            Discriminator(config, "global")(torch.zeros(1, 3, size, size))
        except RuntimeError:
            return False
        return True

    for size in range(16, 132, 4):
        layers = default_global_layers(size)
        assert ModelConfig(image_size=size).global_layers == layers
        assert runs(size, layers), size
        assert layers == 7 or not runs(size, layers + 1), size
    assert default_global_layers(96) == default_global_layers(256) == 7
    assert default_global_layers(92) == 6

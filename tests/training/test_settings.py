"""Settings of runs: from what users give, from a model to start from, and from a run that goes on."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests import tiny
from ugatit_cli.config import BaseConfig, ModelConfig
from ugatit_cli.data.pictures import Folders
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.methods.configs import CartoonGANConfig, CycleGANConfig
from ugatit_cli.methods.recipe import RECIPES, preset
from ugatit_cli.methods.registry import METHODS, method
from ugatit_cli.training.options import parse_interval
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import (
    FLAGS,
    GPU_BATCH,
    RecipeGone,
    Settings,
    as_option,
    check_start,
    domain_names,
    new_settings,
    resumed_settings,
)
from ugatit_cli.weights.folder import ModelFolder

CPU = torch.device("cpu")
FOLDERS = Folders(Path("data/horses"), Path("data/zebras"))
PATH = Path("runs/one")
OLD = dataclasses.replace(tiny.LIGHT, image_size=96, local_layers=5, global_layers=7)


def new(start: ModelFolder | None = None, **given: Any) -> Settings:
    if start is not None:
        given = {"start": "some/model"} | given
    return new_settings(given, FOLDERS, device=CPU, start=start)


def ugatit(settings: Settings) -> ModelConfig:
    assert isinstance(settings.model, ModelConfig)
    return settings.model


def model(config: BaseConfig, *, discriminators: bool = True) -> ModelFolder:
    return ModelFolder(Path("some/model"), config, {}, Path(), Path("d") if discriminators else None)


def test_what_is_not_given() -> None:
    settings = new(precision="fp32")
    assert settings.model == ModelConfig("horses", "zebras")
    assert settings.recipe == preset("default")
    assert (settings.iterations, settings.minutes, settings.checkpointing) == (100_000, None, False)
    assert (settings.kept_back.amount, settings.kept_back.percent) == (5, True)
    paper = new(recipe="paper", variant="full")
    assert paper.recipe == preset("paper")
    assert (paper.iterations, paper.precision, paper.checkpointing) == (1_000_000, "fp32", True)
    assert new(variant="full", checkpointing=False).checkpointing is False
    stated = new(minutes=1.5, image_size=64, channels=8)
    assert (stated.iterations, ugatit(stated).global_layers, ugatit(stated).discriminator_channels) == (None, 6, 8)
    local = new(image_size=48, global_layers=7, discriminators="local")  # the global one would need 96 pixels
    assert ugatit(local).scales == ("local",)


def test_a_gpu_takes_larger_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugatit_cli.training.settings.resolve_precision", lambda *_: "fp16")
    gpu = torch.device("cuda")
    settings = new_settings({}, FOLDERS, device=gpu)
    assert settings.recipe.batch_size == GPU_BATCH
    assert settings.precision == "fp32"  # where translating would take fp16
    assert new_settings({"batch_size": 2}, FOLDERS, device=gpu).recipe.batch_size == 2
    assert new_settings({"recipe": "paper"}, FOLDERS, device=gpu).recipe.batch_size == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"iterations": 5, "minutes": 5.0}, ["--iterations", "--minutes"]),
        ({"iterations": 0}, ["iterations", "0"]),
        ({"image_size": 20}, ["--image-size 20", "local discriminator", "24 pixels"]),
        ({"image_size": 32, "global_layers": 6}, ["global discriminator", "48 pixels"]),
        ({"precision": "fp16"}, ["fp16"]),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        new(**given)
    assert all(word in caught.value.message for word in words)
    assert caught.value.exit_code == 2


@given(
    st.integers(-(10**6), 10**13).map(str)
    | st.decimals(0, 10**6, places=3).map(lambda minutes: f"{minutes}m")
    | st.text(max_size=8)
)
@example("1")
@example("0")
@example(str(10**12))
def test_intervals_are_steps_or_minutes(text: str) -> None:
    number = text.removesuffix("m")
    minutes = text != number and re.fullmatch(r"\d+(\.\d+)?", number) and float(number) > 0
    if minutes or (re.fullmatch(r"\d+", text, re.ASCII) and 0 < int(text) < 10**12):
        assert parse_interval("--x", text) == ((0, 60 * float(number)) if minutes else (int(text), 0))
    else:
        with pytest.raises(UsageError, match=rf"^--x {re.escape(text)}: ") as caught:
            parse_interval("--x", text)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        ("x/horses", "y/zebras", ("horses", "zebras")),
        ("horse2zebra/trainA", "horse2zebra/trainB", ("horse", "zebra")),
        ("selfie2Änime/TrainA", "selfie2Änime/TrainB", ("selfie", "Änime")),
        ("cat2dog/train_A", "cat2dog/train/b", ("cat", "dog")),
        ("cat2Cat/trainA", "cat2Cat/trainB", ("A", "B")),
        ("x/cats", "y/Cats", ("A", "B")),
        ("x/a:b", "y/c,d", ("a b", "c d")),
        ("x/,,", "y/dogs", ("A", "B")),
    ],
)
def test_domain_names_come_from_folders(tmp_path: Path, a: str, b: str, names: tuple[str, str]) -> None:
    folders = Folders(tmp_path / a, tmp_path / b)
    assert domain_names(folders) == names
    ModelConfig(*names)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]))


@given(names, names)
@example("caf\udce9", "\udce9")  # bytes that are no UTF-8
def test_any_folder_gives_valid_names(one: str, other: str) -> None:
    a, b = domain_names(Folders(Path("/x") / f"{one}_", Path("/y") / f"{other}_"))
    config = ModelConfig(a, b)  # refuses names that aren't plain text, or equal
    assert (config.domain_a, config.domain_b) == (a, b)


def test_a_model_gives_its_sizes() -> None:
    start = model(OLD)
    assert new(start).model == dataclasses.replace(OLD, domain_a="horses", domain_b="zebras")
    settings = new(start, start_direction="b2a", discriminators="local")
    local = dataclasses.replace(OLD, discriminators="local")
    assert settings.model == dataclasses.replace(local, domain_a="horses", domain_b="zebras")
    assert (settings.start, settings.start_direction) == ("some/model", "b2a")
    assert check_start(start, settings) is None


@pytest.mark.parametrize(
    ("name", "value"), [("channels", 8), ("image_size", 64), ("variant", "full"), ("local_layers", 3)]
)
def test_sizes_that_contradict_the_model(name: str, value: object) -> None:
    config = dataclasses.replace(OLD, variant="full") if name == "image_size" else OLD  # light ones have any size
    assert new(model(config), **{name: getattr(config, name)}).model.channels == OLD.channels
    with pytest.raises(UsageError) as caught:
        new(model(config), **{name: value})
    option = as_option(name, value)
    assert caught.value.message.startswith(option)
    assert str(getattr(config, name)) in caught.value.message
    assert f" {option.split()[0]} " in caught.value.hint


@pytest.mark.parametrize(("size", "layers"), [(256, 7), (96, 7), (64, 6), (32, 5)])
def test_smaller_pictures_need_a_smaller_global_discriminator(size: int, layers: int) -> None:
    start = model(OLD)
    settings = new(start, image_size=size)
    assert (settings.model.image_size, ugatit(settings).global_layers) == (size, layers)
    note = check_start(start, settings)
    assert (note is None) == (layers == 7)
    assert note is None or f"at {size} px the global discriminator has {layers} layers instead of 7" in note


def test_a_model_without_discriminators_gets_any() -> None:
    start = model(dataclasses.replace(OLD, discriminator_channels=64), discriminators=False)
    settings = new(start, image_size=32, local_layers=3)
    ours = ugatit(settings)
    assert (ours.discriminator_channels, ours.local_layers, ours.global_layers) == (4, 3, 5)
    assert ugatit(new(start, discriminator_channels=6)).discriminator_channels == 6
    assert "comes without discriminators" in (check_start(start, settings) or "")


def test_what_may_differ_in_the_discriminators_of_a_start() -> None:
    local = dataclasses.replace(OLD, discriminators="local")
    assert "new global ones" in (check_start(model(local), new(model(local), discriminators="both")) or "")
    assert ugatit(new(model(local))).discriminators == "local"
    assert check_start(model(local), new(model(local), image_size=64)) is None


def test_each_method_has_its_own_settings() -> None:
    for name in METHODS:
        for recipe in RECIPES:
            settings, own = new(method=name, recipe=recipe), method(name)
            assert settings.recipe == own.recipe(recipe)
            assert settings.model == own.config("horses", "zebras", ways=own.config.trained_ways)
            assert settings.iterations == (own.paper_iterations if recipe == "paper" else 100_000)
    stated = new(method="cartoongan", channels=12, content_weight=3.0)
    assert stated.recipe.content_weight == 3
    assert getattr(stated.model, "discriminator_channels", None) == 6  # half, as there


FOREIGN = [
    ("cyclegan", "variant", "full", "ugatit"),
    ("cyclegan", "generator_cam", False, "ugatit"),
    ("cyclegan", "cam_weight", 5.0, "ugatit"),
    ("cyclegan", "vgg", "/vgg", "cartoongan"),
    ("cartoongan", "cycle_weight", 5.0, "ugatit or cyclegan"),
    ("cartoongan", "power_iterations", "each-pass", "ugatit"),
    ("ugatit", "pool_size", 50, "cyclegan"),
    ("ugatit", "content_weight", 0.5, "cartoongan"),
]


@pytest.mark.parametrize(("name", "option", "value", "others"), FOREIGN)
def test_options_of_other_methods_are_refused(name: str, option: str, value: Any, others: str) -> None:
    words = rf"^{FLAGS[option]} means nothing to {method(name).title}$"
    with pytest.raises(UsageError, match=words) as caught:
        new(method=name, **{option: value})
    assert f" --method {others}" in caught.value.hint  # and perhaps more
    assert caught.value.exit_code == 2
    for named in (True, False):  # in a run that goes on, too
        with pytest.raises(UsageError, match=words):
            resumed_settings(new(method=name), {option: value}, PATH, named=named)


def test_a_run_stays_one_of_its_method() -> None:
    stored = new(method="cyclegan", precision="fp32")
    assert resumed_settings(stored, {"method": "cyclegan", "blocks": 9}, PATH) == stored
    with pytest.raises(UsageError, match="its method is cyclegan, not ugatit") as caught:
        resumed_settings(stored, {"variant": "full", "method": "ugatit"}, PATH, named=True)
    assert f"--resume {PATH}" in caught.value.hint
    changed = resumed_settings(stored, {"pool_size": 9}, PATH, named=True)
    assert changed == dataclasses.replace(stored, recipe=dataclasses.replace(stored.recipe, pool_size=9))


def test_a_model_gives_its_method() -> None:
    for name in METHODS:
        start = model(new(method=name, channels=8, image_size=96).model)
        assert new(start).model == new(start, method=name).model == start.config
        assert new(start).recipe == dataclasses.replace(method(name).recipe("default"), warm_up="off")
        assert new(start, recipe="paper").recipe == method(name).recipe("paper")
        assert check_start(start, new(start)) is None
        for other in METHODS.keys() - {name}:
            with pytest.raises(
                UsageError, match=rf"^--method {other} contradicts .* {method(name).title}$"
            ) as caught:
                new(start, method=other)
            assert caught.value.hint


ONE_WAY = [dataclasses.replace(OLD, ways="a2b"), CycleGANConfig(ways="a2b", blocks=6), CartoonGANConfig()]


@pytest.mark.parametrize("config", ONE_WAY, ids=lambda one: one.method)
def test_a_model_of_one_way_gives_that_way(config: BaseConfig) -> None:
    start = model(config, discriminators=False)
    settings = new(start)
    assert settings.model.ways == config.trained_ways
    note = check_start(start, settings)
    assert note is not None
    assert ("one generator: that of horses, and discriminators, are new" in note) == (config.trained_ways == "both")
    with pytest.raises(UsageError, match=r"^--from-direction b2a: .* only, not back$") as caught:
        new(start, start_direction="b2a")
    assert caught.value.hint


DAY = datetime.date(2026, 11, 28)
FOUR = dataclasses.replace(new(), folders=Folders(Path("a"), Path("b"), Path("c"), Path("d")))


@pytest.mark.parametrize(
    "settings",
    [
        new(), new(recipe="paper", minutes=90.0), new(model(OLD), image_size=64), FOUR,
        new(method="cyclegan", identity_weight=0.5), new(method="cyclegan", recipe="paper"),
        new(method="cartoongan", vgg="/vgg.pth"), new(method="cartoongan", recipe="paper"),
    ],
)  # fmt: skip
def test_settings_come_back(tmp_path: Path, settings: Settings) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(settings.to_document())
    assert Settings.of_run(run) == settings


HUGE = 10**400
DAMAGED: list[tuple[str, Any]] = [
    *(("run", values) for values in (None, {"speed": 1}, {"iterations": "many"}, {"minutes": 5.0}, {"holdout": 5})),
    *(
        ("run", {name: value})
        for name in ("iterations", "seed", "keep", "holdout")
        for value in (HUGE, {"a": 1}, True)
    ),
    *(("run", {"checkpoint_every": text}) for text in ("1" + 5000 * "0", 400 * "1" + "m", "0m", "\0", "-1", "1e3")),
    *(("model", values) for values in (None, {"channels": 0}, {"channels": math.nan}, {"blocks": HUGE}, 5)),
    ("recipe", None),
    *(("recipe", values) for values in ({"ema": "high"}, {"weight": 1})),
    ("recipe", {"name": ["cyclegan"]}),
    ("recipe", {"name": {}}),
    *(("recipe", {"learning_rate": value}) for value in (HUGE, -HUGE, math.nan, math.inf, DAY, "0.1", [0.1])),
    *(("data", values) for values in (None, {"c": "x"}, {"a": 3}, {"a": "\0"}, {"b": ["b"]})),
    ("data", "x"),
    ("data", DAY),
    ("data", [1]),
    ("method", ["ugatit"]),
    ("method", 1),
    ("method", "nothing"),
    ("surprise", {"a": 1}),
]


@pytest.mark.parametrize(("table", "values"), DAMAGED)
def test_damaged_settings(tmp_path: Path, table: str, values: Any) -> None:
    run, document = RunFolder(tmp_path / "run"), new().to_document()
    document[table] = document.get(table, {}) | values if isinstance(values, dict) else values
    run.create({title: of for title, of in document.items() if of is not None})
    with pytest.raises(ModelError, match=r"config\.toml: damaged: ") as caught:
        Settings.of_run(run)
    named = next(iter(values), table) if isinstance(values, dict) else ""
    assert named in caught.value.message.replace("-", "_")
    assert caught.value.hint
    assert caught.value.exit_code == 3


def test_settings_of_other_networks_than_the_models(tmp_path: Path) -> None:
    """Which would take all memory before a checkpoint doesn't fit."""
    run, settings = RunFolder(tmp_path / "run"), new()
    run.create(settings.to_document())
    tiny.save(run.model, settings.model)
    assert Settings.of_run(run) == settings
    changes: dict[str, Any] = {"channels": 1024, "blocks": 64, "image_size": 4096, "decoder_norm": "ln"}
    for name, value in changes.items():
        document = settings.to_document()
        run.create(document | {"model": document["model"] | {name: value}})
        with pytest.raises(ModelError, match=rf"config\.toml: damaged: {name} is {value}"):
            Settings.of_run(run)
    (run.model / "config.json").write_text("{")  # which training writes anew
    assert ugatit(Settings.of_run(run)).decoder_norm == "ln"


def test_a_run_of_a_recipe_that_is_gone(tmp_path: Path) -> None:
    run, document = RunFolder(tmp_path / "run"), new().to_document()
    # As version 1 wrote it.
    gone = {"generator_cam": False, "discriminator_cam": False, "decoder_norm": "in", "discriminators": "local"}
    run.create(document | {"model": document["model"] | gone, "recipe": document["recipe"] | {"name": "cyclegan"}})
    with pytest.raises(
        RecipeGone, match=r"config\.toml: .*an earlier version's recipe 'cyclegan', which is gone$"
    ) as caught:
        Settings.of_run(run)
    assert "--method cyclegan" in caught.value.hint
    assert f"--model {run.path}" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_run_that_goes_on_takes_what_may_change() -> None:
    stored, folders = new(iterations=10), Folders(Path("p"), Path("q"))
    changes: dict[str, Any] = {"checkpoint_every": "5", "sample_every": "1m", "keep": 7, "folders": folders}
    changes["iterations"] = 20
    assert resumed_settings(stored, changes, PATH) == dataclasses.replace(stored, **changes)
    assert resumed_settings(stored, {}, PATH) == stored
    by_clock = resumed_settings(stored, {"minutes": 3.0}, PATH)
    assert (by_clock.iterations, by_clock.minutes) == (None, 3)
    back = resumed_settings(by_clock, {"iterations": 4}, PATH)
    assert (back.iterations, back.minutes) == (4, None)
    # What stays the same may be said again.
    stored = new(recipe="paper", image_size=64, batch_size=2, seed=3)
    same = {"recipe": "paper", "image_size": 64, "batch_size": 2, "seed": 3, "variant": "light", "start": None}
    assert resumed_settings(stored, same | {"precision": "auto", "augment": "auto"}, PATH) == stored


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("image_size", 64, "256"),
        ("recipe", "paper", "default"),
        ("seed", 1, "0"),
        ("start", "other", "None"),
        ("precision", "bf16", "fp32"),
        ("flip", False, "True"),
    ],
)
def test_a_run_of_another_configuration(name: str, value: object, was: str) -> None:
    with pytest.raises(UsageError) as caught:
        resumed_settings(new(precision="fp32"), {name: value}, PATH)
    option = as_option(name, value).split()[0].removeprefix("--no-").removeprefix("--")
    assert caught.value.message.startswith(f"{PATH} ")
    assert f" {option} is {was}, not {value}" in caught.value.message
    changeable = name in ("precision", "flip")
    assert (f"--resume {PATH} {as_option(name, value)}" if changeable else f"--resume {PATH}") in caught.value.hint


def test_a_run_that_is_named_may_train_otherwise() -> None:
    stored = new(precision="bf16", image_size=64)
    changes: dict[str, Any] = {"learning_rate": 5e-5, "augment": "on", "precision": "fp32", "minutes": 2.0}
    result = resumed_settings(stored, changes, PATH, named=True)
    assert (result.precision, result.minutes, result.iterations) == ("fp32", 2.0, None)
    assert result.recipe == dataclasses.replace(stored.recipe, learning_rate=5e-5, augment="on")
    assert result.model == stored.model
    for refused in ({"ema": 0.5}, {"seed": 4}, {"image_size": 128}, {"recipe": "paper"}, {"start": "other"}):
        with pytest.raises(UsageError, match="another configuration"):
            resumed_settings(stored, refused, PATH, named=True)

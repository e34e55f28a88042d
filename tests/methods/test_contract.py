"""What every method of the registry holds."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import ugatit_cli
from tests import tiny
from tests.cli.conftest import Command, ugatit  # noqa: F401  # a fixture
from tests.extractors import tiny_extractor
from tests.helpers import images, picture
from tests.programs import command
from tests.trainings import CPU, Log, make_folders, metrics, prepared, unread, weights
from ugatit_cli.config import BaseConfig, ModelConfig
from ugatit_cli.data.pictures import Folders
from ugatit_cli.device import Group
from ugatit_cli.errors import ConfigError, ModelError, UgatitError, UsageError
from ugatit_cli.fields import fields_of
from ugatit_cli.methods.base import Method, OfficialSettings, States, Step
from ugatit_cli.methods.configs import AGGANConfig, CartoonGANConfig, CycleGANConfig, MUNITConfig, UNITConfig
from ugatit_cli.methods.drit_config import DRITConfig
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import RECIPES, Recipe, RecipeName
from ugatit_cli.methods.registry import METHODS, method, networks_document, read_networks
from ugatit_cli.nn.generator import StyledNetwork
from ugatit_cli.training import checkpoint, evaluation
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings, new_settings
from ugatit_cli.training.trainer import make_networks
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.official import convert
from ugatit_cli.weights.pytorch import read_states

EVERY = ("generators", "discriminators", "averages")
SIZES: dict[str, Any] = {"image_size": 32, "channels": 4, "blocks": 1, "discriminator_channels": 4}


@dataclass(frozen=True)
class Recorded:
    """A file of the authors' code and what that code made of a picture.

    Attributes:
        weights, io: files below `tests/golden`.
        source, image: names in `io`; pictures are bytes where their name says so.
        tolerance: in float32, see the READMEs there.
        style: name in `io`, where there are styles.
    """

    weights: str
    io: str
    source: str
    image: str
    tolerance: float
    style: str | None = None

    def pair(self, golden: Path) -> tuple[tuple[Tensor, ...], Tensor]:
        """A picture for the network, in a style where there are any; and its translation by A to B."""
        tensors = load_file(golden / self.io)
        source, image = tensors[self.source], tensors[self.image]
        if source.shape[3] == 3:  # as TensorFlow has them
            source, image = source.permute(0, 3, 1, 2), image.permute(0, 3, 1, 2)
        source = source.float() / 127.5 - 1 if source.dtype == torch.uint8 else source
        return (source, *([tensors[self.style].flatten(1)] if self.style else [])), image


@dataclass(frozen=True)
class Case:
    """A method as small as tests need it.

    Attributes:
        config: of its networks.
        given: what `ugatit train` is told beside the sizes.
        uncopied, resting: what the names of those weights match that don't train in the warm-up, and after it.
    """

    config: BaseConfig
    recorded: Recorded
    given: Mapping[str, Any] = field(default_factory=dict)
    uncopied: str = "$^"
    resting: str = "$^"


CASES = {
    "ugatit": Case(
        tiny.LIGHT,
        Recorded(
            "pt/gen_full_ngf8_32.pt", "pt/gen_full_ngf8_32_io.safetensors", "input", "genA2B.image", 5e-5
        ),
        given={"weight_decay": 1e-4},  # some gradients are below Adam's epsilon
    ),
    "cyclegan": Case(
        CycleGANConfig("flat", "clay", **SIZES),
        Recorded(
            "baselines/cyclegan/weights.safetensors", "baselines/cyclegan/io.safetensors", "x_u8", "G_A.y", 1e-5
        ),
        given={"pool_size": 2},
    ),
    "cartoongan": Case(
        CartoonGANConfig("flat", "clay", **SIZES),
        Recorded(
            "baselines/cartoongan/weights.safetensors", "baselines/cartoongan/io.safetensors", "x_u8", "y_rgb", 1e-5
        ),
    ),
    "unit": Case(
        UNITConfig("flat", "clay", **SIZES),
        Recorded("baselines/unit/weights.safetensors", "baselines/unit/io.safetensors", "x_u8", "b.decode", 1e-5),
    ),
    "munit": Case(
        MUNITConfig("flat", "clay", **SIZES),
        Recorded(
            "baselines/munit/weights.safetensors", "baselines/munit/io.safetensors", "x_u8", "b.decode", 1e-5, "z"
        ),
    ),
    "aggan": Case(
        AGGANConfig("flat", "clay", **SIZES),
        Recorded(
            "baselines/aggan/weights.safetensors", "baselines/aggan/io.safetensors", "a.0_u8", "fake_b.0", 1e-5
        ),
        given={"pool_size": 2, "attention_share": 0.7},  # the last of five steps is another phase's
        uncopied=r"attention\.",
        resting=r"layers\.\d\.conv\.bias",
    ),
    "drit": Case(
        DRITConfig("flat", "clay", **SIZES),
        Recorded(
            "baselines/drit/concat.weights.safetensors", "baselines/drit/concat.io.safetensors",
            "x_u8", "b.gen", 5e-4, "z",
        ),
    ),
}  # fmt: skip
ALL = pytest.mark.parametrize("name", METHODS)


# Steps of the warm-up.
COPIED = 2


def given(name: str, vgg: str) -> dict[str, Any]:
    """Settings of a training of five steps, two of which are a warm-up, by their names."""
    found = {
        "method": name,
        **SIZES,
        "iterations": 5,
        "augment": "on",
        "precision": "fp32",
        "warm_up": "40%",
        **CASES[name].given,
    }
    return found | ({"vgg": vgg} if "vgg" in method(name).settings else {})


def settings(name: str, vgg: str) -> Settings:
    return new_settings(given(name, vgg), Folders(Path("flat"), Path("clay")), device=CPU)


def new_step(run: Settings) -> Step:
    networks = make_networks(run, CPU, None)
    made = method(run.model.method)
    return made.step(networks, run.recipe, seed=run.seed, group=Group())


def work(step: Step, steps: range) -> list[dict[str, float]]:
    found = []
    for number in steps:
        a, b = images(2, step.recipe.batch_size, 3, 32, 32, seed=number)
        losses = step(a, b, step=number, learning_rate=1e-3, copying=number < COPIED, progress=number / 5)
        found.append({name: loss.item() for name, loss in losses.items()})
    return found


def state(step: Step) -> dict[str, dict[str, Tensor]]:
    """Copies of all that a step goes on from, by file and name."""
    files = {**step.networks.files(), "optimizers": step.optimizer_tensors(), "memory": step.memory()}
    return {stem: {name: one.clone() for name, one in tensors.items()} for stem, tensors in files.items()}


def trainable(networks: Networks) -> dict[str, set[str]]:
    """Names of weights by file; not what spectral norms remember, which in the smallest matrices is a sign."""
    files = zip(EVERY, (networks.translators, networks.critics, networks.averages), strict=True)
    return {
        stem: {f"{key}.{name}" for key, network in every.items() for name, _ in network.named_parameters()}
        for stem, every in files
    }


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert set(one) == set(other)
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


# --- Networks and model folders ------------------------------------------------------------------------


@ALL
def test_it_builds(name: str) -> None:
    made, config = method(name), CASES[name].config
    assert (made.name, config.method, made.config) == (name, name, type(config))
    assert made.title
    assert made.source
    assert made.settings <= set(fields_of(Recipe))
    assert {made.recipe(recipe).name for recipe in RECIPES} == set(RECIPES)
    assert config.ways == made.config.trained_ways
    translators = made.translators(config)
    for direction in config.directions:
        needed = {one: translators[one] for one in made.needed(direction)}
        image = made.translator(needed, direction)(images(2, 3, 32, 48)).image
        assert (image.shape, image.dtype) == ((2, 3, 32, 48), torch.float32)
        assert image.abs().max() <= 1
    assert read_networks(networks_document(config)) == config
    assert ("method" in networks_document(config)) == (name != "ugatit")


@ALL
def test_it_has_styles_or_none(name: str) -> None:
    made, config = method(name), CASES[name].config
    networks, size, x = made.translators(config), config.style_size, images(2, 3, 32, 32)
    for direction in config.directions:
        translator = made.translator(networks, direction).eval()
        encoder = made.style_encoder(networks, direction)
        assert (encoder is not None) == isinstance(translator, StyledNetwork) == (size > 0)
        if encoder is None:
            assert made.style_networks(direction) == ()
            continue
        own = {key: networks[key].eval() for key in made.style_networks(direction)}
        again = made.style_encoder(own, direction)
        assert again is not None
        with torch.inference_mode():
            style = encoder.eval()(x)
            assert torch.equal(style, again.eval()(x))
            assert (style.shape, style.dtype) == ((2, size), torch.float32)
            both, first = translator(x, style).image, translator(x[:1], style[:1]).image
            assert not torch.equal(both, translator(x, style + 1).image)
        torch.testing.assert_close(both[:1], first, rtol=0, atol=1e-5)


@ALL
def test_a_model_folder_keeps_every_bit(name: str, tmp_path: Path) -> None:
    made, config = method(name), CASES[name].config
    torch.manual_seed(1)
    networks = made.translators(config) | made.critics(config)
    path = tiny.save(tmp_path / "model", config, discriminators=True)
    folder = open_model(path)
    assert folder.config == config
    for key, network in networks.items():
        stored = folder.state(key)
        assert stored is not None
        assert_same(stored, network.state_dict())
    for direction in config.directions:
        needed = {one: networks[one] for one in made.needed(direction)}
        expected = made.translator(needed, direction).state_dict()
        assert_same(folder.generator(direction).state_dict(), expected)
        assert_same(ugatit_cli.load(path, device="cpu", precision="fp32").generator(direction).state_dict(), expected)
    assert {file.name for file in path.iterdir()} == {
        "config.json", "model.safetensors", "discriminators.safetensors", "SHA256SUMS"
    }  # fmt: skip


@ALL
@pytest.mark.parametrize("size", [(1, 1), (1, 45), (150, 2), (37, 53)], ids=str)
def test_pictures_of_any_size_are_translated(
    name: str, size: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = CASES[name].config
    path = tiny.save(tmp_path_factory.mktemp(name) / "model", config)
    model = ugatit_cli.load(path, device="cpu", precision="fp32")
    for direction in config.directions:
        result = model.translate(picture(*size), direction)
        assert (result.mode, result.size) == ("RGB", size)
        assert result.tobytes() == model.translate(picture(*size), to=config.target(direction)).tobytes()


# --- Training ------------------------------------------------------------------------------------------


@ALL
def test_a_step_changes_what_it_should_and_says_all_its_losses(name: str, vgg: str) -> None:
    run = settings(name, vgg)
    step = new_step(run)
    for number in range(4):
        whole = number < COPIED or (number + 1) % step.period == 0
        before = state(step)
        (losses,) = work(step, range(number, number + 1))
        terms = [
            term for term in (step.terms if number >= COPIED else step.copying_terms) if whole or term.name in losses
        ]
        names = [term.name for term in terms]
        sums = {f"{term.of[0]}_{term.domain}" for term in terms} if whole else set()
        assert list(losses)[: len(names)] == names
        assert set(losses) == {*names, *sums}
        assert all(torch.tensor(loss).isfinite() for loss in losses.values())
        for total in sums:
            ours = [term for term in terms if f"{term.of[0]}_{term.domain}" == total]
            expected = sum(term.weight * losses[term.name] for term in ours)
            assert losses[total] == pytest.approx(expected, rel=1e-5)
        after = state(step)
        trained = EVERY if number >= COPIED else ("generators", "averages")
        assert all(tensor.isfinite().all() for file in after.values() for tensor in file.values())
        rests = CASES[name].resting if number >= COPIED else CASES[name].uncopied
        for stem, every in trainable(step.networks).items():
            names_of = {key for key in every if not re.search(rests, key)}
            changed = {key for key in every if not torch.equal(after[stem][key], before[stem][key])}
            allowed = names_of if stem in trained else set()
            assert changed == allowed if whole else changed <= allowed, f"{stem} in step {number}"


@ALL
def test_the_warm_up_teaches_to_copy(name: str, vgg: str) -> None:
    step, found = new_step(settings(name, vgg)), []
    a, b = (x.repeat_interleave(8, 2).repeat_interleave(8, 3) for x in images(2, 1, 3, 4, 4, seed=1))
    for number in range(25):
        losses = step(a, b, step=number, learning_rate=5e-3, copying=True)
        found.append(sum(losses[term.name].item() for term in step.copying_terms))
        if found[-1] < 0.7 * found[0]:
            return
    pytest.fail(f"{found}")


@ALL
def test_it_goes_on_from_a_checkpoint_bit_for_bit(name: str, vgg: str, tmp_path: Path) -> None:
    run, ours = RunFolder(tmp_path / "run"), settings(name, vgg)
    run.create(ours.to_document())
    assert Settings.of_run(run) == ours
    whole, known = new_step(ours), checkpoint.State(1.5, [{"cycle": 0.25}], "data")
    work(whole, range(1))
    for done, end in ((1, 3), (3, 6)):  # in the warm-up, and after it
        assert whole.copied == min(done, COPIED)
        checkpoint.save(run, whole, ours, done, known, unread(2, 2))
        again = new_step(dataclasses.replace(ours, seed=ours.seed + 1))
        again.seed = ours.seed
        assert checkpoint.restore(run, done, again) == known
        for stem, tensors in state(whole).items():
            assert_same(tensors, state(again)[stem])
        assert work(again, range(done, end)) == work(whole, range(done, end))
        for stem, tensors in state(whole).items():
            assert_same(tensors, state(again)[stem])


@ALL
def test_saving_memory_changes_no_number(name: str, vgg: str) -> None:
    runs = [dataclasses.replace(settings(name, vgg), checkpointing=saved) for saved in (False, True)]
    one, other = (new_step(run) for run in runs)
    assert work(one, range(5)) == work(other, range(5))
    for stem, tensors in state(one).items():
        assert_same(tensors, state(other)[stem])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.config.trained_ways == "both"])
def test_one_direction_alone_does_not_train(name: str, vgg: str) -> None:
    run = settings(name, vgg)
    with pytest.raises(ConfigError, match="both directions"):
        new_step(dataclasses.replace(run, model=dataclasses.replace(run.model, ways="a2b")))


STEPS = 30


# It has the most to remember: a pool of images, too. `training/test_session.py` kills U-GAT-IT at every point.
@pytest.mark.parametrize("name", ["cyclegan"])
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_killed_it_goes_on_as_if_never_killed(
    name: str,
    vgg: str,
    tmp_path: Path,
    ugatit: Command,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = make_folders(tmp_path / "pictures")
    options = given(name, vgg) | {"iterations": STEPS, "checkpoint_every": 4, "sample_every": 1000}
    arguments = ["train", "--domain-a", folders.a, "--domain-b", folders.b, "--device", "cpu", "--holdout", "0"]
    for option, value in options.items():
        arguments += ["--" + option.replace("_", "-"), value]
    monkeypatch.setenv("PYTHONPATH", str(Path(ugatit_cli.__file__).parents[1]))
    run = RunFolder(tmp_path / "killed")
    with subprocess.Popen(command(*arguments, "-o", run.path), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stderr is not None
        said = next((line for line in one.stderr if run.latest() is not None), b"")  # which it says at once
        one.kill()
        one.stderr.read()  # a fork may end a moment later, and hold the run until then
    assert one.returncode == -signal.SIGKILL, said.decode()
    assert 0 < (run.latest() or 0) < STEPS
    assert ugatit(*arguments, "-o", run.path).code == 0
    assert ugatit(*arguments, "-o", tmp_path / "whole").code == 0
    assert weights(run.path) == weights(tmp_path / "whole")
    assert len(weights(run.path)) == 7
    assert metrics(run.path) == metrics(tmp_path / "whole")


@ALL
@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_of_a_run_come_back(name: str, recipe: RecipeName, vgg: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    ours = new_settings(given(name, vgg) | {"recipe": recipe}, Folders(Path("flat"), Path("clay")), device=CPU)
    run.create(ours.to_document())
    assert Settings.of_run(run) == ours


def heeded(one: Method) -> set[str]:
    sizes: type = one.config
    return set(one.settings) | set(fields_of(sizes))


@ALL
def test_options_that_mean_nothing_to_it_are_refused(name: str) -> None:
    made, folders = method(name), Folders(Path("flat"), Path("clay"))
    tables = {**fields_of(Recipe), **fields_of(ModelConfig)}
    foreign = {key: one for key, one in tables.items() if key not in heeded(made)}
    assert foreign
    for key, one in foreign.items():
        with pytest.raises(UsageError, match=rf"^{one.flag} means nothing to {made.title}$") as caught:
            new_settings({"method": name, key: one.default}, folders, device=CPU)
        others = [other for other in METHODS if key in heeded(method(other))]
        assert others
        assert all(other in caught.value.hint for other in others)


@ALL
def test_it_starts_from_a_model_of_its_own(name: str, tmp_path: Path) -> None:
    folders, config = Folders(Path("flat"), Path("clay")), CASES[name].config
    start = open_model(tiny.save(tmp_path / "model", config, discriminators=True))
    run = new_settings({"start": "model"}, folders, device=CPU, start=start)
    assert run.model == config
    networks = make_networks(run, CPU, start)
    every = {**networks.translators, **networks.critics}
    for key, network in every.items():
        stored = start.state(key)
        assert stored is not None
        assert_same(network.state_dict(), stored)
    other = next(one for one in METHODS if one != name)
    with pytest.raises(UsageError, match=f"--method {other}"):
        new_settings({"start": "model", "method": other}, folders, device=CPU, start=start)


@ALL
def test_it_starts_from_a_model_of_one_way_but_not_from_the_way_that_this_lacks(name: str, tmp_path: Path) -> None:
    folders = Folders(Path("flat"), Path("clay"))
    config = dataclasses.replace(CASES[name].config, ways="a2b")
    start = open_model(tiny.save(tmp_path / "model", config))
    run = new_settings({"start": "model"}, folders, device=CPU, start=start)
    assert run.model.ways == method(name).config.trained_ways
    for key in method(name).needed("a2b"):
        stored = start.state(key)
        assert stored is not None
        assert_same(make_networks(run, CPU, start).translators[key].state_dict(), stored)
    with pytest.raises(UsageError, match="flat to clay only"):
        new_settings({"start": "model", "start_direction": "b2a"}, folders, device=CPU, start=start)


@ALL
def test_it_is_measured_evaluated_and_sampled(
    name: str, vgg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "load_extractor", lambda *_, **__: tiny_extractor())
    folders, log, never = make_folders(tmp_path / "pictures", 12), Log(), threading.Event()
    options = given(name, vgg) | {"holdout": "4", "evaluate_every": "3", "sample_every": "5", "checkpoint_every": "5"}
    run = prepared(tmp_path / "run", folders, options)
    _, cost = run.dry_run(log, never)
    assert not (tmp_path / "run").exists()
    ours, outcome = run.train(log, never)
    networks = make_networks(ours, CPU, None)
    assert outcome.finished
    assert (cost.generator_parameters, cost.discriminator_parameters) == tuple(
        sum(weight.numel() for network in of.values() for weight in network.parameters())
        for of in (networks.translators, networks.critics)
    )
    assert [one.step for one in log.evaluations] == [3, 5]
    for kids in log.evaluations[-1].kids.values():
        assert tuple(kids) == ours.model.directions
    assert [step for step, _ in log.samples] == [COPIED, 5]
    best, latest = open_model(tmp_path / "run" / "best"), open_model(tmp_path / "run")
    assert best.config == latest.config == ours.model
    assert latest.provenance["steps"] == 5


# --- The authors' files --------------------------------------------------------------------------------


@ALL
def test_its_official_layout_converts_and_translates_as_there(name: str, golden: Path, tmp_path: Path) -> None:
    recorded = CASES[name].recorded
    file = golden / recorded.weights
    states = read_states(file)
    assert [one for one in METHODS if method(one).official(states, OfficialSettings()) is not None] == [name]
    convert([file], tmp_path / "model", OfficialSettings(domains=("photo", "cartoon")))
    model = ugatit_cli.load(tmp_path / "model", device="cpu", precision="fp32")
    assert (model.config.method, model.config.domain_b) == (name, "cartoon")
    sources, expected = recorded.pair(golden)
    with torch.inference_mode():
        image = model.generator("a2b")(*sources).image
    torch.testing.assert_close(image, expected, rtol=0, atol=recorded.tolerance)
    assert model.translate(picture(32, 32)).size == (32, 32)


def spoilt(states: States, kind: str) -> dict[str, dict[str, Tensor]]:
    """A checkpoint with a tensor that is missing, or of another shape, in the middle of its first network."""
    copied = {part: dict(tensors) for part, tensors in states.items()}
    first = copied[min(copied)]
    kernels = [key for key, tensor in first.items() if tensor.ndim == 4 and len(tensor) > 1]
    name = kernels[len(kernels) // 2]
    if kind == "missing":
        del first[name]
    else:
        first[name] = first[name][:, 1:]
    return copied


@ALL
@pytest.mark.parametrize("kind", ["missing", "misshapen", "foreign"])
def test_a_wrong_official_file_is_refused(name: str, kind: str, golden: Path, tmp_path: Path) -> None:
    states = read_states(golden / CASES[name].recorded.weights)
    if kind == "foreign":
        wrong = {part: {f"{key}.other": one for key, one in tensors.items()} for part, tensors in states.items()}
    else:
        wrong = spoilt(states, kind)
    torch.save(wrong.get("", wrong), tmp_path / "x.pth")
    with pytest.raises(ModelError) as caught:
        convert([tmp_path / "x.pth"], tmp_path / "model")
    assert str(tmp_path / "x.pth") in caught.value.message
    assert caught.value.exit_code == 3
    assert not (tmp_path / "model").exists()


# --- Models of one way ---------------------------------------------------------------------------------


@ALL
def test_a_model_of_one_way_refuses_the_other(name: str, tmp_path: Path, ugatit: Command) -> None:  # noqa: F811
    config = dataclasses.replace(CASES[name].config, ways="a2b")
    path = tiny.save(tmp_path / "model", config)
    names = {*method(name).needed("a2b"), *method(name).style_networks("a2b")}
    stored = load_file(path / "model.safetensors")
    assert {next(one for one in names if key.startswith(f"{one}.")) for key in stored} == names
    model = ugatit_cli.load(path, device="cpu", precision="fp32")
    asked: list[Callable[[], object]] = [
        lambda: model.translate(picture(8, 8), "b2a"),
        lambda: model.translate(picture(8, 8), to="flat"),
        lambda: model.generator("b2a"),
        lambda: open_model(path).generator("b2a"),
    ]
    for ask in asked:
        with pytest.raises(UgatitError, match="flat to clay only") as caught:
            ask()
        assert caught.value.exit_code in (2, 3)
    picture(8, 8).save(tmp_path / "x.png")
    for number, (words, codes) in enumerate(
        ([["--to", "clay"], {0}], [["--to", "flat"], {2, 3}], [["--direction", "b2a"], {2, 3}])
    ):
        out = tmp_path / f"{number}.png"
        outcome = ugatit("translate", tmp_path / "x.png", "--model", path, "-o", out, "--device", "cpu", *words)
        assert outcome.code in codes, outcome.stderr
        assert len(outcome.errors) == (0 if outcome.code == 0 else 1)
        assert out.exists() == (outcome.code == 0)

"""The training step against the official one line by line, and against plain formulations of its variants."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tests.helpers import images
from tests.methods.test_networks import METHOD, state
from tests.methods.test_networks import build as new_networks
from tests.reference import randomize
from tests.reference_step import PlainTrainer, official
from ugatit_cli.config import DOMAINS, DecoderNorm, Direction, Discriminators, Domain, ModelConfig
from ugatit_cli.device import Group
from ugatit_cli.methods import adam as adam_module
from ugatit_cli.methods.base import Step
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe, preset
from ugatit_cli.nn import normalization
from ugatit_cli.nn.normalization import clip_rho

SMALL_96 = dataclasses.replace(tiny.LIGHT, image_size=96, global_layers=0, local_layers=5)
PLAIN = dataclasses.replace(tiny.LIGHT, generator_cam=False, discriminator_cam=False)
LOCAL = dataclasses.replace(PLAIN, decoder_norm="in", discriminators="local")
ABLATED = dataclasses.replace(tiny.LIGHT, decoder_norm="adain", dialect="tensorflow")


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything in float64, so that what differs is a mistake and not a rounding."""

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        var, mean = torch.var_mean(x, dim=(2, 3), correction=0)
        return mean, var

    monkeypatch.setattr(Tensor, "float", lambda self: self)
    monkeypatch.setattr(normalization, "_moments", moments)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(config: ModelConfig, recipe: Recipe, **options: Any) -> Networks:
    networks = new_networks(config, averaged=recipe.ema > 0, **options)
    for seed, network in enumerate([*networks.translators.values(), *networks.critics.values()]):
        randomize(network, seed)
        if torch.get_default_dtype() == torch.float64:
            network.compute_dtype = None
    for way, average in networks.averages.items():
        average.load_state_dict(networks.translators[way].state_dict())
    return networks


def training(networks: Networks, recipe: Recipe) -> Step:
    return METHOD.step(networks, recipe, seed=0, group=Group())


def pictures(config: ModelConfig, n: int, seed: int) -> tuple[Tensor, Tensor]:
    both = images(2 * n, 3, config.image_size, config.image_size, seed=seed)
    return both[:n], both[n:]


def run(step: Step, config: ModelConfig, steps: int, n: int = 1) -> list[dict[str, float]]:
    found = []
    for number in range(steps):
        losses = step(*pictures(config, n, number), step=number, learning_rate=1e-4)
        found.append({name: loss.item() for name, loss in losses.items()})
    return found


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("config", "n", "checkpointing", "large"),
    [(tiny.LIGHT, 2, True, 300), (tiny.FULL, 1, False, 1_000_000), (SMALL_96, 1, False, 300)],
    ids=["light", "full", "light-96"],
)
def test_the_papers_step_is_the_official_one(
    config: ModelConfig, n: int, checkpointing: bool, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adam_module, "LARGE", large)
    networks = build(config, preset("paper"), checkpointing=checkpointing)
    plain, ours = PlainTrainer(config), training(networks, preset("paper"))
    pairs: list[tuple[nn.Module, nn.Module]] = [
        *((theirs, networks.translators[way]) for way, theirs in plain.generators.items()),
        *((theirs, networks.critics[".".join(pair)]) for pair, theirs in plain.discriminators.items()),
    ]
    for theirs, network in pairs:
        theirs.load_state_dict(network.state_dict())
    before = state(networks)
    for step in range(3):
        a, b = pictures(config, n, step)
        losses = ours(a, b, step=step, learning_rate=1e-4)
        # Light generators take the mean for their style in float32.
        expected = {name: pytest.approx(loss, rel=1e-7) for name, loss in plain.step(a, b).items()}
        assert official({name: loss.item() for name, loss in losses.items()}) == expected
    for theirs, network in pairs:
        assert_close(tiny.tensors(network, ""), tiny.tensors(theirs, ""), 1e-6)
    assert any((tensor - before[name]).abs().max() > 1e-4 for name, tensor in state(networks).items())


# --- The paper's step with other settings --------------------------------------------------------------

# Target, the way there, and the way back.
ENDS: list[tuple[Domain, Direction, Direction]] = [("b", "a2b", "b2a"), ("a", "b2a", "a2b")]


def plain_step(networks: Networks, recipe: Recipe, a: Tensor, b: Tensor, optimizers: list[Any]) -> list[float]:
    """A step of the joint cycle as one would write it down: one power iteration, all pictures together.

    Returns:
        What discriminators and generators lost.
    """
    generators_optimizer, discriminators_optimizer = optimizers
    assert isinstance(networks.config, ModelConfig)
    real = {"a": a, "b": b}
    generators, judges = networks.translators, networks.critics
    fakes = {"b": generators["a2b"](a), "a": generators["b2a"](b)}
    total = torch.zeros(())
    for domain in DOMAINS:
        for scale in networks.config.scales:
            output = judges[f"{domain}.{scale}"].train()(torch.cat([real[domain], fakes[domain].image.detach()]))
            for scores in (output.logit, output.cam_logit):
                if scores is not None:
                    n = len(a)
                    total = total + (scores[:n] - 1).square().mean() + scores[n:].square().mean()
    discriminators_optimizer.zero_grad()
    judged = recipe.adversarial_weight * total
    torch.autograd.backward(judged)
    discriminators_optimizer.step()
    total = torch.zeros(())
    for domain, way, back in ENDS:
        fake, source = fakes[domain], real["a" if domain == "b" else "b"]
        for scale in networks.config.scales:
            output = judges[f"{domain}.{scale}"].eval()(fake.image)
            for scores in (output.logit, output.cam_logit):
                if scores is not None:
                    total = total + recipe.adversarial_weight * (scores - 1).square().mean()
        same = generators[way](real[domain])
        total = total + recipe.cycle_weight * (generators[back](fake.image).image - source).abs().mean()
        total = total + recipe.identity_weight * (same.image - real[domain]).abs().mean()
        if fake.cam_logit is not None and same.cam_logit is not None:
            total = total - recipe.cam_weight * fake.cam_logit.sigmoid().log().mean()
            total = total - recipe.cam_weight * (1 - same.cam_logit.sigmoid()).log().mean()
    generators_optimizer.zero_grad()
    torch.autograd.backward(total)
    generators_optimizer.step()
    for network in generators.values():
        clip_rho(network)
    return [judged.item(), total.item()]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "config", [tiny.LIGHT, PLAIN, LOCAL, ABLATED], ids=["light", "no-cam", "cyclegan", "adain-tf"]
)
def test_a_joint_step_is_a_plain_one(config: ModelConfig) -> None:
    recipe = dataclasses.replace(
        Recipe(), augment="off", ema=0.9, weight_decay=1e-3, beta1=0.6, beta2=0.99,
        adversarial_weight=2, cycle_weight=5, identity_weight=3, cam_weight=100,
    )  # fmt: skip
    ours, plain = build(config, recipe), build(config, recipe)
    optimizers = [
        torch.optim.Adam(
            [w for network in group.values() for w in network.parameters()],
            lr=1e-4, betas=(0.6, 0.99), weight_decay=1e-3,
        )
        for group in (plain.translators, plain.critics)
    ]  # fmt: skip
    step = training(ours, recipe)
    for number in range(3):
        a, b = pictures(config, 2, number)
        losses = step(a, b, step=number, learning_rate=1e-4)
        sums = [(losses[f"{kind}_a"] + losses[f"{kind}_b"]).item() for kind in "dg"]
        assert sums == pytest.approx(plain_step(plain, recipe, a, b, optimizers), rel=1e-6)
        plain.update_averages(recipe.ema, number)
    assert set(ours.files()) == {"generators", "discriminators", "averages"}
    assert_close(state(ours), state(plain), 1e-6)


@pytest.mark.parametrize("name", ["paper", "default"])
def test_rho_stays_in_range_and_gradients_are_dropped(name: Any) -> None:
    recipe = preset(name)
    networks = build(tiny.LIGHT, recipe)
    step = training(networks, recipe)
    for number in range(2):
        step(*pictures(tiny.LIGHT, 1, number), step=number, learning_rate=0.5)  # rho would leave at once
        rhos = [tensor for key, tensor in state(networks).items() if key.endswith(".rho") and "average" not in key]
        assert len(rhos) == 8
        assert all(((rho >= 0) & (rho <= 1)).all() for rho in rhos)
        assert any((rho == 0).any() or (rho == 1).any() for rho in rhos)
        for network in (*networks.translators.values(), *networks.critics.values()):
            assert all(weight.grad is None for weight in network.parameters())


# --- Randomness and precision --------------------------------------------------------------------------


def test_seed_step_and_rank_decide_the_augmentation() -> None:
    recipe = Recipe(augment="on")

    def losses(seed: int = 0, number: int = 0, group: Group | None = None) -> list[float]:
        torch.manual_seed(len(seen))
        step = METHOD.step(build(tiny.LIGHT, recipe), recipe, seed=seed, group=group or Group())
        found = step(*pictures(tiny.LIGHT, 1, 0), step=number, learning_rate=1e-4)
        return [loss.item() for loss in found.values()]

    seen: list[list[float]] = []
    seen += [losses(), losses(seed=1), losses(number=1), losses(group=Group(rank=1))]
    assert losses() == seen[0]
    assert len({tuple(one) for one in seen}) == 4
    off = dataclasses.replace(recipe, augment="off")
    (plain,) = run(training(build(tiny.LIGHT, off), off), tiny.LIGHT, 1)
    assert plain["d_a"] != seen[0][list(plain).index("d_a")]
    assert plain["cycle_a"] == seen[0][list(plain).index("cycle_a")]  # only what discriminators see is augmented


FEWER: list[tuple[bool, Discriminators]] = [(False, "both"), (True, "local"), (False, "local")]
EIGHT = dataclasses.replace(tiny.LIGHT, channels=8)
ABLATIONS = [
    *(
        dataclasses.replace(EIGHT, decoder_norm=norm, generator_cam=cam)
        for norm in get_args(DecoderNorm)
        for cam in (True, False)
    ),
    *(dataclasses.replace(EIGHT, discriminator_cam=cam, discriminators=which) for cam, which in FEWER),
]


@pytest.mark.parametrize("recipe", [Recipe(), preset("default")], ids=["joint", "pairs"])
@pytest.mark.parametrize("config", ABLATIONS)
def test_every_ablation_trains_all_that_it_has(config: ModelConfig, recipe: Recipe) -> None:
    networks = build(config, recipe)
    step = training(networks, recipe)
    (losses,) = run(step, config, 1, n=2)
    parts = {f"{kind}_{scale}" for kind in "dg" for scale in config.scales}
    expected = {"cycle", "identity", "d", "g"} | parts
    expected |= {"features", "g_judge", "d_judge"} if recipe.cycle == "pairs" else set()
    names = {f"{name}_{domain}" for name in expected for domain in DOMAINS}
    names |= {f"{part}_{domain}_cam" for part in parts for domain in DOMAINS if config.discriminator_cam}
    names |= {f"cam_{domain}" for domain in DOMAINS if config.generator_cam}
    assert set(losses) == names
    assert [name for name, moment in step.optimizer_tensors().items() if not moment.any()] == []


@pytest.mark.parametrize("config", [tiny.LIGHT, tiny.FULL], ids=["light", "full"])
def test_bf16_is_close_to_fp32(config: ModelConfig) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        networks = build(config, preset("paper"), precision=precision)
        step = training(networks, preset("paper"))
        found[precision] = run(step, config, 2, n=2)
        tensors = state(networks) | step.optimizer_tensors()
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert found["bf16"] != found["fp32"]
    for one, other in zip(found["bf16"], found["fp32"], strict=True):
        assert one == {name: pytest.approx(loss, rel=0.05, abs=0.05) for name, loss in other.items()}

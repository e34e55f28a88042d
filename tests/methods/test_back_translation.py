"""The default recipe's step against a plain formulation of it, and what it learns."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.methods.test_networks import state
from tests.methods.test_ugatit import ENDS, PLAIN, assert_close, build, double, pictures, training  # noqa: F401
from ugatit_cli.config import ModelConfig
from ugatit_cli.methods.back_translation import BackTranslationStep, recoloured
from ugatit_cli.methods.losses import cam_loss, lsgan_loss
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe, preset
from ugatit_cli.nn.efficientnet import distance
from ugatit_cli.nn.normalization import clip_rho

RECIPE = dataclasses.replace(
    preset("default"), augment="off", adversarial_weight=2, cycle_weight=3, feature_weight=0.7, judge_weight=0.3,
    identity_weight=4, cam_weight=6,
)  # fmt: skip


def made(config: ModelConfig, recipe: Recipe = RECIPE) -> BackTranslationStep:
    """A step whose averages are other networks than its translators."""
    networks = build(config, recipe)
    for way, average in networks.averages.items():
        average.compute_dtype = networks.translators[way].compute_dtype
        for weight in average.parameters():
            weight.data.mul_(1.1)
    step = training(networks, recipe)
    assert isinstance(step, BackTranslationStep)
    step.features.to(torch.get_default_dtype())
    return step


def scores_of(networks: Networks, domain: str, x: Tensor, *, learning: bool) -> list[Tensor]:
    """What both discriminators of a domain say, CAM logits as well."""
    found = []
    for name, network in networks.critics.items():
        if name.startswith(f"{domain}."):
            output = network.train(learning)(x)
            found += [scores for scores in (output.logit, output.cam_logit) if scores is not None]
    return found


def plain_step(ours: BackTranslationStep, plain: BackTranslationStep, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """A step as one would write it down: a pass for each kind of picture, one sum of all losses.

    Returns:
        What generators lose, and judges, by domain.
    """
    recipe, networks, real = ours.recipe, plain.networks, {"a": a, "b": b}
    totals: dict[str, Tensor] = {}
    for target, way, back in ENDS:
        source, goal = real["a" if target == "b" else "b"], real[target]
        generator, judge = networks.translators[way], plain.adversaries[target]
        restored = generator(networks.averages[back](goal).image.detach())
        translated, same = generator(source[::2]), generator(goal[::4])
        judged = scores_of(networks, target, torch.cat([goal, translated.image.detach()]), learning=True)
        loss = sum(lsgan_loss(s[: len(goal)], real=True) + lsgan_loss(s[len(goal) :], real=False) for s in judged)
        (recipe.adversarial_weight * loss).backward()  # type: ignore[union-attr]
        for name, optimizer in plain.discriminator_optimizers.items():
            if name.startswith(f"{target}."):
                optimizer.step()
        found = plain.features(torch.cat([restored.image, translated.image]))
        wanted = [one.detach() for one in plain.features(goal)]
        totals[f"d_judge_{target}"] = judge.learn(wanted, [one.detach() for one in found])
        own = [one[: len(goal)] for one in found]
        total = recipe.cycle_weight * (restored.image - goal).abs().mean()
        total = total + recipe.feature_weight * distance(own, wanted) + recipe.judge_weight * judge.loss(found)
        total = total + recipe.identity_weight * (same.image - goal[::4]).abs().mean()
        for scores in scores_of(networks, target, translated.image, learning=False):
            total = total + recipe.adversarial_weight * lsgan_loss(scores, real=True)
        if restored.cam_logit is not None:
            others = torch.cat([restored.cam_logit, translated.cam_logit])
            total = total + recipe.cam_weight * (
                cam_loss(others, source=True) + cam_loss(same.cam_logit, source=False)
            )
        for network in networks.critics.values():
            network.requires_grad_(False)
        total.backward()
        for network in networks.critics.values():
            network.requires_grad_()
        totals[f"g_{target}"] = total.detach()
    plain.optimizers[0].step()
    for generator in networks.translators.values():
        clip_rho(generator)
    return totals


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("config", [tiny.LIGHT, PLAIN], ids=["light", "no-cam"])
def test_a_step_is_a_plain_one(config: ModelConfig) -> None:
    ours, plain = made(config), made(config)
    for number in range(2):
        a, b = pictures(config, 4, number)
        losses = ours(a, b, step=number, learning_rate=1e-4)
        expected = plain_step(ours, plain, a, b)
        assert {name: losses[name].item() for name in expected} == {
            name: pytest.approx(loss.item(), rel=1e-6) for name, loss in expected.items()
        }
        plain.networks.update_averages(RECIPE.ema, number)
    assert_close(state(ours.networks), state(plain.networks), 1e-6)


def test_judges_without_a_weight_rest() -> None:
    step = made(tiny.LIGHT, dataclasses.replace(RECIPE, judge_weight=0))
    before = copy.deepcopy(step.memory())
    losses = step(*pictures(tiny.LIGHT, 1, 0), step=0, learning_rate=1e-4)
    assert not [name for name in losses if "judge" in name]
    assert_close(step.memory(), before, 0)


def test_judges_are_remembered() -> None:
    step, other = made(tiny.LIGHT), made(tiny.LIGHT, dataclasses.replace(RECIPE))
    step(*pictures(tiny.LIGHT, 1, 0), step=0, learning_rate=1e-2)
    memory = copy.deepcopy(step.memory())
    assert any(not torch.equal(one, memory[name]) for name, one in other.memory().items())
    other.remember(memory)
    assert_close(other.memory(), memory, 0)


def test_judges_of_an_earlier_versions_checkpoint_go_on() -> None:
    """Which didn't say how often they had been updated: in every step."""
    step, other = made(tiny.LIGHT), made(tiny.LIGHT)
    for number in range(3):
        step(*pictures(tiny.LIGHT, 1, number), step=number, learning_rate=1e-2)
    for ours, theirs in zip(other.networks.files().values(), step.networks.files().values(), strict=True):
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])
    other.remember({name: one.clone() for name, one in step.memory().items() if not name.endswith(".updates")})
    for name, moment in other.prepare_optimizers(3).items():
        moment.copy_(step.optimizer_tensors()[name])
    for one in (step, other):
        one(*pictures(tiny.LIGHT, 1, 3), step=3, learning_rate=1e-2)
    assert_close(other.memory(), step.memory(), 0)


def test_judges_learn_what_is_real() -> None:
    step: Any = made(tiny.LIGHT).adversaries["a"]
    features = made(tiny.LIGHT).features
    dark, light = (features(x) for x in (torch.full((4, 3, 32, 32), -0.8), torch.full((4, 3, 32, 32), 0.8)))
    step.optimizer.learning_rate = 2e-3
    first = [step.learn(light, dark).item() for _ in range(12)]
    assert first[-1] < 0.7 * first[0]
    assert step.loss(light) < step.loss(dark)


def test_hues_turn_where_the_target_has_none() -> None:
    step = made(tiny.LIGHT)
    step._random = torch.Generator().manual_seed(1)
    colourful, _ = pictures(tiny.LIGHT, 6, 0)
    grey = colourful.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    for goal, turned in ((colourful, False), (grey, True)):
        plain = step.networks.averages["b2a"](goal).image
        found = step._imitated("a2b", goal)
        assert found.abs().max() <= 1
        assert torch.equal(found, plain) != turned


def test_turned_hues_keep_greys() -> None:
    x, _ = pictures(tiny.LIGHT, 6, 0)
    grey = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(recoloured(grey, torch.Generator().manual_seed(0)), grey, rtol=0, atol=1e-5)
    found = recoloured(x * 0.3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.mean(1), x.mean(1) * 0.3, rtol=0, atol=1e-5)
    assert 0 < sum(torch.equal(one, other) for one, other in zip(found, x * 0.3, strict=True)) < 6

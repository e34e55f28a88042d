"""A training step by back-translation: each generator learns from pairs that the other one makes.

In the paper's cycle (section 2.2) the gradient of "there and back is the same" flows through both generators, which
so agree on what the first one hides in its pictures; and its discriminators need a day to know a domain. Here a
picture of the target, translated by the moving average of the other generator, and that picture itself are a pair to
learn from, as in the translation of languages without parallel texts (Sennrich, Haddow and Birch, ACL 2016; Lample,
Conneau, Denoyer and Ranzato, ICLR 2018). What has to come out is real: faults of imitations teach no faults.
Pairs are compared by pixels and by the features of a network that knows photos (Johnson, Alahi and Fei-Fei, ECCV
2016), and a projected discriminator (judge.py) on the same features learns in minutes what is real.

The discriminators of the paper train beside, and are listened to, too. Each direction takes one pass through its
generator, and one without a gradient through the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from ugatit_cli.config import DOMAINS, Direction, Domain, ModelConfig
from ugatit_cli.device import Group, sent
from ugatit_cli.methods.base import OTHER, SOURCE, TARGET, Losses, Term, leaf, sum_of
from ugatit_cli.methods.judge import Adversary
from ugatit_cli.methods.losses import cam_loss, cycle_loss, identity_loss
from ugatit_cli.methods.networks import Networks, memory_format
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.ugatit import UGATITStep, ugatit_terms
from ugatit_cli.nn.efficientnet import bundled_features, distance
from ugatit_cli.nn.generator import Translation

SOURCES: Final = 2
"""Of so many pictures of the source one is translated, for the discriminators."""
SAME: Final = 4
"""Of so many pictures of the target one goes through its own generator, for the identity loss."""


COLOURLESS: Final = 0.1
"""Of the range of [-1, 1]: how far red, green and blue differ at most, in a picture without colours."""
RECOLOURED: Final = 0.8
SATURATION: Final = (0.6, 1.2)
"""How many pictures get other hues, and what their colourfulness is multiplied by."""


class BackTranslationStep(UGATITStep):
    """Updates the networks with one batch; see `Step`, and for the names of the losses `UGATITStep`.

    `cycle_b`, `features_b`, `identity_b` and `cam_b` are of the generator that makes B; `g_judge_b` is what the
    projected discriminator of B says of it, and `d_judge_b` what that learns by.
    """

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        device = next(networks.translators["a2b"].parameters()).device
        self.features = bundled_features().to(device)
        # Also without their weight, which a run that goes on may be given.
        self.adversaries = {
            domain: Adversary(f"{domain}.judge", recipe, group.average, seed=seed, device=device)
            for domain in DOMAINS
        }
        self.optimizers += [one.optimizer for one in self.adversaries.values()]
        # Of what its one pass is compared by; the paper's discriminators and CAM add their gradients themselves.
        own = {f"{name}_{domain}" for name in ("cycle", "features", "identity", "g_judge") for domain in DOMAINS}
        self._weights = {term.name: term.weight for term in self.terms if term.name in own}

    def _direction(self, direction: Direction, real: Mapping[Domain, Tensor]) -> Losses:
        """Trains the discriminators of a direction's target, and adds up the gradients of its generator."""
        target = TARGET[direction]
        source, goal = real[SOURCE[direction]], real[target]
        parts = [self._imitated(direction, goal), source[::SOURCES], goal[::SAME]]
        translation: Translation = self.networks.translators[direction](torch.cat(parts))
        # A leaf: the graphs of what judges the translation end here, and their gradients meet here.
        fake = leaf(translation.image)
        restored, translated, same = fake.split_with_sizes([len(part) for part in parts])
        losses: Losses = {}
        for scale in self.model.scales:
            losses |= self._train_discriminator(target, scale, goal, translated.detach())
            losses |= self._adversarial(target, scale, translated)
        losses |= self._compared(target, restored, translated, goal)
        losses[f"identity_{target}"] = identity_loss(same, goal[::SAME])
        own = [weight * losses[name] for name, weight in self._weights.items() if name in losses]
        torch.autograd.backward(sum_of(own))
        cam = _cam_losses(target, translation.cam_logit, len(same))
        torch.autograd.backward(
            [translation.image, *(self.recipe.cam_weight * loss for loss in cam.values())],
            [fake.grad, *(None for _ in cam)],
        )
        return losses | cam

    @torch.no_grad()
    def _imitated(self, direction: Direction, goal: Tensor) -> Tensor:
        """Pictures of a direction's target as the other direction translates them.

        Where those have no colours, as drawings in ink, hues are of no use, but can be a code in which the other
        direction tells what it saw, such as what was filled. So they are turned at random.
        """
        image: Tensor = self.networks.best_translators[OTHER[direction]](goal).image
        colourless = (goal.amax(1) - goal.amin(1)).amax((1, 2)) < COLOURLESS
        return torch.where(colourless[:, None, None, None], recoloured(image, self._random), image)

    def _compared(self, domain: Domain, restored: Tensor, translated: Tensor, goal: Tensor) -> Losses:
        """Losses of pictures of a domain: restored ones beside what they were, translations beside real ones."""
        with torch.no_grad():
            wanted = self.features(goal)
        both = torch.cat([restored, translated])
        found = self.features(both.contiguous(memory_format=memory_format(both.device)))
        count = len(restored)
        losses = {
            f"cycle_{domain}": cycle_loss(restored, goal),
            f"features_{domain}": distance([one[:count] for one in found], wanted),
        }
        if self.recipe.judge_weight:
            judge = self.adversaries[domain]
            losses[f"d_judge_{domain}"] = judge.learn(wanted, [one.detach() for one in found])
            losses[f"g_judge_{domain}"] = judge.loss(found)
        return losses

    def prepare_optimizers(self, steps: int) -> dict[str, Tensor]:
        """See `Step`; judges are updated only where they have a weight."""
        moments = super().prepare_optimizers(steps)
        for one in self.adversaries.values():
            if one.updates is None:
                one.updates = max(0, steps - self.copied)
            moments |= one.optimizer.prepare(one.updates)
        return moments

    def memory(self) -> dict[str, Tensor]:
        """Also the judges' weights, which are of no use to a model."""
        judges = {name: tensor for one in self.adversaries.values() for name, tensor in one.memory().items()}
        return super().memory() | judges

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """The inverse of `memory`."""
        super().remember(memory)
        for one in self.adversaries.values():
            one.remember(memory)


def recoloured(x: Tensor, random: torch.Generator) -> Tensor:
    """Most pictures with hues rotated by a random angle; white, greys and black stay.

    Args:
        x: (N, 3, H, W) in [-1, 1], on any device.
        random: numbers, on the CPU.
    """
    n = len(x)
    angles = torch.rand(n, 1, 1, generator=random) * 2 * math.pi
    saturation = torch.empty(n, 1, 1).uniform_(*SATURATION, generator=random)
    grey, turn = torch.full((3, 3), 1 / 3), torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    rotated = grey + saturation * (angles.cos() * (torch.eye(3) - grey) + angles.sin() * turn)
    kept = torch.rand(n, 1, 1, generator=random) >= RECOLOURED
    matrices = sent(torch.where(kept, torch.eye(3), rotated), x.device)
    return torch.einsum("nij,njhw->nihw", matrices, x).clamp(-1, 1)


def _cam_losses(domain: Domain, cam_logit: Tensor | None, targets: int) -> Losses:
    """That of pictures from elsewhere, and so many of the target behind them."""
    if cam_logit is None:
        return {}
    others, same = cam_logit[:-targets], cam_logit[-targets:]
    return {f"cam_{domain}": cam_loss(others, source=True) + cam_loss(same, source=False)}


def back_translation_terms(config: ModelConfig, recipe: Recipe) -> Iterator[Term]:
    """As those of the paper's step, and what features tell."""
    yield from ugatit_terms(config, recipe)
    for domain in DOMAINS:
        yield Term(f"features_{domain}", "feature distance", domain, "generator", recipe.feature_weight)
    for domain in DOMAINS if recipe.judge_weight else ():
        yield Term(f"g_judge_{domain}", "judge", domain, "generator", recipe.judge_weight)
        yield Term(f"d_judge_{domain}", "judge", domain, "discriminator", 1.0)

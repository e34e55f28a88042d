"""One training step: every discriminator, then both generators (paper section 2.2; the official code's order).

The same numbers as the official step, without its waste. Pictures are translated once, not once per phase. Gradients
don't flow into weights that aren't being trained. And one direction is finished before the other begins, each loss's
graph freed as soon as its gradient is known, so that at most three generator passes are in memory instead of six.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from ugatit_cli.config import DIRECTIONS, DOMAINS, Direction, Domain, Scale
from ugatit_cli.device import Group
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.losses import augment, cam_loss, cycle_loss, identity_loss, lsgan_loss
from ugatit_cli.methods.networks import OTHER, Networks
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import GeneratorOutput
from ugatit_cli.nn.normalization import clip_rho

SOURCE: dict[Direction, Domain] = {"a2b": "a", "b2a": "b"}
TARGET: dict[Direction, Domain] = {"a2b": "b", "b2a": "a"}

Losses = dict[str, Tensor]


class TrainingStep:
    """Updates the networks with one batch.

    Args:
        seed: of the augmentation.
        group: the processes that train together.
    """

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        self.networks = networks
        self.recipe = recipe
        self.group = group
        self.generator_optimizer = Adam(
            {str(way): generator for way, generator in networks.generators.items()}, recipe, group.average
        )
        self.discriminator_optimizers = {
            (domain, scale): Adam({f"{domain}.{scale}": network}, recipe, group.average, eager=True)
            for (domain, scale), network in networks.discriminators.items()
        }
        self._seed = seed
        self._random = torch.Generator()

    @property
    def optimizers(self) -> list[Adam]:
        """All of them, the generators' first."""
        return [self.generator_optimizer, *self.discriminator_optimizers.values()]

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Adam's moments of all networks by name; empty before the first step."""
        return {name: moment for optimizer in self.optimizers for name, moment in optimizer.tensors().items()}

    def prepare_optimizers(self, updates: int) -> dict[str, Tensor]:
        """Moments as after a number of updates, by name, to be filled in place."""
        return {name: moment for one in self.optimizers for name, moment in one.prepare(updates).items()}

    def __call__(self, a: Tensor, b: Tensor, *, step: int, learning_rate: float) -> Losses:
        """Updates all weights once.

        Args:
            a, b: pictures of both domains, (N, 3, H, W) in [-1, 1], on the networks' device.
            step: number of steps before this one; with the seed it decides all randomness.
            learning_rate: of this step.

        Returns:
            Every loss by name, unweighted, as scalars on the device: `d_local_a`, `d_local_a_cam`, `d_global_a`, ...
            of the discriminators, `g_...` the same of the generators; `cycle_a`, `identity_a`, `cam_a`, ...; and the
            weighted sums `d_a`, `d_b`, `g_a`, `g_b`. The letter is the domain that is judged or restored.
        """
        entropy = np.random.SeedSequence([self._seed, step, self.group.rank])
        self._random.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        real: dict[Domain, Tensor] = {"a": a, "b": b}
        for optimizer in self.optimizers:
            optimizer.learning_rate = learning_rate
        losses: Losses = {}
        for direction in DIRECTIONS:
            for name, loss in self._direction(direction, real).items():
                # Each generator's CAM loss has a part from either direction.
                losses[name] = losses[name] + loss if name in losses else loss
        self.generator_optimizer.step()
        for generator in self.networks.generators.values():
            clip_rho(generator)
        self.networks.update_averages(self.recipe.ema, step)
        return {name: loss.detach() for name, loss in losses.items()} | self._sums(losses)

    def _direction(self, direction: Direction, real: Mapping[Domain, Tensor]) -> Losses:
        """Trains the discriminators of a direction's target, and adds up the gradients of its generator losses."""
        recipe, target = self.recipe, TARGET[direction]
        source, goal = real[SOURCE[direction]], real[target]
        translation: GeneratorOutput = self.networks.generators[direction](source)
        # A leaf: the graphs of what judges the translation end here, and their gradients meet here.
        fake = translation.image.detach().requires_grad_()
        losses: Losses = {}
        for scale in self.networks.config.scales:
            losses |= self._train_discriminator(target, scale, goal, fake.detach())
            losses |= self._adversarial(target, scale, fake)
        losses |= self._cycle_and_identity(direction, source, fake)
        cam = self._cam_loss(target, translation.cam_logit, source=True)
        torch.autograd.backward(
            [translation.image, *(recipe.cam_weight * loss for loss in cam.values())],
            [fake.grad, *(None for _ in cam)],
        )
        return losses | cam

    def _cycle_and_identity(self, direction: Direction, source: Tensor, fake: Tensor) -> Losses:
        """Adds the gradients of what the other generator makes of a translation and of its source, in one pass."""
        recipe, domain = self.recipe, SOURCE[direction]
        output = self.networks.generators[OTHER[direction]](torch.cat([fake, source]))
        back, same = output.image.chunk(2)
        losses = {f"cycle_{domain}": cycle_loss(back, source), f"identity_{domain}": identity_loss(same, source)}
        losses |= self._cam_loss(
            domain, None if output.cam_logit is None else output.cam_logit.chunk(2)[1], source=False
        )
        weights = (recipe.cycle_weight, recipe.identity_weight, recipe.cam_weight)
        torch.autograd.backward(sum_of(weight * loss for weight, loss in zip(weights, losses.values(), strict=False)))
        return losses

    def _train_discriminator(self, domain: Domain, scale: Scale, real: Tensor, fake: Tensor) -> Losses:
        discriminator = self.networks.discriminators[domain, scale].train().requires_grad_()
        real, fake = self._augmented(real), self._augmented(fake)
        if self.recipe.power_iterations == "each-pass":
            of_real, of_fake = _scores(discriminator, real), _scores(discriminator, fake)
        else:
            both = _scores(discriminator, torch.cat([real, fake]))
            of_real, of_fake = [scores[: len(real)] for scores in both], [scores[len(real) :] for scores in both]
        terms = [
            lsgan_loss(one, real=True) + lsgan_loss(other, real=False)
            for one, other in zip(of_real, of_fake, strict=True)
        ]
        losses = _named(f"d_{scale}_{domain}", terms)
        torch.autograd.backward(self.recipe.adversarial_weight * sum_of(losses.values()))
        self.discriminator_optimizers[domain, scale].step()
        return losses

    def _adversarial(self, domain: Domain, scale: Scale, fake: Tensor) -> Losses:
        """Adds the gradient of the adversarial loss to that of the translated pictures."""
        discriminator = self.networks.discriminators[domain, scale].requires_grad_(False)
        discriminator.train(self.recipe.power_iterations == "each-pass")
        terms = [lsgan_loss(scores, real=True) for scores in _scores(discriminator, self._augmented(fake))]
        losses = _named(f"g_{scale}_{domain}", terms)
        torch.autograd.backward(self.recipe.adversarial_weight * sum_of(losses.values()))
        return losses

    @staticmethod
    def _cam_loss(domain: Domain, cam_logit: Tensor | None, *, source: bool) -> Losses:
        return {} if cam_logit is None else {f"cam_{domain}": cam_loss(cam_logit, source=source)}

    def _augmented(self, x: Tensor) -> Tensor:
        return augment(x, self._random) if self.recipe.augment == "on" else x

    def _sums(self, losses: Losses) -> Losses:
        recipe, sums = self.recipe, {}
        weights = {"g": recipe.adversarial_weight, "cycle": recipe.cycle_weight}
        weights |= {"identity": recipe.identity_weight, "cam": recipe.cam_weight}
        for domain in DOMAINS:
            ours = {name: loss for name, loss in losses.items() if domain in name.split("_")}
            sums[f"d_{domain}"] = recipe.adversarial_weight * sum_of(ours[n] for n in ours if n.startswith("d_"))
            sums[f"g_{domain}"] = sum_of(
                weights[name.split("_")[0]] * loss for name, loss in ours.items() if not name.startswith("d_")
            )
        return sums


def sum_of(losses: Iterable[Tensor]) -> Tensor:
    """The sum of some scalars, 0 of none."""
    return sum(losses, start=torch.zeros(()))


def _scores(discriminator: Discriminator, x: Tensor) -> list[Tensor]:
    """Patch scores, and CAM logits where it has a CAM."""
    output = discriminator(x)
    return [scores for scores in (output.logit, output.cam_logit) if scores is not None]


def _named(name: str, terms: list[Tensor]) -> Losses:
    return dict(zip((name, f"{name}_cam"), terms, strict=False))

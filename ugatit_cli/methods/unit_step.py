"""What the training steps of UNIT and MUNIT have in common: one direction after the other, each to its end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ugatit_cli.config import DIRECTIONS, DOMAINS, Direction, Domain
from ugatit_cli.device import Group
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.base import SOURCE, TARGET, Losses, Step, Term, leaf, mean_of, random_numbers, sum_of
from ugatit_cli.methods.configs import CodeConfig
from ugatit_cli.methods.losses import lsgan_loss
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import COMMON, Recipe, RecipeName
from ugatit_cli.nn.layers import Network

Codes = tuple[Tensor, ...]
ByDirection = Mapping[Direction, Tensor]


SETTINGS = COMMON | {"halve_every", "jitter", "order", "cycle_weight", "reconstruction_weight"}
ITERATIONS = 1_000_000
HALVE_EVERY = 100_000


@dataclass(frozen=True)
class Draws:
    """The random numbers of a step.

    Attributes:
        judged: for the translations that the discriminators learn from.
        trained: for those that the generators learn from.
        back: for their way back; empty where nothing random belongs to it.
    """

    judged: ByDirection
    trained: ByDirection
    back: ByDirection


class CodeStep(Step):
    """Updates the networks with one batch: both discriminators, then encoders and decoders; see `Step`.

    The same numbers as the official step, without its waste. A picture is encoded once, since no encoder changes
    between the discriminators' phase and the other. One direction is finished before the other begins: no
    discriminator and no gradient depends on the other direction, and all encoders and decoders are updated together.
    The graphs of reconstruction, of what judges a translation and of its way back end at what they start from, so
    that there are never more than two passes from picture to picture in memory. Discriminators get no gradients in
    the generators' phase, encoders none in the discriminators', and real and translated pictures go through a
    discriminator together.

    Adversarial losses are means over a discriminator's scales, which count as often as there are scales.
    """

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        config = networks.config
        assert isinstance(config, CodeConfig)
        self.adversarial_weight = config.scales * recipe.adversarial_weight
        self.discriminator_optimizer = Adam(networks.critics, recipe, group.average, eager=True)
        self.optimizers = [Adam(networks.translators, recipe, group.average), self.discriminator_optimizer]

    def losses(self, a: Tensor, b: Tensor, *, step: int) -> Losses:
        """Updates all weights once; see `Step`."""
        real: dict[Domain, Tensor] = {"a": a, "b": b}
        random = random_numbers(self.seed, step, self.group.rank)
        draws = self.draw(real, random)
        losses: Losses = {}
        for direction in DIRECTIONS:
            losses |= self._direction(direction, real, draws, random)
        self.update_translators()
        return losses

    def _direction(
        self, direction: Direction, real: Mapping[Domain, Tensor], draws: Draws, random: torch.Generator
    ) -> Losses:
        """Updates the discriminator that a direction leads to, and adds the gradients of its other losses."""
        source, target = SOURCE[direction], TARGET[direction]
        graph = self.encode(source, real[source])
        codes = tuple(leaf(code) for code in graph)
        with torch.no_grad():
            fake = self.translate(direction, codes, draws.judged[direction])
        losses = self._judge(target, real[target], fake, random)
        losses |= self.reconstruct(direction, real[source], codes, draws)
        image = self.translate(direction, codes, draws.trained[direction])
        fake = leaf(image)
        losses |= self._adversarial(target, fake, random)
        losses |= self.go_back(direction, real[source], codes, fake, draws)
        torch.autograd.backward(image, fake.grad)
        torch.autograd.backward(graph, [code.grad for code in codes])
        return losses

    @abstractmethod
    def draw(self, real: Mapping[Domain, Tensor], random: torch.Generator) -> Draws:
        """All random numbers of a step but those of augmentation, in the official order."""

    @abstractmethod
    def encode(self, domain: Domain, x: Tensor) -> Codes:
        """The codes of a domain's pictures (N, 3, H, W)."""

    @abstractmethod
    def translate(self, direction: Direction, codes: Codes, drawn: Tensor) -> Tensor:
        """What has the codes of pictures of the source domain, in the target domain: (N, 3, H, W)."""

    @abstractmethod
    def reconstruct(self, direction: Direction, x: Tensor, codes: Codes, draws: Draws) -> Losses:
        """Adds the gradients of the losses on pictures of the source domain, and on their codes alone."""

    @abstractmethod
    def go_back(self, direction: Direction, x: Tensor, codes: Codes, fake: Tensor, draws: Draws) -> Losses:
        """Adds the gradients of the losses on what translations are encoded to, and painted from that."""

    def _judge(self, domain: Domain, real: Tensor, fake: Tensor, random: torch.Generator) -> Losses:
        """Updates a discriminator."""
        critic = self.networks.critics[domain].requires_grad_()
        pictures = torch.cat([self.augmented(real, random), self.augmented(fake, random)])
        scores = [scale.chunk(2) for scale in critic(pictures)]
        loss = mean_of(lsgan_loss(ours, real=True) + lsgan_loss(theirs, real=False) for ours, theirs in scores)
        torch.autograd.backward(self.adversarial_weight * loss)
        self.discriminator_optimizer.step()
        return {f"d_patch_{domain}": loss}

    def _adversarial(self, domain: Domain, fake: Tensor, random: torch.Generator) -> Losses:
        """Adds the gradient of what the discriminator says to that of the translated pictures."""
        critic = self.networks.critics[domain].requires_grad_(False)
        loss = mean_of(lsgan_loss(scale, real=True) for scale in critic(self.augmented(fake, random)))
        torch.autograd.backward(self.adversarial_weight * loss)
        return {f"g_patch_{domain}": loss}

    def network(self, domain: Domain, part: str) -> Network:
        """A domain's encoder, decoder or style encoder."""
        return self.networks.translators[f"{domain}.{part}"]


def backward(losses: Losses, weights: Iterable[float]) -> None:
    """Adds the gradients of losses by their weights, in their order."""
    torch.autograd.backward(sum_of(weight * loss for weight, loss in zip(weights, losses.values(), strict=True)))


def random_codes(shape: Sequence[int], random: torch.Generator) -> Tensor:
    """Numbers from N(0, 1), float32, on the CPU."""
    return torch.randn(*shape, generator=random)


def adversarial_terms(config: Any, recipe: Recipe) -> Iterator[Term]:
    """What the discriminators are about."""
    weight = config.scales * recipe.adversarial_weight
    for domain in DOMAINS:
        yield Term(f"g_patch_{domain}", "adversarial", domain, "generator", weight)
        yield Term(f"d_patch_{domain}", "adversarial", domain, "discriminator", weight)


def code_recipe(name: RecipeName, **own: float) -> Recipe:
    """The authors' training, the same for both methods but for their `own` weights.

    `paper` halves the learning rate every 100,000 of its 1,000,000 steps. `default` has U-GAT-IT's moving average,
    augmentation, and a learning rate that falls to 0 at the end of any training.
    """
    authors = Recipe(learning_rate=1e-4, **own)  # type: ignore[arg-type]  # only weights
    if name == "default":
        return authors
    plain = replace(authors, name="paper", ema=0.0, augment="off", fit="aspect", jitter=False)
    return replace(plain, decay_from=1.0, halve_every=HALVE_EVERY, order="zipped")

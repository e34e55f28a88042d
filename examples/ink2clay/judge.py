"""The projected discriminator of `ugatit_cli.methods.judge` with a memory of earlier pictures, as ink2clay had it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.judge import Judge, Mixing
from ugatit_cli.methods.recipe import Recipe

WIDTH: Final = 128
RATE: Final = 2e-4
# Pictures of either kind that it sees in a step; those that aren't of the step are of earlier ones, of so many kept.
BATCH, KEPT = 8, 400


class Pool:
    """Mixed features of single pictures of earlier steps."""

    def __init__(self) -> None:
        self.kept: list[list[Tensor]] = []

    def filled(self, mixed: Sequence[Tensor], random: torch.Generator) -> list[Tensor]:
        """The features with kept ones behind them, `BATCH` of them where there are so many; they are kept, too."""
        count = len(mixed[0])
        order = torch.randperm(len(self.kept), generator=random)[: max(0, BATCH - count)].tolist()
        batch = [torch.cat([one, *(self.kept[i][depth].float() for i in order)]) for depth, one in enumerate(mixed)]
        self.kept += [[one[i : i + 1].to(torch.bfloat16) for one in mixed] for i in range(count)]
        while len(self.kept) > KEPT:
            place = int(torch.randint(KEPT, (), generator=random))
            self.kept[place] = self.kept.pop()
        return batch


class Adversary:
    """A judge in training, and what it tells a translator.

    Args:
        average: see `Adam`.
    """

    def __init__(self, judge: Judge, recipe: Recipe, average: Callable[[list[Tensor]], None]) -> None:
        self.judge = judge
        self.mixing = Mixing().to(next(judge.parameters()).device)
        own = dataclasses.replace(recipe, beta1=0.5, beta2=0.999)
        self.optimizer = Adam({"judge": judge}, own, average)
        self.real, self.fake = Pool(), Pool()

    def learn(self, real: Sequence[Tensor], fake: Sequence[Tensor], random: torch.Generator) -> Tensor:
        """Updates the judge once by the hinge loss, and returns that.

        Args:
            real, fake: features of real and of translated pictures, without a graph.
        """
        first, second = (
            pool.filled(self.mixing(one), random) for pool, one in ((self.real, real), (self.fake, fake))
        )
        self.judge.train().requires_grad_()
        logits = self.judge([torch.cat(pair) for pair in zip(first, second, strict=True)])
        split = [one.tensor_split([len(first[0])]) for one in logits]
        loss = torch.stack([F.relu(1 - ours).mean() + F.relu(1 + theirs).mean() for ours, theirs in split]).mean()
        torch.autograd.backward(loss)
        self.optimizer.learning_rate = RATE
        self.optimizer.step()
        return loss.detach()

    def loss(self, features: Sequence[Tensor]) -> Tensor:
        """What a translator shall make small, a scalar: the sum over depths; features come with their graph."""
        logits = self.judge.eval().requires_grad_(False)(self.mixing(features))
        return -torch.stack([one.mean() for one in logits]).sum()

"""The pool of earlier translations (CycleGAN, section 4)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ugatit_cli.config import DOMAINS, Domain
from ugatit_cli.device import Group
from ugatit_cli.methods.base import Step, random_numbers
from ugatit_cli.methods.networks import Networks
from ugatit_cli.methods.recipe import Recipe


class Pool:
    """Earlier translations, which discriminators see again (section 4, after Shrivastava et al. 2017).

    Args:
        size: how many are kept at most; 0: none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pictures: list[Tensor] = []

    def query(self, pictures: Tensor, random: torch.Generator) -> Tensor:
        """Takes in new pictures one by one, and gives one for each: itself or, half the time, an earlier one.

        Until the pool is full, it stores and gives new ones. Then with probability 1/2 a new one takes the place of
        a stored one, which is given instead.

        Args:
            pictures: (N, C, H, W), detached.
            random: where the random numbers come from, on the CPU.
        """
        return torch.stack([self._exchange(picture, random) for picture in pictures])

    def _exchange(self, picture: Tensor, random: torch.Generator) -> Tensor:
        if len(self.pictures) < self.size:
            self.pictures.append(picture.clone())
        elif self.size and torch.rand((), generator=random) > 0.5:
            place = int(torch.randint(self.size, (), generator=random))
            stored, self.pictures[place] = self.pictures[place], picture.clone()
            return stored
        return picture


class Pools:
    """A pool of the translations into each domain, the same in all processes.

    Args:
        size: see `Pool`.
    """

    def __init__(self, size: int) -> None:
        self.pools: dict[Domain, Pool] = {domain: Pool(size) for domain in DOMAINS}

    def start(self, seed: int, step: int) -> None:
        """Sets the random numbers of a run's step."""
        self._random = random_numbers(seed, step, 0, 1)

    def query(self, domain: Domain, pictures: Tensor, group: Group) -> Tensor:
        """What `Pool.query` gives for this process's pictures (N, C, H, W), after those of all have gone in."""
        everyone = self.pools[domain].query(group.gather(pictures), self._random)
        return everyone.chunk(group.size)[group.rank]

    def memory(self) -> dict[str, Tensor]:
        """All pictures, (n, C, H, W) each: `pool.a`, `pool.b`; none that is empty."""
        pools = {f"pool.{domain}": pool.pictures for domain, pool in self.pools.items()}
        return {name: torch.stack(pictures) for name, pictures in pools.items() if pictures}

    def remember(self, memory: Mapping[str, Tensor], device: torch.device) -> None:
        """The inverse of `memory`."""
        for domain, pool in self.pools.items():
            pictures = memory.get(f"pool.{domain}", torch.empty(0))
            pool.pictures = [picture.clone() for picture in pictures.to(device)]


class PooledStep(Step):
    """A step that has pools; see `Step`."""

    def __init__(self, networks: Networks, recipe: Recipe, *, seed: int, group: Group) -> None:
        super().__init__(networks, recipe, seed=seed, group=group)
        self.pools = Pools(recipe.pool_size)

    def memory(self) -> dict[str, Tensor]:
        """The pools; see `Step`."""
        return super().memory() | self.pools.memory()

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """The inverse of `memory`."""
        super().remember(memory)
        self.pools.remember(memory, next(self.networks.translators["a2b"].parameters()).device)

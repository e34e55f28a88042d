"""The pool of earlier translations (CycleGAN, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor


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
            pictures: (N, 3, H, W), detached.
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

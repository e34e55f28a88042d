"""Distances between two sets of feature vectors: KID and FID, with the figures of torch-fidelity, and of pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ugatit_cli.errors import UsageError, install_line

INSTALL: Final = install_line("eval")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Subsets:
    """Which subsets KID is averaged over.

    Attributes:
        count: how many.
        size: vectors of each set in a subset; None: half of the smaller set, at most 1000, so that subsets of small
            sets differ and their spread says something.
        seed: of the choice.
    """

    count: int = 100
    size: int | None = None
    seed: int = 0

    def size_for(self, *sets: int) -> int:
        """The size for sets of so many vectors.

        Raises:
            UsageError: one of them has fewer than that, or fewer than 4.
        """
        fewest = min(sets)
        if fewest < 4:
            raise UsageError(f"KID of {fewest} pictures says nothing", "Give at least 4, better 50 or more.")
        size = self.size or min(1000, fewest // 2)  # as torch-fidelity and torchmetrics where there are enough
        if size > fewest:
            raise UsageError(
                f"--subset-size {size}: there are only {fewest} pictures",
                f"Take at most {fewest // 2}, so that subsets differ, or leave it out.",
            )
        if size < 2:
            raise UsageError(f"--subset-size {size}: a subset needs 2 pictures", "Leave it out.")
        return size


@dataclass(frozen=True)
class Kid:
    """A kernel inception distance (Binkowski et al. 2018): the squared MMD with the kernel (x.y / d + 1)^3, unbiased.

    Attributes:
        mean, std: over the subsets, not multiplied by 100; a mean below 0 is noise about 0.
        subsets, size: how many, and of how many pictures each.
    """

    mean: float
    std: float
    subsets: int
    size: int


Verdict = Literal["better", "unclear", "worse"]


def verdict(mean: float, std: float, other: float, other_std: float) -> Verdict:
    """Whether a KID is below another one, or above it, by more than their deviations together."""
    apart, room = other - mean, std + other_std
    return "better" if apart > room else "worse" if -apart > room else "unclear"


BY_DEFAULT: Final = Subsets()
LARGEST_KERNEL: Final = 3000
"""Pictures of which a kernel is kept as a whole: 72 MB."""


def kid(x: Tensor, y: Tensor, subsets: Subsets = BY_DEFAULT) -> Kid:
    """KID between two sets, float64 (N, D) and (M, D).

    Raises:
        UsageError: fewer pictures than a subset.
    """
    size, most = subsets.size_for(len(x), len(y)), max(len(x), len(y))
    random, sets = np.random.RandomState(subsets.seed), (x.numpy(), y.numpy())  # as torch-fidelity chooses
    chosen = [[random.choice(len(one), size, replace=False) for one in sets] for _ in range(subsets.count)]
    if most <= min(LARGEST_KERNEL, size * np.sqrt(subsets.count)):  # less work than a kernel for each subset
        of_x, of_y, between = _kernels(*sets)
        values = [_squared_mmd(of_x[np.ix_(i, i)], of_y[np.ix_(j, j)], between[np.ix_(i, j)]) for i, j in chosen]
    else:
        values = [_squared_mmd(*_kernels(sets[0][i], sets[1][j])) for i, j in chosen]
    return Kid(float(np.mean(values)), float(np.std(values)), subsets.count, size)


def _kernels(x: Floats, y: Floats) -> list[Floats]:
    """Those within x and y, (N, N) and (M, M), and between them, (N, M)."""
    bases = (a @ b.T / a.shape[1] + 1 for a, b in ((x, x), (y, y), (x, y)))
    return [base * base * base for base in bases]  # `base**3` takes ten times as long


def _squared_mmd(of_x: Floats, of_y: Floats, between: Floats) -> float:
    """Unbiased, from the kernels of as many vectors each; equation 4 of the paper."""
    within = sum(one.sum() - one.trace() for one in (of_x, of_y)) / (len(of_x) * (len(of_x) - 1))
    return float(within - 2 * between.mean())


def mixed_kid(translated: Tensor, target: Tensor, source: Tensor, subsets: Subsets = BY_DEFAULT) -> Kid:
    """The mean of the KIDs to target and source, which the paper's figures very likely are: not comparable with KID.

    Both are of subsets of the same size. Its std is that of the mean of two independent figures.

    Raises:
        UsageError: as `kid`.
    """
    subsets = replace(subsets, size=subsets.size_for(len(translated), len(target), len(source)))
    one, other = kid(translated, target, subsets), kid(translated, source, subsets)
    return Kid((one.mean + other.mean) / 2, float(np.hypot(one.std, other.std)) / 2, one.subsets, one.size)


def fid(x: Tensor, y: Tensor) -> float:
    """Frechet inception distance (Heusel et al. 2017) between two sets, float64 (N, D) and (M, D).

    Biased upwards, the more the fewer pictures there are: only compare sets of the same size.

    Raises:
        UsageError: fewer than 2 pictures.
    """
    if min(len(x), len(y)) < 2:
        raise UsageError("FID of a single picture says nothing", "Give at least 2, better thousands.")
    one, other = (np.cov(of.numpy(), rowvar=False) for of in (x, y))
    root = np.sqrt(np.linalg.eigvals(one @ other).astype(complex)).real.sum()  # the trace of the matrix root
    between = (x.mean(0) - y.mean(0)).square().sum().item()
    return max(0.0, float(between + one.trace() + other.trace() - 2 * root))  # rounded: equal sets would be about 0


def feature_distance(x: Tensor, y: Tensor) -> float:
    """How far pairs are from each other, from 0 to 2: the mean of 1 - cosine of their features, float64 (N, D) each.

    In the spirit of LPIPS (Zhang et al. 2018), with the features of this evaluation and without learned weights.
    """
    lengths = x.norm(dim=1) * y.norm(dim=1)
    cosine = (x * y).sum(1) / lengths.clamp_min(1e-12)
    return float((1 - cosine.clamp(-1, 1)).mean())

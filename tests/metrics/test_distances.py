"""KID and FID against their formulas, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ugatit_cli.errors import UsageError
from ugatit_cli.metrics.distances import Subsets, feature_distance, fid, kid, mixed_kid

EPS = torch.finfo(torch.float64).eps


def vectors(count: int, dimensions: int = 5, *, shift: float = 0.0, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=source, dtype=torch.float64) + shift


def kernel(a: list[float], b: list[float]) -> float:
    product = 0.0
    for one, other in zip(a, b, strict=True):
        product += one * other
    return (product / len(a) + 1.0) ** 3


def squared_mmd(x: list[list[float]], y: list[list[float]]) -> float:
    """Unbiased, as Binkowski et al. 2018, equation 4, have it."""
    m, n = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    between = sum(kernel(one, other) for one in x for other in y) / (m * n)
    return within_x + within_y - 2 * between


# --- KID -----------------------------------------------------------------------------------------------


def test_kid_is_the_mean_of_its_subsets() -> None:
    x, y = vectors(60), vectors(45, shift=0.7, seed=1)
    found = kid(x, y, Subsets(count=4, size=20, seed=7))
    chosen = np.random.RandomState(7)
    values = []
    for _ in range(4):
        one, other = x[chosen.choice(60, 20, replace=False)], y[chosen.choice(45, 20, replace=False)]
        values.append(squared_mmd(one.tolist(), other.tolist()))
    assert found.mean == pytest.approx(sum(values) / 4, rel=1e-9)
    assert found.std == pytest.approx(float(np.std(values)), rel=1e-9)
    assert (found.subsets, found.size) == (4, 20)
    assert kid(x, y) == kid(x, y, Subsets()) != kid(x, y, Subsets(seed=1))


def test_the_mixed_kid_is_the_mean_to_target_and_source() -> None:
    translated, target, source = vectors(40), vectors(30, shift=0.4, seed=1), vectors(24, shift=1, seed=2)
    mixed = mixed_kid(translated, target, source)
    subsets = Subsets(size=12)  # half of the smallest set, for both
    one, other = kid(translated, target, subsets), kid(translated, source, subsets)
    assert mixed.mean == (one.mean + other.mean) / 2
    assert mixed.std == pytest.approx((one.std**2 + other.std**2) ** 0.5 / 2)
    assert mixed.size == 12
    assert min(one.mean, other.mean) < mixed.mean < max(one.mean, other.mean)


@given(sets=st.lists(st.integers(4, 5000), min_size=1, max_size=3))
def test_subsets_fit_into_every_set(sets: list[int]) -> None:
    size = Subsets().size_for(*sets)
    assert 2 <= size <= min(1000, min(sets) // 2)
    assert size == 1000 or 2 * size + 1 >= min(sets)


@pytest.mark.parametrize(
    ("subsets", "count", "named"),
    [
        (Subsets(), 3, "KID of 3 "),
        (Subsets(size=20), 19, "--subset-size 20: .*19 "),
        (Subsets(size=1), 19, "--subset-size 1: "),
        (None, 1, "FID of "),
    ],
)
def test_too_few(subsets: Subsets | None, count: int, named: str) -> None:
    for x, y in ((count, 30), (30, count)):
        with pytest.raises(UsageError, match=named):
            kid(vectors(x), vectors(y), subsets) if subsets else fid(vectors(x), vectors(y))


# --- FID -----------------------------------------------------------------------------------------------


def test_fid_of_a_set_with_itself_is_nothing() -> None:
    # Also of fewer vectors than dimensions. Eigenvalues are off by eps ||C||^2, their roots by its root.
    for count in (50, 4):
        x = vectors(count)
        scale = x.shape[1] * x.T.cov().trace().item()
        assert 0 <= fid(x, x) <= scale * EPS**0.5


def test_fid_of_shifted_and_of_wider_sets() -> None:
    x = vectors(50)
    assert fid(x, x + 3) == pytest.approx(5 * 9)
    centred = x - x.mean(0)
    assert fid(centred, 3 * centred) == pytest.approx(4 * centred.var(0).sum().item())  # (3 - 1)^2 tr(C)


# --- Pairs ---------------------------------------------------------------------------------------------


def test_the_feature_distance_is_the_mean_of_the_pairs() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 4.0], [1.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([[5.0, 0.0], [-1.0, 0.0], [4.0, 3.0], [0.0, 0.0]], dtype=torch.float64)
    distances = (0, 2, 1 - 24 / 25, 1)  # nothing has no direction
    for i, distance in enumerate(distances):
        assert feature_distance(x[i : i + 1], y[i : i + 1]) == pytest.approx(distance)
    assert feature_distance(x, y) == pytest.approx(sum(distances) / 4)
    for seed in range(20):
        assert 0 <= feature_distance(vectors(50, seed=seed), vectors(50, seed=seed)) <= 8 * EPS

"""AdaLIN, LIN and the ablation norms against their plain formulas."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import plain_adalin, plain_group_norm
from ugatit_cli.nn.normalization import GroupNorm, LayerNorm, instance_layer_norm

shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 9), st.integers(2, 9))
seeds = st.integers(0, 2**31)
booleans = st.booleans()


def random_map(shape: tuple[int, ...], seed: int, offset: float = 0.0, scale: float = 1.0) -> Tensor:
    """Normal values; each channel has a mean of its own, up to `offset` standard deviations."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=source)
    means = offset * (2 * torch.rand(shape[:2], generator=source) - 1)
    return scale * (x + means[:, :, None, None])


def random_style(x: Tensor, seed: int, rho: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(rho (C,), gamma (N, C), beta (N, C)); rho is random within [0, 1] unless it is given."""
    source = torch.Generator().manual_seed(seed + 1)
    channels = x.shape[1]
    random_rho = torch.rand(channels, generator=source)
    gamma, beta = torch.randn(2, x.shape[0], channels, generator=source)
    return random_rho if rho is None else torch.full((channels,), rho), gamma, beta


def in_double(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in tensors]


@settings(max_examples=60)
@given(
    shape=shapes,
    seed=seeds,
    rho=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    offset=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
    scale=st.sampled_from([0.0, 0.05, 1.0, 20.0]),
    unbiased=booleans,
    channels_last=booleans,
)
def test_adalin_and_its_gradients_are_the_plain_formula(
    shape: tuple[int, ...],
    seed: int,
    rho: float | None,
    offset: float,
    scale: float,
    unbiased: bool,
    channels_last: bool,
) -> None:
    x = random_map(shape, seed, offset, scale)
    share, gamma, beta = random_style(x, seed, rho)
    leaves = [leaf.requires_grad_() for leaf in (x, share, gamma, beta)]
    doubles = in_double(*leaves)
    expected = plain_adalin(*doubles, unbiased=unbiased)
    given_x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    result = instance_layer_norm(given_x, share, gamma, beta, unbiased=unbiased)
    assert result.stride() == given_x.stride() or 1 in shape
    # A mean of `offset` standard deviations costs as many units of rounding: float32 holds no more of x.
    tolerance = (2e-6 + 4e-7 * offset) * (1 + expected.abs().max().item())
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance)
    if offset > 1 or scale not in (1.0, 20.0):
        return  # gradients of nearly constant maps are rounding
    weights = random_map(shape, seed + 2)
    torch.autograd.backward([expected, result], [weights.double(), weights])
    for leaf, double in zip(leaves, doubles, strict=True):
        assert leaf.grad is not None
        assert double.grad is not None
        tolerance = 1e-4 * max(1.0, double.grad.abs().max().item())
        torch.testing.assert_close(leaf.grad.double(), double.grad, rtol=0, atol=tolerance)


@settings(max_examples=30)
@given(shape=shapes, seed=seeds, scale=st.sampled_from([0.05, 1.0]))
def test_munits_layer_norm_and_its_gradients_are_the_plain_formula(
    shape: tuple[int, ...], seed: int, scale: float
) -> None:
    x = random_map(shape, seed, 1.0, scale).double().requires_grad_()
    norm = LayerNorm(shape[1]).double()
    torch.nn.init.normal_(norm.beta)
    leaves = [x, norm.gamma, norm.beta]
    centred, deviation = x - x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
    expected = centred / (deviation + 1e-5) * norm.gamma[:, None, None] + norm.beta[:, None, None]
    result = norm(x)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)
    weights = random_map(shape, seed + 2).double()
    ours, theirs = (torch.autograd.grad((one * weights).sum(), leaves) for one in (result, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


@settings(max_examples=30)
@given(shape=shapes, seed=seeds, unbiased=booleans)
def test_half_precision_rounds_once(shape: tuple[int, ...], seed: int, unbiased: bool) -> None:
    x = random_map(shape, seed, 2.0).bfloat16()
    rho, gamma, beta = random_style(x, seed)
    expected = plain_adalin(*in_double(x, rho, gamma, beta), unbiased=unbiased)
    result = instance_layer_norm(x, rho, gamma, beta, unbiased=unbiased)
    assert result.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits; with statistics and coefficients in float32 only the result is rounded.
    torch.testing.assert_close(result.double(), expected, rtol=2**-8, atol=1e-3)


@settings(max_examples=30)
@given(width=st.integers(1, 64).map(lambda n: 8 * n), seed=seeds)
def test_group_norm_at_every_width_of_the_decoder(width: int, seed: int) -> None:
    norm = GroupNorm(width)
    assert width % norm.groups == 0
    assert width != 256 or norm.groups == 32
    x, ones = random_map((1, width, 2, 3), seed, 1.0), torch.ones(1, width)
    torch.testing.assert_close(norm(x), plain_group_norm(x, norm.groups, ones, 0 * ones), rtol=0, atol=1e-4)

"""AdaLIN, LIN and the ablation norms against their plain formulas."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.reference import plain_adalin, plain_group_norm
from ugatit_cli.config import DecoderNorm, Dialect, ModelConfig
from ugatit_cli.nn.generator import Generator
from ugatit_cli.nn.normalization import (
    EPS,
    AdaptiveNorm,
    GroupNorm,
    InstanceNorm,
    LayerInstanceNorm,
    channel_moments,
    clip_rho,
    decoder_norm,
    instance_layer_norm,
)

NORMS: tuple[DecoderNorm, ...] = get_args(DecoderNorm)
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


@settings(max_examples=30)
@given(
    shape=shapes,
    seed=seeds,
    rho=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    offset=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
    scale=st.sampled_from([0.05, 1.0, 20.0]),
    unbiased=booleans,
    channels_last=booleans,
)
def test_adalin_is_the_plain_formula(
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
    expected = plain_adalin(*in_double(x, share, gamma, beta), unbiased=unbiased)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    result = instance_layer_norm(x, share, gamma, beta, unbiased=unbiased)
    # A mean of `offset` standard deviations costs as many units of rounding: float32 holds no more of x.
    tolerance = (2e-6 + 4e-7 * offset) * (1 + expected.abs().max().item())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance)


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
@given(shape=shapes, seed=seeds, unbiased=booleans, channels_last=booleans, offset=st.sampled_from([0.0, 3.0]))
def test_gradients_are_those_of_the_plain_formula(
    shape: tuple[int, ...], seed: int, unbiased: bool, channels_last: bool, offset: float
) -> None:
    x = random_map(shape, seed, offset)
    rho, gamma, beta = random_style(x, seed)
    weights = random_map(shape, seed + 2).double()
    leaves = [x.requires_grad_(), rho.requires_grad_(), gamma.requires_grad_(), beta.requires_grad_()]
    doubles = in_double(*leaves)
    torch.autograd.backward((plain_adalin(*doubles, unbiased=unbiased) * weights).sum())
    given_x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    result = instance_layer_norm(given_x, rho, gamma, beta, unbiased=unbiased)
    torch.autograd.backward((result * weights.float()).sum())
    for leaf, double in zip(leaves, doubles, strict=True):
        assert leaf.grad is not None
        assert double.grad is not None
        tolerance = 1e-4 * max(1.0, double.grad.abs().max().item())
        torch.testing.assert_close(leaf.grad.double(), double.grad, rtol=0, atol=tolerance)


@settings(max_examples=30)
@given(shape=shapes, seed=seeds, half=booleans, channels_last=booleans)
def test_with_and_without_gradients_agree(shape: tuple[int, ...], seed: int, half: bool, channels_last: bool) -> None:
    x = random_map(shape, seed, 1.0)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    if half:
        x = x.bfloat16()
    rho, gamma, beta = random_style(x, seed)
    with torch.no_grad():
        without = instance_layer_norm(x, rho, gamma, beta)
    with_gradient = instance_layer_norm(x.requires_grad_(), rho, gamma, beta)
    assert with_gradient.requires_grad
    assert without.dtype == with_gradient.dtype
    # In bfloat16 the one with gradients rounds scale and shift, too.
    scale = gamma.abs().max() / (x.detach().float().var((2, 3), correction=0).min() + EPS).sqrt()
    unit = (2**-6 if half else 1e-6) * (1 + scale.item() * x.detach().abs().max().item())
    torch.testing.assert_close(with_gradient.detach().float(), without.float(), rtol=0, atol=unit)


@pytest.mark.parametrize("gradients", [False, True])
def test_memory_format_is_kept(gradients: bool) -> None:
    x = random_map((2, 4, 6, 6), 0).contiguous(memory_format=torch.channels_last).requires_grad_(gradients)
    rho, gamma, beta = random_style(x, 0)
    result = instance_layer_norm(x, rho, gamma, beta)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert not result.is_contiguous()


@settings(max_examples=30)
@given(shape=shapes, seed=seeds, dtype=st.sampled_from([torch.float32, torch.bfloat16]), channels_last=booleans)
def test_channel_moments(shape: tuple[int, ...], seed: int, dtype: torch.dtype, channels_last: bool) -> None:
    x = random_map(shape, seed, 5.0).to(dtype)
    expected_var, expected_mean = torch.var_mean(x.double(), dim=(2, 3), correction=0)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    mean, var = channel_moments(x)
    assert mean.dtype == var.dtype == torch.float32
    torch.testing.assert_close(mean.double(), expected_mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(var.double(), expected_var, rtol=1e-4, atol=1e-5)


def test_a_constant_map_becomes_beta() -> None:
    x = torch.full((1, 3, 4, 4), 7.0)
    rho, gamma, beta = random_style(x, 0)
    expected = beta[:, :, None, None].expand_as(x)
    torch.testing.assert_close(instance_layer_norm(x, rho, gamma, beta), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("affine", [False, True])
def test_instance_norm_of_the_encoder(affine: bool) -> None:
    x = random_map((2, 4, 5, 7), 1, 3.0)
    norm = InstanceNorm(4, affine=affine)
    names = {name for name, _ in norm.named_parameters()}
    assert names == ({"gamma", "beta"} if affine else set())
    gamma = beta = None
    if norm.gamma is not None and norm.beta is not None:
        assert norm.gamma.eq(1).all()
        assert norm.beta.eq(0).all()
        gamma, beta = nn.init.normal_(norm.gamma), nn.init.normal_(norm.beta)
    expected = nn.functional.instance_norm(x, weight=gamma, bias=beta)
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-5)


def norms_of(kind: DecoderNorm, dialect: Dialect, *, smoothing: bool = False) -> tuple[nn.Module, nn.Module]:
    """(norm of the residual blocks, norm of the up-sampling blocks), 8 channels."""
    config = ModelConfig(
        channels=8, decoder_norm=kind, dialect=dialect, rho_smoothing=smoothing, discriminator_channels=4
    )
    up = decoder_norm(8, config)
    return (AdaptiveNorm(8, config) if config.adaptive else decoder_norm(8, config)), up


@pytest.mark.parametrize("dialect", get_args(Dialect))
@pytest.mark.parametrize("kind", NORMS)
def test_all_decoder_norms(kind: DecoderNorm, dialect: Dialect) -> None:
    x = random_map((2, 8, 3, 4), 5, 2.0)
    rho, gamma, beta = random_style(x, 5)
    residual, up = norms_of(kind, dialect)
    unbiased = dialect == "pytorch"
    for norm in (residual, up):
        adaptive = isinstance(norm, AdaptiveNorm)
        parameters = dict(norm.named_parameters())
        assert set(parameters) == ({"rho"} if kind == "adalin" else set()) | (
            set() if adaptive else {"gamma", "beta"}
        )
        g, b = gamma, beta
        with torch.no_grad():
            if kind == "adalin":
                parameters["rho"].copy_(rho)
            if not adaptive:
                g, b = parameters["gamma"].copy_(gamma[0])[None], parameters["beta"].copy_(beta[0])[None]
        if kind == "gn":
            expected = plain_group_norm(x, 8, g, b)
        else:
            share = {"adalin": rho, "ln": torch.zeros(8)}.get(kind, torch.ones(8))
            expected = plain_adalin(x, share, g, b, unbiased=unbiased)
        result = norm(x, gamma, beta) if adaptive else norm(x)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_smoothing_is_of_adalin_only() -> None:
    x = random_map((2, 8, 4, 4), 2)
    rho, gamma, beta = random_style(x, 2)
    rho[:3] = torch.tensor([0.0, 0.05, 1.0])
    adaptive, up = norms_of("adalin", "tensorflow", smoothing=True)
    assert isinstance(adaptive, AdaptiveNorm)
    assert isinstance(up, LayerInstanceNorm)
    for norm in (adaptive, up):
        assert norm.rho is not None
        norm.rho.data.copy_(rho)
    smoothed = (rho - 0.1).clamp(0, 1)
    ones, zeros = torch.ones(1, 8), torch.zeros(1, 8)
    expected = plain_adalin(x, smoothed, gamma, beta, unbiased=False)
    torch.testing.assert_close(adaptive(x, gamma, beta), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(up(x), plain_adalin(x, rho, ones, zeros, unbiased=False), rtol=0, atol=1e-5)


def test_clip_rho_reaches_every_rho_and_nothing_else() -> None:
    generator = Generator(ModelConfig(channels=4, blocks=2))
    rhos = {name for name, _ in generator.named_parameters() if name.endswith("rho")}
    assert len(rhos) == 2 * 2 + 2
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.copy_(torch.linspace(-1, 2, parameter.numel()).view_as(parameter))
    before = {name: parameter.clone() for name, parameter in generator.named_parameters()}
    clip_rho(generator)
    for name, parameter in generator.named_parameters():
        expected = before[name].clamp(0, 1) if name in rhos else before[name]
        assert torch.equal(parameter, expected), name


@settings(max_examples=30)
@given(channels=st.integers(1, 16).map(lambda n: 8 * n), seed=seeds)
def test_group_norm_at_every_width_of_the_decoder(channels: int, seed: int) -> None:
    for width in (channels, 2 * channels, 4 * channels):
        x = random_map((1, width, 2, 3), seed, 1.0)
        norm = GroupNorm(width)
        assert width % norm.groups == 0
        ones, zeros = torch.ones(1, width), torch.zeros(1, width)
        torch.testing.assert_close(norm(x), plain_group_norm(x, norm.groups, ones, zeros), rtol=0, atol=1e-4)
    assert GroupNorm(256).groups == 32

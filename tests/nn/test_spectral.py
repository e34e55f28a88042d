"""Spectral norm equals its definition, and the layers under it equal the plain ones."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import randomize
from ugatit_cli.nn.layers import padding
from ugatit_cli.nn.spectral import FEW_PIXELS, SpectralConv2d, SpectralNorm, normalised_weight

seeds = st.integers(0, 2**31)


def normalised(weight: Tensor, norm: SpectralNorm) -> Tensor:
    return normalised_weight(weight, norm, torch.float32)


@settings(max_examples=30)
@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4)), seed=seeds)
def test_power_iterations_find_the_largest_singular_value(shape: tuple[int, int, int], seed: int) -> None:
    torch.manual_seed(seed % 2**31)
    weight = torch.randn(*shape, shape[2])
    norm = SpectralNorm(weight)
    for _ in range(300):
        norm(weight)
    norm.eval()
    largest = np.linalg.svd(weight.flatten(1).double().numpy(), compute_uv=False)[0]
    # From below, where the two largest values are close and the iteration is slow.
    found = norm(weight)[0].item()
    assert largest * 0.97 <= found <= largest * 1.0001
    np.testing.assert_allclose([norm.u.norm(), norm.v.norm()], 1, atol=1e-5)


def test_training_iterates_once_and_eval_never() -> None:
    weight = torch.randn(4, 3, 2, 2)
    norm = SpectralNorm(weight)
    u, v = norm.u.clone(), norm.v.clone()
    norm.eval()(weight)
    assert torch.equal(norm.u, u)
    assert torch.equal(norm.v, v)
    result = normalised(weight, norm.train())
    matrix = weight.flatten(1)
    v = F.normalize(matrix.T @ u, dim=0)
    u = F.normalize(matrix @ v, dim=0)
    torch.testing.assert_close(norm.v, v)
    torch.testing.assert_close(norm.u, u)
    torch.testing.assert_close(result, weight / (u @ matrix @ v))


def test_gradients_pass_through_sigma_but_not_through_u_and_v() -> None:
    weight = torch.randn(4, 3, 2, 2, requires_grad=True)
    other = weight.detach().clone().requires_grad_()
    norm = SpectralNorm(weight).eval()
    target = torch.randn(weight.shape)
    torch.autograd.backward((normalised(weight, norm) * target).sum())
    torch.autograd.backward((other / (norm.u @ other.flatten(1) @ norm.v) * target).sum())
    torch.testing.assert_close(weight.grad, other.grad)


LAYOUTS = [torch.contiguous_format, torch.channels_last]


def norm_of(conv: SpectralConv2d) -> SpectralNorm:
    assert conv.norm is not None
    return conv.norm


def plain(conv: SpectralConv2d, weight: Tensor, x: Tensor) -> Tensor:
    sigma = norm_of(conv).u @ weight.flatten(1) @ norm_of(conv).v
    return F.conv2d(F.pad(x, conv.pad, mode="reflect"), weight / sigma, conv.bias, conv.stride)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [6, 24], ids=["few pixels", "many pixels"])
def test_spectral_conv(side: int, stride: int, layout: torch.memory_format) -> None:
    conv = SpectralConv2d(3, 5, 4, pad=padding(1, extra=stride % 2), stride=stride, bias=True)
    conv = randomize(conv, 1).eval().to(memory_format=layout)
    x = torch.randn(2, 3, side, side).contiguous(memory_format=layout)
    assert (conv(x)[:, 0].numel() <= FEW_PIXELS) == (side == 6)
    torch.testing.assert_close(conv(x), plain(conv, conv.weight, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("side", [6, 24], ids=["few pixels", "many pixels"])
def test_gradients_of_spectral_conv(side: int, layout: torch.memory_format) -> None:
    conv = SpectralConv2d(3, 5, 4, pad=padding(1), stride=1, bias=True)
    conv = randomize(conv, 1).double().eval().to(memory_format=layout)
    x = torch.randn(2, 3, side, side, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = conv.weight.detach().clone().requires_grad_()
    result, expected = conv(x), plain(conv, weight, x)
    grad = torch.randn_like(expected)
    ours = torch.autograd.grad(result, [x, conv.weight], grad)
    theirs = torch.autograd.grad(expected, [x, weight], grad)
    torch.testing.assert_close(ours, theirs)
    # The optimizer reads it in the weight's order.
    assert ours[1].stride() == conv.weight.stride()


@pytest.mark.parametrize("side", [6, 24], ids=["few pixels", "many pixels"])
def test_bfloat16_is_close(side: int) -> None:
    conv = randomize(SpectralConv2d(3, 5, 4, pad=padding(1), stride=1, bias=True), 1)
    x = torch.randn(2, 3, side, side)
    for _ in range(20):
        conv.train()(x)  # with random u and v, sigma would be anything
    conv.eval()
    low = x.bfloat16().requires_grad_()
    result, expected = conv(low), conv(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, rtol=0.03, atol=0.03)
    grad = torch.randn_like(expected)
    (ours,) = torch.autograd.grad(result, [conv.weight], grad.bfloat16())
    (theirs,) = torch.autograd.grad(expected, [conv.weight], grad)
    assert ours.dtype == torch.float32
    assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_frozen_weights_get_no_gradient() -> None:
    conv = randomize(SpectralConv2d(3, 5, 4, pad=padding(1)), 1).eval().requires_grad_(False)
    x = torch.randn(1, 3, 6, 6, requires_grad=True)
    torch.autograd.backward(conv(x).sum())
    assert x.grad is not None
    assert conv.weight.grad is None


def test_the_memory_format_changes_neither_values_nor_stored_vectors() -> None:
    conv = randomize(SpectralConv2d(3, 5, 4, pad=padding(1)), 1).train()
    other = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 12, 12)
    for _ in range(3):
        torch.testing.assert_close(conv(x), other(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm_of(conv).v, norm_of(other).v)
    torch.testing.assert_close(norm_of(conv).u, norm_of(other).u)


# --- Folded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("side", [6, 24], ids=["few pixels", "many pixels"])
def test_a_folded_layer_is_the_same_layer(side: int, layout: torch.memory_format) -> None:
    conv = SpectralConv2d(3, 5, 4, pad=padding(1, extra=1), bias=True)
    conv = randomize(conv, 1).eval().double().to(memory_format=layout)
    x = torch.randn(2, 3, side, side, dtype=torch.float64).contiguous(memory_format=layout)
    expected = conv(x)
    assert (expected[:, 0].numel() <= FEW_PIXELS) == (side == 6)
    weight, u, v = conv.weight.detach().clone(), norm_of(conv).u, norm_of(conv).v
    conv.fold(torch.float64)
    assert conv.norm is None
    torch.testing.assert_close(conv.weight, weight / (u @ weight.flatten(1) @ v), rtol=1e-12, atol=1e-12)
    assert not conv.weight.requires_grad
    torch.testing.assert_close(conv(x), expected, rtol=1e-12, atol=1e-12 * expected.abs().max().item())
    folded = conv.weight
    conv.fold(torch.float64)  # a second time is too late
    assert conv.weight is folded
    conv.to(memory_format=torch.channels_last)
    torch.testing.assert_close(conv(x), expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())

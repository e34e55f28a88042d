"""Spectral norm equals its definition, and the layers under it equal the plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import randomize
from ugatit_cli.nn.layers import padding
from ugatit_cli.nn.spectral import FEW_PIXELS, SpectralConv2d, SpectralNorm

LAYOUTS = [torch.contiguous_format, torch.channels_last]
SIDES = pytest.mark.parametrize("side", [6, 24], ids=["few pixels", "many pixels"])


@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4)),
    seed=st.integers(0, 2**31),
    layout=st.sampled_from(LAYOUTS),
)
def test_power_iterations_find_the_largest_singular_value(
    shape: tuple[int, int, int], seed: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(*shape, shape[2]).contiguous(memory_format=layout)
    norm = SpectralNorm(weight)
    for _ in range(300):
        norm(weight)
    norm.eval()
    largest = np.linalg.svd(weight.flatten(1).double().numpy(), compute_uv=False)[0]
    # From below, where the two largest values are close and the iteration is slow.
    found = norm(weight)[0].item()
    assert largest * 0.97 <= found <= largest * 1.0001
    np.testing.assert_allclose([norm.u.norm(), norm.v.norm()], 1, atol=1e-5)


def plain(conv: SpectralConv2d, weight: Tensor, x: Tensor) -> Tensor:
    assert conv.norm is not None
    sigma = conv.norm.u @ weight.flatten(1) @ conv.norm.v
    return F.conv2d(F.pad(x, conv.pad, mode="reflect"), weight / sigma, conv.bias, conv.stride)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [1, 2])
@SIDES
def test_spectral_conv_and_its_folded_form(side: int, stride: int, layout: torch.memory_format) -> None:
    conv = SpectralConv2d(3, 5, 4, pad=padding(1, extra=stride % 2), stride=stride, bias=True)
    conv = randomize(conv, 1).double().eval().to(memory_format=layout)
    x = torch.randn(2, 3, side, side, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = conv.weight.detach().clone().requires_grad_()
    result, expected = conv(x), plain(conv, weight, x)
    assert (result[:, 0].numel() <= FEW_PIXELS) == (side == 6)
    grad = torch.randn_like(expected)
    ours = torch.autograd.grad(result, [x, conv.weight], grad)
    theirs = torch.autograd.grad(expected, [x, weight], grad)
    torch.testing.assert_close((result, *ours), (expected, *theirs))
    # The optimizer reads it in the weight's order.
    assert ours[1].stride() == conv.weight.stride()

    conv.fold(torch.float64)
    assert conv.norm is None
    assert not conv.weight.requires_grad
    torch.testing.assert_close(conv(x), expected)
    folded = conv.weight
    conv.fold(torch.float64)  # a second time is too late
    assert conv.weight is folded
    for other in LAYOUTS:
        torch.testing.assert_close(conv.to(memory_format=other)(x), expected)


@SIDES
def test_bfloat16_is_close(side: int) -> None:
    conv = randomize(SpectralConv2d(3, 5, 4, pad=padding(1), stride=1, bias=True), 1)
    x = torch.randn(2, 3, side, side)
    for _ in range(20):
        conv.train()(x)  # with random u and v, sigma would be anything
    conv.eval()
    result, expected = conv(x.bfloat16().requires_grad_()), conv(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, rtol=0.03, atol=0.03)
    grad = torch.randn_like(expected)
    (ours,) = torch.autograd.grad(result, [conv.weight], grad.bfloat16())
    (theirs,) = torch.autograd.grad(expected, [conv.weight], grad)
    assert ours.dtype == torch.float32
    assert (ours - theirs).norm() < 0.02 * theirs.norm()
    conv.fold(torch.bfloat16)
    assert conv.weight.dtype == torch.bfloat16
    torch.testing.assert_close(conv(x.bfloat16()).float(), expected, rtol=0.03, atol=0.03)

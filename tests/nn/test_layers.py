"""Padding and the rewritten convolutions equal the plain ones, forwards and backwards."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ugatit_cli.nn.layers import ReflectConv2d, ToRGB, UpsampleConv2d, padded, padding, relu_

SIDES = st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9))


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    pad=st.tuples(*[st.integers(0, 3)] * 4),
    mode=st.sampled_from(["reflect", "replicate"]),
    channels_last=st.booleans(),
)
def test_padding(
    size: tuple[int, int],
    pad: tuple[int, int, int, int],
    mode: Literal["reflect", "replicate"],
    channels_last: bool,
) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    result = padded(ours, pad, mode)
    expected = F.pad(theirs, pad, mode=mode)
    assert torch.equal(result, expected)
    grad = torch.randn_like(expected)
    before = grad.clone()
    torch.autograd.backward([result, expected], [grad, grad])
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.equal(grad, before)


@pytest.mark.parametrize("name", ["upsample 3", "upsample 5", "to_rgb", "uneven"])
@settings(max_examples=30)
@given(
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)), size=SIDES, bias=st.booleans(),
    channels_last=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_convolutions_are_the_plain_ones(
    name: str, channels: tuple[int, int], size: tuple[int, int, int], bias: bool, channels_last: bool, seed: int
) -> None:
    """Result and all gradients equal those of the plain form in float64."""
    made: dict[str, tuple[ReflectConv2d, tuple[int, int, int, int]]] = {
        "upsample 3": (UpsampleConv2d(*channels, bias=bias), (1, 1, 1, 1)),
        "upsample 5": (UpsampleConv2d(*channels, kernel=5, bias=bias), (2, 2, 2, 2)),
        "to_rgb": (ToRGB(channels[0], bias=bias), (3, 3, 3, 3)),
        "uneven": (ReflectConv2d(*channels, 4, pad=padding(1, extra=1), bias=bias), (1, 2, 1, 2)),
    }
    conv, pad = made[name]
    n, height, width = size
    torch.manual_seed(seed)
    for parameter in conv.parameters():
        parameter.data.normal_()
    x = torch.randn(n, channels[0], 2 * height, 2 * width)
    leaves = [x.requires_grad_(), *conv.parameters()]
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    plain = F.interpolate(doubles[0], scale_factor=2, mode="nearest") if "upsample" in name else doubles[0]
    expected = F.conv2d(F.pad(plain, pad, mode="reflect"), doubles[1], doubles[2] if bias else None)
    result = conv(x.contiguous(memory_format=torch.channels_last) if channels_last else x)
    weights = torch.randn(expected.shape)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-4)
    torch.autograd.backward((expected * weights.double()).sum())
    torch.autograd.backward((result * weights).sum())
    for leaf, double in zip(leaves, doubles, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad.double(), double.grad, rtol=1e-5, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_relu_in_place(dtype: torch.dtype) -> None:
    x = torch.tensor([-math.inf, -3e38, -1.5, -1e-40, -0.0, 0.0, 1e-40, 2.5, math.inf, math.nan], dtype=dtype)
    x = x.view(1, 1, 2, 5)
    with torch.inference_mode():
        wanted = torch.relu(x)
        assert relu_(x) is x
    torch.testing.assert_close(x, wanted, rtol=0, atol=0, equal_nan=True)

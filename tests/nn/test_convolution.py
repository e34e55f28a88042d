"""The rewritten convolutions equal the plain ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ugatit_cli.nn.layers import ReflectConv2d, ToRGB, UpsampleConv2d, padding

seeds = st.integers(0, 2**31)
booleans = st.booleans()
Plain = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def plain_upsample(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias)


def plain_to_rgb(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), weight, bias)


def with_random_weights(conv: ReflectConv2d, seed: int) -> ReflectConv2d:
    source = torch.Generator().manual_seed(seed)
    for parameter in conv.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=source))
    return conv


def compare(conv: ReflectConv2d, plain: Plain, x: Tensor, *, channels_last: bool, seed: int) -> None:
    """Result and all gradients of a layer equal those of the plain form in float64."""
    leaves = [x.requires_grad_(), *conv.parameters()]
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = plain(doubles[0], doubles[1], doubles[2] if len(doubles) > 2 else None)
    result = conv(x.contiguous(memory_format=torch.channels_last) if channels_last else x)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed + 1))
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-4)
    torch.autograd.backward((expected * weights.double()).sum())
    torch.autograd.backward((result * weights).sum())
    for leaf, double in zip(leaves, doubles, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad.double(), double.grad, rtol=1e-5, atol=1e-3)


@settings(max_examples=30)
@given(
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    bias=booleans,
    channels_last=booleans,
    seed=seeds,
)
def test_upsample_conv_is_the_plain_form(
    channels: tuple[int, int], size: tuple[int, int, int], bias: bool, channels_last: bool, seed: int
) -> None:
    conv = with_random_weights(UpsampleConv2d(*channels, bias=bias), seed)
    x = torch.randn(size[0], channels[0], *size[1:], generator=torch.Generator().manual_seed(seed))
    compare(conv, plain_upsample, x, channels_last=channels_last, seed=seed)


@settings(max_examples=30)
@given(
    inputs=st.integers(1, 5),
    size=st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9)),
    bias=booleans,
    channels_last=booleans,
    seed=seeds,
)
def test_to_rgb_is_the_plain_form(
    inputs: int, size: tuple[int, int, int], bias: bool, channels_last: bool, seed: int
) -> None:
    conv = with_random_weights(ToRGB(inputs, bias=bias), seed)
    shape = (size[0], inputs, 2 * size[1], 2 * size[2])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    compare(conv, plain_to_rgb, x, channels_last=channels_last, seed=seed)


def test_to_rgb_reads_the_kernel_the_right_way_up() -> None:
    conv = ToRGB(1)
    conv.weight.data.zero_()
    conv.weight.data[0, 0, 0, 6] = 1  # three up, three to the right
    x = torch.rand(1, 1, 12, 12)
    assert torch.equal(conv(x)[0, 0, 3:, :-3], x[0, 0, :-3, 3:])


def test_reflect_conv_with_uneven_padding() -> None:
    conv = with_random_weights(ReflectConv2d(2, 3, 4, pad=padding(1, extra=1), bias=True), 0)
    x = torch.randn(1, 2, 6, 6)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 2), (1, 2)), mode="reflect")
    assert conv(x).shape == (1, 3, 6, 6)
    torch.testing.assert_close(conv(x), F.conv2d(torch.from_numpy(padded), conv.weight, conv.bias))

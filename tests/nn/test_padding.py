"""Padding equals PyTorch's, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ugatit_cli.nn.layers import padding, reflect, replicate


def test_padding_order_is_left_right_top_bottom() -> None:
    assert padding(1) == (1, 1, 1, 1)
    assert padding(1, extra=1) == (1, 2, 1, 2)


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    pad=st.tuples(*[st.integers(0, 3)] * 4),
    mode=st.sampled_from(["reflect", "replicate"]),
    channels_last=st.booleans(),
)
def test_values_and_gradients(
    size: tuple[int, int], pad: tuple[int, int, int, int], mode: str, channels_last: bool
) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    result = (reflect if mode == "reflect" else replicate)(ours, pad)
    expected = F.pad(theirs, pad, mode=mode)
    assert torch.equal(result, expected)
    grad = torch.randn_like(expected)
    before = grad.clone()
    torch.autograd.backward([result, expected], [grad, grad])
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.equal(grad, before)


@pytest.mark.parametrize("pad", [reflect, replicate])
def test_no_graph_where_none_is_needed(pad: object) -> None:
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    with torch.no_grad():
        assert not (reflect if pad is reflect else replicate)(x, (1, 1, 1, 1)).requires_grad

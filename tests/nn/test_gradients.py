"""Gradients of convolutions equal those of autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ugatit_cli.nn import gradients
from ugatit_cli.nn.gradients import doubling_conv2d, weight_gradient


@pytest.mark.parametrize(("n", "side", "height", "width"), [(1, 1, 4, 5), (2, 2, 5, 3), (3, 3, 3, 6), (2, 4, 6, 4)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_weight_gradients_are_those_of_autograd(
    n: int, side: int, height: int, width: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(n, 3, height, width).double(), torch.randn(5, 3, side, side).double().requires_grad_()
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    out = F.conv2d(x, weight)
    grad = torch.randn_like(out)
    (expected,) = torch.autograd.grad(out, weight, grad)
    torch.testing.assert_close(weight_gradient(x, grad, side), expected)


@pytest.mark.parametrize("side", [4, 6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "large"), [(torch.float64, 1), (torch.float64, 10**9), (torch.bfloat16, 1)])
def test_doubling_convolutions_are_the_plain_ones(
    side: int, bias: bool, dtype: torch.dtype, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Result and all gradients; the input may need none."""
    monkeypatch.setattr(gradients, "LARGE", large)
    torch.manual_seed(0)
    shapes = [(2, 3, 5, 4), (3, 6, side, side)] + [(6,)] * bias
    leaves = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    x, weight, added = leaves[0], leaves[1], leaves[2] if bias else None
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    ours = doubling_conv2d(x, weight, added, side // 2 + 1)
    plain = F.conv_transpose2d(doubles[0], doubles[1], doubles[2] if bias else None, 2, side // 2 + 1)
    grad = torch.randn_like(ours)
    found = torch.autograd.grad(ours, leaves, grad, retain_graph=True)
    expected = torch.autograd.grad(plain, doubles, grad.double())
    rtol, atol = (2e-2, 0.2) if dtype == torch.bfloat16 else (1e-9, 1e-9)
    for one, other in zip([ours, *found], [plain, *expected], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=rtol, atol=atol)
    only = doubling_conv2d(x.detach(), weight, added, side // 2 + 1)
    torch.testing.assert_close(torch.autograd.grad(only, weight, grad)[0], found[1])

"""The CAM module against the plain form: weigh the map twice, concatenate, 1x1 convolution."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference import randomize
from ugatit_cli.config import Dialect
from ugatit_cli.nn.attention import ClassActivationMap, DomainClassifier
from ugatit_cli.nn.layers import INIT_STD

DIALECTS = get_args(Dialect)


def cam(dialect: Dialect, slope: float, *, spectral: bool) -> ClassActivationMap:
    return randomize(ClassActivationMap(6, dialect=dialect, slope=slope, spectral=spectral), 7).eval()


def normalised(classifier: DomainClassifier, *, spectral: bool) -> Tensor:
    if not spectral or classifier.norm is None:
        return classifier.weight
    return classifier.weight / (classifier.norm.u @ classifier.weight @ classifier.norm.v)


def plain(
    module: ClassActivationMap, x: Tensor, dialect: Dialect, *, spectral: bool
) -> tuple[Tensor, Tensor, Tensor]:
    gap, gmp = module.gap, module.gmp or module.gap
    logits, maps = [], []
    for classifier, pooled in ((gap, x.mean((2, 3))), (gmp, x.amax((2, 3)))):
        weight = normalised(classifier, spectral=spectral)
        if dialect == "tensorflow":
            assert classifier.bias is not None
            logits.append(pooled @ weight.T + classifier.bias)
            attention = weight + classifier.bias
        else:
            logits.append(pooled @ weight.T)
            attention = classifier.weight
        maps.append(x * attention[:, :, None, None])
    mixed = F.conv2d(torch.cat(maps, 1), module.weight, module.bias)
    activated = torch.where(mixed > 0, mixed, module.slope * mixed)
    return activated, torch.cat(logits, 1), activated.sum(1, keepdim=True)


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_cam_is_the_plain_form(dialect: Dialect, slope: float, spectral: bool) -> None:
    module = cam(dialect, slope, spectral=spectral)
    x = torch.randn(2, 6, 5, 4, requires_grad=True)
    copy = x.detach().clone().requires_grad_()
    result, expected = module(x), plain(module, copy, dialect, spectral=spectral)
    for one, other in zip(result, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    parameters = list(module.parameters())
    gradients = torch.autograd.grad([t.square().sum() for t in result], [x, *parameters])
    others = torch.autograd.grad([t.square().sum() for t in expected], [copy, *parameters])
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_parameters(dialect: Dialect) -> None:
    module = ClassActivationMap(64, dialect=dialect, slope=0.0, spectral=False)
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    expected = {"gap.weight": (1, 64), "weight": (64, 128, 1, 1), "bias": (64,)}
    expected |= {"gap.bias": (1,)} if dialect == "tensorflow" else {"gmp.weight": (1, 64)}
    assert shapes == expected
    assert abs(module.weight.std() / INIT_STD - 1) < 0.1
    assert module.bias.eq(0).all()


def test_the_maximum_of_negative_features_is_negative() -> None:
    module = cam("pytorch", 0.0, spectral=False)
    x = -1 - torch.rand(1, 6, 3, 3)
    assert module.gmp is not None
    _, logits, _ = module(x)
    torch.testing.assert_close(logits[0, 1], (x.amax((2, 3)) @ module.gmp.weight.T)[0, 0])


def test_half_precision_keeps_logits_and_heatmap_in_float32() -> None:
    module = cam("pytorch", 0.0, spectral=False)
    x = torch.randn(1, 6, 4, 4)
    features, logits, heatmap = module(x.bfloat16())
    assert (features.dtype, logits.dtype, heatmap.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    torch.testing.assert_close(logits, module(x)[1], rtol=0.05, atol=0.05)

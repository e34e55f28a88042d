"""The discriminators against the plain transcription of the official codes."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch

from tests.helpers import images
from tests.reference import randomize, reference_discriminator
from ugatit_cli.config import SCALES, Dialect, ModelConfig, Scale
from ugatit_cli.nn.attention import ClassActivationMap
from ugatit_cli.nn.discriminator import Discriminator

DIALECTS = get_args(Dialect)


def random_discriminator(config: ModelConfig, scale: Scale) -> Discriminator:
    torch.manual_seed(4)  # u and v
    return randomize(Discriminator(config, scale), 4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cam", [True, False])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_discriminator_and_its_gradients_are_the_references(
    dialect: Dialect, scale: Scale, cam: bool, training: bool
) -> None:
    config = ModelConfig(dialect=dialect, discriminator_channels=4, discriminator_cam=cam, image_size=96)
    discriminator = random_discriminator(config, scale)
    x = images(2, 3, 96, 104).requires_grad_()
    expected = reference_discriminator(discriminator, config, x, iterate=training)
    result = discriminator.train(training)(x)
    assert result._fields == ("logit", "cam_logit", "heatmap")
    assert (result.cam_logit is None) == (expected.cam_logit is None) == (not cam)
    leaves = {"input": x, **dict(discriminator.named_parameters())}
    gradients = []
    for output in (result, expected):
        loss = (output[0] - 1).square().mean() + (0 if output[1] is None else (output[1] - 1).square().mean())
        gradients.append(torch.autograd.grad(loss, list(leaves.values())))
    for name, one, other in zip(leaves, *gradients, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * other.abs().max().item(), msg=name)
    for one, other in zip(result, expected, strict=True):
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("layers", range(3, 8))
def test_smallest_picture(dialect: Dialect, layers: int) -> None:
    config = ModelConfig(dialect=dialect, discriminator_channels=2, global_layers=layers)
    discriminator = Discriminator(config, "global")
    smallest = 3 * 2 ** (layers - 2)
    assert discriminator(images(1, 3, smallest, smallest)).logit.isfinite().all()
    with pytest.raises(RuntimeError):
        discriminator(images(1, 3, smallest - 4, smallest - 4))


@pytest.mark.parametrize("cam", [True, False])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_folded_discriminator_says_the_same(dialect: Dialect, cam: bool) -> None:
    config = ModelConfig(dialect=dialect, discriminator_channels=4, discriminator_cam=cam, image_size=96)
    discriminator = random_discriminator(config, "local").eval().requires_grad_(False)
    x = images(2, 3, 96, 104)
    folded = copy.deepcopy(discriminator)
    folded.set_precision(torch.float32).set_precision(torch.float32)  # harmless a second time
    # Only the CAM's classifiers stay as they were.
    assert all(name.startswith("cam.") for name, _ in folded.named_buffers())
    for one, other in zip(folded(x), discriminator(x), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6 * max(1, other.abs().max().item()))


# --- What these comparisons leave open of the CAM ------------------------------------------------------

CAM = randomize(ClassActivationMap(6, dialect="pytorch", slope=0.0, spectral=False), 7).eval()


def test_the_maximum_of_negative_features_is_negative() -> None:
    x = -1 - torch.rand(1, 6, 3, 3)
    assert CAM.gmp is not None
    _, logits, _ = CAM(x)
    torch.testing.assert_close(logits[0, 1], (x.amax((2, 3)) @ CAM.gmp.weight.T)[0, 0])


def test_half_precision_keeps_logits_and_heatmap_in_float32() -> None:
    x = torch.randn(1, 6, 4, 4)
    features, logits, heatmap = CAM(x.bfloat16())
    assert (features.dtype, logits.dtype, heatmap.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    torch.testing.assert_close(logits, CAM(x)[1], rtol=0.05, atol=0.05)

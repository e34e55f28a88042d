"""The generator against the plain transcription of the official codes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import images
from tests.reference import randomize, reference_generator
from ugatit_cli.config import DecoderNorm, Dialect, ModelConfig, Variant
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.nn.layers import INIT_STD


def configs() -> list[ModelConfig]:
    """Every decoder norm with and without CAM, both variants; both dialects, with smoothing where there is AdaLIN."""
    return [
        ModelConfig(
            image_size=32,
            channels=8 if norm == "gn" else 4,
            blocks=2,
            variant=variant,
            dialect=dialect,
            decoder_norm=norm,
            rho_smoothing=smoothing,
            generator_cam=cam,
        )
        for dialect in get_args(Dialect)
        for variant in get_args(Variant)
        for norm in get_args(DecoderNorm)
        for smoothing in ((False, True) if dialect == "tensorflow" and norm == "adalin" else (False,))
        for cam in (True, False)
    ]


def name_of(config: ModelConfig) -> str:
    flags = ["smooth"] * config.rho_smoothing + ["cam"] * config.generator_cam
    return "-".join([config.dialect, config.variant, config.decoder_norm, *flags])


@pytest.mark.parametrize("config", configs(), ids=name_of)
def test_generator_is_the_reference(config: ModelConfig) -> None:
    generator = randomize(Generator(config), 1).eval()
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        result, expected = generator(x), reference_generator(generator, config, x)
    assert result._fields == ("image", "cam_logit", "heatmap")
    assert result.image.std() > 0.1
    torch.testing.assert_close(result.image, expected.result, rtol=0, atol=2e-5)
    if config.generator_cam:
        torch.testing.assert_close(result.cam_logit, expected.cam_logit, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(result.heatmap, expected.heatmap, rtol=1e-4, atol=1e-4)
    else:
        assert result[1:] == (None, None)


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_gradients_are_those_of_the_reference(dialect: Dialect, variant: Variant) -> None:
    config = ModelConfig(image_size=16, channels=4, blocks=1, dialect=dialect, variant=variant)
    generator = randomize(Generator(config), 3)
    x, target = images(2, 3, 16, 16), images(2, 3, 16, 16, seed=1)
    gradients = []
    for image, cam_logit, _ in (generator(x), reference_generator(generator, config, x)):
        assert cam_logit is not None
        loss = (image - target).abs().mean() + cam_logit.square().mean()
        gradients.append(torch.autograd.grad(loss, list(generator.parameters())))
    for (name, _), one, other in zip(generator.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * other.abs().max().item() + 1e-6, msg=name)


@settings(max_examples=12)
@given(height=st.integers(4, 20), width=st.integers(4, 20), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_light_generators_take_any_multiple_of_four(height: int, width: int, batch: int, seed: int) -> None:
    config = ModelConfig(channels=4, blocks=1)
    generator = randomize(Generator(config), seed).eval()
    x = images(batch, 3, 4 * height, 4 * width, seed=seed)
    with torch.no_grad():
        image = generator(x).image
        torch.testing.assert_close(image, reference_generator(generator, config, x).result, rtol=0, atol=5e-5)
        # A picture's translation doesn't depend on its neighbours in the batch, nor on the memory format.
        torch.testing.assert_close(generator(x[-1:]).image, image[-1:], rtol=0, atol=2e-5)
        x = x.contiguous(memory_format=torch.channels_last)
        generator = generator.to(memory_format=torch.channels_last)
        torch.testing.assert_close(generator(x).image, image, rtol=0, atol=5e-5)


def test_full_generators_take_their_size_only() -> None:
    generator = Generator(ModelConfig(image_size=32, channels=4, blocks=1, variant="full"))
    with pytest.raises(ValueError, match="32x32"):
        generator(images(1, 3, 32, 36))


@pytest.mark.parametrize("dialect", get_args(Dialect))
@pytest.mark.parametrize("make", [*get_args(Variant), "discriminator"])
def test_initial_weights(make: Any, dialect: Dialect) -> None:
    config = ModelConfig(image_size=16, channels=16, discriminator_channels=16, blocks=2, dialect=dialect)
    judge = make == "discriminator"
    network = Discriminator(config, "local") if judge else Generator(replace(config, variant=make))
    for name, parameter in network.named_parameters():
        leaf = name.rpartition(".")[2]
        if parameter.ndim > 1:
            # Four standard errors of a standard deviation from n values.
            tolerance = 4 / math.sqrt(2 * parameter.numel())
            assert abs(parameter.std() / INIT_STD - 1) < tolerance, name
        else:
            zero = leaf in ("bias", "beta") or (leaf == "rho" and name.startswith("up."))
            assert parameter.eq(0 if zero else 1).all(), name
    for name, buffer in network.named_buffers():  # u and v
        torch.testing.assert_close(buffer.norm(), torch.tensor(1.0), msg=name)
    last = "head.bias" if judge else "to_rgb.bias"
    assert (last in dict(network.named_parameters())) == (dialect == "tensorflow")


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_set_precision(variant: Variant, dtype: torch.dtype) -> None:
    generator = Generator(ModelConfig(image_size=16, channels=4, blocks=1, variant=variant, dialect="tensorflow"))
    assert generator.set_precision(dtype) is generator
    large = {"stem.conv", "down.0.conv", "down.1.conv", "encoder.0.first.conv", "encoder.0.conv"}
    large |= {"decoder.0.conv1", "decoder.0.conv2", "up.0.conv", "up.1.conv", "to_rgb"}
    large |= {"style.hidden1"} if variant == "full" else set()
    for name, parameter in generator.named_parameters():
        assert parameter.dtype == (dtype if name.rpartition(".")[0] in large else torch.float32), name
    for name in ("cam.gap.weight", "cam.weight", "decoder.0.norm1.rho", "up.0.norm.rho", "style.gamma.weight"):
        assert generator.get_parameter(name).dtype == torch.float32


@pytest.mark.parametrize("dialect", get_args(Dialect))
@pytest.mark.parametrize("variant", get_args(Variant))
def test_bfloat16_is_close(variant: Variant, dialect: Dialect) -> None:
    config = ModelConfig(image_size=48, channels=8, blocks=2, variant=variant, dialect=dialect)
    x = images(1, 3, 48, 48)
    generator = randomize(Generator(config), 0).eval()
    # As in trained models: a picture in the middle of the range, no saturated tanh.
    generator.to_rgb.weight.data.mul_(0.3)
    with torch.no_grad():
        expected = generator(x)
        result = generator.set_precision(torch.bfloat16)(x)
    assert expected.image.std() > 0.1
    assert result.image.dtype == torch.float32
    error = (result.image - expected.image).square().mean()
    assert 10 * math.log10(4 / error) >= 40
    torch.testing.assert_close(result.cam_logit, expected.cam_logit, rtol=0.05, atol=0.05)


LAYERS = ["stem.conv", "down.1.conv", "encoder.0.first.conv", "encoder.1.conv", "decoder.0.conv1", "up.1.conv"]


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("norm", get_args(DecoderNorm))
@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_not_finite_comes_out(layer: str, norm: DecoderNorm, value: float) -> None:
    """In bfloat16, too, where ReLU of a negative NaN is 0: whoever translates looks at the result alone."""
    model = Generator(ModelConfig(image_size=32, channels=8, blocks=2, decoder_norm=norm)).eval()
    model.set_precision(torch.bfloat16).get_parameter(f"{layer}.weight").data.view(-1)[0] = value
    with torch.inference_mode():
        assert not model(images(1, 3, 32, 32)).image.isfinite().all()

"""CartoonGAN: recorded outputs of its codes, the step against a plain one, its two phases, the published layout."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.helpers import bytes_images, images
from ugatit_cli.config import BaseConfig
from ugatit_cli.data.edges import edge_smoothed
from ugatit_cli.device import Group
from ugatit_cli.errors import ConfigError
from ugatit_cli.fields import read_table
from ugatit_cli.methods.base import OfficialSettings
from ugatit_cli.methods.cartoongan import (
    CartoonDiscriminator,
    CartoonGAN,
    CartoonGANStep,
    CartoonGenerator,
    cross_entropy,
)
from ugatit_cli.methods.configs import CartoonGANConfig
from ugatit_cli.methods.networks import Networks, build_networks
from ugatit_cli.methods.recipe import Recipe

METHOD = CartoonGAN()
TINY = CartoonGANConfig("photo", "cartoon", image_size=32, channels=4, blocks=2, discriminator_channels=2)
PAPER = METHOD.recipe("paper")
CPU = torch.device("cpu")


class TinyContent(nn.Module):
    """Random features, the same every time."""

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(7)
        self.weight = nn.Parameter(torch.randn(6, 3, 5, 5, generator=source) / 9, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.to(x.dtype), stride=4)


def build(recipe: Recipe = PAPER, precision: str = "fp32") -> Networks:
    networks = build_networks(
        TINY,
        METHOD.translators,
        METHOD.critics,
        seed=3,
        device=CPU,
        precision="bf16" if precision == "bf16" else "fp32",
        averaged=recipe.ema > 0,
    )
    for network in [*networks.translators.values(), *networks.critics.values()]:
        scramble(network)
    return networks


def scramble(network: nn.Module) -> None:
    """Weights as large as trained ones: tests of new networks would see little but zeros."""
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            deviation = 0.1 if parameter.ndim == 1 else (2 / parameter[0].numel()) ** 0.5
            parameter.add_(deviation * torch.randn(parameter.shape, generator=source))


def training(networks: Networks, recipe: Recipe = PAPER, *, rank: int = 0) -> CartoonGANStep:
    return METHOD.step(networks, recipe, seed=1, group=Group(rank=rank), content=TinyContent())


def pictures(step: int, n: int = 2) -> tuple[Tensor, Tensor]:
    both = bytes_images(2 * n, 3, 32, 32, seed=step).float().div_(127.5).sub_(1)
    return both[:n], both[n:]


def run(step: CartoonGANStep, steps: range, copied: int = 0) -> list[dict[str, float]]:
    found = (step(*pictures(i), step=i, learning_rate=1e-3, copying=i < copied) for i in steps)
    return [{name: loss.item() for name, loss in losses.items()} for losses in found]


def state(networks: Networks) -> dict[str, Tensor]:
    return {
        f"{file}/{name}": one.clone() for file, tensors in networks.files().items() for name, one in tensors.items()
    }


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Files in which anything changed."""
    return {name.partition("/")[0] for name in before if not torch.equal(before[name], after[name])}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


# --- The official codes' outputs -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "baselines" / "cartoongan" / "io.safetensors")


@pytest.fixture(scope="module")
def published(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "baselines" / "cartoongan" / "weights.safetensors")


# What the README of the golden data asks for.
TOLERANCES = [(torch.float32, 1e-5), (torch.float64, 1e-6)]


def input_of(recorded: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    return recorded["x_u8"].to(dtype) / 127.5 - 1


def converted(published: dict[str, Tensor]) -> CartoonGenerator:
    official = METHOD.official({"": published}, OfficialSettings(image_size=64))
    assert official is not None
    assert official.critics is None
    assert isinstance(official.config, CartoonGANConfig)
    network = CartoonGenerator(official.config)
    network.load_state_dict({name.removeprefix("a2b."): one for name, one in official.translators.items()})
    return network.eval()


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("gradient", [False, True])
def test_published_weights_translate_as_their_code_does(
    recorded: dict[str, Tensor], published: dict[str, Tensor], dtype: torch.dtype, tolerance: float, gradient: bool
) -> None:
    network, x = converted(published).to(dtype), input_of(recorded, dtype)
    with torch.set_grad_enabled(gradient):
        image = network(x).image
        first = network(x[:1]).image
    # y_bgr is what the network makes of the picture in BGR, itself in BGR; y_rgb the same in RGB.
    torch.testing.assert_close(image, recorded["y_rgb"].to(dtype), rtol=0, atol=tolerance)
    torch.testing.assert_close(image.flip(1), recorded["y_bgr"].to(dtype), rtol=0, atol=tolerance)
    torch.testing.assert_close(first, image[:1], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_the_discriminator_is_the_ports_where_they_agree(
    golden: Path, recorded: dict[str, Tensor], dtype: torch.dtype, tolerance: float
) -> None:
    """The other port has biases, no scales and shifts in its norms (new ones are 1 and 0), and a sigmoid inside."""
    weights = load_file(golden / "baselines" / "cartoongan" / "znxlwm.weights.safetensors")
    network = CartoonDiscriminator(dataclasses.replace(TINY, discriminator_channels=4))
    for layer, index in zip([*network.layers, network.head], (0, 2, 4, 7, 9, 12, 15), strict=True):
        layer.weight = nn.Parameter(weights[f"D.convs.{index}.weight"])
        layer.bias = nn.Parameter(weights[f"D.convs.{index}.bias"])
    logits = network.to(dtype)(input_of(recorded, dtype))
    torch.testing.assert_close(logits.sigmoid(), recorded["znxlwm.D.y"].to(dtype), rtol=0, atol=tolerance)


def test_networks_have_as_many_weights_as_the_authors() -> None:
    """But biases that a norm takes out again."""
    unused = 64 + 128 + 256 + 16 * 256 + 128 + 64

    def count(networks: Mapping[str, nn.Module]) -> int:
        return sum(one.numel() for network in networks.values() for one in network.parameters())

    with torch.device("meta"):
        assert count(METHOD.translators(CartoonGANConfig())) == 11_129_667 - unused
        assert count(METHOD.critics(CartoonGANConfig())) == 1_128_800


@pytest.mark.parametrize("size", [(16, 16), (20, 36), (64, 8)])
def test_pictures_of_any_size_are_translated(size: tuple[int, int]) -> None:
    image = CartoonGenerator(TINY)(images(1, 3, *size)).image
    assert image.shape == (1, 3, *size)
    assert image.dtype == torch.float32


def test_bf16_is_close_to_fp32() -> None:
    network = build().translators["a2b"]
    assert isinstance(network, CartoonGenerator)
    expected = network(images(1, 3, 32, 32)).image
    network.compute_dtype = None
    image = network.set_precision(torch.bfloat16)(images(1, 3, 32, 32)).image
    assert image.dtype == torch.float32
    assert (image - expected).abs().mean() < 0.05


# --- Official checkpoints ------------------------------------------------------------------------------


def test_sizes_and_domains_of_a_published_file(published: dict[str, Tensor]) -> None:
    official = METHOD.official({"": published}, OfficialSettings(domains=("photo", "anime")))
    assert official is not None
    assert official.config == CartoonGANConfig("photo", "anime", channels=4)
    unknown = published | {"conv12_1.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="conv12_1"):
        METHOD.official({"": unknown}, OfficialSettings())


def test_other_files_are_none_of_it(published: dict[str, Tensor]) -> None:
    assert METHOD.official({}, OfficialSettings()) is None
    assert METHOD.official({"": {"model.1.weight": torch.zeros(4, 3, 7, 7)}}, OfficialSettings()) is None
    assert METHOD.official({"netG": published}, OfficialSettings()) is None


@pytest.mark.parametrize("name", ["in05_2.shift", "conv07_1.weight", "deconv03_1.bias"])
def test_missing_and_misshapen_tensors_are_refused(published: dict[str, Tensor], name: str) -> None:
    lacking = {other: one for other, one in published.items() if other != name}
    with pytest.raises(KeyError, match=name):
        METHOD.official({"": lacking}, OfficialSettings())
    with pytest.raises(ValueError, match=name):
        METHOD.official({"": published | {name: torch.zeros(3, 2)}}, OfficialSettings())


@pytest.mark.parametrize("shape", [(0, 3, 7, 7), (5000, 1, 1, 1)])
def test_sizes_that_no_model_has_are_refused(published: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError):
        METHOD.official({"": published | {"conv01_1.weight": torch.zeros(shape)}}, OfficialSettings())


# --- Settings ------------------------------------------------------------------------------------------


def test_there_is_one_direction() -> None:
    assert CartoonGANConfig().directions == ("a2b",)
    assert list(METHOD.translators(TINY)) == ["a2b"]
    with pytest.raises(ConfigError):
        CartoonGANConfig(ways="both")


def test_settings_go_through_plain_values() -> None:
    assert read_table(CartoonGANConfig, TINY.to_dict()) == TINY
    assert issubclass(CartoonGANConfig, BaseConfig)
    with pytest.raises(ConfigError):
        CartoonGANConfig(discriminator_channels=0)


# --- The step ------------------------------------------------------------------------------------------


def plain_step(
    generator: nn.Module,
    discriminator: nn.Module,
    optimizers: tuple[torch.optim.Adam, torch.optim.Adam],
    a: Tensor,
    b: Tensor,
) -> dict[str, float]:
    """The port's formulas (baselines.md), each loss with a pass of its own, both updates from the same pictures."""

    def judged(x: Tensor, real: float) -> Tensor:
        logits = discriminator(x)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))

    pixels = ((b + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    smoothed = torch.stack([torch.from_numpy(edge_smoothed(picture)) for picture in pixels])
    smoothed = smoothed.permute(0, 3, 1, 2).to(b) / 127.5 - 1
    d_losses = [judged(b, 1) + judged(generator(a).image.detach(), 0), judged(smoothed, 0)]
    discriminator.zero_grad()
    torch.autograd.backward(d_losses[0] + d_losses[1])
    optimizers[1].step()
    image = generator(a).image
    content = TinyContent()
    g_losses = [judged(image, 1), (content(a) - content(image)).abs().mean()]
    generator.zero_grad()
    torch.autograd.backward(g_losses[0] + 10 * g_losses[1])
    optimizers[0].step()
    names = ("d_patch_b", "d_edges_b", "g_patch_b", "content_a")
    return dict(zip(names, (loss.item() for loss in [*d_losses, *g_losses]), strict=True))


def test_the_step_is_the_plain_one() -> None:
    networks = build()
    for network in [*networks.translators.values(), *networks.critics.values()]:
        network.double().compute_dtype = None  # in float64 only mistakes differ
    reference = copy.deepcopy(networks)
    generator, discriminator = reference.translators["a2b"], reference.critics["b"]
    adams = [torch.optim.Adam(one.parameters(), 1e-3, (0.5, 0.999)) for one in (generator, discriminator)]
    step = training(networks)
    for i in range(3):
        a, b = (x.double() for x in pictures(i))
        losses = step(a, b, step=i, learning_rate=1e-3)
        expected = plain_step(generator, discriminator, (adams[0], adams[1]), a, b)
        for name, loss in expected.items():
            assert losses[name].item() == pytest.approx(loss, rel=1e-9)
        assert losses["d_b"].item() == pytest.approx(expected["d_patch_b"] + expected["d_edges_b"], rel=1e-9)
        assert losses["g_a"].item() == pytest.approx(10 * expected["content_a"], rel=1e-9)
        assert losses["g_b"].item() == pytest.approx(expected["g_patch_b"], rel=1e-9)
    torch.testing.assert_close(state(networks), state(reference), rtol=0, atol=1e-7)


def test_at_first_the_generator_learns_alone_and_by_content_alone() -> None:
    networks = build()
    step = training(networks)
    starts = [state(networks)]
    losses = []
    for i in range(3):
        losses += run(step, range(i, i + 1), copied=2)
        starts.append(state(networks))
    assert [changed(one, other) for one, other in itertools.pairwise(starts)] == [
        {"generators"},
        {"generators"},
        {"generators", "discriminators"},
    ]
    assert [list(one) for one in losses[:2]] == [["content_a", "g_a"]] * 2
    assert min(value for one in losses for value in one.values()) > 0


def test_content_alone_teaches_to_copy() -> None:
    step = training(build())
    a, b = pictures(0)
    found = [step(a, b, step=i, learning_rate=5e-3, copying=True)["content_a"].item() for i in range(60)]
    assert found[-1] < 0.7 * found[0]


def test_adam_begins_anew_with_the_main_phase() -> None:
    networks = build()
    step = training(networks)
    run(step, range(2), copied=2)
    fresh_networks = build()
    for name in ("translators", "critics"):
        for key, network in getattr(networks, name).items():
            getattr(fresh_networks, name)[key].load_state_dict(network.state_dict())
    fresh = training(fresh_networks)
    fresh.copied = 2
    assert run(step, range(2, 4)) == run(fresh, range(2, 4))
    assert_same(state(networks), state(fresh_networks))
    assert_same(step.optimizer_tensors(), fresh.optimizer_tensors())


def test_seed_step_and_rank_decide_the_augmentation() -> None:
    recipe = dataclasses.replace(PAPER, augment="on")

    def found(rank: int = 0) -> float:
        return run(training(build(), recipe, rank=rank), range(1))[0]["d_patch_b"]

    assert found() == found()
    assert found() != found(rank=1)
    assert found() != run(training(build()), range(1))[0]["d_patch_b"]


def test_training_in_bf16_keeps_float32_weights() -> None:
    networks = build(precision="bf16")
    step = training(networks)
    losses = run(step, range(2))
    assert {one.dtype for one in (state(networks) | step.optimizer_tensors()).values()} == {torch.float32}
    exact = run(training(build()), range(2))
    for one, other in zip(losses, exact, strict=True):
        assert one != other
        assert one == {name: pytest.approx(loss, rel=0.05, abs=0.05) for name, loss in other.items()}


def test_the_adversarial_loss_is_finite_for_any_logit() -> None:
    logits = torch.tensor([-1e4, 0.0, 1e4]).reshape(3, 1, 1, 1).requires_grad_()
    assert cross_entropy(logits[1:2], real=True).item() == pytest.approx(0.6931472)
    loss = cross_entropy(logits, real=True) + cross_entropy(logits, real=False)
    torch.autograd.backward(loss)
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()

"""Outputs of the official codes themselves, on weights that they wrote, through `convert` and the public API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import ugatit_cli
from ugatit_cli.config import DIRECTIONS, DOMAINS, SCALES, Direction, Domain, ModelConfig, Scale
from ugatit_cli.methods.base import OfficialSettings
from ugatit_cli.methods.ugatit_official import discriminator_names
from ugatit_cli.translation.model import Model
from ugatit_cli.weights.official import convert

pytestmark = pytest.mark.usefixtures("convolutions")

Load = Callable[[str], Model]

OFFICIAL: dict[Direction, str] = {"a2b": "genA2B", "b2a": "genB2A"}
TENSORFLOW = {
    "tf_light_nosmooth_ch4_32": "UGATIT_light_tf_light_nosmooth_ch4_32_lsgan_4resblock_6dis_1_1_10_10_1000_sn",
    "tf_full_ch8_32": "UGATIT_tf_full_ch8_32_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing",
}
# Some 25 layers on both sides, each a sum of up to 288 products in any order: 2 * 25 * sqrt(288) * 2**-24.
ROUNDING = 5e-5
# The second generator amplifies the first one's rounding: even exact arithmetic ends up 2e-4 away from golden.
CHAINED = 5e-4


@pytest.fixture(scope="module")
def load(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Converts a checkpoint below `golden/` once and loads it in float32 on the CPU."""
    folder = tmp_path_factory.mktemp("golden")

    def load(name: str) -> Model:
        target = folder / Path(name).name
        if not target.exists():
            convert([golden / name], target, OfficialSettings(domains=("A", "B")))
        return ugatit_cli.load(str(target), device="cpu", precision="fp32")

    return load


@pytest.fixture(scope="module")
def recorded(golden: Path) -> Callable[[str], dict[str, Tensor]]:
    return lambda name: load_file(golden / "pt" / f"{name}.safetensors")


Golden = Callable[[str], dict[str, Tensor]]


def sizes(model: Model) -> ModelConfig:
    assert isinstance(model.config, ModelConfig)
    return model.config


def assert_close(result: Tensor | None, expected: Tensor, tolerance: float) -> None:
    assert result is not None
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


@torch.inference_mode()
def test_full_generators_of_the_pytorch_code(load: Load, recorded: Golden) -> None:
    model, tensors = load("pt/gen_full_ngf8_32.pt"), recorded("gen_full_ngf8_32_io")
    assert (sizes(model).variant, model.config.channels, model.config.image_size) == ("full", 8, 32)
    for direction in DIRECTIONS:
        output, name = model.generator(direction)(tensors["input"]), OFFICIAL[direction]
        assert_close(output.image, tensors[f"{name}.image"], ROUNDING)
        assert_close(output.cam_logit, tensors[f"{name}.cam_logit"], ROUNDING)
        assert_close(output.heatmap, tensors[f"{name}.heatmap"], ROUNDING)
    output = model.generator("b2a")(tensors["genA2B.image"])
    assert_close(output.image, tensors["cycle_A2B2A.image"], ROUNDING)
    assert_close(output.cam_logit, tensors["cycle_A2B2A.cam_logit"], ROUNDING)
    assert_close(output.heatmap, tensors["cycle_A2B2A.heatmap"], ROUNDING)
    chained = model.generator("b2a")(model.generator("a2b")(tensors["input"]).image)
    assert_close(chained.image, tensors["cycle_A2B2A.image"], CHAINED)


@pytest.mark.parametrize("file", ["mini_step_before.pt", "mini_step_before_legacy.pt"])
@torch.inference_mode()
def test_light_generators_of_the_pytorch_code(load: Load, recorded: Golden, file: str) -> None:
    model, tensors = load(f"pt/{file}"), recorded("mini_step_io")
    assert (sizes(model).variant, model.config.channels) == ("light", 4)
    for source, target, there, back in (("A", "B", "a2b", "b2a"), ("B", "A", "b2a", "a2b")):
        first, second = model.generator(there), model.generator(back)  # type: ignore[arg-type]
        fake = first(tensors[f"real_{source}"])
        assert_close(fake.image, tensors[f"fake_{source}2{target}"], ROUNDING)
        assert_close(fake.cam_logit, tensors[f"fake_{source}2{target}_cam_logit"], ROUNDING)
        cycle = tensors[f"fake_{source}2{target}2{source}"]
        assert_close(second(tensors[f"fake_{source}2{target}"]).image, cycle, ROUNDING)
        assert_close(second(fake.image).image, cycle, CHAINED)
        identity = second(tensors[f"real_{source}"])
        assert_close(identity.image, tensors[f"fake_{source}2{source}"], ROUNDING)
        assert_close(identity.cam_logit, tensors[f"fake_{source}2{source}_cam_logit"], ROUNDING)


@pytest.mark.parametrize("file", ["mini_step_before.pt", "mini_step_before_legacy.pt"])
@torch.inference_mode()
def test_discriminators_of_the_pytorch_code(load: Load, recorded: Golden, file: str) -> None:
    model, tensors = load(f"pt/{file}"), recorded("dis_ndf4_io")
    compared = 0
    for domain in DOMAINS:
        for scale in SCALES:
            for size in (64, 128):
                prefix = f"dis{scale[0].upper()}{domain.upper()}.{size}"
                if f"{prefix}.out" not in tensors:
                    assert (scale, size) == ("global", 64)
                    continue
                output = model.discriminator(domain, scale).eval()(tensors[f"input{size}"])
                for one, name in zip(output, ("out", "cam_logit", "heatmap"), strict=True):
                    assert_close(one, tensors[f"{prefix}.{name}"], ROUNDING)
                compared += 1
    assert compared == 6


@pytest.mark.parametrize(("domain", "scale", "size"), [("a", "local", 64), ("a", "global", 128)])
@torch.no_grad()
def test_a_training_pass_moves_u_and_v(load: Load, recorded: Golden, domain: Domain, scale: Scale, size: int) -> None:
    model, tensors = load("pt/mini_step_before.pt"), recorded("dis_ndf4_io")
    prefix = f"dis{scale[0].upper()}{domain.upper()}.{size}.train"
    discriminator = model.discriminator(domain, scale).train()
    output = discriminator(tensors[f"input{size}"])
    for one, name in zip(output, ("out", "cam_logit", "heatmap"), strict=True):
        assert_close(one, tensors[f"{prefix}.{name}"], ROUNDING)
    state = discriminator.state_dict()
    names = {theirs: ours for ours, theirs in discriminator_names(sizes(model).layers(scale)).items()}
    after = {name.removeprefix(f"{prefix}.after."): t for name, t in tensors.items() if f"{prefix}.after." in name}
    assert set(after) == {name for name in names if name.endswith(("_u", "_v"))}
    for name, tensor in after.items():
        assert_close(state[names[name]], tensor, 1e-5)


@pytest.mark.parametrize("name", TENSORFLOW)
@torch.inference_mode()
def test_generators_of_the_tensorflow_code(golden: Path, load: Load, name: str) -> None:
    model = load(f"tf/{TENSORFLOW[name]}")
    assert sizes(model).rho_smoothing == ("nosmooth" not in name)
    assert sizes(model).dialect == "tensorflow"
    assert sizes(model).variant == ("light" if "light" in name else "full")
    with np.load(golden / "tf" / f"{name}_io.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    x = arrays["input_nhwc"].permute(0, 3, 1, 2)
    for direction, scope in (("a2b", "generator_B"), ("b2a", "generator_A")):
        output = model.generator(direction)(x)  # type: ignore[arg-type]
        assert_close(output.image.permute(0, 2, 3, 1), arrays[f"{scope}.image_nhwc"], ROUNDING)
        assert_close(output.cam_logit, arrays[f"{scope}.cam_logit"], ROUNDING)
        assert output.heatmap is not None
        assert_close(output.heatmap[:, 0], arrays[f"{scope}.heatmap_hw"], ROUNDING)

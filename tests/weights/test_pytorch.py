"""Import of the official PyTorch code's checkpoints, against a transcription of its networks on its own keys."""

from __future__ import annotations

import json
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference import plain_adalin
from ugatit_cli.config import DIRECTIONS, DOMAINS, SCALES, Variant
from ugatit_cli.errors import ModelError
from ugatit_cli.weights.fetch import convert
from ugatit_cli.weights.official import ImportSettings
from ugatit_cli.weights.pytorch import import_checkpoint

State = OrderedDict[str, Tensor]
Checkpoint = dict[str, Any]


# The official state dicts: keys and shapes.


def generator_keys(channels: int, blocks: int, variant: Variant, image_size: int) -> dict[str, tuple[int, ...]]:
    c, f = channels, 4 * channels
    flat = f if variant == "light" else f * (image_size // 4) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "DownBlock.1.weight": (c, 3, 7, 7),
        "DownBlock.5.weight": (2 * c, c, 3, 3),
        "DownBlock.9.weight": (4 * c, 2 * c, 3, 3),
        "gap_fc.weight": (1, f),
        "gmp_fc.weight": (1, f),
        "conv1x1.weight": (f, 2 * f, 1, 1),
        "conv1x1.bias": (f,),
        "FC.0.weight": (f, flat),
        "FC.2.weight": (f, f),
        "gamma.weight": (f, f),
        "beta.weight": (f, f),
        "UpBlock2.2.weight": (2 * c, f, 3, 3),
        "UpBlock2.7.weight": (c, 2 * c, 3, 3),
        "UpBlock2.11.weight": (3, c, 7, 7),
    }
    for name in ("rho", "gamma", "beta"):
        shapes |= {f"UpBlock2.3.{name}": (1, 2 * c, 1, 1), f"UpBlock2.8.{name}": (1, c, 1, 1)}
    for i in range(blocks):
        for j in (1, 5):
            shapes[f"DownBlock.{12 + i}.conv_block.{j}.weight"] = (f, f, 3, 3)
        for j in (1, 2):
            shapes[f"UpBlock1_{i + 1}.conv{j}.weight"] = (f, f, 3, 3)
            shapes[f"UpBlock1_{i + 1}.norm{j}.rho"] = (1, f, 1, 1)
    return shapes


def discriminator_keys(channels: int, layers: int) -> dict[str, tuple[int, ...]]:
    widths = [3, *(channels * 2**i for i in range(layers - 1))]
    weights: dict[str, tuple[int, ...]] = {
        f"model.{1 + 3 * i}": (widths[i + 1], widths[i], 4, 4) for i in range(layers - 1)
    }
    shapes: dict[str, tuple[int, ...]] = {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    weights |= {"gap_fc": (1, widths[-1]), "gmp_fc": (1, widths[-1]), "conv": (1, widths[-1], 4, 4)}
    for name, shape in weights.items():
        shapes[f"{name}.weight_orig"] = shape
        shapes[f"{name}.weight_u"] = shape[:1]
        shapes[f"{name}.weight_v"] = (math.prod(shape[1:]),)
    return shapes | {"conv1x1.weight": (widths[-1], 2 * widths[-1], 1, 1), "conv1x1.bias": (widths[-1],)}


def random_state(shapes: dict[str, tuple[int, ...]], source: torch.Generator) -> State:
    state: State = OrderedDict()
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=source)
        if name.endswith(".rho"):
            noise = torch.rand(shape, generator=source)
        elif name.endswith((".weight", ".weight_orig")):
            noise *= math.sqrt(2 / math.prod(shape[1:]))
        elif name.endswith((".weight_u", ".weight_v")):
            noise = F.normalize(noise, dim=0)
        state[name] = noise
    for name in [name.removesuffix("_u") for name in state if name.endswith(".weight_u")]:
        # As after one training step.
        matrix = state[f"{name}_orig"].flatten(1)
        state[f"{name}_v"] = F.normalize(matrix.T @ state[f"{name}_u"], dim=0)
        state[f"{name}_u"] = F.normalize(matrix @ state[f"{name}_v"], dim=0)
    return state


def random_checkpoint(
    variant: Variant = "light",
    *,
    channels: int = 4,
    blocks: int = 1,
    image_size: int = 32,
    discriminator_channels: int = 2,
    layers: tuple[int, int] = (5, 7),
) -> Checkpoint:
    """All six state dicts; `layers` of the local and the global discriminators."""
    source = torch.Generator().manual_seed(0)
    keys = generator_keys(channels, blocks, variant, image_size)
    checkpoint: Checkpoint = {name: random_state(keys, source) for name in ("genA2B", "genB2A")}
    for name, depth in zip("LG", layers, strict=True):
        for letter in "AB":
            keys = discriminator_keys(discriminator_channels, depth)
            checkpoint[f"dis{name}{letter}"] = random_state(keys, source)
    return checkpoint


# The official networks.


def conv(x: Tensor, weight: Tensor, pad: int, stride: int = 1, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(F.pad(x, (pad, pad, pad, pad), mode="reflect"), weight, bias, stride)


def cam(x: Tensor, gap: Tensor, gmp: Tensor, sigmas: tuple[float, float], state: State) -> tuple[Tensor, Tensor]:
    logits = [x.mean((2, 3)) @ gap.T / sigmas[0], x.amax((2, 3)) @ gmp.T / sigmas[1]]
    x = torch.cat([x * gap[:, :, None, None], x * gmp[:, :, None, None]], 1)
    return F.conv2d(x, state["conv1x1.weight"], state["conv1x1.bias"]), torch.cat(logits, 1)


def official_generator(s: State, blocks: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    for i, (pad, stride) in enumerate(((3, 1), (1, 2), (1, 2))):
        x = F.relu(F.instance_norm(conv(x, s[f"DownBlock.{1 + 4 * i}.weight"], pad, stride)))
    for i in range(blocks):
        name = f"DownBlock.{12 + i}.conv_block"
        y = F.relu(F.instance_norm(conv(x, s[f"{name}.1.weight"], 1)))
        x = x + F.instance_norm(conv(y, s[f"{name}.5.weight"], 1))
    x, logits = cam(x, s["gap_fc.weight"], s["gmp_fc.weight"], (1, 1), s)
    x = F.relu(x)
    heatmap = x.sum(1, keepdim=True)
    style = x.mean((2, 3)) if s["FC.0.weight"].shape[1] == x.shape[1] else x.flatten(1)
    style = F.relu(F.relu(style @ s["FC.0.weight"].T) @ s["FC.2.weight"].T)
    gamma, beta = style @ s["gamma.weight"].T, style @ s["beta.weight"].T

    def norm(x: Tensor, name: str, gamma: Tensor, beta: Tensor) -> Tensor:
        return plain_adalin(x, s[f"{name}.rho"].flatten(), gamma, beta, unbiased=True)

    for i in range(blocks):
        name = f"UpBlock1_{i + 1}"
        y = F.relu(norm(conv(x, s[f"{name}.conv1.weight"], 1), f"{name}.norm1", gamma, beta))
        x = norm(conv(y, s[f"{name}.conv2.weight"], 1), f"{name}.norm2", gamma, beta) + x
    for i in (2, 7):
        x = conv(F.interpolate(x, scale_factor=2), s[f"UpBlock2.{i}.weight"], 1)
        gamma, beta = (s[f"UpBlock2.{i + 1}.{name}"].reshape(1, -1) for name in ("gamma", "beta"))
        x = F.relu(norm(x, f"UpBlock2.{i + 1}", gamma, beta))
    return torch.tanh(conv(x, s["UpBlock2.11.weight"], 3)), logits, heatmap


def official_discriminator(s: State, layers: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    def sigma(name: str) -> float:
        return float(s[f"{name}.weight_u"] @ s[f"{name}.weight_orig"].flatten(1) @ s[f"{name}.weight_v"])

    def weight(name: str) -> Tensor:
        return s[f"{name}.weight_orig"] / sigma(name)

    for i in range(layers - 1):
        name = f"model.{1 + 3 * i}"
        x = F.leaky_relu(conv(x, weight(name), 1, 2 if i < layers - 2 else 1, s[f"{name}.bias"]), 0.2)
    x, logits = cam(x, s["gap_fc.weight_orig"], s["gmp_fc.weight_orig"], (sigma("gap_fc"), sigma("gmp_fc")), s)
    x = F.leaky_relu(x, 0.2)
    return conv(x, weight("conv"), 1), logits, x.sum(1, keepdim=True)


def save(path: Path, checkpoint: object, *, legacy: bool = False) -> Path:
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
    return path


def assert_same(result: tuple[Tensor | None, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(result, expected, strict=True):
        assert one is not None
        assert one.shape == other.shape
        scale = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one, other, rtol=0, atol=5e-5 * scale)


def pictures(*shape: int) -> Tensor:
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize("blocks", [4, 6])
def test_these_are_the_official_generator_keys(golden: Path, variant: Variant, blocks: int) -> None:
    path = golden / f"pt/keys_gen_{variant}_ngf64_nb{blocks}_256.json"
    official = {name: tuple(entry["shape"]) for name, entry in json.loads(path.read_text())["keys"].items()}
    assert generator_keys(64, blocks, variant, 256) == official


@pytest.mark.parametrize("layers", [5, 7])
def test_these_are_the_official_discriminator_keys(golden: Path, layers: int) -> None:
    path = golden / f"pt/keys_dis_ndf64_nl{layers}.json"
    official = {name: tuple(entry["shape"]) for name, entry in json.loads(path.read_text())["keys"].items()}
    assert discriminator_keys(64, layers) == official


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("variant", get_args(Variant))
def test_generators_compute_what_the_official_ones_compute(tmp_path: Path, variant: Variant, legacy: bool) -> None:
    checkpoint = random_checkpoint(variant, blocks=3)
    model, notes = convert(save(tmp_path / "x.pt", checkpoint, legacy=legacy), tmp_path / "out")
    assert len(notes) == (1 if variant == "light" else 0)
    x = pictures(2, 3, 32, 32)
    for direction in DIRECTIONS:
        with torch.no_grad():
            result = model.generator(direction)(x)
        assert result.image.std() > 0.1
        key = {"a2b": "genA2B", "b2a": "genB2A"}[direction]
        assert_same(result, official_generator(checkpoint[key], 3, x))


def test_discriminators_compute_what_the_official_ones_compute(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    model, _ = convert(save(tmp_path / "x.pt", checkpoint), tmp_path / "out")
    x = pictures(2, 3, 96, 112)
    for domain in DOMAINS:
        for scale in SCALES:
            state = checkpoint[f"dis{scale[0].upper()}{domain.upper()}"]
            with torch.no_grad():
                result = model.discriminator(domain, scale)(x)
            assert_same(result, official_discriminator(state, 5 if scale == "local" else 7, x))


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize(("channels", "blocks", "size"), [(1, 0, 16), (3, 6, 20), (8, 1, 36)])
def test_settings_are_inferred(tmp_path: Path, variant: Variant, channels: int, blocks: int, size: int) -> None:
    checkpoint = random_checkpoint(
        variant, channels=channels, blocks=blocks, image_size=size, discriminator_channels=3, layers=(4, 6)
    )
    settings = ImportSettings(domains=("cat", "dog"), image_size=64)
    imported = import_checkpoint(save(tmp_path / "x.pt", checkpoint), settings)
    config = imported.config
    assert (config.variant, config.channels, config.blocks, config.dialect) == (variant, channels, blocks, "pytorch")
    assert (config.discriminator_channels, config.local_layers, config.global_layers) == (3, 4, 6)
    assert (config.domain_a, config.domain_b) == ("cat", "dog")
    # Only light checkpoints don't tell their size.
    assert config.image_size == (64 if variant == "light" else size)
    assert not config.rho_smoothing
    assert imported.notes == ()


def test_a_light_checkpoint_without_a_size(tmp_path: Path) -> None:
    imported = import_checkpoint(save(tmp_path / "x.pt", random_checkpoint()), ImportSettings())
    assert imported.config.image_size == 256
    (note,) = imported.notes
    assert "256 is assumed" in note
    assert "--image-size" in note


@pytest.mark.parametrize("missing", [["disLA"], ["disGA", "disGB", "disLA", "disLB"]])
def test_generators_alone(tmp_path: Path, missing: list[str]) -> None:
    checkpoint = {key: state for key, state in random_checkpoint().items() if key not in missing}
    model, notes = convert(save(tmp_path / "x.pt", checkpoint), tmp_path / "out", ImportSettings(image_size=32))
    assert model.discriminators is None
    assert notes == ("The checkpoint has no discriminators; the model comes without.",)
    model.generator("b2a")


def test_other_entries_do_not_matter(tmp_path: Path) -> None:
    checkpoint = random_checkpoint() | {"step": 1000, "optimizer": {"state": {}}, 7: [1, 2], "best": {"loss": 0.1}}
    assert import_checkpoint(save(tmp_path / "x.pt", checkpoint), ImportSettings()).config.channels == 4


def test_half_precision_checkpoints(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    for state in checkpoint.values():
        state.update({name: tensor.half() for name, tensor in state.items()})
    model, _ = convert(save(tmp_path / "x.pt", checkpoint), tmp_path / "out")
    expected = checkpoint["genA2B"]["UpBlock2.11.weight"].float()
    assert torch.equal(model.generator("a2b").to_rgb.weight, expected)


def test_both_generators_may_be_the_same_tensors(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    checkpoint["genB2A"] = checkpoint["genA2B"]
    model, _ = convert(save(tmp_path / "x.pt", checkpoint), tmp_path / "out")
    assert torch.equal(model.generator("a2b").to_rgb.weight, model.generator("b2a").to_rgb.weight)


# What is no official checkpoint


class Malicious:
    """Unpickled naively, writes a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
@pytest.mark.parametrize("inside", [False, True])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, how: str, inside: bool) -> None:
    victim, path = tmp_path / "victim", tmp_path / "evil.pt"
    content: object = Malicious(victim)
    if inside:
        content = random_checkpoint() | {"extra": content}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        save(path, content, legacy=how == "legacy")
    with pytest.raises(ModelError) as caught:
        convert(path, tmp_path / "out")
    assert caught.value.message.startswith(f"{path}: ")
    assert "never runs code" in caught.value.hint
    assert not victim.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, legacy: bool, share: float) -> None:
    data = save(tmp_path / "x.pt", random_checkpoint(), legacy=legacy).read_bytes()
    (tmp_path / "x.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError) as caught:
        convert(tmp_path / "x.pt", tmp_path / "out")
    assert caught.value.message.startswith(f"{tmp_path / 'x.pt'}: ")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "data", [b"garbage", b"<html>Quota exceeded</html>", bytes(1000), b"PK\x03\x04" + bytes(100), b"\x80\x02}q\x00."]
)
def test_garbage(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(ModelError) as caught:
        convert(tmp_path / "x.pt", tmp_path / "out")
    assert caught.value.message.startswith(f"{tmp_path / 'x.pt'}: ")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "has no genA2B"),
        ({"state_dict": {"conv1.weight": torch.ones(3)}}, "has no genA2B"),
        ({"genA2B": {"a": torch.ones(1)}}, "has no genB2A"),
        ({"genA2B": {}, "genB2A": {}}, "no tensor 'DownBlock.1.weight'"),
        ({"genA2B": {"DownBlock.1.weight": 3}, "genB2A": {}}, "no tensor 'DownBlock.1.weight'"),
        ({"genA2B": 1, "genB2A": 2}, "has no genA2B"),
        ([torch.ones(3)], "a list, not a dict"),
        (torch.ones(3), "a Tensor, not a dict"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, text: str) -> None:
    path = save(tmp_path / "x.pt", content)
    with pytest.raises(ModelError, match=text) as caught:
        import_checkpoint(path, ImportSettings())
    assert caught.value.message.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("genA2B", "FC.0.weight"),
        ("genB2A", "UpBlock2.8.rho"),
        ("genA2B", "DownBlock.12.conv_block.5.weight"),
        ("disLA", "model.1.weight_orig"),
        ("disGB", "gmp_fc.weight_u"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, key: str, name: str) -> None:
    checkpoint = random_checkpoint()
    del checkpoint[key][name]
    with pytest.raises(ModelError, match=f"not a U-GAT-IT checkpoint: no tensor '{name}'"):
        import_checkpoint(save(tmp_path / "x.pt", checkpoint), ImportSettings())


@pytest.mark.parametrize("shape", [(), (5,), (0, 3, 7, 7), (2, 2), (7, 7, 3, 4), (5000, 1, 1, 1)], ids=str)
@pytest.mark.parametrize(
    ("key", "name"), [("genA2B", "DownBlock.1.weight"), ("genA2B", "FC.0.weight"), ("disLA", "model.1.weight_orig")]
)
def test_wrong_shapes_are_one_error(tmp_path: Path, key: str, name: str, shape: tuple[int, ...]) -> None:
    checkpoint = random_checkpoint()
    checkpoint[key][name] = torch.ones(shape)
    path = save(tmp_path / "x.pt", checkpoint)
    with pytest.raises(ModelError) as caught:
        convert(path, tmp_path / "out")
    assert caught.value.message.startswith(f"{path}: ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]


def test_a_map_that_is_not_square(tmp_path: Path) -> None:
    checkpoint = random_checkpoint("full")
    checkpoint["genA2B"]["FC.0.weight"] = torch.ones(16, 16 * 35)
    path = save(tmp_path / "x.pt", checkpoint)
    with pytest.raises(ModelError, match=r"a2b\.style\.hidden1\.weight has shape \(16, 560\)"):
        convert(path, tmp_path / "out")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for read in (
        lambda path: import_checkpoint(path, ImportSettings()),
        lambda path: convert(path, tmp_path / "out"),
    ):
        with pytest.raises(ModelError, match=r"gone\.pt: "):
            read(tmp_path / "gone.pt")

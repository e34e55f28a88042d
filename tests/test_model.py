"""Pictures through a model on a device: batches, tiles, and too little memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from ugatit_cli import ModelConfig, forward, geometry, load
from ugatit_cli.checkpoint import open_model
from ugatit_cli.errors import ModelError, PictureError, UsageError
from ugatit_cli.geometry import Geometry, Pixels, SizeOptions, plan_geometry
from ugatit_cli.model import BATCH_PIXELS, MAX_BATCH, Model

Forward = Callable[[Sequence[Pixels], str], list[Pixels]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "light", discriminators=True)


@pytest.fixture
def model(folder: Path) -> Model:
    return load(str(folder), device="cpu", precision="fp32")


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def whole(width: int, height: int) -> Geometry:
    return Geometry((width, height), (width, height), (width, height))


class Recorder:
    """Stands in for the network: gives its input back, and keeps the shapes it saw."""

    def __init__(self, limit: int = 1000, error: Exception | None = None) -> None:
        self.limit = limit
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, batch: Sequence[Pixels]) -> list[forward.Seen]:
        self.shapes.append(np.stack(batch).shape)
        if len(batch) > self.limit:
            raise self.error
        return [forward.Seen(pixels, {}) for pixels in batch]


def put(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> Recorder:
    monkeypatch.setattr(forward.NetworkPass, "_forward", lambda _, batch: recorder(batch))
    return recorder


# --- Batches -------------------------------------------------------------------------------------------


def test_a_batch_gives_what_its_pictures_give_alone(model: Model) -> None:
    batch = [noise(40, 36, seed) for seed in range(5)]
    together = model.translate_pixels(batch, "a2b", whole(40, 36))
    for pixels, result in zip(batch, together, strict=True):
        (alone,) = model.translate_pixels([pixels], "a2b", whole(40, 36))
        assert alone.dtype == result.dtype == np.uint8
        assert alone.shape == (36, 40, 3)
        assert np.abs(alone.astype(int) - result).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 1


def test_both_directions_have_their_own_network(model: Model) -> None:
    pixels = [noise(32, 32)]
    there, back = (model.translate_pixels(pixels, way, whole(32, 32))[0] for way in ("a2b", "b2a"))
    assert not np.array_equal(there, back)


def test_pixels_are_what_the_network_says(model: Model) -> None:
    pixels = noise(32, 32)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = (model.generator("a2b")(x).image[0].permute(1, 2, 0).numpy() + 1) * 127.5
    (result,) = model.translate_pixels([pixels], "a2b", whole(32, 32))
    assert np.abs(result - expected).max() < 0.51


def test_batch_sizes(model: Model) -> None:
    assert model.batch_size(whole(256, 256)) == 1  # on a CPU
    model.device = torch.device("cuda")
    assert model.batch_size(whole(256, 256)) == BATCH_PIXELS // 256**2 == 32
    assert model.batch_size(whole(32, 32)) == MAX_BATCH
    assert model.batch_size(whole(4000, 4000)) == 1
    assert model.batch_size(dataclasses.replace(whole(4000, 4000), tile=512)) == 8


# --- Tiles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (68, 64), (100, 160), (64, 300), (16, 200), (200, 16), (131, 77)])
def test_tiles_of_the_identity_are_the_identity(
    monkeypatch: pytest.MonkeyPatch, model: Model, size: tuple[int, int]
) -> None:
    recorder = put(monkeypatch, Recorder())
    plan = plan_geometry(size, model.config, SizeOptions("native", 64))
    pixels = noise(*plan.network)
    (result,) = model.translate_pixels([pixels], "a2b", plan)
    np.testing.assert_array_equal(result, pixels)
    width, height = (min(side, 64) for side in plan.network)
    assert {shape[1:3] for shape in recorder.shapes} == {(height, width)}


def test_tiles_go_in_batches(monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    recorder = put(monkeypatch, Recorder())
    monkeypatch.setattr(Model, "batch_of", lambda *_: 4)
    plan = plan_geometry((160, 160), model.config, SizeOptions("native", 64))
    model.translate_pixels([noise(160, 160)], "a2b", plan)
    assert [shape[0] for shape in recorder.shapes] == [4, 4, 1]


def test_tiles_leave_no_seams(model: Model) -> None:
    flat = np.full((160, 160, 3), 90, np.uint8)
    plan = plan_geometry((160, 160), model.config, SizeOptions("native", 64))
    (result,) = model.translate_pixels([flat], "a2b", plan)
    (tile,) = model.translate_pixels([flat[:64, :64]], "a2b", whole(64, 64))
    # Reflection padding of one colour is that colour: every tile is the same, and so is the blend.
    assert np.abs(result[32, 32].astype(int) - tile[32, 32]).max() <= 1
    assert int(result.max(axis=(0, 1)).max()) <= int(tile.max()) + 1


def test_a_full_model_sees_tiles_of_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = load(str(tiny.save(tmp_path / "m", dataclasses.replace(tiny.FULL, image_size=64))), precision="fp32")
    for size in ((1, 1), (64, 64), (65, 3), (90, 150)):
        plan = plan_geometry(size, full.config, SizeOptions("native"))
        (result,) = full.translate_pixels([noise(*plan.network)], "a2b", plan)
        assert result.shape == (plan.network[1], plan.network[0], 3)
    recorder = put(monkeypatch, Recorder())
    plan = plan_geometry((90, 150), full.config, SizeOptions("native"))
    full.translate_pixels([noise(*plan.network)], "a2b", plan)
    assert {shape[1:3] for shape in recorder.shapes} == {(64, 64)}


# --- Memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
)
def test_the_batch_is_halved_until_it_fits(monkeypatch: pytest.MonkeyPatch, model: Model, error: Exception) -> None:
    recorder = put(monkeypatch, Recorder(1, error))
    batch = [noise(32, 32, seed) for seed in range(5)]
    results = model.translate_pixels(batch, "a2b", whole(32, 32))
    assert [shape[0] for shape in recorder.shapes] == [5, 2, 1, 1, 3, 1, 2, 1, 1]
    np.testing.assert_array_equal(results, batch)


def test_not_even_one_fits(monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    put(monkeypatch, Recorder(0))
    with pytest.raises(PictureError, match="not enough memory on cpu for 48x32 pixels") as caught:
        model.translate_pixels([noise(48, 32)] * 2, "a2b", whole(48, 32))
    assert "--tile" in caught.value.hint


def test_other_failures_are_not_hidden(monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    put(monkeypatch, Recorder(0, RuntimeError("shapes don't fit")))
    with pytest.raises(RuntimeError, match="shapes don't fit"):
        model.translate_pixels([noise(32, 32)], "a2b", whole(32, 32))


# --- Networks ------------------------------------------------------------------------------------------


def test_networks_are_loaded_once_and_when_asked_for(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.generator("a2b")
    monkeypatch.setattr("ugatit_cli.checkpoint._fill", None)
    assert model.generator("a2b") is first
    with pytest.raises(TypeError):
        model.generator("b2a")


@pytest.mark.parametrize("direction", ["", "a", "A2B", "b2b"])
def test_unknown_directions(model: Model, direction: str) -> None:
    with pytest.raises(UsageError, match="unknown direction"):
        model.generator(direction)  # type: ignore[arg-type]  # what an untyped caller may give


def test_discriminators(model: Model) -> None:
    output = model.discriminator("b", "local")(torch.zeros(2, 3, 32, 32))
    assert output.logit.shape[:2] == (2, 1)
    assert output.cam_logit is not None
    assert output.cam_logit.shape == (2, 2)
    assert output._fields == ("logit", "cam_logit", "heatmap")
    assert model.discriminator("b", "local") is model.discriminator("b", "local")
    for domain, scale in (("c", "local"), ("a", "middle")):
        with pytest.raises(UsageError, match="no discriminator"):
            model.discriminator(domain, scale)  # type: ignore[arg-type]


def test_a_model_without_discriminators(tmp_path: Path) -> None:
    model = load(str(tiny.save(tmp_path / "m")), device="cpu")
    with pytest.raises(ModelError, match="without discriminators") as caught:
        model.discriminator("a", "global")
    assert str(tmp_path) in caught.value.message


def test_precision_reaches_the_network(folder: Path) -> None:
    model = load(str(folder), device="cpu", precision="bf16")
    generator = model.generator("a2b")
    assert generator.stem.conv.weight.dtype == torch.bfloat16
    assert generator(torch.zeros(1, 3, 32, 32)).image.dtype == torch.float32
    exact = load(str(folder), device="cpu", precision="fp32")
    (rough,), (fine,) = (each.translate_pixels([noise(32, 32)], "a2b", whole(32, 32)) for each in (model, exact))
    assert np.abs(rough.astype(int) - fine).max() <= 8


def test_a_model_that_has_translated_can_still_be_trained(folder: Path) -> None:
    for model in (Model.untrained(tiny.LIGHT, device="cpu", precision="fp32"), load(str(folder), device="cpu")):
        model.translate_pixels([noise(32, 32)], "a2b", whole(32, 32))
        x = torch.zeros(1, 3, 32, 32, requires_grad=True)
        model.generator("a2b")(x).image.sum().backward()
        assert x.grad is not None


def test_untrained_models_learn_and_loaded_ones_do_not(folder: Path) -> None:
    new = Model.untrained(tiny.LIGHT, device="cpu", precision="fp32")
    assert all(parameter.requires_grad for parameter in new.generator("a2b").parameters())
    assert new.generator("a2b").training
    loaded = Model.from_folder("x", open_model(folder), device="cpu")
    assert not any(parameter.requires_grad for parameter in loaded.generator("a2b").parameters())
    assert not loaded.generator("a2b").training
    assert loaded.name == "x"
    assert loaded.config == tiny.LIGHT == new.config


def test_weights_that_vanish_are_a_model_error(tmp_path: Path) -> None:
    model = load(str(tiny.save(tmp_path / "m")), device="cpu")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no such file"):
        model.generator("a2b")


@pytest.mark.parametrize("config", [tiny.LIGHT, tiny.FULL, ModelConfig(image_size=16, channels=1, blocks=0)])
def test_the_smallest_pictures(config: ModelConfig) -> None:
    model = Model.untrained(config, device="cpu", precision="fp32")
    for fit in ("aspect", "native", "squash"):
        for size in ((1, 1), (1, 50), (17, 3)):
            plan = geometry.plan_geometry(size, config, SizeOptions(fit))
            (result,) = model.translate_pixels([noise(*plan.network)], "b2a", plan)
            assert geometry.from_network(result, plan).size == size


def test_a_result_that_is_not_a_number(model: Model) -> None:
    with torch.no_grad():
        model.generator("a2b").to_rgb.weight.fill_(math.nan)
    with pytest.raises(PictureError, match="not a number") as caught:
        model.translate(Image.new("RGB", (32, 32)))
    assert "--precision fp32" in caught.value.hint


@pytest.mark.parametrize("wrong", ["icon.png", np.zeros((8, 8, 3), np.uint8), [None]])
def test_what_is_no_picture(model: Model, wrong: Any) -> None:
    with pytest.raises(TypeError, match="PIL"):
        model.translate(wrong)

"""Pictures through a model on a device: batches, tiles, and too little memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from ugatit_cli import ModelConfig, load
from ugatit_cli.config import DIRECTIONS, MAPS, Direction, MapName
from ugatit_cli.errors import ModelError, PictureError, UsageError
from ugatit_cli.pictures import geometry
from ugatit_cli.pictures.geometry import Geometry, Pixels, SizeOptions, plan_geometry
from ugatit_cli.translation import passes
from ugatit_cli.translation.model import BATCH_PIXELS, MAX_BATCH, Model
from ugatit_cli.weights.folder import open_model


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

    def __call__(self, batch: Sequence[Pixels]) -> list[passes.Seen]:
        self.shapes.append(np.stack(batch).shape)
        if len(batch) > self.limit:
            raise self.error
        return [passes.Seen(pixels, {}) for pixels in batch]


def put(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> Recorder:
    monkeypatch.setattr(passes.NetworkPass, "_forward", lambda _, batch: recorder(batch))
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
    monkeypatch.setattr("ugatit_cli.weights.folder._fill", None)
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


# --- Where the networks look ---------------------------------------------------------------------------


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    return [Image.fromarray(noise(*size, seed)) for seed, size in enumerate(sizes)]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_attention_maps_are_the_networks_own(model: Model, direction: Direction) -> None:
    (picture,) = pictures((32, 48))
    found = model.attention_maps([picture], direction)
    x = torch.from_numpy(np.array(picture)[None]).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    with torch.no_grad():
        output = model.generator(direction)(x)
    assert output.heatmap is not None
    assert output.cam_logit is not None
    (maps,) = found.maps
    np.testing.assert_array_equal(maps["generator"].values, output.heatmap[0, 0])
    assert list(maps["generator"].logits) == output.cam_logit[0].tolist()
    assert (found.direction, len(found), set(maps), found.missing, found.spans) == (direction, 1, set(MAPS), {}, None)
    assert found.inputs[0].tobytes() == picture.tobytes()
    assert found.translations[0].tobytes() == model.translate(picture, direction).tobytes()


def test_attention_of_pictures_of_many_sizes(model: Model) -> None:
    sizes = [(50, 40), (33, 35), (50, 40), (7, 90), (1, 1)]
    several = pictures(*sizes)
    found = model.attention_maps(several, fit="native")
    assert len(found) == len(found.inputs) == len(found.translations) == 5
    for index, (picture, size) in enumerate(zip(several, sizes, strict=True)):
        assert found.inputs[index].size == found.translations[index].size == size
        assert found.inputs[index].tobytes() == picture.tobytes()
        (alone,) = model.attention_maps([picture], fit="native").maps
        for name, one in found.maps[index].items():
            np.testing.assert_allclose(one.values, alone[name].values, rtol=1e-4, atol=1e-7)
            assert found.heat(index, name).shape == (size[1], size[0])
            assert found.overlay(index, name).size == size


def test_attention_of_the_size_that_is_asked_for(model: Model) -> None:
    found = model.attention_maps(pictures((50, 40)), size="20x30")
    assert found.inputs[0].size == found.translations[0].size == (20, 30)
    assert found.heat(0, "local").shape == (30, 20)
    assert found.maps[0]["generator"].plan.scaled == (40, 32)


def test_attention_in_tiles(model: Model) -> None:
    found = model.attention_maps(pictures((130, 70)), fit="native", tile=64)
    for one in found.maps[0].values():
        assert one.plan.tile == 64
        assert np.isfinite(one.values).all()
    assert found.maps[0]["generator"].values.shape == (18, 33)


def test_transparency_is_looked_at_over_the_background(model: Model) -> None:
    picture = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    found = model.attention_maps([picture], background=(0, 0, 255))
    assert found.inputs[0].mode == found.translations[0].mode == "RGB"
    assert found.inputs[0].getcolors() == [(1024, (0, 0, 255))]
    plain = model.attention_maps([Image.new("RGB", (32, 32), "blue")])
    assert found.translations[0].tobytes() == plain.translations[0].tobytes()


@pytest.mark.parametrize("wanted", [("generator",), ("local",), ("global", "generator")])
def test_only_the_maps_that_are_asked_for(model: Model, wanted: tuple[MapName, ...]) -> None:
    (maps,) = model.attention_maps(pictures((32, 32)), maps=wanted).maps
    assert set(maps) == set(wanted)


def test_one_scale_for_all_pictures(model: Model) -> None:
    several = [Image.fromarray(noise(32, 32, seed) // (1 + 3 * seed)) for seed in range(3)]
    own, common = model.attention_maps(several), model.attention_maps(several, normalize="batch")
    assert common.spans is not None
    for name in MAPS:
        low, high = zip(*(maps[name].span for maps in common.maps), strict=True)
        assert common.spans[name] == (min(low), max(high))
        heats = [one.normalised(common.spans[name]) for one in (maps[name] for maps in common.maps)]
        assert min(heat.min() for heat in heats) == 0
        assert max(heat.max() for heat in heats) == 1
        assert sum(heat.min() == 0 and heat.max() == 1 for heat in heats) < 3
        assert any((own.heat(i, name) != common.heat(i, name)).any() for i in range(3))
    one = model.attention_maps(several[:1], normalize="batch")
    np.testing.assert_array_equal(one.heat(0, "generator"), own.heat(0, "generator"))


def test_no_pictures(model: Model) -> None:
    for normalize in ("image", "batch"):
        assert len(model.attention_maps([], normalize=normalize)) == 0


def test_attention_of_what_is_no_picture(model: Model) -> None:
    for wrong in ([np.zeros((8, 8, 3), np.uint8)], ["icon.png"]):
        with pytest.raises(TypeError):
            model.attention_maps(wrong)  # type: ignore[arg-type]


def test_attention_takes_what_translate_takes(model: Model) -> None:
    picture = Image.fromarray(noise(40, 36))
    (alone,) = model.attention_maps(picture, maps="generator").maps
    several = model.attention_maps((one for one in (picture, picture)), maps=["generator"])  # type: ignore[arg-type]
    assert len(several) == 2
    np.testing.assert_array_equal(alone["generator"].values, several.maps[1]["generator"].values)
    with pytest.raises(UsageError, match="unknown normalize 'bogus'"):
        model.attention_maps(picture, normalize="bogus")  # type: ignore[arg-type]


def test_maps_that_nobody_has(model: Model) -> None:
    with pytest.raises(UsageError, match="no attention map 'middle'"):
        model.attention_maps(pictures((8, 8)), maps=("middle",))  # type: ignore[arg-type]


def test_maps_that_this_model_does_not_have(tmp_path: Path) -> None:
    model = load(str(tiny.save(tmp_path / "m")), device="cpu", precision="fp32")
    assert not model.has_discriminators
    assert set(model.missing_maps) == {"local", "global"}
    found = model.attention_maps(pictures((32, 32)))
    assert set(found.maps[0]) == {"generator"}
    assert found.missing == model.missing_maps
    with pytest.raises(ModelError, match="no local attention: it comes without discriminators") as caught:
        model.attention_maps(pictures((32, 32)), maps=("local",))
    assert "ugatit train" in caught.value.hint
    with pytest.raises(ModelError, match="without discriminators"):
        model.looking_discriminator("b", "local")


def test_a_model_with_local_discriminators_only(tmp_path: Path) -> None:
    config = dataclasses.replace(tiny.LIGHT, discriminators="local")
    folder = tiny.save(tmp_path / "m", config, discriminators=True)
    for model in (load(str(folder), device="cpu"), Model.untrained(config, device="cpu", precision="fp32")):
        assert set(model.missing_maps) == {"global"}
        assert set(model.attention_maps(pictures((32, 32))).maps[0]) == {"generator", "local"}
        with pytest.raises(UsageError, match=r"no discriminator \('b', 'global'\)") as caught:
            model.discriminator("b", "global")
        assert caught.value.hint == "Domains: a, b. Scales: local."


def test_untrained_models_have_all_maps() -> None:
    model = Model.untrained(tiny.LIGHT, device="cpu", precision="fp32")
    assert model.missing_maps == {}
    buffers = {name: tensor.clone() for name, tensor in model.discriminator("b", "local").named_buffers()}
    found = model.attention_maps(pictures((40, 32)))
    assert set(found.maps[0]) == set(MAPS)
    discriminator = model.discriminator("b", "local")
    assert discriminator.training
    for name, tensor in discriminator.named_buffers():
        assert torch.equal(tensor, buffers[name]), name
    torch.autograd.backward(discriminator(torch.rand(1, 3, 32, 32)).logit.mean())
    assert all(p.grad is not None for name, p in discriminator.named_parameters() if not name.startswith("cam.g"))


# --- Discriminators that only look ---------------------------------------------------------------------


def test_a_discriminator_that_only_looks_is_folded(model: Model) -> None:
    looking = model.looking_discriminator("b", "global")
    assert looking.head.norm is None
    assert model.looking_discriminator("b", "global") is looking
    assert model.looking_discriminator("a", "global") is not looking
    whole_one = model.discriminator("b", "global")
    assert whole_one.head.norm is not None
    x = torch.rand(1, 3, 32, 32)
    for one, other in zip(looking(x), whole_one(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_discriminator_that_was_handed_out_is_the_one_that_looks(model: Model) -> None:
    (picture,) = pictures((32, 32))
    before = model.attention_maps([picture]).maps[0]
    discriminator = model.discriminator("b", "local")
    assert model.looking_discriminator("b", "local") is discriminator
    np.testing.assert_allclose(model.attention_maps([picture]).maps[0]["local"].values, before["local"].values, 1e-4)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(-2)
    after = model.attention_maps([picture]).maps[0]
    assert np.abs(after["local"].values - before["local"].values).max() > 0.1 * np.abs(before["local"].values).max()
    np.testing.assert_array_equal(after["global"].values, before["global"].values)


def test_a_discriminator_of_a_new_model_looks_as_it_is() -> None:
    model = Model.untrained(tiny.LIGHT, device="cpu", precision="bf16")
    assert model.looking_discriminator("a", "local") is model.discriminator("a", "local")
    assert model.discriminator("a", "local").head.weight.dtype == torch.float32


def test_discriminators_look_in_the_models_precision(folder: Path) -> None:
    model = load(str(folder), device="cpu", precision="bf16")
    assert model.looking_discriminator("b", "local").head.weight.dtype == torch.bfloat16
    assert model.discriminator("b", "local").head.weight.dtype == torch.float32

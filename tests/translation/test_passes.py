"""One pass through the networks: translations, and where the networks look meanwhile."""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.helpers import pixels, whole
from tests.pipelines import Unchanged, unchanging
from tests.reference import randomize
from ugatit_cli import load
from ugatit_cli.attention.maps import Maps
from ugatit_cli.config import DIRECTIONS, MAPS, SCALES, Dialect, Direction, Domain, MapName, ModelConfig
from ugatit_cli.errors import PictureError
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Translation
from ugatit_cli.pictures.geometry import Pixels, tile_corners
from ugatit_cli.translation import passes
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import BATCH_PIXELS, MAX_BATCH, MAX_TURN, Batching, Translated
from ugatit_cli.weights.folder import open_model

DIALECTS = get_args(Dialect)
TARGETS: dict[Direction, Domain] = {"a2b": "b", "b2a": "a"}


@pytest.fixture
def model(folder: Path) -> Model:
    return load(str(folder), device="cpu", precision="fp32")


def look(
    model: Model, picture: Pixels, maps: Sequence[MapName] = MAPS, *, tile: int = 0, direction: Direction = "a2b"
) -> Translated:
    geometry = whole(picture.shape[1], picture.shape[0], tile)
    (one,) = passes.look(model, [picture], direction, [geometry], maps)
    return one


def as_input(picture: Pixels) -> Tensor:
    return torch.from_numpy(picture)[None].permute(0, 3, 1, 2).float() / 127.5 - 1


def strong(config: ModelConfig) -> Model:
    """A model whose discriminators' attention differs from place to place."""

    def discriminator(_: Domain, scale: str | None) -> Discriminator:
        torch.manual_seed(2)
        return randomize(Discriminator(config, "local" if scale == "local" else "global"), 2)

    model = Model.untrained(config, device="cpu", precision="fp32")
    model._make_discriminator = discriminator
    return model


def assert_maps_equal(one: Maps, other: Maps, tolerance: float = 0) -> None:
    assert set(one) == set(other)
    for name in one:
        scale = max(1e-6, np.abs(other[name].values).max())  # of one colour, instance norm leaves nothing
        np.testing.assert_allclose(one[name].values, other[name].values, rtol=0, atol=tolerance * scale)
        assert one[name].logits == pytest.approx(other[name].logits, rel=tolerance, abs=tolerance)


# --- What the networks return --------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
@torch.no_grad()
def test_maps_are_what_the_networks_return(model: Model, direction: Direction) -> None:
    picture = pixels(40, 36)
    seen = look(model, picture, direction=direction)
    output = model.generator(direction)(as_input(picture))
    assert output.heatmap is not None
    assert output.cam_logit is not None
    assert list(seen.maps) == list(MAPS)
    assert np.abs(seen.pixels - (output.image[0].permute(1, 2, 0).numpy() + 1) * 127.5).max() < 0.51
    np.testing.assert_array_equal(seen.maps["generator"].values, output.heatmap[0, 0].numpy())
    assert seen.maps["generator"].logits == tuple(output.cam_logit[0].tolist())
    for scale in SCALES:
        judged = model.discriminator(TARGETS[direction], scale)(output.image)
        assert judged.heatmap is not None
        torch.testing.assert_close(torch.from_numpy(seen.maps[scale].values), judged.heatmap[0, 0])
        assert seen.maps[scale].logits == pytest.approx(judged.cam_logit[0].tolist(), rel=1e-5, abs=1e-7)
    # Discriminators that were handed out change nothing, whatever becomes of them.
    for scale in SCALES:
        randomize(model.discriminator(TARGETS[direction], scale), 3)
    assert_maps_equal(look(model, picture, direction=direction).maps, seen.maps)


def test_looking_changes_no_translation(model: Model) -> None:
    picture = pixels(32, 32)
    plain = look(model, picture, ())
    assert plain.maps == {}
    for maps in (MAPS, ("generator",), ("local",)):
        seen = look(model, picture, maps)
        np.testing.assert_array_equal(seen.pixels, plain.pixels)
        assert tuple(seen.maps) == maps


def test_every_picture_of_a_batch_has_its_own_maps_and_plan(model: Model) -> None:
    batch = [pixels(36, 32, seed) for seed in range(4)]
    geometries = [dataclasses.replace(whole(36, 32), output=(10 + i, 10)) for i in range(4)]
    together = list(passes.look(model, batch, "a2b", geometries, MAPS, 4))
    for picture, geometry, seen in zip(batch, geometries, together, strict=True):
        (alone,) = passes.look(model, [picture], "a2b", [geometry], MAPS)
        assert np.abs(alone.pixels.astype(int) - seen.pixels).max() <= 1
        assert_maps_equal(seen.maps, alone.maps, 1e-3)
        assert {one.geometry for one in seen.maps.values()} == {geometry}
    first, second = (together[i].maps["generator"].values for i in (0, 1))
    assert np.abs(first - second).max() > 1e-3 * np.abs(first).max()


def test_the_generator_takes_a_few_and_discriminators_take_all(model: Model) -> None:
    batch, geometries = [pixels(32, 32, seed) for seed in range(5)], [whole(32, 32)] * 5
    expected = passes.look(model, batch, "a2b", geometries, MAPS)
    sizes: dict[str, list[int]] = {"generator": [], "local": []}
    networks = {"generator": model.generator("a2b"), "local": model.looking_discriminator("b", "local")}
    seen = passes.look(model, batch, "a2b", geometries, MAPS, 2)
    for name, network in networks.items():
        note = sizes[name].append
        network.register_forward_pre_hook(lambda _, inputs, note=note: note(len(inputs[0])))
    for one, other in zip(seen, list(expected), strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1
        assert_maps_equal(one.maps, other.maps, 1e-3)
    assert sizes == {"generator": [1] * 5 + [2, 2, 1], "local": [5, 5]}


def test_nothing_begins_once_it_is_stopped(model: Model) -> None:
    stop, sizes = threading.Event(), []

    def once(_: object, inputs: tuple[Tensor]) -> None:
        sizes.append(len(inputs[0]))
        stop.set()

    model.generator("a2b").register_forward_pre_hook(once)
    for tile in (0, 64):
        stop.clear()
        batch, geometries = [pixels(100, 64, seed) for seed in range(5)], [whole(100, 64, tile)] * 5
        assert len(list(passes.look(model, batch, "a2b", geometries, (), 2, stop))) == (1 if tile else 2)
    assert sizes == [2, 1, 2]  # a look at all of the picture comes before its tiles


NAMED = [("cpu", False), ("cuda", False), ("cpu", True)]


def test_what_is_decided_on_batches() -> None:
    cpu, gpu, looking = (Batching(name == "cpu", 0, looks) for name, looks in NAMED)
    assert (cpu.most, cpu.size(256**2), cpu.one_pass(256**2), looking.one_pass(256**2)) == (1, 1, 1, 2)
    assert looking.one_pass(4000**2) == 1
    assert gpu.size(256**2) == gpu.one_pass(256**2) == BATCH_PIXELS // 256**2 == 32
    assert (gpu.most, gpu.size(32**2), gpu.size(4000**2)) == (MAX_BATCH, MAX_BATCH, 1)
    assert (cpu.turn(256**2, 0), gpu.turn(256**2, 1e-9)) == (1, 32)
    assert (cpu.turn(256**2, 1e-9), cpu.turn(256**2, 1e-6), cpu.turn(256**2, 1.0)) == (MAX_TURN, 7, 1)
    assert (looking.turn(256**2, 1e-9), looking.turn(256**2, 1e-6), looking.turn(256**2, 1.0)) == (MAX_TURN, 6, 2)
    for device in ("cpu", "cuda"):
        wanted = Batching(device == "cpu", 3)
        assert (wanted.most, wanted.size(16), wanted.size(4000**2)) == (3, 3, 3)


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
def test_half_as_many_where_memory_is_short(model: Model, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    batch, geometries, sizes = [pixels(32, 32, seed) for seed in range(7)], [whole(32, 32)] * 7, []
    expected = list(passes.look(model, batch, "a2b", geometries, MAPS))

    def little(_: object, inputs: tuple[Tensor]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise error

    model.generator("a2b").register_forward_pre_hook(little)
    with caplog.at_level(logging.INFO, "ugatit"):
        for seen, one in zip(passes.look(model, batch, "a2b", geometries, MAPS, 7), expected, strict=True):
            assert np.abs(seen.pixels.astype(int) - one.pixels).max() <= 1
            assert_maps_equal(seen.maps, one.maps, 1e-3)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert caplog.records


def test_not_even_one_fits_into_memory(model: Model) -> None:
    def none(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.generator("a2b").register_forward_pre_hook(none)
    with pytest.raises(PictureError) as caught:
        list(passes.look(model, [pixels(48, 32)] * 2, "a2b", [whole(48, 32)] * 2))
    assert "--tile" not in caught.value.hint  # that would be larger
    with pytest.raises(PictureError) as caught:
        list(passes.look(model, [pixels(1024, 32)], "a2b", [whole(1024, 32)]))
    assert "--tile" in caught.value.hint


# --- What can't be shown -------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [0, 64])
def test_a_discriminator_that_needs_more_pixels_is_left_out(tile: int) -> None:
    config = dataclasses.replace(tiny.LIGHT, image_size=96, local_layers=3, global_layers=7)
    model = Model.untrained(config, device="cpu", precision="fp32")
    assert config.smallest("global") == 96
    # Tiles are what it sees, however large the picture is.
    width, height = (200, 100) if tile else (200, 92)
    assert set(look(model, pixels(width, height), tile=tile).maps) == {"generator", "local"}
    assert set(look(model, pixels(width, 96), tile=96 if tile else 0).maps) == set(MAPS)


# --- Tiles ---------------------------------------------------------------------------------------------


SIZES = [(160, 160), (132, 84), (300, 64), (64, 100), (40, 200)]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("size", SIZES)
def test_tiles_of_one_colour_are_seen_as_the_whole_is(size: tuple[int, int], dialect: Dialect) -> None:
    model = strong(dataclasses.replace(tiny.LIGHT, dialect=dialect, global_layers=5))
    model.generator().double()  # of one colour, norms make much of what rounding leaves
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    undivided, tiled = look(model, picture), look(model, picture, tile=64)
    assert set(tiled.maps) == set(undivided.maps)
    for name, one in tiled.maps.items():
        assert one.values.dtype == np.float32
        assert one.values.shape == undivided.maps[name].values.shape
        assert one.geometry == whole(*size, 64)
    # Reflection padding of one colour is that colour.
    assert_maps_equal(tiled.maps, undivided.maps, 1e-3)


class Ramp(Unchanged):
    """Sees in every cell how far at the right its centre lies: in the picture, whose pixels say it."""

    def forward(self, x: Tensor) -> Translation:
        right = x[:, :1, 2::4, 2::4]  # the pixel at the right of the centre
        left = x[:, :1, 2::4, 1::4]
        heatmap = ((left + right) / 2 + 1) * 127.5 + 0.5
        return Translation(x, torch.tensor([[1.0, 2.0]] * len(x)), heatmap)


@pytest.mark.parametrize("width", [64, 68, 132, 160, 240])
def test_cells_of_tiles_are_put_where_they_lie(width: int) -> None:
    picture = np.zeros((72, width, 3), np.uint8)
    picture[:, :, 0] = np.arange(width)
    seen = look(unchanging(Ramp()), picture, ("generator",), tile=64)
    values = seen.maps["generator"].values
    centres = 4 * np.arange(width // 4) + 2
    assert values.shape == (18, width // 4)
    assert seen.maps["generator"].logits == (1, 2)
    # Beyond a tile's outer centres the map goes on as it is there: off by half a cell at most, and hardly counted.
    assert np.abs(values - centres).max() < 1
    edges = {edge for x, _ in tile_corners((width, 72), 64) for edge in (x, x + 64)} - {0, width}
    far = np.array([all(abs(centre - edge) >= 2 for edge in edges) for centre in centres])
    np.testing.assert_allclose(values[:, far], np.broadcast_to(centres[far], values[:, far].shape), rtol=1e-5)


def test_one_hears_of_every_tile(model: Model) -> None:
    heard: list[tuple[int, int]] = []
    geometries = [whole(160, 64, 64)] * 2
    told = lambda *tile: heard.append(tile)  # noqa: E731
    list(passes.look(model, [pixels(160, 64)] * 2, "a2b", geometries, told=told))
    assert heard == [(1, 3), (2, 3), (3, 3)] * 2


def test_only_a_band_of_a_large_picture_is_in_floats() -> None:
    model, peaks = unchanging(Unchanged()), []
    for height in (4096, 8192):
        picture = pixels(128, height)
        tracemalloc.start()  # which NumPy tells what it takes; PyTorch doesn't
        found = look(model, picture, (), tile=64).pixels
        peaks.append(tracemalloc.get_traced_memory()[1] - found.nbytes)
        tracemalloc.stop()
        assert np.array_equal(found, picture)
    assert peaks[1] < peaks[0] + 128 * 1024  # all of them would take 8 MB


# --- Networks that are trained -------------------------------------------------------------------------


def test_looking_leaves_no_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    model = Model.untrained(tiny.LIGHT, device="cpu", precision="fp32")
    discriminators = {scale: model.discriminator("b", scale) for scale in SCALES}
    before = {scale: copy.deepcopy(one.state_dict()) for scale, one in discriminators.items()}
    look(model, pixels(32, 32))
    look(model, pixels(100, 64), tile=64)
    with monkeypatch.context() as patch:
        patch.setattr(Discriminator, "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            look(model, pixels(32, 32))
    for scale, one in discriminators.items():
        assert all(module.training for module in one.modules())
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, before[scale][name]), name
    loaded = Model.from_folder("x", open_model(folder), device="cpu", precision="fp32")
    look(loaded, pixels(32, 32))
    assert not loaded.discriminator("b", "local").training


def test_networks_that_have_looked_can_be_trained() -> None:
    model = Model.untrained(tiny.LIGHT, device="cpu", precision="fp32")
    look(model, pixels(32, 32))
    output = model.generator("a2b")(torch.rand(1, 3, 32, 32))
    judged = model.discriminator("b", "local")(output.image)
    judged.logit.mean().backward()
    for network in (model.generator("a2b"), model.discriminator("b", "local")):
        assert not any(tensor.is_inference() for tensor in network.state_dict().values())
        assert any(parameter.grad is not None for parameter in network.parameters())

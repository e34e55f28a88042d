"""What can be known of GPUs without one: that all is there, of one type, on one device, and that nobody waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import ugatit_cli
from tests import tiny
from tests.fakes import Watch, fake_device
from tests.helpers import images, picture
from tests.methods.test_contract import ALL, CASES, settings
from ugatit_cli.config import PRECISIONS, SCALES, MapName, Precision
from ugatit_cli.device import Group
from ugatit_cli.errors import DeviceError
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import method
from ugatit_cli.pictures.geometry import SizeOptions, plan_geometry
from ugatit_cli.pictures.styles import random_style
from ugatit_cli.training.trainer import as_input, make_networks
from ugatit_cli.translation import passes
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.networks import network_input
from ugatit_cli.weights.folder import open_model

CUDA, META = torch.device("cuda", 0), torch.device("meta")
MAPS: tuple[MapName, ...] = ("generator", *SCALES)


# To see that the tests themselves work, it may be the CPU.
GPU = os.environ.get("UGATIT_TEST_DEVICE", "cuda")
HERE = GPU == "cpu" or torch.cuda.is_available()
# Pretending, nothing is computed.
NEEDS_NO_DRIVER = pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="torch 2.6 asks a driver")


def on_a_gpu(precision: Precision, folder: Path, name: str) -> Any:
    """A model as if it were loaded for a GPU, and its networks, which are still to be moved there."""
    model = ugatit_cli.load(tiny.save(folder / "model", CASES[name].config, discriminators=True), device="cpu")
    model.precision = precision
    networks = [model.generator()]
    networks += [model.looking_discriminator("b", scale) for scale in SCALES if scale not in model.missing_maps]
    networks += [model.style_encoder()] if model.config.style_size else []
    model.device = CUDA
    return model, networks


@NEEDS_NO_DRIVER
@ALL
@pytest.mark.parametrize("precision", PRECISIONS)
def test_pictures_are_translated_on_a_gpu_that_nobody_waits_for(
    name: str, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, networks = on_a_gpu(precision, tmp_path, name)
    maps = [one for one in MAPS if one not in model.missing_maps]
    batch = [np.full((32, 48, 3), shade, np.uint8) for shade in range(3)]
    geometry = plan_geometry((48, 32), model.config, SizeOptions("aspect"))
    styles = [random_style(one, model.config.style_size) for one in batch] if model.config.style_size else []
    with fake_device(monkeypatch) as watch:
        for network in networks:
            network.to(CUDA)
        watch.waits.clear()
        seen = list(passes.look(model, batch, "a2b", [geometry] * 3, maps, 2, None, styles))
        if styles:
            assert networks[-1](network_input(batch, CUDA)).device == CUDA
    assert [one.pixels.shape for one in seen] == [(32, 48, 3)] * 3
    assert {*seen[0].maps} == {*maps}
    assert (watch.waits, watch.doubles) == ([], [])


@NEEDS_NO_DRIVER
def test_tiles_are_translated_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, networks = on_a_gpu("bf16", tmp_path, "ugatit")
    geometry = plan_geometry((200, 150), model.config, SizeOptions("native", 64))
    pixels = np.zeros((*reversed(geometry.network), 3), np.uint8)
    with fake_device(monkeypatch) as watch:
        for network in networks:
            network.to(CUDA)
        watch.waits.clear()
        (seen,) = passes.look(model, [pixels], "a2b", [geometry], MAPS)
    assert seen.pixels.shape == pixels.shape
    assert watch.waits == []


# How often a step waits for its GPU, in the warm-up and after it, for what only a CPU does: styles that the bytes of
# pictures decide, and pictures without edges.
WAITS = {"munit": (2, 0), "drit": (4, 0), "cartoongan": (0, 1)}


@ALL
def test_a_training_step_waits_for_no_gpu(name: str, vgg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = settings(name, vgg)
    networks = make_networks(run, META, None)
    step = method(name).step(networks, run.recipe, seed=0, group=Group())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    for number in range(max(2, step.period)):
        a, b = (one.to(META) for one in images(2, run.recipe.batch_size, 3, 32, 32))
        with Watch() as watch:
            losses = step(a, b, step=number, learning_rate=1e-3, copying=not number, progress=number / 5)
        assert {one.device for one in losses.values()} == {META}
        assert watch.doubles == []
        assert len(watch.waits) == WAITS.get(name, (0, 0))[min(number, 1)], watch.waits


@NEEDS_NO_DRIVER
def test_adam_waits_for_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {"a": torch.nn.Conv2d(3, 4, 3), "b": torch.nn.Linear(3, 3)}
    with fake_device(monkeypatch) as watch:
        for network in networks.values():
            network.to(CUDA).to(memory_format=torch.channels_last)
        adam = Adam(networks, Recipe(), lambda _: None)
        watch.waits.clear()
        for _ in range(2):
            for weight in adam.parameters.values():
                weight.grad = torch.ones_like(weight)
            adam.step()
    assert watch.waits == []
    assert {moment.device for moment in adam.tensors().values()} == {CUDA}


# --- Compiled ------------------------------------------------------------------------------------------


def test_compiling_is_for_gpus(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="--compile"):
        Model.from_folder("tiny", open_model(tiny.save(tmp_path / "model")), device="cpu", compiled=True)


def compiled_model(path: Path, monkeypatch: pytest.MonkeyPatch, compiler: Callable[..., Any]) -> Model:
    """As if it were compiled for a GPU."""
    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr("ugatit_cli.translation.model.require_compiler", lambda _: None)
    return Model.from_folder("tiny", open_model(path), device="cpu", precision="fp32", compiled=True)


def test_whole_pictures_are_compiled_and_tiles_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tiny.save(tmp_path / "model"), []

    def compiler(network: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def run(*inputs: object) -> object:
            calls.append(len(inputs))
            return network(*inputs)

        return run

    eager, model = ugatit_cli.load(path, device="cpu", precision="fp32"), compiled_model(path, monkeypatch, compiler)
    for tile, expected in (("auto", 1), (64, 1)):
        found = [one.translate(picture(100, 80), fit="native", tile=tile).tobytes() for one in (eager, model)]
        assert found[0] == found[1]
        assert len(calls) == expected


def test_what_cannot_be_compiled_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failure(RuntimeError):
        __module__ = "torch._inductor.exc"

    def compiler(*_: object, **__: object) -> Callable[..., Any]:
        def run(*_: object) -> None:
            raise Failure("no ptxas\nand much more")

        return run

    model = compiled_model(tiny.save(tmp_path / "model"), monkeypatch, compiler)
    with pytest.raises(DeviceError, match="compiled here: no ptxas") as caught:
        model.translate(picture(48, 32))
    assert "--compile" in str(caught.value.hint)


# --- With a GPU ----------------------------------------------------------------------------------------


def needs_gpu(test: Callable[..., None]) -> Callable[..., None]:
    marked: Callable[..., None] = pytest.mark.gpu(pytest.mark.skipif(not HERE, reason="needs a GPU")(test))
    return marked


def pixels_of(pictures: list[Image.Image]) -> npt.NDArray[np.int16]:
    return np.stack([np.asarray(one, np.int16) for one in pictures])


@needs_gpu
@ALL
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1.0), ("auto", 3.0)])
def test_it_translates_as_a_cpu_does(name: str, precision: str, most: float, tmp_path: Path) -> None:
    path = tiny.save(tmp_path / "model", CASES[name].config)
    cpu, gpu = (ugatit_cli.load(path, device=one, precision=how) for one, how in (("cpu", "fp32"), (GPU, precision)))
    pictures = [picture(48, 32, seed=seed) for seed in range(70)]  # more than one pass
    difference = np.abs(pixels_of(gpu.translate(pictures)) - pixels_of(cpu.translate(pictures)))
    assert difference.mean(axis=(1, 2, 3)).max() < most


@needs_gpu
def test_tiles_and_maps_are_as_a_cpu_makes_them(tmp_path: Path) -> None:
    path = tiny.save(tmp_path / "model", discriminators=True)
    cpu, gpu = (ugatit_cli.load(path, device=one, precision="fp32") for one in ("cpu", GPU))
    seen = [model.attention_maps([picture(150, 100)], fit="native", tile=64) for model in (cpu, gpu)]
    one, other = (pixels_of(list(result.translations)) for result in seen)
    assert np.abs(one - other).mean() < 1


@needs_gpu
@ALL
def test_it_trains_as_a_cpu_does(name: str, vgg: str) -> None:
    run, losses = settings(name, vgg), []
    for device in (torch.device("cpu"), torch.device(GPU)):
        step = method(name).step(make_networks(run, device, None), run.recipe, seed=0, group=Group())
        a, b = (as_input(one.mul(255).byte(), device) for one in images(2, run.recipe.batch_size, 3, 32, 32))
        found = [step(a, b, step=number, learning_rate=1e-3) for number in range(step.period)]
        losses.append({key: value.item() for one in found for key, value in one.items()})
    assert losses[1] == pytest.approx(losses[0], rel=0.02, abs=1e-3)


@needs_gpu
@pytest.mark.skipif(GPU == "cpu", reason="compiles for GPUs")
@pytest.mark.filterwarnings("default")
def test_compiled_it_is_the_same(tmp_path: Path) -> None:
    folder = open_model(tiny.save(tmp_path / "model"))
    eager, compiled = (Model.from_folder("tiny", folder, device=GPU, compiled=how) for how in (False, True))
    for count in (1, 3, 70):
        pictures = [picture(48, 32, seed=seed) for seed in range(count)]
        difference = np.abs(pixels_of(compiled.translate(pictures)) - pixels_of(eager.translate(pictures)))
        assert difference.mean() < 1

"""What can be known of GPUs without one: that all is there, of one type, on one device, and that nobody waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ugatit_cli
from tests import tiny
from tests.fakes import Watch, fake_device
from tests.helpers import images
from tests.methods.test_contract import ALL, CASES, settings
from ugatit_cli.config import DOMAINS, SCALES, MapName, Precision
from ugatit_cli.device import Group
from ugatit_cli.methods.adam import Adam
from ugatit_cli.methods.recipe import Recipe
from ugatit_cli.methods.registry import method
from ugatit_cli.nn.styles import random_style
from ugatit_cli.pictures.geometry import SizeOptions, plan_geometry
from ugatit_cli.training.trainer import make_networks
from ugatit_cli.translation import passes

CUDA, MPS, META = torch.device("cuda", 0), torch.device("mps", 0), torch.device("meta")
MAPS: tuple[MapName, ...] = ("generator", *SCALES)


def on(device: torch.device, precision: Precision, folder: Path, name: str) -> Any:
    """A model as if it were loaded for a device, and its networks, which are still to be moved there."""
    model = ugatit_cli.load(tiny.save(folder / "model", CASES[name].config, discriminators=True), device="cpu")
    model.precision = precision
    networks = [model.generator()]
    networks += [model.looking_discriminator("b", scale) for scale in SCALES if scale not in model.missing_maps]
    networks += [model.style_encoder()] if model.config.style_size else []
    model.device = device
    return model, networks


@ALL
@pytest.mark.parametrize(
    ("device", "precision"), [(CUDA, "fp32"), (CUDA, "bf16"), (CUDA, "fp16"), (MPS, "fp32"), (MPS, "fp16")], ids=str
)
def test_pictures_are_translated_on_a_gpu_that_nobody_waits_for(
    name: str, device: torch.device, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, networks = on(device, precision, tmp_path, name)
    maps = [one for one in MAPS if one not in model.missing_maps]
    batch = [np.full((32, 48, 3), shade, np.uint8) for shade in range(3)]
    geometry = plan_geometry((48, 32), model.config, SizeOptions("aspect"))
    styles = [random_style(one, model.config.style_size) for one in batch] if model.config.style_size else []
    with fake_device(monkeypatch) as watch:
        for network in networks:
            network.to(device)
        watch.waits.clear()
        seen = list(passes.look(model, batch, "a2b", [geometry] * 3, maps, 2, None, styles))
        if styles:
            assert networks[-1](passes.network_input(batch, device)).device == device
    assert [one.pixels.shape for one in seen] == [(32, 48, 3)] * 3
    assert {*seen[0].maps} == {*maps}
    assert watch.doubles == []
    if device == CUDA:
        assert watch.waits == []


def test_tiles_are_translated_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, networks = on(CUDA, "bf16", tmp_path, "ugatit")
    geometry = plan_geometry((200, 150), model.config, SizeOptions("native", 64))
    pixels = np.zeros((*reversed(geometry.network), 3), np.uint8)
    with fake_device(monkeypatch) as watch:
        for network in networks:
            network.to(CUDA)
        watch.waits.clear()
        (seen,) = passes.look(model, [pixels], "a2b", [geometry], MAPS)
    assert seen.pixels.shape == pixels.shape
    assert watch.waits == []


# Steps of training in which a GPU is waited for, and how often: for what only a CPU does.
WAITS = {"cartoongan": (0, 1)}


@ALL
def test_a_training_step_waits_for_no_gpu(name: str, vgg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = settings(name, vgg)
    networks = make_networks(run, META, None)
    step = method(name).step(networks, run.recipe, seed=0, group=Group())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    for number in range(1 + step.period):
        a, b = (one.to(META) for one in images(2, run.recipe.batch_size, 3, 32, 32))
        with Watch() as watch:
            losses = step(a, b, step=number, learning_rate=1e-3, copying=not number, progress=number / 5)
        assert {one.device for one in losses.values()} == {META}
        assert watch.doubles == []
        assert len(watch.waits) == WAITS.get(name, (0, 0))[min(number, 1)], watch.waits


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

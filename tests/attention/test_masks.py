"""Attention that is a mask (AGGAN's): it has no classifiers' answers, and is drawn on a scale of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests import tiny
from tests.cli.cam_results import CPU, array, document, shown
from tests.cli.conftest import Command, below, ugatit  # noqa: F401  # a fixture
from tests.helpers import picture, pixels, whole
from ugatit_cli import load
from ugatit_cli.attention.maps import AttentionMap, Floats, Grid, Spans, Style
from ugatit_cli.attention.words import legend, remark
from ugatit_cli.errors import ModelError
from ugatit_cli.methods.networks import tensors_of
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.layers import Network
from ugatit_cli.pictures import colormaps
from ugatit_cli.training.samples import draw_samples
from ugatit_cli.translation import passes
from ugatit_cli.translation.model import Model
from ugatit_cli.weights.folder import save_model


def translators() -> dict[str, Network]:
    """Networks whose masks are far from the same everywhere."""
    torch.manual_seed(1)
    networks = method_of(tiny.AGGAN).translators(tiny.AGGAN)
    for network in networks.values():
        network.attention.head.weight.data.mul_(50)
    return networks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "masked"
    critics = method_of(tiny.AGGAN).critics(tiny.AGGAN)
    save_model(path, tiny.AGGAN, tensors_of(translators()), tensors_of(critics))
    return path


@pytest.fixture
def model(folder: Path) -> Model:
    return load(folder, device="cpu", precision="fp32")


def mask(values: object) -> AttentionMap:
    found = np.asarray(values, np.float32)
    return AttentionMap("generator", found, None, Grid(4, 2), whole(4 * found.shape[1], 4 * found.shape[0]))


# --- One map -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [[[0.0, 0.25], [0.5, 0.75]], [[1.0, 1.0]], [[0.0]], [[0.5, 0.50048828125]]], ids=str
)
def test_its_scale_goes_from_0_to_1(values: Any) -> None:
    one = mask(values)
    assert not one.flat
    assert remark(one) == ""
    assert one.probabilities is None
    for span in (None, (0.25, 0.5)):
        np.testing.assert_array_equal(one.normalised(span), np.asarray(values, np.float32))
    assert (one.span[0], one.span[1]) == (np.min(values), np.max(values))


def test_one_that_is_no_number_is_flat() -> None:
    assert mask([[np.nan, 0.5]]).flat
    assert not mask([[np.nan, 0.5]]).normalised().any()


def test_its_legend_says_what_its_ends_are() -> None:
    for spans in (None, Spans.of([{"generator": mask([[0.25, 0.5]])}])):
        found = legend(Style(), spans, ["generator"], masks=True)
        assert "0" in found.low
        assert "1" in found.high
        assert "0.25" not in found.text


# --- Models --------------------------------------------------------------------------------------------


def heat(model: Model, x: np.ndarray[Any, Any]) -> Floats:
    picture = torch.from_numpy(x)[None].permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        return cast(Floats, model.generator("a2b")(picture).heatmap[0, 0].numpy())


def test_the_map_is_the_mask(model: Model) -> None:
    picture = pixels(64, 48)
    (seen,) = passes.look(model, [picture], "a2b", [whole(64, 48)], ("generator",))
    one = seen.maps["generator"]
    np.testing.assert_allclose(one.values, heat(model, picture), atol=1e-6)
    assert one.values.shape == (12, 16)
    assert one.logits is None
    assert one.span[1] - one.span[0] > 0.1
    (plain,) = passes.look(model, [picture], "a2b", [whole(64, 48)], ())
    np.testing.assert_array_equal(seen.pixels, plain.pixels)
    # In tiles it is put together from theirs.
    (tiled,) = passes.look(model, [picture], "a2b", [whole(64, 48, 32)], ("generator",))
    assert tiled.maps["generator"].logits is None
    assert tiled.maps["generator"].values.shape == (12, 16)
    assert 0 < tiled.maps["generator"].span[0] < tiled.maps["generator"].span[1] < 1


def test_what_the_mask_leaves_out_stays_as_it_is(tmp_path: Path) -> None:
    networks = translators()
    for network in networks.values():
        network.attention.head.bias.data.fill_(-100)
    save_model(tmp_path / "m", tiny.AGGAN, tensors_of(networks))
    found = load(tmp_path / "m", device="cpu", precision="fp32").translate(picture(32, 32), "a2b")
    assert found.tobytes() == picture(32, 32).tobytes()


def test_maps_of_the_api_compare_without_a_common_scale(model: Model) -> None:
    both = [picture(40, 32, seed=seed) for seed in range(2)]
    alone, together = (model.attention_maps(both, "a2b", normalize=how) for how in ("image", "batch"))
    for i in range(2):
        np.testing.assert_array_equal(alone.heat(i, "generator"), together.heat(i, "generator"))
    assert set(alone.missing) == {"local", "global"}


def test_discriminators_have_none(model: Model) -> None:
    with pytest.raises(ModelError, match="local"):
        model.attention_maps([picture(32, 32)], "a2b", maps="local")


def test_samples_show_it() -> None:
    networks = translators()
    for network in networks.values():
        network.attention.head.weight.data.zero_()
        network.attention.head.bias.data.fill_(100)
    black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    grid = np.asarray(draw_samples(networks, (black, black), tiny.AGGAN, device=torch.device("cpu")))
    wanted = np.asarray(Style().blended(picture(1, 1).point(lambda _: 0), np.ones((1, 1)))).ravel()
    assert (grid == wanted).all(2).sum() > 90 * 90


# --- The command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "normalize"), [("panel", "image"), ("overlay", "image"), ("heatmap", "batch"), ("raw", "batch")]
)
def test_every_layout(
    layout: str,
    normalize: str,
    folder: Path,
    model: Model,
    ugatit: Command,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(40, 32).save("x.png")
    options = ("--layout", layout, "--normalize", normalize, "--report", "page.html", *CPU)
    outcome = ugatit("cam", "x.png", "--model", folder, "--direction", "a2b", "-o", "out", *options)
    assert outcome.code == 0, outcome.stderr
    assert "p = " not in Path("page.html").read_text()
    maps = model.attention_maps([picture(40, 32)], "a2b")
    if layout == "raw":
        assert below("out") == ["x.generator.npy", "x.json"]
        np.testing.assert_array_equal(array("out/x.generator.npy"), maps.maps[0]["generator"].values)
        entry = document("out/x.json")["maps"]["generator"]
        assert set(entry) == {"file", "shape", "cells", "frame"}
        assert set(entry["frame"]) == {"low", "high", "flat"}
    if layout == "overlay":
        assert shown("out/x.generator.png").tobytes() == maps.overlay(0, "generator").tobytes()
    if layout == "heatmap":
        wanted = np.asarray(colormaps.coloured(maps.heat(0, "generator"), "inferno"))
        windows = np.lib.stride_tricks.sliding_window_view(np.asarray(shown("out/x.generator.png")), wanted.shape)
        assert (windows[:, :, 0] == wanted).all((2, 3, 4)).any()


def test_a_report_of_translations(
    folder: Path,
    ugatit: Command,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(40, 32).save("x.png")
    outcome = ugatit("translate", "x.png", "--model", folder, "-o", "out", "--report", "page.html", *CPU)
    assert outcome.code == 0, outcome.stderr
    assert "generator attention" in Path("page.html").read_text()

"""Edge smoothing against what OpenCV made of the same pictures, and its promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.helpers import pixels
from ugatit_cli.data.edges import blurred, canny, dilated, edge_smoothed, grey


@pytest.fixture(params=["a", "b"])
def recorded(golden: Path, request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    tensors = load_file(golden / "baselines" / "cartoongan" / "edges.safetensors")
    prefix = f"{request.param}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def test_edges_and_blur_are_opencvs_to_the_pixel(recorded: dict[str, np.ndarray]) -> None:
    edges = canny(recorded["grey"])
    assert 0 < edges.sum() < edges.size
    np.testing.assert_array_equal(edges, recorded["canny"] > 0)
    near = dilated(edges)
    np.testing.assert_array_equal(near, recorded["dilated"] > 0)
    picture = recorded["resized_rgb"]
    smoothed = np.where(near[..., None], blurred(picture), picture)
    np.testing.assert_array_equal(smoothed, recorded["smooth_rgb"])


def test_whole_smoothing_differs_from_opencvs_by_its_grey_alone(recorded: dict[str, np.ndarray]) -> None:
    picture = recorded["resized_rgb"]
    # OpenCV's PNG reader makes a grey that is up to 2 off its own conversion (README of the golden data).
    assert np.abs(grey(picture).astype(int) - recorded["grey"]).max() <= 2
    near = dilated(canny(grey(picture)))
    expected = np.where(near[..., None], blurred(picture), picture)
    np.testing.assert_array_equal(edge_smoothed(picture), expected)


def test_a_step_is_an_edge_and_a_ramp_is_none() -> None:
    step = np.zeros((20, 30, 3), np.uint8)
    step[:, 15:] = 200
    smoothed = edge_smoothed(step)
    changed = (smoothed != step).any(-1)
    assert changed.any(0).nonzero()[0].tolist() == [13, 14, 15, 16]
    assert changed[:, 13:17].all()
    ramp = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None], (20, 30, 3))
    np.testing.assert_array_equal(edge_smoothed(ramp), ramp)


def test_weak_edges_count_where_a_chain_joins_them_to_a_strong_one() -> None:
    luma = np.zeros((40, 40), np.uint8)
    # |dx| is 4 times the jump: 60 makes a strong edge, 40 a weak one.
    luma[:20, 20:] = 60
    luma[20:, 20:] = 40
    whole = canny(luma)
    assert whole[2:38].any(1).all()
    assert not canny(np.where(luma == 60, 40, luma).astype(np.uint8)).any()


@pytest.mark.parametrize("size", [(3, 3), (3, 50), (41, 7)])
def test_any_size_is_smoothed_and_turning_it_changes_nothing(size: tuple[int, int]) -> None:
    picture = pixels(*size)
    smoothed = edge_smoothed(picture)
    assert smoothed.shape == picture.shape
    assert smoothed.dtype == np.uint8
    np.testing.assert_array_equal(blurred(picture).swapaxes(0, 1), blurred(picture.swapaxes(0, 1)))

"""What a feature map says between its cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ugatit_cli.attention.maps import UPSAMPLINGS, Floats, Grid, Upsampling, sample
from ugatit_cli.errors import UsageError

small = st.floats(-8, 8, width=32)
maps = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=small)
strides = st.integers(1, 32)
# Where a map's first cell lies, in strides.
offsets = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5])


def pixels(side: int, length: float) -> Floats:
    """Centres of pixels that share a length evenly."""
    return np.asarray((np.arange(side) + 0.5) * (length / side), np.float32)


def at(*places: float) -> Floats:
    return np.array(places, np.float32)


# --- The stretched grid: what everyone else's resizing assumes -----------------------------------------


@given(maps, strides, st.tuples(st.integers(1, 40), st.integers(1, 40)), st.sampled_from(UPSAMPLINGS))
def test_a_stretched_map_is_what_torch_makes_of_it(
    values: Floats, stride: int, size: tuple[int, int], method: Upsampling
) -> None:
    height, width = values.shape
    rows, columns = pixels(size[0], height * stride), pixels(size[1], width * stride)
    expected = F.interpolate(torch.from_numpy(values)[None, None], size, mode=method, align_corners=False)[0, 0]
    result = sample(values, Grid(stride, stride / 2), rows, columns, method)
    assert result.dtype == np.float32
    assert result.shape == size
    # Positions are rounded: a picture of 40 pixels has 2**-17 of a cell for error, times the cubic's slopes.
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-4)


# --- Any grid ------------------------------------------------------------------------------------------


@given(maps, strides, offsets, st.sampled_from(UPSAMPLINGS))
def test_at_its_centre_a_cell_says_its_own_value(
    values: Floats, stride: int, first: float, method: Upsampling
) -> None:
    grid = Grid(stride, first * stride)
    rows, columns = (grid.centres(side) for side in values.shape)
    np.testing.assert_array_equal(sample(values, grid, rows, columns, method), values)


@given(st.tuples(small, small, small), strides, offsets, st.tuples(st.integers(2, 9), st.integers(2, 9)), st.data())
def test_a_ramp_stays_a_ramp_between_the_outer_centres(
    slopes: tuple[float, float, float], stride: int, first: float, shape: tuple[int, int], data: st.DataObject
) -> None:
    grid = Grid(stride, first * stride)
    at, down, right = slopes
    rows, columns = (grid.centres(side) for side in shape)
    values = np.asarray(at + down * rows[:, None] / stride + right * columns / stride, np.float32)
    within = st.lists(st.floats(0, 1), min_size=1, max_size=5)
    y, x = (
        np.asarray(centres[0] + np.array(data.draw(within)) * (centres[-1] - centres[0]), np.float32)
        for centres in (rows, columns)
    )
    expected = at + down * y[:, None] / stride + right * x / stride
    np.testing.assert_allclose(sample(values, grid, y, x), expected, rtol=0, atol=1e-4)


@given(maps, strides, offsets, st.floats(0, 100), st.sampled_from(UPSAMPLINGS))
def test_beyond_the_outer_centres_it_goes_on(
    values: Floats, stride: int, first: float, distance: float, method: Upsampling
) -> None:
    grid = Grid(stride, first * stride)
    rows, columns = (grid.centres(side) for side in values.shape)
    # A cubic reaches one cell further before it finds nothing but the outermost one.
    far = distance if method == "bilinear" else distance + stride
    before = sample(values, grid, at(rows[0] - far), at(columns[0] - far), method)
    after = sample(values, grid, at(rows[-1] + far), at(columns[-1] + far), method)
    np.testing.assert_allclose([before[0, 0], after[0, 0]], [values[0, 0], values[-1, -1]], rtol=0, atol=2e-5)


def test_rows_are_rows() -> None:
    values = np.zeros((2, 5), np.float32)
    values[1, 4] = 1
    result = sample(values, Grid(8, 8), at(8, 16, 20), at(8, 36, 40, 60))
    np.testing.assert_array_equal(result, [[0, 0, 0, 0], [0, 0.5, 1, 1], [0, 0.5, 1, 1]])


def test_the_values_stay_as_they_were() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    sample(values, Grid(4, 2), pixels(8, 8), pixels(12, 12), "bicubic")
    np.testing.assert_array_equal(values.ravel(), np.arange(6))


@pytest.mark.parametrize("method", ["", "nearest", "Bicubic"])
def test_an_unknown_method(method: str) -> None:
    with pytest.raises(UsageError, match="up-sampling") as caught:
        sample(np.zeros((2, 2), np.float32), Grid(4, 2), pixels(2, 8), pixels(2, 8), method)  # type: ignore[arg-type]
    assert repr(method) in caught.value.message
    for name in UPSAMPLINGS:
        assert name in caught.value.hint

"""Numbers as colours."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ugatit_cli.errors import UsageError
from ugatit_cli.pictures.colormaps import colour, coloured

ENDS = {
    "inferno": ((0, 0, 4), (252, 255, 164)),
    "inferno_r": ((252, 255, 164), (0, 0, 4)),
    "viridis": ((68, 1, 84), (253, 231, 37)),
    "jet": ((0, 0, 128), (128, 0, 0)),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_ends_are_those_of_the_published_map(name: str) -> None:
    assert np.abs(colour(np.array([0.0, 1.0]), name).astype(int) - ENDS[name]).max() <= 1


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(width=32)))
def test_any_number_has_a_colour(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    result = colour(values)
    assert result.shape == (*values.shape, 3)
    assert result.dtype == np.uint8
    within = np.where(np.isnan(values), 0, np.clip(values, 0, 1))
    assert (result == colour(within)).all()


@pytest.mark.parametrize("name", [*ENDS, "gray", "tab10"])
@given(values=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats(width=32)))
def test_a_picture_has_the_same_colours(name: str, values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    picture = coloured(values, name)
    assert picture.mode == "RGB"
    assert picture.size == values.shape[::-1]
    assert (np.asarray(picture) == colour(values, name)).all()


@pytest.mark.parametrize("name", ["", "nosuch", "_r", "a:b", "日本", "x" * 5000])
def test_an_unknown_name_is_answered_with_good_ones(name: str) -> None:
    with pytest.raises(UsageError, match="colour map") as caught:
        colour(np.zeros(1), name)
    assert repr(name) in caught.value.message
    with pytest.raises(UsageError, match="colour map"):
        coloured(np.zeros((1, 1)), name)
    for word in ("inferno", "viridis", "jet"):
        assert word in caught.value.hint


def test_the_maps_are_loaded_only_when_used() -> None:
    code = "import sys, ugatit_cli.pictures.colormaps; sys.exit('cmap' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

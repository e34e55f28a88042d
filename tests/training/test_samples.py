"""Sample grids: what is where, and that drawing one leaves the training alone."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from tests.tiny import LIGHT, MUNIT
from ugatit_cli.attention.maps import Style
from ugatit_cli.config import BaseConfig, Direction, ModelConfig
from ugatit_cli.methods.configs import CartoonGANConfig
from ugatit_cli.methods.registry import method_of
from ugatit_cli.nn.generator import Translation
from ugatit_cli.nn.layers import Network
from ugatit_cli.pictures.drawing import BACKGROUND
from ugatit_cli.pictures.geometry import Colour
from ugatit_cli.training.samples import _GAP, _MARGIN, cell_side, draw_samples

CPU = torch.device("cpu")
Box = tuple[int, int, int, int]
RED, ORANGE = (255, 0, 0), (255, 128, 0)

printable = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\,:"), max_size=60)


class Fake(nn.Module):
    """Does something recognisable to colours: a2b rolls the channels, b2a inverts them."""

    def __init__(self, direction: Direction, config: BaseConfig = LIGHT) -> None:
        super().__init__()
        self.direction = direction
        self.cam = config.lacks("generator") is None
        self.part = nn.Linear(1, 1)
        self.calls: list[tuple[tuple[int, ...], torch.dtype, bool, bool]] = []

    def forward(self, x: Tensor) -> Translation:
        self.calls.append((tuple(x.shape), x.dtype, self.part.training, torch.is_grad_enabled()))
        cam_logit, heat = (x.new_zeros(len(x), 2), self.heat(x)) if self.cam else (None, None)
        return Translation(self.paint(x), cam_logit, heat)

    def paint(self, x: Tensor) -> Tensor:
        return x.roll(1, 1) if self.direction == "a2b" else -x

    def heat(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 1, x.shape[2] // 4, x.shape[3] // 4), 7.0)


class Keep(Fake):
    """Gives back what it gets, attending to the left upper corner."""

    def paint(self, x: Tensor) -> Tensor:
        return x

    def heat(self, x: Tensor) -> Tensor:
        heat = super().heat(x).zero_()
        heat[:, :, :2, :2] = 5
        return heat


class Broken(Fake):
    """What a network gives after training went wrong."""

    def paint(self, x: Tensor) -> Tensor:
        return torch.full_like(x, torch.nan)

    def heat(self, x: Tensor) -> Tensor:
        return super().heat(x) * torch.nan


def fakes(kind: type[Fake] = Fake, config: BaseConfig = LIGHT) -> dict[str, Network]:
    return {direction: cast(Network, kind(direction, config)) for direction in config.directions}


def plain(*colours: Colour, side: int = 32) -> Tensor:
    return torch.tensor(colours, dtype=torch.uint8).view(-1, 3, 1, 1).expand(-1, -1, side, side)


def draw(samples: tuple[Tensor, Tensor], kind: type[Fake] = Fake, config: BaseConfig = LIGHT) -> Image.Image:
    return draw_samples(fakes(kind, config), samples, config, device=CPU)


def box(grid: Image.Image, colour: Colour) -> Box:
    """Where all pixels of a colour are: a whole rectangle (left, top, right, bottom)."""
    found = (np.asarray(grid) == colour).all(2)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    assert found[top:bottom, left:right].all()
    return left, top, right, bottom


def overlaid(colour: Colour) -> Colour:
    """A colour under no attention."""
    pixel = np.asarray(Style().blended(Image.new("RGB", (1, 1), colour), np.zeros((1, 1))))[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


@pytest.mark.parametrize("cam", [True, False])
def test_columns_are_in_order_for_both_domains(cam: bool) -> None:
    grid = draw((plain(RED), plain(ORANGE)), config=dataclasses.replace(LIGHT, generator_cam=cam))
    a = [RED, *[overlaid(RED)] * cam, (0, 255, 0), (255, 0, 255), (0, 255, 255)]
    b = [ORANGE, *[overlaid(ORANGE)] * cam, (0, 127, 255), (255, 0, 127), (0, 255, 128)]
    for colours in (a, b):
        boxes = [box(grid, colour) for colour in colours]
        assert [left for left, *_ in boxes] == [_MARGIN + (96 + _GAP) * i for i in range(len(colours))]
        assert all((right - left, bottom - top) == (96, 96) for left, top, right, bottom in boxes)
        assert len({top for _, top, *_ in boxes}) == 1
        assert boxes[-1][2] == grid.width - _MARGIN
    assert box(grid, a[0])[3] < box(grid, b[0])[1]


@pytest.mark.parametrize("config", [dataclasses.replace(LIGHT, ways="a2b"), CartoonGANConfig()], ids=["CAM", "none"])
def test_one_way_has_no_way_back(config: BaseConfig) -> None:
    grid = draw((plain(RED), plain(ORANGE)), config=config)
    colours = [RED, *[overlaid(RED)] * (config.lacks("generator") is None), (0, 255, 0)]
    boxes = [box(grid, colour) for colour in colours]
    assert boxes[-1][2] == grid.width - _MARGIN
    assert boxes[-1][3] == grid.height - _MARGIN
    assert not (np.asarray(grid) == ORANGE).all(2).any()  # which nothing translates


def test_a_method_with_styles_shows_some() -> None:
    torch.manual_seed(1)
    translators = method_of(MUNIT).translators(MUNIT)
    pictures = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    sheet = draw_samples(translators, (pictures, pictures[:1]), MUNIT, device=CPU)
    step = cell_side(16) + _GAP
    assert sheet.width == 2 * _MARGIN + 5 * step - _GAP  # the input and four styles
    row = sheet.crop((_MARGIN, sheet.height - _MARGIN - cell_side(16), sheet.width - _MARGIN, sheet.height - _MARGIN))
    cells = [row.crop((i * step, 0, i * step + cell_side(16), row.height)).tobytes() for i in range(5)]
    assert len(set(cells)) == 5


def test_each_picture_has_its_row() -> None:
    colours = [(200, 10 * i, 50) for i in range(4)]
    grid = draw((plain(*colours[:3]), plain(colours[3])))
    tops = [box(grid, colour)[1] for colour in colours]
    assert np.diff(tops[:3]).tolist() == [96 + _GAP] * 2
    assert tops[3] > tops[2] + 96 + _MARGIN
    assert grid.height == tops[3] + 96 + _MARGIN


def test_a_domain_without_pictures_is_left_out() -> None:
    none, whole = torch.empty(0, 3, 32, 32, dtype=torch.uint8), draw((plain(RED), plain(RED)))
    for half in (draw((none, plain(RED))), draw((plain(RED), none))):
        assert half.width == whole.width
        assert 2 * (half.height - _MARGIN) == whole.height - _MARGIN


@given(st.integers(4, 1024).map(lambda n: 4 * n))
@example(256)
def test_any_training_size_has_a_cell(size: int) -> None:
    assert 96 <= cell_side(size) <= 256
    assert cell_side(size) % size == 0 if size < 256 else cell_side(size) == 256


def test_every_value_of_a_byte_comes_back() -> None:
    picture = torch.arange(3072).remainder(256).to(torch.uint8).view(1, 3, 32, 32)
    grid = np.asarray(draw((picture, picture), Keep))
    bottom = grid.shape[0] - _MARGIN
    cells = [grid[bottom - 96 : bottom, left : left + 96] for left in range(_MARGIN, grid.shape[1] - 96, 96 + _GAP)]
    expected = picture[0].permute(1, 2, 0).numpy().repeat(3, 0).repeat(3, 1)
    for column in (0, 2, 3, 4):
        assert (cells[column] == expected).all()
    assert not (cells[1] == expected).all()


def test_attention_is_where_the_network_looks() -> None:
    black = plain((0, 0, 0))
    grid = np.asarray(draw((black, black), Keep))
    top, left = grid.shape[0] - _MARGIN - 96, _MARGIN + 96 + _GAP
    cell = grid[top : top + 96, left : left + 96].sum(2, dtype=int)
    assert cell[5, 5] == np.asarray(Style().blended(Image.new("RGB", (1, 1)), np.ones((1, 1)))).sum()
    assert cell[90, 90] == cell[5, 90] == cell[90, 5] < cell[5, 5]


def test_results_that_are_no_numbers_are_grey() -> None:
    grid = draw((plain(RED), plain(ORANGE)), Broken)
    assert box(grid, RED)[0] == _MARGIN
    assert box(grid, overlaid(RED))[0] == _MARGIN + 96 + _GAP
    assert (np.asarray(grid) == 128).all(2).sum() >= 6 * 96 * 96


def names(config: ModelConfig) -> npt.NDArray[np.uint8]:
    return np.asarray(draw((plain(RED), plain(RED)), config=config))


def test_labels_name_the_domains() -> None:
    grid, other = names(LIGHT), names(dataclasses.replace(LIGHT, domain_b="stone"))
    rows, columns = np.nonzero((grid != other).any(2))
    first = box(Image.fromarray(grid[: len(grid) // 2]), RED)[1]
    # In the headings of both halves, over the translation of the one and the reconstruction of the other.
    assert rows.min() < first < first + 96 < rows.max()
    titles = (rows >= first - 20) & (rows < first - 2)
    step = 96 + _GAP
    assert _MARGIN + 2 * step <= columns[titles].min() <= columns[titles].max() < _MARGIN + 3 * step
    assert columns.min() >= _MARGIN


@settings(max_examples=25)
@example("日本の絵", "مرحبا")
@example("🦓", "a→b")
@example("{x} %s", "W" * 5000)
@given(printable, printable)
def test_any_domain_names_stay_inside(a: str, b: str) -> None:
    grid = names(dataclasses.replace(LIGHT, domain_a="a" + a, domain_b="b" + b))
    assert grid.shape == names(LIGHT).shape
    for edge in (grid[:, : _MARGIN - 2], grid[:, 2 - _MARGIN :], grid[:_MARGIN], grid[-_MARGIN:]):
        assert (edge == BACKGROUND).all()


def test_networks_see_one_picture_at_a_time_and_stay_as_they_are() -> None:
    generators, state = fakes(), torch.get_rng_state()
    draw_samples(generators, (plain(RED, ORANGE), plain(RED)), LIGHT, device=CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    for generator in generators.values():
        fake = cast(Fake, generator)
        assert set(fake.calls) == {((1, 3, 32, 32), torch.float32, False, False)}
        assert fake.part.training
    assert len(cast(Fake, generators["a2b"]).calls) == 2 * 1 + 1 * 2

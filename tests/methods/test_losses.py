"""Augmentation: what it does to a picture, and that gradients go through it; and extremes of the CAM loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import images
from ugatit_cli.methods.losses import _cutout, _recoloured, _translated, augment, cam_loss


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 2**63 - 1), st.integers(1, 3), st.sampled_from([(16, 16), (32, 48), (20, 36)]))
def test_the_source_decides_everything(seed: int, n: int, size: tuple[int, int]) -> None:
    x = images(1, 3, *size).expand(n, -1, -1, -1)
    before = torch.get_rng_state()
    one, other = augment(x, source(seed)), augment(x, source(seed))
    assert torch.equal(one, other)
    assert one.shape == x.shape
    assert one.dtype == x.dtype
    assert not torch.equal(one, augment(x, source(seed ^ 1)))
    assert all(not torch.equal(one[i], one[j]) for i in range(n) for j in range(i))  # each picture has its own
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_are_those_of_what_is_seen() -> None:
    x = images(1, 3, 16, 16).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, source(3)), x)


def test_shifts_reach_an_eighth_and_never_wrap() -> None:
    rows = torch.arange(1.0, 33)[:, None].expand(32, 32)
    places = torch.stack([rows, rows.T, torch.ones(32, 32)])[None]
    seen = set()
    for seed in range(400):
        (moved,) = _translated(places, source(seed))
        inside = moved[2] == 1
        row, column = inside.nonzero()[0].tolist()
        down, right = (int(moved[i, row, column]) - 1 - place for i, place in enumerate((row, column)))
        seen.add((-down, -right))
        assert int(inside.sum()) == (32 - abs(down)) * (32 - abs(right))
        assert (moved[:, ~inside] == 0).all()
        expected = places[0, :2] - torch.tensor([-down, -right])[:, None, None]
        assert torch.equal(moved[:2, inside], expected[:, inside])
    assert {down for down, _ in seen} == {right for _, right in seen} == set(range(-4, 5))


@pytest.mark.parametrize("size", [(32, 32), (20, 44)])
def test_the_hole_is_half_as_wide_and_high_or_cut_by_the_border(size: tuple[int, int]) -> None:
    height, width = size
    areas = []
    for seed in range(200):
        hole = _cutout(torch.ones(1, 3, height, width), source(seed))[0] == 0
        assert (hole == hole[:1]).all()
        rows, columns = hole[0].any(1), hole[0].any(0)
        assert torch.equal(hole[0], rows[:, None] & columns)  # one rectangle
        assert height // 4 <= rows.sum() <= height // 2
        assert width // 4 <= columns.sum() <= width // 2
        areas.append(int(hole[0].sum()))
    assert max(areas) == (height // 2) * (width // 2)
    assert min(areas) < max(areas) / 2


def test_colours_change_by_brightness_saturation_and_contrast() -> None:
    x = images(1, 3, 4, 4).expand(2000, -1, -1, -1)
    result = _recoloured(x, source())
    shift = (result - x).mean((1, 2, 3))
    assert shift.abs().max() <= 0.5 + 1e-5
    assert shift.std().item() == pytest.approx(1 / 12**0.5, rel=0.05)
    grey = result.mean(1)
    contrast = grey.std((1, 2)) / x.mean(1).std((1, 2))
    assert contrast.min() > 0.5 - 1e-4
    assert contrast.max() < 1.5 + 1e-4
    assert contrast.mean().item() == pytest.approx(1, rel=0.03)
    before, after = x - x.mean(1, keepdim=True), result - grey[:, None]
    saturation = after.flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1) / contrast
    assert saturation.min() < 0.05
    assert saturation.max() < 2 + 1e-3
    assert saturation.mean().item() == pytest.approx(1, rel=0.05)
    hue = torch.cosine_similarity(before.flatten(1), after.flatten(1))
    assert hue.min() > 0.99


def test_the_cam_loss_of_large_logits_is_finite() -> None:
    assert cam_loss(torch.tensor([[300.0, -300.0]]), source=True).item() == 150

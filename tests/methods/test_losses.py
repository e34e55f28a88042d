"""Losses by hand-computed numbers."""

from __future__ import annotations

import math

import pytest
import torch

from ugatit_cli.methods.losses import cam_loss, cycle_loss, identity_loss, lsgan_loss


def test_least_squares() -> None:
    scores = torch.tensor([[[[1.0, 0.0], [3.0, -1.0]]]])
    assert lsgan_loss(scores, real=True).item() == (0 + 1 + 4 + 4) / 4
    assert lsgan_loss(scores, real=False).item() == (1 + 0 + 9 + 1) / 4


def test_cycle_and_identity_are_mean_distances() -> None:
    one, other = torch.tensor([[[[0.5, -1.0]]]]), torch.tensor([[[[-0.5, 0.0]]]])
    assert cycle_loss(one, other).item() == 1
    assert identity_loss(one, one).item() == 0
    assert identity_loss(one, 3 * one).item() == 1.5


def test_cam_loss_is_the_cross_entropy_of_being_of_the_source() -> None:
    logit = torch.tensor([[0.0, 2.0], [-1.0, 0.5]])
    chances = [1 / (1 + math.exp(-x)) for x in logit.flatten().tolist()]
    assert cam_loss(logit, source=True).item() == pytest.approx(-sum(map(math.log, chances)) / 4)
    assert cam_loss(logit, source=False).item() == pytest.approx(-sum(math.log(1 - p) for p in chances) / 4)
    large = torch.tensor([[300.0, -300.0]])
    assert cam_loss(large, source=True).item() == 150  # and not infinite

"""The losses of U-GAT-IT as pure functions, named as in the paper (section 2.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def lsgan_loss(scores: Tensor, *, real: bool) -> Tensor:
    """The least-squares adversarial loss (paper section 2.2, after Mao et al. 2017), mean over all scores.

    Also the discriminators' CAM loss, on their CAM logits.

    Args:
        scores: patch scores (N, 1, H, W), or CAM logits (N, 2).
        real: whether the scores should say real (1) or translated (0).
    """
    return (scores - 1).square().mean() if real else scores.square().mean()


def cycle_loss(reconstruction: Tensor, picture: Tensor) -> Tensor:
    """L1 between a picture and its translation there and back; both (N, 3, H, W)."""
    return F.l1_loss(reconstruction, picture)


def identity_loss(translated: Tensor, picture: Tensor) -> Tensor:
    """L1 between a picture of the target domain and its "translation" into that domain; both (N, 3, H, W)."""
    return F.l1_loss(translated, picture)


def cam_loss(cam_logit: Tensor, *, source: bool) -> Tensor:
    """The generator's CAM loss: cross entropy of "this is the source domain", mean over both branches.

    Args:
        cam_logit: (N, 2).
        source: whether the picture is one of the source domain.
    """
    return F.binary_cross_entropy_with_logits(cam_logit, torch.full_like(cam_logit, float(source)))

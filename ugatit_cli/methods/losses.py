"""The losses (paper section 2.2), and the augmentation of what discriminators see."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ugatit_cli.device import sent


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


# Of height and width: how far pictures are shifted at most, and how large the hole is.
TRANSLATION = 1 / 8
CUTOUT = 1 / 2


def augment(x: Tensor, source: torch.Generator) -> Tensor:
    """Each picture with its own random colour change, shift and hole (DiffAugment, Zhao et al. 2020).

    With few pictures a discriminator learns them by heart; augmented alike, real and translated ones, it can't, and
    the generator still gets its gradient through the augmentation.

    Args:
        x: (N, 3, H, W) in [-1, 1], any device.
        source: where the random numbers come from, on the CPU, so that every device draws the same.

    Returns:
        (N, 3, H, W); colours may leave [-1, 1], what is shifted in and cut out is 0. Differentiable.
    """
    return _cutout(_translated(_recoloured(x, source), source), source)


def _uniform(n: int, low: float, high: float, source: torch.Generator, like: Tensor) -> Tensor:
    return sent(torch.empty(n, 1, 1, 1).uniform_(low, high, generator=source), like.device)


def _recoloured(x: Tensor, source: torch.Generator) -> Tensor:
    n = len(x)
    x = x + _uniform(n, -0.5, 0.5, source, x)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * _uniform(n, 0, 2, source, x) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * _uniform(n, 0.5, 1.5, source, x) + mean


def _offsets(n: int, low: int, high: int, source: torch.Generator) -> list[int]:
    return torch.randint(low, high + 1, (n,), generator=source).tolist()


def _translated(x: Tensor, source: torch.Generator) -> Tensor:
    height, width = x.shape[2:]
    down, right = round(height * TRANSLATION), round(width * TRANSLATION)
    padded = F.pad(x, (right, right, down, down))
    tops, lefts = _offsets(len(x), 0, 2 * down, source), _offsets(len(x), 0, 2 * right, source)
    return torch.stack(
        [
            picture[:, top : top + height, left : left + width]
            for picture, top, left in zip(padded, tops, lefts, strict=True)
        ]
    )


def _cutout(x: Tensor, source: torch.Generator) -> Tensor:
    height, width = x.shape[2:]
    rows, columns = round(height * CUTOUT), round(width * CUTOUT)
    mask = torch.ones(len(x), 1, height, width)
    middles = zip(_offsets(len(x), 0, height, source), _offsets(len(x), 0, width, source), strict=True)
    for i, (top, left) in enumerate(middles):
        mask[i, :, max(0, top - rows // 2) : top + rows // 2, max(0, left - columns // 2) : left + columns // 2] = 0
    return x * sent(mask, x.device)

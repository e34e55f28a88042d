"""What the networks' comparisons with the reference leave open of the CAM."""

from __future__ import annotations

import torch

from tests.reference import randomize
from ugatit_cli.nn.attention import ClassActivationMap

CAM = randomize(ClassActivationMap(6, dialect="pytorch", slope=0.0, spectral=False), 7).eval()


def test_the_maximum_of_negative_features_is_negative() -> None:
    x = -1 - torch.rand(1, 6, 3, 3)
    assert CAM.gmp is not None
    _, logits, _ = CAM(x)
    torch.testing.assert_close(logits[0, 1], (x.amax((2, 3)) @ CAM.gmp.weight.T)[0, 0])


def test_half_precision_keeps_logits_and_heatmap_in_float32() -> None:
    x = torch.randn(1, 6, 4, 4)
    features, logits, heatmap = CAM(x.bfloat16())
    assert (features.dtype, logits.dtype, heatmap.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    torch.testing.assert_close(logits, CAM(x)[1], rtol=0.05, atol=0.05)

"""The discriminator: PatchGAN layers under spectral norm with CAM attention (paper section 2.1.2, appendix B)."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import ModelConfig, Scale
from ugatit_cli.nn.attention import ClassActivationMap
from ugatit_cli.nn.layers import Network, padding
from ugatit_cli.nn.spectral import SpectralConv2d

SLOPE = 0.2


class DiscriminatorOutput(NamedTuple):
    """What a discriminator returns.

    Attributes:
        logit: (N, 1, H', W') float32, one score per patch: 1 means real (LSGAN).
        cam_logit: (N, 2) float32 logits of the CAM classifiers (average, maximum); None without CAM.
        heatmap: (N, 1, H'', W'') float32, unnormalised attention; None without CAM.
    """

    logit: Tensor
    cam_logit: Tensor | None
    heatmap: Tensor | None


class Discriminator(Network):
    """Tells pictures of a domain from translations into it, patch by patch.

    The local one (5 layers) sees 70x70 patches, the global one (7 layers) 286x286.
    Takes at least 3 * 2**(layers - 2) pixels a side.
    """

    def __init__(self, config: ModelConfig, scale: Scale) -> None:
        super().__init__()
        channels = config.discriminator_channels
        strided = config.layers(scale) - 2
        widths = [3, *(channels * 2**i for i in range(strided + 1))]
        # 4x4 kernels of stride 1: the TensorFlow code pads an extra pixel at the right and bottom.
        pad = padding(1, extra=1 if config.dialect == "tensorflow" else 0)
        self.layers = nn.ModuleList(
            SpectralConv2d(widths[i], widths[i + 1], 4, pad=padding(1), stride=2, bias=True) for i in range(strided)
        )
        self.layers.append(SpectralConv2d(widths[-2], widths[-1], 4, pad=pad, bias=True))
        self.cam = (
            ClassActivationMap(widths[-1], dialect=config.dialect, slope=SLOPE, spectral=True)
            if config.discriminator_cam
            else None
        )
        self.head = SpectralConv2d(widths[-1], 1, 4, pad=pad, bias=config.dialect == "tensorflow")

    def set_precision(self, dtype: torch.dtype) -> Self:
        """Spectral norms become part of the convolutions' weights, which are cast: for use, not for training."""
        for module in self.modules():
            if isinstance(module, SpectralConv2d):
                module.fold(dtype)
        return self

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        """Scores.

        Args:
            x: (N, 3, H, W) float in [-1, 1].
        """
        x = x.to(self.compute_dtype or self.head.weight.dtype)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE, inplace=True)  # (N, C * 2**i, H / 2**(i+1), W / 2**(i+1))
        cam_logit = heatmap = None
        if self.cam is not None:
            x, cam_logit, heatmap = self.cam(x)
        return DiscriminatorOutput(self.head(x).float(), cam_logit, heatmap)

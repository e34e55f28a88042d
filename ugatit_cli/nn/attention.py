"""The CAM attention module of generator and discriminator (paper section 2.1, after Zhou et al. 2016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.config import Dialect
from ugatit_cli.device import is_traced
from ugatit_cli.nn import whole
from ugatit_cli.nn.layers import initial_weight
from ugatit_cli.nn.normalization import channel_moments
from ugatit_cli.nn.spectral import SpectralNorm, normalised_weight


class DomainClassifier(nn.Module):
    """One linear unit on pooled features: does the picture come from the source domain (is it real)?"""

    def __init__(self, features: int, *, bias: bool, spectral: bool) -> None:
        super().__init__()
        self.weight = initial_weight(1, features)
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None
        self.norm = SpectralNorm(self.weight) if spectral else None

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(N, features) -> logit (N, 1), and the attention that its weights pay to the features, (1, features)."""
        weight = self.weight if self.norm is None else normalised_weight(self.weight, self.norm, self.weight.dtype)
        attention = self.weight if self.bias is None else weight + self.bias
        return F.linear(pooled, weight, self.bias), attention


class ClassActivationMap(nn.Module):
    """Weights the feature map by the classifiers' weights and mixes both branches with a 1x1 convolution.

    Args:
        features: channels of the feature map.
        dialect: `pytorch` has a classifier per branch, without bias, and attends with the raw weights;
            `tensorflow` shares one between both branches and attends with normalised weight plus bias.
        slope: negative slope of the activation (0 in generators, 0.2 in discriminators).
        spectral: spectral norm on the classifiers (discriminators).
    """

    def __init__(self, features: int, *, dialect: Dialect, slope: float, spectral: bool) -> None:
        super().__init__()
        self.shared = dialect == "tensorflow"
        self.slope = slope
        self.gap = DomainClassifier(features, bias=self.shared, spectral=spectral)
        self.gmp = None if self.shared else DomainClassifier(features, bias=False, spectral=spectral)
        self.weight = initial_weight(features, 2 * features, 1, 1)
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attends.

        Args:
            x: (N, C, H, W) features.

        Returns:
            features (N, C, H, W) in the dtype of x; CAM logits (N, 2) float32, average-pooling branch first;
            heatmap (N, 1, H, W) float32, the sum of the features over channels.
        """
        average, _ = channel_moments(x)  # (N, C)
        maximum = whole.pooled(F.adaptive_max_pool2d(x, 1).flatten(1).to(average.dtype), maximum=True)  # (N, C)
        gap_logit, gap_attention = self.gap(average)
        gmp_logit, gmp_attention = (self.gmp or self.gap)(maximum)
        x = self._mix(x, gap_attention, gmp_attention)
        x = F.leaky_relu(x, self.slope, inplace=True) if self.slope else x.relu_()
        heatmap = x.sum(1, keepdim=True, dtype=torch.float32)
        return x, torch.cat([gap_logit, gmp_logit], 1), heatmap

    def _mix(self, x: Tensor, gap_attention: Tensor, gmp_attention: Tensor) -> Tensor:
        """The 1x1 convolution of concat(x * gap_attention, x * gmp_attention)."""
        gap, gmp = gap_attention[:, :, None, None], gmp_attention[:, :, None, None]
        if not is_traced() and len(x) * x.shape[2] * x.shape[3] < x.shape[1]:
            # Fewer pixels than channels: the weight is the larger part, and is best read once and as it is.
            both = torch.cat([x * gap, x * gmp], 1).to(self.weight.dtype).movedim(1, -1)  # (N, H, W, 2C)
            return F.linear(both, self.weight.flatten(1), self.bias).movedim(-1, 1).to(x.dtype)
        # conv1x1(concat(x * a, x * b)) = conv1x1'(x): scaling the kernel instead of the map halves the work.
        gap_kernel, gmp_kernel = self.weight.chunk(2, dim=1)  # (C, C, 1, 1) each
        kernel = gap_kernel * gap + gmp_kernel * gmp
        return F.conv2d(x, kernel.to(x.dtype), self.bias.to(x.dtype))

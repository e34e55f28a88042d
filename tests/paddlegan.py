"""U-GAT-IT's weights in the layout of PaddleGAN, the file that `selfie2anime` is downloaded as.

As its trainer.py (`save`), filesystem.py, modules/norm.py and generators/resnet_ugatit.py write it.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]
NORMED = re.compile(r"(DownBlock\.(?:\d+\.conv_block\.)?)(\d+)\.weight")


def written(networks: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    """The file, of the official PyTorch code's state dicts: genA2B, genB2A, disGA, ..."""
    arrays = {key: {name: _array(one) for name, one in state.items()} for key, state in networks.items()}
    for key in arrays:
        if key.startswith("gen"):
            arrays[key] |= _norms(arrays[key])
    return pickle.dumps(arrays, protocol=2)


def _array(tensor: Tensor) -> Array:
    """Linear layers are (in, out) there."""
    return np.ascontiguousarray((tensor.T if tensor.ndim == 2 else tensor).detach().numpy())


def _norms(state: Mapping[str, Array]) -> dict[str, Array]:
    """Instance norms behind the encoder's convolutions, whose factors and offsets are never trained."""
    found = {}
    for name, kernel in state.items():
        if match := NORMED.fullmatch(name):
            norm = f"{match[1]}{int(match[2]) + 1}"
            found[f"{norm}.scale"] = np.ones(len(kernel), np.float32)
            found[f"{norm}.bias"] = np.zeros(len(kernel), np.float32)
    return found

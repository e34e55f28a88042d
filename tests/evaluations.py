"""Small folders of pictures to evaluate, and networks for features that are as large as real ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ugatit_cli.weights.folder import write_tensors


def save_pictures(
    folder: Path, count: int, *, size: tuple[int, int] = (16, 16), seed: int = 0, suffix: str = ".png"
) -> Path:
    """Noise named 0, 1, 2, ..., the same every time; `size` is (width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng([seed, number]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}{suffix}")
    return folder


def random_weights(network: nn.Module) -> dict[str, Tensor]:
    """Half-precision tensors for a network on the device `meta`, with which activations stay as large as they are."""
    source = torch.Generator().manual_seed(0)
    weights = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        values = torch.randn(tensor.shape, generator=source)
        if tensor.dim() > 1:
            values *= (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            values = values.abs() + 0.5
        weights[name] = values.half()
    return weights


def save_inception(path: Path) -> Path:
    """An Inception-v3 with random weights, named as torchvision does and without `fc`."""
    from torchvision.models import inception_v3

    with torch.device("meta"):
        network = inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
    write_tensors(path, {name: one for name, one in random_weights(network).items() if not name.startswith("fc.")})
    return path


def save_standard_inception(folder: Path) -> Path:
    """What torch-fidelity would download, with random weights; its name tells its hash, which is checked."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    class Empty(library.FeatureExtractorInceptionV3):  # type: ignore[misc]  # without types
        def load_state_dict(self, *_: object) -> None:
            """It has no weights yet."""

    with torch.device("meta"):
        kept, library.load_state_dict_from_url = library.load_state_dict_from_url, lambda *_, **__: {}
        network = Empty("empty", ["2048"])
        library.load_state_dict_from_url = kept
    return save_hashed(folder, random_weights(network))


def save_hashed(folder: Path, document: object) -> Path:
    """A pickle whose name tells its hash, as `torch.hub` wants."""
    path = folder / "weights.pth"
    torch.save(document, path)
    return path.rename(folder / f"weights-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")

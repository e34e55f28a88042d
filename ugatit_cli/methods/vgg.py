"""The network of CartoonGAN's content loss: VGG19 up to conv4_4, with torchvision's weights.

Both ports of CartoonGAN by U-GAT-IT's authors compare this layer, before its ReLU, by L1; their networks differ. The
first author's (taki0112) has the weights that VGG's authors published for caffe: they read BGR pictures of 0 to 255
less a mean, and torchvision has no file of them. The third author's (znxlwm) has torchvision's, and hands them
pictures in [0, 1], while they were trained on ones normalised by ImageNet's mean and deviation. Here torchvision's
weights read what they were trained on, so that features mean what the network learnt. A content weight suits one of
these scales only: caffe's features are far larger than znxlwm's.
"""

from __future__ import annotations

import http.client
import urllib.error
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ugatit_cli.errors import ModelError, plain_reason
from ugatit_cli.files import expanded, open_file
from ugatit_cli.nn.layers import ZeroConv2d, widened
from ugatit_cli.remote.addresses import for_torch
from ugatit_cli.remote.archives import is_zip

HASH: Final = "dcbb9e9d"
ADDRESS: Final = f"https://download.pytorch.org/models/vgg19-{HASH}.pth"
MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
# Channels of the convolutions between the pools.
STAGES: Final = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512))
# Of a safetensors file: the names and shapes of its tensors, generously.
LARGEST_HEADER: Final = 1 << 20
_TAKES: Final = "--vgg FILE takes a file with the tensors of torchvision's vgg19: .pth or safetensors."


class VGG(nn.Module):
    """VGG19 (Simonyan and Zisserman 2015) up to conv4_4, without the ReLU after that.

    Its tensors have torchvision's names: `features.0.weight` to `features.25.bias`. Frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage in STAGES:
            for outputs in stage:
                layers += [ZeroConv2d(inputs, outputs, 3, pad=1, bias=True), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-2])
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Features.

        Args:
            x: (N, 3, H, W) float RGB in [-1, 1], at least 8 pixels a side.

        Returns:
            (N, 512, H/8, W/8) float32, or float64 of a float64 network. Differentiable.
        """
        first = self.features[0]
        assert isinstance(first, ZeroConv2d)
        x = (x + 1) / 2
        x = (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(DEVIATION)[:, None, None]
        out: Tensor = self.features(x.to(first.weight.dtype))
        return out.to(widened(out.dtype))


def load_vgg(file: Path | None, *, progress: bool = False) -> VGG:
    """VGG19 up to conv4_4 in float32, on the CPU.

    Args:
        file: a state dict of torchvision's vgg19, .pth or safetensors, `~` being the user's home; None: torchvision's
            own file, which is downloaded on first use (548 MB) into torch's cache, where torchvision finds it, too.
        progress: show on stderr how far the download is.

    Raises:
        ModelError: the file is missing, damaged or another one, or it can't be downloaded.
    """
    with torch.device("meta"):
        network = VGG()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    path = _downloaded(progress) if file is None else expanded(file)
    try:
        tensors = _checked(_read(path, shapes), shapes)
    except Exception as error:  # of the disk or the pickle, which breaks in many ways, or of what is in it
        hint = _TAKES if file else "Delete it, and it is downloaded again; or name another file: --vgg FILE"
        raise ModelError(f"{path}: not torchvision's VGG19: {_reason(error)}", hint) from None
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def _downloaded(progress: bool) -> Path:
    path = Path(torch.hub.get_dir(), "checkpoints", ADDRESS.rpartition("/")[2])
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, and there only when it is complete and has that hash.
        torch.hub.download_url_to_file(for_torch(ADDRESS), str(path), hash_prefix=HASH, progress=progress)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise ModelError(
            f"VGG19, which the content loss takes, can't be downloaded from {ADDRESS}: {_reason(error)}",
            f"Try again with a network, or give a file that you have: --vgg FILE. {_TAKES}",
        ) from None
    return path


def _read(path: Path, names: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file holds by those names, as far as it does; runs no pickled code."""
    with open_file(path) as stream:
        head = stream.read(9)
    if head[8:] == b"{":
        if int.from_bytes(head[:8], "little") > LARGEST_HEADER:
            raise ValueError("a header far larger than its own")
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names if name in file.keys()}  # noqa: SIM118
    zipped = is_zip(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed")  # PyTorch's never are, and small ones could become huge
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    if not isinstance(state, Mapping):
        raise TypeError("it holds no tensors by name")
    return state


def _checked(tensors: Mapping[str, Any], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if not isinstance(tensor, Tensor) or tensor.shape != shape or not tensor.is_floating_point():
            raise ValueError(f"its {name} is no {'x'.join(map(str, shape))} weight")
    return {name: tensors[name].to(torch.float32, copy=True) for name in shapes}


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, OSError | RuntimeError | ValueError | TypeError):
        return plain_reason(error).partition("\n")[0].rstrip(":")
    return "it is damaged, or holds something else than tensors"

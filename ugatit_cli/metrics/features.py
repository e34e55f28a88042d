"""Pictures as feature vectors: by an Inception-v3 (Szegedy et al. 2016), the standard one or one from a file, or by
the bundled EfficientNet-Lite0, which needs no download.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ugatit_cli.errors import FetchError, ModelError, UsageError
from ugatit_cli.files import expanded, open_file
from ugatit_cli.metrics.distances import INSTALL
from ugatit_cli.nn.efficientnet import bundled_features
from ugatit_cli.remote.addresses import for_torch
from ugatit_cli.weights.folder import open_tensors

Choice = Literal["auto", "inception", "bundled"]

BATCH: Final = 4
SIDE: Final = 299
LAST_LAYER: Final = "Mixed_7c"
BUNDLED: Final = "EfficientNet-Lite0"
BUNDLED_NAME: Final = f"{BUNDLED} (bundled), 112 features: comparable only with itself"
# So that KID has about the size of Inception's: three times the deviation of these features.
_UNIT: Final = 21.0
# Pixels from which on pictures go through it one by one.
_LARGE: Final = 512 * 512
_TAKES: Final = "--features takes a safetensors file with the tensors of torchvision's inception_v3."
# Of torchvision's Inception-v3: what comes after its last feature map, and what has no name that a user would know.
_NO_LAYERS: Final = ("maxpool1", "maxpool2", "avgpool", "dropout", "fc")


@dataclass(frozen=True, eq=False)
class Extractor:
    """Turns pictures into feature vectors.

    Attributes:
        name: what figures are quoted with: those of different extractors don't compare.
        dimensions: length of the vectors.
        device: where it runs.
        network: uint8 (N, 3, H, W) on `device` -> float (N, D).
        label: what a figure is called with; empty: it is one of the usual kind.
        because: why it was chosen, where nobody asked for it.
    """

    name: str
    dimensions: int
    device: torch.device
    network: Callable[[Tensor], Tensor]
    label: str = ""
    because: str = ""

    def __call__(self, pictures: Tensor) -> Tensor:
        """uint8 (N, 3, H, W), on any device and of any size -> float64 (N, D) on the CPU.

        Raises:
            ModelError: the network makes something that isn't finite of them.
        """
        parts = [torch.empty(0, self.dimensions, dtype=torch.float64)]
        with torch.inference_mode():
            for batch in torch.split(pictures, BATCH):
                parts.append(self.network(batch.to(self.device)).to("cpu", torch.float64))  # noqa: PERF401
        features = torch.cat(parts)
        if not features.isfinite().all():
            raise ModelError(f"{self.name}: its features are not finite", "Evaluate with another network: --features")
        return features


def load_extractor(
    file: Path | None,
    layer: str | None,
    *,
    device: torch.device,
    choice: Choice = "auto",
    tell: Callable[[str], object] = lambda _: None,
) -> Extractor:
    """The extractor that a user asks for.

    Args:
        file: a safetensors file with an Inception-v3, its tensors named as in torchvision's `inception_v3`; `fc` and
            `AuxLogits` may be missing; `~` is the user's home; None: one without a file.
        layer: of a file: the map whose mean is taken; None: the last one.
        tell: hears what is downloaded.
        choice: without a file; auto: the standard one, or if that can't be had the bundled one.

    Raises:
        UsageError: the extra isn't installed, or there is no such layer.
        ModelError: the file is missing or another one, or the standard network can't be downloaded.
    """
    if file is None and layer is not None:
        raise UsageError(f"--feature-layer {layer} is about the network in a file", "Name it: --features FILE")
    if file is not None and choice != "auto":
        raise UsageError(f"--extractor {choice} contradicts --features {file}", "Give the one or the other.")
    # A network's initial weights are random, and a training run that evaluates shall go as one that doesn't.
    with torch.random.fork_rng(devices=[]):
        if file is not None:
            return _local_extractor(expanded(file), layer or LAST_LAYER, device)
        return bundled_extractor(device) if choice == "bundled" else _standard_or_bundled(device, choice, tell)


def _standard_or_bundled(device: torch.device, choice: Choice, tell: Callable[[str], object]) -> Extractor:
    try:
        return standard_extractor(device, tell)
    except (UsageError, FetchError) as error:
        if choice == "inception":
            raise
        return bundled_extractor(device, because=f"{error.message}; so features are those of {BUNDLED}")


def bundled_extractor(device: torch.device, because: str = "") -> Extractor:
    """The mean over all places of EfficientNet-Lite0's features at 1/16 of the side: no download, and no extra.

    Pictures are taken as they are. Depth and unit were chosen by how well KID of them agrees with that of Inception's
    `Mixed_6c` (docs/evaluate.md). Models that were trained with losses on the same features are flattered.
    """
    features = bundled_features()
    network = nn.Sequential(features.stem, *features.stages[:5]).to(device)

    def mean_of_map(pictures: Tensor) -> Tensor:
        x = pictures.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        parts = torch.split(x, 1 if x.shape[2] * x.shape[3] > _LARGE else BATCH)
        return torch.cat([network(one).mean((2, 3)) for one in parts]) / _UNIT  # (N, 112)

    return Extractor(BUNDLED_NAME, 112, device, mean_of_map, label=BUNDLED, because=because)


def standard_extractor(device: torch.device, tell: Callable[[str], object] = lambda _: None) -> Extractor:
    """The Inception-v3 of 2015 that published FID and KID figures are taken with, 2048 features of its last pool.

    torch-fidelity downloads it (95 MB) on first use into torch's cache. Raises as `load_extractor`.
    """
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as library
    except ImportError:
        raise UsageError(
            "the standard Inception needs torch-fidelity, which isn't installed", f"{INSTALL}, or --extractor bundled"
        ) from None
    address = library.URL_INCEPTION_V3
    cached = Path(torch.hub.get_dir(), "checkpoints", address.rpartition("/")[2])
    try:
        source = address if cached.exists() else for_torch(address)
        if not cached.exists():
            tell(f"downloading {cached.name} to {cached.parent}")
        # The library would read any pickle; after this it finds a file in the cache that has nothing but tensors.
        with contextlib.redirect_stdout(io.StringIO()):  # torch says what it downloads
            torch.hub.load_state_dict_from_url(
                source,
                map_location="cpu",
                progress=False,
                check_hash=True,
                weights_only=True,
            )
        network = library.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False).to(device)
    except UsageError:
        raise
    except Exception as error:  # of the network, the disk, the hash, the pickle, or what is in it
        if cached.exists():  # where it stays until somebody deletes it
            reason = f"{cached}: not the standard Inception: {_reason(error)}"
            raise ModelError(reason, "Delete it, and it is downloaded again.") from None
        raise FetchError(
            f"the standard Inception can't be downloaded from {address}: {_reason(error)}",
            "Try again with a network, or take another one: --extractor bundled, or --features FILE",
        ) from None
    version = importlib.metadata.version("torch-fidelity")
    name = f"Inception-v3 (2015) of torch-fidelity {version}, 2048 features"
    return Extractor(name, 2048, device, lambda x: network(x)[0])


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, OSError | RuntimeError):
        return str(error).partition("\n")[0].rstrip(":")
    return "it is damaged, or holds something else than tensors"  # pickles break in many ways


def _local_extractor(file: Path, layer: str, device: torch.device) -> Extractor:
    """The spatial mean of the map after `layer`, of a network that is run as Keras would.

    Pictures are scaled to [0, 1] and 299 x 299 pixels (bilinear, antialiased), and average pools are without the zero
    padding, which torchvision counts.
    """
    from torchvision.models import inception_v3

    with torch.device("meta"):  # random weights would take seconds, and all of them are replaced
        network: nn.Module = inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
    network.eval().requires_grad_(False)
    layers = [name for name, _ in network.named_children() if name not in _NO_LAYERS]
    if layer not in layers:
        raise UsageError(f"--feature-layer {layer}: unknown", f"It is one of: {', '.join(layers)}")
    _load(network, file)
    for name, module in network.named_modules():
        if name.endswith("branch_pool"):
            module.register_forward_pre_hook(_without_padding)
    network = network.to(device).to(memory_format=torch.channels_last)

    def mean_of_map(pictures: Tensor) -> Tensor:
        x = pictures.float().div_(255).contiguous(memory_format=torch.channels_last)
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        for name, module in network.named_children():
            x = module(x)
            if name == layer:
                break
        return x.mean((2, 3))  # (N, D)

    with torch.inference_mode():
        dimensions = mean_of_map(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8, device=device)).shape[1]
    with open_file(file) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:8]
    name = f"{file.name} (sha256 {digest}), {layer}, {dimensions} features"
    return Extractor(name, dimensions, device, mean_of_map)


def _load(network: nn.Module, file: Path) -> None:
    if file.is_dir():
        raise ModelError(f"{file}: a folder, not a file", _TAKES)
    try:
        with open_tensors(file) as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except ModelError as error:  # whose hint is about models
        raise ModelError(error.message, _TAKES) from None
    another = f"{file}: not an Inception-v3 with torchvision's names:"
    network.to_empty(device="cpu")
    for name, tensor in network.state_dict().items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        if name not in tensors:
            raise ModelError(f"{another} it has no {name}", _TAKES)
        values = tensors[name]
        if values.shape != tensor.shape or not values.is_floating_point():
            found = f"{values.dtype} {tuple(values.shape)}"
            raise ModelError(f"{another} {name} is {found}, not {tuple(tensor.shape)}", _TAKES)
        tensor.copy_(values)


def _without_padding(_: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    """Corrects the mean over 3x3 pixels, of which those outside counted as 0."""
    x: Tensor = inputs[0]
    inside = F.avg_pool2d(torch.ones_like(x[:1, :1]), kernel_size=3, stride=1, padding=1)  # (1, 1, H, W)
    return x / inside

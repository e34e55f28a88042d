"""Networks that make features of pictures: the standard one without a network, and those of a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torch_fidelity
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as library

from tests.evaluations import save_hashed, save_inception, save_standard_inception
from tests.helpers import bytes_images
from ugatit_cli.errors import FetchError, ModelError, UsageError, install_line
from ugatit_cli.metrics.features import BATCH, Extractor, load_extractor, standard_extractor
from ugatit_cli.weights.folder import open_tensors, write_tensors

CPU = torch.device("cpu")


def noise(count: int = 1) -> Tensor:
    return bytes_images(count, 3, 32, 32)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_inception(tmp_path_factory.mktemp("inception") / "net.safetensors")


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_standard_inception(tmp_path_factory.mktemp("standard"))


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Sets where the standard Inception is downloaded from; torch's cache is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return lambda address: monkeypatch.setattr(library, "URL_INCEPTION_V3", address)


# --- Any extractor -------------------------------------------------------------------------------------


def test_pictures_go_through_in_small_batches() -> None:
    seen: list[int] = []

    def network(pictures: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        seen.append(len(pictures))
        return pictures.float().mean((2, 3))

    extractor = Extractor("means", 3, CPU, network)
    pictures = noise(2 * BATCH + 1)
    features = extractor(pictures)
    assert seen == [BATCH, BATCH, 1]
    assert features.dtype == torch.float64
    torch.testing.assert_close(features, pictures.double().mean((2, 3)), rtol=1e-6, atol=0)
    assert extractor(pictures[:0]).shape == (0, 3)


def test_features_that_are_not_finite() -> None:
    extractor = Extractor("broken", 3, CPU, lambda x: x.float().mean((2, 3)) / 0)
    with pytest.raises(ModelError, match="broken: its features are not finite"):
        extractor(noise())


# --- An Inception in a file ----------------------------------------------------------------------------


class Transcription:
    """Inception-v3 as the paper and Keras have it, written from their description; averages without padding."""

    def __init__(self, file: Path) -> None:
        with open_tensors(file) as stored:
            self.tensors: dict[str, Tensor] = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int | tuple[int, int] = 0) -> Tensor:
        x = F.conv2d(x, self.tensors[f"{name}.conv.weight"], stride=stride, padding=padding)
        weight, bias, mean, variance = (
            self.tensors[f"{name}.bn.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return ((x - mean) / (variance + 0.001).sqrt() * weight + bias).relu()

    def chain(self, x: Tensor, name: str, *paddings: int | tuple[int, int]) -> Tensor:
        """Convolutions `name`_1, `name`_2, ..."""
        for number, padding in enumerate(paddings, start=1):
            x = self.conv(x, f"{name}_{number}", padding=padding)
        return x

    def pool(self, x: Tensor, name: str) -> Tensor:
        x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return self.conv(x, f"{name}.branch_pool")

    def stem(self, pictures: Tensor) -> Tensor:
        x = F.interpolate(pictures.float() / 255, (299, 299), mode="bilinear", antialias=True)
        x = self.conv(x, "Conv2d_1a_3x3", stride=2)
        x = self.conv(self.conv(x, "Conv2d_2a_3x3"), "Conv2d_2b_3x3", padding=1)
        x = self.conv(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
        return F.max_pool2d(self.conv(x, "Conv2d_4a_3x3"), 3, 2)

    def five(self, x: Tensor, name: str) -> Tensor:
        """A block of 35 x 35 pixels."""
        double = self.chain(x, f"{name}.branch3x3dbl", 0, 1, 1)
        five = self.chain(x, f"{name}.branch5x5", 0, 2)
        return torch.cat([self.conv(x, f"{name}.branch1x1"), five, double, self.pool(x, name)], 1)

    def to_six(self, x: Tensor, name: str) -> Tensor:
        double = self.chain(x, f"{name}.branch3x3dbl", 0, 1)
        double = self.conv(double, f"{name}.branch3x3dbl_3", stride=2)
        return torch.cat([self.conv(x, f"{name}.branch3x3", stride=2), double, F.max_pool2d(x, 3, 2)], 1)

    def six(self, x: Tensor, name: str) -> Tensor:
        """A block of 17 x 17 pixels."""
        wide, tall = (0, 3), (3, 0)
        one = self.conv(x, f"{name}.branch1x1")
        double = self.chain(x, f"{name}.branch7x7dbl", 0, tall, wide, tall, wide)
        return torch.cat([one, self.chain(x, f"{name}.branch7x7", 0, wide, tall), double, self.pool(x, name)], 1)

    def features(self, pictures: Tensor, layer: str) -> Tensor:
        x = self.stem(pictures)
        blocks = {f"Mixed_5{letter}": self.five for letter in "bcd"} | {"Mixed_6a": self.to_six}
        for name, block in (blocks | {f"Mixed_6{letter}": self.six for letter in "bc"}).items():
            x = block(x, name)
            if name == layer:
                return x.mean((2, 3))
        raise AssertionError(layer)


@pytest.mark.parametrize("layer", ["Mixed_5b", "Mixed_6c"])
def test_features_are_those_of_an_independent_transcription(inception: Path, layer: str) -> None:
    extractor = load_extractor(inception, layer, device=CPU)
    expected = Transcription(inception).features(noise(), layer)
    assert extractor.dimensions == expected.shape[1]
    error = (extractor(noise()).float() - expected).norm() / expected.norm()
    assert error < 1e-5


def test_a_file_and_its_layers(inception: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(inception.parent))
    extractor = load_extractor(Path("~", inception.name), "Conv2d_1a_3x3", device=CPU)
    name, _, digest = extractor.name.partition(" (sha256 ")
    assert name == inception.name
    assert digest[8:] == "), Conv2d_1a_3x3, 32 features"
    last = load_extractor(inception, None, device=CPU)
    assert last.dimensions == 2048
    assert "Mixed_7c" in last.name


def test_loading_draws_no_random_numbers(inception: Path, standard: Path, address: Callable[[str], None]) -> None:
    address(standard.as_uri())
    before = torch.get_rng_state()
    load_extractor(inception, "Conv2d_1a_3x3", device=CPU)
    load_extractor(None, None, device=CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("layer", ["Mixed_9z", "fc", "avgpool", "AuxLogits", ""])
def test_unknown_layers(inception: Path, layer: str) -> None:
    with pytest.raises(UsageError, match="--feature-layer") as caught:
        load_extractor(inception, layer or " ", device=CPU)
    assert "Conv2d_1a_3x3, " in caught.value.hint
    assert "Mixed_7c" in caught.value.hint
    assert "avgpool" not in caught.value.hint
    with pytest.raises(UsageError, match="--feature-layer Mixed_6c"):  # of no file
        load_extractor(None, "Mixed_6c", device=CPU)


FIRST = "Conv2d_1a_3x3.conv.weight"


@pytest.mark.parametrize("content", [b"this is no safetensors file", b"\x89PNG\r\n\x1a\n", None, "folder"])
def test_files_that_can_not_be_read(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "net"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    refused(path)


@pytest.mark.parametrize(
    "tensors",
    [{}, {FIRST: torch.zeros(32, 3, 5, 5)}, {FIRST: torch.zeros(32, 3, 3, 3, dtype=torch.int32)}],
)
def test_files_with_something_else(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    write_tensors(tmp_path / "net", tensors)
    assert FIRST in refused(tmp_path / "net")


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_extractor(path, None, device=CPU)
    assert caught.value.message.startswith(f"{path}: ")
    assert "--features" in caught.value.hint
    return caught.value.message


# --- The standard one ----------------------------------------------------------------------------------


def test_the_standard_inception_is_downloaded_once(
    standard: Path, address: Callable[[str], None], tmp_path: Path
) -> None:
    address(standard.as_uri())
    told: list[str] = []
    extractor = load_extractor(None, None, device=CPU, tell=told.append)
    assert [standard.name in one for one in told] == [True]
    assert extractor.name.startswith("Inception-v3 (2015) of torch-fidelity ")
    assert extractor.name.endswith(", 2048 features")
    features = extractor(noise())
    assert features.shape == (1, 2048)
    assert features.std() > 0
    assert (tmp_path / "torch/hub/checkpoints" / standard.name).is_file()
    address(f"file:///gone/{standard.name}")
    assert torch.equal(standard_extractor(CPU)(noise()), features)


class Anything:
    """No tensor."""


@pytest.mark.parametrize("document", [{"weight": Anything()}, {"weight": torch.zeros(2)}, None])
def test_other_weights_are_refused(document: object, address: Callable[[str], None], tmp_path: Path) -> None:
    file = save_hashed(tmp_path, document)
    cached = tmp_path / "torch/hub/checkpoints" / file.name
    address(file.as_uri())
    if document is None:
        cached.parent.mkdir(parents=True)
        cached.write_bytes(b"half of a download")
    with pytest.raises(ModelError) as caught:
        standard_extractor(CPU)
    assert caught.value.message.startswith(f"{cached}: ")
    assert "Delete" in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("hashed", [True, False])
def test_what_is_not_the_download(address: Callable[[str], None], tmp_path: Path, hashed: bool) -> None:
    """Another file at its address, and nobody there: nothing stays in the cache."""
    file = save_hashed(tmp_path, {}).rename(tmp_path / "weights-01234567.pth")
    asked = file.as_uri() if hashed else f"http://127.0.0.1:1/{file.name}"
    address(asked)
    with pytest.raises(ModelError, match=asked) as caught:
        standard_extractor(CPU)
    assert "--features" in caught.value.hint
    assert list((tmp_path / "torch/hub/checkpoints").iterdir()) == []


def test_the_bundled_one_where_the_standard_one_is_not_to_be_had(
    address: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    address("http://127.0.0.1:1/weights-01234567.pth")
    extractor = load_extractor(None, None, device=CPU)
    assert "127.0.0.1:1" in extractor.because
    assert extractor.label == "EfficientNet-Lite0"
    same = load_extractor(None, None, device=CPU, choice="bundled")
    assert same.because == ""
    x = noise()
    assert extractor(x).shape == (1, 112)
    assert torch.equal(extractor(x), same(x))
    with pytest.raises(FetchError):
        load_extractor(None, None, device=CPU, choice="inception")
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    monkeypatch.delattr(torch_fidelity, "feature_extractor_inceptionv3")
    assert "torch-fidelity" in load_extractor(None, None, device=CPU).because
    with pytest.raises(UsageError, match="the standard Inception needs torch-fidelity") as caught:
        load_extractor(None, None, device=CPU, choice="inception")
    assert caught.value.hint.startswith(install_line("eval"))

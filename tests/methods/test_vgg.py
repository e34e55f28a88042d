"""The content network: its layers, its weights from a file, and what happens without them."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from tests.helpers import images
from tests.web_server import WebServer
from ugatit_cli.errors import ModelError
from ugatit_cli.methods import vgg
from ugatit_cli.methods.vgg import STAGES, VGG, load_vgg

INDEXES = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25]  # of torchvision's convolutions up to conv4_4


def weights(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A state dict of torchvision's names and shapes, as far as it is read; the first of its other tensors small."""
    source = torch.Generator().manual_seed(0)
    channels = [3, *(width for stage in STAGES for width in stage)]
    state: dict[str, Tensor] = {}
    for index, inputs, outputs in zip(INDEXES, channels, channels[1:], strict=False):
        scale = (2 / (9 * inputs)) ** 0.5
        state[f"features.{index}.weight"] = scale * torch.randn(outputs, inputs, 3, 3, generator=source)
        state[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=source)
    return {name: tensor.to(dtype) for name, tensor in state.items()} | {"classifier.6.bias": torch.zeros(1000)}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return weights()


@pytest.fixture(scope="module")
def file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def assert_holds(network: VGG, state: dict[str, Tensor]) -> None:
    own = network.state_dict()
    assert {f"features.{index}.{part}" for index in INDEXES for part in ("weight", "bias")} == set(own)
    for name, tensor in own.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[name].float())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_features_are_conv4_4s_before_its_relu(file: Path, state: dict[str, Tensor]) -> None:
    x = images(1, 3, 24, 32)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((x + 1) / 2 - mean[:, None, None]) / deviation[:, None, None]
    for index in INDEXES:
        if index in (5, 10, 19):
            expected = F.max_pool2d(expected, 2)
        expected = F.conv2d(expected, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1)
        expected = expected if index == 25 else expected.relu()
    features = load_vgg(file)(x)
    assert features.shape == (1, 512, 3, 4)
    assert (features < 0).any()
    # Twelve sums of up to 4608 products, in another order: 12 * sqrt(4608) * 2**-24 of the largest.
    torch.testing.assert_close(features, expected, rtol=0, atol=5e-5 * expected.abs().max().item())


def test_features_have_a_gradient_for_pictures(file: Path) -> None:
    x = images(1, 3, 16, 16).requires_grad_()
    torch.autograd.backward(load_vgg(file)(x).sum())
    assert x.grad is not None
    assert x.grad.any()


@pytest.mark.parametrize("kind", ["legacy", "half", "safetensors"])
def test_files_of_every_form_are_read(kind: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "any.name"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "half":
        state = weights(torch.float16)
        torch.save(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=False)
    assert_holds(load_vgg(path), state)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def bad_files(folder: Path, state: dict[str, Tensor]) -> dict[str, Path]:
    def saved(name: str, content: object) -> Path:
        torch.save(content, folder / name)
        return folder / name

    def written(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    first = "features.0.weight"
    whole = saved("whole", {first: state[first]}).read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10_000_000))
    (folder / "folder").mkdir()
    return {
        "missing": folder / "missing",
        "folder": folder / "folder",
        "empty": written("empty", b""),
        "text": written("text", b"no network at all"),
        "truncated": written("truncated", whole[: len(whole) // 2]),
        "json": written("json", b"\x08\0\0\0\0\0\0\0{not json"),
        "compressed": written("compressed", packed.getvalue()),
        "pickle": written("pickle", pickle.dumps(Evil())),
        "code": saved("code", {first: Evil()}),
        "list": saved("list", [1, 2]),
        "lacking": saved("lacking", {name: one for name, one in state.items() if name != "features.25.bias"}),
        "shape": saved("shape", state | {"features.25.bias": torch.zeros(3)}),
        "integers": saved("integers", state | {"features.25.bias": torch.zeros(512, dtype=torch.int64)}),
        "number": saved("number", state | {"features.25.bias": 1}),
    }


def test_bad_files_are_one_error_each(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, path in bad_files(tmp_path, state).items():
        with pytest.raises(ModelError) as caught:
            load_vgg(path)
        assert str(path) in caught.value.message, name
        assert "\n" not in caught.value.message, name
        assert "--vgg" in caught.value.hint, name
    assert not Path("executed").exists()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def serve(path: Path, monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    """Lets the network's file be downloaded from the disk."""
    monkeypatch.setattr(vgg, "ADDRESS", path.as_uri())
    monkeypatch.setattr(vgg, "HASH", digest[:8])


def test_it_is_downloaded_once_and_its_hash_checked(
    file: Path, state: dict[str, Tensor], cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(file, monkeypatch, "0" * 8)
    with pytest.raises(ModelError) as caught:
        load_vgg(None)
    assert "--vgg FILE" in caught.value.hint
    assert list(cache.iterdir()) == []
    serve(file, monkeypatch, hashlib.sha256(file.read_bytes()).hexdigest())
    assert_holds(load_vgg(None), state)
    assert [path.name for path in cache.iterdir()] == ["vgg19.pth"]
    serve(tmp_path / "vgg19.pth", monkeypatch, "")  # which isn't there
    assert_holds(load_vgg(None), state)


def test_from_a_mirror_or_not_at_all(
    web: WebServer, file: Path, state: dict[str, Tensor], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.put(vgg.ADDRESS, file.read_bytes())
    monkeypatch.setattr(vgg, "HASH", hashlib.sha256(file.read_bytes()).hexdigest()[:8])
    monkeypatch.setenv("UGATIT_MIRROR", web.serve())
    with monkeypatch.context() as patch:
        patch.setenv("UGATIT_OFFLINE", "1")
        with pytest.raises(ModelError, match="UGATIT_OFFLINE"):
            load_vgg(None)
    assert web.requests == []
    assert_holds(load_vgg(None), state)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.usefixtures("cache")
def test_without_a_network_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError(OSError("no route to host"))

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(ModelError) as caught:
        load_vgg(None)
    assert "no route to host" in caught.value.message
    assert "--vgg FILE" in caught.value.hint


def test_a_damaged_file_in_the_cache_is_named(cache: Path) -> None:
    cache.mkdir(parents=True)
    damaged = cache / "vgg19-dcbb9e9d.pth"
    damaged.write_bytes(b"half a file")
    with pytest.raises(ModelError) as caught:
        load_vgg(None)
    assert str(damaged) in caught.value.message
    assert "--vgg FILE" in caught.value.hint

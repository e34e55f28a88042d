"""`convert`: which importer reads what, provenance, storage types, targets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.tensor_bundle_writer import write_bundle
from tests.weights.test_pytorch import random_checkpoint, save
from ugatit_cli.config import PRECISIONS, Precision
from ugatit_cli.device import DTYPES
from ugatit_cli.errors import ConfigError, ModelError, OutputError
from ugatit_cli.weights.fetch import convert
from ugatit_cli.weights.folder import DISCRIMINATORS_FILE, GENERATORS_FILE, open_model
from ugatit_cli.weights.official import ImportSettings


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(tmp_path / "cats_params_0000100.pt", random_checkpoint())


def test_provenance(checkpoint: Path, tmp_path: Path) -> None:
    model, _ = convert(checkpoint, tmp_path / "out", ImportSettings(domains=("cat", "dog"), image_size=64))
    assert model.provenance == {
        "imported_from": "cats_params_0000100.pt",
        "code": "official PyTorch code",
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
    assert open_model(tmp_path / "out") == model
    assert (model.config.domain_a, model.config.domain_b, model.config.image_size) == ("cat", "dog", 64)


@pytest.mark.parametrize("storage", PRECISIONS)
def test_storage(checkpoint: Path, tmp_path: Path, storage: Precision) -> None:
    convert(checkpoint, tmp_path / "out", storage=storage)
    for file in (GENERATORS_FILE, DISCRIMINATORS_FILE):
        for name, tensor in load_file(tmp_path / "out" / file).items():
            assert tensor.dtype == (DTYPES[storage] if tensor.ndim > 1 else torch.float32), name


def test_existing_targets(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "out")
    with pytest.raises(OutputError, match="exists already"):
        convert(checkpoint, tmp_path / "out")
    model, _ = convert(checkpoint, tmp_path / "out", ImportSettings(image_size=64), overwrite=True)
    assert model.config.image_size == 64


@pytest.mark.parametrize("name", ["gone", "gone.pt", "gone/gone.pt"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no such file or folder") as caught:
        convert(tmp_path / name, tmp_path / "out")
    assert str(tmp_path / name) in caught.value.message


@pytest.mark.parametrize("name", ["gone.index", "gone.data-00000-of-00001"])
def test_no_tensorflow_checkpoint_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no such checkpoint"):
        convert(tmp_path / name, tmp_path / "out")


def test_a_folder_of_pytorch_files(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="0 TensorFlow checkpoints"):
        convert(checkpoint.parent, tmp_path / "out")


def test_a_prefix_beside_other_files(tmp_path: Path) -> None:
    write_bundle(tmp_path / "model.pt", {})
    with pytest.raises(ModelError, match=r"model\.pt\.index: not a U-GAT-IT checkpoint"):
        convert(tmp_path / "model.pt", tmp_path / "out")


def test_domains_that_a_config_refuses(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="domain"):
        convert(checkpoint, tmp_path / "out", ImportSettings(domains=("a/b", "c")))
    with pytest.raises(ConfigError, match="both domains"):
        convert(checkpoint, tmp_path / "out", ImportSettings(domains=("a", "A")))


def test_sizes_that_a_config_refuses(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="image_size is 30"):
        convert(checkpoint, tmp_path / "out", ImportSettings(image_size=30))
    assert not (tmp_path / "out").exists()


def test_from_inside_the_checkpoint_and_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny.save_official(tmp_path / "x.pt")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelError, match="TensorFlow"):
        convert(Path(), tmp_path / "out")
    model, _ = convert(checkpoint, Path())
    assert model.path == tmp_path / "here"


def test_the_target_is_checked_first(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "a.txt").touch()
    with pytest.raises(OutputError):
        convert(tmp_path / "no such checkpoint.pt", tmp_path / "taken")

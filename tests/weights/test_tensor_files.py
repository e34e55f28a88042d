"""Safetensors files: what the library reads is what was written, and damage is noticed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ugatit_cli.errors import ModelError
from ugatit_cli.weights.folder import check_file, open_tensors, stream_tensors, write_tensors

DTYPES = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.float64,
    torch.int32,
    torch.uint8,
    torch.bool,
)


def filled(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Any bits, NaNs with their payloads included."""
    size = dtype.itemsize * torch.Size(shape).numel()
    data = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return (data % 2 if dtype is torch.bool else data).view(dtype).view(shape)


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def assert_same(path: Path, tensors: dict[str, Tensor]) -> None:
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype
            assert found.shape == tensor.shape
            assert bits(found) == bits(tensor), name


def header(path: Path) -> tuple[int, dict[str, Any]]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return length, json.loads(data[8 : 8 + length])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (5,), (2, 3, 4, 5)], ids=str)
def test_every_dtype_and_shape(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensors = {"one": filled(shape, dtype), "two": filled(shape, dtype, 1)}
    write_tensors(tmp_path / "t", tensors)
    assert_same(tmp_path / "t", tensors)


def layouts() -> dict[str, Tensor]:
    x = filled((4, 6, 5, 3), torch.float32)
    return {
        "contiguous": x,
        "channels_last": x.to(memory_format=torch.channels_last),
        "channels_last bf16": filled((4, 6, 5, 3), torch.bfloat16).to(memory_format=torch.channels_last),
        "transposed": x.transpose(0, 3),
        "strided": x[::2, 1::3],
        "expanded": torch.arange(3).expand(4, 3),
        "offset": x[3],
        "same": x,
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "not a leaf": torch.ones(3, requires_grad=True) * 2,
    }


def test_any_strides_and_shared_memory(tmp_path: Path) -> None:
    tensors = layouts()
    assert not tensors["channels_last"].is_contiguous()
    write_tensors(tmp_path / "t", tensors)
    assert_same(tmp_path / "t", {name: tensor.detach() for name, tensor in tensors.items()})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu(tmp_path: Path) -> None:
    tensors = {name: tensor.detach() for name, tensor in layouts().items()}
    write_tensors(tmp_path / "t", {name: tensor.cuda() for name, tensor in tensors.items()})
    assert_same(tmp_path / "t", tensors)


@given(
    specs=st.dictionaries(
        # The library reserves one name for metadata; a JSON text can't hold half a surrogate pair.
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4).map(tuple)),
        max_size=6,
    )
)
def test_any_file_is_read_by_the_library(tmp_path_factory: pytest.TempPathFactory, specs: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    tensors = {name: filled(shape, dtype, seed) for seed, (name, (dtype, shape)) in enumerate(specs.items())}
    sha256 = write_tensors(path, tensors)
    assert_same(path, tensors)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    length, entries = header(path)
    assert length % 8 == 0
    for name, entry in entries.items():
        assert entry["data_offsets"][0] % tensors[name].dtype.itemsize == 0


def test_tensors_are_made_one_at_a_time(tmp_path: Path) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def make(name: str) -> Tensor:
        nonlocal most
        most = max(most, len(alive))
        tensor = torch.full((1000,), float(name))
        alive.add(tensor)
        return tensor

    layout = {str(i): (torch.float32, (1000,)) for i in range(20)}
    stream_tensors(tmp_path / "t", layout, make)
    assert most <= 1
    assert all((tensor == float(name)).all() for name, tensor in load_file(tmp_path / "t").items())


def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_tensors(full, {"x": torch.ones(100_000)})
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "no" / "t", {})


def test_it_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    write_tensors(tmp_path / "t", {"x": torch.ones(3)})
    assert sizes == [(tmp_path / "t").stat().st_size]


def test_dtypes_that_do_not_exist_there(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="complex64"):
        write_tensors(tmp_path / "t", {"x": torch.ones(1, dtype=torch.complex64)})


# Reading


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, int, str]:
    path = tmp_path / "t.safetensors"
    sha256 = write_tensors(path, {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(7)})
    return path, path.stat().st_size, sha256


def test_reading_into_parameters(written: tuple[Path, int, str]) -> None:
    path, size, sha256 = written
    check_file(path, size, sha256)
    target = torch.zeros(2, 3)
    with open_tensors(path) as file:
        target.copy_(file.get_tensor("w"))
        assert file.get_tensor("n").item() == 7
    assert target.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_every_flipped_byte_is_noticed(written: tuple[Path, int, str]) -> None:
    path, size, sha256 = written
    data = path.read_bytes()
    for i in range(size):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        with pytest.raises(ModelError, match=r"t\.safetensors: damaged: its content"):
            check_file(path, size, sha256)


def test_other_sizes_missing_files_and_folders(written: tuple[Path, int, str]) -> None:
    path, size, sha256 = written
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=rf"damaged: it has {size - 1} bytes, not {size}"):
        check_file(path, size, sha256)
    path.unlink()
    with pytest.raises(ModelError, match="no such file"):
        check_file(path, size, sha256)
    with pytest.raises(ModelError, match="no such file"), open_tensors(path):
        pass
    path.mkdir()
    with pytest.raises(ModelError, match="can't be read"):
        check_file(path, path.stat().st_size, sha256)


def test_a_tensor_that_is_not_there(written: tuple[Path, int, str]) -> None:
    with pytest.raises(ModelError, match=r"t\.safetensors: .*other"), open_tensors(written[0]) as file:
        file.get_tensor("other")

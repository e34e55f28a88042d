"""Paddle's pickled arrays: read as they are, and nothing else that a pickle can do."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ugatit_cli.errors import ModelError
from ugatit_cli.weights.kinds import is_pickle
from ugatit_cli.weights.paddle import read_paddle


def written(folder: Path, tree: Any, protocol: int = 4) -> Path:
    path = folder / "model.pdparams"
    path.write_bytes(pickle.dumps(tree, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_come_back_and_matrices_are_transposed(tmp_path: Path, protocol: int) -> None:
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    matrix = np.arange(6, dtype=np.float16).reshape(2, 3)
    tree = {"genA2B": collections.OrderedDict({"c": kernel, "f": np.asfortranarray(matrix), "p": ("p_0", matrix)})}
    state = read_paddle(written(tmp_path, tree, protocol))["genA2B"]
    assert torch.equal(state["c"], torch.from_numpy(kernel))
    assert torch.equal(state["f"], torch.from_numpy(matrix.T.copy()))
    assert torch.equal(state["p"], state["f"])


def test_what_is_no_array_is_left_out(tmp_path: Path) -> None:
    read = read_paddle(written(tmp_path, {"epoch": 3, "net": {"w": np.zeros(3, np.float32), "s": "x"}}))
    assert read["epoch"] is None
    assert read["net"]["s"] is None


class Evil:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.mkdir, "made-by-pickle"),
        Evil(eval, "__import__('os').mkdir('made-by-pickle')"),
        np.array([{"an": "object"}], dtype=object),
    ],
)
def test_no_code_is_run(tmp_path: Path, evil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, {"genA2B": {"w": evil}})
    with pytest.raises(ModelError, match=r"model\.pdparams"):
        read_paddle(path)
    assert not (tmp_path / "made-by-pickle").exists()


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"\x80\x04]" + b"]" * 300_000 + b".", b"\x80\x04K\x01."])
def test_damaged_and_endless_ones_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.pdparams"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.pdparams"):
        read_paddle(path)


def test_arrays_larger_than_their_bytes_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"w": np.zeros((2, 4), np.float32)})
    path.write_bytes(path.read_bytes().replace(b"K\x02K\x04\x86", b"K\xffK\xff\x86"))
    with pytest.raises(ModelError, match=r"model\.pdparams"):
        read_paddle(path)


def test_pytorch_files_are_none_of_paddle(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"w": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert not is_pickle(path.read_bytes()[:64])
    assert is_pickle(written(tmp_path, {"w": np.zeros(2)}).read_bytes()[:64])

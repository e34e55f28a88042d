"""PaddlePaddle's `.pdparams`: pickled NumPy arrays, read without running anything that a pickle asks for.

A pickle is a program that calls what it names. Here it can name a few things only, and none of them is the real one:
arrays come out of their raw bytes, checked against their shape and type.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ugatit_cli.errors import ModelError
from ugatit_cli.files import open_file
from ugatit_cli.weights.pickles import check_pickle, readable

TYPES: Final = {"f2", "f4", "f8", "i4", "i8", "u2"}


class _Type:
    """What stands for `numpy.dtype`."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        """The dtype of plain numbers.

        Raises:
            ValueError: it is of other things.
        """
        if self.code not in TYPES or self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"an array of {self.code!r}")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Array:
    """What stands for `numpy.ndarray`: empty until its state is set."""

    tensor: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        dtype = kind.real()
        if not all(type(side) is int and side >= 0 for side in shape) or len(data) != dtype.itemsize * math.prod(
            shape
        ):
            raise ValueError("an array whose bytes don't fit its shape")
        values = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
        tensor = torch.from_numpy(values.reshape(shape, order="F" if fortran else "C"))
        # NumPy has no bfloat16: its bits are kept as whole numbers.
        self.tensor = tensor.view(torch.bfloat16) if kind.code == "u2" else tensor


def _from_buffer(data: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
    """What stands for `numpy.core.numeric._frombuffer`, by which the newest pickles store arrays."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", bytes(data)))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """What stands for `_codecs.encode`, by which the oldest pickles of Python 3 store bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding}")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """One of those that arrays and dicts need.

        Raises:
            UnpicklingError: it is another one.
        """
        known = {
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Type,
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy.core.numeric", "_frombuffer"): _from_buffer,
            ("numpy._core.numeric", "_frombuffer"): _from_buffer,
            ("numpy.core.multiarray", "scalar"): lambda *_: None,
            ("numpy._core.multiarray", "scalar"): lambda *_: None,
            ("_codecs", "encode"): _encode,
            ("collections", "OrderedDict"): dict,
            ("builtins", "tuple"): tuple,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[module, name]


def read_paddle(path: Path) -> Mapping[str, Any]:
    """The tree of dicts in a `.pdparams` file, with tensors as leaves; matrices as PyTorch has them, (out, in).

    Raises:
        ModelError: it holds anything but dicts of arrays, or is damaged.
    """
    with readable(path), open_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tensors that must not be written to: nobody does
        check_pickle(file)
        file.seek(0)
        tree = _plain(_Unpickler(file).load(), {})
    if not isinstance(tree, dict):
        raise ModelError(f"{path}: not a checkpoint of networks (no dict)")
    return tree


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Tensors, and dicts of them; None for anything else.

    Args:
        done: what has become of the dicts so far, which may hold each other, by their ids.
    """
    if isinstance(value, dict):
        if id(value) not in done:
            done[id(value)] = None
            done[id(value)] = {str(key): _plain(one, done) for key, one in value.items()}
        return done[id(value)]
    if isinstance(value, tuple) and len(value) == 2:  # what `paddle.save` makes of a parameter: its name and itself
        value = value[1]
    tensor = value.tensor if isinstance(value, _Array) else None
    return tensor.T if tensor is not None and tensor.ndim == 2 else tensor


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a bare pickle, as `.pdparams` files are."""
    return head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and not _is_old_torch(head)


def _is_old_torch(head: bytes) -> bool:
    # Before 1.6, PyTorch wrote a pickled magic number first.
    try:
        return any(arg == 0x1950A86A20F9469CFC6C for _, arg, _ in pickletools.genops(io.BytesIO(head)))
    except ValueError:
        return False

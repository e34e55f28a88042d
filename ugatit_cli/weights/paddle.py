"""PaddlePaddle's `.pdparams`: pickled NumPy arrays, read without running anything that a pickle asks for.

A pickle is a program that calls what it names. Here it can name a few things only, and none of them is the real one:
arrays come out of their raw bytes, checked against their shape and type.
"""

from __future__ import annotations

import codecs
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ugatit_cli.errors import ModelError
from ugatit_cli.weights.kinds import KNOWN
from ugatit_cli.weights.pickles import Dict, Inert, Piece, Unpickler, mapped, plain_tree, program, readable

TYPES: Final = {"f2", "f4", "f8", "i4", "i8", "u2"}
# Bytes that can't stay in the file, such as those that protocol 2 pickled as text: 806 MB of PaddleGAN's U-GAT-IT.
MOST_COPIED: Final = 1 << 32
CHUNK: Final = 1 << 20


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
            raise ValueError(f"an array of {self.code[:20]!r}")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Array:
    """What stands for `numpy.ndarray`: empty until its state is set."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @classmethod
    def from_buffer(cls, data: Any, kind: Any, shape: Any, order: str) -> _Array:
        """What stands for `numpy.core.numeric._frombuffer`, by which the newest pickles store arrays."""
        array = cls()
        array.state = (1, shape, kind, order == "F", data)
        return array

    @classmethod
    def encode(cls, text: Any, encoding: str) -> Any:
        """What stands for `_codecs.encode`, by which the oldest pickles of Python 3 store bytes."""
        if encoding != "latin1":
            raise ValueError("bytes in another code than latin1")
        return text


NUMPY: Final[Mapping[tuple[str, str], Any]] = {
    ("numpy", "ndarray"): Inert,
    ("numpy", "dtype"): _Type,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): Inert for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Array.from_buffer for core in ("core", "_core")},
    ("_codecs", "encode"): _Array.encode,
    ("collections", "OrderedDict"): Dict,
}
"""Stand-ins for what pickled arrays name."""


class _Reader:
    """Makes tensors of the arrays in a file."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.copied = 0

    def leaf(self, value: Any) -> Tensor | None:
        """The tensor of an array; None of anything else."""
        if (
            isinstance(value, tuple) and len(value) == 2
        ):  # what `paddle.save` makes of a parameter: its name and itself
            value = value[1]
        if not isinstance(value, _Array):
            return None
        _, shape, kind, fortran, data = value.state
        dtype, buffer = kind.real(), self._bytes(data)
        if not all(type(side) is int and side >= 0 for side in shape) or len(buffer) != dtype.itemsize * math.prod(
            shape
        ):
            raise ValueError("an array whose bytes don't fit its shape")
        if not dtype.isnative:
            self._copy(len(buffer))
        values = np.frombuffer(buffer, dtype).astype(dtype.newbyteorder("="), copy=False)
        tensor = torch.from_numpy(values.reshape(shape, order="F" if fortran else "C"))
        # NumPy has no bfloat16: its bits are kept as whole numbers.
        tensor = tensor.view(torch.bfloat16) if kind.code == "u2" else tensor
        return tensor.T if tensor.ndim == 2 else tensor

    def _bytes(self, data: Any) -> memoryview | bytes | bytearray:
        if isinstance(data, str):
            return data.encode("latin1")
        if not isinstance(data, Piece):
            return bytes(data)
        found = self.data[data.start : data.start + data.size]
        return self._decoded(found) if data.is_text else found

    def _decoded(self, text: memoryview) -> bytearray:
        """Bytes that were pickled as text."""
        self._copy(len(text))
        decoder, found = codecs.getincrementaldecoder("utf-8")(), bytearray()
        for start in range(0, len(text), CHUNK):
            found += decoder.decode(text[start : start + CHUNK]).encode("latin1")
        return found

    def _copy(self, size: int) -> None:
        self.copied += size
        if self.copied > 2 * len(self.data):  # the same bytes again and again
            raise ValueError("far more in it than in a model")
        if self.copied > MOST_COPIED:
            raise ValueError("too large to be read as it is; where it was made, pickle it with protocol 4")


def read_paddle(path: Path) -> Mapping[str, Any]:
    """The tree of dicts in a `.pdparams` file, with tensors as leaves; matrices as PyTorch has them, (out, in).

    Raises:
        ModelError: it holds anything but dicts of arrays, or is damaged.
    """
    with readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tensors that must not be written to: nobody does
        data = mapped(path)
        tree = plain_tree(Unpickler(program(data)[0], NUMPY).load(), _Reader(data).leaf)
    if not isinstance(tree, dict):
        raise ModelError(f"{path}: not a checkpoint of networks (no dict)", KNOWN)
    return tree

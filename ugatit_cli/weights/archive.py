"""PyTorch's files, the zip archives of today and the sequences of pickles before 1.6, without running their pickles.

Tensors are views of the file, which is mapped into memory: what isn't used takes none.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ugatit_cli.errors import ModelError
from ugatit_cli.files import open_file
from ugatit_cli.remote import archives
from ugatit_cli.weights.kinds import ARCHIVE, KNOWN, MAGIC, NUMPY_FILE
from ugatit_cli.weights.paddle import NUMPY
from ugatit_cli.weights.pickles import SAVE_TENSORS, Dict, Unpickler, mapped, plain_tree, program, readable

AGAIN: Final = "Copy or download it again."
INSTEAD: Final = (
    "`ugatit export` writes such files for other programs: name the model that was exported, or export it as .onnx, "
    f"which `ugatit translate` and `ugatit cam` run. Somebody else's: {SAVE_TENSORS[0].lower()}{SAVE_TENSORS[1:]}"
)
_PROGRAM: Final = re.compile(r"/(code/|constants\.pkl)")
CHUNK: Final = 1 << 20
STORAGES: Final = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
}  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """Numbers in a row.

    Attributes:
        key: what they are called in the file.
        size, start: in numbers.
    """

    dtype: torch.dtype
    key: str
    size: int
    start: int = 0


@dataclass(frozen=True)
class _View:
    """A tensor: some numbers of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def tensor(self, data: memoryview) -> Tensor:
        """Itself.

        Args:
            data: its storage.

        Raises:
            ValueError, RuntimeError: it has more numbers than are stored.
        """
        whole = torch.from_numpy(np.asarray(data)).view(self.storage.dtype)
        if len(whole) < self.storage.start + self.storage.size:
            raise ValueError("truncated")
        return whole.as_strided(self.shape, self.strides, self.storage.start + self.offset)

    @classmethod
    def of(cls, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
        """What stands for `torch._utils._rebuild_tensor`."""
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor of no storage")
        return cls(storage, offset, shape, strides)

    @classmethod
    def of_parameter(cls, data: Any, *_: Any) -> Any:
        """What stands for `torch._utils._rebuild_parameter`."""
        return data

    @classmethod
    def of_type(cls, function: Any, _: Any, arguments: Any, *__: Any) -> Any:
        """What stands for `torch._tensor._rebuild_from_type_v2`: the tensor without attributes."""
        return function(*arguments)


_KNOWN: Final[Mapping[tuple[str, str], Any]] = {
    **NUMPY,
    **{("torch", f"{name}Storage"): dtype for name, dtype in STORAGES.items()},
    ("torch._utils", "_rebuild_tensor"): _View.of,
    ("torch._utils", "_rebuild_tensor_v2"): _View.of,
    ("torch._utils", "_rebuild_parameter"): _View.of_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _View.of_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _View.of_type,
    ("torch.nn.parameter", "Parameter"): None,
    ("torch", "Tensor"): None,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): Dict,
}


def _stored(identity: Any) -> _Storage:
    """What stands for a storage, whose identity names a type, a key, a device, a size, and maybe a part of it."""
    kind, dtype, key, _, size, *part = identity
    if kind != "storage" or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError(f"it asks for a {str(kind)[:20]} of its own")
    if part and part[0] is not None:
        return _Storage(dtype, str(key), int(part[0][2]), int(part[0][1]))
    return _Storage(dtype, str(key), int(size))


def read_pytorch(path: Path) -> Mapping[str, Any]:
    """The tree of dicts in a file of PyTorch, with tensors as leaves, and None for all else.

    Checksums of tensors are not looked at: see `check_archive`.

    Raises:
        ModelError: it holds anything but dicts of tensors, or is damaged.
    """
    with readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tensors that must not be written to: nobody does
        data = mapped(path)
        tree, find = _archive(path, data) if archives.is_zip(path) else _sequence(data)
        if not isinstance(tree, dict):
            what = "Tensor" if isinstance(tree, _View) else type(tree).__name__
            raise ModelError(f"{path}: not a checkpoint of networks (a {what}, not a dict)", KNOWN)

        def leaf(value: Any) -> Tensor | None:
            return value.tensor(find(value.storage.key)) if isinstance(value, _View) else None

        found: dict[str, Any] = plain_tree(tree, leaf)
        return found


Find = Callable[[str], memoryview]


def _sequence(data: memoryview) -> tuple[Any, Find]:
    """The tree of an old file, and where its storages are."""
    at, programs = 0, []
    for _ in range(5):  # a magic number, a version, the machine, the tree, the order of its storages
        found, at = program(data, at)
        programs.append(found)
    sizes: dict[str, int] = {}

    def stored(identity: Any) -> _Storage:
        storage = _stored(identity)
        sizes[storage.key] = int(identity[4]) * storage.dtype.itemsize
        return storage

    magic, _, machine, tree, keys = (Unpickler(one, _KNOWN, stored).load() for one in programs)
    if magic != MAGIC or not machine["little_endian"]:
        raise ValueError("damaged, or of another kind of computer")
    places: dict[str, memoryview] = {}
    for key in map(str, keys):
        places[key] = data[at + 8 : at + 8 + sizes[key]]  # the first 8 bytes are how many numbers there are
        at += 8 + sizes[key]
    return tree, places.__getitem__


def _archive(path: Path, data: memoryview) -> tuple[Any, Find]:
    """The tree of a zip archive, and where its storages are."""
    entries = _entries(path)
    check_no_program(path, entries)
    root = next(name for name in entries if name.endswith("/data.pkl")).removesuffix("data.pkl")
    # PyTorch stores its entries as they are; others would be taken for what they were before.
    plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries.values())
    if not plain or sum(entry.file_size for entry in entries.values()) > len(data):
        raise ModelError(f"{path}: compressed, which files of PyTorch are not", "Download the original again.")
    if f"{root}byteorder" in entries and bytes(_content(data, entries[f"{root}byteorder"])) != b"little":
        raise ValueError("of another kind of computer")
    listing = entries[f"{root}data.pkl"]
    _check_entry(path, data, listing)
    tree = Unpickler(program(_content(data, listing))[0], _KNOWN, _stored).load()
    return tree, lambda key: _content(data, entries[f"{root}data/{key}"])


def check_no_program(path: Path, entries: Iterable[str] | None = None) -> None:
    """Whether a file isn't a program of TorchScript.

    Args:
        entries: its names, if it is known to be a zip archive of PyTorch.

    Raises:
        ModelError: it is one, or a damaged archive.
    """
    if entries is None:
        if not archives.is_zip(path):
            return
        with archives.opened(path) as archive:
            entries = archive.namelist()
    if any(_PROGRAM.search(name) for name in entries) and any(name.endswith("/data.pkl") for name in entries):
        raise ModelError(f"{path}: a program of TorchScript, neither a model folder nor a checkpoint", INSTEAD)


def _entries(path: Path) -> Mapping[str, zipfile.ZipInfo]:
    """The entries of a zip file that may be PyTorch's, by name.

    Raises:
        ModelError: it is another one, or has far more.
    """
    with archives.opened(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    if any(name.endswith("/data.pkl") for name in entries):
        return entries
    only_arrays = bool(entries) and all(name.endswith(".npy") for name in entries)
    other = NUMPY_FILE if only_arrays else ARCHIVE
    raise ModelError(f"{path}: {other[0]}", other[1])


def _content(data: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    start = _start(data, entry)
    return data[start : start + entry.file_size]


def _start(data: memoryview, entry: zipfile.ZipInfo) -> int:
    lengths = data[entry.header_offset + 26 : entry.header_offset + 30]
    name, extra = struct.unpack("<HH", lengths)
    return entry.header_offset + 30 + int(name) + int(extra)


def check_archive(path: Path) -> None:
    """Whether what is in a zip archive of PyTorch is what was written; other files tell that themselves, or can't.

    Raises:
        ModelError: it isn't.
    """
    if archives.is_zip(path):
        with readable(path):
            data = mapped(path)
            for entry in _entries(path).values():
                _check_entry(path, data, entry)


def _check_entry(path: Path, data: memoryview, entry: zipfile.ZipInfo) -> None:
    checksum, left = 0, entry.file_size
    with open_file(path) as file:  # what is looked at in `data` counts as memory of this process
        file.seek(_start(data, entry))
        while left and (part := file.read(min(left, CHUNK))):
            checksum, left = zlib.crc32(part, checksum), left - len(part)
    # PyTorch can be told to leave checksums at 0.
    if entry.CRC not in (0, checksum):
        raise ModelError(f"{path}: damaged: {entry.filename[:80]} is not what was written", AGAIN)

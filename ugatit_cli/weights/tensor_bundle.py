"""Reads TensorFlow's V2 checkpoint format ("tensor bundle") with numpy alone.

The `.index` file is a LevelDB-style table from variable names to protobuf entries; the `.data-*` files hold the raw
tensors. Sources: tensorflow/core/util/tensor_bundle/tensor_bundle.h, tensorflow/core/lib/io/format.h.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ugatit_cli.errors import ModelError

MAGIC = 0xDB4775248B80FB57
FOOTER_SIZE = 48
FLOAT_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2")}


@dataclass(frozen=True)
class Variable:
    """Where one tensor lies."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


class TensorBundle:
    """A checkpoint's variables; tensors are memory-mapped, so only what is used is ever read.

    Args:
        prefix: the checkpoint's path without `.index`.

    Raises:
        ModelError: a file is missing, truncated or of another format.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.index = prefix.with_name(prefix.name + ".index")
        try:
            table = self.index.read_bytes()
        except OSError as error:
            raise ModelError(f"{self.index}: can't be read: {error.strerror}") from None
        try:
            entries = dict(_table_entries(table))
            self.shards = _varint_fields(entries.pop(b"")).get(1, 0)
            self.variables = {key.decode(): _variable(value) for key, value in entries.items()}
        except (KeyError, IndexError, ValueError, TypeError, struct.error) as error:
            raise ModelError(f"{self.index}: not a TensorFlow checkpoint index, or damaged ({error})") from None

    def __contains__(self, name: str) -> bool:
        return name in self.variables

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a variable.

        Raises:
            KeyError: no such variable.
        """
        return self.variables[name].shape

    def data_file(self, shard: int = 0) -> Path:
        """One of the files with the tensors, mostly the only one."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")

    def tensor(self, name: str) -> NDArray[Any]:
        """A read-only, memory-mapped float array.

        Raises:
            KeyError: no such variable.
            ModelError: its data file is missing, truncated, or of another type.
        """
        variable = self.variables[name]
        dtype = FLOAT_TYPES.get(variable.dtype)
        if dtype is None:
            raise ModelError(f"{self.index}: {name} is not a float tensor (type {variable.dtype})")
        path = self.data_file(variable.shard)
        if not path.is_file():
            raise ModelError(f"{path}: missing; {self.index.name} refers to it", "Both belong to one checkpoint.")
        if variable.offset + variable.size > path.stat().st_size:
            raise ModelError(f"{path}: truncated: {name} lies beyond its end", "Download or copy it again.")
        if variable.size == 0 or variable.size != dtype.itemsize * math.prod(variable.shape):
            raise ModelError(f"{self.index}: {name}: empty, or size and shape don't agree")
        return np.memmap(path, dtype, "r", variable.offset, variable.shape)


def _table_entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(table) < FOOTER_SIZE or struct.unpack("<Q", table[-8:])[0] != MAGIC:
        raise ValueError("no table footer")
    position = len(table) - FOOTER_SIZE
    _, position = _varint(table, position)  # meta index: offset
    _, position = _varint(table, position)  # meta index: size
    offset, position = _varint(table, position)
    size, position = _varint(table, position)
    for _, handle in _block_entries(table, offset, size):
        offset, position = _varint(handle, 0)
        size, _ = _varint(handle, position)
        yield from _block_entries(table, offset, size)


def _block_entries(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if table[offset + size] != 0:
        raise ValueError("compressed index")
    block = table[offset : offset + size]
    end = size - 4 - 4 * int(struct.unpack("<I", block[-4:])[0])
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Protobuf fields: (number, varint value or bytes)."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length, position = _varint(data, position)
        yield tag >> 3, data[position : position + length]
        position += length


def _varint_fields(data: bytes) -> dict[int, int]:
    return {number: value for number, value in _fields(data) if isinstance(value, int)}


def _variable(data: bytes) -> Variable:
    """BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size."""
    numbers = _varint_fields(data)
    shapes = [value for number, value in _fields(data) if number == 2 and isinstance(value, bytes)]
    dimensions = [value for shape in shapes for number, value in _fields(shape) if number == 2]
    shape = tuple(_varint_fields(dimension).get(1, 0) for dimension in dimensions if isinstance(dimension, bytes))
    return Variable(numbers.get(1, 0), shape, numbers.get(3, 0), numbers.get(4, 0), numbers.get(5, 0))

"""Writes TensorFlow's V2 checkpoint format, so that tests of the reader need no TensorFlow and no files.

After tensorflow/core/util/tensor_bundle/tensor_bundle.cc and tensorflow/core/lib/io/{table,block}_builder.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ugatit_cli.weights.crc32c import crc32c, masked

Array = NDArray[Any]

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}
MAGIC = 0xDB4775248B80FB57


def write_bundle(
    prefix: Path,
    tensors: Mapping[str, Array],
    *,
    block_size: int = 4096,
    restart_interval: int = 16,
    shards: int = 1,
) -> None:
    """Writes `PREFIX.index` and `PREFIX.data-*`.

    Args:
        block_size: a block of the table ends at this many bytes.
        restart_interval: entries between two that spell out their whole key.
        shards: how many data files the tensors are dealt out to.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = [bytearray() for _ in range(shards)]
    # BundleHeaderProto: 1 num_shards, 2 endianness (little), 3 version {1 producer}.
    entries = [(b"", number(1, shards) + message(3, number(1, 1)))]
    for i, name in enumerate(sorted(tensors, key=str.encode)):
        array, shard = np.asarray(tensors[name]), i % shards
        raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
        shape = b"".join(message(2, number(1, size)) for size in array.shape)
        entry = number(1, DTYPES[array.dtype.name]) + message(2, shape)
        entry += number(3, shard) + number(4, len(data[shard])) + number(5, len(raw))
        entry += b"\x35" + checksum(raw)
        entries.append((name.encode(), entry))
        data[shard] += raw
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries, block_size, restart_interval))


def table(
    entries: Sequence[tuple[bytes, bytes]], block_size: int = 4096, restart_interval: int = 16, compression: int = 0
) -> bytes:
    """A sorted-string table: data blocks, an empty meta index, the index, the footer; never really compressed."""
    out = bytearray()

    def add(content: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(content))
        out.extend(content + bytes([compression]) + checksum(content + bytes([compression])))
        return handle

    index, pending, size = [], list[tuple[bytes, bytes]](), 0
    for i, entry in enumerate(entries):
        pending.append(entry)
        size += sum(map(len, entry))
        if i + 1 == len(entries) or size >= block_size:
            index.append((pending[-1][0], add(block(pending, restart_interval))))
            pending, size = [], 0
    footer = add(block([], restart_interval)) + add(block(index, 1))
    return bytes(out) + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def block(entries: Sequence[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    """Entries whose keys leave out what they share with the key before, then the restart points."""
    out, restarts, previous = bytearray(), [0], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i and i % restart_interval == 0:
            restarts.append(len(out))
        elif i:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def checksum(content: bytes) -> bytes:
    """Masked CRC-32C of some bytes, a fixed32."""
    return struct.pack("<I", masked(crc32c(np.frombuffer(content, np.uint8))))


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """A protobuf integer; like protobuf, leaves out zeros."""
    return varint(field << 3) + varint(value) if value else b""


def message(field: int, content: bytes) -> bytes:
    """A protobuf submessage."""
    return varint(field << 3 | 2) + varint(len(content)) + content

"""Safetensors files: written one tensor at a time, checked against their hash, read one tensor at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ugatit_cli.errors import ModelError

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Tensor name -> dtype and shape."""

_CODES: Final = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Writes a safetensors file and waits until it is on the disk.

    A tensor that isn't contiguous on the CPU is copied to be written, one at a time.

    Args:
        tensors: of any shape, strides and device; they may share memory.

    Returns:
        SHA-256 of the file, in hex.

    Raises:
        OSError: it can't be written.
        KeyError: a dtype that such a file can't hold.
    """
    layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    return stream_tensors(path, layout, tensors.__getitem__)


def stream_tensors(path: Path, layout: Layout, tensor: Callable[[str], Tensor]) -> str:
    """`write_tensors` for tensors that are made when it is their turn.

    Args:
        layout: what `tensor` will return for each name.
    """
    # As the library does it: large elements first, so that every tensor is aligned to its elements.
    names = sorted(layout, key=lambda name: (-layout[name][0].itemsize, name))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        header = _header(names, layout)
        file.write(header)
        digest.update(header)
        for name in names:
            data = tensor(name).detach().cpu().reshape(-1).view(torch.uint8).numpy().data
            file.write(data)
            digest.update(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _header(names: list[str], layout: Layout) -> bytes:
    entries: dict[str, Any] = {}
    start = 0
    for name in names:
        dtype, shape = layout[name]
        end = start + dtype.itemsize * torch.Size(shape).numel()
        entries[name] = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def check_file(path: Path, size: int, sha256: str) -> None:
    """Reads a file once to see whether it is what was written.

    Args:
        size: bytes it should have.
        sha256: of its content, in hex.

    Raises:
        ModelError: it is damaged, missing, or can't be read.
    """
    try:
        found = path.stat().st_size
        if found != size:
            raise ModelError(f"{path}: damaged: it has {found} bytes, not {size}")
        with path.open("rb") as file:
            intact = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error}") from None
    if not intact:
        raise ModelError(f"{path}: damaged: its content is not what was written")


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, read tensor by tensor: `.keys()`, `.get_tensor(name)`, `.get_slice(name)`.

    A tensor is a view of the file until it is copied or converted, so reading into parameters takes no memory for
    a second copy.

    Raises:
        ModelError: there is no such file, it isn't complete, or lacks a tensor that was asked for.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: not a complete safetensors file ({error})", "Fetch, copy or convert the model again."
        ) from None

"""Files of PyTorch, and safetensors, as state dicts by name, whatever they are wrapped in; no pickled code is run."""

from __future__ import annotations

import io
import itertools
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch import Tensor

from ugatit_cli.errors import ModelError
from ugatit_cli.files import open_file
from ugatit_cli.methods.base import States
from ugatit_cli.weights.folder import open_tensors
from ugatit_cli.weights.kinds import ARCHIVE, HEAD, KNOWN, foreign, is_safetensors
from ugatit_cli.weights.paddle import is_pickle, read_paddle
from ugatit_cli.weights.pickles import LARGEST, MOST, check_pickle, readable

# What training codes wrap their weights in; averages first, since they are what is meant to be used.
AVERAGES: Final = ("params_ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
WRAPPERS: Final = (*AVERAGES, "state_dict", "model_state_dict", "model", "params", "net", "network", "weights")
# What DataParallel and `torch.compile` put before every name.
PREFIXES: Final = re.compile(r"^(?:(?:module|_orig_mod)\.)+")
# Networks that authors keep in one file, by their names or, in a flat one such as safetensors, with them as prefixes.
NETWORK: Final = re.compile(r"(ema_)?(?:net)?(gen[AB]2[AB]|dis[GL][AB]|[GD]_[AB])(_ema)?")
# Deeper ones are no networks' but optimizers'.
DEPTH: Final = 4
AGAIN: Final = "Copy or download it again."
# Of an old file: a magic number, a version, the machine, the tree, and the order of its storages.
OLD_PICKLES: Final = 5
# Where a zip file's end is: two records and a comment.
LONGEST_END: Final = 1 << 17


def read_states(path: Path) -> States:
    """The state dicts in a file by the names that it gives them; that of a bare one is "".

    Raises:
        ModelError: it can't be read, or holds anything but tensors.
    """
    states: dict[str, dict[str, Tensor]] = {}
    values = list(itertools.islice(_values(_unwrapped(_tree(path))), MOST))
    if len(values) == MOST:  # which needs no large file, since parts may hold each other
        raise ModelError(f"{path}: damaged, or made to do harm: far more in it than in a model")
    # What lies deeper, such as an earlier state of the same networks, never takes the place of what lies above.
    for names, value in sorted(values, key=lambda found: len(found[0])):
        if isinstance(value, Tensor):
            part, name = _placed(names)
            if not _is_whole(value):
                raise ModelError(f"{path}: damaged, or made to do harm: {name[:80]!r} is larger than what is stored")
            states.setdefault(part, {}).setdefault(name, value)
    return _canonical(states)


def _tree(path: Path) -> Mapping[Any, Any]:
    try:
        with open_file(path) as file:
            head = file.read(HEAD)
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror or error}") from None
    if other := foreign(head):
        raise ModelError(f"{path}: {other[0]}", other[1])
    if zipfile.is_zipfile(path):
        _check_archive(path)
        return _load(path, mapped=True)
    if is_safetensors(head):
        with open_tensors(path) as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no dict
    if is_pickle(head):
        return read_paddle(path)
    if head[:1] != b"\x80":
        cut = head[:4] == b"PK\x03\x04"
        raise ModelError(f"{path}: {'truncated' if cut else 'not a checkpoint'}", AGAIN if cut else KNOWN)
    with readable(path), open_file(path) as file:
        for _ in range(OLD_PICKLES):
            check_pickle(file)
    return _load(path, mapped=False)


def _directory_size(path: Path) -> int:
    """Bytes of a zip file's list of entries, as its end says."""
    with open_file(path) as file:
        file.seek(-min(path.stat().st_size, LONGEST_END), os.SEEK_END)
        end = file.read()
    at = end.rfind(b"PK\x05\x06")
    (size,) = struct.unpack_from("<I", end, at + 12)
    far = end.rfind(b"PK\x06\x06", 0, at)
    return int(struct.unpack_from("<Q", end, far + 40)[0]) if size == 0xFFFFFFFF and far >= 0 else size


def _check_archive(path: Path) -> None:
    """Looks at a zip file before PyTorch does, which would inflate and follow whatever is in it.

    Raises:
        ModelError: it isn't PyTorch's, or damaged, or its pickle would do too much.
    """
    with readable(path):
        if _directory_size(path) > LARGEST:
            raise ValueError("far more entries than the tensors of a model")
    with readable(path), zipfile.ZipFile(path) as archive, open_file(path) as file:
        entries = archive.infolist()
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if not pickles:
            raise ModelError(f"{path}: {ARCHIVE[0]}", ARCHIVE[1])
        # PyTorch stores its entries as they are; others would be taken for what they were before.
        plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not plain or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ModelError(f"{path}: compressed, which files of PyTorch are not", "Download the original again.")
        if sum(entry.file_size for entry in pickles) > LARGEST:
            raise ValueError("far larger than the list of tensors of a model")
        for entry in entries:
            _check_entry(file, entry)
        for entry in pickles:
            check_pickle(io.BytesIO(b"".join(_content(file, entry))))


def _check_entry(file: BinaryIO, entry: zipfile.ZipInfo) -> None:
    checksum = 0
    for part in _content(file, entry):
        checksum = zlib.crc32(part, checksum)
    # PyTorch can be told to leave checksums at 0.
    if entry.CRC not in (0, checksum):
        raise ModelError(f"{file.name}: damaged: {entry.filename} is not what was written", AGAIN)


def _content(file: BinaryIO, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    file.seek(entry.header_offset + 26)
    file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)  # past its name and what else is said of it
    left = entry.file_size
    while left and (part := file.read(min(left, 1 << 20))):
        yield part
        left -= len(part)


def _load(path: Path, *, mapped: bool) -> Mapping[Any, Any]:
    """What PyTorch makes of a file; mapped into memory, tensors take none until they are converted."""
    with readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that then fail below, with a reason
        tree: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if not isinstance(tree, Mapping):
        raise ModelError(f"{path}: not a checkpoint of networks (a {type(tree).__name__}, not a dict)", KNOWN)
    return tree


def _unwrapped(tree: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """What lies below the wrappers."""
    for _ in range(DEPTH):
        beside = any(NETWORK.fullmatch(str(name)) for name in tree)
        inner = next((tree[name] for name in (AVERAGES if beside else WRAPPERS) if _holds_some(tree.get(name))), None)
        if inner is None:
            break
        tree = inner
    return tree


def _holds_some(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, (Mapping, Tensor)) for one in value.values())


def _values(tree: Mapping[Any, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All that is in a tree, with the keys that lead there."""
    for key, value in tree.items():
        names = (*keys, str(key))
        yield names, value
        if isinstance(value, Mapping) and len(names) < DEPTH:
            yield from _values(value, names)


def _placed(names: tuple[str, ...]) -> tuple[str, str]:
    """The network that a tensor belongs to, and its name there."""
    parts = PREFIXES.sub("", ".".join(names)).split(".")
    for i, part in enumerate(parts[:DEPTH]):
        if NETWORK.fullmatch(part):
            return part, PREFIXES.sub("", ".".join(parts[i + 1 :]))
    return ".".join(names[:-1]), PREFIXES.sub("", names[-1])


def _is_whole(tensor: Tensor) -> bool:
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return plain and tensor.numel() * tensor.itemsize <= tensor.untyped_storage().nbytes()


def _canonical(states: Mapping[str, dict[str, Tensor]]) -> States:
    """Networks by their official names, averages in place of the rest; one that has no name is ""."""
    found: dict[str, dict[str, Tensor]] = {}
    for part in sorted(states, key=lambda part: "ema" in part):
        state = {name: tensor for name, tensor in states[part].items() if name != "n_averaged"}
        match = NETWORK.fullmatch(part)
        found[match[2] if match else part] = state
    return {"": found.popitem()[1]} if len(found) == 1 and not NETWORK.fullmatch(next(iter(found))) else found

"""Checkpoints that people convert: PyTorch's two formats, Paddle's, safetensors, and TensorFlow's two files."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from tests import tiny
from tests.conftest import GOLDEN
from tests.fuzz.harness import Target
from tests.fuzz.mutate import mutate_bytes
from tests.tensor_bundle_writer import MAGIC, checksum, varint
from ugatit_cli.weights.official import convert
from ugatit_cli.weights.tensorflow import FOOTER_SIZE

TF = next((GOLDEN / "tf").glob("UGATIT_light*"))


def use(name: str) -> Callable[[Path, bytes], object]:
    """Converts a file of this name."""

    def run(folder: Path, content: bytes) -> object:
        (folder / name).write_bytes(content)
        return convert([folder / name], folder / "out", overwrite=True)

    return run


def pytorch_scene(*, old: bool) -> Callable[[Path], list[bytes]]:
    """Six networks, a generator in a wrapper beside an optimizer's state, and other types."""

    def scene(_folder: Path) -> list[bytes]:
        whole = tiny.official()
        generator = whole["genA2B"]
        adam = {"state": {0: {"step": 3, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
        half = {name: one.bfloat16() for name, one in generator.items()}
        files = []
        for content in (whole, {"epoch": 7, "optimizer": adam, "model": generator}, half):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=not old)
            files.append(file.getvalue())
        return files

    return scene


def mutate_archive(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Mostly the list of tensors, in an archive whose checksums are right."""
    if random.random() < 0.3:
        return mutate_bytes(random, data, others)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    broken = random.choice([next(iter(entries)), *entries]) if random.random() < 0.2 else next(iter(entries))
    entries[broken] = mutate_bytes(random, entries[broken], [entries[broken]])
    if random.random() < 0.1:
        entries.pop(random.choice(list(entries)))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def paddle_scene(_folder: Path) -> list[bytes]:
    arrays: dict[str, Any] = {
        key: {name: (one.T if one.ndim == 2 else one).numpy() for name, one in state.items()}
        for key, state in tiny.official().items()
    }
    one, bits = arrays["genA2B"], {name: array.astype("u2") for name, array in arrays["genB2A"].items()}
    trees = arrays, {"epoch": np.float64(3), **one}, {"genA2B": bits}
    return [pickle.dumps(tree, protocol) for tree in trees for protocol in (2, 4, 5)]


def safetensors_scene(_folder: Path) -> list[bytes]:
    whole = tiny.official()
    flat = {f"{key}.{name}": one.clone() for key, state in whole.items() for name, one in state.items()}
    alone = {name: one.half() for name, one in whole["genA2B"].items()}
    return [save(flat, {"format": "pt"}), save(alone)]


def mutate_header(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Mostly the names and shapes, with their right length before them."""
    if random.random() < 0.3:
        return mutate_bytes(random, data, others)
    end = 8 + int.from_bytes(data[:8], "little")
    header = mutate_bytes(random, data[8:end], [data[8:end]])
    return len(header).to_bytes(8, "little") + header + data[end:]


def tensorflow_scene(suffix: str) -> Callable[[Path], list[bytes]]:
    def scene(folder: Path) -> list[bytes]:
        for path in TF.iterdir():
            (folder / path.name.replace(path.name.partition(".index")[0].partition(".data")[0], "m")).write_bytes(
                path.read_bytes()
            )
        return [(folder / f"m{suffix}").read_bytes()]

    return scene


def mutate_index(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Mostly the one block of variables, in a table whose checksums are right."""
    if random.random() < 0.3:
        return mutate_bytes(random, data, others)
    # The block of variables begins the file; after it come the metadata's and the index, which tells its length.
    numbers, position = [], len(data) - FOOTER_SIZE
    for _ in range(4):
        value = shift = 0
        while True:
            byte, position = data[position], position + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        numbers.append(value)
    block = mutate_bytes(random, data[: numbers[0] - 5], [data])
    parts, out = [block, struct.pack("<2I", 0, 1)], bytearray()
    handles = []
    for part in parts:
        handles.append(varint(len(out)) + varint(len(part)))
        out += part + b"\0" + checksum(part + b"\0")
    index = varint(0) + varint(1) + varint(len(handles[0])) + b"z" + handles[0] + struct.pack("<2I", 0, 1)
    footer = handles[1] + varint(len(out)) + varint(len(index))
    out += index + b"\0" + checksum(index + b"\0")
    return bytes(out) + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


DATA = ".data-00000-of-00001"
TARGETS = {
    ".pt": Target(pytorch_scene(old=False), use("x.pt"), mutate_archive),
    "old .pt": Target(pytorch_scene(old=True), use("x.pt")),
    ".pdparams": Target(paddle_scene, use("x.pdparams")),
    "safetensors": Target(safetensors_scene, use("x.safetensors"), mutate_header),
    "TensorFlow index": Target(tensorflow_scene(".index"), use("m.index"), mutate_index),
    "TensorFlow data": Target(tensorflow_scene(DATA), use(f"m{DATA}")),
}

"""Checkpoints of TensorFlow, without TensorFlow; import of those of U-GAT-IT's official code (taki0112/UGATIT).

There, generator_B makes domain B, so it is our a2b; optimizer slots are never read.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ugatit_cli.config import DOMAINS, SCALES, Direction, ModelConfig
from ugatit_cli.errors import ModelError, plain_reason
from ugatit_cli.files import open_file, read_file
from ugatit_cli.methods.base import Official, OfficialSettings, States
from ugatit_cli.methods.networks import Unfit, check_known
from ugatit_cli.methods.ugatit_official import size_fields
from ugatit_cli.weights.crc32c import crc32c, masked
from ugatit_cli.weights.folder import critic_shapes, translator_shapes
from ugatit_cli.weights.kinds import HEAD, foreign

MAGIC = 0xDB4775248B80FB57
FOOTER_SIZE = 48
# The full model's has 31 kB and 1,500 variables, mostly of its optimizers; names have 70 letters at most.
LARGEST_INDEX = 1 << 26
MOST_VARIABLES = 20_000
LONGEST_NAME = 1024
SLOT = re.compile(r"/(Adam(_\d+)?|Momentum|RMSProp(_\d+)?|ExponentialMovingAverage)$")
POWER = re.compile(r"(^|/)beta[12]_power(_\d+)?$")
AGAIN = "Download, copy or unpack it again."
FLOAT_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2")}


@dataclass(frozen=True)
class Variable:
    """Where one tensor lies."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


class TensorBundle:
    """A checkpoint's variables; tensors are memory-mapped, so only what is used is ever read.

    Args:
        prefix: the checkpoint's path without `.index`.

    Raises:
        ModelError: a file is missing, truncated or of another format.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix, self.index = prefix, prefix.with_name(prefix.name + ".index")
        try:
            with open_file(self.index) as file:  # what is larger lacks its footer then
                table = file.read(LARGEST_INDEX)
            _check_kind(self.index, table[:HEAD])
            entries = dict(_table_entries(table))
            self.shards = _numbers(entries.pop(b"")).get(1, 0)
            self.variables = {key.decode(): _variable(value) for key, value in entries.items()}
            _check_apart(self.variables)
        except OSError as error:
            raise ModelError(f"{self.index}: can't be read ({plain_reason(error)})") from None
        except (KeyError, IndexError, ValueError, struct.error) as error:
            raise ModelError(
                f"{self.index}: not a TensorFlow checkpoint index, or damaged ({error})", AGAIN
            ) from None

    def data_file(self, shard: int = 0) -> Path:
        """One of the files with the tensors, mostly the only one."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")

    @property
    def data_files(self) -> list[Path]:
        """All files with tensors."""
        return [self.data_file(shard) for shard in sorted({one.shard for one in self.variables.values()})]

    def tensor(self, name: str) -> NDArray[Any]:
        """A read-only, memory-mapped float array.

        Raises:
            KeyError: no such variable.
            ModelError: its data file is missing, truncated or damaged, or it is of another type.
        """
        variable = self.variables[name]
        dtype = FLOAT_TYPES.get(variable.dtype)
        if dtype is None:
            raise ModelError(f"{self.index}: {name} is not a float tensor (type {variable.dtype})")
        path = self.data_file(variable.shard)
        if not path.is_file():
            raise ModelError(f"{path}: missing; {self.index.name} refers to it", "Both belong to one checkpoint.")
        if variable.offset + variable.size > path.stat().st_size:
            with open_file(path) as file:
                _check_kind(path, file.read(HEAD))
            raise ModelError(f"{path}: truncated: {name} lies beyond its end", AGAIN)
        if variable.size == 0 or variable.size != dtype.itemsize * math.prod(variable.shape):
            raise ModelError(f"{self.index}: {name}: empty, or size and shape don't agree")
        array = np.memmap(path, dtype, "r", variable.offset, variable.shape)
        if not _holds(array.reshape(-1).view(np.uint8), variable.checksum):
            raise ModelError(f"{path}: damaged: {name} is not what was written", AGAIN)
        return array


def _check_kind(path: Path, head: bytes) -> None:
    if head and (other := foreign(head)):
        raise ModelError(f"{path}: {other[0]}", other[1])


def _holds(data: NDArray[np.uint8], checksum: int) -> bool:
    """Whether bytes have a masked checksum; 0 is what writers leave that know none."""
    return checksum in (0, masked(crc32c(data)))


def _check_apart(variables: Mapping[str, Variable]) -> None:
    """Raises a ValueError if two lie in the same place: then they may be far more than the file."""
    ends: dict[int, int] = {}
    for one in sorted(variables.values(), key=lambda one: (one.shard, one.offset, one.size)):
        if one.offset < ends.get(one.shard, 0) and one.size:
            raise ValueError("variables overlap")
        ends[one.shard] = one.offset + one.size


def _table_entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(table) < FOOTER_SIZE or struct.unpack("<Q", table[-8:])[0] != MAGIC:
        raise ValueError("no table footer")
    position, footer = len(table) - FOOTER_SIZE, []
    for _ in range(4):  # offset and size of the meta index, then of the index
        number, position = _varint(table, position)
        footer.append(number)
    count = done = 0
    for _, handle in _block_entries(table, *footer[2:]):
        offset, position = _varint(handle, 0)
        size, _ = _varint(handle, position)
        if offset < done:
            raise ValueError("blocks overlap")
        done = offset + size
        for entry in _block_entries(table, offset, size):
            count += 1
            if count > MOST_VARIABLES:
                raise ValueError(f"more than {MOST_VARIABLES:,} variables")
            yield entry


def _block_entries(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if table[offset + size] != 0:
        raise ValueError("compressed index")
    block = table[offset : offset + size]
    # It is of the block and the byte that tells its compression.
    checksum = int(struct.unpack_from("<I", table, offset + size + 1)[0])
    if not _holds(np.frombuffer(table, np.uint8, size + 1, offset), checksum):
        raise ValueError("its content is not what was written")
    end = size - 4 - 4 * int(struct.unpack("<I", block[-4:])[0])
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        if max(shared + unshared, length) > LONGEST_NAME:
            raise ValueError(f"a name, or an entry, of {max(shared + unshared, length):,} bytes")
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
        if shift > 63:
            raise ValueError("a number without end")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Protobuf fields: (number, integer value or bytes)."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is not None:
            yield tag >> 3, int.from_bytes(data[position : position + length], "little")
            position += length
            continue
        length, position = _varint(data, position)
        yield tag >> 3, data[position : position + length]
        position += length


def _numbers(data: bytes) -> dict[int, int]:
    return {number: value for number, value in _fields(data) if isinstance(value, int)}


def _variable(data: bytes) -> Variable:
    """BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 masked CRC-32C."""
    numbers = _numbers(data)
    shapes = [value for number, value in _fields(data) if number == 2 and isinstance(value, bytes)]
    dimensions = [value for shape in shapes for number, value in _fields(shape) if number == 2]
    shape = tuple(_numbers(dimension).get(1, 0) for dimension in dimensions if isinstance(dimension, bytes))
    dtype, shard, offset, size, checksum = (numbers.get(number, 0) for number in (1, 3, 4, 5, 6))
    return Variable(dtype, shape, shard, offset, size, checksum)


Array = NDArray[Any]
Layout = Callable[[Array], Array]
Shapes = Mapping[str, tuple[int, ...]]

GENERATOR_SCOPES: dict[Direction, str] = {"a2b": "generator_B", "b2a": "generator_A"}


def import_checkpoint(path: Path, settings: OfficialSettings, *, dtype: torch.dtype = torch.float32) -> Official:
    """Reads an official TensorFlow checkpoint.

    Args:
        path: the checkpoint's folder, its `.index` file, or its prefix.
        dtype: dtype of the kernels and matrices that come out; with float16 no float32 copy is ever made.

    Raises:
        ModelError: unreadable, or not a U-GAT-IT checkpoint.
    """
    prefix = checkpoint_prefix(path)
    bundle = TensorBundle(prefix)
    config, notes = _infer(bundle, settings)
    generators = {
        f"{direction}.{ours}": _convert(bundle, f"{scope}/{theirs}", layout, dtype)
        for direction, scope in GENERATOR_SCOPES.items()
        for ours, (theirs, layout) in generator_names(config).items()
    }
    shapes = translator_shapes(config)
    for direction, scope in GENERATOR_SCOPES.items():
        names = {ours: theirs for ours, (theirs, _) in generator_names(config).items()}
        _check_variables(bundle, scope, names, shapes, direction)
    discriminators = _discriminators(bundle, config, dtype)
    judged, lack = discriminators is not None, "has no spectrally normalised discriminators"
    notes += settings.notes(config, judged=judged, lack=lack, told=not config.light)
    return Official(config, generators, discriminators, tuple(notes))


def read_states(prefix: Path) -> States:
    """All variables of networks, of any code's checkpoint, as float32 by their official names.

    Raises:
        ModelError: it can't be read.
    """
    bundle = TensorBundle(prefix)
    names = [
        name
        for name, variable in bundle.variables.items()
        if variable.dtype in FLOAT_TYPES and not SLOT.search(name) and not POWER.search(name)
    ]
    return {"": {name: torch.from_numpy(np.array(bundle.tensor(name), np.float32)) for name in names}}


def _check_variables(bundle: TensorBundle, scope: str, theirs: Mapping[str, str], shapes: Shapes, ours: str) -> None:
    """Whether a network has its variables, as large as the model asks for, and no others, before any is read."""
    # Biases that norms take out again aren't read.
    known = {*theirs.values(), *(f"{one.removesuffix('kernel')}bias" for one in theirs.values())}
    names = [name for name in bundle.variables if name.startswith(f"{scope}/") and not SLOT.search(name)]
    check_known(names, {f"{scope}/{name}" for name in known})
    for name, one in theirs.items():
        found, shape = bundle.variables[f"{scope}/{one}"].shape, shapes[f"{ours}.{name}"]
        if math.prod(found) != math.prod(shape):
            raise Unfit(f"{scope}/{one} has shape {found}, for one of {shape}")


def is_checkpoint(path: Path) -> bool:
    """Whether a path can only be that of a TensorFlow checkpoint: a folder, one of its files, or a prefix."""
    if path.name == "checkpoint" and path.is_file():
        with contextlib.suppress(OSError), open_file(path) as file:
            return file.read(64).startswith(b"model_checkpoint_path")
    return path.is_dir() or path.suffix in (".index", ".meta") or ".data-" in path.name or _index(path).is_file()


def _index(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def checkpoint_prefix(path: Path) -> Path:
    """The prefix of the checkpoint that a folder, one of its files, or a prefix names.

    Raises:
        ModelError: there is none, or a folder holds several and its `checkpoint` file names none of them.
    """
    if path.is_dir():
        return _prefix_in(path)
    if path.name == "checkpoint" and not _index(path).is_file():
        return _prefix_in(path.parent)
    prefix = path.with_name(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name))
    if _index(prefix).is_file():
        return prefix
    if prefix != path and path.exists() and path != _index(prefix):
        raise ModelError(
            f"{_index(prefix)}: missing beside {path.name}", "All files of a checkpoint belong together."
        )
    raise ModelError(f"{path}: no such checkpoint (no file {_index(prefix).name})")


def _prefix_in(folder: Path) -> Path:
    state = folder / "checkpoint"
    text = read_file(state).decode(errors="replace") if state.is_file() else ""
    latest = re.search(
        r'^model_checkpoint_path: "(?:.*[/\\])?([^"/\\\n]+)"', text, re.MULTILINE
    )  # Windows has others
    if latest and (folder / f"{latest[1]}.index").is_file():
        return folder / latest[1]
    found = sorted(folder.glob("*.index")) or sorted(folder.glob("*.data-*-of-*"))
    inner = [] if found else sorted({path.parent for path in folder.glob("*/*.index")})
    if len(inner) == 1:  # as official folders lie in one called `checkpoint`
        return _prefix_in(inner[0])
    if len(found) == 1:
        return checkpoint_prefix(found[0])
    if not found and not inner:
        raise ModelError(f"{folder}: no checkpoint in it", "Name a file, or the folder that holds *.index.")
    names = ", ".join(path.name for path in (found or inner)[:3])
    raise ModelError(
        f"{folder}: holds {len(found or inner)} TensorFlow checkpoints ({names}), and no `checkpoint` file names one",
        "Name one of them.",
    )


def _infer(bundle: TensorBundle, settings: OfficialSettings) -> tuple[ModelConfig, list[str]]:
    channels = bundle.variables["generator_B/conv/conv2d/kernel"].shape[3]
    inputs, features = bundle.variables["generator_B/MLP/linear_0/dense/kernel"].shape[0], 4 * channels
    fields = size_fields(inputs, features, settings)
    notes: list[str] = []
    smoothing, folder = settings.rho_smoothing, bundle.prefix.parent.resolve().name
    if smoothing is None and re.search(r"_\d+resblock_\d+dis_", folder):
        # The official name, `..._4resblock_6dis_1_1_10_10_1000_sn_smoothing`; browsers and unpackers add " (1)".
        smoothing = "_smoothing" in folder
    elif smoothing is None:
        smoothing = True
        notes.append(f"Nothing tells whether rho was smoothed ({folder!r}); on, as by default (--no-smoothing).")
    if "discriminator_A/local/conv_0/kernel" in bundle.variables:
        fields["discriminator_channels"] = bundle.variables["discriminator_A/local/conv_0/kernel"].shape[3]
        fields["local_layers"], fields["global_layers"] = (
            _count(bundle, rf"discriminator_A/{scale}/conv_\d+/kernel") + 2 for scale in SCALES
        )
    blocks = _count(bundle, r"generator_B/resblock_\d+/res1/conv_0/conv2d/kernel")
    config = ModelConfig(channels=channels, blocks=blocks, dialect="tensorflow", rho_smoothing=smoothing, **fields)
    return config, notes


def _count(bundle: TensorBundle, pattern: str) -> int:
    return sum(1 for name in bundle.variables if re.fullmatch(pattern, name))


def _convert(bundle: TensorBundle, name: str, layout: Layout, dtype: torch.dtype) -> Tensor:
    array = layout(bundle.tensor(name))
    # One copy, straight from the mapped file into the wanted layout and type.
    numpy_type = np.float16 if dtype == torch.float16 and array.ndim > 1 else np.float32
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and `save_model` refuses it
        tensor = torch.from_numpy(np.array(array, dtype=numpy_type, order="C"))
    if name.endswith("/dense/kernel"):
        tensor = tensor.flatten(1)
    return tensor.to(dtype) if tensor.ndim > 1 else tensor


def _vector(array: Array) -> Array:
    return array.reshape(-1)


def _kernel(array: Array) -> Array:
    """HWIO -> OIHW."""
    return array.transpose(3, 2, 0, 1)


def _matrix(array: Array) -> Array:
    """(in, out) -> (out, in)."""
    return array.transpose()


def _flattened_map(side: int, features: int) -> Layout:
    """The full variant's first layer: its inputs are a map flattened as HWC there, as CHW here."""

    def layout(array: Array) -> Array:
        # Both steps are views; `_convert` makes the one copy and flattens it.
        return array.T.reshape(-1, side, side, features).transpose(0, 3, 1, 2)

    return layout


def generator_names(config: ModelConfig) -> dict[str, tuple[str, Layout]]:
    """Our generator tensor name -> the official variable below its scope, and how its layout changes."""
    names: dict[str, tuple[str, Layout]] = {
        "cam.gap.weight": ("CAM_logit/kernel", _matrix),
        "cam.gap.bias": ("CAM_logit/bias", _vector),
    }
    _add_conv(names, "cam", "conv_1x1/conv2d")
    _add_conv(names, "to_rgb", "G_logit/conv2d")
    for ours, conv, norm in (("stem", "conv", ""), ("down.0", "conv_0", "_0"), ("down.1", "conv_1", "_1")):
        names[f"{ours}.conv.weight"] = (f"{conv}/conv2d/kernel", _kernel)
        _add_vectors(names, f"{ours}.norm", f"ins_norm{norm}", "gamma", "beta")
    for i in range(config.blocks):
        for ours, theirs in ((f"encoder.{i}.first", f"resblock_{i}/res1"), (f"encoder.{i}", f"resblock_{i}/res2")):
            names[f"{ours}.conv.weight"] = (f"{theirs}/conv_0/conv2d/kernel", _kernel)
            _add_vectors(names, f"{ours}.norm", f"{theirs}/instance_norm", "gamma", "beta")
        for j in (1, 2):
            _add_conv(names, f"decoder.{i}.conv{j}", f"adaptive_resblock{i}/res{j}/conv_0/conv2d")
            _add_vectors(names, f"decoder.{i}.norm{j}", f"adaptive_resblock{i}/res{j}/instance_layer_norm", "rho")
    for i in range(2):
        _add_conv(names, f"up.{i}.conv", f"up_conv_{i}/conv2d")
        _add_vectors(names, f"up.{i}.norm", f"layer_ins_norm_{i}", "rho", "gamma", "beta")
    for ours, theirs in (("hidden1", "linear_0"), ("hidden2", "linear_1"), ("gamma", "gamma"), ("beta", "beta")):
        layout: Layout = _matrix
        if ours == "hidden1" and not config.light:
            layout = _flattened_map(config.image_size // 4, config.features)
        names[f"style.{ours}.weight"] = (f"MLP/{theirs}/dense/kernel", layout)
        names[f"style.{ours}.bias"] = (f"MLP/{theirs}/dense/bias", _vector)
    return names


def _add_conv(names: dict[str, tuple[str, Layout]], ours: str, theirs: str) -> None:
    names[f"{ours}.weight"] = (f"{theirs}/kernel", _kernel)
    names[f"{ours}.bias"] = (f"{theirs}/bias", _vector)


def _add_vectors(names: dict[str, tuple[str, Layout]], ours: str, theirs: str, *vectors: str) -> None:
    for vector in vectors:
        names[f"{ours}.{vector}"] = (f"{theirs}/{vector}", _vector)


def _discriminators(bundle: TensorBundle, config: ModelConfig, dtype: torch.dtype) -> dict[str, Tensor] | None:
    if "discriminator_A/local/conv_0/u" not in bundle.variables:
        return None
    tensors: dict[str, Tensor] = {}
    shapes = critic_shapes(config)
    for domain in DOMAINS:
        for scale in SCALES:
            scope = f"discriminator_{domain.upper()}/{scale}"
            modules = _modules(config.layers(scale) - 2)
            names = {ours: theirs for ours, (theirs, _) in discriminator_names(modules).items()}
            names |= {f"{ours}.norm.u": f"{theirs}/u" for ours, theirs in modules.items()}
            _check_variables(bundle, scope, names, shapes, f"{domain}.{scale}")
            state = _discriminator(bundle, scope, modules, dtype)
            tensors |= {f"{domain}.{scale}.{name}": tensor for name, tensor in state.items()}
    return tensors


def _modules(strided: int) -> dict[str, str]:
    """Our module with spectral norm -> the official one."""
    modules = {f"layers.{i}": f"conv_{i}" for i in range(strided)}
    return modules | {f"layers.{strided}": "conv_last", "head": "D_logit", "cam.gap": "CAM_logit"}


def discriminator_names(modules: Mapping[str, str]) -> dict[str, tuple[str, Layout]]:
    """Our discriminator tensor name -> the official variable below its scope, and how its layout changes."""
    names: dict[str, tuple[str, Layout]] = {}
    for ours, theirs in modules.items():
        names[f"{ours}.weight"] = (f"{theirs}/kernel", _matrix if ours == "cam.gap" else _kernel)
        names[f"{ours}.bias"] = (f"{theirs}/bias", _vector)
    _add_conv(names, "cam", "conv_1x1/conv2d")
    return names


def _discriminator(
    bundle: TensorBundle, scope: str, modules: Mapping[str, str], dtype: torch.dtype
) -> dict[str, Tensor]:
    names = discriminator_names(modules)
    tensors = {ours: _convert(bundle, f"{scope}/{theirs}", layout, dtype) for ours, (theirs, layout) in names.items()}
    for ours, theirs in modules.items():
        u = _convert(bundle, f"{scope}/{theirs}/u", _vector, dtype)
        tensors[f"{ours}.norm.u"], tensors[f"{ours}.norm.v"] = _singular_vectors(tensors[f"{ours}.weight"], u)
    return tensors


def _singular_vectors(weight: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """One power iteration: TensorFlow stores no v, and iterates once in every forward pass, at test time too."""
    matrix = weight.float().flatten(1)
    if len(u) != len(matrix):
        raise ValueError("u doesn't fit its kernel")
    v = F.normalize(matrix.T @ u, dim=0)
    return F.normalize(matrix @ v, dim=0), v

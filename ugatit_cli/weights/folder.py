"""Model folders: `config.json`, `model.safetensors`, optionally `discriminators.safetensors`, and their `SHA256SUMS`.

A model is rebuilt from these files alone. Reading is strict: every tensor the config asks for, in its shape, and
nothing else; each file is the one that was written, if anybody recorded its hash. Writing is atomic: a folder is
complete or absent.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ugatit_cli.config import BaseConfig, Direction, Domain, Precision
from ugatit_cli.device import DTYPES
from ugatit_cli.errors import UPGRADE, AlreadyThere, ModelError, UsageError, plain_reason
from ugatit_cli.files import check_space, open_file, read_file, replace_folder, reported, sync_files
from ugatit_cli.leftovers import discard, hidden, sweep_once
from ugatit_cli.methods.networks import tensors_of
from ugatit_cli.methods.registry import method_of, networks_document, read_networks
from ugatit_cli.nn.layers import Network
from ugatit_cli.weights import manifest
from ugatit_cli.weights.archive import check_no_program
from ugatit_cli.weights.hashes import SUMS_FILE, Record, check_hash, hash_of, hashes_of, read_sums, sums_text
from ugatit_cli.weights.kinds import HEAD, LARGEST_HEADER, check_tensors, foreign

_CODES: Final = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write_tensors(path: Path, tensors: Mapping[str, Tensor], storage: Precision | None = None) -> str:
    """Writes a safetensors file and waits until it is on the disk.

    A tensor that is to be converted, or isn't contiguous on the CPU, is copied when it is its turn.

    Args:
        tensors: of any shape, strides and device; they may share memory.
        storage: what they are converted to, as `stored` does; None: they stay as they are.

    Returns:
        SHA-256 of the file, in hex.

    Raises:
        OSError: it can't be written.
        KeyError: a dtype that such a file can't hold.
        ModelError: as `stored`.
    """
    dtypes = {name: _stored_dtype(tensor, storage) if storage else tensor.dtype for name, tensor in tensors.items()}
    # As the library does it: large elements first, so that every tensor is aligned to its elements.
    names = sorted(tensors, key=lambda name: (-dtypes[name].itemsize, name))
    header = _header({name: (dtypes[name], tensors[name].shape) for name in names})
    digest = hashlib.sha256(header)
    with path.open("wb") as file:
        file.write(header)
        for name in names:
            try:
                tensor = stored(tensors[name], storage) if storage else tensors[name]
            except ModelError as error:
                raise ModelError(f"{name}: {error.message}", error.hint) from None
            data = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data
            file.write(data)
            digest.update(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _header(layout: Mapping[str, tuple[torch.dtype, torch.Size]]) -> bytes:
    entries: dict[str, Any] = {}
    start = 0
    for name, (dtype, shape) in layout.items():
        end = start + dtype.itemsize * shape.numel()
        entries[name] = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def check_file(path: Path, size: int | None, sha256: str) -> None:
    """Reads a file once to see whether it is what was written.

    Args:
        size: bytes it should have, if known.
        sha256: of its content, in hex.

    Raises:
        ModelError: it is damaged, missing, or can't be read.
    """
    try:
        found = path.stat().st_size
        if size not in (None, found):
            raise ModelError(f"{path}: damaged: it has {found} bytes, not {size}")
        if hash_of(path) != sha256:
            raise ModelError(f"{path}: damaged: its content is not what was written")
    except OSError as error:
        raise ModelError(f"{path}: {plain_reason(error)}") from None


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, read tensor by tensor: `.keys()`, `.get_tensor(name)`, `.get_slice(name)`.

    A tensor is a view of the file until it is copied or converted.

    Raises:
        ModelError: there is no such file, it isn't complete, or lacks a tensor that was asked for.
    """
    try:
        check_tensors(path)
        with safe_open(path, framework="pt") as file:
            yield file
    except MemoryError:
        raise ModelError(f"{path}: not enough memory for it", "Close other programs, or raise `ulimit -v`.") from None
    except OSError as error:
        raise ModelError(f"{path}: {plain_reason(error)}") from None
    except (SafetensorError, ValueError) as error:
        if other := _what_else(path):
            raise ModelError(f"{path}: {other[0]}", other[1]) from None
        raise ModelError(
            f"{path}: not a complete safetensors file ({error})", "Fetch, copy or convert the model again."
        ) from None


def _what_else(path: Path) -> tuple[str, str] | None:
    with contextlib.suppress(OSError), open_file(path) as file:
        return foreign(file.read(HEAD))
    return None


FORMAT = 2
MODEL_FILES = manifest.MODEL_FILES
CONFIG_FILE, GENERATORS_FILE, DISCRIMINATORS_FILE, CARD_FILE, SAMPLES_FILE = MODEL_FILES


@dataclass(frozen=True)
class ModelFolder:
    """A checked model folder on disk; tensors are read when a network is asked for.

    Attributes:
        provenance: where the weights come from: plain JSON values, shown to users.
        weights: the file with the translators.
        discriminators: the file with the discriminators, or None.
        record: what its files should be, instead of what its `SHA256SUMS` says.
    """

    path: Path
    config: BaseConfig
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weights: Path = Path()
    discriminators: Path | None = None
    record: Record | None = None
    _checked: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    def generator(self, direction: Direction) -> Network:
        """What translates in a direction: float32, in eval mode, on the CPU.

        Raises:
            ModelError: the file is damaged or can't be read, or the model doesn't translate in that direction.
        """
        if direction not in self.config.directions:
            raise ModelError(f"{self.path}: {self.config.only_way}")
        method = method_of(self.config)
        return method.translator(self._translators(method.needed(direction)), direction)

    def style_encoder(self, direction: Direction) -> Network:
        """What tells the styles of pictures of a direction's target: float32, in eval mode, on the CPU.

        Raises:
            ModelError: the file is damaged or can't be read, or the model has no styles.
        """
        method = method_of(self.config)
        encoder = method.style_encoder(self._translators(method.style_networks(direction)), direction)
        if encoder is None:
            raise ModelError(f"{self.path}: its method, {self.config.method}, has no styles")
        return encoder

    def _translators(self, names: Collection[str]) -> dict[str, Network]:
        with torch.device("meta"):
            networks = method_of(self.config).translators(self.config)
        weights = self.intact(self.weights)
        return {name: _fill(networks[name], weights, name) for name in names}

    def discriminator(self, domain: Domain, scale: str | None = None) -> Network:
        """The discriminator of a domain, and of a scale where there are several: float32, in eval mode, on the CPU.

        Raises:
            ModelError: the folder has no discriminators, or none of that domain and scale, or the file is damaged or
                can't be read.
        """
        if self.discriminators is None:
            raise ModelError(
                f"{self.path}: this model comes without discriminators",
                "They are kept by `ugatit convert` when the checkpoint has them, and by training.",
            )
        with torch.device("meta"):
            networks = method_of(self.config).critics(self.config)
        name = f"{domain}.{scale}" if scale else domain
        if name not in networks:
            raise ModelError(f"{self.path}: this model has no {scale or domain} discriminators")
        return _fill(networks[name], self.intact(self.discriminators), name)

    def state(self, name: str) -> dict[str, Tensor] | None:
        """Tensors of any of its networks; None if it has none of that name.

        Raises:
            ModelError: the file is damaged or can't be read.
        """
        with torch.device("meta"):
            translates = name in method_of(self.config).translators(self.config)
        path = self.weights if translates else self.discriminators
        if path is None:
            return None
        with open_tensors(self.intact(path)) as file:
            names = [one for one in file.keys() if one.startswith(f"{name}.")]  # noqa: SIM118  # no dict
            return {one.removeprefix(f"{name}."): file.get_tensor(one).float() for one in names} or None

    @property
    def hashes(self) -> dict[str, str]:
        """File name -> SHA-256 of its config and weights: as recorded, else as they are.

        Raises:
            ModelError: a file can't be read.
        """
        weights = (path.name for path in (self.weights, self.discriminators) if path is not None)
        return hashes_of(self.path, [CONFIG_FILE, *weights], self.record)

    def intact(self, path: Path) -> Path:
        """A file of weights, compared with its hash unless it was before.

        Raises:
            ModelError: it is another one, or can't be read.
        """
        if path not in self._checked:
            check_hash(path, self.record)
            self._checked.add(path)
        return path


def _fill(network: Network, path: Path, prefix: str) -> Network:
    with open_tensors(path) as file:
        state = {name: file.get_tensor(f"{prefix}.{name}").float() for name in network.state_dict()}
    network.load_state_dict(state, assign=True)
    return network.eval()


@functools.lru_cache(8)  # each checkpoint of a run asks again
def translator_shapes(config: BaseConfig) -> Mapping[str, tuple[int, ...]]:
    """Tensor name -> shape of `model.safetensors`: names start with that of a network, `a2b.` or `b2a.`."""
    with torch.device("meta"):
        return {name: tuple(one.shape) for name, one in tensors_of(method_of(config).translators(config)).items()}


@functools.lru_cache(8)
def critic_shapes(config: BaseConfig) -> Mapping[str, tuple[int, ...]]:
    """Tensor name -> shape of `discriminators.safetensors`: names start with `a.local.`, `b.global.`, ..."""
    with torch.device("meta"):
        return {name: tuple(one.shape) for name, one in tensors_of(method_of(config).critics(config)).items()}


def open_model(path: Path, record: Record | None = None) -> ModelFolder:
    """Reads and checks a model folder without loading its tensors, whose hashes are checked when they are loaded.

    Args:
        path: a model folder, a run folder with `model/` in it, or a `.safetensors` file with `config.json` beside it.
        record: what its files should be, instead of what its `SHA256SUMS` says.

    Raises:
        ModelError: a file is missing, damaged, from a newer version, or doesn't fit the config.
    """
    if path.is_file():
        folder, weights = path.parent, path
        if path.suffix.lower() == ".onnx":
            hint = "`ugatit translate` and `ugatit cam` run it; name the model that was exported for anything else."
            raise ModelError(f"{path}: an exported file, not a model folder", hint)
        check_no_program(path)
        if path.suffix.lower() in (".pt", ".pth", ".ckpt", ".index"):
            way = f"Convert it first: ugatit convert {shlex.quote(str(path))} -o DIR"
            raise ModelError(f"{path}: not a model folder", way)
        if other := _what_else(path):
            raise ModelError(f"{path}: {other[0]}", other[1])
    else:
        folder = path / "model" if (path / "model" / CONFIG_FILE).is_file() else path
        weights = folder / GENERATORS_FILE
    check_hash(folder / CONFIG_FILE, record)
    config, provenance = read_config(folder / CONFIG_FILE)
    _check_weights(weights, translator_shapes(config), record)
    discriminators = folder / DISCRIMINATORS_FILE
    if not discriminators.exists():
        return ModelFolder(folder, config, provenance, weights, record=record)
    _check_weights(discriminators, critic_shapes(config), record)
    return ModelFolder(folder, config, provenance, weights, discriminators, record)


def _check_weights(path: Path, expected: Mapping[str, tuple[int, ...]], record: Record | None) -> None:
    largest = 4 * sum(math.prod(shape) for shape in expected.values()) + LARGEST_HEADER
    if path.is_file() and path.stat().st_size > largest:  # it would take long to read
        raise ModelError(f"{path}: has {path.stat().st_size:,} bytes; its config asks for {largest:,} at most")
    try:
        _check_tensors(path, expected)
    except ModelError:
        if _what_else(path) is None:  # else the error tells what it is
            check_hash(path, record)
        raise


def read_config(path: Path) -> tuple[BaseConfig, dict[str, Any]]:
    """The config and provenance of a `config.json`.

    Raises:
        ModelError: missing, not JSON, of a newer format, or with values that its method refuses.
    """
    try:
        document = json.loads(read_file(path))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file", "A model folder holds config.json and model.safetensors.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: can't be read ({plain_reason(error)})") from None
    if not isinstance(document, dict) or type(document.get("format")) is not int:
        raise ModelError(f"{path}: not a ugatit model config (no format number)")
    if document["format"] > FORMAT:
        raise ModelError(
            f"{path}: written by a newer ugatit (format {document['format']}, this one reads up to {FORMAT})",
            UPGRADE,
        )
    model, provenance = document.get("model"), document.get("provenance", {})
    if not isinstance(model, dict) or not isinstance(provenance, dict):
        raise ModelError(f"{path}: damaged: `model` and `provenance` must be tables")
    try:
        return read_networks(document), provenance
    except UsageError as error:
        raise ModelError(f"{path}: {error.message}", UPGRADE if "method" in document else "") from None


def _check_tensors(path: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compares a safetensors file's header with the tensors a config asks for; reads no tensor."""
    with open_tensors(path) as file:
        found = set(file.keys())
        differences = [
            f"{len(names)} {kind} tensors ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
            for kind, names in (("missing", set(expected) - found), ("unknown", found - set(expected)))
            if names
        ]
        if differences:
            raise ModelError(f"{path}: doesn't fit its config: {' and '.join(differences)}")
        for name, shape in expected.items():
            header = file.get_slice(name)
            if tuple(header.get_shape()) != shape:
                raise ModelError(f"{path}: {name} has shape {tuple(header.get_shape())}, its config asks for {shape}")
            if header.get_dtype() not in ("F32", "BF16", "F16"):
                raise ModelError(f"{path}: {name} has type {header.get_dtype()}; weights are F32, BF16 or F16")


def stored(tensor: Tensor, storage: Precision) -> Tensor:
    """A tensor as it is stored: matrices and kernels in the storage dtype, vectors always in float32.

    Raises:
        ModelError: a weight isn't finite, or too large for fp16.
    """
    result = tensor.detach().to("cpu", _stored_dtype(tensor, storage)).contiguous()
    # Extremes are finite only if everything is, and need no mask as large as the tensor.
    if not all(extreme.isfinite() for extreme in torch.aminmax(result)):
        raise ModelError(
            f"a weight is not finite, or too large for {storage}",
            "Store it as fp32: --dtype fp32" if storage == "fp16" else "",
        )
    return result


def _stored_dtype(tensor: Tensor, storage: Precision) -> torch.dtype:
    return DTYPES[storage] if tensor.ndim > 1 else torch.float32


def save_model(
    folder: Path,
    config: BaseConfig,
    generators: Mapping[str, Tensor],
    discriminators: Mapping[str, Tensor] | None = None,
    *,
    storage: Precision = "fp32",
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a model folder, complete or not at all.

    Args:
        generators, discriminators: tensors by the names of `translator_shapes` and `critic_shapes`.
        storage: dtype of matrices and kernels on disk.
        provenance: plain JSON values.
        overwrite: replace an existing model folder; other folders are never replaced.

    Raises:
        ModelError: tensors that don't fit the config, or aren't finite.
        OutputError: the folder exists, or can't be written.
    """
    check_target(folder, overwrite=overwrite)
    # Format 1 has two generators of U-GAT-IT: versions that know no other read these models, and refuse the rest.
    number = 1 if config.method == "ugatit" and config.ways == "both" else FORMAT
    document = {"format": number, **networks_document(config), "provenance": dict(provenance or {})}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    with _written_whole(folder) as temporary:
        written = (*generators.values(), *(discriminators or {}).values())
        check_space(folder.parent, sum(one.numel() * _stored_dtype(one, storage).itemsize for one in written))
        hashes = {GENERATORS_FILE: write_tensors(temporary / GENERATORS_FILE, generators, storage)}
        _check_tensors(temporary / GENERATORS_FILE, translator_shapes(config))
        if discriminators is not None:
            hashes[DISCRIMINATORS_FILE] = write_tensors(temporary / DISCRIMINATORS_FILE, discriminators, storage)
            _check_tensors(temporary / DISCRIMINATORS_FILE, critic_shapes(config))
        (temporary / CONFIG_FILE).write_bytes(text.encode())
        hashes[CONFIG_FILE] = hash_of(temporary / CONFIG_FILE)
        (temporary / SUMS_FILE).write_bytes(sums_text(hashes).encode())


def copy_model(
    model: ModelFolder,
    folder: Path,
    *,
    names: Collection[str] = MODEL_FILES,
    overwrite: bool = False,
    option: str = "--overwrite",
) -> ModelFolder:
    """Copies these files of a model folder byte for byte, completely or not at all, and records their hashes.

    Args:
        option: what the user can say to replace an existing folder.

    Raises:
        OutputError: the folder exists, or can't be written.
        ModelError: the model can't be read, or is damaged.
    """
    check_target(folder, overwrite=overwrite, option=option)
    hashes, record = {}, model.record or read_sums(model.path)
    with _written_whole(folder) as temporary:
        for name in names:
            source = model.weights if name == GENERATORS_FILE else model.path / name
            if source.is_file():
                shutil.copyfile(source, temporary / name)
                if name in manifest.HASHED_FILES:
                    hashes[name] = hash_of(temporary / name)
                    if record is not None and (problem := record.damage(source, hashes[name])):
                        raise ModelError(problem, record.way_out)
        (temporary / SUMS_FILE).write_bytes(sums_text(hashes).encode())
    return open_model(folder)


def check_target(folder: Path, *, overwrite: bool, option: str = "--overwrite") -> None:
    """Whether a model may be written to a folder.

    Args:
        option: what the user can say to replace one.

    Raises:
        OutputError: it exists, unless it is a model folder with nothing else in it, and `overwrite` is set.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        document = json.loads(read_file(folder / CONFIG_FILE))
        names = {path.name for path in folder.iterdir()}
        ours = names <= {*MODEL_FILES, SUMS_FILE} and {"format", "model"} <= document.keys()
    except (OSError, ValueError, RecursionError, AttributeError):
        ours = False
    if not ours:
        raise AlreadyThere(
            f"{folder}: exists and is not a model folder, or holds other files too", "Name another folder."
        )
    if not overwrite:
        raise AlreadyThere(f"{folder}: exists already", f"Name another folder, or pass {option}.")


@contextlib.contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` at the end; what was there stays on errors."""
    with reported(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(folder.parent)
        temporary = hidden(folder)
        temporary.mkdir()
        try:
            yield temporary
            sync_files(temporary)
            replace_folder(temporary, folder)
        finally:
            discard(temporary)

"""From a model folder to a file: planned, made, compared with PyTorch, and only then written."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from ugatit_cli.config import BaseConfig, Direction
from ugatit_cli.errors import AlreadyThere, ModelError, UsageError, install_line
from ugatit_cli.exporting import check
from ugatit_cli.exporting.network import Portable, input_names, output_names, silent, traced
from ugatit_cli.exporting.store import (
    CAM_LOGIT,
    HEATMAP,
    KEY,
    PICTURE,
    STYLE,
    TRANSLATION,
    Description,
    FileFormat,
    FilePrecision,
    exported,
)
from ugatit_cli.files import check_space, reported, write_file
from ugatit_cli.methods.registry import networks_document
from ugatit_cli.weights import catalog
from ugatit_cli.weights.folder import ModelFolder

ENDINGS: Final[Mapping[FileFormat, tuple[str, ...]]] = {"onnx": (".onnx",), "torchscript": (".pt", ".ts")}
NEEDED: Final = ("onnx", "onnxruntime")
SMALLEST: Final = 16
UNKNOWN: Final = "not stated"


@dataclass(frozen=True)
class ExportOptions:
    """What is asked for.

    Attributes:
        output: the file; None: the place where `exporting.store.exported` finds it.
        file_format: what it is.
        direction: which of the model's generators.
        precision: of its weights; it takes and gives float32.
        size: height and width, if it is to take no others.
        maps: whether it gives the attention, too.
        overwrite: replace the file if it exists.
    """

    output: Path | None = None
    file_format: FileFormat = "onnx"
    direction: Direction = "a2b"
    precision: FilePrecision = "fp32"
    size: tuple[int, int] | None = None
    maps: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        bytes: its size.
        difference: from PyTorch.
    """

    path: Path
    bytes: int
    description: Description
    difference: check.Difference


def export_model(name: str, model: ModelFolder, options: ExportOptions) -> Exported:
    """Writes the generator of a direction as a file of its own.

    Args:
        name: what `--model` takes, and the file says that the model is called.

    Raises:
        UsageError: an option makes no sense, or a package isn't installed.
        ModelError: the weights can't be read; or what would be written doesn't do the same as PyTorch.
        OutputError: the file exists, or can't be written.
    """
    config = model.config
    path = _target(model, options)
    require_packages(options.file_format)
    size = fixed_size(config, options)
    if options.maps and (reason := config.lacks("generator")):
        raise UsageError(f"{name}: no attention to give: {reason}", "Leave --maps out.")
    description = Description(
        name,
        options.direction,
        networks_document(config),
        options.precision,
        size,
        options.maps,
        model.hashes[model.weights.name],
        model.provenance,
    )
    network = Portable(_generator(model, options), maps=options.maps)
    if options.file_format == "onnx":
        data, run = _onnx(network, config, description, facts_of(name, model))
    else:
        data, run = _torchscript(network, config, description)
    reference = Portable(model.generator(options.direction).requires_grad_(False), maps=options.maps)
    outputs = output_names(config, maps=options.maps)
    # PyTorch has no fast float16 on CPUs.
    slow = (options.file_format, options.precision) == ("torchscript", "fp16")
    tried = check.batches(config, size, 64 if slow else 512)
    difference = check.compare(run, reference, config, outputs, tried)
    check.require(difference, options.precision, name)
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, len(data))
    write_file(path, data, durable=True)
    return Exported(path, len(data), description, difference)


def _target(model: ModelFolder, options: ExportOptions) -> Path:
    path, kind = options.output, options.file_format
    if path is None:
        if kind != "onnx":
            raise UsageError(f"a {kind} file needs a name", "Like this: -o model.pt")
        path = exported(model.path, options.direction, model.weights.name)
    elif path.suffix.lower() not in ENDINGS[kind]:
        other = next((one for one, endings in ENDINGS.items() if path.suffix.lower() in endings), None)
        hint = f"Add --format {other}, or end" if other else "End"
        raise UsageError(f"{path}: {kind} files end in {' or '.join(ENDINGS[kind])}", f"{hint} its name so.")
    if path.exists() and not options.overwrite:
        raise AlreadyThere(f"{path}: exists already", "Name another file, or pass --overwrite.")
    return path


def require_packages(file_format: FileFormat) -> None:
    """Whether what a format needs is installed.

    Raises:
        UsageError: it isn't.
    """
    missing = [name for name in NEEDED if file_format == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"not installed: {' and '.join(missing)}, which ONNX files need", install_line("export"))


def fixed_size(config: BaseConfig, options: ExportOptions) -> tuple[int, int] | None:
    """Height and width of the only pictures that a file takes; None: it takes any.

    Raises:
        UsageError: the model can't have that size.
    """
    size, side = options.size, config.image_size
    if size is None:
        return None if config.light else (side, side)
    asked = f"size {size[1]}x{size[0]}"
    if not config.light and size != (side, side):
        raise UsageError(f"{asked}: this model is full, which takes {side}x{side} only", "Leave --size out.")
    if options.file_format != "onnx":
        raise UsageError(f"{asked}: TorchScript files have no size of their own", "Leave --size out.")
    if any(one % 4 or one < SMALLEST for one in size):
        near = "x".join(str(max(SMALLEST, round(one / 4) * 4)) for one in reversed(size))
        raise UsageError(f"{asked}: sides are multiples of 4, {SMALLEST} or more", f"Use --size {near}.")
    return size


def _generator(model: ModelFolder, options: ExportOptions) -> Any:
    generator = model.generator(options.direction).requires_grad_(False)
    return generator.set_precision(torch.float16) if options.precision == "fp16" else generator


def facts_of(name: str, model: ModelFolder) -> dict[str, str]:
    """What people may want to know of a file, by plain keys."""
    known = catalog.known(name)
    entry, given = known.entry, model.provenance
    source = (
        (entry.address or entry.repository or entry.source)
        if entry
        else given.get("repository") or given.get("address")
    )
    return {
        "domains": model.config.pair,
        "licence": known.fact("licence") or UNKNOWN,
        "source": str(source or UNKNOWN),
    }


def _onnx(
    network: Portable, config: BaseConfig, description: Description, facts: Mapping[str, str]
) -> tuple[bytes, check.Run]:
    """The file, and what runs it."""
    from onnx import helper

    from ugatit_cli.exporting.onnx_graph import MOST, onnx_model, weight_bytes

    names = input_names(config), output_names(config, maps=description.maps)
    model = onnx_model(traced(network, config), *names, shapes(config, description.size))
    if weight_bytes(model) > MOST:
        hint = "Use --precision fp16." if description.precision == "fp32" else "Use --format torchscript."
        raise ModelError(f"{description.name}: too large for an ONNX file, which holds 2 GB", hint)
    helper.set_model_props(model, {KEY: description.text, **facts})
    data = model.SerializeToString()
    del model
    return data, onnxruntime_run(data, names[0])


def shapes(config: BaseConfig, size: tuple[int, int] | None) -> dict[str, list[Any]]:
    """Of all that goes in and out, numbers and names: `batch`, `height` and `width` may differ."""
    height, width = size or ("height", "width")
    cells = [side // 4 for side in size] if size else ["rows", "columns"]
    return {
        PICTURE: ["batch", 3, height, width],
        STYLE: ["batch", config.style_size],
        TRANSLATION: ["batch", 3, height, width],
        HEATMAP: ["batch", 1, *cells],
        CAM_LOGIT: ["batch", 2],
    }


def onnxruntime_run(file: bytes, names: list[str]) -> check.Run:
    """What runs an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda arrays: [np.asarray(one) for one in session.run(None, dict(zip(names, arrays, strict=True)))]


def _torchscript(network: Portable, config: BaseConfig, description: Description) -> tuple[bytes, check.Run]:
    file = io.BytesIO()
    with silent():
        torch.jit.save(traced(network, config), file, _extra_files={KEY: description.text})
        loaded = torch.jit.load(io.BytesIO(file.getvalue()))  # type: ignore[no-untyped-call]

    def run(arrays: check.Arrays) -> check.Arrays:
        found = loaded(*map(torch.from_numpy, arrays))
        return [one.numpy() for one in (found if isinstance(found, tuple) else [found])]

    return file.getvalue(), run

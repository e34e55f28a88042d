"""What runs a command's model: PyTorch, or onnxruntime, which needs a file that `ugatit export` wrote."""

from __future__ import annotations

import gc
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ugatit_cli.cli import console
from ugatit_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from ugatit_cli.cli.options import PictureOptions
    from ugatit_cli.config import BaseConfig, Direction, MapName
    from ugatit_cli.pictures.geometry import Size
    from ugatit_cli.translation.engine import Engine
    from ugatit_cli.translation.exported import ExportedModel
    from ugatit_cli.weights.folder import ModelFolder
    from ugatit_cli.weights.known import Known

# Pixels as networks take them, times their channels squared: for fewer, PyTorch's start takes longer than what
# onnxruntime needs more. On a core of an EPYC, 24 pictures of 256 x 256 through flat2clay (32 channels) took 2.4 s
# with onnxruntime and 3.3 s with PyTorch in bf16, 1.6 s of these for the start: 70 would take as long with either.
LITTLE: Final = 20 * 256 * 256 * 32 * 32


@dataclass(frozen=True)
class Chosen:
    """A model, and what is known of it before its networks are loaded.

    Attributes:
        direction: the one that is asked for.
        size: see `Translator`.
        open: gives the model.
    """

    config: BaseConfig
    missing_maps: Mapping[MapName, str]
    direction: Direction
    size: Size | None
    open: Callable[[], Engine]


def exported(options: PictureOptions, name: str) -> Chosen | None:
    """The model of that name as an exported file, if that is asked for; nothing of PyTorch is imported.

    Raises:
        UsageError: an option that it doesn't have, or onnxruntime isn't installed.
        ModelError: there is none, or it can't be used.
    """
    from ugatit_cli.pictures.geometry import as_tile
    from ugatit_cli.translation.exported import is_exported

    if not is_exported(name) and options.engine != "onnx":
        return None
    if options.engine == "torch":
        raise UsageError("--engine torch can't run an exported file", "Name the model that was exported.")
    model = _model(options, name)
    if options.device not in ("auto", "cpu"):
        raise UsageError(f"--device {options.device}: onnxruntime runs on the CPU here", "Use --engine torch.")
    if options.precision not in ("auto", model.float_type):
        again = f", or export it so: {model.export_line} --precision {options.precision}"
        hint = f"Leave it out{again if options.precision in ('fp32', 'fp16') else '.'}"
        raise UsageError(f"--precision {options.precision}: {model.name} is in {model.float_type}", hint)
    if options.compile:
        raise UsageError("--compile is for PyTorch", "Leave it out.")
    tile = as_tile(options.tile, "--tile")
    if tile or (options.fit == "native" and not model.config.light):
        asked = f"--tile {tile}" if tile else "--fit native"
        reason = f"{asked}: {model.name} is an exported file, which would give each tile its own colours"
        raise UsageError(reason, "Leave it out, or name the model that was exported.")
    direction = model.direction(options.direction, options.to)
    return Chosen(model.config, model.missing_maps, direction, model.size, lambda: model)


def _model(options: PictureOptions, name: str) -> ExportedModel:
    """The file that is named, or what `ugatit export` has left of the model that is."""
    from ugatit_cli.translation.exported import ExportedModel, is_exported

    if is_exported(name):
        return ExportedModel(name)
    from ugatit_cli.translation.choices import resolve_direction
    from ugatit_cli.weights.catalog import known

    with console.showing() as listener:
        found = known(name, listener)
    if found.config is None or found.folder is None:
        raise _not_exported(name, "")
    direction = resolve_direction(found.config, name, options.direction, options.to)
    if not (path := _place(found, direction)).exists():
        raise _not_exported(name, direction)
    model = ExportedModel(path)
    model.name = name
    return model


def _place(found: Known, direction: Direction) -> Path:
    from ugatit_cli.exporting.store import exported

    weights = (name for name in found.files if name.endswith(".safetensors") and name != "discriminators.safetensors")
    return exported(found.folder or Path(), direction, next(weights, "model.safetensors"))


def _not_exported(model: str, direction: str) -> ModelError:
    line = f"ugatit export {shlex.quote(model)}{' --direction b2a' if direction == 'b2a' else ''}"
    return ModelError(f"{model}: hasn't been exported yet", f"Do so once: {line}")


def trained(options: PictureOptions, name: str, files: int) -> Chosen:
    """The model of that name, which PyTorch runs, for so many files; it is fetched if need be.

    Raises:
        ModelError: there is none, or it can't be used.
        UsageError: a direction that it doesn't have.
    """
    from ugatit_cli.weights.catalog import resolve

    resolve(name)  # says so at once where there is none: importing torch takes a second
    gc.disable()  # of the hundreds of thousands of objects that torch makes, none is garbage
    try:
        from ugatit_cli.attention.maps import missing_maps
        from ugatit_cli.device import keep_freed_memory
        from ugatit_cli.translation.choices import resolve_direction
        from ugatit_cli.translation.model import Model
    finally:
        gc.enable()
    folder = console.find_model(name)

    def opened() -> Model:
        model = Model.from_folder(
            name, folder, device=options.device, precision=options.precision, compiled=options.compile
        )
        if model.on_cpu:
            keep_freed_memory(all_sizes=False)
            if options.engine == "auto" and files * (model.config.channels * model.config.image_size) ** 2 <= LITTLE:
                _say_if_exported(name, folder, direction)
        return model

    missing = missing_maps(folder.config, discriminators=folder.discriminators is not None)
    direction: Direction = resolve_direction(folder.config, name, options.direction, options.to)
    return Chosen(folder.config, missing, direction, None, opened)


def _say_if_exported(name: str, folder: ModelFolder, direction: Direction) -> None:
    from ugatit_cli.exporting.store import exported
    from ugatit_cli.weights.home import home_folder

    if (home_folder() / "exports").is_dir() and exported(folder.path, direction, folder.weights.name).exists():
        console.note(f"{name} has been exported: --engine onnx would be done sooner with so few pictures")

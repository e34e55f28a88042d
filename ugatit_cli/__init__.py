"""Unpaired image-to-image translation with U-GAT-IT (Kim et al., ICLR 2020).

import ugatit_cli
model = ugatit_cli.load("ink2clay")
clay = model.translate("sketch.png")        # a path or a PIL picture in, PIL out; or a list of them
clay = model.translate(picture, to="clay", size=64)
clay = model.translate("party.jpg", regions=ugatit_cli.FaceFinder())   # faces in their places, the rest as it is
output = model.generator("a2b")(tensor)     # (image, cam_logit, heatmap)
seen = model.attention_maps([picture])      # where the networks look: AttentionMaps
ugatit_cli.translate_film(model, "clip.mp4", "out.mp4")   # a film, with its sound; needs PyAV
ugatit_cli.export("flat2clay", "clay.onnx")  # a file that other programs run
ugatit_cli.make_study(page, results, source=folder, examples=folder)   # people compare methods; then `tally_study`

What `dir(ugatit_cli)` lists is public and stays; everything below it (`ugatit_cli.x.y`) may move between versions.

Errors: whatever goes wrong with pictures, models, options or the machine is a `UgatitError`, with `.message` and a
`.hint` that says the way out: `UsageError` (an argument makes no sense; it names the choices), below it `ConfigError`
(sizes of a `ModelConfig`) and `DeviceError`; `ModelError` (missing, damaged, can't be fetched);
`PictureError` (can't be read, or is too large); `OutputError` (can't be written), below it `StorageError` (the disk
is full). A value of a wrong type is a `UsageError` that is a `TypeError`, too.

Threads: a loaded model may be used by several threads at once, in both directions, also while its weights are still
to be read: each gets what it would get alone. Networks that are trained (`new`, `Model.discriminator`) are not for
that.

Logging: what there is to say goes to the logger `ugatit`, level INFO: what is fetched, batches halved for want of
memory. Nothing is printed.
"""

from __future__ import annotations

import importlib
import logging
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ugatit_cli.arguments import checked
from ugatit_cli.config import DEFAULT_MODEL, BaseConfig, Direction
from ugatit_cli.errors import (
    ConfigError,
    DeviceError,
    ModelError,
    OutputError,
    PictureError,
    StorageError,
    UgatitError,
    UsageError,
)

if TYPE_CHECKING:
    from ugatit_cli.attention.maps import AttentionMaps
    from ugatit_cli.config import ModelConfig
    from ugatit_cli.faces.finder import FaceFinder
    from ugatit_cli.films.film import translate_film
    from ugatit_cli.pictures.regions import BoxFinder, MaskFinder, Region
    from ugatit_cli.study.page import make_study
    from ugatit_cli.study.tally import tally_study
    from ugatit_cli.translation.exported import ExportedModel
    from ugatit_cli.translation.model import Model


__version__ = "0.1.0"
__all__ = [
    "AttentionMaps",
    "BoxFinder",
    "ConfigError",
    "DeviceError",
    "ExportedModel",
    "FaceFinder",
    "MaskFinder",
    "Model",
    "ModelConfig",
    "ModelError",
    "OutputError",
    "PictureError",
    "Region",
    "StorageError",
    "UgatitError",
    "UsageError",
    "__version__",
    "export",
    "load",
    "load_exported",
    "make_study",
    "new",
    "tally_study",
    "translate_film",
]

logging.getLogger("ugatit").addHandler(logging.NullHandler())

_Sides = Annotated[str | int | tuple[int, int], "width and height: 640x480 or (640, 480), or one number for both"]
_Named = Annotated[str | PathLike[str], "a model's name, or the path of its folder"]


@checked
def load(model: _Named = DEFAULT_MODEL, *, device: str = "auto", precision: str = "auto") -> Model:
    """A trained model.

    Args:
        model: a name from the manifest or the model store, a model folder, a run folder, a `.safetensors` file
            with its `config.json` beside it, or `owner/name[@revision]` on the Hub. What isn't on this machine yet is
            fetched. `...@sha256:DIGEST`, as `ugatit models show` tells it, takes nothing but that very model.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.

    Raises:
        ModelError: no such model, it is damaged, another one than the pinned, or can't be fetched.
        OutputError: what was fetched can't be written.
        DeviceError: the machine doesn't have that device or precision.
    """
    from ugatit_cli.translation.model import Model
    from ugatit_cli.weights.fetch import find_model

    name = str(fspath(model))
    return Model.from_folder(name, find_model(name), device=device, precision=precision)


@checked
def load_exported(file: str | PathLike[str]) -> ExportedModel:
    """A model that `ugatit export` wrote to an ONNX file: onnxruntime runs it on the CPU, and PyTorch isn't imported.

    Args:
        file: its path; `...@sha256:DIGEST` takes nothing but the file with that hash.

    Raises:
        ModelError: no such file, it is damaged, another one than the pinned, or `ugatit export` hasn't written it.
        UsageError: onnxruntime isn't installed.
    """
    from ugatit_cli.translation.exported import ExportedModel

    return ExportedModel(file)


@checked
def export(
    model: _Named = DEFAULT_MODEL,
    output: str | PathLike[str] | None = None,
    *,
    format: Literal["onnx", "torchscript"] = "onnx",
    direction: Direction | None = None,
    to: str | None = None,
    precision: Literal["fp32", "fp16"] = "fp32",
    size: _Sides | None = None,
    maps: bool = False,
    overwrite: bool = False,
) -> Path:
    """Writes a model as a file that other programs run; it is compared with PyTorch before it is kept.

    Args:
        model: as in `load`.
        output: the file, `.onnx` or `.pt`; by default where `translate --engine onnx` finds it.
        format: what it is.
        direction: `a2b`, which is the default, or `b2a`.
        to: instead of it, the name of the domain that it leads to.
        precision: of its weights; what goes in and comes out is float32.
        size: of the only pictures that it takes: (width, height), a text like `640x480`, or one number for both; by
            default any, of full models their own.
        maps: give the generator's attention, too.
        overwrite: replace the file if it exists.

    Returns:
        The file.

    Raises:
        ModelError: as `load`; or the file wouldn't do the same as PyTorch.
        OutputError: the file exists, or can't be written.
        UsageError: an option makes no sense, or a package isn't installed.
    """
    from ugatit_cli.exporting.export import ExportOptions, export_model
    from ugatit_cli.pictures.geometry import as_size
    from ugatit_cli.translation.choices import resolve_direction
    from ugatit_cli.weights.fetch import find_model

    name = str(fspath(model))
    found = find_model(name)
    path, way = None if output is None else Path(output), resolve_direction(found.config, name, direction, to)
    sides = None if size is None else as_size(size)[::-1]
    options = ExportOptions(path, format, way, precision, sides, maps, overwrite)
    return export_model(name, found, options).path


@checked
def new(config: BaseConfig | None = None, *, device: str = "auto", precision: str = "auto") -> Model:
    """An untrained model of the same type, with the paper's initial weights.

    Args:
        config: sizes and switches of any method; default: U-GAT-IT's light model at 256 pixels.
        device, precision: as in `load`; to train it, ask for `fp32`, or the weights themselves are bf16 where the
            device prefers that.

    Raises:
        DeviceError: the machine doesn't have that device or precision.
    """
    from ugatit_cli.config import ModelConfig
    from ugatit_cli.translation.model import Model

    return Model.untrained(config or ModelConfig(), device=device, precision=precision)


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; `ugatit --help` must not. And commands get ready for signals first.
    modules = {
        "AttentionMaps": "attention.maps",
        "BoxFinder": "pictures.regions",
        "ExportedModel": "translation.exported",
        "FaceFinder": "faces.finder",
        "MaskFinder": "pictures.regions",
        "Model": "translation.model",
        "ModelConfig": "config",
        "Region": "pictures.regions",
        "make_study": "study.page",
        "tally_study": "study.tally",
        "translate_film": "films.film",
    }
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"ugatit_cli.{modules[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Unpaired image-to-image translation with U-GAT-IT (Kim et al., ICLR 2020).

import ugatit_cli
model = ugatit_cli.load("flat2clay")
clay = model.translate(picture)             # PIL in, PIL out; or a list of them
output = model.generator("a2b")(tensor)     # (image, cam_logit, heatmap)
seen = model.attention_maps([picture])      # where the networks look
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import UgatitError

if TYPE_CHECKING:
    from ugatit_cli.translation.model import Model


__version__ = "0.1.0"
__all__ = ["Model", "ModelConfig", "UgatitError", "__version__", "load", "new"]


def load(model: str | PathLike[str] = "flat2clay", *, device: str = "auto", precision: str = "auto") -> Model:
    """A trained model.

    Args:
        model: a name from the manifest or the model store, a model folder, a run folder, a `.safetensors` file
            with its `config.json` beside it, or `owner/name[@revision]` on the Hub. What isn't on this machine yet is
            fetched.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.

    Raises:
        ModelError: no such model, it is damaged, or can't be fetched.
        OutputError: what was fetched can't be written.
        DeviceError: the machine doesn't have that device or precision.
    """
    from ugatit_cli.translation.model import Model
    from ugatit_cli.weights.fetch import find_model

    name = fspath(model)
    return Model.from_folder(name, find_model(name), device=device, precision=precision)


def new(config: ModelConfig | None = None, *, device: str = "auto", precision: str = "auto") -> Model:
    """An untrained model of the same type, with the paper's initial weights.

    Args:
        config: sizes and switches; default: the paper's light model at 256 pixels.
        device, precision: as in `load`; to train it, ask for `fp32`, or the weights themselves are bf16 where the
            device prefers that.

    Raises:
        DeviceError: the machine doesn't have that device or precision.
    """
    from ugatit_cli.translation.model import Model

    return Model.untrained(config or ModelConfig(), device=device, precision=precision)


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; `ugatit --help` must not.
    if name == "Model":
        from ugatit_cli.translation.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

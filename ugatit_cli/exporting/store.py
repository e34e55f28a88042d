"""Exported files: what they say of themselves, and where those are that nobody has named; without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from ugatit_cli.config import BaseConfig, Direction
from ugatit_cli.errors import UPGRADE, ConfigError, ModelError
from ugatit_cli.fields import read_table
from ugatit_cli.methods.registry import read_networks
from ugatit_cli.weights.home import exported as exported

FORMAT: Final = 1
KEY: Final = "ugatit"
"""Under which a file has its description: in ONNX among `metadata_props`, in TorchScript an extra file."""

# What goes in and comes out.
PICTURE, STYLE = "picture", "style"
TRANSLATION, HEATMAP, CAM_LOGIT = "translation", "heatmap", "cam_logit"

FileFormat = Literal["onnx", "torchscript"]
FilePrecision = Literal["fp32", "fp16"]


@dataclass(frozen=True)
class Description:
    """What an exported file says of itself.

    Attributes:
        name: the model's.
        direction: the one way that the file translates.
        config: what `config.json` says of the networks, for `read_networks`.
        precision: of the weights of convolutions; pictures are float32 in any case.
        size: height and width that it takes; None: any that are multiples of 4, from 16 on.
        maps: whether attention is among its outputs.
        sha256: of the file that the weights come from.
        provenance: of the weights, as `config.json` has it.
    """

    name: str
    direction: Direction
    config: Mapping[str, Any]
    precision: FilePrecision
    size: tuple[int, int] | None
    maps: bool
    sha256: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False)

    @property
    def networks(self) -> BaseConfig:
        """The model's config.

        Raises:
            ModelError: this version of the package knows no such networks.
        """
        try:
            return read_networks(self.config)
        except ConfigError as error:
            raise ModelError(f"{self.name}: {error.message}", UPGRADE) from None

    @classmethod
    def read(cls, text: str | None, name: str) -> Description:
        """The inverse of `text`.

        Args:
            text: what a file has under `KEY`; None: nothing.
            name: what messages call the file.

        Raises:
            ModelError: it isn't ugatit's, or damaged, or of a newer version.
        """
        if text is None:
            raise ModelError(f"{name}: no file of `ugatit export`: it doesn't say what it takes")
        try:
            document = json.loads(text)
            number, size = document.pop("format"), document.pop("size", None)
            height, width = map(int, size or (0, 0))
            found = read_table(cls, {**document, "size": None}) if number == FORMAT else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigError):
            raise ModelError(f"{name}: damaged: what it says of itself can't be read", "Export it again.") from None
        if found is None:
            raise ModelError(
                f"{name}: of another version of ugatit (format {number}, this one reads {FORMAT})", UPGRADE
            )
        return replace(found, size=(height, width) if size else None)

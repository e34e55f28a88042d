"""An official checkpoint, whichever code wrote it, as our config and tensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ugatit_cli.config import ModelConfig
from ugatit_cli.errors import ConfigError, ModelError
from ugatit_cli.weights.folder import discriminator_shapes, generator_shapes


@dataclass(frozen=True)
class Imported:
    """What an importer returns.

    Attributes:
        config: settings inferred from the checkpoint.
        generators, discriminators: tensors by our names; no discriminators where the checkpoint has none.
        notes: what a user should know about the import, full sentences.
    """

    config: ModelConfig
    generators: Mapping[str, Tensor]
    discriminators: Mapping[str, Tensor] | None = None
    notes: tuple[str, ...] = ()

    def checked(self, path: Path) -> Imported:
        """Itself, all its tensors compared with what the inferred config asks for.

        Raises:
            ModelError: one doesn't fit the others; names the checkpoint.
        """
        tensors, shapes = dict(self.generators), generator_shapes(self.config)
        if self.discriminators is not None:
            tensors |= self.discriminators
            shapes |= discriminator_shapes(self.config)
        for name, shape in shapes.items():
            if tuple(tensors[name].shape) != shape:
                found = tuple(tensors[name].shape)
                raise ModelError(f"{path}: {name} has shape {found}, but the other tensors ask for {shape}")
        return self


@dataclass(frozen=True)
class ImportSettings:
    """What a checkpoint can't tell, or tells wrongly; None means: infer it, or take the official default.

    Attributes:
        domains: names of domains A and B.
        image_size: training size; full generators tell theirs, light ones don't (default 256).
        rho_smoothing: TensorFlow only; told by the official folder name.

    Raises:
        ConfigError: names or a size that no model can have.
    """

    domains: tuple[str, str] | None = None
    image_size: int | None = None
    rho_smoothing: bool | None = None

    def __post_init__(self) -> None:
        # Asked here, it is the setting that is wrong; later it would be the checkpoint.
        ModelConfig(image_size=self.image_size or 256, **self.domain_fields())

    def domain_fields(self) -> dict[str, Any]:
        """The domain names as `ModelConfig` fields."""
        return {} if self.domains is None else {"domain_a": self.domains[0], "domain_b": self.domains[1]}

    def fields(self, inputs: int, features: int) -> tuple[dict[str, Any], list[str]]:
        """Domains, size and variant for `ModelConfig`, and what a user should know about them.

        Args:
            inputs: of the style MLP: the features of a light generator, those of the whole map of a full one.
            features: channels of the bottleneck.
        """
        if inputs != features:
            side = 4 * math.isqrt(inputs // features)
            return {**self.domain_fields(), "variant": "full", "image_size": side}, []
        note = "A light checkpoint doesn't tell its image size; 256 is assumed (--image-size)."
        fields = {**self.domain_fields(), "variant": "light", "image_size": self.image_size or 256}
        return fields, [note] if self.image_size is None else []


@contextlib.contextmanager
def understood(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever goes wrong with the contents of a file into an error that names it.

    Args:
        kind: what the file holds: `tensor` or `variable`.

    Raises:
        ModelError: instead of a missing one, shapes that can't be, and settings that no model can have.
    """
    try:
        yield
    except KeyError as error:
        raise ModelError(f"{path}: not a U-GAT-IT checkpoint: no {kind} {error}") from None
    except (IndexError, ValueError, ZeroDivisionError):
        raise ModelError(f"{path}: not a U-GAT-IT checkpoint: {kind}s of other shapes") from None
    except ConfigError as error:
        raise ModelError(f"{path}: {error.message}", error.hint) from None

"""What processes that measure pictures together tell each other: features, and figures of pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from ugatit_cli.errors import PictureError

_PAIR = "pair/"


class Share(Protocol):
    """The processes, of which this one is `rank` of `size`."""

    rank: int
    size: int

    def exchange(self, name: str, data: bytes) -> Iterator[bytes]:
        """What each process knows, in the order of ranks."""


@dataclass(frozen=True, eq=False)
class Row:
    """What is kept of a picture: features float64 (1, D), and the metrics of its pair, if there is one."""

    features: Tensor
    pair: Mapping[Any, Tensor] | None


def packed(files: Sequence[Path], rows: Mapping[Path, Row], broken: Mapping[Path, PictureError]) -> bytes:
    """Rows of some of the files, and why some could not be read; exact."""
    numbers = [i for i, path in enumerate(files) if path in rows]
    mine = [rows[files[i]] for i in numbers]
    reasons = [[str(path), error.message, error.hint] for path, error in broken.items()]
    tensors = {
        "numbers": torch.tensor(numbers, dtype=torch.int64),
        "features": torch.cat([row.features for row in mine]) if mine else torch.empty(0, 0, dtype=torch.float64),
        "paired": torch.tensor([row.pair is not None for row in mine], dtype=torch.bool),
        "broken": torch.frombuffer(bytearray(json.dumps(reasons).encode()), dtype=torch.uint8),
    }
    pairs = [row.pair for row in mine if row.pair is not None]
    for metric in pairs[0] if pairs else ():
        tensors[_PAIR + metric] = torch.stack([pair[metric].double() for pair in pairs])
    return save(tensors)


def unpacked(files: Sequence[Path], data: bytes) -> tuple[dict[Path, Row], dict[Path, PictureError]]:
    """The same again."""
    tensors = load(data)
    metrics = {name.removeprefix(_PAIR): values for name, values in tensors.items() if name.startswith(_PAIR)}
    rows: dict[Path, Row] = {}
    pairs = 0
    for i, number in enumerate(tensors["numbers"].tolist()):
        pair = None
        if tensors["paired"][i]:
            pair, pairs = {metric: values[pairs] for metric, values in metrics.items()}, pairs + 1
        rows[files[number]] = Row(tensors["features"][i : i + 1], pair)
    reasons = json.loads(bytes(tensors["broken"].tolist()))
    return rows, {Path(path): PictureError(message, hint) for path, message, hint in reasons}

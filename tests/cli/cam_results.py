"""What tests of `ugatit cam` read and make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests import tiny
from tests.cli.conftest import picture
from tests.helpers import strict_json
from ugatit_cli.config import ModelConfig
from ugatit_cli.pictures import reading

CPU = ["--device", "cpu", "--precision", "fp32"]
SIZE = (24, 20)
MAPLESS = "No local and global attention: it comes without discriminators."


def shown(path: str | Path) -> Image.Image:
    return reading.read_picture(Path(path)).frames[0].rgb


def array(path: str | Path) -> np.ndarray[Any, Any]:
    values = np.load(path, allow_pickle=False)
    assert isinstance(values, np.ndarray)
    return values


def document(path: str | Path) -> dict[str, Any]:
    return strict_json(Path(path).read_bytes())


def animation(name: str, frames: int = 3) -> None:
    first, *more = (picture(seed=seed) for seed in range(frames))
    durations = list(range(100, 100 + 20 * frames, 20))
    first.save(name, save_all=True, append_images=more, duration=durations, loop=2, lossless=True)


def made(folder: str, config: ModelConfig, *, judged: bool = True) -> str:
    return str(tiny.save(Path(folder), config, discriminators=judged))

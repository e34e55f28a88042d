"""Pictures, a network that gives its input back, and runs of the pipeline with them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ugatit_cli.config import MapName
from ugatit_cli.outputs.base import Drawing
from ugatit_cli.pictures.geometry import Geometry, Pixels, SizeOptions
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.passes import Translated
from ugatit_cli.translation.pipeline import Result, TranslateOptions, translate_files

NATIVE = SizeOptions("native")


def unchanged(batch: Sequence[Pixels], *_: object) -> list[Translated]:
    return [Translated(pixels, {}) for pixels in batch]


class Network:
    """Stands in for the network: gives its input back, and keeps what it saw."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.plans: list[Geometry] = []
        self.taken: list[int] = []
        self.delay = 0.0
        monkeypatch.setattr(model, "look", self)

    def before(self) -> None:
        """Something to do when a batch arrives."""

    def __call__(
        self,
        batch: Sequence[Pixels],
        direction: str,
        plans: Sequence[Geometry],
        maps: Sequence[MapName],
        at_once: int,
    ) -> list[Translated]:
        self.before()
        assert direction in ("a2b", "b2a")
        assert not maps
        self.taken.append(at_once)
        self.batches.append(np.stack(batch).shape)
        self.plans.append(plans[0])
        time.sleep(self.delay)
        return unchanged(batch)

    @property
    def pictures(self) -> int:
        return sum(shape[0] for shape in self.batches)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make(folder: Path, *sizes: tuple[int, int], suffix: str = ".png") -> list[Job]:
    """Pictures of these sizes, and a job for each."""
    folder.mkdir(exist_ok=True)
    jobs = []
    for index, size in enumerate(sizes):
        source = folder / f"{index:03}{suffix}"
        noise(*size, index).save(source)
        jobs.append(Job(source, folder / "out" / source.name))
    return jobs


def run(model: Model, jobs: Sequence[Job], drawing: Drawing | None = None, **options: object) -> list[Result]:
    settings = TranslateOptions(**{"sizes": NATIVE, **options})  # type: ignore[arg-type]  # by keyword
    return list(translate_files(model, jobs, settings, drawing=drawing))


def failures(results: list[Result]) -> dict[str, str]:
    return {Path(result.job.name).name: result.error.message for result in results if result.error}


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix == ".tmp"]

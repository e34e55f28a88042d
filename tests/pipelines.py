"""Pictures, a network that gives its input back, and runs of the pipeline with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event

import torch
from torch import Tensor, nn

from tests import tiny
from tests.helpers import picture
from ugatit_cli.config import ModelConfig
from ugatit_cli.nn.generator import Translation
from ugatit_cli.outputs import base
from ugatit_cli.outputs.base import Drawing
from ugatit_cli.pictures.geometry import SizeOptions
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.translation.engine import Engine
from ugatit_cli.translation.frames import drawn_frames
from ugatit_cli.translation.model import Model
from ugatit_cli.translation.pipeline import Result, TranslateOptions, translate_files

NATIVE = SizeOptions("native")


class Unchanged(nn.Module):
    """A generator that gives its input back, and keeps what it saw. Its attention is the rows' and columns' mean.

    Attributes:
        batches: shapes (N, H, W) of all that it saw.
        before: something to do with a batch (N, 3, H, W) when it arrives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, int, int]] = []
        self.before: Callable[[Tensor], object] = lambda _: None

    def set_precision(self, _: torch.dtype) -> Unchanged:
        """All are the same to it."""
        return self

    def forward(self, x: Tensor) -> Translation:
        """What a generator returns."""
        self.before(x)
        self.batches.append((x.shape[0], x.shape[2], x.shape[3]))
        return Translation(x.clone(), torch.zeros(len(x), 2), nn.functional.avg_pool2d(x.mean(1, True), 4))

    @property
    def pictures(self) -> int:
        """How many it saw."""
        return sum(batch[0] for batch in self.batches)


def unchanging(network: Unchanged, config: ModelConfig = tiny.LIGHT) -> Model:
    """A model with this network for both directions, and real discriminators."""
    whole = Model.untrained(config, device="cpu", precision="fp32")
    return Model(
        "unchanging",
        config,
        make_generator=lambda _: network,  # type: ignore[arg-type,return-value]  # it behaves like one
        make_discriminator=whole.discriminator,
        make_style_encoder=whole.style_encoder,
        device="cpu",
        precision="fp32",
    )


def make(folder: Path, *sizes: tuple[int, int], suffix: str = ".png") -> list[Job]:
    """Pictures of these sizes, and a job for each."""
    folder.mkdir(exist_ok=True)
    jobs = []
    for index, size in enumerate(sizes):
        source = folder / f"{index:03}{suffix}"
        picture(*size, index).save(source)
        jobs.append(Job(source, folder / "out" / source.name))
    return jobs


def run(model: Model, jobs: Sequence[Job], drawing: Drawing | None = None, **options: object) -> list[Result]:
    """All results, of pictures as large as they are unless `options` say otherwise."""
    settings = TranslateOptions(**{"sizes": NATIVE, **options})  # type: ignore[arg-type]  # by keyword
    return list(translate_files(model, jobs, settings, drawing=drawing))


def translated_frames(
    model: Engine, frames: Iterable[Frame], options: TranslateOptions, stop: Event | None = None
) -> Iterator[Frame]:
    """A film's frames, and nothing drawn."""
    return drawn_frames(model, frames, options, base.Translation(), lambda done: done.frames[0], stop=stop)


def failures(results: list[Result]) -> dict[str, str]:
    """Messages by the name of the file."""
    return {Path(result.job.name).name: result.error.message for result in results if result.error}


def leftovers(folder: Path) -> list[Path]:
    """Temporary files."""
    return [path for path in folder.rglob("*") if path.suffix == ".tmp"]

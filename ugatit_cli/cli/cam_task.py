"""What `ugatit cam` makes of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ugatit_cli.cli import batch, console, picture_task
from ugatit_cli.cli.options import parse_tile
from ugatit_cli.config import Direction, MapName, ModelConfig
from ugatit_cli.errors import UsageError
from ugatit_cli.output_names import STDOUT

if TYPE_CHECKING:
    from ugatit_cli.attention_layouts import Layout
    from ugatit_cli.attention_words import Style
    from ugatit_cli.checkpoint import ModelFolder
    from ugatit_cli.drawing import Drawing
    from ugatit_cli.inputs import Job


@dataclass(frozen=True)
class View:
    """How attention is shown, as options give it.

    Attributes:
        maps: names, each a single time; `all` may be among them.
        one_scale: for all pictures.
        own_size: pictures are as large as asked for, rather than as is good to look at.
        animate: the user expects animations.
    """

    maps: list[str]
    layout: Layout
    style: Style
    one_scale: bool
    own_size: bool
    animate: bool

    @property
    def tagged(self) -> bool:
        """Whether names of files say which map they show."""
        return self.layout in ("overlay", "heatmap") and (len(self.maps) > 1 or "all" in self.maps)


class CamTask(picture_task.Task):
    """Attention of each picture."""

    command = "cam"
    verb = "looked at"

    def __init__(self, request: picture_task.Request, view: View) -> None:
        super().__init__(request)
        self.view = view

    def suffix(self, source: Path) -> str:
        """The longest ending of a result's files: names are planned with it."""
        from ugatit_cli.attention_layouts import RAW_SUFFIX

        if self.view.layout == "raw":
            return RAW_SUFFIX
        return (".generator" if self.view.tagged else "") + super().suffix(source)

    def check(self, jobs: Sequence[Job]) -> None:
        """Several files can't go to standard output or to one name."""
        view, output = self.view, self.request.output
        if view.layout != "raw":
            super().check(jobs)
        if view.layout != "raw" and not view.tagged:
            return
        named = bool(jobs) and output is not None and jobs[0].output == Path(os.path.expanduser(output))  # noqa: PTH111
        wrong = output is not None and output.suffix.lower() in (".npy", ".json") and view.layout == "raw"
        if any(job.output is None for job in jobs) or named or wrong or output == STDOUT:
            hint = "Name a folder (-o results)" + (", or a single map (--maps generator)." if view.tagged else ".")
            raise UsageError(f"--layout {view.layout} makes several files of a picture", hint)

    def skipping(self, drawing: Drawing, skipped: int) -> None:
        """Says that pictures don't compare where the user wants that they do."""
        if drawing.spans is not None and skipped:
            console.note(f"the {skipped} skipped have a scale of their own; --overwrite gives all pictures one")

    def finished(self, report: batch.Report) -> None:
        """Says why there is no animation where the user expects one."""
        if self.view.animate and report.done and not report.animations:
            console.note("nothing is animated: the pictures have one frame each; --run RUN animates a training run")

    def drawing(self, folder: ModelFolder, direction: Direction) -> Drawing:
        """The layout that was asked for, with the maps that the model has."""
        from ugatit_cli.attention_layouts import make_layout
        from ugatit_cli.attention_maps import chosen_maps
        from ugatit_cli.attention_words import Subject, missing_text

        view, model = self.view, self.request.model
        has = folder.discriminators is not None
        chosen = chosen_maps(view.maps, folder.config, discriminators=has, name=model)
        check_tile(parse_tile(self.request.tile), folder.config, chosen)
        if "all" in view.maps and (text := missing_text(folder.config, discriminators=has)):
            console.note(f"{model}: {text[0].lower()}{text[1:]}")
        subject = Subject(model, folder.config, direction)
        return make_layout(
            view.layout,
            subject,
            chosen,
            view.style,
            one_scale=view.one_scale,
            own_size=view.own_size,
            by_name="all" not in view.maps,
        )


def check_tile(tile: int | None, config: ModelConfig, maps: Sequence[MapName]) -> None:
    """Finds out early that a discriminator can't look at tiles.

    Raises:
        UsageError: they are too small for it.
    """
    for name in maps:
        if name != "generator" and tile and tile < config.smallest(name):
            raise UsageError(
                f"--tile {tile}: too small for the {name} discriminator, which needs {config.smallest(name)} pixels",
                f"Use --tile {config.smallest(name)} or more, or leave that map out (--maps generator).",
            )

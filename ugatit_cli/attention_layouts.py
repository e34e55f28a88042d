"""Attention as files: labelled panels, overlays, colour maps with a scale, and the numbers themselves."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from ugatit_cli import colormaps, panels
from ugatit_cli.attention_maps import (
    ALPHA,
    AttentionMap,
    Maps,
    Span,
    Spans,
    check_alpha,
    how_to_get,
    missing_maps,
    overlaid,
)
from ugatit_cli.config import Direction, MapName, ModelConfig
from ugatit_cli.drawing import Done, Drawn
from ugatit_cli.errors import PictureError
from ugatit_cli.geometry import Geometry, corner
from ugatit_cli.images import Frame
from ugatit_cli.interpolation import Upsampling
from ugatit_cli.lettering import plain

Layout = Literal["panel", "overlay", "heatmap", "raw"]

TITLES: Final[dict[MapName, str]] = {
    "generator": "generator attention",
    "local": "local discriminator",
    "global": "global discriminator",
}
FLAT: Final = "flat: the same everywhere"
# Differences that are a smaller share of the value than this are hardly attention.
NEARLY: Final = 0.01

_OWN_SCALE: Final = "Each map has its own scale, from its lowest to its highest value."
_SHOWN_BY: Final = "The generator looks at the input, the discriminators look at the translation."


@dataclass(frozen=True)
class Style:
    """How attention becomes colours.

    Attributes:
        alpha: how much of the colours shows over a picture, 0 to 1.
        colormap: see `colormaps.colour`.
        upsampling: `bilinear` or `bicubic`.

    Raises:
        UsageError: `alpha` is out of range, or there is no such colour map.
    """

    alpha: float = ALPHA
    colormap: str = colormaps.DEFAULT
    upsampling: Upsampling = "bilinear"

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        colormaps.colour(np.zeros(1), self.colormap)


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        model: what messages and panels call the model.
    """

    model: str
    config: ModelConfig
    direction: Direction

    @property
    def way(self) -> str:
        """`flat → clay`; the letters of the domains where Pillow's font can't write their names."""
        source, target = self.config.source(self.direction), self.config.target(self.direction)
        letters = self.direction.split("2")
        return f"{plain(source, letters[0])} → {plain(target, letters[1])}"

    @property
    def shown_name(self) -> list[str]:
        """The model's name without its path; none where the font can't write it."""
        name = plain(Path(self.model).name, "")
        return [name] if name else []


@dataclass(frozen=True)
class _Attention:
    """What all layouts have."""

    subject: Subject
    maps: tuple[MapName, ...]
    style: Style = field(default_factory=Style)
    spans: Spans | None = None
    reads_again: bool = field(default=True, init=False)

    def resized(self, plan: Geometry) -> Geometry:
        """As large as asked for."""
        return plan

    def span(self, name: MapName) -> Span | None:
        """The common scale of a map, if there is one."""
        return self.spans[name] if self.spans else None

    def legend(self, names: Sequence[MapName]) -> panels.Legend:
        """What the colours of some maps mean."""
        return legend(self.style, self.spans, names)

    def over(self, picture: Image.Image, one: AttentionMap) -> Image.Image:
        """A map over a picture."""
        style = self.style
        return overlaid(
            picture,
            one,
            span=self.span(one.name),
            alpha=style.alpha,
            colormap=style.colormap,
            upsampling=style.upsampling,
        )

    def existing(self, done: Done) -> None:
        """Whether there are all maps.

        Raises:
            PictureError: the picture is too small for one.
        """
        for name in self.maps:
            if name not in done.maps[0]:
                reason = too_small(self.subject.config, name, done.plan)
                raise PictureError(f"{done.job.name}: {reason}", _LEAVE_OUT)


_LEAVE_OUT: Final = "Leave this map out (--maps generator), or show the network more pixels (--fit aspect)."


def too_small(config: ModelConfig, name: MapName, plan: Geometry) -> str:
    """Why a picture has no map of a discriminator."""
    least = config.smallest("local" if name == "local" else "global")
    what = f"its tiles of {plan.tile} pixels are " if plan.tile else ""
    return f"{what}too small for the {name} discriminator ({least} pixels a side)"


def legend(style: Style, spans: Spans | None, names: Sequence[MapName]) -> panels.Legend:
    """What the colours of some maps mean."""
    colours = colormaps.colour(np.linspace(0, 1, 256), style.colormap)
    text = _OWN_SCALE if spans is None else _one_scale(spans, names)
    if set(names) > {"generator"}:
        text += " " + _SHOWN_BY
    return panels.Legend(colours, "least attention", "most", text)


def remark(one: AttentionMap) -> str:
    """What has to be said lest a map's colours mislead; nothing for most maps."""
    low, high = one.span
    if one.flat:
        return FLAT
    if high - low < NEARLY * max(abs(low), abs(high)):
        return f"nearly flat: {low:.4g} to {high:.4g}"
    return ""


def _one_scale(spans: Spans, names: Sequence[MapName]) -> str:
    """Before the first picture is drawn, nobody knows from where to where it goes."""
    known = [(name, spans[name]) for name in names]
    texts = [f"{name} {span[0]:.3g} to {span[1]:.3g}" for name, span in known if span]
    return "One scale for all pictures" + (f": {', '.join(texts)}." if texts else ".")


def missing_text(config: ModelConfig, *, discriminators: bool) -> str:
    """Which maps a model can't show, and how to get them; nothing if it shows all."""
    missing = missing_maps(config, discriminators=discriminators)
    if not missing:
        return ""
    reasons = " and ".join(dict.fromkeys(missing.values()))
    return f"No {' and '.join(missing)} attention: {reasons}. {how_to_get(missing)}".rstrip()


def flat_maps(maps: Sequence[Maps]) -> tuple[MapName, ...]:
    """Maps that are flat on every frame."""
    return tuple(name for name in maps[0] if all(frame[name].flat for frame in maps))


# --- Panels


class Panel(_Attention):
    """One labelled panel: the input, attention over it, the translation, attention over that."""

    def outputs(self, output: Path) -> tuple[Path, ...]:
        """The files of a result."""
        return (output,)

    def draw(self, done: Done) -> Drawn:
        """A panel for each frame."""
        frames = [Frame(self._panel(done, index), None) for index in range(len(done.pixels))]
        return Drawn([done.encoded(frames)], frames[0].rgb.size, flat_maps(done.maps))

    def _panel(self, done: Done, index: int) -> Image.Image:
        picture, translation = done.inputs[index], done.translations[index]
        cells = [panels.Cell("input", picture)]
        cells += [self._cell(done, "generator", index)] if "generator" in self.maps else []
        cells.append(panels.Cell("translation", translation))
        cells += [self._cell(done, name, index) for name in self.maps if name != "generator"]
        heading = " · ".join([self.subject.way, *self.subject.shown_name, *done.captions[index : index + 1]])
        return panels.draw_panel(heading, cells, self.legend(self.maps))

    def _cell(self, done: Done, name: MapName, index: int) -> panels.Cell:
        one = done.maps[index].get(name)
        if one is None:
            return panels.Cell(TITLES[name], None, too_small(self.subject.config, name, done.plan))
        under = (done.inputs if name == "generator" else done.translations)[index]
        return panels.Cell(TITLES[name], self.over(under, one), remark(one))


# --- One picture for each map


class Overlay(_Attention):
    """Each map over what its network looked at: a picture of the source's size and transparency."""

    def outputs(self, output: Path) -> tuple[Path, ...]:
        """The files of a result: `cat.generator.png`, or the name itself for a single map."""
        if len(self.maps) == 1:
            return (output,)
        return tuple(output.with_name(_with_map(output, name)) for name in self.maps)

    def draw(self, done: Done) -> Drawn:
        """A picture for each map."""
        self.existing(done)
        files = [done.encoded(self._frames(done, name)) for name in self.maps]
        return Drawn(files, done.plan.output, flat_maps(done.maps))

    def _frames(self, done: Done, name: MapName) -> list[Frame]:
        return [self._frame(done, name, index) for index in range(len(done.pixels))]

    def _frame(self, done: Done, name: MapName, index: int) -> Frame:
        under = (done.inputs if name == "generator" else done.translations)[index]
        # As it is under the alpha: the colours were never blended with the background.
        return Frame(self.over(under, done.maps[index][name]), done.frames[index].alpha)


class Heatmap(Overlay):
    """Each map as colours alone, with a scale bar."""

    def draw(self, done: Done) -> Drawn:
        """A picture for each map."""
        self.existing(done)
        drawn = [self._frames(done, name) for name in self.maps]
        return Drawn([done.encoded(frames) for frames in drawn], drawn[0][0].rgb.size, flat_maps(done.maps))

    def _frame(self, done: Done, name: MapName, index: int) -> Frame:
        one = done.maps[index][name]
        heat = one.over_picture(span=self.span(name), upsampling=self.style.upsampling)
        colours = colormaps.coloured(heat, self.style.colormap)
        title = " · ".join([TITLES[name], *filter(None, [remark(one)]), *done.captions[index : index + 1]])
        return Frame(panels.draw_heatmap(colours, self.legend([name]), title), None)


def _with_map(output: Path, name: MapName) -> str:
    """`cat.generator.png`, which was planned, for another map."""
    return output.name.removesuffix(f".generator{output.suffix}") + f".{name}{output.suffix}"


# --- Numbers


@dataclass(frozen=True)
class Raw(_Attention):
    """The maps as the networks return them: float32 .npy, and JSON with the CAM classifiers' answers."""

    reads_again: bool = field(default=False, init=False)

    def outputs(self, output: Path) -> tuple[Path, ...]:
        """The files of a result: `cat.json`, `cat.generator.npy`, ..."""
        stem = output.name.removesuffix(RAW_SUFFIX)
        return (output.with_name(f"{stem}.json"), *(output.with_name(f"{stem}.{name}.npy") for name in self.maps))

    def draw(self, done: Done) -> Drawn:
        """JSON, then the maps."""
        self.existing(done)
        arrays = {name: _stacked([frame[name].values for frame in done.maps]) for name in self.maps}
        names = dict(zip(self.maps, (path.name for path in done.job.outputs[1:]), strict=True))
        document = self._document(done) | {
            "maps": {name: {"file": names[name], **self._entry(done, name)} for name in self.maps}
        }
        text = json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
        return Drawn([text.encode(), *map(_npy, arrays.values())], done.plan.network, flat_maps(done.maps))

    def _document(self, done: Done) -> dict[str, Any]:
        config, direction, plan = self.subject.config, self.subject.direction, done.plan
        return {
            "input": done.job.name,
            "model": self.subject.model,
            "direction": direction,
            "source": config.source(direction),
            "target": config.target(direction),
            "frames": len(done.pixels),
            "network_size": list(plan.network),
            "picture_in_network": [*corner(plan), *plan.scaled],
            "tile": plan.tile,
        }

    def _entry(self, done: Done, name: MapName) -> dict[str, Any]:
        maps = [frame[name] for frame in done.maps]
        first = maps[0]
        entry: dict[str, Any] = {
            "shape": list(_stacked([one.values for one in maps]).shape),
            "cells": {"stride": first.grid.stride, "first_centre": first.grid.first},
            "probability_of": self.subject.config.source(self.subject.direction) if name == "generator" else "real",
        }
        entry["frames" if len(maps) > 1 else "frame"] = (
            [_answers(one) for one in maps] if len(maps) > 1 else _answers(first)
        )
        return entry


RAW_SUFFIX: Final = ".generator.npy"
"""The longest ending of a raw file's name: names are planned with it, so that all of them are short enough."""


def _answers(one: AttentionMap) -> dict[str, Any]:
    low, high = one.span
    return {
        "low": _finite(low),
        "high": _finite(high),
        "flat": one.flat,
        "logits": dict(zip(("average", "maximum"), map(_finite, one.logits), strict=True)),
        "probabilities": dict(zip(("average", "maximum"), map(_finite, one.probabilities), strict=True)),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _stacked(values: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """(h, w), or (frames, h, w) of an animation."""
    return values[0] if len(values) == 1 else np.stack(values)


def _npy(values: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, np.float32), allow_pickle=False)
    return buffer.getvalue()


class _Shown(_Attention):
    """With pictures that are as large as is good to look at: neither tiny nor huge."""

    def resized(self, plan: Geometry) -> Geometry:
        """Another size of the result."""
        return replace(plan, output=panels.shown_size(plan.output))


class ShownPanel(_Shown, Panel):
    """A panel of such pictures."""


class ShownOverlay(_Shown, Overlay):
    """Overlays of such a size."""


class ShownHeatmap(_Shown, Heatmap):
    """Colour maps of such a size."""


def make_layout(
    layout: Layout,
    subject: Subject,
    maps: tuple[MapName, ...],
    style: Style,
    *,
    one_scale: bool = False,
    own_size: bool = True,
) -> Panel | Overlay | Raw:
    """A layout by its name.

    Args:
        one_scale: all pictures have one, so that they compare.
        own_size: pictures are as large as asked for, rather than as is good to look at.
    """
    own: dict[Layout, type[Panel | Overlay | Raw]]
    own = {"panel": Panel, "overlay": Overlay, "heatmap": Heatmap, "raw": Raw}
    shown: dict[Layout, type[Panel | Overlay | Raw]]
    shown = own | {"panel": ShownPanel, "overlay": ShownOverlay, "heatmap": ShownHeatmap}
    return (own if own_size else shown)[layout](subject, maps, style, Spans() if one_scale else None)

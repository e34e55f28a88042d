"""Attention as files: labelled panels, overlays, colour maps with a scale, and the numbers themselves."""

from __future__ import annotations

import io
import json
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, Any, Final, Literal

import numpy as np
from PIL import Image

from ugatit_cli.attention.maps import AttentionMap, Span, Spans, Style
from ugatit_cli.attention.words import TITLES, Subject, flat_maps, legend, remark, too_small
from ugatit_cli.config import MapName
from ugatit_cli.errors import PictureError
from ugatit_cli.outputs.base import Done, Drawing, Drawn
from ugatit_cli.pictures import drawing, sheets
from ugatit_cli.pictures.geometry import Geometry, corner
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.remote.urls import Place

Layout = Literal["panel", "sheet", "overlay", "heatmap", "raw"]


@dataclass(frozen=True)
class _Attention(Drawing):
    """What all layouts have.

    Attributes:
        spans: one scale for all pictures, so that they compare; None: each map has its own.
        by_name: the maps were asked for by name, so that a picture that lacks one is an error.
        shown: pictures are as large as is good to look at, neither tiny nor huge, rather than as large as asked for.
    """

    subject: Subject
    maps: tuple[MapName, ...]
    style: Style = field(default_factory=Style)
    spans: Spans | None = None
    by_name: bool = True
    shown: bool = False
    sees_source = True

    def resized(self, geometry: Geometry) -> Geometry:
        """As large as asked for, or as is good to look at."""
        return replace(geometry, output=drawing.shown_size(geometry.output)) if self.shown else geometry

    def span(self, name: MapName) -> Span | None:
        """The common scale of a map, if there is one."""
        return self.spans.get(name) if self.spans else None

    def legend(self, names: Sequence[MapName]) -> drawing.Legend:
        """What the colours of some maps mean."""
        return legend(self.style, self.spans, names, masks=self.subject.config.masks)

    def over(self, done: Done, name: MapName, index: int) -> Image.Image:
        """A frame's map over what its network looked at."""
        under = (done.inputs if name == "generator" else done.translations)[index]
        return self.style.over(under, done.maps[index][name], self.span(name))

    def existing(self, done: Done) -> tuple[tuple[MapName, ...], tuple[str, ...]]:
        """The maps that there are, and what to say of the others.

        Raises:
            PictureError: the picture is too small for a map that was asked for by name, or for all.
        """
        there = tuple(name for name in self.maps if name in done.maps[0])
        others = [name for name in self.maps if name not in there]
        reasons = tuple(f"no {name} map: {too_small(self.subject.config, name, done.geometry)}" for name in others)
        if others and (self.by_name or not there):
            raise PictureError(f"{done.job.name}: {reasons[0]}", "Leave this map out: --maps generator.")
        return there, reasons


def _on_paper(done: Done) -> bool:
    return (done.job.output.suffix.lower() if done.job.output else f".{done.files.format}") == ".pdf"


# --- Panels


class Panel(_Attention):
    """One labelled panel: the input, attention over it, the translation, attention over that."""

    def draw(self, done: Done) -> Drawn:
        """A panel for each frame."""
        frames = self.frames(done)
        size = frames[0].rgb.size
        return Drawn([done.encoded(frames)], size, flat_maps(done.maps))

    def frames(self, done: Done) -> Sequence[Frame]:
        """The panels."""
        return done.each(lambda index: Frame(self._panel(done, index), None))

    def _panel(self, done: Done, index: int) -> Image.Image:
        picture, translation = done.inputs[index], done.translations[index]
        cells = [drawing.Cell("input", picture)]
        cells += [self._cell(done, "generator", index)] if "generator" in self.maps else []
        cells.append(drawing.Cell("translation", translation))
        cells += [self._cell(done, name, index) for name in self.maps if name != "generator"]
        heading = " · ".join([self.subject.way, *self.subject.shown_name, *done.captions[index : index + 1]])
        return drawing.draw_panel(heading, cells, self.legend(self.maps), paper=_on_paper(done))

    def _cell(self, done: Done, name: MapName, index: int) -> drawing.Cell:
        one = done.maps[index].get(name)
        if one is None:
            return drawing.Cell(TITLES[name], None, too_small(self.subject.config, name, done.geometry))
        return drawing.Cell(TITLES[name], self.over(done, name, index), remark(one))


# --- Many pictures on a page


class Strips:
    """Pictures that wait on disk until all are there, by what they are of; any number of threads may add some."""

    def __init__(self) -> None:
        self._opened: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._places: dict[Place | None, list[tuple[int, int] | None]] = {}

    def add(self, source: Place | None, pictures: Sequence[Image.Image | None]) -> None:
        """Those of one source, RGB; None: there is none."""
        places: list[tuple[int, int] | None] = []
        for picture in pictures:
            buffer = io.BytesIO()
            if picture is not None:
                picture.save(buffer, "PNG", compress_level=1)
            with self._lock:
                places.append((self._file.seek(0, io.SEEK_END), len(buffer.getvalue())) if picture else None)
                self._file.write(buffer.getvalue())
        self._places[source] = places

    @property
    def _file(self) -> IO[bytes]:
        if self._opened is None:
            self._opened = tempfile.TemporaryFile()  # noqa: SIM115  # open until `close`
        return self._opened

    def close(self) -> None:
        """Forgets them."""
        if self._opened is not None:
            self._opened.close()

    def of(self, source: Place | None) -> list[Image.Image | None] | None:
        """Those of one source; None if there are none of it."""
        places = self._places.get(source)
        return None if places is None else [place and self._load(*place) for place in places]

    def _load(self, start: int, length: int) -> Image.Image:
        self._file.seek(start)
        return Image.open(io.BytesIO(self._file.read(length)), formats=["PNG"]).convert("RGB")


@dataclass(frozen=True)
class Sheet(_Attention):
    """What a panel shows, of many pictures on one page: nothing is written until all of them are there."""

    strips: Strips = field(default_factory=Strips)

    @property
    def titles(self) -> list[str]:
        """Of the pictures in each strip."""
        return [
            "input",
            *(TITLES[name] for name in self.before),
            "translation",
            *(TITLES[name] for name in self.after),
        ]

    @property
    def heading(self) -> str:
        """Of each page."""
        return " · ".join([self.subject.way, *self.subject.shown_name])

    @property
    def before(self) -> list[MapName]:
        """Maps that lie over the input."""
        return [name for name in self.maps if name == "generator"]

    @property
    def after(self) -> list[MapName]:
        """Maps that lie over the translation."""
        return [name for name in self.maps if name != "generator"]

    def resized(self, geometry: Geometry) -> Geometry:
        """As large as pictures are on a page."""
        return replace(geometry, output=sheets.within(geometry.output, 2 + len(self.maps)))

    def draw(self, done: Done) -> Drawn:
        """Keeps the pictures of the first frame."""
        existing = done.maps[0]
        over = {name: self.over(done, name, 0) if name in existing else None for name in self.maps}
        pictures = [done.inputs[0], *(over[name] for name in self.before)]
        pictures += [done.translations[0], *(over[name] for name in self.after)]
        self.strips.add(done.job.source, pictures)
        return Drawn([None], done.geometry.output, flat_maps(done.maps))


# --- One picture for each map


class Overlay(_Attention):
    """Each map over what its network looked at: a picture of the source's size and transparency."""

    def outputs(self, output: Place) -> tuple[Place, ...]:
        """The files of a result: `cat.generator.png`, or the name itself for a single map."""
        if len(self.maps) == 1:
            return (output,)
        stem = output.name.removesuffix(f".generator{output.suffix}")  # which was planned
        return tuple(output.with_name(f"{stem}.{name}{output.suffix}") for name in self.maps)

    def draw(self, done: Done) -> Drawn:
        """A picture for each map."""
        there, notes = self.existing(done)
        frames = {name: self._frames(done, name) for name in there}
        size = frames[there[0]][0].rgb.size
        files = [done.encoded(frames[name]) if name in frames else None for name in self.maps]
        return Drawn(files, size, flat_maps(done.maps), notes)

    def frames(self, done: Done) -> Sequence[Frame]:
        """Those of the first map that there is."""
        return self._frames(done, self.existing(done)[0][0])

    def _frames(self, done: Done, name: MapName) -> Sequence[Frame]:
        return done.each(partial(self._frame, done, name))

    def _frame(self, done: Done, name: MapName, index: int) -> Frame:
        # As it is under the alpha: the colours were never blended with the background.
        return Frame(self.over(done, name, index), done.frames[index].alpha)


class Heatmap(Overlay):
    """Each map as colours alone, with a scale bar."""

    def _frame(self, done: Done, name: MapName, index: int) -> Frame:
        one = done.maps[index][name]
        heading = " · ".join([self.subject.way, *done.captions[index : index + 1]])
        cell = drawing.Cell(TITLES[name], self.style.coloured(one, span=self.span(name)), remark(one))
        scale = self.legend([name])
        panel = drawing.draw_panel(heading, [cell], scale, least=drawing.HEATMAP_COLUMN, paper=_on_paper(done))
        return Frame(panel, None)


# --- Numbers


class Raw(_Attention):
    """The maps as the networks return them: float32 .npy, and JSON with the answers of CAM classifiers."""

    sees_source = False

    def outputs(self, output: Place) -> tuple[Place, ...]:
        """The files of a result: `cat.json`, `cat.generator.npy`, ..."""
        stem = output.name.removesuffix(RAW_SUFFIX)
        return (output.with_name(f"{stem}.json"), *(output.with_name(f"{stem}.{name}.npy") for name in self.maps))

    def draw(self, done: Done) -> Drawn:
        """JSON, then the maps."""
        there, notes = self.existing(done)
        arrays = {name: _npy(_stacked([frame[name].values for frame in done.maps])) for name in there}
        names = dict(zip(self.maps, (path.name for path in done.job.outputs[1:]), strict=True))
        config, direction, geometry = self.subject.config, self.subject.direction, done.geometry
        document = {
            "input": done.job.name,
            "model": self.subject.model,
            "direction": direction,
            "source": config.source(direction),
            "target": config.target(direction),
            "frames": len(done.pixels),
            "network_size": list(geometry.network),
            "picture_in_network": [*corner(geometry), *geometry.scaled],
            "tile": geometry.tile,
            "maps": {name: {"file": names[name], **self._entry(done, name)} for name in there},
        }
        text = json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
        files = [text.encode(), *(arrays.get(name) for name in self.maps)]
        return Drawn(files, geometry.network, flat_maps(done.maps), notes)

    def _entry(self, done: Done, name: MapName) -> dict[str, Any]:
        maps = [frame[name] for frame in done.maps]
        first = maps[0]
        source = self.subject.config.source(self.subject.direction)
        return {
            "shape": list(_stacked([one.values for one in maps]).shape),
            "cells": {"stride": first.grid.stride, "first_centre": first.grid.first},
            **({"probability_of": source if name == "generator" else "real"} if first.logits else {}),
        } | ({"frames": [_answers(one) for one in maps]} if len(maps) > 1 else {"frame": _answers(first)})


RAW_SUFFIX: Final = ".generator.npy"
"""The longest ending of a raw file's name: names are planned with it, so that all of them are short enough."""


def _answers(one: AttentionMap) -> dict[str, Any]:
    low, high = one.span
    answers = {"logits": one.logits, "probabilities": one.probabilities}  # of a mask, there are none
    return {"low": _finite(low), "high": _finite(high), "flat": one.flat} | {
        name: dict(zip(("average", "maximum"), map(_finite, pair), strict=True))
        for name, pair in answers.items()
        if pair
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


LAYOUTS: Final[dict[Layout, type[_Attention]]] = {
    "panel": Panel,
    "sheet": Sheet,
    "overlay": Overlay,
    "heatmap": Heatmap,
    "raw": Raw,
}

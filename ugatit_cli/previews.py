"""Small pictures for the report: before, after, and attention to be laid over them."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from ugatit_cli import colormaps
from ugatit_cli.attention_maps import AttentionMap, Maps, Spans
from ugatit_cli.attention_words import FLAT, TITLES, Style, Subject, legend, remark, too_small
from ugatit_cli.config import MapName
from ugatit_cli.drawing import Done, Drawing, Drawn, Preview
from ugatit_cli.geometry import Geometry, Size
from ugatit_cli.images import Frame
from ugatit_cli.report import Layer, Scale

# Long sides in pixels: a hundred photographs with three maps each make a page of about 15 MB.
PICTURE: Final = 512
HEAT: Final = 192

STOPS: Final = 16


@dataclass(frozen=True)
class Previewed:
    """Another drawing, and a preview of each picture.

    Attributes:
        maps: attention that the report shows, at least what the drawing needs.
    """

    drawing: Drawing
    subject: Subject
    maps: tuple[MapName, ...]
    style: Style = field(default_factory=Style)
    reads_again: bool = field(default=True, init=False)

    @property
    def spans(self) -> Spans | None:
        """Those of the drawing."""
        return self.drawing.spans

    def outputs(self, output: Path) -> tuple[Path, ...]:
        """Those of the drawing."""
        return self.drawing.outputs(output)

    def resized(self, plan: Geometry) -> Geometry:
        """As the drawing wants it."""
        return self.drawing.resized(plan)

    def draw(self, done: Done) -> Drawn:
        """What the drawing makes, with a preview."""
        drawn = self.drawing.draw(done)
        return replace(drawn, preview=self._preview(done))

    def _preview(self, done: Done) -> Preview:
        maps = done.maps[0]
        layers = tuple(self._layer(name, maps, done.plan) for name in self.maps)
        return Preview(_webp(done.sources[0], done.plan.output), _webp(done.frames[0]), layers, len(done.maps))

    def _layer(self, name: MapName, maps: Maps, plan: Geometry) -> Layer:
        over: Literal["before", "after"] = "before" if name == "generator" else "after"
        title = TITLES[name]
        if name not in maps:
            return Layer(name, title, over, b"", too_small(self.subject.config, name, plan))
        one = maps[name]
        if one.flat:
            return Layer(name, title, over, b"", FLAT)
        return Layer(name, title, over, self._colours(one), "; ".join(filter(None, [remark(one), self._answer(one)])))

    def _colours(self, one: AttentionMap) -> bytes:
        span = self.spans[one.name] if self.spans else None
        size = _within(one.plan.scaled, HEAT)
        heat = one.over_picture(size, span=span, upsampling=self.style.upsampling)
        return _encoded(colormaps.coloured(heat, self.style.colormap), 90)

    def _answer(self, one: AttentionMap) -> str:
        source = self.subject.config.source(self.subject.direction)
        what = f"comes from {source}" if one.name == "generator" else "is real"
        average, maximum = one.probabilities
        return f"CAM: {what} with p = {average:.2f} (average pooling), {maximum:.2f} (maximum)"


def scale_of(style: Style, spans: Spans | None, maps: tuple[MapName, ...]) -> Scale:
    """A style's colours, explained."""
    explained = legend(style, spans, maps)
    last = len(explained.colours) - 1
    colours = [explained.colours[stop * last // (STOPS - 1)] for stop in range(STOPS)]
    return Scale(
        tuple("#" + bytes(colour).hex() for colour in colours), explained.low, explained.high, explained.text
    )


def _within(size: Size, side: int) -> Size:
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _webp(frame: Frame, size: Size | None = None) -> bytes:
    image = frame.rgb if frame.alpha is None else Image.merge("RGBA", (*frame.rgb.split(), frame.alpha))
    size = _within(size or image.size, PICTURE)
    return _encoded(image if image.size == size else image.resize(size, Image.Resampling.LANCZOS), 85)


def _encoded(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()

"""The report: one page with every picture before and after, that needs nothing but a browser."""

from __future__ import annotations

import array
import base64
import contextlib
import functools
import importlib.metadata
import io
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import jinja2
from PIL import Image

from ugatit_cli.attention.maps import AttentionMap, Maps, Style
from ugatit_cli.attention.words import FLAT, TITLES, Subject, remark, too_small
from ugatit_cli.config import MapName
from ugatit_cli.errors import UgatitError
from ugatit_cli.files import reported, write_file
from ugatit_cli.outputs.base import Done, Drawing, Drawn, Layer, Preview
from ugatit_cli.pictures.drawing import Legend
from ugatit_cli.pictures.geometry import Geometry, Size, scaled_by
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.wording import duration

VERSION: Final = importlib.metadata.version("ugatit-cli")
STOPS: Final = 16
_LONGEST_SUMMARY: Final = 1000
_UNSHOWABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Entry:
    """One input.

    Attributes:
        name: as the user wrote it; any text, also with surrogates.
        output: where the result is.
        preview: small pictures; None if there is an `error`.
        size: width and height of the result in pixels.
        seconds: what it took.
        error: why there is no result.
    """

    name: str
    output: str = ""
    preview: Preview | None = None
    size: Size = (0, 0)
    seconds: float = 0.0
    error: UgatitError | None = None


@dataclass(frozen=True)
class Header:
    """What is true of all inputs.

    Attributes:
        title: `flat → clay`.
        before, after: domain names, the labels of the divider's two sides.
        facts: name -> value, in order: model, device, precision, options.
        provenance: of the model: JSON values; what is nested absurdly deep is left out.
        legend: what the colours of attention mean; None: there is no attention in this report.
        missing: how to get the maps that are not here, one sentence.
    """

    title: str
    before: str
    after: str
    facts: Mapping[str, str]
    provenance: Mapping[str, Any]
    legend: Legend | None
    missing: str = ""


class ReportWriter:
    """Collects cards in a temporary file, keeping none of them in memory; the page is written at the end.

    Until then nothing of it is seen in its folder, whose disk needs room for all cards twice. After an OutputError
    nothing more can be added.

    Raises:
        OutputError: nothing can be written there; StorageError if the disk is full.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header
        self._seconds = array.array("d")
        self._failed = 0
        with reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Open until `finish` or `close`.
            self._cards = tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent)  # noqa: SIM115

    def add(self, entry: Entry) -> None:
        """Appends a card.

        Raises:
            OutputError: it can't be written; StorageError if the disk is full.
        """
        card = _card(entry, self._header)
        try:
            with reported(self._path):
                self._cards.write(card)
        except BaseException:
            self.close()
            raise
        if entry.error:
            self._failed += 1
        else:
            self._seconds.append(entry.seconds)

    def finish(self, summary: str) -> None:
        """Writes the page, which replaces an older one once it is on the disk.

        Args:
            summary: one line; of a very long one the beginning is shown.

        Raises:
            OutputError: it can't be written; StorageError if the disk is full.
        """
        self._cards.seek(0)
        page = (
            _templates()
            .get_template("report.html")
            .generate(
                version=VERSION,
                header=self._header,
                ramp=_ramp(self._header.legend),
                summary=summary[:_LONGEST_SUMMARY] + "…" * (len(summary) > _LONGEST_SUMMARY),
                pictures=len(self._seconds),
                failed=self._failed,
                work=sum(self._seconds),
                median=statistics.median(self._seconds or [0]),
                cards=iter(lambda: self._cards.read(1 << 16), ""),
            )
        )
        try:
            write_file(self._path, (part.encode() for part in page), durable=True)
        finally:
            self.close()

    def close(self) -> None:
        """Forgets the cards; does nothing after `finish`."""
        with contextlib.suppress(OSError):
            self._cards.close()


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("ugatit_cli", "outputs")
    templates = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined, finalize=_showable
    )
    templates.filters |= {"duration": duration, "base64": lambda data: base64.b64encode(data).decode()}
    return templates


def _showable(value: object) -> object:
    """What no page can show becomes U+FFFD."""
    return _UNSHOWABLE.sub("\ufffd", value) if type(value) is str else value


def _card(entry: Entry, header: Header) -> str:
    macros: Any = _templates().get_template("report_card.html").module
    if entry.preview is None:
        return str(macros.failure(entry))
    with Image.open(io.BytesIO(entry.preview.after), formats=["WEBP"]) as image:  # reads no more than its header
        return str(macros.card(entry, header, *image.size))


def _ramp(legend: Legend | None) -> list[str]:
    """Colours for CSS, from low to high, evenly spaced."""
    if legend is None:
        return []
    colours = [legend.colours[start : start + 3].hex() for start in range(0, len(legend.colours), 3)]
    return ["#" + colours[stop * (len(colours) - 1) // (STOPS - 1)] for stop in range(STOPS)]


# --- Previews


# Long sides in pixels: a hundred photographs with three maps each make a page of about 15 MB.
PICTURE: Final = 512
HEAT: Final = 192


@dataclass
class Previewed(Drawing):
    """Another drawing, and a preview of each picture.

    Attributes:
        maps: attention that the report shows, at least what the drawing needs.
    """

    drawing: Drawing
    subject: Subject
    maps: tuple[MapName, ...]
    style: Style = field(default_factory=Style)
    sees_source = True

    def __post_init__(self) -> None:
        self.spans = self.drawing.spans
        self.styles = self.drawing.styles

    def outputs(self, output: Path) -> tuple[Path, ...]:
        """Those of the drawing."""
        return self.drawing.outputs(output)

    def resized(self, geometry: Geometry) -> Geometry:
        """As the drawing wants it."""
        return self.drawing.resized(geometry)

    def draw(self, done: Done) -> Drawn:
        """What the drawing makes, with a preview."""
        preview = self.preview(done)
        return replace(self.drawing.draw(done), preview=preview)

    def frames(self, done: Done) -> Sequence[Frame]:
        """What the drawing makes of each."""
        return self.drawing.frames(done)

    def preview(self, done: Done) -> Preview:
        """The first frame before and after, and attention."""
        before = _webp(done.sources[0], done.geometry.output)
        after, *others = (_webp(one.frames[0]) for one in done.styles())
        layers = tuple(self._layer(name, done.maps[0], done.geometry) for name in self.maps)
        return Preview(before, after, layers, len(done.alphas), tuple(others))

    def _layer(self, name: MapName, maps: Maps, geometry: Geometry) -> Layer:
        over: Literal["before", "after"] = "before" if name == "generator" else "after"
        title = TITLES[name]
        if name not in maps:
            return Layer(name, title, over, b"", too_small(self.subject.config, name, geometry))
        one = maps[name]
        if one.flat:
            return Layer(name, title, over, b"", FLAT)
        span = self.spans.get(name) if self.spans else None
        colours = self.style.coloured(one, _within(one.geometry.scaled, HEAT), span)
        note = "; ".join(filter(None, [remark(one), self._answer(one)]))
        return Layer(name, title, over, _encoded(colours, 90), note)

    def _answer(self, one: AttentionMap) -> str:
        source = self.subject.config.source(self.subject.direction)
        what = f"comes from {source}" if one.name == "generator" else "is real"
        if one.probabilities is None:
            return ""
        average, maximum = one.probabilities
        return f"CAM: {what} with p = {average:.2f} (average pooling), {maximum:.2f} (maximum)"


def _within(size: Size, side: int) -> Size:
    return scaled_by(size, min(1.0, side / max(size)))


def _webp(frame: Frame, size: Size | None = None) -> bytes:
    image = frame.rgb if frame.alpha is None else Image.merge("RGBA", (*frame.rgb.split(), frame.alpha))
    size = _within(size or image.size, PICTURE)
    return _encoded(image if image.size == size else image.resize(size, Image.Resampling.LANCZOS), 85)


def _encoded(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()

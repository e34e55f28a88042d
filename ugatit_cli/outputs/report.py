"""The report: one page with every picture before and after, that needs nothing but a browser."""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.metadata
import io
import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.remote.urls import Place
from ugatit_cli.wording import duration

VERSION: Final = importlib.metadata.version("ugatit-cli")
STOPS: Final = 16
_LONGEST_SUMMARY: Final = 1000
_UNSHOWABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Entry:
    """What one model made of one input.

    Attributes:
        name: what readers see; any text, also with surrogates.
        output: where the result is.
        preview: small pictures; None if there is an `error`.
        size: width and height of the result in pixels.
        seconds: what it took.
        error: why there is no result.
        key: tells inputs apart whose names are alike; empty: the name does.
        style: its number, from 1, of several results of the input, which are added one after the other; 0: it is
            the only one.
    """

    name: str
    output: str = ""
    preview: Preview | None = None
    size: Size = (0, 0)
    seconds: float = 0.0
    error: UgatitError | None = None
    key: str = ""
    style: int = 0


@dataclass(frozen=True)
class Header:
    """What is true of all that one model makes.

    Attributes:
        model: what readers see.
        before, after: domain names, the labels of the divider's two sides.
        facts: name -> value, in order: device, precision, options.
        provenance: of the model: JSON values; what is nested absurdly deep is left out.
        legend: what the colours of attention mean; None: there is no attention in this report.
        missing: how to get the maps that are not here, one sentence.
    """

    model: str
    before: str
    after: str
    facts: Mapping[str, str]
    provenance: Mapping[str, Any]
    legend: Legend | None
    missing: str = ""


Span = tuple[int, int]
"""Where a part of the page is in the temporary file, and how long it is."""


@dataclass
class _Card:
    """Where the parts of one card are: what each model made of a picture, or why there is nothing.

    Attributes:
        opening: the beginning of a card that compares models, with the picture itself.
    """

    opening: Span | None = None
    cells: dict[int, list[Span]] = field(default_factory=dict)
    failure: Span | None = None


class ReportWriter:
    """Collects cards in a temporary file, keeping none of them in memory; the page is written at the end.

    Until then nothing of it is seen in its folder, whose disk needs room for all cards twice. After an OutputError
    nothing more can be added.

    Args:
        title: of the page; empty: both domains.
        models: how many make pictures for it. With several, each is begun in turn, and a card compares them.

    Raises:
        OutputError: nothing can be written there; StorageError if the disk is full.
    """

    def __init__(self, path: Path, title: str = "", models: int = 1) -> None:
        self._path = path
        self._title = title
        self._models = models
        self._headers: list[Header] = []
        self._cards: dict[object, _Card] = {}
        with reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Open until `finish` or `close`.
            self._file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115

    def begin(self, header: Header) -> None:
        """What is added from now on is of this model."""
        self._headers.append(header)

    def add(self, entry: Entry) -> None:
        """Appends a card, or to the one of a picture that another model has made something of.

        Raises:
            OutputError: it can't be written; StorageError if the disk is full.
        """
        try:
            with reported(self._path):
                self._add(entry)
        except BaseException:
            self.close()
            raise

    def _add(self, entry: Entry) -> None:
        several, macros, header = self._models > 1, _macros(), self._headers[-1]
        own = len(self._cards) - (entry.style > 1)
        card = self._cards.setdefault((entry.key or entry.name) if several else own, _Card())
        if entry.preview is None:
            card.failure = card.failure or self._kept(macros.failure(entry))
            if several:
                self._append(card, macros.nothing(entry.error, header))
            return
        with Image.open(io.BytesIO(entry.preview.after), formats=["WEBP"]) as image:  # reads no more than its header
            size, moves = image.size, getattr(image, "is_animated", False)
        if several and card.opening is None:
            card.opening = self._kept(macros.opening(entry, *size, moves))
        self._append(card, macros.cell(entry, header, *size) if several else macros.card(entry, header, *size, moves))

    def _append(self, card: _Card, text: object) -> None:
        card.cells.setdefault(len(self._headers) - 1, []).append(self._kept(text))

    def _kept(self, text: object) -> Span:
        data = str(text).encode()
        start = self._file.seek(0, io.SEEK_END)
        self._file.write(data)
        return start, len(data)

    def finish(self, summary: str) -> None:
        """Writes the page, which replaces an older one once it is on the disk.

        Args:
            summary: one line; of a very long one the beginning is shown.

        Raises:
            OutputError: it can't be written; StorageError if the disk is full.
        """
        try:
            write_file(self._path, (part.encode() for part in self._page(summary)), durable=True)
        finally:
            self.close()

    def _page(self, summary: str) -> Iterator[str]:
        whole = [card for card in self._cards.values() if card.opening or (self._models == 1 and not card.failure)]
        failed = [card.failure for card in self._cards.values() if card.failure and not card.opening]
        legend = next((header.legend for header in self._headers if header.legend), None)
        return (
            _templates()
            .get_template("report.html")
            .generate(
                version=VERSION,
                title=self._title or _title(self._headers),
                headers=self._headers,
                several=self._models > 1,
                legend=legend,
                ramp=_ramp(legend),
                summary=summary[:_LONGEST_SUMMARY] + "…" * (len(summary) > _LONGEST_SUMMARY),
                pictures=len(whole),
                failed=len(failed),
                cards=itertools.chain.from_iterable(map(self._parts, whole)),
                failures=map(self._read, failed),
            )
        )

    def _parts(self, card: _Card) -> Iterator[str]:
        """A whole card, in which every model has its place where there are several."""
        if card.opening is None:
            yield from (self._read(span) for spans in card.cells.values() for span in spans)
            return
        yield self._read(card.opening)
        for number, header in enumerate(self._headers):
            spans = card.cells.get(number)
            yield from map(self._read, spans) if spans else [str(_macros().nothing(None, header))]
        yield str(_macros().closing())

    def _read(self, span: Span) -> str:
        start, length = span
        self._file.seek(start)
        return self._file.read(length).decode()

    def close(self) -> None:
        """Forgets the cards; does nothing after `finish`."""
        with contextlib.suppress(OSError):
            self._file.close()


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


def _macros() -> Any:
    return _templates().get_template("report_card.html").module


def _title(headers: Sequence[Header]) -> str:
    """Both domains, if they are the same for all models."""
    ways = dict.fromkeys(f"{header.before} → {header.after}" for header in headers)
    return " · ".join(ways)


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
# Of animations, which move in the page: a hundred of them make one of about 50 MB.
MOVING: Final = 256
MOST_FRAMES: Final = 48


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

    def outputs(self, output: Place) -> tuple[Place, ...]:
        """Those of the drawing."""
        return self.drawing.outputs(output)

    def former(self, job: Job) -> Iterable[Place]:
        """The drawing's."""
        return self.drawing.former(job)

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
        """Before and after, moving if the picture does, and attention of the first frame."""
        times, size = done.picture.durations, done.geometry.output
        before = _moving(done.sources, times, size)
        after, *others = (_moving(one.frames, times, size) for one in done.styles())
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


def _moving(frames: Sequence[Frame], durations: Sequence[int], size: Size) -> bytes:
    """WebP of the frames, or of some of very many, each shown until the next one."""
    if len(frames) == 1:
        return _encoded(_small(frames[0], size, PICTURE), 85)
    times = list(durations) or [100] * len(frames)
    starts = [index * len(frames) // MOST_FRAMES for index in range(MOST_FRAMES)]
    starts = starts if len(frames) > MOST_FRAMES else list(range(len(frames)))
    first, *others = (_small(frames[index], size, MOVING) for index in starts)
    shown = [sum(times[start:end]) for start, end in zip(starts, [*starts[1:], len(frames)], strict=True)]
    return _encoded(first, 80, save_all=True, append_images=others, duration=shown, loop=0)


def _small(frame: Frame, size: Size, side: int) -> Image.Image:
    image = frame.rgb if frame.alpha is None else Image.merge("RGBA", (*frame.rgb.split(), frame.alpha))
    size = _within(size, side)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, quality: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=2, **options)
    return buffer.getvalue()

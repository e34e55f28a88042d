"""The report: one page with every picture before and after, that needs nothing but a browser."""

from __future__ import annotations

import array
import base64
import contextlib
import functools
import html
import importlib.metadata
import importlib.resources
import io
import os
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Self, cast

from PIL import Image

from ugatit_cli.attention.maps import AttentionMap, Maps, Spans
from ugatit_cli.attention.style import FLAT, TITLES, Style, Subject, legend, remark, too_small
from ugatit_cli.config import MapName
from ugatit_cli.errors import OutputError
from ugatit_cli.files import hidden, reported, sync_folder
from ugatit_cli.outputs.base import Done, Drawing, Drawn, Layer, Preview
from ugatit_cli.pictures import colormaps
from ugatit_cli.pictures.geometry import Geometry, Size
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.wording import duration

# The totals are known last and shown first: bytes that are kept free for them, and what they hold at most.
VERSION: Final = importlib.metadata.version("ugatit-cli")
_ROOM: Final = 8192
_LONGEST_SUMMARY: Final = 1000
_DEEPEST: Final = 8
_UNSHOWABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_HANDLE: Final = (
    '<svg viewBox="0 0 32 32" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" '
    'stroke-linejoin="round"><path d="m12 11-5 5 5 5M20 11l5 5-5 5"/></svg>'
)


@dataclass(frozen=True)
class Scale:
    """What colours of attention mean.

    Attributes:
        colours: two or more, `#rrggbb`, from low to high, evenly spaced.
        low, high: labels of the ends.
        text: one sentence.
    """

    colours: tuple[str, ...]
    low: str
    high: str
    text: str


@dataclass(frozen=True)
class Entry:
    """One input.

    Attributes:
        name: as the user wrote it; any text, also with surrogates.
        output: where the result is.
        before, after: WebP, small enough to look at; empty if there is an `error`.
        size: width and height of the result in pixels.
        milliseconds: what it took.
        layers: in the order of the toggles.
        note: what else is to be known.
        error: why there is no result; empty if there is one.
        hint: the way out.
    """

    name: str
    output: str = ""
    before: bytes = b""
    after: bytes = b""
    size: tuple[int, int] = (0, 0)
    milliseconds: float = 0.0
    layers: tuple[Layer, ...] = ()
    note: str = ""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Header:
    """What is true of all inputs.

    Attributes:
        title: `flat → clay`.
        before, after: domain names, the labels of the divider's two sides.
        facts: name -> value, in order: model, device, precision, options.
        provenance: of the model: JSON values.
        scale: None: there is no attention in this report.
        missing: how to get the maps that are not here, one sentence.
    """

    title: str
    before: str
    after: str
    facts: Mapping[str, str]
    provenance: Mapping[str, Any]
    scale: Scale | None
    missing: str = ""


class ReportWriter:
    """Writes cards as they come, keeping none of them in memory; the page appears whole at the end.

    As a context manager it discards what was not finished. After an OutputError nothing is left on the disk, and
    nothing more can be added.

    Raises:
        OutputError: the page can't be written there; StorageError if the disk is full.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header
        self._temporary = hidden(path)
        self._milliseconds = array.array("d")
        self._failed = 0
        top, middle, self._end = _parts(header)
        with reported(path):
            if path.exists() and not path.is_file():
                raise OutputError(f"{path}: is a folder or a device, not a file", "Choose another name.")
            path.parent.mkdir(parents=True, exist_ok=True)
            # Open until `finish` or `discard`.
            self._file = cast(BinaryIO, self._temporary.open("xb"))
        self._totals_at = len(top)
        with self._writing():
            self._file.write(top + b" " * _ROOM + middle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with reported(self._path):
                yield
        except BaseException:
            self.discard()
            raise

    def add(self, entry: Entry) -> None:
        """Appends a card.

        Raises:
            OutputError: it can't be written; StorageError if the disk is full.
        """
        card = _failure(entry) if entry.error else _card(entry, self._header)
        with self._writing():
            self._file.write(card.encode())
        if entry.error:
            self._failed += 1
        else:
            self._milliseconds.append(entry.milliseconds)

    def finish(self, summary: str) -> None:
        """Puts the page at its path, once it is on the disk.

        Args:
            summary: one line; of a very long one the beginning is shown.

        Raises:
            OutputError: it can't be written; StorageError if the disk is full.
        """
        empty = not self._milliseconds and not self._failed
        with self._writing():
            self._file.write((b'<p class="empty">No pictures.</p>' if empty else b"") + self._end)
            self._file.seek(self._totals_at)
            self._file.write(self._totals(summary).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self._path)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Removes what was written so far; does nothing after `finish`."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _totals(self, summary: str) -> str:
        if len(summary) > _LONGEST_SUMMARY:
            summary = summary[:_LONGEST_SUMMARY] + "…"
        lines = [_total(str(len(self._milliseconds)), "picture" if len(self._milliseconds) == 1 else "pictures")]
        if self._failed:
            lines.append(f'<li><a href="#failed"><b>{self._failed}</b>failed</a></li>')
        if self._milliseconds:
            lines.append(_total(duration(sum(self._milliseconds) / 1000), "of work in all"))
            lines.append(_total(duration(statistics.median(self._milliseconds) / 1000), "median per picture"))
        return f'<p class="summary">{_bdi(summary)}</p><ul class="totals">{"".join(lines)}</ul>'


# --- Page --------------------------------------------------------------------------------------------------


@functools.cache
def _template() -> str:
    return importlib.resources.files("ugatit_cli").joinpath("outputs/report.html").read_text(encoding="utf-8")


def _parts(header: Header) -> tuple[bytes, bytes, bytes]:
    """The page before its totals, from there to the cards, and after them."""
    facts = "".join(f"<div>{_term(name)}<dd>{_bdi(value)}</dd></div>" for name, value in header.facts.items())
    values = {
        "version": _text(VERSION),
        "title": _text(header.title),
        "facts": f'<dl class="facts">{facts}</dl>' if facts else "",
        "provenance": _provenance(header.provenance),
        "missing": f'<p class="missing">{_bdi(header.missing)}</p>' if header.missing else "",
        "scale": _scale(header.scale) if header.scale is not None else "",
    }
    top, _, rest = _template().partition("{{totals}}")
    middle, _, end = rest.partition("{{cards}}\n")
    filled = [re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], part) for part in (top, middle, end)]
    return filled[0].encode(), filled[1].encode(), filled[2].encode()


def _provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    return f"<details><summary>Where the model comes from</summary>{_tree(provenance)}</details>"


def _tree(value: Any, depth: int = 0) -> str:
    """A plain JSON value; what is nested absurdly deep is left out."""
    if isinstance(value, Mapping | list) and depth == _DEEPEST:
        return "…"
    if isinstance(value, Mapping) and value:
        rows = (f"<div>{_term(str(name))}<dd>{_tree(each, depth + 1)}</dd></div>" for name, each in value.items())
        return f'<dl class="tree">{"".join(rows)}</dl>'
    if isinstance(value, list) and value:
        return f"<ul>{''.join(f'<li>{_tree(each, depth + 1)}</li>' for each in value)}</ul>"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _bdi(str(value)) if value not in (None, "", {}, []) else "–"


def _scale(scale: Scale) -> str:
    ramp = f"background: linear-gradient(to right, {', '.join(scale.colours)})"
    ends = f'{_bdi(scale.low)}<i style="{_text(ramp)}"></i>{_bdi(scale.high)}'
    return f'<div class="scale" id="scale" hidden><div class="ramp">{ends}</div><p>{_bdi(scale.text)}</p></div>'


# --- Cards -------------------------------------------------------------------------------------------------


def _failure(entry: Entry) -> str:
    hint = _line("hint", entry.hint)
    return (
        f'<article class="card failed"><div class="text"><h3>{_bdi(entry.name)}</h3>'
        f"{_line('error', entry.error)}{hint}</div></article>\n"
    )


def _card(entry: Entry, header: Header) -> str:
    width, height = _pixels(entry.after)
    lines = [
        _line("output", entry.output),
        f'<p class="numbers">{entry.size[0]} × {entry.size[1]} pixels · {duration(entry.milliseconds / 1000)}</p>',
        _line("note", entry.note),
        *(_attention(layer) for layer in entry.layers),
    ]
    return (
        f'<article class="card{_shape(width, height)}"><div class="stage">'
        f'<div class="frame" style="--w: {width}; --h: {height}">'
        f"{_side(entry, 'before', entry.before, header.before)}{_side(entry, 'after', entry.after, header.after)}"
        f'<span class="bar" aria-hidden="true">{_HANDLE}</span>'
        '<input type="range" min="0" max="100" step="2" value="50" autocomplete="off" '
        f'aria-label="{_text(entry.name)}: divider between before and after"></div></div>'
        f'<div class="labels"><span>{_bdi(header.before)}</span><span>{_bdi(header.after)}</span></div>'
        f'<div class="text"><h3>{_bdi(entry.name)}</h3>{"".join(lines)}</div></article>\n'
    )


def _shape(width: int, height: int) -> str:
    """CSS classes: pictures so small that each pixel becomes two or more, and those too wide for a column."""
    small = " small" if width <= 80 and height <= 2 * width else ""
    return small + (" broad" if width > 320 and width > 2.5 * height else "")


def _side(entry: Entry, name: str, picture: bytes, domain: str) -> str:
    shown = "".join(_overlay(layer, entry.name) for layer in entry.layers if layer.over == name and layer.colours)
    return f'<div class="side {name}">{_image(picture, f"{entry.name}, {name}: {domain}")}{shown}</div>'


def _overlay(layer: Layer, name: str) -> str:
    return _image(layer.colours, f"{name}, {layer.title}", f' class="layer" data-layer="{_text(layer.name)}"')


def _image(data: bytes, alt: str, more: str = "") -> str:
    source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    return f'<img{more} alt="{_text(alt)}" decoding="async" draggable="false" src="{source}">'


def _attention(layer: Layer) -> str:
    told = f"<bdi>{_text(layer.title)}</bdi>" + (f": {_bdi(layer.note)}" if layer.note else "")
    names = f'data-layer="{_text(layer.name)}" data-title="{_text(layer.title)}" data-over="{layer.over}"'
    return f'<p class="attention" {names}>{told}</p>'


def _pixels(webp: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(webp), formats=["WEBP"]) as image:  # reads no more than its header
        return image.size


# --- Text --------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    """Any text as HTML; what no page can show becomes U+FFFD."""
    return html.escape(_UNSHOWABLE.sub("\ufffd", text))


def _bdi(text: str) -> str:
    """Text in its own direction, whatever that is."""
    return f'<bdi dir="auto">{_text(text)}</bdi>'


def _term(name: str) -> str:
    return f"<dt>{_bdi(name)}</dt>"


def _line(kind: str, text: str) -> str:
    return f'<p class="{kind}">{_bdi(text)}</p>' if text else ""


def _total(value: str, what: str) -> str:
    return f"<li><b>{value}</b>{what}</li>"


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

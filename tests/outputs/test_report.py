"""The report: what it shows, whole or not there, nothing kept in memory, and any text is text."""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import os
import re
import tempfile
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ugatit_cli
from tests import tiny
from tests.outputs.test_attention import SUBJECT, make_done, ramp
from ugatit_cli.attention.maps import Spans, Style
from ugatit_cli.attention.words import FLAT, too_small
from ugatit_cli.config import MAPS, MapName
from ugatit_cli.errors import OutputError, PictureError, StorageError
from ugatit_cli.outputs.attention import Heatmap, Overlay, Panel
from ugatit_cli.outputs.base import Done, Drawing, Layer, Preview, Translation
from ugatit_cli.outputs.report import STOPS, Entry, Header, Previewed, ReportWriter
from ugatit_cli.pictures import colormaps
from ugatit_cli.pictures.drawing import Legend
from ugatit_cli.pictures.geometry import Size
from ugatit_cli.pictures.reading import Frame

COLOURS = colormaps.colour(np.linspace(0, 1, 256))
LEGEND = Legend(COLOURS.tobytes(), "ignored", "looked at", "Each picture has its own scale.")
HOSTILE = "<script>alert(1)</script>\"'&.png"
VOID = {"meta", "link", "img", "input", "br"}


def webp(colour: str, size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "WEBP")
    return buffer.getvalue()


def header(**changed: Any) -> Header:
    plain: dict[str, Any] = {"facts": {"Model": "flat2clay"}, "provenance": {}, "legend": LEGEND}
    return Header("flat2clay", "flat", "clay", **(plain | changed))


def entry(name: str, *layers: Layer, before: bytes = b"", after: bytes = b"", frames: int = 1, **more: Any) -> Entry:
    plain: dict[str, Any] = {"size": (960, 640), "seconds": 0.084}
    return Entry(
        name, preview=Preview(before or webp("red"), after or webp("blue"), layers, frames), **(plain | more)
    )


def failure(name: str, message: str, hint: str = "") -> Entry:
    return Entry(name, error=PictureError(message, hint))


def layer(name: str, over: Literal["before", "after"], colours: bytes, note: str = "") -> Layer:
    return Layer(name, f"{name} attention", over, colours, note)


class Page(HTMLParser):
    """A page as a tree would be made of it; fails on tags that don't match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, names)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, tag
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data.strip()))

    def of(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        """Attributes of all such elements, in order; `kind` is a CSS class."""
        return [
            each for name, each in self.tags if name == tag and (not kind or kind in each.get("class", "").split())
        ]

    def says(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def written(path: Path, *entries: Entry, summary: str = "done", **changed: Any) -> Page:
    with contextlib.closing(ReportWriter(path)) as writer:
        writer.begin(header(**changed))
        for each in entries:
            writer.add(each)
        writer.finish(summary)
    return Page(path.read_bytes().decode())


# --- What it shows -----------------------------------------------------------------------------------------


def test_a_page_that_fetches_nothing(tmp_path: Path) -> None:
    failed = failure("bad.png", "bad.png: not a picture", "Save it again.")
    done = entry("a.png", layer("generator", "before", webp("green")), output="out/a.png", frames=3)
    page = written(tmp_path / "r.html", done, failed, summary="1, 1 failed")
    assert page.of("html")[0]["lang"] == "en"
    assert {"charset": "utf-8"} in page.of("meta")
    assert {"name": "generator", "content": f"ugatit {ugatit_cli.__version__}"} in page.of("meta")
    assert page.says("title") == ["flat → clay"]
    told = {"a.png", "out/a.png", "bad.png: not a picture", "Save it again.", "1, 1 failed", "flat2clay"}
    assert told <= set(page.says("bdi"))
    assert any("3 frames" in text for text in page.says("bdi"))
    assert "960 × 640 pixels, took 84 ms" in page.says("p")
    assert len(page.of("article", "failed")) == 1
    (policy,) = [each["content"] for each in page.of("meta") if "http-equiv" in each]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    for _, attributes in page.tags:
        address = attributes.get("src") or attributes.get("href", "#")
        assert address.startswith(("data:", "#"))
    assert not re.search(r"url\(|@import|https?:", (tmp_path / "r.html").read_text())


def test_pictures_are_embedded_as_they_are(tmp_path: Path) -> None:
    before, heat, after, other = pictures = [webp(colour) for colour in ("red", "green", "blue", "black")]
    layers = layer("generator", "before", heat), layer("local", "after", other), layer("x", "after", b"", "flat")
    page = written(tmp_path / "r.html", entry("a.png", *layers, before=before, after=after))
    found = [each["src"].removeprefix("data:image/webp;base64,") for each in page.of("img")]
    assert [base64.b64decode(each, validate=True) for each in found] == pictures
    assert [each["data-layer"] for each in page.of("img", "layer")] == ["generator", "local"]
    assert all(each["alt"].startswith("a.png, ") for each in page.of("img"))
    told = [(each["data-layer"], each["data-over"]) for each in page.of("p", "attention")]
    assert told == [("generator", "before"), ("local", "after"), ("x", "after")]


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((80, 160), "small"), ((81, 81), ""), ((64, 200), ""), ((480, 54), "broad"), ((480, 300), ""),
    ],
)  # fmt: skip
def test_pictures_keep_their_shape(tmp_path: Path, size: tuple[int, int], kind: str) -> None:
    page = written(tmp_path / "r.html", entry("a.png", before=webp("red", size), after=webp("blue", size)))
    assert page.of("article")[0]["class"].split() == ["card", "view", kind][: 2 + bool(kind)]
    assert page.of("div", "frame")[0]["style"] == f"--w: {size[0]}; --h: {size[1]}"


def test_what_is_said_first(tmp_path: Path) -> None:
    done = [entry("a.png", seconds=value) for value in (0.01, 0.02, 4)]
    page = written(tmp_path / "r.html", failure("b", "b: no"), *done, failure("c", "c: no"), summary="3 in 5 s")
    assert page.says("b") == ["3", "2"]
    assert [each["href"] for each in page.of("a")] == ["#failed"]
    text = (tmp_path / "r.html").read_text()
    settings = text[text.index("<details") : text.index("</details>")]
    assert "3 in 5 s" in settings
    assert "flat2clay" in settings
    assert "open" not in page.of("details")[0]
    assert text.rindex("a.png") < text.index("b: no") < text.index("c: no")  # what failed comes last


def test_no_pictures(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", legend=None)
    assert page.of("p", "empty")
    assert (page.says("b"), page.of("i")) == (["0"], [])
    assert not written(tmp_path / "r.html", failure("b", "b: no"), legend=None).of("p", "empty")


def test_the_legend_and_what_is_missing(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", missing="Maps need discriminators.")
    colours = re.findall("#([0-9a-f]{6})", page.of("i")[0]["style"])
    places = np.arange(STOPS) * 255 // (STOPS - 1)
    assert [tuple(bytes.fromhex(colour)) for colour in colours] == list(map(tuple, COLOURS[places].tolist()))
    assert {LEGEND.low, LEGEND.high, LEGEND.text, "Maps need discriminators."} <= set(page.says("bdi"))


def test_provenance_is_nested(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"in": deep, "list": [deep]}
    recipe = {"ema": 0.999, "augment": True, "steps": [1, None, "two"]}
    told = {"recipe": recipe, "empty": {}, "off": False, "zero": 0}
    page = written(tmp_path / "r.html", provenance=told)
    names = ["recipe", "ema", "0.999", "augment", "steps", "1", "two", "empty", "off", "zero", "0"]
    assert [text for text in page.says("bdi") if text in names] == names
    assert page.says("dd") == ["yes", "–", "no"]
    assert page.says("li") == ["–"]
    assert len(page.of("dl", "tree")) == 2
    assert "…" in written(tmp_path / "r.html", provenance=deep).says("dd")


# --- Any text is text --------------------------------------------------------------------------------------


def test_hostile_texts(tmp_path: Path) -> None:
    head = Header(
        HOSTILE, HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: [HOSTILE]},
        Legend(LEGEND.colours, HOSTILE, HOSTILE, HOSTILE), HOSTILE,
    )  # fmt: skip
    with contextlib.closing(ReportWriter(tmp_path / "r.html", HOSTILE)) as writer:
        writer.begin(head)
        writer.add(entry(HOSTILE, Layer(HOSTILE, HOSTILE, "after", webp("red"), HOSTILE), output=HOSTILE))
        writer.add(failure(HOSTILE, HOSTILE, HOSTILE))
        writer.finish(HOSTILE)
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert "<script>alert" not in text
    assert page.says("title") == [HOSTILE]
    # Heading, summary, fact (2), provenance (2), missing, legend (3), card (name, output, domains, layer (2)),
    # failure (name, error, hint).
    assert page.says("bdi").count(HOSTILE) == 19
    assert page.of("img", "layer")[0]["data-layer"] == HOSTILE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ header }}{% endif %}", "{{ header }}{% endif %}"),
        ("a\udcff\x00\x1b\ud800.png", "a\ufffd\ufffd\ufffd\ufffd.png"),
    ],
    ids=["template", "no text"],
)
def test_odd_texts(tmp_path: Path, text: str, shown: str) -> None:
    page = written(tmp_path / "{{title}}.html", entry(text), failure(text, text), facts={text: text})
    assert page.says("bdi").count(shown) == 5


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None), max_size=3000))
def test_any_text_makes_a_page(tmp_path_factory: pytest.TempPathFactory, name: str, summary: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.html"
    page = written(path, failure(name, "x" + name, name), summary=summary, facts={name: name})
    assert len(page.of("article")) == 1
    assert page.says("h2") == ["Pictures", "Not translated"]


def test_long_summaries_are_cut(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", summary="'" * 100_000)
    assert page.says("bdi")[1] == "'" * 1000 + "…"


# --- Whole, or not there -----------------------------------------------------------------------------------


def test_the_page_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.html"
    writer = ReportWriter(path)
    writer.begin(header())
    writer.add(entry("a.png"))
    assert not path.exists()
    writer.finish("done")
    before = path.read_bytes()
    writer.close()
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before
    given_up = ReportWriter(path)
    given_up.begin(header())
    given_up.add(entry("b.png"))
    given_up.close()
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


class FullDisk(io.BytesIO):
    def write(self, _: object, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_for_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: FullDisk())
    writer = ReportWriter(tmp_path / "r.html")
    writer.begin(header())
    with pytest.raises(StorageError, match=r"r\.html"):
        writer.add(entry("a.png"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageError), (errno.EIO, OutputError)])
def test_a_disk_that_fails_for_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[OutputError]
) -> None:
    def fail(_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "r.html").write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=r"r\.html"):
        written(tmp_path / "r.html", entry("a.png"))
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


def test_places_where_no_page_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "r.html"):
        with pytest.raises(OutputError, match=re.escape(str(path))) as caught:
            written(path)
        assert caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_cards_are_not_kept(tmp_path: Path) -> None:
    picture = webp("red") + bytes(100_000)
    writer = ReportWriter(tmp_path / "r.html")
    writer.begin(header())
    writer.add(entry("first.png", before=picture, after=picture))
    tracemalloc.start()
    try:
        for i in range(50):
            writer.add(entry(f"{i}.png", before=picture, after=picture))
        left = tracemalloc.get_traced_memory()[0]
        writer.finish("done")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = (tmp_path / "r.html").stat().st_size
    assert size > 51 * 2 * 100_000 * 4 / 3
    assert left < size / 50
    assert most < size / 4


# --- What it shows of a picture ---------------------------------------------------------------------------


def noise(size: Size, seed: int = 0) -> Image.Image:
    """Smooth, so that lossy formats keep it."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def made(size: Size, *, frames: int = 1, alpha: Image.Image | None = None, output: str = "cat.png") -> Done:
    """A picture after the networks, smooth before and after."""
    done = make_done(output, frames=frames, size=size, alpha=alpha)
    done.sources = [Frame(noise(size, n), alpha) for n in range(frames)]
    done.pixels = [np.asarray(noise(done.geometry.network, 100 + n)) for n in range(frames)]
    return done


def preview_of(done: Done, drawing: Drawing | None = None, maps: tuple[MapName, ...] = MAPS) -> Preview:
    style = getattr(drawing, "style", Style())
    drawn = Previewed(drawing or Translation(), SUBJECT, maps, style).draw(done)
    assert drawn.preview
    return drawn.preview


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    return image


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a.convert("RGB"), np.float32) - np.asarray(b.convert("RGB"), np.float32)).mean())


def test_results_are_those_of_the_drawing() -> None:
    spans = Spans({"generator": (0.0, 2.0)})
    for drawing in (Translation(), Overlay(SUBJECT, ("generator",), spans=spans), Panel(SUBJECT, MAPS, shown=True)):
        previewed = Previewed(drawing, SUBJECT, MAPS)
        done = made((24, 20))
        plain, drawn = drawing.draw(done), previewed.draw(done)
        assert (replace(drawn, preview=None), previewed.spans) == (plain, drawing.spans)
        assert previewed.resized(done.geometry) == drawing.resized(done.geometry)
        for name in ("cat.png", "cat.generator.png"):
            assert previewed.outputs(Path(name)) == drawing.outputs(Path(name))


@pytest.mark.parametrize("frames", [1, 3])
def test_before_and_after(frames: int) -> None:
    alpha = Image.new("L", (240, 160), 255)
    alpha.paste(0, (0, 0, 30, 40))
    done = made((240, 160), frames=frames, alpha=alpha, output="cat.webp")
    preview = preview_of(done)
    before, after = decoded(preview.before), decoded(preview.after)
    for image in (before, after):
        assert (image.size, getattr(image, "n_frames", 1)) == ((240, 160), frames)
        assert image.convert("RGBA").getchannel("A").tobytes() == alpha.tobytes()
    seen = np.asarray(alpha) > 0
    for image, expected in ((before, noise((240, 160))), (after, done.translations[0])):
        difference_there = np.asarray(image.convert("RGB"), np.float32) - np.asarray(expected, np.float32)
        assert np.abs(difference_there[seen]).mean() < 3
    assert difference(before, after) > 20
    assert preview.frames == frames


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((1024, 768), (512, 384)), ((768, 1024), (384, 512)), ((700, 3), (512, 2)), ((4000, 1), (512, 1)),
        ((90, 60), (90, 60)),
    ],
)  # fmt: skip
def test_pictures_are_as_large_as_the_result_or_smaller(size: Size, shown: Size) -> None:
    done = made((30, 20))
    done.geometry = replace(done.geometry, output=size)
    preview = preview_of(done, maps=("generator",))
    assert decoded(preview.before).size == decoded(preview.after).size == shown


def test_layers() -> None:
    done = made((64, 48))
    layers = preview_of(done, Overlay(SUBJECT, ("generator",), Style(colormap="viridis"))).layers
    assert [(layer.name, layer.title, layer.over) for layer in layers] == [
        ("generator", "generator attention", "before"),
        ("local", "local discriminator", "after"),
        ("global", "global discriminator", "after"),
    ]
    assert layers[0].note == "CAM: comes from flat with p = 0.62 (average pooling), 0.44 (maximum)"
    other = Previewed(Translation(), replace(SUBJECT, direction="b2a"), MAPS).draw(done).preview
    assert other
    assert other.layers[0].note == layers[0].note.replace("flat", "clay")
    assert layers[1].note == "CAM: is real with p = 0.50 (average pooling), 0.00 (maximum)"
    for layer in layers:
        one = done.maps[0][layer.name]  # type: ignore[index]
        colours = decoded(layer.colours)
        assert colours.size == one.geometry.scaled
        assert difference(colours, colormaps.coloured(one.over_picture(colours.size), "viridis")) < 4


def test_colours_are_small() -> None:
    done = made((2000, 1000))
    done.geometry = replace(done.geometry, scaled=(512, 256), network=(512, 256))
    done.pixels = [np.asarray(noise((512, 256)))]
    done.maps = [{"generator": ramp("generator", done.geometry)}]
    (layer,) = preview_of(done, maps=("generator",)).layers
    assert decoded(layer.colours).size == (192, 96)


def test_maps_that_would_mislead_say_so() -> None:
    done = made((24, 20))
    flat_one, nearly_flat = ramp("generator", done.geometry, 0, 0), ramp("local", done.geometry, 90, 90.1)
    done.maps = [{"generator": flat_one, "local": nearly_flat}]
    flat, nearly, small = preview_of(done).layers
    assert flat == Layer("generator", "generator attention", "before", b"", FLAT)
    assert nearly.colours
    assert nearly.note.startswith("nearly flat: within 1 %; CAM: is real")
    reason = too_small(tiny.LIGHT, "global", done.geometry)
    assert small == Layer("global", "global discriminator", "after", b"", reason)
    assert preview_of(done, maps=()).layers == ()


def test_one_scale_for_all_pictures() -> None:
    spans = Spans({"generator": (0.0, 100.0)})
    (layer,) = preview_of(made((64, 48)), Heatmap(SUBJECT, ("generator",), spans=spans), ("generator",)).layers
    lowest = Image.new("RGB", (43, 32), tuple(colormaps.colour(np.zeros(()))))
    assert difference(decoded(layer.colours), lowest) < 2

"""The report as a file: whole or not there, nothing kept in memory, and any text is text."""

from __future__ import annotations

import base64
import contextlib
import errno
import importlib.resources
import io
import os
import re
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ugatit_cli
from ugatit_cli.errors import OutputError, StorageError
from ugatit_cli.outputs.base import Layer
from ugatit_cli.outputs.report import Entry, Header, ReportWriter, Scale

SCALE = Scale(("#000000", "#ff8800", "#ffffff"), "ignored", "looked at", "Each picture has its own scale.")
HOSTILE = "<script>alert(1)</script>\"'&.png"
VOID = {"meta", "link", "img", "input", "br"}


def webp(colour: str, size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "WEBP")
    return buffer.getvalue()


def header(**changed: Any) -> Header:
    plain: dict[str, Any] = {"facts": {"Model": "flat2clay"}, "provenance": {}, "scale": SCALE}
    return Header("flat → clay", "flat", "clay", **(plain | changed))


def entry(name: str, **changed: Any) -> Entry:
    plain: dict[str, Any] = {"before": webp("red"), "after": webp("blue"), "size": (960, 640), "milliseconds": 84.0}
    return Entry(name, **(plain | changed))


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
    with ReportWriter(path, header(**changed)) as writer:
        for each in entries:
            writer.add(each)
        writer.finish(summary)
    return Page(path.read_bytes().decode())


# --- What it shows -----------------------------------------------------------------------------------------


def test_a_page(tmp_path: Path) -> None:
    failed = Entry("bad.png", error="bad.png: not a picture", hint="Save it again.")
    page = written(
        tmp_path / "r.html", entry("a.png", output="out/a.png", note="animated"), failed, summary="1, 1 failed"
    )
    assert page.of("html")[0]["lang"] == "en"
    assert {"charset": "utf-8"} in page.of("meta")
    assert {"name": "generator", "content": f"ugatit {ugatit_cli.__version__}"} in page.of("meta")
    assert page.says("title") == ["flat → clay"]
    for text in (
        "a.png",
        "out/a.png",
        "animated",
        "bad.png: not a picture",
        "Save it again.",
        "1, 1 failed",
        "flat2clay",
    ):
        assert text in page.says("bdi")
    assert "960 × 640 pixels · 84 ms" in page.says("p")
    assert len(page.of("article", "failed")) == 1
    assert len(page.of("input")) == 2  # the divider of one card, and opacity


def test_nothing_is_fetched(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", entry("a.png", layers=(layer("generator", "before", webp("green")),)))
    (policy,) = [each["content"] for each in page.of("meta") if "http-equiv" in each]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    for _, attributes in page.tags:
        address = attributes.get("src") or attributes.get("href", "#")
        assert address.startswith(("data:", "#"))
    assert not re.search(r"url\(|@import|https?:", (tmp_path / "r.html").read_text())


def test_pictures_are_embedded_as_they_are(tmp_path: Path) -> None:
    pictures = [webp(colour) for colour in ("red", "green", "blue", "black")]
    layers = (
        layer("generator", "before", pictures[1]),
        layer("local", "after", pictures[3]),
        layer("x", "after", b""),
    )
    page = written(tmp_path / "r.html", entry("a.png", before=pictures[0], after=pictures[2], layers=layers))
    found = [each["src"].removeprefix("data:image/webp;base64,") for each in page.of("img")]
    assert [base64.b64decode(each, validate=True) for each in found] == pictures
    assert [each["data-layer"] for each in page.of("img", "layer")] == ["generator", "local"]
    assert all(each["alt"].startswith("a.png, ") for each in page.of("img"))
    told = [(each["data-layer"], each["data-over"]) for each in page.of("p", "attention")]
    assert told == [("generator", "before"), ("local", "after"), ("x", "after")]


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((64, 64), "small"), ((80, 160), "small"), ((81, 81), ""), ((64, 200), ""),
        ((480, 54), "broad"), ((480, 300), ""), ((64, 8), "small"), ((60, 480), ""),
    ],
)  # fmt: skip
def test_pictures_keep_their_shape(tmp_path: Path, size: tuple[int, int], kind: str) -> None:
    page = written(tmp_path / "r.html", entry("a.png", before=webp("red", size), after=webp("blue", size)))
    assert page.of("article")[0]["class"].split() == ["card", kind][: 1 + bool(kind)]
    assert page.of("div", "frame")[0]["style"] == f"--w: {size[0]}; --h: {size[1]}"


def test_totals(tmp_path: Path) -> None:
    times = [entry("a.png", milliseconds=value) for value in (10, 20, 4000)]
    page = written(tmp_path / "r.html", *times, Entry("b", error="b: no"), Entry("c", error="c: no"))
    assert page.says("b") == ["3", "2", "4.0 s", "20 ms"]
    assert [each["href"] for each in page.of("a")] == ["#failed"]
    text = (tmp_path / "r.html").read_text()
    assert text.index("median per picture") < text.index("<main")


def test_no_pictures(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", scale=None)
    assert "No pictures." in page.says("p")
    assert page.says("b") == ["0"]
    only = written(tmp_path / "r.html", Entry("b", error="b: no"), scale=None)
    assert "No pictures." not in only.says("p")


def test_the_scale_and_what_is_missing(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", missing="Maps need discriminators.")
    assert page.of("i")[0]["style"] == "background: linear-gradient(to right, #000000, #ff8800, #ffffff)"
    for text in ("ignored", "looked at", "Each picture has its own scale.", "Maps need discriminators."):
        assert text in page.says("bdi")
    assert written(tmp_path / "r.html", scale=None).of("i") == []


def test_provenance_is_nested(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"in": deep, "list": [deep]}
    told = {
        "recipe": {"ema": 0.999, "augment": True, "steps": [1, None, "two"]},
        "empty": {},
        "off": False,
        "zero": 0,
    }
    page = written(tmp_path / "r.html", provenance=told)
    names = ["recipe", "ema", "0.999", "augment", "steps", "1", "two", "empty", "off", "zero", "0"]
    assert [text for text in page.says("bdi") if text in names] == names
    assert page.says("dd") == ["yes", "–", "no"]
    assert page.says("li") == ["pictures", "–"]
    assert len(page.of("dl", "tree")) == 2
    assert "…" in written(tmp_path / "r.html", provenance=deep).says("dd")


# --- Any text is text --------------------------------------------------------------------------------------


def test_hostile_texts(tmp_path: Path) -> None:
    layers = (Layer(HOSTILE, HOSTILE, "after", webp("red"), HOSTILE),)
    entries = (
        entry(HOSTILE, output=HOSTILE, note=HOSTILE, layers=layers),
        Entry(HOSTILE, error=HOSTILE, hint=HOSTILE),
    )
    scale = Scale(("#000000", '"><b>'), HOSTILE, HOSTILE, HOSTILE)
    head = Header(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: [HOSTILE]}, scale, HOSTILE)
    with ReportWriter(tmp_path / "r.html", head) as writer:
        for each in entries:
            writer.add(each)
        writer.finish(HOSTILE)
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert "<script>alert" not in text
    assert page.says("title") == [HOSTILE]
    # Heading, summary, fact (2), provenance (2), missing, scale (3), card (name, output, note, domains, layer (2)),
    # failure (name, error, hint).
    assert page.says("bdi").count(HOSTILE) == 20
    assert page.of("img", "layer")[0]["data-layer"] == HOSTILE


def test_placeholders_in_texts_are_texts(tmp_path: Path) -> None:
    page = written(tmp_path / "{{title}}.html", entry("{{cards}}\n{{totals}}"), facts={"{{scale}}": "{{missing}}"})
    assert "{{cards}}\n{{totals}}" in page.says("bdi")
    assert {"{{scale}}", "{{missing}}"} <= set(page.says("bdi"))
    assert not re.search(r"\{\{(title|version|facts|provenance)\}\}", (tmp_path / "{{title}}.html").read_text())


def test_names_that_are_not_text(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", entry("a\udcff\x00\x1b.png"), Entry("b\ud800", error="b\ud800: no"))
    assert {"a\ufffd\ufffd\ufffd.png", "b\ufffd", "b\ufffd: no"} <= set(page.says("bdi"))


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None), max_size=3000))
def test_any_text_makes_a_page(tmp_path_factory: pytest.TempPathFactory, name: str, summary: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.html"
    page = written(path, Entry(name, error="x" + name, hint=name), summary=summary, facts={name: name})
    assert len(page.of("article")) == 1
    assert page.says("h2") == ["Failed", "Pictures"]


def test_long_summaries_are_cut(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", summary="'" * 100_000)
    assert page.says("bdi")[1] == "'" * 1000 + "…"


# --- Whole, or not there -----------------------------------------------------------------------------------


def test_the_page_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.html"
    writer = ReportWriter(path, header())
    writer.add(entry("a.png"))
    assert not path.exists()
    assert [each.name.startswith(".r.html.") for each in path.parent.iterdir()] == [True]
    writer.finish("done")
    assert list(path.parent.iterdir()) == [path]
    before = path.read_bytes()
    writer.discard()
    assert path.read_bytes() == before


def test_discarded(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("old")
    with contextlib.suppress(KeyboardInterrupt), ReportWriter(tmp_path / "r.html", header()) as writer:
        writer.add(entry("a.png"))
        raise KeyboardInterrupt
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]
    writer.discard()
    written(tmp_path / "r.html", entry("a.png"))
    assert len(list(tmp_path.iterdir())) == 1


class FullDisk(io.FileIO):
    """A file on a disk with room for so many more writes."""

    room = 0

    def write(self, data: Any, /) -> int:
        if not FullDisk.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        FullDisk.room -= 1
        return super().write(data)


@pytest.mark.parametrize("room", [0, 1, 2, 3, 4], ids=["header", "card", "second card", "end", "totals"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    written(tmp_path / "r.html")  # reads the template
    (tmp_path / "r.html").unlink()
    monkeypatch.setattr(FullDisk, "room", room)
    monkeypatch.setattr(Path, "open", lambda path, mode: FullDisk(path, mode.replace("b", "")))
    with pytest.raises(StorageError, match=r"r\.html: no space left"):
        written(tmp_path / "r.html", entry("a.png"), entry("b.png"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(FullDisk, "room", 5)
    written(tmp_path / "r.html", entry("a.png"), entry("b.png"))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError, match="input/output error"):
        written(tmp_path / "r.html", entry("a.png"))
    assert list(tmp_path.iterdir()) == []


def test_places_where_no_page_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "r.html"):
        with pytest.raises(OutputError, match=re.escape(str(path))) as caught:
            ReportWriter(path, header())
        assert caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_cards_are_not_kept(tmp_path: Path) -> None:
    picture = webp("red") + bytes(100_000)
    with ReportWriter(tmp_path / "r.html", header()) as writer:
        writer.add(entry("first.png", before=picture, after=picture))
        tracemalloc.start()
        try:
            for i in range(50):
                writer.add(entry(f"{i}.png", before=picture, after=picture))
            left, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        writer.finish("done")
    assert left < 200_000
    assert most < 4_000_000
    assert (tmp_path / "r.html").stat().st_size > 51 * 2 * 100_000 * 4 / 3


def test_the_template_is_packaged() -> None:
    text = importlib.resources.files("ugatit_cli").joinpath("outputs/report.html").read_text(encoding="utf-8")
    names = re.findall(r"\{\{(\w+)\}\}", text)
    assert set(names) == {"version", "title", "totals", "facts", "provenance", "missing", "scale", "cards"}

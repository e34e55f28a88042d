"""`--report` of `translate` and `cam`: what the page is told of the files, and when there is one."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from tests import tiny
from tests.cli.conftest import Command, Outcome, below, put
from tests.outputs.test_report import Page
from ugatit_cli.attention.words import TITLES
from ugatit_cli.cli import tally
from ugatit_cli.config import MAPS
from ugatit_cli.errors import PictureError, StorageError
from ugatit_cli.outputs import report
from ugatit_cli.outputs.base import Layer
from ugatit_cli.outputs.report import Entry, Header
from ugatit_cli.weights.folder import save_model

CPU = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with discriminators and a provenance."""
    folder = tmp_path_factory.mktemp("report")
    plain = tiny.save(folder / "plain", discriminators=True)
    tensors = [load_file(plain / f"{name}.safetensors") for name in ("model", "discriminators")]
    save_model(folder / "judged", tiny.LIGHT, *tensors, provenance={"trained with": "<patience>", "steps": 7})
    return str(folder / "judged")


class Told:
    """All that a page is told; it is written all the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.headers: list[Header] = []
        self.entries: list[Entry] = []
        self.summaries: list[str] = []
        for name, kept in (("begin", self.headers), ("add", self.entries), ("finish", self.summaries)):
            monkeypatch.setattr(report.ReportWriter, name, self.spied(getattr(report.ReportWriter, name), kept))

    @staticmethod
    def spied(function: Callable[..., None], kept: list[Any]) -> Callable[..., None]:
        def spy(*arguments: Any) -> None:
            function(*arguments)
            kept.append(arguments[-1])

        return spy

    @property
    def header(self) -> Header:
        (header,) = self.headers
        return header

    @property
    def by_name(self) -> dict[str, Entry]:
        found = {entry.name: entry for entry in self.entries}
        assert len(found) == len(self.entries)
        return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


@pytest.fixture(params=["translate", "cam"])
def reporting(request: pytest.FixtureRequest, ugatit: Command, judged: str) -> Command:
    """Both commands, with a report in r.html and results in the folder `out`."""

    def run(*arguments: object, model: str = judged, stdin: bytes = b"") -> Outcome:
        given = [str(argument) for argument in arguments]
        given += [] if "--report" in given else ["--report", "r.html"]
        given += [] if "-o" in given else ["-o", "out"]
        return ugatit(request.param, "--model", model, *CPU, *given, stdin=stdin)

    run.__name__ = request.param
    return run


def page(path: str = "r.html") -> Page:
    return Page(Path(path).read_text())


def layers(entry: Entry) -> tuple[Layer, ...]:
    assert entry.preview
    return entry.preview.layers


def size_of(webp: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(webp)) as image:
        assert image.format == "WEBP"
        return image.size


# --- The page ------------------------------------------------------------------------------------------


def test_an_entry_for_each_file(reporting: Command, told: Told) -> None:
    put("in/a.png", "in/z/b.jpg")
    Path("in/bad.png").write_bytes(b"text")
    outcome = reporting("in", "gone.png")
    assert outcome.code == 1
    assert below("out") == ["a.png", "z/b.jpg"]
    assert "report: r.html\n" in outcome.stderr
    assert set(told.by_name) == {"in/a.png", "in/z/b.jpg", "in/bad.png", "gone.png"}
    gone, bad = told.by_name["gone.png"], told.by_name["in/bad.png"]
    assert "gone.png" in str(gone.error)
    assert isinstance(bad.error, PictureError)
    assert bad.error.hint
    assert {bad.error.message, bad.error.hint} <= set(page().says("bdi"))
    for name, output in (("in/a.png", "out/a.png"), ("in/z/b.jpg", "out/z/b.jpg")):
        entry = told.by_name[name]
        with Image.open(output) as result:
            assert (entry.output, entry.error, entry.size) == (output, None, result.size)
        assert entry.seconds > 0
        assert entry.preview
        assert size_of(entry.preview.before) == size_of(entry.preview.after)
    (summary,) = told.summaries
    assert summary.startswith("2 ")
    assert ", 2 failed in " in summary
    assert summary.partition(" in ")[0] in outcome.stderr
    found = page()
    assert len(found.of("article")) == 4
    assert len(found.of("article", "failed")) == 2
    assert summary in found.says("bdi")
    assert below(".") == ["in/a.png", "in/bad.png", "in/z/b.jpg", "out/a.png", "out/z/b.jpg", "r.html"]


def test_no_path_tells_of_the_disk(reporting: Command, told: Told) -> None:
    put("in/z/b.png", "c.png", "d/c.png")
    Path("in/bad.png").write_bytes(b"text")
    here = Path.cwd()
    given = [here / "in", here / "c.png", here / "d/c.png", here / "gone.png"]
    assert reporting(*given, "-o", here / "out", "--report", here / "r.html").code == 1
    assert [entry.name for entry in told.entries] == ["gone.png", "bad.png", "z/b.png", "c.png", "c.png"]
    assert [entry.output for entry in told.entries[2:]] == ["out/z/b.png", "out/c.png", "out/c_png.png"]
    assert str(here) not in Path("r.html").read_text()


def test_what_is_true_of_all(reporting: Command, told: Told, judged: str, light: str) -> None:
    put("a.png")
    assert reporting("a.png", "--to", "flat").code == 0
    header = told.header
    name = Path(judged).name
    assert (header.model, header.before, header.after) == (name, "clay", "flat")
    assert header.facts.pop("Device").startswith("cpu (")  # type: ignore[attr-defined]
    network = header.facts.pop("Network")  # type: ignore[attr-defined]
    assert network.startswith("ugatit, light, ")
    assert network.endswith(", flat <-> clay")
    assert header.facts == {
        "Model": name,
        "Command": f"ugatit {reporting.__name__}",
        "Fit": "aspect",
        "Colours": "inferno",
        "Precision": "fp32",
    }
    assert header.provenance == {"trained with": "<patience>", "steps": 7}
    assert header.missing == ""
    texts = page().says("bdi")
    assert {"<patience>", "7", "trained with", name} <= set(texts)
    told.headers.clear()
    assert reporting("a.png", "--overwrite", model=light).code == 0
    assert told.header.missing.startswith("No local and global attention: it comes without discriminators.")
    assert told.header.missing in page().says("bdi")


def test_settings_are_shown(ugatit: Command, told: Told, light: str) -> None:
    """Those that aren't as usual."""
    put("a.png")
    look = ("--strength", "0.25", "--keep-colour", "--keep-metadata")
    outcome = ugatit("translate", "a.png", "-o", "b.png", "--report", "r.html", "--model", light, *look)
    assert outcome.code == 0
    assert {
        "Strength": "0.25",
        "Colour": "the pictures' own",
        "Metadata": "kept",
    }.items() <= told.header.facts.items()


# --- Attention -----------------------------------------------------------------------------------------


def test_translate_shows_the_generators_attention(ugatit: Command, told: Told, light: str) -> None:
    put("a.png")
    options = ["--model", light, *CPU]
    assert ugatit("translate", "a.png", *options, "-o", "plain.png").code == 0
    assert ugatit("translate", "a.png", *options, "-o", "told.png", "--report", "r.html").code == 0
    assert Path("plain.png").read_bytes() == Path("told.png").read_bytes()
    (entry,) = told.entries
    assert [(layer.name, layer.over) for layer in layers(entry)] == [("generator", "before")]
    assert layers(entry)[0].colours
    assert told.header.legend
    assert told.header.legend.text.startswith("Each map has its own scale")


def test_translate_reports_of_a_method_without_attention(ugatit: Command, told: Told) -> None:
    put("a.png")
    tiny.save(Path("m"), tiny.CYCLEGAN)
    assert ugatit("translate", "a.png", "--model", "m", *CPU, "-o", "b.png", "--report", "r.html").code == 0
    (entry,) = told.entries
    assert layers(entry) == ()
    assert told.header.legend is None
    assert "Colours" not in told.header.facts
    assert told.header.missing.count("cyclegan") == 1
    assert told.header.missing in page().says("bdi")


def test_cam_shows_the_maps_that_were_asked_for(ugatit: Command, told: Told, judged: str) -> None:
    put("a.png")
    for maps, layout in (("all", "panel"), ("local", "overlay"), ("generator,global", "raw")):
        told.entries.clear()
        arguments = ("--maps", maps, "--layout", layout, "-o", layout, "--report", f"{layout}.html")
        assert ugatit("cam", "a.png", "--model", judged, *CPU, *arguments).code == 0
        (entry,) = told.entries
        wanted = list(MAPS) if maps == "all" else maps.split(",")
        assert [layer.name for layer in layers(entry)] == wanted
        assert [layer.title for layer in layers(entry)] == [TITLES[name] for name in MAPS if name in wanted]
    assert entry.output == "raw/a.json, raw/a.generator.npy, raw/a.global.npy"
    assert entry.size == (40, 32)


def test_the_colours_are_those_of_the_results(ugatit: Command, told: Told, judged: str) -> None:
    put("a.png")
    options = ["a.png", "--model", judged, *CPU, "-o", "o", "--report", "r.html", "--overwrite"]
    for arguments in ((), ("--colormap", "jet"), ("--upsample", "bicubic"), ("--normalize", "batch")):
        assert ugatit("cam", *options, *arguments).code == 0
    colours = [layers(entry)[0].colours for entry in told.entries]
    assert len(set(colours)) == 3
    assert colours[3] == colours[0]  # a single picture
    own, jet, _, common = (header.legend for header in told.headers)
    assert own and jet and common  # noqa: PT018
    assert own.colours != jet.colours
    assert common.text != own.text


# --- Where it can't be ---------------------------------------------------------------------------------


def test_an_existing_page_is_refused(reporting: Command) -> None:
    put("a.png")
    Path("r.html").write_text("mine")
    outcome = reporting("a.png")
    assert (outcome.code, outcome.errors) == (2, ["--report r.html: exists already"])
    assert "--overwrite" in outcome.stderr
    assert (below("."), Path("r.html").read_text()) == (["a.png", "r.html"], "mine")
    assert reporting("a.png", "--overwrite").code == 0
    assert len(page().of("article")) == 1


def test_going_on_keeps_the_earlier_page(reporting: Command) -> None:
    put("a.png")
    assert reporting("a.png").code == 0
    first = Path("r.html").read_bytes()
    for number in (2, 3):
        put(f"{number}.png")
        outcome = reporting("a.png", "2.png", *(["3.png"] if number == 3 else []), "--skip-existing")
        assert outcome.code == 0
        assert f"report: r-{number}.html" in outcome.stderr
        assert len(page(f"r-{number}.html").of("article")) == 1
    assert Path("r.html").read_bytes() == first


@pytest.mark.parametrize("name", ["r.pdf", "report", "r.html.png", "folder.html"])
def test_names_that_are_refused(reporting: Command, name: str) -> None:
    put("a.png")
    Path("folder.html").mkdir()
    outcome = reporting("a.png", "--report", name)
    assert outcome.code == 2
    assert outcome.errors[0].startswith(f"--report {name}: ")
    assert below(".") == ["a.png"]
    assert reporting("a.png", "--report", "new/deep/R.HTML").code == 0  # its folder is made
    assert len(page("new/deep/R.HTML").of("article")) == 1


def test_a_folder_that_cannot_be_written(reporting: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png")
    original = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and original(path, mode))
    monkeypatch.setattr("ugatit_cli.translation.model.Model.from_folder", None)  # it is found out before
    outcome = reporting("a.png", "--report", "locked/r.html")
    assert (outcome.code, outcome.errors) == (1, ["locked: permission denied"])
    Path("file").write_text("no folder")
    outcome = reporting("a.png", "--report", "file/r.html")
    assert (outcome.code, outcome.errors[0].partition(":")[0]) == (1, "file")
    assert below(".") == ["a.png", "file"]


def test_nothing_to_show(reporting: Command) -> None:
    put("a.png", "out/a.png")
    outcome = reporting("a.png", "--skip-existing")
    assert outcome.code == 0
    assert "report: r.html is not written, there is nothing to show\n" in outcome.stderr
    outcome = reporting("gone.png")
    assert outcome.code == 1
    assert "r.html is not written" in outcome.stderr
    assert below(".") == ["a.png", "out/a.png"]


# --- Ends that come early ------------------------------------------------------------------------------


def test_an_unexpected_end_leaves_no_page(reporting: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("in/a.png", "in/b.png")

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tally.Tally, "add", broken)
    outcome = reporting("in")
    assert outcome.code == 1
    assert "internal error" in outcome.stderr
    assert not [name for name in below(".") if "html" in name]


def test_a_disk_that_is_full_for_the_page(reporting: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("no space left on the device for r.html", "Free some space, or write elsewhere.")

    monkeypatch.setattr(report.ReportWriter, "add", refuse)
    put("in/a.png", "in/b.png")
    outcome = reporting("in", "--workers", "1", "--batch-size", "1")
    unwritten = "the report could not be written, see above; the results are complete"
    assert (outcome.code, outcome.errors) == (1, ["no space left on the device for r.html", unwritten])
    assert not [name for name in below(".") if "html" in name]
    assert len(below("out")) == 2  # the pictures matter more

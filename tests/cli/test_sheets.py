"""`cam --layout sheet`, and PDF: many pictures on pages as large as paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PdfParser

from tests.cli.conftest import Command, below, picture, put
from ugatit_cli.pictures import sheets
from ugatit_cli.pictures.drawing import Legend
from ugatit_cli.pictures.encoding import writable_suffixes
from ugatit_cli.pictures.sheets import PAGE, Strip, draw_sheets

A4 = (595, 842)  # points
LEGEND = Legend(bytes(range(30)), "low", "high", "What it means.")


def pages(path: str | Path) -> list[tuple[int, int]]:
    """Sizes of a PDF's pages, in points."""
    with PdfParser.PdfParser(str(path)) as document:
        boxes = [document.read_indirect(page)[b"MediaBox"] for page in document.pages]
    return [(round(float(box[2])), round(float(box[3]))) for box in boxes]


def test_many_pictures_on_one_page(cam: Command) -> None:
    put("in/a.png", "in/b/c.jpg")
    Path("in/bad.png").write_bytes(b"text")
    outcome = cam("in", "--layout", "sheet", "--maps", "generator", "-o", "new/fig.pdf")
    assert (outcome.code, outcome.lines) == (1, ["new/fig.pdf"])
    assert below("new") == ["fig.pdf"]
    ((width, height),) = pages("new/fig.pdf")
    assert width == A4[0]
    assert height < A4[1] / 2  # as high as it needs to be
    before = Path("new/fig.pdf").read_bytes()
    outcome = cam("in", "--layout", "sheet", "-o", "new/fig.pdf")
    assert (outcome.code, outcome.errors) == (2, ["new/fig.pdf exists already"])
    assert cam("in", "--layout", "sheet", "--maps", "generator", "-o", "new/fig.pdf", "--overwrite").code == 1
    assert Path("new/fig.pdf").read_bytes() == before  # the same pictures are the same file
    assert cam("in/bad.png", "--layout", "sheet", "-o", "x.pdf").code == 1
    assert not Path("x.pdf").exists()


def test_a_folder_gets_pictures_of_pages(cam: Command) -> None:
    put("a.png")
    outcome = cam("a.png", "--layout", "sheet", "--json")
    assert outcome.code == 0
    told = [json.loads(line) for line in outcome.lines]
    assert [one["output"] for one in told if one["status"] == "written"] == ["attention/sheet.png"]
    assert below("attention") == ["sheet.png"]
    with Image.open("attention/sheet.png") as page:
        assert page.width == PAGE[0]
        assert round(page.info["dpi"][0]) == sheets.DPI
    assert cam("a.png", "--layout", "sheet", "--format", "pdf").code == 0
    assert below("attention") == ["sheet.pdf", "sheet.png"]


def test_a_dry_run_of_a_sheet(cam: Command) -> None:
    put("in/a.png", "in/b.png")
    outcome = cam("in", "--layout", "sheet", "-o", "fig.pdf", "--dry-run")
    assert (outcome.code, outcome.lines) == (0, ["in/a.png -> fig.pdf", "in/b.png -> fig.pdf"])
    assert below(".") == ["in/a.png", "in/b.png"]


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        (["in"], "a.png"),
        (["in"], "../in/a.png"),
        (["in/a.png", "in/b.png"], "b.png"),
        (["in/a.png", "in/b.png"], "link.png"),
        (["in/a.png", "in/b-2.png"], "b.png"),  # which may be its second page
    ],
)
def test_no_input_is_overwritten_by_a_sheet(cam: Command, inputs: Sequence[str], name: str) -> None:
    put("in/a.png", "in/b.png", "in/b-2.png")
    Path("in/link.png").symlink_to("b.png")
    before = {path: Path("in", path).read_bytes() for path in below("in")}
    outcome = cam(*inputs, "--layout", "sheet", "-o", Path("in", name).absolute(), "--overwrite")
    assert (outcome.code, outcome.lines) == (2, [])
    assert {path: Path("in", path).read_bytes() for path in below("in")} == before


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "pdf"])
def test_pages_of_an_earlier_sheet_are_no_inputs(cam: Command, suffix: str) -> None:
    put(*(f"in/{number}.png" for number in range(9)))
    sheet = ("--layout", "sheet", "--json", "-o", f"in/sheet.{suffix}")
    assert cam("in", *sheet).ending["results"] == 9
    pages = sorted(map(str, Path("in").glob("sheet*")))
    assert len(pages) == (1 if suffix == "pdf" else 2)
    assert cam("in", *pages, *sheet, "--overwrite").ending["results"] == 9
    assert cam(*pages, *sheet, "--overwrite").code == 2


def test_a_forgotten_layout(cam: Command) -> None:
    put("in/a.png", "in/b.png")
    outcome = cam("in", "-o", "fig.pdf")
    assert outcome.code == 2
    assert "--layout sheet" in outcome.stderr
    assert below(".") == ["in/a.png", "in/b.png"]


@pytest.mark.parametrize(
    "wrong",
    [("--skip-existing",), ("--shard", "1/2"), ("--format", "gif"), ("-o", "-"), ("-o", "x.pdf", "--format", "png")],
)
def test_what_does_not_go_with_sheets(cam: Command, wrong: Sequence[str]) -> None:
    put("a.png")
    outcome = cam("a.png", "--layout", "sheet", *wrong)
    assert outcome.code == 2
    assert below(".") == ["a.png"]


def test_panels_as_pdf(cam: Command) -> None:
    put("in/a.png", "in/b.png")
    assert cam("in/a.png", "-o", "fig.pdf").code == 0
    assert cam("in", "-o", "figs", "--format", "pdf").code == 0
    assert below("figs") == ["a.pdf", "b.pdf"]
    assert Path("figs/a.pdf").read_bytes() == Path("fig.pdf").read_bytes()
    ((width, height),) = pages("fig.pdf")
    assert height < width < 454  # 16 cm: between the margins of A4


@pytest.mark.parametrize("suffix", [".pdf", ".heic", ".ico", ".xyz"])
def test_translations_are_no_pdf(translate: Command, suffix: str) -> None:
    put("a.png")
    outcome = translate("a.png", "-o", f"fig{suffix}")
    assert outcome.code == 2
    assert f"can't be written as {suffix}" in outcome.errors[0]
    assert [one for one in writable_suffixes() if one not in outcome.stderr] == []


# --- Pages ---------------------------------------------------------------------------------------------


def strips(count: int, each: int = 3) -> list[Strip]:
    size = sheets.within((30, 20), each)
    return [Strip(f"{i}.png", [picture(*size, seed=i), None, *[picture(*size)] * (each - 2)]) for i in range(count)]


def test_further_pages() -> None:
    drawn = list(draw_sheets("flat → clay", ["input", "attention", "translation"], strips(25), LEGEND))
    assert [page.size for page in drawn] == [PAGE] * 2
    first = strips(1)[0].pictures[0]
    assert first is not None
    places = [column for column in range(PAGE[0]) if drawn[0].getpixel((column, 300)) != (255, 255, 255)]
    assert places[0] >= 80
    assert places[-1] <= PAGE[0] - 80
    assert b"".join(sheets.pdf(drawn, 50)).startswith(b"%PDF")


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_pictures_fill_the_width_and_are_not_cut(count: int) -> None:
    (page,) = draw_sheets("x", ["title"] * count, strips(sheets.beside(count), count), None)
    inside = np.asarray(page)[:, :, 0] < 255
    columns = np.flatnonzero(inside.any(axis=0))
    assert 80 <= columns[0] < 110
    assert PAGE[0] - 110 < columns[-1] < PAGE[0] - 80

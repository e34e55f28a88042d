"""Several models in one command: a folder each, one page, one exit code; only one is in memory at a time."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.cli.conftest import Command, Outcome, below, encoded, put
from tests.outputs.test_report import Page
from ugatit_cli.cli.several import folder_names
from ugatit_cli.cli.tally import Tally
from ugatit_cli.translation.model import Model

CPU = ("--device", "cpu", "--precision", "fp32")
TWO = ("-m", "runs/a/cats", "-m", "runs/b/cats")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    tiny.save(folder / "a/cats")
    tiny.save(folder / "b/cats", tiny.CYCLEGAN)
    return folder


@pytest.fixture
def several(ugatit: Command, runs: Path) -> Command:
    """`ugatit translate` with two runs of one name, beside each other."""
    Path("runs").symlink_to(runs)

    def run_with(*arguments: object, **more: Any) -> Outcome:
        return ugatit("translate", *CPU, *TWO, *arguments, **more)

    return run_with


def test_a_folder_for_each_as_if_it_were_alone(several: Command, ugatit: Command) -> None:
    put("in/a.png", "in/b/c.jpg")
    outcome = several("in", "-o", "out", "--json")
    assert (outcome.code, outcome.errors) == (0, [])
    names = ["a.png", "b/c.jpg"]
    assert below("out") == [f"{run}-cats/{name}" for run in "ab" for name in names]
    told = [(one["model"], one["input"], one["output"]) for one in outcome.documents]
    assert told == [(f"runs/{run}/cats", f"in/{name}", f"out/{run}-cats/{name}") for run in "ab" for name in names]
    assert outcome.ending["results"] == 4
    assert "a-cats: 2 translated in " in outcome.stderr
    assert ugatit("translate", *CPU, "-m", "runs/b/cats", "in", "-o", "alone").code == 0
    for name in names:
        assert Path("alone", name).read_bytes() == Path("out/b-cats", name).read_bytes()


def test_one_page_compares_them(several: Command) -> None:
    put("in/a.png", "in/b.png")
    Path("in/bad.png").write_bytes(b"text")
    outcome = several("in", "-o", "out", "--report", "r.html", "--report-title", "For Anna <3")
    assert (outcome.code, outcome.errors[1:]) == (1, ["1 input failed, named above"])
    assert outcome.stderr.count("in/bad.png: not a picture") == 1
    assert outcome.stderr.count("2 translated, 1 failed in") == 2
    assert "4 translated, 2 failed in" in outcome.stderr
    page = Page(Path("r.html").read_text())
    assert page.says("title") == ["For Anna <3"]
    assert len(page.of("article", "compare")) == 2
    assert len(page.of("article", "failed")) == 1
    cells = ["original", "a-cats", "b-cats"]
    assert [text for text in page.says("bdi") if text in cells][2:] == cells * 2  # after the settings
    shown = [each for each in page.of("img") if "layer" not in each.get("class", "")]
    assert len(shown) == 2 * 3  # each picture once, and what each model made of it


def test_a_model_that_made_nothing_of_a_picture_has_a_place_in_its_card(several: Command) -> None:
    put("in/a.png", "in/b.png", "out/a-cats/a.png")
    assert several("in", "-o", "out", "--report", "r.html", "--skip-existing").code == 0
    page = Page(Path("r.html").read_text())
    assert len(page.of("article", "compare")) == 2
    assert len(page.of("div", "nothing")) == 1


def test_only_one_is_loaded(several: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png")
    loaded: list[weakref.ref[Model]] = []
    original = Model.from_folder

    def spy(*arguments: Any, **options: Any) -> Model:
        gc.collect()
        assert [one for one in loaded if one() is not None] == []
        model = original(*arguments, **options)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(Model, "from_folder", spy)
    assert several("a.png", "-o", "out").code == 0
    assert len(loaded) == 2


@pytest.mark.parametrize("wrong", [("nosuch",), ("nosuch", "nor-this"), ("photo2portrait",)])
def test_what_is_not_to_be_had_is_named_before_any_work(several: Command, wrong: tuple[str, ...]) -> None:
    put("a.png")
    outcome = several("a.png", "-o", "out", *(text for name in wrong for text in ("-m", name)))
    assert outcome.code == 3
    assert len(outcome.errors) == len(wrong)
    for name, error in zip(wrong, outcome.errors, strict=True):
        assert name in error
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("named", "option"),
    [("way", ("--direction", "b2a")), ("way", ("--to", "flat")), ("runs/a/cats", ("--to", "anime"))],
)
def test_a_model_that_does_not_go_there_is_named(several: Command, named: str, option: tuple[str, ...]) -> None:
    put("a.png")
    tiny.save(Path("way"), tiny.ONE_WAY)
    outcome = several("a.png", "-o", "out", "-m", "way", *option)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert outcome.errors[0].startswith(f"{named}: ")
    assert not Path("out").exists()


def test_results_that_exist(several: Command) -> None:
    put("in/a.png", "out/b-cats/a.png")
    before = Path("out/b-cats/a.png").read_bytes()
    outcome = several("in", "-o", "out")
    assert outcome.code == 2
    assert "out/b-cats/a.png" in outcome.errors[0]
    assert below("out") == ["b-cats/a.png"]
    assert several("in", "-o", "out", "--skip-existing").code == 0
    assert below("out") == ["a-cats/a.png", "b-cats/a.png"]
    assert Path("out/b-cats/a.png").read_bytes() == before


def test_a_dry_run(several: Command) -> None:
    put("in/a.png")
    outcome = several("in", "-o", "out", "--dry-run", "--report", "r.html")
    assert outcome.code == 0
    assert outcome.lines == [f"in/a.png -> out/{run}-cats/a.png" for run in "ab"]
    assert below(".") == ["in/a.png"]


def test_standard_input_is_for_all_of_them(several: Command) -> None:
    assert several("-", "-o", "out", stdin=encoded()).code == 0
    assert below("out") == ["a-cats/stdin.png", "b-cats/stdin.png"]


@pytest.mark.parametrize("output", [(), ("-o", "-"), ("-o", "x.png")])
def test_one_file_cannot_be_several(several: Command, output: tuple[str, ...]) -> None:
    put("a.png")
    outcome = several(*(["a.png"] if output else ["-"]), *output, stdin=encoded())
    assert outcome.code == 2
    assert "2 models" in outcome.errors[0]


def test_an_interruption_ends_all(several: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    put("in/a.png", "in/b.png")
    original = Tally.add

    def add(*arguments: Any) -> None:
        original(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Tally, "add", add)
    outcome = several("in", "-o", "out", "--report", "r.html", "--workers", "1", "--batch-size", "1")
    assert outcome.code == 130
    assert {name.partition("/")[0] for name in below("out")} == {"a-cats"}
    assert len(Page(Path("r.html").read_text()).of("article", "compare")) >= 1


NAMES = {
    ("flat2clay",): ["flat2clay"],
    ("runs/a/cats", "runs/b/cats"): ["a-cats", "b-cats"],
    ("cats", "runs/cats"): ["cats", "runs-cats"],
    ("ann/cats", "bob/cats@v1"): ["ann-cats", "cats@v1"],
    ("ann/cats@v1", "ann/cats@v2", "ann/cats@feature/x"): ["cats@v1", "cats@v2", "cats@feature_x"],
    ("a.onnx", "x/A.onnx"): ["a", "x-A"],
    (f"cats@sha256:{'1' * 64}", f"cats@sha256:{'2' * 64}"): ["cats@11111111", "cats@22222222"],
    ("x/con", "x/.hidden", "x/a?b:c"): ["_con", "hidden", "a_b_c"],
}


@pytest.mark.parametrize("models", NAMES)
def test_names_of_folders(models: tuple[str, ...]) -> None:
    assert list(folder_names(models).values()) == NAMES[models]
    again = folder_names([*models, *models])
    assert len({name.lower() for name in again.values()}) == len(models)

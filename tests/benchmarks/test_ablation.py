"""`benchmarks.ablation` from pictures to the JSON file: rows that are done stay done, figures of one protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablation
from benchmarks.ablation import Bench
from benchmarks.ablation_tables import ABLATIONS, UNTOUCHED
from tests.cli.conftest import picture
from tests.extractors import tiny_extractor
from ugatit_cli.errors import UgatitError, UsageError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for index in range(9):
            picture(36, 36, seed=10 * number + index).save(tmp_path / "data" / folder / f"{index}.png")
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _small_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "load_extractor", lambda *_, **__: tiny_extractor("tiny features"))


def words(data: Path, *arguments: str) -> list[str]:
    sizes = ["--size", "32", "--channels", "8", "--steps", "1"]  # threads: those of this process
    return [str(data), *sizes, "--output", str(data.parent / "out"), *arguments]


def bench(data: Path, *arguments: str) -> Bench:
    return Bench(ablation.parse(words(data, *arguments)), "ablation", ABLATIONS)


def stored(data: Path) -> Any:
    return json.loads((data.parent / "out" / "ablation.json").read_text(encoding="utf-8"))["ablation"]


def test_rows_are_done_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = bench(data, "--rows", "w-in")
    first.work()
    assert set(first.results) == {UNTOUCHED, "w/ IN"}
    assert stored(data)["rows"] == first.results
    assert stored(data)["protocol"]["extractor"] == "tiny features"
    result = first.results["w/ IN"]["0"]
    assert result["steps"] == 1
    assert result["a2b"]["kid"] != first.results[UNTOUCHED]["0"]["a2b"]["kid"]

    again = bench(data, "--rows", "w-in", "cyclegan")
    assert again.waiting() == [("CycleGAN", 0)]
    again.work()
    assert stored(data)["rows"]["w/ IN"]["0"] == result
    assert ablation.main(words(data, "--rows", "w-in")) == 0
    assert "| w/ IN |" in capsys.readouterr().out


def measured(data: Path) -> Path:
    """A file of results with one row, as the command makes it."""
    figures = dict.fromkeys(("kid", "std", "kid to both", "std to both"), 0.5)
    rows = {UNTOUCHED: {"0": dict.fromkeys(("a2b", "b2a"), figures)}}
    path = data.parent / "out" / "ablation.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"ablation": {"protocol": bench(data).protocol, "rows": rows}}), encoding="utf-8")
    return path


def test_figures_of_another_protocol_are_refused(data: Path) -> None:
    path = measured(data)
    found, before = bench(data), path.read_bytes()
    assert set(found.results) == {UNTOUCHED}
    names = [[one.name for one in files] for files in found.held_out]  # of pairs never both
    assert names == [["0.png", "2.png", "4.png", "6.png"], ["1.png", "3.png", "5.png", "7.png"]]
    with pytest.raises(UsageError, match=r"ablation\.json.* steps$"):
        bench(data, "--steps", "2")
    assert path.read_bytes() == before
    for text in ("{", "[]", '{"ablation": {"protocol": {}, "rows": {"w/ IN": {"0": {"steps": 1}}}}}'):  # damaged
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UgatitError, match=str(path)):
            bench(data)
        assert path.read_text(encoding="utf-8") == text
    (data / "testA").rename(data / "elsewhere")
    with pytest.raises(UsageError):
        bench(data)


def test_a_command_that_measures_nothing_leaves_no_trace(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablation.main(words(data, "--size", "30")) == 2
    assert "image_size" in capsys.readouterr().err
    assert not (data.parent / "out").exists()


@pytest.mark.parametrize(
    "wrong", ["--steps 0", "--seeds 0", "--pictures -1", "--threads 0", "--recipes nan", "--rows paper"]
)
def test_options_that_make_no_sense(data: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        ablation.main(words(data, *wrong.split()))
    assert caught.value.code == 2
    assert wrong.split()[1] in capsys.readouterr().err
    assert ablation.parse([str(data), "--recipes", "3", "--rows", "paper"]).rows == ["paper"]

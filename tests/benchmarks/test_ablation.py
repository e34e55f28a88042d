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
from ugatit_cli.errors import UsageError
from ugatit_cli.training import session


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


def bench(data: Path, *arguments: str) -> Bench:
    sizes = ["--size", "32", "--channels", "8", "--steps", "1", "--threads", "1"]
    output = ["--output", str(data.parent / "out")]
    return Bench(ablation.parse([str(data), *sizes, *output, *arguments]), "ablation", ABLATIONS)


def stored(data: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((data.parent / "out" / "ablation.json").read_text(encoding="utf-8"))
    return document


def test_rows_are_done_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench(data, "--rows", "w-in")
    first.work()
    assert set(first.results) == {UNTOUCHED, "w/ IN"}
    assert stored(data)["ablation"]["rows"] == first.results
    assert stored(data)["ablation"]["protocol"]["extractor"] == "tiny features"
    result = first.results["w/ IN"]["0"]
    assert result["steps"] == 1
    assert result["a2b"]["kid"] != first.results[UNTOUCHED]["0"]["a2b"]["kid"]

    trained = []
    original = session.train

    def train(run: Any, *rest: Any) -> Any:
        trained.append(run.path.name)
        return original(run, *rest)

    monkeypatch.setattr(session, "train", train)
    again = bench(data, "--rows", "w-in", "cyclegan")
    assert again.waiting() == [("CycleGAN", 0)]
    again.work()
    assert trained == ["cyclegan-0"]
    assert stored(data)["ablation"]["rows"]["w/ IN"]["0"] == result


def test_figures_of_another_protocol_are_refused(data: Path) -> None:
    bench(data)
    with pytest.raises(UsageError, match=r"ablation\.json: measured with another steps$"):
        bench(data, "--steps", "2")


def test_of_pairs_never_both_are_compared(data: Path) -> None:
    a, b = bench(data).held_out
    assert [path.name for path in a] == ["0.png", "2.png", "4.png", "6.png"]
    assert [path.name for path in b] == ["1.png", "3.png", "5.png", "7.png"]
    (data / "testB" / "0.png").unlink()
    a, b = bench(data, "--pictures", "4", "--output", str(data.parent / "other")).held_out
    assert [path.name for path in a] == ["0.png", "2.png", "4.png", "6.png"]
    assert [path.name for path in b] == ["1.png", "3.png", "5.png", "7.png"]


def test_held_out_pictures_are_needed(data: Path) -> None:
    (data / "testA").rename(data / "elsewhere")
    with pytest.raises(UsageError, match="has no testA and testB"):
        bench(data)


def test_rows_belong_to_their_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablation.parse([str(data), "--recipes", "3", "--rows", "paper"]).rows == ["paper"]
    with pytest.raises(SystemExit):
        ablation.parse([str(data), "--rows", "paper"])
    assert "no row paper" in capsys.readouterr().err

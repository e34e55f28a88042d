"""`benchmarks.all` on tiny networks, in this process: that everything is compared, and what is written."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from benchmarks import all as benchmarks
from benchmarks import attention, common, engines, inference, training
from benchmarks.common import Candidate, Comparison, Turn, Work


class InThisProcess:
    """A candidate without a process of its own."""

    def __init__(self, candidate: Candidate) -> None:
        self._work = candidate.make()

    def turn(self) -> Turn:
        return common.turn(self._work)

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(common, "Process", InThisProcess)
    monkeypatch.setattr(common, "PAUSE", 0)
    monkeypatch.setattr(attention, "WAYS", ("translate",))
    monkeypatch.setattr(training, "CANDIDATES", {"joint cycle": "joint"})
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/all.py", "--quick"])


def test_all_is_compared_and_recorded_with_what_it_depends_on(tmp_path: Path) -> None:
    options = benchmarks.parser().parse_args(["--quick", "--device", "cpu", "--engines"])
    common.write("all", benchmarks.comparisons(options), device=options.device)
    record = json.loads((tmp_path / "all.json").read_text())
    assert record["command"] == "python -m benchmarks.all --quick"
    assert {"date", "threads", "environment", "machine", "versions"} < record.keys()
    names = [list(one["candidates"]) for one in record["comparisons"]]
    assert names[0][:2] == ["plain eager fp32", "ugatit fp32"]
    assert [names[1][0], names[2][0], names[3][0]] == ["joint cycle", "network alone", "translate"]
    for one in record["comparisons"]:
        for figures in one["candidates"].values():
            assert figures["seconds"] > 0
            assert figures["memory"] > 0
    assert record["comparisons"][0]["candidates"]["ugatit fp32"]["PSNR dB"] > 90


def test_times_are_of_a_piece_and_compared_with_the_first() -> None:
    def turns(*seconds: float) -> list[Turn]:
        return [{"seconds": one, "cpu_seconds": one, "memory": 1} for one in seconds]

    figures = Comparison("", {"first": turns(4, 8, 6), "second": turns(2, 3, 4)}).figures()
    assert figures["first"]["times_as_fast"] == 1
    assert figures["second"]["times_as_fast"] == 2
    assert figures["second"]["quartiles"] == [2.5, 3.5]
    calls: list[None] = []
    common.turn(Work(lambda: calls.append(None), pieces=5))
    assert len(calls) == 1


def test_engines_that_arent_installed_are_named_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    options = inference.parser().parse_args(["--device", "cpu"])
    with pytest.raises(SystemExit, match=r"openvino") as caught:
        next(inference.comparisons(options))
    assert engines.INSTALL in str(caught.value)
    assert "onnxruntime" not in str(caught.value)

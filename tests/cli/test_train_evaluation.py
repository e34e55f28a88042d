"""`ugatit train --evaluate-every`: what is asked for, what is said, and the model that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, Outcome, below
from tests.extractors import tiny_extractor
from tests.trainings import make_folders
from ugatit_cli.metrics.features import Extractor
from ugatit_cli.training import evaluation

MACHINE = ["--device", "cpu", "--precision", "fp32", "--workers", "1"]
SIZES = ["--image-size", "32", "--channels", "4", "--blocks", "1", "--iterations", "2"]
FOLDERS = ["--domain-a", "horses", "--domain-b", "zebras", "--holdout", "4"]
RUN = "runs/horses2zebras"
EVERY = ["--evaluate-every", "1"]


@pytest.fixture(autouse=True)
def folders() -> None:
    make_folders(Path(), 12, ("horses", "zebras"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path | None, str | None]]:
    """The networks that were asked for; each is a tiny one."""
    found: list[tuple[Path | None, str | None]] = []

    def load(file: Path | None, layer: str | None, **_: Any) -> Extractor:
        found.append((file, layer))
        return tiny_extractor()

    monkeypatch.setattr(evaluation, "load_extractor", load)
    return found


def begin(ugatit: Command, *arguments: object) -> Outcome:
    return ugatit("train", *FOLDERS, *SIZES, *MACHINE, *arguments)


def test_a_run_says_which_step_was_best(
    ugatit: Command, asked: list[tuple[Path | None, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = ["--features", "net.safetensors", "--feature-layer", "Mixed_6c"]
    outcome = begin(ugatit, *EVERY, *network, "--tensorboard")
    assert (outcome.code, outcome.lines) == (0, [RUN])
    for text in (
        "evaluation every step and at the end, with tiny network, 6 features\n",
        "KID of 4 held-out pictures is a rough figure, and these sets are too small to hold out the 50 that it needs",
        "8 pictures to train on are few: ",
        "step 1: KID x100  moving average: horses -> zebras ",
        "step 2: KID x100  moving average: horses -> zebras ",
        "untouched pictures: KID x100  horses -> zebras ",
        "best of the evaluated models: step ",
        "\nhorses -> zebras: ",
        "\nzebras -> horses: ",
        f"use it with: ugatit translate PICTURES --model {RUN}/best -o out/\n",
    ):
        assert text in outcome.stderr
    translated = ugatit("translate", "horses", "--model", f"{RUN}/best", "--device", "cpu", "-o", "out")
    assert (translated.code, len(below("out"))) == (0, 12)
    network_file = Path("net.safetensors").absolute()
    monkeypatch.chdir("runs")
    again = ugatit("train", "--resume", "horses2zebras", "--iterations", "3", "--json", *MACHINE)
    assert again.code == 0
    assert asked == [(network_file, "Mixed_6c")] * 2
    document = again.documents[0]
    best = json.loads(Path("horses2zebras/best/config.json").read_text())["provenance"]
    measured = ("extractor", "subsets", "held-out pictures")
    assert document["best"] == {
        "model": "horses2zebras/best",
        "step": best["steps"],
        **{name: best[name] for name in ("generators", "kid", "kid_untouched", *measured)},
        "against_untouched": {"a2b": "better", "b2a": "better"},  # than red and blue,
    }
    assert document["evaluation"]["step"] == 3
    figures = {"step", *(f"{kid}{std}" for kid in ("kid", "kid_current", "kid_untouched") for std in ("", "_std"))}
    assert set(document["evaluation"]) == figures | set(measured)
    assert {"cycle_a", "g_b"} <= set(document["losses"])
    assert not {"kid", "step"} & set(document["losses"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*EVERY, "--features", "net.safetensors"], 3, "net.safetensors"),
        (["--evaluate-every", "often"], 2, "--evaluate-every often: unknown"),
        (["--features", "net.safetensors"], 2, "--features is about evaluation"),
    ],
)
def test_what_can_not_work_is_said_at_once(ugatit: Command, arguments: list[str], code: int, words: str) -> None:
    outcome = begin(ugatit, *arguments)
    assert (outcome.code, len(outcome.errors)) == (code, 1)
    assert words in outcome.errors[0]
    assert not Path("runs").exists()

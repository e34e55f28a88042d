"""`ugatit study`: what it takes, makes and counts."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.cli.conftest import Command
from tests.evaluations import save_pictures
from ugatit_cli.study.tally import wilson

GIVEN = ("--source", "src", "--examples", "examples")


@pytest.fixture(autouse=True)
def _folders(_at_home: None) -> None:
    """Sources, results of two methods, examples."""
    for seed, name in enumerate(("src", "out/ours", "out/theirs", "examples")):
        save_pictures(Path(name), 3, seed=seed)


def key(path: str = "study.key.json") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(path).read_text())
    return document


def answer(person: str, methods: str, /, **changes: Any) -> str:
    """A file of answers to `study.html`: `oot` chooses ours, ours, theirs."""
    study = key()
    given = []
    for (picture, one), wanted in zip(study["pictures"].items(), methods, strict=False):
        (chosen,) = (number for number, method in one["results"].items() if method.startswith(wanted))
        given.append({"picture": picture, "chosen": chosen, "place": 1})
    document = {"format": "ugatit study answers 1", "study": study["study"], "person": person, "name": person}
    Path(f"{person}.json").write_text(json.dumps(document | {"answers": given} | changes))
    return f"{person}.json"


def test_folders_are_methods(ugatit: Command, light: str) -> None:
    outcome = ugatit("study", "out/ours/", "out/theirs", f"mine={light}", *GIVEN)
    assert (outcome.code, len(outcome.errors)) == (2, 1)  # a model is no folder of translations
    outcome = ugatit("study", "make", "out/ours/", "b=out/theirs", *GIVEN, "--count", 2, "--question", "Which?")
    assert (outcome.code, outcome.lines) == (0, ["study.html"])
    assert (key()["methods"], key()["question"], len(key()["pictures"])) == (["ours", "b"], "Which?", 2)
    assert "study.key.json" in outcome.stderr
    outcome = ugatit("study", "out/ours", "out/theirs", *GIVEN)
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (2, b"", 1)
    assert "study.html" in outcome.errors[0]
    assert "--overwrite" in outcome.stderr
    assert ugatit("study", "out/ours", "out/theirs", *GIVEN, "--overwrite").code == 0
    Path("a=b").mkdir()
    shutil.copytree("out/ours", "a=b", dirs_exist_ok=True)
    assert ugatit("study", "a=b", "out/theirs", *GIVEN, "--overwrite").code == 0
    assert key()["methods"] == ["a=b", "theirs"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("out/ours", *GIVEN), "two methods"),
        (("out/ours", "out/theirs", *GIVEN[:2]), "--examples"),
        (("out/ours", "out/theirs", *GIVEN[2:]), "--source"),
        (("out/ours", "out/ours/", *GIVEN), "ours"),
        (("x=out/ours", "-m", "x=flat2clay", *GIVEN), "x"),
        (("out/ours", "out/theirs", *GIVEN, "--direction", "b2a"), "--direction"),
        (("out/ours", "out/theirs", *GIVEN, "-o", "page"), "page"),
        (("tally", "gone.json"), "key"),
        (("tally", "gone.json", "--key", "gone.key.json"), "gone.key.json"),
    ],
)
def test_usage(ugatit: Command, arguments: tuple[str, ...], named: str) -> None:
    outcome = ugatit("study", *arguments)
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (2, b"", 1)
    assert named in outcome.errors[0]
    assert not [*Path().glob("*.html")]


def test_a_model_that_does_not_go_there_is_named(ugatit: Command, light: str) -> None:
    way = tiny.save(Path("way"), tiny.ONE_WAY)
    outcome = ugatit("study", "-m", light, "-m", f"short={way}", *GIVEN, "--direction", "b2a")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert outcome.errors[0].startswith("way: ")


def test_what_cannot_be_read_is_named(ugatit: Command) -> None:
    Path("out/ours/0.png").write_bytes(b"broken")
    outcome = ugatit("study", "out/ours", "out/theirs", *GIVEN)
    assert (outcome.code, outcome.lines, len(key()["pictures"])) == (1, ["study.html"], 2)
    assert outcome.errors[0].startswith("out/ours/0.png:")


def test_ctrl_c_leaves_nothing(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugatit_cli.study.page._read", lambda _: signal.raise_signal(signal.SIGINT))
    outcome = ugatit("study", "out/ours", "out/theirs", *GIVEN)
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (130, b"", 1)
    assert not [*Path().glob("study*")]


def test_tally(ugatit: Command) -> None:
    assert ugatit("study", "out/ours", "out/theirs", *GIVEN).code == 0
    files = [answer("Ann", "oot"), answer("Bob", "too"), answer("Cy", "oo"), "study.key.json"]
    outcome = ugatit("study", "tally", *files)
    assert (outcome.code, outcome.stderr) == (0, "")
    (row,) = (line.split() for line in outcome.lines if line.startswith("ours  "))
    low, high = (f"{100 * end:.1f}" for end in wilson(6, 8))
    assert row == ["ours", "6", "75.0", "%", low, "%", "to", high, "%"]
    told = outcome.stdout.decode()
    assert "persons: 3, choices: 8, pictures: 3" in told
    assert told.index("6 to 2, p = 0.29") < told.index("3 to 0, p = 0.25")
    (found,) = ugatit("study", "tally", *files, "--json").documents
    expected = {"method": "ours", "chosen": 6, "share": 0.75, "low": wilson(6, 8)[0], "high": wilson(6, 8)[1]}
    assert found["shares"][0] == expected
    assert found["places"] == [8, 0]


def test_answers_that_do_not_count_are_named(ugatit: Command) -> None:
    assert ugatit("study", "out/ours", "out/theirs", *GIVEN).code == 0
    good, foreign, twice = answer("Ann", "oot"), answer("Bob", "o", study="other"), answer("Cy", "oo", person="Ann")
    Path("cut.json").write_text("{")
    outcome = ugatit("study", "tally", good, foreign, twice, "cut.json", "study.key.json", "--json")
    assert outcome.code == 1
    assert sorted(error.partition(":")[0] for error in outcome.errors[:3]) == ["Bob.json", "Cy.json", "cut.json"]
    (found,) = outcome.documents
    assert (found["persons"], found["choices"], len(found["left_out"])) == (1, 3, 3)
    outcome = ugatit("study", "tally", "cut.json", "--key", "study.key.json", "--json")
    assert (outcome.code, outcome.ending["status"], len(outcome.errors)) == (1, "failed", 2)

"""Counting what people chose: figures, who counts once, and what is left out."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from ugatit_cli import UsageError, tally_study
from ugatit_cli.study.tally import ANSWERS_FORMAT, KEY_FORMAT, sign_test, wilson

METHODS = ["A", "B", "C"]
PICTURES = [f"p{number}" for number in range(6)]


# --- Figures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "choices", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_literature(chosen: int, choices: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(chosen, choices) == pytest.approx((low, high), abs=5e-5)
    assert wilson(choices - chosen, choices) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_intervals_hold_the_share() -> None:
    for choices in (1, 2, 7, 100):
        for chosen in range(choices + 1):
            low, high = wilson(chosen, choices)
            assert 0 <= low <= chosen / choices <= high <= 1
    assert wilson(0, 0) == (0, 1)


def test_the_sign_test_counts_all_outcomes_that_are_as_uneven() -> None:
    for total in range(9):
        heads = [sum(coins) for coins in itertools.product((0, 1), repeat=total)]
        for wins in range(total + 1):
            as_uneven = sum(abs(2 * one - total) >= abs(2 * wins - total) for one in heads)
            assert sign_test(wins, total - wins) == pytest.approx(as_uneven / len(heads))
    assert sign_test(9, 1) == pytest.approx(22 / 1024)
    assert sign_test(3000, 3000) == 1
    # The normal distribution's, of 4 standard deviations with the correction for continuity.
    assert sign_test(5200, 4800) == pytest.approx(math.erfc(399 / 100 / math.sqrt(2)), rel=0.01)


# --- Files ---------------------------------------------------------------------------------------------


def number(method: str, picture: str) -> str:
    return f"{picture}-{'xyz'[METHODS.index(method)]}"


def write(path: str, document: Any) -> Path:
    Path(path).write_text(document if isinstance(document, str) else json.dumps(document))
    return Path(path)


def write_key(path: str = "study.key.json", study: str = "s") -> Path:
    owners = {one: {"picture": one, "results": {number(m, one): m for m in METHODS}} for one in PICTURES}
    document = {"format": KEY_FORMAT, "study": study, "question": "Which?", "methods": METHODS, "pictures": owners}
    return write(path, document)


def answers(person: str, chosen: str, /, **changes: Any) -> dict[str, Any]:
    """Choices in the order of the pictures: `ABB`; each in the first place."""
    given = [
        {"picture": one, "chosen": number(method, one), "place": 1}
        for one, method in zip(PICTURES, chosen, strict=False)
    ]
    document = {"format": ANSWERS_FORMAT, "study": "s", "person": person, "name": "", "answers": given}
    return document | changes


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_key()


def test_shares_persons_and_places(key: Path) -> None:
    third = answers("3", "BBC")
    third["answers"][0]["place"] = 3
    files = [write("1.json", answers("1", "AAAAAA")), write("2.json", answers("2", "AAB")), write("3.json", third)]
    found = tally_study(files, key)
    assert (found.study, found.question, found.left_out) == ("s", "Which?", ())
    assert (found.persons, found.pictures, found.choices) == (3, 6, 12)
    assert [(one.method, one.chosen) for one in found.shares] == [("A", 8), ("B", 3), ("C", 1)]
    for one in found.shares:
        assert (one.share, one.low, one.high) == (one.chosen / 12, *wilson(one.chosen, 12))
    of_choices, of_persons = found.by_choices, found.by_persons
    assert (of_choices.first, of_choices.second, of_choices.wins, of_choices.losses) == ("A", "B", 8, 3)
    assert of_choices.p == sign_test(8, 3)
    assert (of_persons.wins, of_persons.losses, of_persons.p) == (2, 1, sign_test(2, 1))
    assert found.places == (11, 0, 1)


def test_the_key_may_be_among_the_files(key: Path) -> None:
    file = write("1.json", answers("1", "AB"))
    assert tally_study([file, key]) == tally_study([str(file)], str(key)) == tally_study([file, key], key)
    found = tally_study([file, key, write_key("other.key.json", "other")], key)
    assert (found.choices, len(found.left_out)) == (2, 1)
    assert "other.key.json" in found.left_out[0].message


@pytest.mark.parametrize("keys", [[], ["study.key.json", "other.key.json"]])
def test_one_key_is_needed(keys: list[str]) -> None:
    write_key("other.key.json", "other")
    with pytest.raises(UsageError, match="key") as caught:
        tally_study([write("1.json", answers("1", "AB")), *keys])
    assert "--key" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"methods": ["A"]},
        {"methods": ["A", "B"]},
        {"methods": None},
        {"pictures": [1]},
        {"pictures": {"p0": {"results": {"x": "A"}}}},
        {"pictures": {"p0": {"results": {"x": "A", "y": "B", "z": ["C"]}}}},
    ],
)
def test_a_key_that_is_none(key: Path, change: dict[str, Any]) -> None:
    file = write("1.json", answers("1", "AB"))
    with pytest.raises(UsageError, match=r"bad\.json"):
        tally_study([file], write("bad.json", json.loads(key.read_text()) | change))
    for path in (file, "gone.json"):
        with pytest.raises(UsageError, match=str(path)):
            tally_study([file], path)


def changed(**change: Any) -> dict[str, Any]:
    document = answers("2", "AB")
    document["answers"][1] |= change
    return document


@pytest.mark.parametrize(
    "document",
    [
        "",
        '{"format": ',
        "[" * 100_000,
        "[]",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        {},
        answers("2", "AB", format="ugatit study answers 9"),
        answers("2", "AB", study="another"),
        answers("2", "AB", answers=None),
        answers("2", "AB", answers="AB"),
        answers("2", "AB", answers=[None]),
        answers("2", "AB", person=None),
        answers("2", "AB", name=5),
        answers("2", ""),
        changed(picture="p9"),
        changed(picture=["p1"]),
        changed(picture="p0", chosen="p0-x"),
        changed(chosen="p0-x"),
        changed(chosen=None),
        changed(place=0),
        changed(place=4),
        changed(place="1"),
    ],
)
def test_files_that_do_not_count_are_named(key: Path, document: Any) -> None:
    good, bad = write("1.json", answers("1", "AAB")), write("bad.json", document)
    found = tally_study([bad, good], key)
    assert (found.persons, found.choices) == (1, 3)
    assert [error.message.partition(":")[0] for error in found.left_out] == ["bad.json"]


def test_a_person_counts_once(key: Path) -> None:
    documents = {
        "early": answers("1", "AB"),
        "late": answers("1", "ABCC", name="Ann"),
        "copy": answers("1", "ABCC", name="Ann"),
        "phone": answers("2", "BBB", name=" ANN "),
        "other": answers("3", "C", name="Bob"),
        "gone": None,
    }
    files = [write(f"{name}.json", one) if one else Path("gone.json") for name, one in documents.items()]
    found = tally_study([*files, files[1]], key)
    assert (found.persons, found.choices) == (2, 5)
    named = {error.message.partition(":")[0]: error.message for error in found.left_out}
    assert named.keys() == {"early.json", "copy.json", "phone.json", "gone.json"}
    assert "late.json" in named["early.json"]
    assert "late.json" in named["phone.json"]


def test_nothing_to_count(key: Path) -> None:
    found = tally_study([write("bad.json", "{}")], key)
    assert (found.persons, found.choices, len(found.left_out)) == (0, 0, 1)
    assert {(one.chosen, one.share, one.low, one.high) for one in found.shares} == {(0, 0, 0, 1)}
    assert found.by_choices.p == found.by_persons.p == 1

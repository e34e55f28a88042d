"""What a training says when something looks wrong, and that a healthy one says nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import images
from tests.trainings import CPU, Log, metrics, train
from ugatit_cli.config import DIRECTIONS, Direction
from ugatit_cli.data.pictures import Folders
from ugatit_cli.methods.registry import METHODS, method
from ugatit_cli.training import trainer
from ugatit_cli.training.advice import GRIDS, LONG, SOON, VERY_LONG, Advisor
from ugatit_cli.training.settings import FLAGS, heeded, new_settings

BUNDLED = Path(__file__).parents[2] / "examples" / "flat2clay" / "run" / "metrics.jsonl"
# Neither side wins.
FAIR = {"cycle": 0.1, "identity": 0.1, "content": 0.5, "cam": 0.3, "d": 0.5, "g": 0.3}
WRONG: dict[str, tuple[dict[str, float], int]] = {
    "won": ({"d": 0.02, "g": 0.95}, LONG),
    "chance": ({"cam": 1.38}, VERY_LONG),
    "losses blow up": ({"d": 40.0}, SOON),
}


def advisor(name: str = "ugatit", **given: Any) -> Advisor:
    given = {"method": name, "precision": "fp32", "domain_a": "flat", "domain_b": "clay"} | given
    return Advisor(new_settings(given, Folders(Path("a"), Path("b")), device=CPU))


def line(of: Advisor, **values: float) -> dict[str, float]:
    """A line of metrics in which all terms of a kind have one value."""
    return {term.name: (FAIR | values).get(term.name.partition("_")[0], 0.1) for term in of.terms}


def told(of: Advisor, values: dict[str, float], lines: int) -> list[list[str]]:
    return [of.losses(line(of, **values)) for _ in range(lines)]


def test_the_bundled_models_training_was_healthy() -> None:
    one = advisor()
    lines = [json.loads(text) for text in BUNDLED.read_text().splitlines()]
    assert len(lines) > 100
    assert [one.losses(values) for values in lines] == [[]] * len(lines)


@pytest.mark.parametrize("kind", WRONG)
def test_a_sign_is_told_once_after_long_and_again_only_if_it_was_gone(kind: str) -> None:
    values, long = WRONG[kind]
    one = advisor()
    found = told(one, values, 3 * long)
    assert found[: long - 1] + found[long:] == [[]] * (3 * long - 1)
    assert found[long - 1]
    assert all(kind in text or "CAM" in text for text in found[long - 1])
    assert told(one, {}, long - 1) + told(one, values, 2 * long) == [[]] * (3 * long - 1)
    assert told(one, {}, long) + told(one, values, long - 1) == [[]] * (2 * long - 1)
    assert told(one, values, 1) == [found[long - 1]]


def test_one_line_of_many_is_no_sign() -> None:
    one = advisor()
    for _ in range(4 * LONG):
        assert told(one, {"d": 0.02, "g": 0.95}, 1) + told(one, {}, 1) == [[], []]


def test_one_discriminator_of_a_domain_is_enough() -> None:
    one = advisor()
    values = line(one) | {"d_global_b": 0.01, "g_global_b": 0.99}
    (text,) = [text for _ in range(LONG) for text in one.losses(values)]
    assert "clay" in text
    assert "global" in text


def test_a_judge_of_features_wins_by_its_own_scale() -> None:
    """Its hinge loss is 2 at chance, and the generator's is below 0 as long as translations pass."""
    one = advisor()
    fair = line(one) | {"d_judge_b": 2.0, "g_judge_b": -0.2}
    assert {"d_judge_b", "g_judge_b"} <= {term.name for term in one.terms}
    assert [one.losses(fair) for _ in range(2 * LONG)] == [[]] * (2 * LONG)
    lost = fair | {"d_judge_b": 0.03, "g_judge_b": 5.0}
    (text,) = [text for _ in range(LONG) for text in one.losses(lost)]
    assert "clay" in text
    assert "judge" in text


def test_the_warm_up_has_no_discriminators_to_judge() -> None:
    one = advisor()
    assert [one.losses({"copy_a": 0.1, "copy_b": 0.1}) for _ in range(3 * LONG)] == [[]] * (3 * LONG)
    assert one.scores == {}


def smooth(seed: int) -> Tensor:
    """uint8 (3, 3, 32, 32)"""
    x = images(3, 3, 4, 4, seed=seed).add(1).mul(127.5).to(torch.uint8)
    return x.repeat_interleave(8, 2).repeat_interleave(8, 3)


def singly(x: Tensor) -> list[Tensor]:
    return [x[i : i + 1] for i in range(len(x))]


LOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "one colour": lambda x: torch.full_like(x, -0.7),
    "all alike": lambda x: x[:1].expand_as(x) * 0.8,
    "copies": lambda x: x + 0.01,
    "pure colour": lambda x: x.sign(),
}
FINE: dict[str, Callable[[Tensor], Tensor]] = {"fine": lambda x: x.roll(1, 1) * 0.9}


@pytest.mark.parametrize("kind", [*LOOKS, *FINE])
def test_translations_are_looked_at(kind: str) -> None:
    one, samples = advisor(), (smooth(1), smooth(2))
    change = (LOOKS | FINE)[kind]

    def grid(step: int, trained: int) -> list[str]:
        sources = dict(zip(DIRECTIONS, samples, strict=True))
        shown: dict[Direction, list[Tensor]] = {
            way: singly(change(x.float() / 127.5 - 1)) for way, x in sources.items()
        }
        return one.pictures(samples, shown, step, trained)

    assert grid(50, 50) == grid(60, 60) == []  # translations are noise at first
    found = [grid(1000 * number, 1000 * number) for number in range(1, 5)]
    if kind == "fine":
        assert found == [[]] * 4
        return
    assert [len(texts) for texts in found] == [0] * (GRIDS - 1) + [2] + [0] * (4 - GRIDS)
    assert all(kind in text for text in found[GRIDS - 1])
    assert ["flat to clay" in text for text in found[GRIDS - 1]] == [True, False]


def test_copies_are_what_the_warm_up_is_for() -> None:
    one, samples = advisor(), (smooth(1), smooth(2))
    shown: dict[Direction, list[Tensor]] = {"a2b": singly(samples[0].float() / 127.5 - 1)}
    assert [one.pictures(samples, shown, 1000, trained) for trained in (0, 0, 0, 100, 400)] == [[]] * 5
    assert [len(one.pictures(samples, shown, 2000, 1000)) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("name", METHODS)
def test_only_options_that_the_method_heeds_are_named(name: str) -> None:
    one, samples = advisor(name), (smooth(1), smooth(2))
    texts = [text for values, long in WRONG.values() for texts in told(one, values, long) for text in texts]
    for change in LOOKS.values():
        shown: dict[Direction, list[Tensor]] = {"a2b": singly(change(samples[0].float() / 127.5 - 1))}
        texts += [text for _ in range(GRIDS) for text in one.pictures(samples, shown, 1000, 1000)]
    options = set(re.findall(r"--[a-z-]+", " ".join(texts)))
    assert {"--learning-rate", "--augment", "--warm-up"} <= options
    assert options <= {FLAGS[setting] for setting in FLAGS.keys() & heeded(method(name))}


def notes(log: Log) -> list[str]:
    return [note for note in log.notes if re.match(r"step \d+: ", note)]


def test_a_training_that_goes_wrong_says_so_also_if_it_was_interrupted(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "METRICS_EVERY", 4)
    given = {"method": "cyclegan", "learning_rate": 0.5, "decay_from": 1.0, "iterations": 14}
    whole, parts = Log(), Log()
    train(tmp_path / "whole", folders, given, log=whole)
    for stop in (5, 8, None):
        parts.calls = {}
        train(tmp_path / "parts", folders, given, log=parts, stop_after=stop)
    (found,) = notes(whole)
    assert "--learning-rate 0.125" in found
    assert notes(parts) == [found]
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert [values["advice"] in found for values in metrics(tmp_path / "whole") if "advice" in values] == [True]

"""What is shown of a training run: words, plain lines, and the live view."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from ugatit_cli.cli import train_view
from ugatit_cli.config import DOMAINS, SCALES
from ugatit_cli.data.pictures import Folders
from ugatit_cli.methods.registry import method
from ugatit_cli.metrics.distances import Kid
from ugatit_cli.training.evaluation import Evaluation, Kind
from ugatit_cli.training.listeners import StepReport
from ugatit_cli.training.settings import Settings, new_settings

Capture = pytest.CaptureFixture[str]


def settings(a: str = "horses", b: str = "zebras", **given: object) -> Settings:
    return new_settings({"iterations": 1000, **given}, Folders(Path(a), Path(b)), device=torch.device("cpu"))


def losses(value: float = 0.25) -> dict[str, float]:
    """All losses by name; those of domain b are twice those of a."""
    found: dict[str, float] = {}
    for domain in DOMAINS:
        factor = value if domain == "a" else 2 * value
        found |= {f"{name}_{domain}": factor for name in ("cycle", "identity", "cam")}
        found |= {
            f"{kind}_{scale}_{domain}{cam}": factor for kind in "dg" for scale in SCALES for cam in ("", "_cam")
        }
        found |= {f"{kind}_{domain}": 100.0 for kind in "dg"}
    return found


def report(step: int = 120, **values: Any) -> StepReport:
    plain: dict[str, Any] = {
        "progress": step / 1000,
        "losses": losses(),
        "learning_rate": 1e-4,
        "steps_per_second": 1.25,
        "images_per_second": 2.5,
        "seconds_left": (1000 - step) / 1.25,
        "memory": 2_100_000_000,
    }
    return StepReport(step=step, **{**plain, **values})


FEW = {name: value for name, value in losses().items() if "cam" not in name and "global" not in name}


def drawn(view: train_view.LiveWatch, width: int = 80) -> list[str]:
    """The lines that a view shows."""
    screen = io.StringIO()
    Console(file=screen, force_terminal=True, width=width, color_system=None).print(view)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_losses_are_means_of_the_last_steps() -> None:
    plain = train_view.PlainWatch(settings())
    assert plain.means() == {}
    for value in (100.0, *[1.0] * 10, *[2.0] * 10):
        plain.take(report(losses=losses(value)))
    assert plain.means()["cycle_a"] == 1.5
    assert plain.means()["d_global_b_cam"] == 3


def test_a_line() -> None:
    plain = train_view.PlainWatch(settings())
    plain.take(report())
    assert re.split("  +", plain.line(report())) == [
        "step 120/1000", "12 %", "cycle 0.250/0.500", "identity 0.250/0.500", "CAM 0.250/0.500",
        "adversarial 1.000/2.000", "discriminator 1.000/2.000", "2.5 images/s", "12 min left",
    ]  # fmt: skip
    few = train_view.PlainWatch(settings())
    few.take(report(losses=FEW))
    assert re.split("  +", few.line(report()))[2:-2] == [
        f"{word} 0.250/0.500" for word in ("cycle", "identity", "adversarial", "discriminator")
    ]
    first = train_view.PlainWatch(settings(iterations=None, minutes=3.0))
    nothing = report(1, losses={}, steps_per_second=None, images_per_second=None, seconds_left=180.0)
    assert first.line(nothing) == "step 1  0 %  3 min 0 s left"


@pytest.mark.parametrize(
    ("given", "step", "advised"),
    [
        ({}, 5, {"--minutes 480", "--image-size 128", "--channels 32"}),
        ({"image_size": 128}, 5, {"--minutes 480", "--channels 32"}),
        ({"image_size": 128, "channels": 32}, 5, {"--minutes 480"}),
        ({"image_size": 64, "channels": 8, "iterations": None, "minutes": 9e5}, 5, set()),
        ({}, 505, {"--minutes 480"}),  # a run keeps its size
    ],
)
def test_what_is_advised_is_not_so_yet(capsys: Capture, given: dict[str, Any], step: int, advised: set[str]) -> None:
    plain = train_view.PlainWatch(settings(**given))
    for now in range(step - 4, step + 1):
        plain.take(report(now, seconds_left=1e6))
    said = capsys.readouterr().err
    assert set(re.findall(r"--\S+ \d+", said)) == advised


def test_lines_come_from_time_to_time(capsys: Capture, clock: list[float]) -> None:
    plain = train_view.PlainWatch(settings())
    for step in range(1, 41):
        clock[0] += 1
        plain.stepped(report(step))
    plain.stepped(report(1000))
    said = [re.sub("  .*", "", line) for line in capsys.readouterr().err.splitlines()]
    assert [line for line in said if line.startswith("step")] == [
        f"step {step}/1000" for step in (1, 10, 20, 30, 40, 1000)
    ]
    assert "13 min for the 995 steps left (1.25 steps/s)" in said[1]
    assert "Ctrl-C" in said[2]


def evaluation(kinds: tuple[Kind, ...] = ("moving average", "current"), **values: Any) -> Evaluation:
    kids = {
        kind: {"a2b": Kid(0.0161, 0.0012, 100, 25), "b2a": Kid(0.005 - 0.01 * i, 0.0, 100, 25)}
        for i, kind in enumerate(kinds)
    }
    untouched = {"a2b": Kid(0.02, 0.001, 100, 25), "b2a": Kid(0.03, 0.001, 100, 25)}
    plain = {"step": 1000, "kids": kids, "best": True, "seconds": 1.0, "protocol": {"extractor": "tiny"}}
    return Evaluation(**{**plain, "untouched": untouched, **values})


def test_everything_else_is_said(capsys: Capture, clock: list[float]) -> None:
    with train_view.watching(settings("horses-of-the-west")) as plain:
        for done in (1, 2, 3):
            plain.loading(done, 300)
            clock[0] += 9
        plain.note("[red]a note")
        plain.saved(5)
        plain.sampled(6, Path("s/6.png"))
        for done in (0, 8, 16, 24):
            plain.evaluating(done, 32)
            clock[0] += 4
        plain.evaluated(evaluation())
        plain.evaluated(evaluation(("current",), best=False, seconds=130.0))
    both = "horses-of-t… -> zebras 1.61 +- 0.12, zebras -> horses-of-t… "
    said = capsys.readouterr().err.splitlines()
    facts = [
        ["3/300"], ["[red]a note"], ["step 5"], ["step 6", "s/6.png"], ["8/32"],
        ["untouched", "horses-of-t… -> zebras 2.00 +- 0.10, zebras -> horses-of-t… 3.00 +- 0.10"],
        ["step 1000", f"moving average: {both}0.50 +- 0.00  current: {both}-0.50 +- 0.00", "best"],
        ["step 1000", f"  {both}0.50 +- 0.00", "2 min 10 s"],
    ]  # fmt: skip
    assert all(fact in line for line, of in zip(said, facts, strict=True) for fact in of)
    assert "best" not in said[-1]


@pytest.mark.usefixtures("clock")
def test_a_view() -> None:
    view = train_view.LiveWatch(settings())
    view.stepped(report())
    view.saved(100)
    view.sampled(113, Path("runs/horses2zebras/samples/step_00000113.png"))
    lines = drawn(view)
    assert re.split("   +", lines[0]) == ["horses <-> zebras", "step 120 of 1000", "12.0 %", "12 min left"]
    assert lines[1] == "━" * 9 + "╸"  # without colours, the rest of the bar isn't drawn
    assert lines[2].split(" · ") == ["2.5 images/s", "1.25 steps/s", "learning rate 0.0001", "memory 2.10 GB"]
    assert [re.split(r"  +", line.strip()) for line in lines[4:13]] == [
        ["generator", "discriminator"],
        ["horses", "zebras", "horses", "zebras"],
        *([term, "0.250", "0.500"] for term in ("cycle", "identity", "CAM")),
        *([f"adversarial {of}", *["0.250", "0.500"] * 2] for of in ("local", "local CAM", "global", "global CAM")),
    ]
    assert lines[14:] == ["checkpoint: step 100 · samples: runs/horses2zebras/samples/step_00000113.png"]
    few = train_view.LiveWatch(settings(generator_cam=False, discriminator_cam=False, discriminators="local"))
    few.stepped(report(losses=FEW))
    assert [line.strip().partition("  ")[0] for line in drawn(few)[6:]] == ["cycle", "identity", "adversarial local"]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("name", "head", "columns", "rows", "said"),
    [
        (
            "cyclegan",
            "horses <-> zebras",
            ["horses", "zebras", "horses", "zebras"],
            [
                ["cycle", "1.000", "2.000"],
                ["identity", "1.000", "2.000"],
                ["adversarial", "1.000", "2.000", "1.000", "2.000"],
            ],
            ["cycle 1.000/2.000", "identity 1.000/2.000", "adversarial 1.000/2.000", "discriminator 1.000/2.000"],
        ),
        (
            "cartoongan",
            "horses -> zebras",
            ["horses", "zebras", "zebras"],
            [["content", "1.000"], ["adversarial", "2.000", "2.000"], ["adversarial edges", "2.000"]],
            ["content 1.000", "adversarial 2.000", "discriminator 4.000"],
        ),
    ],
)
def test_a_method_shows_its_own_losses(
    name: str, head: str, columns: list[str], rows: list[list[str]], said: list[str]
) -> None:
    ours = settings(method=name)
    terms = method(name).terms(ours.model, ours.recipe)
    found = {term.name: 1.0 if term.domain == "a" else 2.0 for term in terms}
    view, plain = train_view.LiveWatch(ours), train_view.PlainWatch(ours)
    view.stepped(report(losses=found))
    plain.take(report(losses=found))
    lines = drawn(view)
    assert lines[0].startswith(f"{head}  ")
    assert [re.split(r"  +", line.strip()) for line in lines[4:6]] == [["generator", "discriminator"], columns]
    assert [re.split(r"  +", line.strip()) for line in lines[6:]] == rows
    assert re.split("  +", plain.line(report()))[2:-2] == said


def test_a_length_that_pictures_decide_on() -> None:
    ours = settings(method="cyclegan", recipe="paper")
    for view in (train_view.LiveWatch(ours), train_view.PlainWatch(ours)):
        view.beginning(dataclasses.replace(ours, iterations=1200))
        view.stepped(report(120, progress=0.1))
        assert "step 120/1200  10 %" in view.line(report(120, progress=0.1))
        assert not isinstance(view, train_view.LiveWatch) or "step 120 of 1200 " in drawn(view)[0]


def test_an_evaluation_is_seen(terminal: io.StringIO) -> None:
    view = train_view.LiveWatch(settings())
    view.evaluating(8, 60)  # of a run that goes on, before its first step
    assert "8/60" in drawn(view)[0]
    view.stepped(report())
    view.evaluating(16, 60)
    assert drawn(view)[0].endswith("16/60 pictures")
    view.evaluated(evaluation())
    assert drawn(view)[0].endswith("12.0 %   12 min left")
    assert "step 1000: KID x100" in terminal.getvalue()


def test_long_names_fit() -> None:
    view = train_view.LiveWatch(settings("extraordinarily_long_name", "another_very_long_one"))
    view.stepped(report())
    view.sampled(1, Path("x" * 200))
    for width in (80, 60):
        lines = drawn(view, width)
        assert max(map(len, lines)) <= width
        assert len(lines) == 15
    assert "extraordina…" in drawn(view)[0]


def test_the_clock_runs_between_steps(clock: list[float]) -> None:
    view = train_view.LiveWatch(settings(iterations=None, minutes=1.5))
    assert len(drawn(view)) == 1
    view.loading(30, 120)
    assert drawn(view)[0].endswith(" 30/120")
    view.loading(120, 120)
    clock[0] += 25
    assert drawn(view)[0].endswith(" 25 s")
    view.stepped(report(3, seconds_left=60.0, losses={}, steps_per_second=None, images_per_second=None))
    clock[0] += 13
    assert drawn(view)[0].endswith("step 3, 1.5 min in all   0.3 %   47 s left")
    clock[0] += 500
    assert drawn(view)[0].endswith("  0 s left")


def test_notes_appear_above_the_view(terminal: io.StringIO) -> None:
    with train_view.watching(settings()) as view:
        view.loading(1, 2)
    # Up to its line, and erased: there was no step.
    assert terminal.getvalue().rstrip("\x1b[?25h").endswith("\x1b[1A\x1b[2K")
    with train_view.watching(settings()) as view:
        view.stepped(report())
        view.note("skipped: [x].png")
    said = terminal.getvalue()
    assert "skipped: [x].png\n" in said
    assert said.rindex("adversarial global") > said.index("skipped")

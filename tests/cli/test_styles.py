"""`ugatit translate --style` and `--styles`."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageSequence

import ugatit_cli
from tests import tiny
from tests.cli.conftest import Command, Outcome, below, put
from tests.cli.test_evaluate import evaluate, extractor, figures  # noqa: F401  # fixtures
from tests.cli.test_report_option import Told, told  # noqa: F401  # a fixture
from tests.helpers import picture
from tests.outputs.test_report import Page
from ugatit_cli import Model

CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tiny.save(tmp_path_factory.mktemp("styled") / "tiny", tiny.MUNIT)
    return ugatit_cli.load(path, device="cpu", precision="fp32")


@pytest.fixture
def translate(ugatit: Command, model: Model) -> Command:
    def run(*arguments: object) -> Outcome:
        return ugatit("translate", "--model", model.name, *CPU, *arguments)

    return run


def pixels(path: str | Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_random_ones_and_that_of_a_picture(translate: Command, model: Model) -> None:
    put("in/a.png", "in/b.png", "like.png")
    for style, out in ((None, "0"), ("random", "1"), ("random:7", "7"), ("like.png", "like")):
        assert translate("in", "-o", out, *(["--style", style] if style else [])).code == 0
        for name in ("a.png", "b.png"):
            expected = model.translate(f"in/{name}", style=style)
            assert pixels(f"{out}/{name}") == expected.tobytes()
    assert pixels("0/a.png") == pixels("1/a.png") != pixels("7/a.png")


def test_several(translate: Command, model: Model) -> None:
    put("in/a.png", "in/b/a.png", "in/c.jpg")
    Path("in/bad.png").write_bytes(b"text")
    outcome = translate("in", "-o", "out", "--styles", 3, "--style", "random:5", "--format", "png", "--json")
    assert outcome.code == 1
    assert len(outcome.errors) == 2  # of the broken one, once; and that one failed
    stems = ["a", "b/a", "c"]
    assert below("out") == sorted(f"{stem}_style{number}.png" for stem in stems for number in (1, 2, 3))
    assert {one["input"]: len(one.get("outputs", ())) for one in outcome.documents} == {
        "in/a.png": 3, "in/b/a.png": 3, "in/c.jpg": 3, "in/bad.png": 0
    }  # fmt: skip
    for number in (1, 2, 3):
        assert (
            pixels(f"out/a_style{number}.png") == model.translate("in/a.png", style=f"random:{4 + number}").tobytes()
        )
    Path("out/a_style2.png").unlink()
    Path("in/bad.png").unlink()
    again = translate("in", "-o", "out", "--styles", 3, "--style", "random:6", "--format", "png", "--skip-existing")
    assert "1 translated, 2 skipped" in again.stderr
    assert pixels("out/a_style2.png") == model.translate("in/a.png", style="random:7").tobytes()
    assert pixels("out/a_style1.png") == model.translate("in/a.png", style="random:5").tobytes()


def test_names_that_meet(translate: Command) -> None:
    put("in/a.png", "in/a.jpg")
    assert translate("in", "-o", "out", "--styles", 10, "--format", "png").code == 0
    assert len(below("out")) == 20
    assert {"a_png_style1.png", "a_jpg_style10.png"} <= {*below("out")}
    assert translate("in/a.png", "-o", "one/", "--styles", 1).lines == ["one/a_style1.png"]


def test_an_animation_keeps_its_style(translate: Command) -> None:
    frames = [picture(16, 16, number) for number in range(3)]
    frames[0].save("a.webp", save_all=True, append_images=[frames[1], frames[0]], duration=50, lossless=True)
    assert translate("a.webp", "-o", "out/", "--styles", 2, "--format", "png").code == 0
    found = []
    for number in (1, 2):
        with Image.open(f"out/a_style{number}.png") as image:
            assert getattr(image, "n_frames", 1) == 3
            found.append([frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(image)])
    for first, second, third in found:
        assert first == third != second
    assert found[0][0] != found[1][0]
    # The second picture alone has another style of its own, which it doesn't have in the animation.
    frames[1].save("b.png")
    assert translate("b.png", "-o", "b-out.png").code == 0
    assert pixels("b-out.png") != found[0][1]


def test_a_page_has_a_card_for_each(translate: Command, told: Told) -> None:  # noqa: F811
    put("a.png")
    assert translate("a.png", "-o", "out/", "--styles", 3, "--report", "r.html").code == 0
    assert [(entry.name, entry.output) for entry in told.entries] == [
        ("a.png", f"out/a_style{number}.png") for number in (1, 2, 3)
    ]
    page = Page(Path("r.html").read_text())
    named = [f"a.png, style {number}" for number in (1, 2, 3)]
    assert [text for text in page.says("bdi") if text.startswith("a.png")] == named
    assert [one["aria-label"].partition(":")[0] for one in page.of("input") if "step" in one][-3:] == named
    assert page.says("b")[0] == "1"  # picture
    previews = [entry.preview for entry in told.entries if entry.preview]
    assert len({one.before for one in previews}) == 1
    assert len({one.after for one in previews}) == 3
    assert told.header.facts["Style"] == "random:0"
    assert translate("a.png", "-o", "b.png", "--style", "out/a_style1.png", "--report", "s.html").code == 0
    assert told.headers[-1].facts["Style"] == "out/a_style1.png"
    assert Path("r.html").exists()


def test_an_evaluation_in_other_styles(evaluate: Command, model: Model, light: str) -> None:  # noqa: F811
    given = ("--model", model.name, "--domain-a", "flat", "--domain-b", "clay", "--metrics", "l1", "--pairs", "clay")
    first, same, other = (figures(evaluate(*given, *more, "--json")) for more in ((), STYLE_0, STYLE_7))
    assert (first["style"], other["style"]) == ("random:0", "random:7")
    assert first == same
    assert first["a2b"]["l1"] != other["a2b"]["l1"]
    assert "random:7" in evaluate(*given, *STYLE_7).stdout.decode()
    for wrong, named in (
        ((*given, "--style", "flat"), "--style flat"),
        ((*given, "-m", light, "--size", "16", *STYLE_7), "ugatit"),
    ):
        outcome = evaluate(*wrong)
        assert outcome.code == 2
        assert named in outcome.errors[0]


STYLE_0, STYLE_7 = ("--style", "random:0"), ("--style", "random:7")
WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "several to a file": (("a.png", "-o", "b.png", "--styles", 2), "--styles 2"),
    "several to stdout": (("a.png", "-o", "-", "--styles", 2), "--styles 2"),
    "none": (("a.png", "-o", "out", "--styles", 0), "--styles"),
    "too many": (("a.png", "-o", "out", "--styles", 101), "--styles"),
    "of one picture": (("a.png", "-o", "out", "--styles", 2, "--style", "a.png"), "--style a.png"),
    "nowhere": (("a.png", "-o", "out", "--style", "gone.png"), "gone.png"),
    "no seed": (("a.png", "-o", "out", "--style", "random:x"), "random:x"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(translate: Command, case: str) -> None:
    put("a.png")
    arguments, named = WRONG[case]
    outcome = translate(*arguments)
    assert (outcome.code, outcome.stdout) == (2, b"")
    assert named in " ".join(outcome.stderr.replace("│", " ").split())
    assert below(".") == ["a.png"]


def test_a_broken_picture_has_no_style(translate: Command) -> None:
    put("a.png")
    Path("like.png").write_bytes(b"text")
    outcome = translate("a.png", "-o", "out/", "--style", "like.png")
    assert outcome.code == 1
    assert "like.png" in outcome.errors[0]
    assert below(".") == ["a.png", "like.png"]


@pytest.mark.parametrize("option", [("--style", "random:1"), ("--style", "a.png"), ("--styles", 2)], ids=str)
def test_models_without_styles_refuse(ugatit: Command, light: str, option: tuple[object, ...]) -> None:
    put("a.png")
    outcome = ugatit("translate", "a.png", "-o", "out", "--model", light, *CPU, *option)
    assert outcome.code == 2
    assert "ugatit" in outcome.errors[0]
    assert below(".") == ["a.png"]


@pytest.mark.parametrize("setting", ["style = 'random:3'", "style = 'like.png'", "styles = 2"])
def test_models_without_styles_pass_over_settings(ugatit: Command, light: str, model: Model, setting: str) -> None:
    put("a.png", "like.png")
    Path("ugatit.toml").write_text(f"[translate]\n{setting}\n")
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", light, *CPU).code == 0
    several = ("translate", "a.png", "-o", "out", "--model", light, "--model", model.name, *CPU)
    outcome = ugatit(*several)
    if "styles" in setting:  # by which results are named, whoever makes them
        assert (outcome.code, Path("out").exists()) == (2, False)
        assert "styles is set by ugatit.toml, line 2." in outcome.stderr
    else:
        assert outcome.code == 0
    assert ugatit(*several, "--style", "random:1").code == 2


def test_an_evaluation_of_models_without_styles_passes_over_settings(
    evaluate: Command,  # noqa: F811
    light: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UGATIT_EVALUATE_STYLE", "random:7")
    assert (
        evaluate("-m", light, "--domain-a", "flat", "--domain-b", "clay", "--metrics", "l1", "--pairs", "clay").code
        == 0
    )
    assert evaluate("flat", "clay", "--metrics", "l1", "--pairs", "clay").code == 0

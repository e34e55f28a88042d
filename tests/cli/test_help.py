"""What `--help` promises: it fits, names what is meant, and what it prints can be copied."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, encoded, put
from ugatit_cli import load
from ugatit_cli.cli import app, help_view, wrong_names
from ugatit_cli.cli.options import RARE
from ugatit_cli.config import DEFAULT_MODEL
from ugatit_cli.methods.recipe import RECIPES, RecipeName
from ugatit_cli.methods.registry import METHODS, MethodName, method


def every_command() -> Iterator[tuple[str, ...]]:
    """The words that name each command; groups, too."""
    yield ()
    for name in app.COMMANDS:
        yield (name,)
        for inner in getattr(app.built(name), "commands", ()):
            yield name, inner


def parameters_of(*words: str) -> list[Any]:
    command = app.built(words[0])
    return list((command.commands[words[1]] if len(words) > 1 else command).params)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_help_fits_two_screens_of_eighty_columns(ugatit: Command, words: tuple[str, ...]) -> None:
    outcome = ugatit(*words, "--help")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert max(map(len, outcome.lines)) <= 80
    assert len(outcome.lines) <= 100
    if "Commands:" in outcome.lines:
        summaries = outcome.stdout.decode().partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
        assert all(re.match(r"  \S.*\.$", line) for line in summaries)


@pytest.mark.parametrize("name", sorted(RARE))
def test_all_options_are_shown_when_asked_for(ugatit: Command, name: str) -> None:
    shown, every = (ugatit(name, option).stdout.decode() for option in ("--help", "--help-all"))
    flags = {one.name: one.opts[0] for one in parameters_of(name) if one.param_type_name == "option"}
    assert RARE[name] & flags.keys()
    for parameter, flag in flags.items():
        listed = re.compile(rf"^  (-\w, )*--(\[no-\])?{flag[2:]}\b", re.MULTILINE)
        assert listed.search(every), flag
        assert bool(listed.search(shown)) is (parameter not in RARE[name]), flag


@pytest.mark.parametrize("words", [words for words in every_command() if words], ids=" ".join)
def test_values_are_named_in_one_style(words: tuple[str, ...]) -> None:
    for parameter in (one for one in parameters_of(*words) if getattr(one, "type_descriptor", None)):
        name = help_view.name_of(parameter)
        assert "<" not in name
        assert not re.fullmatch(r"[a-z]+", name), f"{words} {parameter.name}: {name}"
        assert parameter.hidden or parameter.help, parameter.name


def examples(*words: str) -> list[str]:
    text = app.built(words[0]).help if len(words) == 1 else app.built(words[0]).commands[words[1]].help
    return [" ".join(one.split()) for one in re.findall(r"^`(.*?)`$", text, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize("line", examples("translate") + examples("cam"))
def test_examples_work_as_printed(ugatit: Command, line: str) -> None:
    """With nothing installed but the bundled models: everything is found, and would be translated."""
    words = shlex.split(line.removeprefix("cat sketch.png | ").removesuffix(" > clay.png"))[1:]
    if "--run" in words:  # which needs one's own
        return
    put("icons/a.png", "drawings/a.png", "more/b.png", *(one for one in words[1:2] if one.endswith(("png", "jpg"))))
    Path("clip.mp4").write_bytes(b"film")
    outcome = ugatit(*words, "--dry-run", stdin=encoded())
    assert outcome.code == 0, outcome.stderr


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("train a b --lr 1", "--learning-rate"),
        ("train a b --epochs=5", "--iterations or --minutes"),
        ("train a b --adv_weight 1", "--adversarial-weight"),
        ("train a b --images x", "ugatit train A B"),
        ("train a b --fp16", "--precision bf16"),
        ("translate a.png --gpu 0", "--device cuda"),
        ("translate a.png -j 4", "--workers"),
        ("translate --input a.png", "ugatit translate PICTURES"),
        ("translate a.png --out b.png", "--output"),
        ("translate a.png --ovrwrite", "--overwrite"),
        ("cam a.png --weights x", "--model"),
        ("fetch flat2clay --output-dir x", "--output"),
        ("evaluate a b -o figures", "--json >"),
        ("models list --zzz", "ugatit models list --help"),
        ("predict a.png", "ugatit translate"),
        ("models remove x", "ugatit models rm"),
        ("translat a.png", "ugatit translate"),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(ugatit: Command, line: str, right: str) -> None:
    outcome = ugatit(*line.split())
    assert (outcome.code, len(outcome.errors), outcome.stdout) == (2, 1, b"")
    assert outcome.errors[0].startswith("no such ")
    assert right in outcome.stderr


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (["-dash.png", "-o", "out"], "./-dash.png"),
        (["-o", "out", "-=x.png"], "./-=x.png"),
        (["--", "-dash.png", "-o", "out"], "before --"),
        (["-o", "out", "--", "-dash.png", "--size", "64"], "before --"),
    ],
)
def test_files_whose_names_begin_with_a_dash(ugatit: Command, words: list[str], way: str) -> None:
    put("-dash.png", "-=x.png")
    outcome = ugatit("translate", *words)
    assert outcome.code in (1, 2)
    assert way in outcome.stderr
    assert ugatit("translate", "-o", "out2", "./-dash.png").code == 0


def test_what_a_missing_argument_may_be_is_one_line(ugatit: Command) -> None:
    outcome = ugatit("completion")
    assert outcome.code == 2
    assert [one for one in ("bash", "zsh", "fish") if one not in outcome.errors[0]] == []
    assert "\\n" not in outcome.stderr


@pytest.mark.parametrize("name", ["translate", "cam"])
def test_looks_that_help_names_are_those_of_the_default_model(ugatit: Command, name: str) -> None:
    text = ugatit(name, "--help").stdout.decode().partition("--to DOMAIN")[2].partition("  -")[0]
    config = load(DEFAULT_MODEL).config
    assert {config.domain_a, config.domain_b} <= {*re.findall(r"\w+", text)}


def test_answers_name_options_that_there_are() -> None:
    known = {flag for words in every_command() if words for one in parameters_of(*words) for flag in one.opts}
    assert {one.split()[0] for one in wrong_names.OPTIONS} <= {*known, help_view.HELP_ALL, "--watch"}


def test_attention_is_cam(ugatit: Command) -> None:
    assert ugatit("attention", "--help").stdout == ugatit("cam", "--help").stdout


@pytest.mark.parametrize(("name", "old"), [("--output", "--to"), ("-o", "--to")])
def test_names_of_earlier_versions_are_taken_but_not_shown(ugatit: Command, name: str, old: str) -> None:
    for number, option in enumerate((name, old)):
        outcome = ugatit("fetch", "flat2clay", option, f"copy{number}")
        assert outcome.code == 0, outcome.stderr
        assert Path(f"copy{number}", "model.safetensors").exists()
    assert old not in ugatit("fetch", "--help").stdout.decode()


@pytest.mark.parametrize("name", app.COMMANDS)
def test_commands_are_listed_with_their_own_summaries(name: str) -> None:
    assert help_view.summary(app.built(name)) == app.COMMANDS[name]


def meant(clauses: str, name: str, recipe: str) -> str:
    """The value that `5%; paper, other methods: off; paper of unit: 1%` names for a method and a recipe."""
    those = {name, recipe} | ({"other methods"} if name != "ugatit" else set())
    found = ""
    for clause in clauses.split("; "):
        who, _, value = clause.rpartition(": ")
        only = ""
        for one in who.split(", "):
            before, _, asked = one.rpartition(" of ")
            only = before or only
            if not who or (asked in those and only in ("", recipe)):
                found = value
    return found


def shown(field: str, value: object) -> str:
    if isinstance(value, bool):
        return field if value else f"no-{field}"
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", METHODS)
def test_train_names_the_defaults_of_each_method(name: MethodName, recipe: RecipeName) -> None:
    told = {one.name: re.search(r"  \[default: (.*)\]$", one.help or "") for one in parameters_of("train")}
    values = method(name).recipe(recipe).to_dict()
    late = {"batch_size", "vgg"}  # decided when there are pictures, and a device
    for field in sorted((method(name).settings & told.keys()) - late):
        clauses = told[field]
        assert clauses, field
        assert meant(clauses[1], name, recipe) == shown(field, values[field]), field


def test_study_names_its_folders_whole(ugatit: Command) -> None:
    text = " ".join(ugatit("study", "make", "--help").stdout.decode().split())
    assert text.startswith("Usage: ugatit study make [OPTIONS] [[LABEL=]FOLDER]...")
    assert "[label: the folder's name]" in text

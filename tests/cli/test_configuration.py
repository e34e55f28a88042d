"""Files of settings and variables: what counts, where it comes from, and what a stranger's file may not do."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.main import get_command

from tests.cli.conftest import Command, put
from ugatit_cli.cli import app, configuration
from ugatit_cli.cli.configuration import NEEDS, SOURCES
from ugatit_cli.cli.option_names import OTHERS, every_command, is_shared, keys_of, number_type, variables_of
from ugatit_cli.cli.settings_file import FILE, NOT_HERE, PATHS
from ugatit_cli.data.pictures import Folders
from ugatit_cli.errors import UgatitError, UsageError
from ugatit_cli.fields import read_table
from ugatit_cli.files import config_folder
from ugatit_cli.methods.recipe import RECIPES, Recipe
from ugatit_cli.methods.registry import METHODS
from ugatit_cli.training import session
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings, new_settings

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
START, END = "<!-- the table: python -m tests.cli.test_configuration -->", "<!-- end -->"
COMMANDS = dict(every_command())


def context_of(path: str) -> Any:
    """A call of a command, as far as its groups: nothing is parsed yet."""
    context = typer.Context(get_command(app.app), info_name="ugatit")
    *groups, _ = path.split()
    for group in groups:
        context = typer.Context(app.built(group), info_name=group, parent=context)
    return context


def called(path: str, *arguments: str) -> Any:
    """The context of a command with its options as they count, which isn't run."""
    return COMMANDS[path].make_context(path.split()[-1], list(arguments), parent=context_of(path))


def sources(context: Any) -> dict[str, tuple[Any, str]]:
    return {key: (said.value, said.where) for key, said in context.meta[SOURCES].said.items()}


def folders_in(root: str, *names: str) -> None:
    for name in names:
        put(f"{root}/{name}/1.png")


def users(text: str) -> str:
    """Writes the user's own file; its name."""
    path = config_folder() / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home-config"))


# --- Every option --------------------------------------------------------------------------------------


def sample(option: Any) -> str:
    if option.is_flag:
        return "true"
    kind = option.type_descriptor if hasattr(option, "type_descriptor") else None
    return str(kind.choices[0]) if kind and kind.choices else "1"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_has_a_name_in_the_file_and_a_variable(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key: option for key, option in keys_of(COMMANDS[path]).items() if key != "config"}
    options = {option.name for option in COMMANDS[path].params if option.param_type_name == "option"}
    hidden = {option.name for option in COMMANDS[path].params if getattr(option, "hidden", False)}
    assert {option.name for option in keys.values()} == options - hidden - {"config"}
    values = {key: sample(option) for key, option in keys.items()}
    plain = {key for key, option in keys.items() if option.is_flag or number_type(option)}
    lines = [f"{key} = {value if key in plain else repr(value)}" for key, value in values.items()]
    Path("all.toml").write_text("\n".join([f"[{path.replace(' ', '.')}]", *lines]))

    def filled(stated: Mapping[str, Any]) -> set[str]:
        context = typer.Context(COMMANDS[path], info_name=path.split()[-1], parent=context_of(path))
        configuration.fill(COMMANDS[path], context, stated)
        return set(sources(context))

    assert filled({"config": "all.toml"}) == set(keys)
    for key, value in values.items():
        for variable in variables_of(path, key):
            monkeypatch.setenv(variable, value)
            assert key in filled({} if key not in NEEDS else {"config": "all.toml"})
            monkeypatch.delenv(variable)


def test_what_commands_share_means_the_same() -> None:
    meanings = defaultdict(set)
    owners = defaultdict(set)
    for path, command in COMMANDS.items():
        for key, option in keys_of(command).items():
            for variable in variables_of(path, key):
                owners[variable].add(key)
            if is_shared(path, key):
                meanings[key].add((option.is_flag, sample(option), option.metavar or "N"))
            kind = getattr(option, "type_descriptor", None)
            if kind is not None and kind.is_path:
                assert {*(option.metavar or "").split("|")} <= PATHS, f"{path} --{key}: its metavar"
    assert {variable: keys for variable, keys in owners.items() if len(keys) > 1} == {}
    assert not owners.keys() & {*OTHERS}
    # Others belong into `option_names.SHARED`, with the commands that share one meaning.
    assert {key: kinds for key, kinds in meanings.items() if len(kinds) > 1} == {}


# --- What counts ---------------------------------------------------------------------------------------


def test_the_nearest_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, a file that it names, variables, ./ugatit.toml, the user's own; a command's table first."""
    own = users("tile = 1\nsize = 1\nquality = 1\nfit = 'native'\nworkers = 1\n")
    Path(FILE).write_text("tile = 2\nsize = 2\nquality = 2\n[translate]\nfit = 'squash'\n[cam]\nquality = 77\n")
    monkeypatch.setenv("UGATIT_SIZE", "3")
    monkeypatch.setenv("UGATIT_TRANSLATE_QUALITY", "3")
    monkeypatch.setenv("UGATIT_QUALITY", "4")
    context = called("translate", "a.png", "--tile", "512")
    assert sources(context) == {
        "size": ("3", "UGATIT_SIZE"),
        "quality": ("3", "UGATIT_TRANSLATE_QUALITY"),
        "fit": ("squash", f"{FILE}, line 5"),
        "workers": ("1", f"{own}, line 5"),
    }
    params = context.params
    assert [params[name] for name in ("tile", "size", "quality", "fit")] == ["512", "3", 3, "squash"]
    assert context.meta[SOURCES].notes == [f"settings of {FILE}: fit", f"settings of {own}: workers"]
    Path("other.toml").write_text("quality = 5\n")
    assert sources(called("translate", "--config", "other.toml")) == {
        "size": ("3", "UGATIT_SIZE"),
        "quality": ("5", "other.toml, line 1"),
    }
    monkeypatch.setenv("UGATIT_CONFIG", "other.toml")  # which is no nearer than other variables
    assert sources(called("translate"))["quality"] == ("3", "UGATIT_TRANSLATE_QUALITY")
    assert sources(called("cam", "--config", "off")) == {
        "size": ("3", "UGATIT_SIZE"),
        "quality": ("4", "UGATIT_QUALITY"),
    }


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        (["train", "--minutes", "5"], {"seed", "holdout", "domain_a", "domain_b"}),
        (["train", "--data", "x"], {"iterations", "seed", "holdout"}),
        (["train", "--domain-a", "x"], {"iterations", "seed", "holdout", "domain_b"}),
        (["train", "a", "b"], {"iterations", "seed", "holdout"}),
        (["train", "--resume", "runs/x"], set()),
        (["translate", "--to", "clay"], set()),
        (["translate", "--faces"], {"direction", "margin"}),
        (["translate"], {"direction"}),
    ],
)
def test_what_the_command_line_says_has_no_rivals_in_files(arguments: list[str], counts: set[str]) -> None:
    Path(FILE).write_text(
        "direction = 'b2a'\n[train]\niterations = 9\nseed = 3\nholdout = '7%'\ndomain_a = 'a'\ndomain_b = 'b'\n"
        "[translate]\nmargin = 0.3\n"
    )
    assert set(sources(called(*arguments))) == counts


@pytest.mark.parametrize(
    ("arguments", "text", "counts"),
    [
        (("--styles", "2"), "style = 'random:3'", ("random:3", 2)),
        (("--style", "random:3"), "styles = 2", ("random:3", 2)),
        (("--styles", "2"), "style = 'a.png'", (None, 2)),
        (("--style", "a.png"), "styles = 2", ("a.png", None)),
        (("--style", "random"), "style = 'a.png'\nstyles = 2", ("random", 2)),
    ],
)
def test_several_styles_are_random_ones(arguments: list[str], text: str, counts: tuple[object, ...]) -> None:
    Path(FILE).write_text(f"[translate]\n{text}\n")
    params = called("translate", *arguments).params
    assert (params["style"], params["styles"]) == counts


def test_values_of_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sub").mkdir()
    Path("sub/mine").mkdir()
    Path("sub/x.toml").write_text(
        "[translate]\nmax-pixels = 90000\nfilms = true\nstrength = 1\nbox = [1, 2, '30%', 4]\noutput = 'out'\n"
        "[train]\nflip = false\nlearning-rate = 2e-5\n[study.make]\nmodel = ['flat2clay', 'a/b', './mine']\n"
    )
    Path("sub/y.toml").write_text(
        "[translate]\nstyle = 'like.png'\n[study.make]\nmodel = ['a=./mine', 'b=flat2clay', './c=d']\n"
    )
    Path("sub/c=d").mkdir()
    assert Path(called("translate", "--config", "sub/y.toml").params["style"]) == Path("sub/like.png")
    models = called("study make", "--config", "sub/y.toml").params["model"]
    assert [*models] == [f"a={Path('sub/mine')}", "b=flat2clay", str(Path("sub/c=d"))]
    Path("sub/y.toml").write_text("[translate]\nstyle = 'random:3'\n")
    assert called("translate", "--config", "sub/y.toml").params["style"] == "random:3"
    params = called("translate", "--config", "sub/x.toml").params
    assert [params[name] for name in ("max_pixels", "films", "strength", "box")] == ["90000", True, 1.0, "1,2,30%,4"]
    assert Path(params["output"]) == Path("sub/out")
    params = called("train", "--config", "sub/x.toml").params
    assert (params["flip"], params["learning_rate"]) == (False, 2e-5)
    models = called("study make", "--config", "sub/x.toml").params["model"]
    assert [*models] == ["flat2clay", "a/b", os.path.join("sub", "mine")]  # noqa: PTH118
    monkeypatch.setenv("UGATIT_STUDY_MAKE_MODEL", "one two")
    monkeypatch.setenv("UGATIT_FILMS", "1")
    monkeypatch.setenv("UGATIT_COMPILE", "")
    assert [*called("study make").params["model"]] == ["one", "two"]
    assert (called("cam").params["films"], called("cam").params["compile"]) == (True, False)


# --- What is wrong with it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[translate]\n\nstrenght = 1", (", line 3", "'strenght'", "--strength")),
        ("devize = 'cpu'", (", line 1", "'devize'", "--device")),
        ("[transalte]\ntile = 1", (", line 1", "transalte", "did you mean translate")),
        ("translate.films = 'yes'", (", line 1", "films is yes", "true or false")),
        ("[translate]\nquality = 'best'", (", line 2: quality",)),
        ("[translate]\nfit = 'wide'", (", line 2: fit",)),
        ("[translate]\ntile = true", (", line 2: tile is true", "auto or off")),
        ("[translate]\ntile = [1, 2]", (", line 2: tile is a list",)),
        ("[translate]\nstrength = '0.5'", (", line 2: strength is 0.5", "a number", "without quotes")),
        ("[translate]\nquality = '7'", (", line 2: quality is 7", "a whole number", "without quotes")),
        ("[translate]\nquality = 7.5", (", line 2: quality is 7.5", "a whole number")),
        ("[translate]\nstrength = true", (", line 2: strength is true", "a number")),
        ("[translate]\nstrength = [0.5]", (", line 2: strength is a list",)),
        ("[translate]\nfilms = 1", (", line 2: films is 1", "true or false")),
        ("[translate]\nfilms = [true]", (", line 2: films is a list",)),
        ("[translate]\nto = 5", (", line 2: to is 5", "text", "in quotes")),
        ("[translate]\nmodel = ['a', 5]", (", line 2: model is", "text", "in quotes")),
        ("[translate]\nfit = 3", (", line 2: fit is 3", "text", "in quotes")),
        ("[translate]\nbackground = 0", (", line 2: background is 0", "text", "in quotes")),
        ("[translate]\ntile = 1979-05-27", (", line 2: tile is",)),
        ("[translate]\nmax_pixels = 1\nmax-pixels = 2", (", line 2: max_pixels is there twice",)),
        ("config = 'other.toml'", (", line 1", "--config FILE")),
        ("[translate]\nmodel = [true]", (", line 2: model is",)),
        ("[translate]\nout = 'x'", (", line 2", "'out'", "--output")),
        ("[translate]\no = 'x'", (", line 2", "'o'", "output")),
        ("[translate]\nno-films = true", (", line 2", "'no_films'", "films = false")),
        ("[translate]\ninputs = ['a.png']", (", line 2", "'inputs'", "without an option")),
        ("[translate]\nstrength = nan", (", line 2: strength is nan",)),
        ("\n[[translate]]\ntile = 1", (", line 2", "translate is a command", "[translate]")),
        ("translate = 3", (", line 1", "translate is a command", "[translate]")),
        ("\ufeff[translate]\nsteps = 3", (", line 2", "'steps'")),
        ("tile = = 1", ("can't be read", "line 1", "--config off")),
        ("tile = 1\ntile = 2\n", ("can't be read", "twice", "line 2")),
        ("[cam]\n[cam]", ("can't be read", "twice", "line 2", "cam")),
        ("[translate]\nfit = wide", ("can't be read", "quotes", "line 2")),
        ("a = " + 4000 * "[" + 4000 * "]", ("can't be read", "nested too deep")),
        ("tile = 'x\0'", ("can't be read", "--config off")),
    ],
)
def test_bad_files(text: str, words: tuple[str, ...]) -> None:
    Path("own.toml").write_text(text)
    with pytest.raises(UgatitError) as caught:
        called("translate", "a.png", "--config", "own.toml")
    assert isinstance(caught.value, UsageError)
    said = f"{caught.value.message} {caught.value.hint}"
    assert said.startswith("own.toml")
    for word in words:
        assert word in said
    Path("own.toml").rename(FILE)
    with pytest.raises(typer.Exit):
        called("translate", "--help")


def test_a_table_of_a_group_has_those_of_its_commands() -> None:
    Path("own.toml").write_text("[study.tally]\n[study.mak]\ncount = 3\n")
    with pytest.raises(UsageError, match=r"line 2: \[study\.mak\] is no command") as caught:
        called("study make", "--config", "own.toml")
    assert "make" in caught.value.hint
    Path("own.toml").write_text("study.make = 3\n")
    with pytest.raises(UsageError, match=r"line 1: study\.make is a command"):
        called("study make", "--config", "own.toml")


def test_files_of_other_encodings() -> None:
    Path("own.toml").write_text("\ufefftile = 64\n", encoding="utf-8")
    assert sources(called("translate", "--config", "own.toml")) == {"tile": ("64", "own.toml, line 1")}
    Path("own.toml").write_text("tile = 64\n", encoding="utf-16")
    with pytest.raises(UsageError, match=r"own\.toml: .*no UTF-8 text"):
        called("translate", "--config", "own.toml")


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        ("[translate]\njson = true\nsiz = 3\n", True),
        ("[translate]\nsiz = 3\njson = true\n", True),
        ("[translate]\njson = true\nstrength = 3\n", True),
        ("json = true\n[transalte]\n", True),
        ("json = true\n[translate]\njson = false\nsiz = 3\n", False),
        ("[cam]\njson = true\n[translate]\nsiz = 3\n", False),
        ("[translate]\njson = 'yes'\nsiz = 3\n", False),
    ],
)
def test_a_program_reads_what_is_wrong_with_the_file_that_says_json(
    ugatit: Command, text: str, *, is_json: bool
) -> None:
    put("a.png")
    Path(FILE).write_text(text)
    outcome = ugatit("translate", "a.png", "-o", "b.png")
    assert outcome.code == 2
    assert outcome.errors[0].startswith(f"{FILE}, line ")
    assert [one["error"] for one in outcome.documents] == (outcome.errors if is_json else [])


def test_a_variable_of_a_command_in_a_group_says_json(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGATIT_DATA_CROP_FACES_JSON", "1")
    assert ugatit("data", "crop-faces", "--nosuch").ending["status"] == "error"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="--config nowhere"):
        called("translate", "--config", "nowhere.toml")


def test_an_error_says_where_its_value_stands(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png")
    Path(FILE).write_text("[translate]\ntile = 'huge'\n")
    outcome = ugatit("translate", "a.png", "-o", "b.png")
    assert (outcome.code, outcome.errors) == (2, ["--tile huge: unknown"])
    assert f"tile is set by {FILE}, line 2." in outcome.stderr.splitlines()
    assert f"settings of {FILE}: tile\n" in outcome.stderr
    assert "is set by" not in ugatit("translate", "a.png", "-o", "b.png", "--tile", "large").stderr
    monkeypatch.setenv("UGATIT_QUALITY", "best")
    outcome = ugatit("translate", "a.png", "-o", "b.png")
    assert outcome.code == 2
    assert outcome.errors == ["UGATIT_QUALITY: quality is best; it must be a whole number"]
    monkeypatch.delenv("UGATIT_QUALITY")
    Path(FILE).unlink()
    for variable, value in {"UGATIT_LOG_FILE": "no/such.log", "UGATIT_TO": "clai"}.items():
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            outcome = ugatit("translate", "a.png", "-o", "b.png")
        assert value in outcome.errors[0]
        assert f"is set by {variable}." in outcome.stderr


def test_an_error_about_a_setting_names_its_option(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    folders_in("in", "a", "b")
    for option, value in (("--image-size", "30"), ("--image-size", "8"), ("--learning-rate", "1e30"), ("--ema", "2")):
        outcome = ugatit("train", "in/a", "in/b", option, value)
        assert outcome.code == 2
        assert outcome.errors[0].startswith(f"{option} {float(value):g}")
    assert "32" in ugatit("train", "in/a", "in/b", "--image-size", "30").stderr
    monkeypatch.setenv("UGATIT_IMAGE_SIZE", "30")
    outcome = ugatit("train", "in/a", "in/b")
    assert outcome.errors[0].startswith("image_size is 30")
    assert "image_size is set by UGATIT_IMAGE_SIZE." in outcome.stderr


def test_an_error_of_a_device_or_model_says_where_its_name_stands(
    ugatit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.png")
    for key in ("device", "model"):
        Path("b.toml").write_text(f"\n{key} = 'nosuch'\n")
        outcome = ugatit("translate", "a.png", "-o", "b.png", "--config", "b.toml")
        assert f"{key} is set by b.toml, line 2." in outcome.stderr
        with monkeypatch.context() as patched:
            patched.setenv(f"UGATIT_{key.upper()}", "nosuch")
            assert f"{key} is set by UGATIT_{key.upper()}." in ugatit("translate", "a.png", "-o", "b.png").stderr


def test_variables_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UGATIT_DEVCE", "UGATIT_TRAIN_SEED", "UGATIT_HOME", "UGATIT_TEST_DEVICE"):
        monkeypatch.setenv(name, "1")
    (note,) = called("translate").meta[SOURCES].notes
    assert "UGATIT_DEVCE" in note
    assert note.endswith("did you mean UGATIT_DEVICE?")


# --- A stranger's file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(NOT_HERE | {"with_discriminators", "output", "report"}))
def test_a_file_that_is_only_found_does_no_harm(key: str) -> None:
    if not (owners := [path for path, command in COMMANDS.items() if key in keys_of(command)]):
        pytest.skip("no command has it")
    for path in owners:
        option = keys_of(COMMANDS[path])[key]
        value = "true" if option.is_flag else "9" if number_type(option) else "'../elsewhere'"
        Path(FILE).write_text(f"[{path.replace(' ', '.')}]\n{key} = {value}\n")
        if key in ("output", "report", "with_discriminators") or key in NOT_HERE:
            with pytest.raises(UsageError, match=f"{FILE}, line 2: {key} "):
                called(path)
    users(Path(FILE).read_text())
    Path(FILE).unlink()
    context = typer.Context(COMMANDS[owners[-1]], info_name=owners[-1].split()[-1], parent=context_of(owners[-1]))
    configuration.fill(COMMANDS[owners[-1]], context, {})
    assert key in sources(context)


def test_it_writes_below_its_folder_only() -> None:
    Path(FILE).write_text("[translate]\noutput = 'out/clay'\n")
    assert called("translate").params["output"] == "out/clay"
    Path("out").symlink_to(Path("..").resolve())
    with pytest.raises(UsageError, match="output is out/clay"):
        called("translate")
    for place in ("/tmp/x", "~/x", "s3://bucket/x", "../x"):
        Path(FILE).write_text(f"[translate]\noutput = '{place}'\n")
        with pytest.raises(UsageError, match="output is "):
            called("translate")


# --- Dry runs, and runs --------------------------------------------------------------------------------


def test_a_dry_run_says_where_settings_come_from(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png")
    Path(FILE).write_text("[translate]\noutput = 'out'\n")
    monkeypatch.setenv("UGATIT_FORMAT", "webp")
    outcome = translate("a.png", "--dry-run")
    assert (outcome.code, outcome.lines) == (0, ["a.png -> out/a.webp"])
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in outcome.stderr.splitlines() if line[:2] == "  "}
    assert rows["output"] == ["out", f"{FILE}, line 2"]
    assert rows["format"] == ["webp", "UGATIT_FORMAT"]
    assert rows["device"] == ["cpu", "command line"]
    assert "tile" not in rows


class PreparedError(Exception):
    """Carries what a training would begin with."""


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `ugatit train` would begin with: the run, what is given, and the folders."""

    def stop(run: RunFolder, given: dict[str, Any], folders: Folders, *_: object, **__: object) -> None:
        raise PreparedError(run, given, folders)

    monkeypatch.setattr(session, "prepare", stop)

    def run(*arguments: str) -> Any:
        context = called("train", "--device", "cpu", *arguments)
        with pytest.raises(PreparedError) as caught, context:
            COMMANDS["train"].invoke(context)
        return caught.value.args

    return run


@pytest.mark.parametrize("name", METHODS)
def test_a_training_is_repeated(name: str, prepared: Any) -> None:
    """Of every method, with all that is stated: only what the command line says is another."""
    folders_in("cat2dog", "trainA", "trainB", "testA", "testB")
    folders_in("others", "a", "b")
    given: dict[str, Any] = {"method": name, "iterations": 7, "image_size": 64, "channels": 4, "keep": 3}
    root = Path("cat2dog").resolve()
    plain = Folders(root / "trainA", root / "trainB")
    folders = dataclasses.replace(plain, test_a=root / "testA", test_b=root / "testB")
    stored = new_settings(given, folders, device=torch.device("cpu"))
    document = stored.to_document()
    RunFolder(Path("run")).create(document)
    run, again, found = prepared("--config", "run", "--seed", "5", "-o", "again")
    assert (run.path, found) == (Path("again"), folders)
    assert new_settings(again, found, device=torch.device("cpu")) == dataclasses.replace(stored, seed=5)
    arguments = ["--config", "run/config.toml", "--domain-a", "others/a", "--domain-b", "others/b", "--minutes", "3"]
    _, again, found = prepared(*arguments)
    assert found == Folders(Path("others/a").resolve(), Path("others/b").resolve())
    other: Settings = new_settings(again, found, device=torch.device("cpu"))
    assert (other.model.domain_a, other.iterations, other.minutes) == ("a", None, 3)
    assert other.recipe == stored.recipe
    _, again, found = prepared("--config", "run", "--recipe", "paper")
    assert (
        new_settings(again, found, device=torch.device("cpu")).recipe
        == new_settings(given | {"recipe": "paper"}, folders, device=torch.device("cpu")).recipe
    )
    _, again, found = prepared("--config", "run", "--method", "unit" if name == "cyclegan" else "cyclegan")
    other = new_settings(again, found, device=torch.device("cpu"))
    assert (other.model.image_size, other.iterations, other.model.method != name) == (64, 7, True)
    old = document["recipe"] = {
        "name": "default",
        "batch_size": stored.recipe.batch_size,
    }  # of a run that is older than all other settings
    RunFolder(Path("run")).create(document)
    _, again, found = prepared("--config", "run")
    assert new_settings(again, found, device=torch.device("cpu")).recipe == read_table(Recipe, old)


def repeated(prepared: Any, given: dict[str, Any], *arguments: str) -> Settings:
    """Settings of a training that is done once more, where a run was given some."""
    folders_in("in", "left", "right")
    folders = Folders(Path("in/left").resolve(), Path("in/right").resolve())
    RunFolder(Path("run")).create(new_settings(given, folders, device=torch.device("cpu")).to_document())
    _, again, found = prepared("--config", "run", *arguments)
    return new_settings(again, found, device=torch.device("cpu"))


@pytest.mark.parametrize("name", METHODS)
def test_another_method_gets_the_sizes_that_a_run_was_told(name: str, prepared: Any) -> None:
    """What it wasn't told is what the method has by default."""
    other = "cyclegan" if name == "ugatit" else "ugatit"
    told = {"method": name, "image_size": 128, "channels": 6, "blocks": 2, "recipe": "paper", "precision": "bf16"}
    found = repeated(prepared, told, "--method", other)
    assert (found.model.method, found.recipe.name, found.precision) == (other, "paper", "bf16")
    assert (found.model.image_size, found.model.channels, found.model.blocks) == (128, 6, 2)
    assert found.value_of("discriminator_channels") == 6
    found = repeated(prepared, told | {"discriminator_channels": 5}, "--method", other)
    assert found.value_of("discriminator_channels") == 5
    found = repeated(prepared, {"method": name, "image_size": 128}, "--method", other)
    usual = new_settings({"method": other, "image_size": 128}, found.folders, device=torch.device("cpu"))
    assert (found.model, found.recipe) == (usual.model, usual.recipe)


def test_what_follows_from_the_command_line_follows_when_a_training_is_repeated(prepared: Any) -> None:
    given = {"precision": "bf16", "channels": 4, "image_size": 32}
    assert repeated(prepared, given, "--recipe", "paper").precision == "fp32"
    assert repeated(prepared, given, "--recipe", "paper", "--precision", "bf16").precision == "bf16"
    assert repeated(prepared, given | {"recipe": "paper"}, "--seed", "2").precision == "bf16"
    assert repeated(prepared, given, "--channels", "8").value_of("discriminator_channels") == 8
    assert repeated(prepared, given, "--variant", "full").checkpointing
    full = given | {"variant": "full", "checkpointing": False, "discriminator_channels": 3}
    kept = repeated(prepared, full, "--channels", "8")
    assert (kept.checkpointing, kept.value_of("discriminator_channels")) == (False, 3)


def rows_of(text: str) -> dict[str, str]:
    """The settings that a dry run lists."""
    rows = [line.split() for line in text.splitlines() if line.startswith("  ")]
    return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", METHODS)
def test_a_repeated_training_lists_what_truly_differs(
    name: str, recipe: str, prepared: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folders_in("in", "left", "right")
    folders = Folders(Path("in/left").resolve(), Path("in/right").resolve())
    given = {"method": name, "recipe": recipe, "checkpoint_every": "3m", "channels": 4, "learning_rate": 0.003}
    RunFolder(Path("run")).create(new_settings(given, folders, device=torch.device("cpu")).to_document())
    prepared("--config", "run", "--dry-run", "-o", "again")
    expected = {"checkpoint_every": "3m", "channels": "4", "learning_rate": "0.003", "output": "again"}
    expected |= {"device": "cpu", "domain_a": str(folders.a), "domain_b": str(folders.b)}
    expected |= ({"method": name} if name != "ugatit" else {}) | ({"recipe": "paper"} if recipe == "paper" else {})
    assert rows_of(capsys.readouterr().err) == expected
    prepared("in/left", "in/right", "--config", "run", "--dry-run", "--ema", "0.5", "--method", "ugatit")
    assert rows_of(capsys.readouterr().err)["ema"] == "0.5"


def test_a_default_that_another_setting_decides_is_none_to_list(
    prepared: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folders_in("in", "left", "right")
    prepared("in/left", "in/right", "--dry-run", "--cycle", "joint", "--judge-weight", "0", "--cycle-weight", "5")
    rows = rows_of(capsys.readouterr().err)
    assert (rows["cycle"], rows.keys() & {"judge_weight", "cycle_weight"}) == ("joint", set())
    prepared("in/left", "in/right", "--dry-run", "--recipe", "paper", "--cycle-weight", "5")
    assert rows_of(capsys.readouterr().err)["cycle_weight"] == "5.0"
    prepared("in/left", "in/right", "--dry-run", "--from", "flat2clay", "--warm-up", "off", "--keep", "2")
    rows = rows_of(capsys.readouterr().err)
    assert (rows["from"], rows.keys() & {"warm_up", "keep"}) == ("flat2clay", set())


def test_a_held_out_share_is_for_data_without_pictures_to_hold_out(prepared: Any) -> None:
    folders_in("cat2dog", "trainA", "trainB", "testA", "testB")
    Path(FILE).write_text("[train]\nholdout = '10%'\n")
    _, given, _ = prepared("--data", "cat2dog")
    assert "holdout" not in given
    with pytest.raises(UsageError, match="--holdout contradicts"):
        prepared("--data", "cat2dog", "--holdout", "10%")


def test_a_run_is_no_file_for_other_commands() -> None:
    Path("run").mkdir()
    Path("run/config.toml").write_text("format = 1\n[run]\nseed = 1\n")
    with pytest.raises(UsageError, match="it is for `ugatit train`"):
        called("translate", "--config", "run/config.toml")
    with pytest.raises(UsageError, match="damaged"):
        called("train", "--config", "run/config.toml")
    Path("run/config.toml").write_text("[recipe]\n[model]\n[run]\nsede = 1\n")
    with pytest.raises(UsageError, match=", line 4: run has no 'sede'"):
        called("train", "--config", "run")
    Path("run/config.toml").write_text("format = 2\n[run]\nseed = 1\n")
    with pytest.raises(UsageError, match="newer"):
        called("train", "--config", "run")


# --- Docs ----------------------------------------------------------------------------------------------


def table() -> str:
    """All options, by key: their variables, and the commands that have them."""
    rows = defaultdict(list)
    for path, command in COMMANDS.items():
        for key in keys_of(command):
            rows[key, variables_of(path, key)[-1]].append(path)
    every = len(COMMANDS)
    lines = [
        f"| `{key}` | `{variable}` | {'all' if len(paths) == every else ', '.join(paths)} |"
        for (key, variable), paths in sorted(rows.items())
    ]
    return "\n".join([START, "", "| key | variable | commands |", "| --- | --- | --- |", *lines, "", END])


def test_the_table_in_the_docs_is_of_this_version() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert text[text.index(START) : text.index(END) + len(END)] == table(), "python -m tests.cli.test_configuration"
    for name in OTHERS:
        assert f"`{name}" in text
    Path(FILE).write_text(text.partition("```toml\n")[2].partition("```")[0])
    assert {*sources(called("translate"))} == {"device", "output", "strength", "workers", "films", "box"}
    assert {*sources(called("train"))} == {"device", "recipe", "flip"}
    assert {*sources(called("study make"))} == {"device", "model"}


if __name__ == "__main__":
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(START)
    DOCS.write_text(before + table() + rest.partition(END)[2], encoding="utf-8")
    sys.exit(0)

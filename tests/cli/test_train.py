"""`ugatit train`: options, reports, exit codes, and going on after whatever happens."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
import typer.testing
from safetensors.torch import load_file

from tests.cli.conftest import Command, Outcome, below, put
from tests.programs import command
from tests.trainings import make_folders
from ugatit_cli.cli import app, signals, train_view
from ugatit_cli.cli import train as train_module
from ugatit_cli.cli.train_command import Asked
from ugatit_cli.data.pictures import Folders
from ugatit_cli.device import Group
from ugatit_cli.errors import DataError, Interrupted, TrainingError, UgatitError, UsageError, install_line
from ugatit_cli.fields import fields_of
from ugatit_cli.methods.recipe import RECIPES, Recipe
from ugatit_cli.methods.registry import METHODS, method
from ugatit_cli.training import schedule, session
from ugatit_cli.training.listeners import StepReport
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import TABLES, as_option

MACHINE = ["--device", "cpu", "--precision", "fp32", "--workers", "1"]
SIZES = ["--image-size", "32", "--channels", "4", "--blocks", "1"]
FOLDERS = ["horses", "zebras"]
RUN = "runs/horses2zebras"
TOLD_OTHERWISE = {"batch_size"}  # as large as the machine allows

Train = Callable[..., Outcome]


@pytest.fixture
def folders() -> None:
    make_folders(Path(), 8, ("horses", "zebras"))


@pytest.fixture
def train(ugatit: Command, folders: None) -> Train:  # noqa: ARG001
    """`ugatit train` on two small folders, with a tiny model, for two steps unless told otherwise."""

    def run(*arguments: object) -> Outcome:
        sizes = [] if {"--from", "--resume", "--image-size"} & set(arguments) else SIZES
        named = [] if {"--resume", "--data", "--domain-a", "--domain-b"} & set(arguments) else FOLDERS
        length = [] if {"--iterations", "--minutes", "--resume"} & set(arguments) else ["--iterations", "2"]
        usual = [*named, *sizes, *MACHINE, *length]
        pairs = zip(usual[::2], usual[1::2], strict=True)
        return ugatit("train", *(word for pair in pairs if pair[0] not in arguments for word in pair), *arguments)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of two steps, each with a checkpoint, and its pictures."""
    root = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(root):
        make_folders(Path(), 8, ("horses", "zebras"))
        arguments = ["train", *FOLDERS, *SIZES, *MACHINE, "--iterations", "2", "--checkpoint-every", "1"]
        result = typer.testing.CliRunner().invoke(app.app, arguments)
        assert result.exit_code == 0
    return root


@pytest.fixture
def trained(train: Train, finished: Path) -> Train:
    """`train` where the run is finished already."""
    shutil.copytree(finished / "runs", "runs")
    settings = Path(RUN, "config.toml")
    settings.write_text(settings.read_text().replace(str(finished), str(Path.cwd())))
    return train


def contents(folder: str) -> dict[str, str]:
    return {name: hashlib.sha256(Path(folder, name).read_bytes()).hexdigest() for name in below(folder)}


def test_a_run(train: Train, ugatit: Command) -> None:
    outcome = train("--iterations", "6", "--tensorboard")
    assert (outcome.code, outcome.lines, outcome.errors) == (0, [RUN], [])
    for words in (
        "horses <-> zebras: ugatit, light, 4 channels, 1 + 1 blocks, 32 px",
        "default recipe, batch size 4, 6 steps, ",
        "precision fp32\n",
        f"{RUN}: a new run\n",
        "horses: 8 pictures to train on, 0 held out, in memory",
        "step 1/6  17 %  warm-up  copy ",
        "step 6/6  100 %  cycle ",
        "Ctrl-C saves and stops; the same command goes on\n",
        f"{RUN}/samples/step_00000006.png\n",
        f"ugatit translate PICTURES --model {RUN} -o out/\n",
    ):
        assert words in outcome.stderr
    assert {"config.toml", "metrics.jsonl", "model/model.safetensors"} <= set(below(RUN))
    assert len(below(f"{RUN}/tensorboard")) == 1
    translated = ugatit("translate", "horses", "--model", RUN, "--device", "cpu", "-o", "out")
    assert (translated.code, len(below("out"))) == (0, 8)
    assert "(horses -> zebras)" in translated.stderr
    (document,) = train("--iterations", "6", "--json").documents  # of a run that is complete
    losses = document.pop("losses")
    assert document.pop("elapsed") > 0
    ended = {"status": "done", "exit": 0}
    assert document == ended | {"run": RUN, "model": f"{RUN}/model", "step": 6, "finished": True}
    assert {"cycle_a", "identity_b", "cam_a", "g_local_a", "d_global_b", "g_a", "d_b"} <= set(losses)
    assert not {"step", "elapsed", "learning_rate", "images_per_second"} & set(losses)


def test_one_folder_for_both(train: Train) -> None:
    make_folders(Path("cat2dog"), 8, ("trainA", "trainB"))
    make_folders(Path("cat2dog"), 8, ("testA", "other"))
    without = ("--data", "cat2dog", "--holdout", "off", "--dry-run")
    assert train(*without).code == 0  # it is about domain b
    Path("cat2dog/other").rename("cat2dog/testB")
    outcome = train(*without)
    assert (outcome.code, outcome.errors) == (2, ["--holdout contradicts testA and testB"])
    outcome = train("--data", "cat2dog")
    assert (outcome.code, outcome.lines) == (0, ["runs/cat2dog"])
    assert "cat: 8 pictures to train on, 8 held out" in outcome.stderr


def test_options_end_in_the_settings(train: Train, vgg: str) -> None:
    stated = {  # nothing of it is the default
        "holdout": "off", "checkpoint_every": "1", "sample_every": "5m", "keep": 7, "seed": 5,
        "checkpointing": False, "variant": "full", "image_size": 36, "channels": 8, "blocks": 2,
        "discriminator_channels": 6, "decoder_norm": "gn", "generator_cam": False, "discriminator_cam": False,
        "discriminators": "local", "batch_size": 2, "learning_rate": 0.01, "weight_decay": 0.5, "decay_from": 0.25,
        "adversarial_weight": 2.0, "cycle_weight": 3.0, "identity_weight": 4.0, "cam_weight": 6.0,
        "feature_weight": 0.5, "judge_weight": 0.7, "ema": 0.5,
        "power_iterations": "each-pass", "fit": "squash", "flip": False, "iterations": 9, "augment": "on",
        "warm_up": "7%",
    }  # fmt: skip
    options = [name for table in TABLES for name, f in table.items() if f.option]
    elsewhere = {"minutes", "start", "start_direction", "evaluate_every", "extractor", "features", "feature_layer"}
    of_others: dict[str, dict[str, Any]] = {
        "cyclegan": {"pool_size": 7},
        "cartoongan": {"content_weight": 7.0, "vgg": vgg},
        "unit": {"reconstruction_weight": 7.0, "kl_weight": 7.0},
        "munit": {"style_weight": 7.0},
        "aggan": {"attention_share": 0.5},
        "drit": {"style_way": "transform", "mode_seeking_weight": 7.0},
    }
    apart = {"cycle", *(name for values in of_others.values() for name in values)}
    assert set(options) == {*stated, *elsewhere, *apart, "name", "precision"}
    words = [word for name, value in stated.items() for word in as_option(name, value).split()]
    outcome = train(*words, "--domains", "pony,stripes", "--dry-run", "--json")
    assert outcome.code == 0, outcome.stderr
    document = outcome.documents[0]
    found = document["run"] | document["model"] | document["recipe"]
    assert {name: found[name] for name in stated} == stated
    assert (found["domain_a"], found["domain_b"]) == ("pony", "stripes")
    for name, values in of_others.items():
        words = [word for option, value in values.items() for word in as_option(option, value).split()]
        (document,) = train("--method", name, *words, "--dry-run", "--json").documents
        assert document["method"] == name
        assert (document["model"] | document["recipe"]).items() >= values.items()
    (document,) = train("--cycle", "joint", "--dry-run", "--json").documents
    assert (document["recipe"]["cycle"], document["recipe"]["judge_weight"]) == ("joint", 0)
    assert train("--cycle", "joint", "--judge-weight", "1", "--dry-run").code == 2


def test_a_dry_run_writes_nothing(train: Train) -> None:
    before = below(".")
    outcome = train("--dry-run", "--iterations", "10000")
    assert outcome.code == 0
    summary = outcome.lines
    assert re.match(r"time: about .* for 10000 steps ", summary[0])
    assert any(re.match(r"memory: \d", line) for line in summary)
    assert any("million parameters" in line for line in summary)
    assert len(summary) < 8
    assert "horses: 8 pictures to train on" in outcome.stderr
    text = train("--dry-run", "--iterations", "10000", "--verbose").stdout.decode()
    assert text.startswith("# time: ")
    document = tomllib.loads(text)
    assert (document["run"]["iterations"], document["model"]["channels"]) == (10000, 4)
    assert document["recipe"]["augment"] == "on"
    assert below(".") == before


def test_a_dry_run_of_a_run_that_goes_on(trained: Train) -> None:
    before = contents(".")
    outcome = trained("--resume", RUN, "--minutes", "30", "--dry-run")
    assert outcome.lines[0].startswith("time: 30 min, about ")
    (document,) = trained("--resume", RUN, "--iterations", "12", "--dry-run", "--json").documents
    estimate = document["estimate"]
    assert (document["run"]["iterations"], estimate["steps_left"]) == (12, 10)
    assert estimate["seconds_left"] == pytest.approx(10 / estimate["steps_per_second"])
    assert estimate["generator_parameters"] > 1000
    assert any("zebras: 8 pictures" in note for note in document["pictures"])
    assert contents(".") == before


def test_a_finished_run_is_left_alone(trained: Train) -> None:
    before = contents(RUN)
    for arguments in ((), ("--iterations", "1"), ("--resume", RUN), ("--resume", RUN, "-o", f"./{RUN}")):
        outcome = trained(*arguments)
        assert (outcome.code, outcome.lines) == (0, [RUN])
        assert f"{RUN}: complete after 2 steps\n" in outcome.stderr
        assert f"to train on: ugatit train --resume {RUN} --iterations 4\n" in outcome.stderr
        assert "Ctrl-C" not in outcome.stderr
    assert contents(RUN) == before


def test_a_run_that_took_longer_than_is_asked_for_goes_on_with_the_command_it_names(
    trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes_each = itertools.count(step=60.0)
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: next(minutes_each)))
    assert trained("--iterations", "4").code == 0
    run, outcome = RunFolder(Path(RUN)), trained("--resume", RUN, "--minutes", "1")
    (minutes,) = re.findall(rf"to train on: ugatit train --resume {RUN} --minutes (.*)\n", outcome.stderr)
    assert outcome.code == 0
    assert 60 * float(minutes) > run.state(run.latest() or 0)["elapsed"]


def test_a_time_that_is_over_before_the_first_step_is_no_error(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(step=3600.0)
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: next(hours)))
    outcome = train("--minutes", "1")
    assert outcome.code == 0
    assert "complete after 0 steps\n" in outcome.stderr


def test_the_second_signal_stops_at_once(trained: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "REPEATED_WITHIN", 0)

    def stepped(_: train_view.PlainWatch, report: StepReport) -> None:
        if report.step == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train_view.PlainWatch, "stepped", stepped)
    outcome = trained("--iterations", "9")
    assert (outcome.code, outcome.lines) == (130, [])
    assert outcome.errors == ["stopped at once; the last checkpoint is that of step 2"]
    assert f"--resume {RUN}\n" in outcome.stderr
    assert sorted(path.name for path in Path(RUN, "checkpoints").iterdir()) == ["step_00000001", "step_00000002"]


@pytest.mark.usefixtures("folders")
def test_signals_to_a_program() -> None:
    arguments = ("train", *FOLDERS, *SIZES, *MACHINE, "--iterations", "100000", "-o")
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    numbers = (signal.SIGINT, signal.SIGTERM)
    programs = [subprocess.Popen(command(*arguments, number.name), **pipes) for number in numbers]
    for number, run in zip(numbers, programs, strict=True):
        with run:
            assert run.stderr
            assert run.stdout
            next(line for line in run.stderr if line.startswith("step 1/"))
            run.send_signal(number)
            said = run.stderr.read()
            assert run.wait(60) == 130
            assert run.stdout.read() == f"{number.name}\n"
        assert "stopping: finishing this step and saving; Ctrl-C again stops at once\n" in said
        assert f"; everything is saved in {number.name}\n" in said
        assert "error" not in said
        assert said.endswith(f"Go on with the same command, or: ugatit train --resume {number.name}\n")
        assert "Traceback" not in said
        assert all(Path(path).exists() for path in re.findall(r"(?:samples|model): ([^\n,]+)", said))
        assert len(list(Path(number.name, "checkpoints").iterdir())) == 1


def test_pictures_that_moved(trained: Train) -> None:
    Path("horses").rename("ponies")
    moved = ("--domain-a", "ponies", "--domain-b", "zebras", "--iterations", "3")
    outcome = trained("-o", RUN, *moved)
    assert outcome.code == 2
    assert outcome.errors[0].startswith(f"{RUN} is a run with other pictures: ")
    assert f"--resume {RUN}" in outcome.stderr
    outcome = trained("--resume", RUN, "--iterations", "3")
    assert (outcome.code, "horses" in outcome.errors[0]) == (2, True)
    assert f"ugatit train --resume {RUN} A B\n" in outcome.stderr
    outcome = trained("--resume", RUN, *moved)
    assert (outcome.code, outcome.lines) == (0, [RUN])
    assert "horses <-> zebras" in outcome.stderr


@pytest.mark.parametrize("direction", ["a2b", "b2a"])
def test_from_a_model(train: Train, light: str, direction: str) -> None:
    still = ("--learning-rate", "0", "--iterations", "1")
    outcome = train("--from", light, "--from-direction", direction, *still)
    assert outcome.code == 0
    assert f"{RUN}: starts from the model {light}" in outcome.stderr
    assert ("(its b2a is our a2b)" in outcome.stderr) is (direction == "b2a")
    assert "without discriminators: new ones" in outcome.stderr
    theirs = load_file(Path(light, "model.safetensors"))
    other = {"a2b": direction, "b2a": "b2a" if direction == "a2b" else "a2b"}
    for name, tensor in load_file(f"{RUN}/model/model.safetensors").items():
        way, _, rest = name.partition(".")
        assert torch.equal(tensor, theirs[f"{other[way]}.{rest}"].float())
    again = train("--from", light, "--from-direction", direction, *still)
    assert (again.code, again.lines) == (0, [RUN])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--domain-a", "nowhere", "--domain-b", "zebras"), 2, "nowhere: there is no such folder"),
        (("--domain-a", "empty", "--domain-b", "zebras"), 4, "empty: no pictures"),
        (("--domain-a", "horses", "--domain-b", "horses/../horses"), 2, "the same folder as"),
        (("--domain-a", "horses"), 2, "--domain-b is missing"),
        (("--data", "one", "--domain-a", "horses"), 2, "--data contradicts --domain-a"),
        (("--iterations", "2", "--minutes", "2"), 2, "--iterations and --minutes contradict"),
        (("--workers", "-1"), 2, "--workers -1: unknown"),
        (("--domains", "x"), 2, "--domains x: names two domains"),
        (("--checkpoint-every", "soon"), 2, "--checkpoint-every soon: unknown"),
        (("--image-size", "30"), 2, "multiple of 4"),
        (("--learning-rate", "nan"), 2, "--learning-rate nan"),
        (("--from", "no-such-model"), 3, "no model 'no-such-model'"),
        (("--from-direction", "b2a"), 2, "--from-direction is about"),
        (("--resume", "nowhere"), 2, "nowhere: there is no run to go on with"),
        (("--resume", "one", "-o", "two"), 2, "--output two and --resume one are two runs"),
        (("-o", "one"), 2, "one: exists and is not a run folder"),
        (("-o", "one/0.png"), 2, "one/0.png: exists and is not a run folder"),
        (("-o", "one/0.png/run"), 1, "one/0.png/run: can't be written"),
    ],
)
def test_bad_input(train: Train, arguments: tuple[str, ...], code: int, words: str) -> None:
    make_folders(Path(), 1, ("one", "other"))
    Path("empty").mkdir()
    before = contents(".")
    outcome = train(*arguments)
    assert (outcome.code, outcome.lines, len(outcome.errors)) == (code, [], 1)
    assert words in outcome.errors[0]
    assert contents(".") == before
    found = train(*arguments, "--dry-run")
    assert (found.code, found.errors) == (code, outcome.errors)


def test_nothing_to_train_on(ugatit: Command) -> None:
    outcome = ugatit("train", "-o", "x")
    assert (outcome.code, outcome.errors) == (2, ["no pictures to train on"])
    assert "ugatit train A B" in outcome.stderr


def test_a_flipped_byte_in_a_checkpoint(trained: Train) -> None:
    path = Path(RUN, "checkpoints", "step_00000002", "optimizers.safetensors")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = contents(f"{RUN}/checkpoints")
    outcome = trained("--resume", RUN, "--iterations", "3")
    assert (outcome.code, outcome.lines, len(outcome.errors)) == (3, [], 1)
    assert str(path) in outcome.errors[0]
    assert f"Delete {path.parent} to go on from step 1." in outcome.stderr
    assert contents(f"{RUN}/checkpoints") == before


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.", ("memory", "--save-memory")),
        ("DataLoader worker (pid 9) is killed by signal: Killed. ", ("reads pictures", "fewer --workers")),
    ],
)
def test_too_little_memory(
    train: Train, monkeypatch: pytest.MonkeyPatch, message: str, words: tuple[str, str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(session.Prepared, "train", fail)
    outcome = train()
    assert (outcome.code, len(outcome.errors)) == (4, 1)
    assert words[0] in outcome.errors[0]
    assert words[1] in outcome.stderr


@pytest.mark.parametrize(
    ("a", "b", "names", "expected"),
    [
        ("horses", "zebras", None, "runs/horses2zebras"),
        ("x/my horses!", "y/zébras (new)", None, "runs/my-horses2zébras-new"),
        ("horse2zebra/trainA", "horse2zebra/trainB", None, "runs/horse2zebra"),
        ("my set/trainA", "my set/trainB", None, "runs/my-set"),
        ("x/cats", "y/Cats", None, "runs/A2B"),
        ("horses", "zebras", ("no", "yes"), "runs/no2yes"),
        ("!!!", "???", None, "runs/A2B"),
        pytest.param("h" * 50, "z" * 39 + " z", None, f"runs/{'h' * 40}2{'z' * 39}", id="characters"),
        pytest.param("𠀀" * 60, "𠀁" * 60, None, f"runs/{'𠀀' * 30}2{'𠀁' * 30}", id="bytes"),
    ],
)
def test_the_default_name_of_a_run(a: str, b: str, names: tuple[str, str] | None, expected: str) -> None:
    assert train_module.run_path(Asked(), Folders(Path(a).absolute(), Path(b).absolute()), names) == Path(expected)


def test_folders_are_absolute_and_text() -> None:
    found = train_module.find_folders(Asked(Path("a"), Path("~/b")))
    assert found == Folders(Path.cwd() / "a", Path.home() / "b")
    assert train_module.find_folders(Asked()) is None
    no_text = Path("x/\udce9")
    for asked in (Asked(no_text, Path("b")), Asked(Path("a"), no_text), Asked(data=str(no_text))):
        with pytest.raises(UsageError, match=r"\\udce9: the folder's name is not text"):
            train_module.find_folders(asked)


@pytest.mark.parametrize(
    ("resolved", "group", "device", "made_current"),
    [
        ("cuda:1", Group(), "cuda:1", "cuda:1"),
        ("cuda", Group(), "cuda", None),
        ("cuda", Group(3, 4, 1), "cuda:1", "cuda:1"),
        ("mps", Group(0, 2), "cpu", None),
        ("cpu", Group(0, 2), "cpu", None),
    ],
)
def test_devices(
    monkeypatch: pytest.MonkeyPatch, resolved: str, group: Group, device: str, made_current: str | None
) -> None:
    current: list[str] = []
    monkeypatch.setattr("ugatit_cli.device.resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(str(device)))
    assert train_module.device_for(resolved, group) == torch.device(device)
    assert current == ([] if made_current is None else [made_current])


@pytest.mark.usefixtures("folders")
def test_two_processes_speak_with_one_voice() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    train = command("train", *FOLDERS, *SIZES, *MACHINE, "--iterations", "2")
    done = subprocess.run([*launcher, *train], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, f"{RUN}\n")
    for words in ("2 processes, device cpu", "horses: 8 pictures", "step 2/2", "2 steps in"):
        assert done.stderr.count(words) == 1


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")


@pytest.mark.parametrize(
    ("group", "error", "seen", "code", "said"),
    [
        (Group(1, 2), UsageError("a"), typer.Exit, 2, ""),
        (Group(1, 2), Interrupted("b"), typer.Exit, 130, ""),
        (Group(1, 2), DataError("c"), typer.Exit, 4, "process 1: c\n"),
        (Group(1, 2), LOST, typer.Exit, 1, ""),
        (Group(1, 2), ZeroDivisionError(), ZeroDivisionError, None, ""),
        (Group(0, 2), LOST, TrainingError, 4, ""),
        (Group(), UgatitError("x"), UgatitError, 1, ""),
    ],
)
def test_which_process_speaks_of_an_error(
    capsys: pytest.CaptureFixture[str],
    group: Group,
    error: Exception,
    seen: type[Exception],
    code: int | None,
    said: str,
) -> None:
    with pytest.raises(seen) as caught, train_module.one_voice(group):
        raise error
    assert getattr(caught.value, "exit_code", None) == code
    assert capsys.readouterr().err == said


def model_config(run: str = RUN) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(Path(run, "model", "config.json").read_text())["model"]
    return config


def test_a_run_without_global_discriminators(train: Train, ugatit: Command) -> None:
    assert train("--discriminators", "local", "--iterations", "1").code == 0
    assert model_config()["discriminators"] == "local"
    put("in.png")
    outcome = ugatit("cam", "in.png", "--model", RUN, "--layout", "overlay", *MACHINE[:4])
    assert outcome.code == 0
    assert below("attention") == ["in.generator.png", "in.local.png"]
    assert "no global attention: it has local discriminators only" in outcome.stderr
    assert ugatit("cam", "in.png", "--model", RUN, "--maps", "global", *MACHINE[:4]).code == 3
    outcome = train("--from", RUN, "--discriminators", "both", "--iterations", "1", "-o", "both")
    assert outcome.code == 0, outcome.stderr
    assert "has local discriminators only: new global ones are trained as well" in outcome.stderr
    names = load_file("both/model/discriminators.safetensors")
    assert {name.split(".")[1] for name in names} == {"local", "global"}


def test_tensorboard_is_missing(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    outcome = train("--tensorboard")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert install_line("tensorboard") in outcome.stderr
    assert not Path("runs").exists()


def test_help(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = ugatit("train", "--help").stdout.decode()
    start, *_ = text.partition("Start:")[2].split("\n\n")
    assert re.findall(r"^  ([AB]|-.*?) ", start, re.MULTILINE)[:5] == ["A", "B", "--data", "--minutes", "-o,"]
    plain = " ".join(ugatit("train", "--help-all").stdout.decode().split())
    assert " --ema " not in text
    assert "--image-size" in text
    for words in ("[default: 0.999; paper: 0]", "[default: ugatit, or that of --from]", "--[no-]generator-cam "):
        assert words in plain


@pytest.mark.parametrize("name", METHODS)
def test_the_help_tells_the_defaults_of_each_method(ugatit: Command, name: str) -> None:
    text, made = " ".join(ugatit("train", "--help-all").stdout.decode().split()), method(name)
    fields = {key: field for key, field in fields_of(Recipe).items() if key in made.settings - TOLD_OTHERWISE}
    stated = [(field.flag, getattr(made.recipe(of), key)) for of in RECIPES for key, field in fields.items()]
    numbers = [(flag, value) for flag, value in stated if type(value) in (int, float) and f" {flag} " in text]
    assert len(numbers) > 10
    for flag, value in [*numbers, ("--blocks", made.config().blocks), ("--channels", made.config().channels)]:
        told = re.search(rf" {flag} .*?\[default: (.*?)\]", text)
        assert told is not None
        assert f"{value:g}" in re.findall(r"\d[\d.]*", told[1]), f"{flag} {value}"
    told = re.search(r" --iterations .*?\[default: (.*?)\]", text)
    assert told is not None
    assert str(made.recipe("paper").epochs or made.paper_iterations) in re.findall(r"\d+", told[1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a", "b", "--domain-a", "a"), "a: folders are named here, and by --domain-a"),
        (("a",), "a: training needs two folders"),
        (("a", "b", "--data", "c"), "--data contradicts A and B"),
        (("a", "b", "c"), "unexpected extra argument"),
    ],
)
def test_folders_are_named_once_by_place_or_by_options(ugatit: Command, words: tuple[str, ...], said: str) -> None:
    outcome = ugatit("train", *words)
    assert (outcome.code, said in outcome.stderr) == (2, True), outcome.stderr

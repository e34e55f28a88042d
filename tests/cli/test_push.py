"""`ugatit push`: onto a Hub on loopback and back, and what is said when it can't be."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import tomllib
import warnings
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from tests import tiny
from tests.cli.conftest import Command, Outcome, below, put
from tests.hub_api import Answer, Call
from tests.hub_client import environment
from tests.hub_server import HubServer
from tests.programs import command
from ugatit_cli.config import BaseConfig
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.manifest import read_manifest

REPO = "tester/flat2clay"
MODEL = ["config.json", "model.safetensors", "SHA256SUMS"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    tiny.save(tmp_path / "model", discriminators=True)
    return "model"


@pytest.fixture
def push(ugatit: Command, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`ugatit push` by somebody who is logged in; no output ever has the token."""
    monkeypatch.setenv("HF_TOKEN", hub.token)

    def run(*arguments: object) -> Outcome:
        outcome = ugatit("push", *arguments)
        assert hub.token not in outcome.stderr + outcome.stdout.decode()
        assert "internal error" not in outcome.stderr
        return outcome

    return run


def local(folder: str = "model") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def remote(hub: HubServer, repository: str = REPO) -> dict[str, bytes]:
    return {name: data for name, data in hub.files(repository).items() if name != ".gitattributes"}


# --- There and back --------------------------------------------------------------------------------------


def test_there_and_back(push: Command, ugatit: Command, hub: HubServer, model: str) -> None:
    outcome = push(model, REPO, "--licence", "MIT", "--data", "icons")
    assert outcome.code == 0
    held = remote(hub)
    assert sorted(held) == sorted([*MODEL, "README.md"])
    assert {name: held[name] for name in MODEL[:2]} == {name: local()[name] for name in MODEL[:2]}
    assert f"published: {hub.url}/{REPO}\n" in outcome.stderr
    assert f"ugatit translate PICTURES --model {REPO} -o out/" in outcome.stderr
    put("a.png")
    cpu = ("--device", "cpu", "--precision", "fp32")
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", REPO, *cpu).code == 0
    assert ugatit("translate", "a.png", "-o", "c.png", "--model", model, *cpu).code == 0
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()


def test_the_entry_for_a_manifest(push: Command, hub: HubServer, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put("model/samples.png")
    outcome = push(model, REPO, "--with-discriminators", "--description", "Icons", "--data", "icons")
    Path("weights.toml").write_text("schema = 1\n\n" + outcome.stdout.decode())
    entry = read_manifest(Path("weights.toml"))["flat2clay"]
    assert (entry.repository, entry.revision) == (REPO, hub.commits(REPO)[-1])
    assert (entry.description, entry.training_data, entry.licence) == ("Icons", "icons", "not stated")
    assert (entry.domains, entry.image_size) == (("flat", "clay"), 32)
    held = remote(hub)
    assert "| Discriminators | included, " in held["README.md"].decode()
    for name in ("samples.png", "SHA256SUMS"):  # which nobody needs to translate
        assert held.pop(name)
    assert {name: (record.size, record.sha256) for name, record in entry.files.items() if record} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in held.items()
    }
    monkeypatch.setenv("UGATIT_MANIFEST", "weights.toml")
    fetched = find_model("flat2clay")  # as the manifest has it, not the bundled one
    assert fetched.weights.read_bytes() == local()["model.safetensors"]
    assert fetched.discriminators is not None


def test_private(push: Command, hub: HubServer, model: str) -> None:
    assert push(model, REPO, "--private").code == 0
    assert push(model, "tester/open").code == 0
    assert hub.private == {REPO}
    assert push(model, REPO, "--private", "--licence", "mit").code == 0
    assert push(model, "tester/open", "--private", "--licence", "mit").code == 3
    assert len(hub.commits("tester/open")) == 2


# --- What is there already -------------------------------------------------------------------------------


def test_other_repositories_are_left_alone(push: Command, hub: HubServer, model: str) -> None:
    theirs = {"config.json": b'{"architectures": ["Bert"]}', "pytorch_model.bin": b"x", "README.md": b"# Theirs"}
    hub.add(REPO, theirs)
    outcome = push(model, REPO)
    assert (outcome.code, "--overwrite" in outcome.stderr) == (3, True)
    assert remote(hub) == theirs
    assert push(model, REPO, "--overwrite").code == 0
    assert remote(hub)["model.safetensors"] == local()["model.safetensors"]
    assert remote(hub)["pytorch_model.bin"] == b"x"


def test_discriminators_of_other_weights_are_removed(
    push: Command, hub: HubServer, model: str, tmp_path: Path
) -> None:
    tiny.save(tmp_path / "newer", dataclasses.replace(tiny.LIGHT, channels=8))
    hub.add(REPO, {"notes.txt": b"mine"} | local())
    kept = push(model, REPO)  # without discriminators, but they are those of these weights
    assert kept.code == 0
    assert "discriminators.safetensors" in remote(hub)
    assert "discriminators.safetensors" in push("newer", REPO).stderr
    assert sorted(remote(hub)) == sorted([*MODEL, "README.md", "notes.txt"])


# --- What goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("HF_HUB_OFFLINE", True, "HF_HUB_OFFLINE"),
        ("ENDPOINT", "nonsense", "HF_ENDPOINT"),
        ("", "", "logged in"),
        ("ENDPOINT", "https://huggingface.co", "UGATIT_MIRROR"),
    ],
)
def test_what_can_never_be_sent_is_found_first(
    push: Command, hub: HubServer, model: str, monkeypatch: pytest.MonkeyPatch, name: str, value: object, cause: str
) -> None:
    monkeypatch.setattr(constants, name, value) if name else monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("UGATIT_MIRROR", "http://127.0.0.1")  # which is for the real Hub alone
    outcome = push(model, REPO)
    assert outcome.code == 3
    assert cause in outcome.errors[0]
    assert "publishing" not in outcome.stderr
    assert hub.requests == []


def test_sigterm_is_heard_once(push: Command, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = []

    def ended(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # as schedulers do
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", ended)
    outcome = push(model, REPO)
    assert outcome.code == 130
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_the_weights_are_sent(
    hub: HubServer, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    arrived, answer = threading.Event(), hub.answer

    def stall(call: Call) -> Answer:
        if call.method == "PUT":
            arrived.set()
            hub.stopping.wait()
        return answer(call)

    monkeypatch.setattr(hub, "answer", stall)
    (tmp_path / "tmp").mkdir()
    variables = environment(hub.serve(), tmp_path, HF_TOKEN=hub.token, TMPDIR=str(tmp_path / "tmp"))
    process = subprocess.Popen(
        command("push", model, REPO), env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert arrived.wait(60)
        assert below("tmp") != []
        process.send_signal(number)
        try:
            output, said = process.communicate(timeout=60)
        finally:
            process.kill()  # or leaving it would wait for ever
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in said
    assert list(Path("tmp").iterdir()) == []


# --- What the client says --------------------------------------------------------------------------------


def test_the_client_is_quiet(push: Command, model: str, caplog: pytest.LogCaptureFixture) -> None:
    first, again = push(model, REPO), push(model, REPO)  # of which the client would warn that nothing is new
    assert caplog.records == []
    assert not are_progress_bars_disabled()
    assert "%" not in first.stderr + again.stderr
    assert len(again.stderr.splitlines()) == 5
    assert again.stdout == first.stdout


def test_warnings_of_the_hub_about_the_card(push: Command, hub: HubServer, model: str) -> None:
    Path(model, "README.md").write_text("# Mine\n")
    with warnings.catch_warnings(record=True) as leaked:
        outcome = push(model, REPO, "--licence", "mit")
    assert leaked == []
    assert outcome.code == 0
    assert "empty or missing yaml metadata" in outcome.stderr  # as the Hub says
    assert "--licence" in outcome.stderr
    assert remote(hub)["README.md"] == b"# Mine\n"
    assert tomllib.loads(outcome.stdout.decode())["models"]["flat2clay"]["licence"] == "mit"


# --- What to do with the entry ---------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "there"), [("config/ugatit/weights.toml", False), ("mine.toml", True)])
def test_where_the_entry_belongs(
    push: Command, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, there: bool
) -> None:
    if there:
        monkeypatch.setenv("UGATIT_MANIFEST", str(tmp_path / path))
        (tmp_path / path).write_text("schema = 1\n")
    told = push(f"./{model}", REPO).stderr
    assert str(tmp_path / path) in told
    assert ("schema = 2" in told) == (not there)
    assert "bundled model flat2clay" in told
    assert "bundled" not in push(model, "tester/mine").stderr


# --- Dry runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [tiny.CYCLEGAN, tiny.CARTOONGAN, tiny.ONE_WAY], ids=lambda one: one.method)
def test_models_of_every_kind(push: Command, ugatit: Command, hub: HubServer, config: BaseConfig) -> None:
    """Other methods, and one way: published, described, fetched again."""
    tiny.save(Path("model"), config, discriminators=True)
    outcome = push("model", "tester/kind", "--with-discriminators")
    assert outcome.code == 0
    held = remote(hub, "tester/kind")
    assert {name: held.pop(name) for name in local()} == local()
    (card,) = held.values()
    title = "flat ↔ clay" if config.ways == "both" else "flat → clay"
    assert f"# {title}\n".encode() in card
    entry = tomllib.loads(outcome.stdout.decode())["models"]["kind"]
    assert entry["description"] == ("flat to clay, and back" if config.ways == "both" else "flat to clay")
    put("a.png")
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", "tester/kind", "--device", "cpu").code == 0


def test_a_dry_run(push: Command, hub: HubServer, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    before = local()
    outcome = push(model, REPO, "--dry-run", "--licence", "mit")
    assert outcome.code == 0
    assert outcome.lines == [str(Path("flat2clay").absolute())]
    assert sorted(local("flat2clay")) == sorted([*MODEL, "README.md"])
    assert local("flat2clay")["model.safetensors"] == before["model.safetensors"]
    assert not Path("flat2clay/model.safetensors").samefile("model/model.safetensors")
    assert f"{hub.url}/{REPO}" in outcome.stderr
    assert re.search(r"^  model.safetensors  [\d.]+ kB$", outcome.stderr, re.MULTILINE)
    assert hub.requests == []
    assert local() == before
    assert open_model(Path("flat2clay")).discriminators is None


def test_the_command_after_a_dry_run_says_all_that_was_said(push: Command, hub: HubServer, model: str) -> None:
    said = ("--licence", "MIT", "--data", "Ada's icons & more 👨‍👩‍👧", "--description", "Icons, $HOME made")
    told = push(model, REPO, "--dry-run", "-o", "a look", "--private", "--overwrite", *said).stderr
    line = told.partition("then: ugatit push ")[2].splitlines()[0]
    arguments = shlex.split(line)
    switches = ["--private", "--overwrite"]
    assert arguments == [str(Path("a look").absolute()), REPO, *switches, said[0], "mit", *said[2:]]
    outcome = push(*arguments)
    assert outcome.code == 0
    assert remote(hub) == local("a look")
    entry = tomllib.loads(outcome.stdout.decode())["models"]["flat2clay"]
    assert (entry["licence"], entry["training_data"], entry["description"]) == ("mit", said[3], said[5])


def test_a_dry_run_replaces_only_models(push: Command, model: str) -> None:
    put("pictures/a.png")
    outcome = push(model, REPO, "--dry-run", "--to", "pictures", "--overwrite", "--samples", "missing.png")
    assert (outcome.code, "pictures: " in outcome.errors[0]) == (2, True)  # which is looked at first
    assert below("pictures") == ["a.png"]
    look = ("--dry-run", "--output", "look")
    assert [push(model, REPO, *look).code, push(model, REPO, *look).code] == [0, 2]
    assert push(model, REPO, *look, "--licence", "mit", "--overwrite").code == 0
    assert b"license: mit" in local("look")["README.md"]
    before = local()
    assert push(model, "tester/model", "--dry-run", "--overwrite").code == 2  # the model itself
    assert local() == before
    outcome = push(model, REPO, "--dry-run", "--to", "pictures/a.png/look")
    assert (outcome.code, "pictures/a.png" in outcome.errors[0]) == (1, True)


# --- Usage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("flat2clay",), "'flat2clay'"),
        ((f"{REPO}@v1",), f"{REPO}@v1"),
        ((REPO, "--output", "look"), "--output"),
        ((REPO, "--licence", "All Rights Reserved"), "--licence"),
        ((REPO, "--licence", "[mit]"), "[mit]"),
        ((REPO, "--licence", ""), "--licence"),
        ((REPO, "--data", " "), "--data"),
        ((REPO, "--description", "a\nb"), "--description"),
    ],
)
def test_wrong_usage(push: Command, hub: HubServer, model: str, arguments: tuple[str, ...], named: str) -> None:
    outcome = push(model, *arguments)
    assert outcome.code == 2
    assert named in outcome.errors[0]
    assert hub.requests == []


def test_models_that_are_not_there(push: Command, hub: HubServer, model: str) -> None:
    assert push("nothing", REPO).code == 3
    Path(model, "discriminators.safetensors").unlink()
    outcome = push(model, REPO, "--with-discriminators")
    assert outcome.code == 3
    assert "model: " in outcome.errors[0]
    assert push(model, REPO, "--samples", "missing.png").code == 1
    assert hub.requests == []
    config = json.loads(Path(model, "config.json").read_text())
    Path(model, "config.json").write_text(json.dumps(config | {"format": 99}))
    assert push(model, REPO).code == 3

"""`ugatit fetch`, and models that other commands fetch: from a Hub on loopback, with all that can go wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Command, program, put
from tests.fetched import contents
from tests.hub_client import environment
from tests.hub_server import Fault, HubServer
from tests.programs import command
from ugatit_cli.weights.home import store_path

CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def commit(hub: HubServer, model: Path) -> str:
    return hub.add("me/clay", model)


def test_fetch_then_translate(ugatit: Command, hub: HubServer, commit: str, model: Path) -> None:
    outcome = ugatit("fetch", "me/clay")
    assert outcome.code == 0
    (path,) = outcome.lines
    assert contents(Path(path)) == contents(model)
    assert f"fetching me/clay at {commit[:12]}" in outcome.stderr
    assert "flat <-> clay: ugatit, light, 4 channels, 1 + 1 blocks, 32 px" in outcome.stderr
    assert "translate with: ugatit translate PICTURES --model me/clay -o out/" in outcome.stderr
    asked = len(hub.requests)
    put("a.png")
    for output, name in (("b.png", "me/clay"), ("c.png", str(model))):
        assert ugatit("translate", "a.png", "-o", output, "--model", name, "--to", "flat", *CPU).code == 0
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()
    assert len(hub.requests) == asked
    for force in ([], ["--force"]):
        outcome = ugatit("fetch", "me/clay", "-o", "models/clay", *force)
        assert (outcome.code, outcome.lines) == (0, ["models/clay"])
        assert contents(Path("models/clay")).items() > contents(model).items()
        assert not any(path.is_symlink() for path in Path("models/clay").iterdir())
    assert ugatit("fetch", "me/clay", "-o", "models/clay").code == 2  # as of any result that exists


@pytest.mark.usefixtures("hub")
def test_train_starts_from_a_hub_model(ugatit: Command, commit: str) -> None:
    put(*(f"{domain}/{index}.png" for domain in "ab" for index in range(8)))
    options = "--domain-a a --domain-b b --iterations 1 --holdout 0 --device cpu -o run --from me/clay"
    outcome = ugatit("train", *options.split())
    assert outcome.code == 0, outcome.stderr
    assert f"fetching me/clay at {commit[:12]}" in outcome.stderr
    assert json.loads(Path("run/model/config.json").read_text())["provenance"]["started from"] == "me/clay"


@pytest.mark.usefixtures("commit")
def test_a_dry_run(ugatit: Command, hub: HubServer, model: Path) -> None:
    def states(*options: str) -> dict[str, str]:
        rows = [line.split("\t") for line in ugatit("fetch", "me/clay", "--dry-run", *options).lines]
        return {name: state for name, _, state in rows}

    names = ("config.json", "model.safetensors", "discriminators.safetensors")
    assert states() == dict.fromkeys(names, "to download")
    assert ugatit("fetch", "me/clay", "--dry-run", "--to", model).code == 2
    assert hub.bytes_sent() == 0
    ugatit("fetch", "me/clay")
    assert states() == dict.fromkeys(names, "here already")
    assert states("--force") == dict.fromkeys(names, "to download")
    assert "to download: 0 B" in ugatit("fetch", "me/clay", "--dry-run").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("fetch", "me/nothing"), 3, "has no repository me/nothing, or not for you"),
        (("fetch", "flat2cley"), 3, "no model 'flat2cley'"),
        (("fetch", "photo2portrait"), 3, "nobody has published weights of photo2portrait"),
        (("fetch", ""), 2, "the model has no name"),
        (("fetch", "me/clay", "--from-file", "x"), 2, "--from-file doesn't go with me/clay"),
        (("fetch", "selfie2anime-full", "--from-file", "x"), 3, "x: no such file or folder"),
        (("fetch", "selfie2anime-full", "--from-file", "x", "--dry-run"), 2, "contradict"),
        (("translate", "a.png", "-o", "b.png", "--model", "me/nothing"), 3, "no folder me/nothing here; http"),
        (("translate", "a.png", "-o", "b.png", "--model", "photo2portrait"), 3, "nobody has published"),
    ],
)
@pytest.mark.usefixtures("commit")
def test_what_cannot_be_fetched(ugatit: Command, arguments: tuple[str, ...], code: int, text: str) -> None:
    put("a.png")
    outcome = ugatit(*arguments)
    assert outcome.code == code
    assert len(outcome.errors) == 1
    assert text in outcome.errors[0]
    assert outcome.lines == []


@pytest.mark.usefixtures("commit")
def test_a_private_model(ugatit: Command, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.private.add("me/clay")
    outcome = ugatit("fetch", "me/clay")
    assert outcome.code == 3
    assert "log in with `hf auth login` or set HF_TOKEN" in outcome.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    outcome = ugatit("fetch", "me/clay")
    assert outcome.code == 3
    assert "xxxx" not in outcome.stderr
    monkeypatch.setenv("HF_TOKEN", hub.token)
    outcome = ugatit("fetch", "me/clay")
    assert outcome.code == 0
    elsewhere = [request for request in hub.requests if request.path.startswith("/cdn/")]
    assert elsewhere
    assert not any("authorization" in request.headers for request in elsewhere)


def test_an_import_from_the_users_disk(ugatit: Command, golden: Path) -> None:
    folder = golden / "tf" / "UGATIT_tf_full_ch8_32_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing"
    outcome = ugatit("fetch", "selfie2anime-full", "--from-file", folder)
    assert (outcome.code, outcome.lines) == (0, [str(store_path("selfie2anime-full"))])
    assert "selfie <-> anime: ugatit, full, 8 channels, 4 + 4 blocks, 32 px" in outcome.stderr
    put("a.png")
    assert ugatit("translate", "a.png", "-o", "b.png", "--model", "selfie2anime-full", *CPU).code == 0


@pytest.mark.usefixtures("commit")
def test_an_interrupt(ugatit: Command, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hub.fault(Fault("cut", after=2000, times=1))
    with monkeypatch.context() as patched:
        patched.setattr("ugatit_cli.remote.patience.time.sleep", interrupt)
        outcome = ugatit("fetch", "me/clay")
    assert outcome.code == 130
    assert outcome.errors == ["interrupted; what has arrived is kept"]
    outcome = ugatit("fetch", "me/clay")
    assert outcome.code == 0
    assert "model.safetensors: goes on at 2.0 kB" in outcome.stderr


@pytest.fixture
def elsewhere(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a program of its own, with an empty cache."""
    return environment(hub.serve(), tmp_path / "elsewhere") | {"PYTHONPATH": os.environ["PYTHONPATH"]}


@pytest.mark.usefixtures("commit")
@pytest.mark.slow
def test_as_programs_with_real_settings(hub: HubServer, elsewhere: dict[str, str]) -> None:
    """An empty cache, `HF_ENDPOINT`; then without the server and `HF_HUB_OFFLINE`."""
    put("a.png")
    translate = ("translate", "a.png", "--model", "me/clay", *CPU, "-o")
    assert program(*translate, "b.png", env=elsewhere).code == 0
    hub.stop()
    offline = elsewhere | {"HF_HUB_OFFLINE": "1"}
    assert program(*translate, "c.png", env=offline).code == 0
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()


@pytest.mark.slow
def test_three_processes_fetch_one_model(hub: HubServer, model: Path, elsewhere: dict[str, str]) -> None:
    hub.add("me/clay", model)
    hub.fault(Fault("drip", after=0, delay=0.02, chunk=2000))  # slow enough that they meet
    running = [
        subprocess.Popen(command("fetch", "me/clay"), env=elsewhere, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=200) for process in running]
    assert [process.returncode for process in running] == [0] * 3, outputs
    assert len({output for output, _ in outputs}) == 1
    assert hub.bytes_sent() == sum(len(data) for data in contents(model).values())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_fetch_goes_on(
    hub: HubServer, model: Path, elsewhere: dict[str, str], number: signal.Signals
) -> None:
    hub.add("me/clay", model)
    size = (model / "model.safetensors").stat().st_size
    hub.fault(Fault("stall", after=size // 2))
    cache = Path(elsewhere["HF_HUB_CACHE"])
    with subprocess.Popen(command("fetch", "me/clay"), env=elsewhere, stderr=subprocess.PIPE) as process:
        arrived = 0
        while arrived < size // 2:
            assert process.poll() is None
            with contextlib.suppress(FileNotFoundError):  # of another file that has just become complete
                arrived = sum(path.stat().st_size for path in cache.rglob("*.incomplete"))
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    hub.heal()
    outcome = program("fetch", "me/clay", env=elsewhere)
    assert outcome.code == 0, outcome.stderr
    assert contents(Path(outcome.lines[0])) == contents(model)
    assert hub.bytes_sent("model.safetensors") == size

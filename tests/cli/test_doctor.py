"""`ugatit doctor`: all facts, no secrets, no traceback, whatever is broken."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Command, Outcome, program
from tests.programs import genuine
from ugatit_cli.errors import EXTRAS
from ugatit_cli.health import machine, network, trial, versions


@pytest.fixture
def checkup(ugatit: Command, light: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`ugatit doctor` with a tiny model."""
    monkeypatch.setattr(trial, "DEFAULT_MODEL", light)
    monkeypatch.setattr(trial, "LONG_ENOUGH", 0)
    return lambda *arguments: ugatit("doctor", "--offline", *arguments)


def found(outcome: Outcome) -> dict[str, dict[str, Any]]:
    document = json.loads(outcome.stdout)
    assert document["exit"] == outcome.code
    return {f"{one['section']}: {one['name']}": one for one in document["findings"]}


def test_what_there_is_in_words_and_for_programs(checkup: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:verysecret@proxy:3128")
    said = checkup()
    assert said.code == 0
    told = checkup("--json")
    assert told.code == 0
    assert "verysecret" not in (said.stdout + told.stdout).decode() + said.stderr
    facts = found(told)
    for one in facts.values():
        assert one["name"] in said.stdout.decode()
    assert facts["Versions: torch"]["text"] == torch.__version__
    assert {name for name in facts if name.startswith("Optional")} == {f"Optional parts: {name}" for name in EXTRAS}
    assert facts["Network: network"]["facts"] == {"asked": False}
    assert facts["Self-test: cpu fp32"]["facts"]["runs"]
    assert facts["Self-test: cpu bf16"]["facts"]["psnr"] > trial.LEAST_PSNR
    assert facts["Folders: home"]["facts"]["writable"]
    assert not Path(os.environ["UGATIT_HOME"]).exists()


def test_a_broken_library_is_a_finding(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "torch" / "__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("raise OSError('libtorch_cpu.so: cannot open shared object file')")
    paths = os.pathsep.join([str(broken.parents[1]), os.environ["PYTHONPATH"]])
    environment = {**os.environ, "PYTHONPATH": paths}
    outcome = program("doctor", "--offline", "--json", start=genuine, env=environment)
    assert outcome.code == 1
    assert json.loads(outcome.stdout)["code"] == "installation-broken"
    assert "Traceback" not in outcome.stderr
    facts = found(outcome)
    assert "libtorch_cpu.so" in facts["Versions: torch"]["text"]
    assert facts["Versions: torch"]["hint"].startswith("pip install")
    assert facts["Self-test: picture"]["level"] == "problem"
    assert facts["Memory: memory"]["facts"]["total"] is None or facts["Memory: memory"]["facts"]["total"] > 0


def test_another_picture_is_a_problem(checkup: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trial._translated

    def wrong(device: str, precision: str) -> tuple[Any, float]:
        result, seconds = real(device, precision)
        return (result if precision == "fp32" else 255 - result), seconds

    monkeypatch.setattr(trial, "_translated", wrong)
    outcome = checkup()
    assert outcome.code == 1
    assert outcome.errors == ["ugatit doesn't work here: cpu bf16"]
    assert any(line.startswith("! cpu bf16") for line in outcome.lines)


def test_a_check_that_fails_is_a_finding(checkup: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "devices", lambda: 1 / 0)
    outcome = checkup("--json")
    assert outcome.code == 0
    assert "ZeroDivisionError" in found(outcome)["Devices: devices"]["text"]
    assert "Self-test: cpu fp32" in found(outcome)


@pytest.mark.parametrize(
    ("torch", "torchvision", "wanted"),
    [
        ("2.6.0", "0.21.0", ""), ("2.11.0+cu130", "0.26.1", ""), ("2.14.1", "0.29.1+cpu", ""), ("3.0.0", "1.0.0", ""),
        ("2.14.1", "0.28.0", "0.29.*"), ("2.6.0", "0.20.1", "0.21.*"), (None, "0.20.1", ""),
    ],
)  # fmt: skip
def test_pairs_that_go_together(torch: str | None, torchvision: str, wanted: str) -> None:
    problems = list(versions.mismatches(torch, torchvision))
    assert [one.level for one in problems] == ["problem"] * bool(wanted)
    assert all(wanted in one.hint for one in problems)


@pytest.mark.parametrize(
    ("own", "files", "memory", "cores"),
    [
        ("0::/jobs/7\n", {"jobs/7/memory.max": "8000000000", "jobs/7/cpu.max": "150000 100000"}, 8 * 10**9, 1.5),
        ("0::/\n", {"memory.max": "max", "cpu.max": "max 100000"}, None, None),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "1000"}, 1000, None),
        ("4:memory:/docker/1\n", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, None, None),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    files: dict[str, str],
    memory: int | None,
    cores: float | None,
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")
    assert (machine.memory_limit(), machine.cpu_limit()) == (memory, cores)


@contextlib.contextmanager
def answering() -> Iterator[str]:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"


def test_a_server_that_answers_and_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with answering() as address:
        assert network.asked("Hub", address).facts["reached"] is True
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens to nobody
        nobody = network.asked("PyPI", f"http://ann:secret@127.0.0.1:{taken.getsockname()[1]}/simple")
    assert (nobody.level, nobody.facts["reached"]) == ("note", False)
    assert "secret" not in nobody.text

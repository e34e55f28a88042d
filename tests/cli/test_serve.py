"""`ugatit serve`: where it listens, who may come, and how it ends."""

from __future__ import annotations

import http.client
import importlib.util
import json
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import Command, Outcome, encoded
from tests.serving.command import Visit, visited
from ugatit_cli.cli import console, serve
from ugatit_cli.serving import server


@pytest.fixture
def serving(ugatit: Command, light: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Outcome, Any]]:
    """Serves a tiny model until somebody has visited the address that it says; with what the visit gives."""

    def run(visit: Visit, *arguments: object, ending: int = signal.SIGINT) -> tuple[Outcome, Any]:
        defaults = ["--model", light, "--port", 0, "--device", "cpu", "--precision", "fp32"]
        return visited(ugatit, monkeypatch, visit, *defaults, *arguments, ending=ending)

    return run


def asked(url: str, method: str, path: str, body: bytes | None = None, /, **headers: str) -> tuple[int, bytes]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 0, timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_its_address_is_the_result_and_a_signal_ends_it(serving: Any, ending: int) -> None:
    outcome, (status, data) = serving(lambda url: asked(url, "POST", "/translate", encoded()), ending=ending)
    assert (status, data[:8]) == (200, b"\x89PNG\r\n\x1a\n")
    assert (outcome.code, outcome.errors) == (130, [])
    (url,) = outcome.lines
    assert url.startswith("http://127.0.0.1:")
    assert "finishing what is in progress" in outcome.stderr
    with socket.socket() as free:  # nobody listens there any more
        assert free.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) != 0


def test_other_addresses_need_a_token_which_the_link_has(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_outward", lambda: "127.0.0.1")

    def visit(url: str) -> list[int]:
        token = urlsplit(url).fragment.removeprefix("token=")
        with_it = {"Authorization": f"Bearer {token}"}
        return [len(token), asked(url, "GET", "/models")[0], asked(url, "GET", "/models", **with_it)[0]]

    outcome, (length, without, within) = serving(visit, "--host", "0.0.0.0")
    assert length >= 32
    assert (without, within) == (401, 200)
    assert "token" in outcome.stderr


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_token_of_ones_own_is_never_shown(serving: Any, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "correct-horse-battery"
    if by == "variable":
        monkeypatch.setenv(serve.TOKEN, token)

    def visit(url: str) -> list[int]:
        return [asked(url, "GET", "/models", **more)[0] for more in ({}, {"Authorization": f"Bearer {token}"})]

    outcome, statuses = serving(visit, *(["--token", token] if by == "option" else []))
    assert statuses == [401, 200]
    assert token not in outcome.stdout.decode() + outcome.stderr


def test_the_browser_opens_the_address(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    told = threading.Event()

    def opens(url: str) -> bool:
        opened.append(url)
        return False

    def note(text: str) -> None:
        plain(text)
        if "yourself" in text:
            told.set()

    plain = console.note
    monkeypatch.setattr(webbrowser, "open", opens)
    monkeypatch.setattr(console, "note", note)
    outcome, _ = serving(lambda _: told.wait(60), "--open")
    assert opened == outcome.lines
    assert "open the address yourself" in outcome.stderr


def test_without_a_name_all_models_that_are_here(serving: Any, light: str) -> None:
    _, (_, data) = serving(lambda url: asked(url, "GET", "/models"), "--model", "flat2clay", "--model", light)
    assert [one["name"] for one in json.loads(data)["models"]] == [light, "flat2clay"]
    assert [one.name for one in serve._models([])] == ["ink2clay", "flat2clay"]


def test_a_port_that_is_in_use(ugatit: Command, light: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = ugatit("serve", "--model", light, "--port", port)
    assert outcome.code == 2
    assert outcome.errors == [f"--port {port} is in use at 127.0.0.1"]
    assert "--port 0" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--host", "192.0.2.7"], 2, "--host 192.0.2.7"),
        (["--host", "no such name"], 2, "--host no such name"),
        (["--token", "short"], 2, "--token"),
        (["--token", "with a space in it"], 2, "--token"),
        (["--max-pixels", "many"], 2, "--max-pixels"),
        (["--model", "selfie2anime"], 3, "selfie2anime is not on this machine"),
        (["--model", "nobody-knows"], 3, "nobody-knows"),
    ],
)
def test_what_makes_no_sense(ugatit: Command, arguments: list[str], code: int, words: str) -> None:
    outcome = ugatit("serve", "--port", 0, *arguments)
    assert outcome.code == code
    assert words in outcome.errors[0]
    assert outcome.stdout == b""


def test_without_its_packages_it_names_the_line(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else original(name))
    outcome = ugatit("serve")
    assert outcome.code == 2
    assert "pip install fastapi uvicorn python-multipart" in outcome.stderr


def test_a_damaged_model_is_named(ugatit: Command, light: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "model.safetensors"):
        (broken / name).write_bytes(Path(light, name).read_bytes()[:200])
    outcome = ugatit("serve", "--model", broken)
    assert outcome.code == 3
    assert "broken is damaged" in outcome.errors[0]

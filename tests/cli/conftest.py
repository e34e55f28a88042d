"""The command line in this process, and as a program of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.programs import command
from ugatit_cli import __main__, load
from ugatit_cli.cli import console
from ugatit_cli.pictures.sources import RECORD
from ugatit_cli.translation.model import Model

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What became of a command."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode().splitlines()

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What is said of each input in JSON, or else all that is."""
        found = [json.loads(line) for line in self.lines]
        return [one for one in found if "input" in one] or found

    @property
    def ending(self) -> dict[str, Any]:
        """The last line of JSON: how it ended."""
        found: dict[str, Any] = json.loads(self.lines[-1])
        return found

    @property
    def errors(self) -> list[str]:
        prefix = "error: "
        return [line.removeprefix(prefix) for line in self.stderr.splitlines() if line.startswith(prefix)]


Command = Callable[..., Outcome]


class Stdin(io.TextIOWrapper):
    """Standard input with these bytes; `typed` on a terminal."""

    def __init__(self, data: bytes, *, typed: bool) -> None:
        super().__init__(io.BytesIO(data))
        self.typed = typed

    def isatty(self) -> bool:
        return self.typed


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, an empty model store, and none of the developer's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / ".ugatit"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("UGATIT_DEBUG", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("light") / "tiny"))


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("full") / "tiny", tiny.FULL))


@pytest.fixture
def ugatit(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Runs a command in this process."""

    def run(*arguments: object, stdin: bytes = b"", typed: bool = False) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ugatit", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", Stdin(stdin, typed=typed))
        capsysbinary.readouterr()
        code: object = 0
        before = signal.getsignal(signal.SIGINT)
        try:
            __main__.main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            signal.signal(signal.SIGINT, before)  # which pytest needs
        output = capsysbinary.readouterr()
        assert isinstance(code, int)
        return Outcome(code, output.out, output.err.decode())

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list to set it; that of other threads, as of servers, goes on."""
    now, real, own = [1000.0], time.monotonic, threading.get_ident()
    monkeypatch.setattr(time, "monotonic", lambda: now[0] if threading.get_ident() == own else real())
    return now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What appears on a terminal of 80 columns."""
    screen = io.StringIO()
    stderr = console.screen(file=screen, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(console, "stderr", lambda: stderr)
    return screen


@pytest.fixture
def translate(ugatit: Command, light: str) -> Command:
    """`ugatit translate` with a tiny model."""

    def run(*arguments: object, **stdin: Any) -> Outcome:
        defaults = {"--model": light, "--device": "cpu", "--precision": "fp32"}
        options = [text for name in defaults if name not in arguments for text in (name, defaults[name])]
        return ugatit("translate", *options, *arguments, **stdin)

    return run


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with discriminators."""
    return str(tiny.save(tmp_path_factory.mktemp("judged") / "tiny", discriminators=True))


@pytest.fixture
def cam(ugatit: Command, judged: str) -> Command:
    """`ugatit cam` with a tiny model that has discriminators."""

    def run(*arguments: object, model: str = judged, **stdin: Any) -> Outcome:
        return ugatit("cam", "--model", model, "--device", "cpu", "--precision", "fp32", *arguments, **stdin)

    return run


@pytest.fixture
def network(judged: str) -> Model:
    """The same model by the API."""
    return load(judged, device="cpu", precision="fp32")


def program(
    *arguments: object, stdin: bytes = b"", start: Callable[..., list[str]] = command, **options: Any
) -> Outcome:
    """Runs a command as a program of its own."""
    done = subprocess.run(start(*arguments), input=stdin, capture_output=True, timeout=100, check=False, **options)
    return Outcome(done.returncode, done.stdout, done.stderr.decode(errors="surrogateescape"))


def picture(width: int = 24, height: int = 20, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(format: str = "PNG", size: tuple[int, int] = (24, 20), **options: object) -> bytes:
    buffer = io.BytesIO()
    picture(*size).save(buffer, format, **options)
    return buffer.getvalue()


def put(*names: str) -> None:
    """Saves a picture of its own under each name."""
    for index, name in enumerate(names):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed=index).save(path)


def below(folder: str | os.PathLike[str]) -> list[str]:
    """All files below a folder, hidden and temporary ones too, but for the record of sources."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != RECORD]
    return sorted(path.relative_to(folder).as_posix() for path in files)

"""A few broken files of each kind end in words: no traceback, no hang, little memory, and nothing of theirs runs.

`python -m tests.fuzz --count 10000` tries more.
"""

from __future__ import annotations

import itertools
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import TARGETS, harness
from tests.fuzz.harness import Target, case, command, fuzz
from ugatit_cli.errors import ModelError
from ugatit_cli.weights import catalog

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs what only POSIX has")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as the commands have it
@pytest.mark.parametrize("name", TARGETS)
def test_broken_files(name: str, tmp_path: Path) -> None:
    report = fuzz(TARGETS[name], tmp_path, range(TARGETS[name].few))
    assert report.faults == {}
    assert report.outcomes.total() == TARGETS[name].few


def hang() -> None:
    for _ in itertools.count():
        pass


def internal_error() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "catalog", lambda: 1 / 0)
        command("models")


FAULTS: dict[str, Callable[[], object]] = {
    "ZeroDivisionError": lambda: 1 / 0,
    "internal error": internal_error,
    "Hang": hang,
    "os.system": lambda: os.system("true"),
    "subprocess.Popen": lambda: subprocess.run([sys.executable, "--version"], stdout=subprocess.DEVNULL, check=True),
    "socket.getaddrinfo": lambda: socket.getaddrinfo("localhost", 80),
    "pickle.find_class": lambda: pickle.loads(pickle.dumps(Path)),
}


def doing(what: Callable[[], object]) -> Target:
    """What only broken files bring about."""
    return Target(lambda _: [b"good" * 9], lambda _, content: what() if content != b"good" * 9 else None)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SECONDS", 0.2)
    report = fuzz(doing(FAULTS[fault]), tmp_path, [7])
    text, content = report.faults[7]
    assert fault in text
    assert content == case(doing(hang), [b"good" * 9], 0, 7)


def test_memory_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = itertools.chain([0, 1000], itertools.repeat(harness.BYTES + 1))
    monkeypatch.setattr(harness, "_memory", lambda: next(taken))
    assert list(fuzz(doing(lambda: None), tmp_path, range(4)).faults) == [1]


def test_what_is_refused_is_no_fault(tmp_path: Path) -> None:
    def refuse() -> None:
        raise ModelError("x: damaged")

    report = fuzz(doing(refuse), tmp_path, range(3))
    assert report.faults == {}
    assert report.outcomes == {"ModelError": 3}

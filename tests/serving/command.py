"""`ugatit serve` in this process: until somebody has been there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Command, Outcome
from ugatit_cli.cli import console

Visit = Callable[[str], Any]


def visited(
    ugatit: Command, monkeypatch: pytest.MonkeyPatch, visit: Visit, *arguments: object, ending: int = signal.SIGINT
) -> tuple[Outcome, Any]:
    """Serves until the visit to the address that is printed is over, and a signal comes.

    Returns:
        What became of the command, and what the visit gave; None if there was none.
    """
    seen: list[Any] = []
    visitors: list[threading.Thread] = []

    def visitor(url: str) -> None:
        try:
            seen.append(visit(url))
        finally:
            os.kill(os.getpid(), ending)

    with monkeypatch.context() as patch:
        original = console.made

        def made(line: str) -> None:
            original(line)
            visitors.append(threading.Thread(target=visitor, args=[line]))
            visitors[0].start()

        patch.setattr(console, "made", made)
        outcome = ugatit("serve", *arguments)
    for one in visitors:
        one.join()
    return outcome, seen[0] if seen else None

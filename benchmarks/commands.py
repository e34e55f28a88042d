"""`ugatit` as users run it: programs of their own, any number at a time, that end when this process is told to."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from ugatit_cli.errors import Interrupted, TrainingError, UgatitError, UsageError

GO_ON = "The same command goes on where it stopped."
SLICE = 0.2  # seconds after which a program that runs looks whether it is to end


class Commands:
    """Runs commands, from any thread.

    Args:
        threads: of each.
        stop: once set, all that run are told to end, and none begins.
    """

    def __init__(self, threads: int, stop: threading.Event) -> None:
        self.threads = threads
        self.stop = stop
        self._running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, words: Sequence[object], log: Path, output: Path | None = None) -> list[dict[str, Any]]:
        """Runs `ugatit WORDS --json`.

        Args:
            log: gets the command line and all that it says.
            output: gets its results, too.

        Returns:
            The documents that it prints.

        Raises:
            UgatitError: it fails, and why.
            Interrupted: it is told to end.
        """
        self.check()
        output = output or log.with_suffix(".json")
        called = [*map(str, words), "--json"]
        for path in (log, output):
            path.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as said, output.open("wb") as results:
            said.write(f"$ ugatit {shlex.join(called)}\n".encode())
            said.flush()
            start = said.tell()
            code = self._run(called, said, results)
        self.check()
        if code:
            raise _failure(called[0], code, log, start)
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

    def _run(self, words: Sequence[str], said: IO[bytes], results: IO[bytes]) -> int:
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        # In a session of its own, it gets one signal, this process's, and not the terminal's as well.
        process = subprocess.Popen(
            [sys.executable, "-m", "ugatit_cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=results,
            stderr=said,
            env=environment,
            start_new_session=True,
        )
        self._running.add(process)
        told = False
        while (code := _waited(process)) is None:
            if self.stop.is_set() and not told:
                process.terminate()
                told = True
        self._running.discard(process)
        return code

    def check(self) -> None:
        """Whether to go on.

        Raises:
            Interrupted: it is told to end.
        """
        if self.stop.is_set():
            raise Interrupted("interrupted", GO_ON)

    def kill(self) -> None:
        """Ends all that run at once."""
        self.stop.set()
        for process in list(self._running):
            process.kill()


def _waited(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(SLICE)
    except subprocess.TimeoutExpired:
        return None


def _failure(command: str, code: int, log: Path, start: int) -> UgatitError:
    """What a command's log says of its end."""
    lines = log.read_bytes()[start:].decode(errors="replace").splitlines()
    errors = [line.partition("error: ")[2] for line in lines if "error: " in line]
    kind = UsageError if code == UsageError.exit_code else TrainingError
    return kind(f"ugatit {command}: {errors[-1] if errors else f'exit code {code}'}", f"All that it said: {log}")

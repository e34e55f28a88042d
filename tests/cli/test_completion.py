"""TAB in real shells: what they offer, and what it takes."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_startup import HEAVY, imported_by
from tests.programs import command
from ugatit_cli.cli import app

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such shells")
BASH, ZSH, FISH = (shutil.which(name) for name in ("bash", "zsh", "fish"))


@pytest.fixture
def shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ugatit: Command) -> Path:
    """A folder with a script for each shell, `ugatit` to be found, and something to name."""
    folder = tmp_path / "at work"
    for name in ("photos", "posters"):
        (folder / name).mkdir(parents=True)
    (folder / "picture.png").touch()
    for shell in ("bash", "zsh", "fish"):
        (folder / f".{shell}").write_bytes(ugatit("completion", shell).stdout)
    program = tmp_path / "bin" / "ugatit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(folder)
    return folder


class Terminal:
    """A shell in a terminal."""

    def __init__(self, *program: str) -> None:
        self.screen = ""
        self.process, self.line = pty.fork()
        if self.process == 0:
            os.environ["COLUMNS"] = "1000"
            os.execvp(program[0], program)

    def type(self, text: str) -> None:
        """Types, and waits for nothing."""
        os.write(self.line, text.encode())

    def read(self, pattern: str) -> str:
        """What has appeared since the last call, when it is there."""
        while not (found := re.search(pattern, self.screen)):
            ready, _, _ = select.select([self.line], [], [], 60)
            assert ready, self.screen
            self.screen += os.read(self.line, 4096).decode(errors="replace")
        self.screen = self.screen[found.end() :]
        return found[1]

    def close(self) -> None:
        os.close(self.line)
        os.waitpid(self.process, 0)


@pytest.fixture
def bash(shells: Path) -> Iterator[Terminal]:
    if not BASH:
        pytest.skip("no bash")
    terminal = Terminal(BASH, "--norc", "--noprofile", "-i")
    terminal.type(
        f"stty cols 1000; bind 'set enable-bracketed-paste off'; PS1=; . {shlex.quote(str(shells))}/.bash\n"
    )
    yield terminal
    terminal.type("exit\n")
    terminal.close()


# What is typed, and what may stand in the place of the last word.
OFFERED = {
    "": " ".join(app.COMMANDS),
    "translate --keep": "--keep-colour --keep-metadata",
    "translate a.png -m flat2": "flat2clay",
    "translate a.png -m flat2clay --to ": "clay flat",
    "translate --size = mo": "model",
    "translate --overwrite --over": "",
    "train --minutes 1 --data horse2z": "horse2zebra",
    "train --device c": "cpu cuda",
    "models sh": "show",
    "models show ink": "ink2clay",
    "models --a": "--all",
    "study -m ink": "ink2clay",
    "attention --lay": "--layout",
    "push run --lic": "--licence --license",
    "export flat2clay me/it more ": "",
    "nonsense ": "",
}
# What shells make of it: paths are their own.
TYPED = {
    "trans": "translate",
    "translate --fit ": "aspect native squash",
    "translate --fit=n": "--fit=native",
    "translate pic": "picture.png",
    "train photos po": "posters",
}


@pytest.mark.parametrize(("line", "offered"), OFFERED.items())
def test_values_are_offered(ugatit: Command, line: str, offered: str) -> None:
    outcome = ugatit("completion", "bash", "--", *line.split(), *[""] * (not line or line.endswith(" ")))
    values = [one.split("\t")[1] for one in outcome.lines if one.startswith("value")]
    assert (outcome.code, sorted(values)) == (0, sorted(offered.split()))


def test_bash_completes(bash: Terminal) -> None:
    """Of all that it would offer, as Readline's `insert-completions` puts them into the line."""
    for line, offered in TYPED.items():
        bash.type(f"ugatit {line}\x1b*\x01echo DONE \n")
        done = bash.read(r"\nDONE ugatit (.*?)\r\n").split()[len(line.split()) - (not line.endswith(" ")) :]
        assert sorted(one.rstrip("/") for one in done) == sorted(offered.split()), line


def test_zsh_completes(shells: Path) -> None:
    if not ZSH:
        pytest.skip("no zsh")
    terminal = Terminal(ZSH, "-f", "-i")
    script = shlex.quote(str(shells / ".zsh"))
    terminal.type(f"stty cols 1000; PS1=; unsetopt zle_bracketed_paste; autoload compinit; compinit -u; . {script}\n")
    terminal.type("echo READY''\n")
    terminal.read("\n(READY)\r")
    for line, offered in TYPED.items():
        if " " not in offered:
            terminal.type(f"ugatit {line}\t\x01echo DONE \n")
            assert terminal.read(r"\nDONE (.*?)\r").split()[-1] == offered, line
    terminal.type("exit\n")
    terminal.close()


@pytest.mark.usefixtures("shells")
def test_fish_completes() -> None:
    if not FISH:
        pytest.skip("no fish")
    asked = "; ".join(f"complete -C {shlex.quote(f'ugatit {line}')}; echo" for line in TYPED)
    done = subprocess.run([FISH, "-N", "-c", f". .fish; {asked}"], capture_output=True, text=True, check=True)
    for (line, offered), lines in zip(TYPED.items(), done.stdout.split("\n\n"), strict=False):
        found = [one.partition("\t")[0].rstrip("/") for one in lines.split("\n") if one]
        assert sorted(found) == sorted(offered.split()), line


QUESTIONS = ("", "translate --fi", "translate --fit ", "translate -m ", "train --data ", "models show ")


def test_a_tab_imports_nothing_heavy() -> None:
    asked = [f"completion bash -- {line}" for line in QUESTIONS]
    for line, (code, modules) in zip(asked, imported_by(*asked), strict=True):
        assert code == 0
        assert modules & (HEAVY | {"pydantic", "rich"}) == set(), line

"""Standard streams that are full, closed or unread, and strangers' texts on them."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, below, encoded, program, put
from tests.programs import command
from tests.trainings import make_folders
from ugatit_cli.cli import console, streams
from ugatit_cli.errors import StorageError, UgatitError

EVIL = "a\x1b]0;T\a\x1b[2J\x9b1m\x7f\u202e\nerror: b"
SEEN = r"a\x1b]0;T\x07\x1b[2J\x9b1m\x7f\u202e\nerror: b"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Broken(io.TextIOWrapper):
    """A stream of which each use fails."""

    def __init__(self, number: int) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self.number = number

    def write(self, _: str, /) -> int:
        raise OSError(self.number, os.strerror(self.number))

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@contextlib.contextmanager
def broken(number: int) -> Iterator[None]:
    """Both streams fail."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, Broken(number))
        streams.open_streams()
        yield


# --- Messages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EBADF, errno.EIO])
def test_messages_never_fail(number: int) -> None:
    with broken(number):
        console.note("one")
        console.show_error(UgatitError("two", "three"))
        sys.stderr.write("four")
        with console.progress(1) as progress:
            progress.advance()
        with console.showing() as listener:
            listener.begin("seven", 8, 1)
        sys.stderr.flush()


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, StorageError), (errno.EPIPE, BrokenPipeError), (errno.EBADF, streams.NobodyReadsError)],
)
def test_results_do_each_time(number: int, error: type[Exception]) -> None:
    with broken(number):
        for _ in range(2):
            with pytest.raises(error):
                console.result("one")
        # Nobody need read what has been made, but a list that isn't whole is an error.
        with pytest.raises(error) if error is StorageError else contextlib.nullcontext():
            console.made("two")


def test_libraries_may_move_their_bars(capsys: pytest.CaptureFixture[str]) -> None:
    streams.open_streams()
    for text in ("\r 10%", "\n\n\x1b[A\x1b[A", "a\tb\n", "a\rb\x1b[A\n"):
        sys.stderr.write(text)
    assert capsys.readouterr().err == "\r 10%\n\n\x1b[A\x1b[Aa\tb\na\\rb\\x1b[A\n"


# --- Programs ------------------------------------------------------------------------------------------


def shell(script: str, *arguments: object, **options: Any) -> tuple[int, str, str]:
    """A command below a shell, which opens and closes streams."""
    run = subprocess.run(
        ["bash", "-c", script, *command(*arguments)], capture_output=True, timeout=100, check=False, **options
    )
    return run.returncode, run.stdout.decode(), run.stderr.decode()


CLOSED = '"$0" "$@" >&- 2>&- <&-'
TRANSLATE = ("translate", "--device", "cpu", "in", "-o", "out", "--model")


@pytest.mark.parametrize("script", [CLOSED, '"$0" "$@" 2>/dev/full | true; exit ${PIPESTATUS[0]}'])
def test_files_are_made_whoever_listens(light: str, script: str) -> None:
    put("in/a.png", "in/b.png", "in/c.png")
    Path("in/bad.png").write_bytes(b"text")
    assert shell(script, *TRANSLATE, light) == (1, "", "")
    assert below("out") == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("arguments", ["--version", "--help", "cam --help", "models", "models --json"])
@pytest.mark.parametrize("way", [">&-", ">/dev/full"])
def test_results_that_cannot_be_written_are_one_error(arguments: str, way: str) -> None:
    code, _, said = shell(f'"$0" "$@" {way}', *arguments.split())
    assert code == 1
    assert said.startswith("error: standard output ")
    assert "Traceback" not in said
    assert "ignored" not in said


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_list_on_a_full_disk_is_an_error_after_all_is_done(light: str, more: tuple[str, ...]) -> None:
    put("in/a.png", "in/b.png")
    code, _, said = shell('"$0" "$@" >/dev/full', *TRANSLATE, light, *more)
    assert code == 1
    assert said.count("error: ") == 1
    assert below("out") == ["a.png", "b.png"]


def test_a_picture_from_a_closed_stream() -> None:
    code, _, said = shell('"$0" "$@" <&-', "translate", "-", "-o", "a.png")
    assert (code, said.count("error: "), "closed" in said) == (2, 1, True)


def test_ctrl_c_when_the_reader_ends_of_it_too() -> None:
    make_folders(Path(), 8, ("horses", "zebras"))
    sizes = [
        "--image-size",
        "32",
        "--channels",
        "4",
        "--blocks",
        "1",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--workers",
        "1",
    ]
    arguments = command("train", "--domain-a", "horses", "--domain-b", "zebras", *sizes, "--iterations", "100000")
    with subprocess.Popen(
        [*arguments, "-o", "run", "--json"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout
        next(line for line in run.stdout if line.startswith("step 1/"))
        run.stdout.close()
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 130
    assert len(list(Path("run/checkpoints").iterdir())) == 1


# --- Strangers' texts ----------------------------------------------------------------------------------


def test_everything_that_is_said_is_filtered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGATIT_DEBUG", "1")
    console.note(EVIL)
    console.show_error(UgatitError(EVIL))
    console.show_error(ValueError(EVIL))
    said = capsys.readouterr().err
    assert said.count(f"{SEEN}\n") >= 3
    assert not OBEYED.search(said)


def test_bars_and_tables_are_filtered(terminal: io.StringIO) -> None:
    with console.showing() as listener:
        listener.begin(EVIL, 5, 1)
        listener.note(EVIL)
    assert "\x1b]" not in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\u202e" not in terminal.getvalue()


def seen_on_a_terminal(*arguments: object) -> str:
    """What a command writes on a terminal that is all of its streams."""
    ours, its = pty.openpty()
    with subprocess.Popen(command(*arguments), stdin=its, stdout=its, stderr=its, start_new_session=True) as run:
        os.close(its)
        said = b""
        while part := _read(ours):
            said += part
        run.wait(60)
    os.close(ours)
    return said.decode(errors="replace")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # its end, on Linux
        return b""


def test_names_of_files(light: str) -> None:
    evil = EVIL.replace("\x9b", "")
    for name, data in ((f"{evil}.png", encoded()), (f"bad{evil}.png", b"text")):
        Path("in").mkdir(exist_ok=True)
        Path("in", name).write_bytes(data)
    outcome = program(*TRANSLATE, light)
    assert outcome.stdout.decode() == f"out/{evil}.png\n"
    assert not OBEYED.search(outcome.stderr)
    assert "\nerror: b" not in outcome.stderr
    planned = seen_on_a_terminal(*TRANSLATE, light, "--dry-run", "--overwrite")
    assert SEEN.replace(r"\x9b", "") in planned
    for obeyed in ("\x1b]", "\x1b[2J", "\u202e", "\nerror: b"):
        assert obeyed not in planned


def test_keys_of_a_config(ugatit: Command, light: str) -> None:
    document = json.loads(Path(light, "config.json").read_text())
    document["model"][EVIL] = document["model"]["x" * 10_000] = 1
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps(document))
    Path("model/model.safetensors").write_bytes(Path(light, "model.safetensors").read_bytes())
    put("a.png")
    outcome = ugatit("translate", "a.png", "-o", "b.png", "--model", "model")
    assert outcome.code == 3
    assert "model/config.json" in outcome.errors[0]
    assert not OBEYED.search(outcome.stderr)
    assert len(outcome.stderr) < 4000


def test_ctrl_c_in_the_midst_of_an_import(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Error calling __set_name__ on 'x' instance 'y' in 'Z'") from KeyboardInterrupt()

    put("a.png")
    monkeypatch.setattr("ugatit_cli.weights.fetch.find_model", fail)
    outcome = translate("a.png", "-o", "b.png")
    assert (outcome.code, outcome.stderr) == (130, "")


# --- Little memory, and no place -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libtorch.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_no_bug(translate: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    put("a.png")
    monkeypatch.setattr("ugatit_cli.weights.fetch.find_model", fail)
    outcome = translate("a.png", "-o", "b.png")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "memory" in outcome.errors[0]
    assert "internal" not in outcome.stderr


def test_a_folder_that_is_gone() -> None:
    Path("gone").mkdir()
    code, _, said = shell('cd gone && rmdir ../gone && "$0" "$@"', "translate", "a.png")
    assert (code, said.count("error: ")) == (2, 1)
    assert "internal" not in said

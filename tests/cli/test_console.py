"""What the command line says, where, and what it does on Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import signal
import sys

import pytest

from tests.cli.conftest import Command
from ugatit_cli import __version__
from ugatit_cli.cli import console, signals
from ugatit_cli.errors import UgatitError

Capture = pytest.CaptureFixture[str]


# --- Words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["plain", "[red]no markup[/red]", "a:smile:.png", "x" * 500, "tab\there", "[/]"])
def test_names_are_said_as_they_are(capsys: Capture, text: str) -> None:
    console.note(text)
    console.show_error(UgatitError(text, text))
    # Rich sets tabs; everything else is literal, on one line however long.
    said = text.expandtabs(8)
    output = capsys.readouterr()
    assert output.err.splitlines()[0] == said
    assert output.err.count(said.split()[-1]) == 3
    assert len(output.err.splitlines()) == 3
    assert output.out == ""


@pytest.mark.parametrize("columns", ["0", "²", "-1", "wide", ""])
def test_errors_are_said_whatever_the_width_is(
    columns: str, ugatit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    console.stderr.cache_clear()
    assert "none.png" in ugatit("translate", "none.png", "-o", "out.png").stderr


LONG = "y" * 300


@pytest.mark.parametrize("command", [f"convert {LONG} out", f"fetch flat2clay --to {LONG}", f"train --resume {LONG}"])
def test_names_that_are_too_long_are_no_bug(ugatit: Command, command: str) -> None:
    outcome = ugatit(*command.split())
    assert outcome.code in (1, 2, 3)
    assert "internal" not in outcome.stderr
    assert LONG[:100] in outcome.stderr


# --- Progress ------------------------------------------------------------------------------------------


def test_plain_progress_is_a_line_from_time_to_time(capsys: Capture, clock: list[float]) -> None:
    with console.progress(100) as progress:
        for _ in range(40):
            clock[0] += 1
            progress.advance()
    assert capsys.readouterr().err.splitlines() == [
        "10/100 files, 1.00 files/s, 0:01:30 left",
        "20/100 files, 1.00 files/s, 0:01:20 left",
        "30/100 files, 1.00 files/s, 0:01:10 left",
        "40/100 files, 1.00 files/s, 0:01:00 left",
    ]


def test_a_large_picture_says_how_far_it_is(capsys: Capture, clock: list[float]) -> None:
    with console.progress(1) as progress:
        for tile in range(1, 21):
            clock[0] += 6
            progress.tile(tile, 20)
        clock[0] += 60
        progress.advance()
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "0/1 files, tile 2 of 20, 0:01:48 left"
    assert last == "1/1 files, 0.01 files/s"  # nothing is left


def test_results_on_a_terminal_appear_above_the_bar(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with console.progress(1):
        console.result("out/a.png")
    assert "out/a.png" in terminal.getvalue()


# --- Ctrl-C --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_asks_a_later_ctrl_c_does(capsys: Capture, clock: list[float], number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ZeroDivisionError), signals.interruptible() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        clock[0] += 1.5
        signal.raise_signal(signal.SIGTERM)  # never at once
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError  # whatever comes of it, the handlers are put back
    assert capsys.readouterr().err == "stopping: finishing what is in progress; Ctrl-C again stops at once\n"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_that_is_repeated_at_once_counts_once(clock: list[float]) -> None:
    with signals.interruptible() as stop:
        for _ in range(4):
            signal.raise_signal(signal.SIGINT)
            clock[0] += 0.49
        assert stop.is_set()


def test_nobody_insists_below_torchrun(capsys: Capture, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with signals.interruptible("stopping") as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            clock[0] += 60
        assert stop.is_set()
    assert capsys.readouterr().err == "stopping\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sooner_it_is_what_ctrl_c_is(clock: list[float], number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with contextlib.suppress(KeyboardInterrupt), signals.interrupting():
        try:
            signal.raise_signal(number)
        finally:
            clock[0] += 1
            signal.raise_signal(number)  # what cleans up isn't disturbed
            clock[0] = 0
    assert clock == [0]
    assert signal.getsignal(number) == before


def test_nohup_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.interrupting(), signals.interruptible() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


# --- The command itself --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("translate", "a.png", "--size", "8", "--size=8"), "--size"),
        (("cam", "a.png", "-m", "one", "-m", "two"), "--model"),
        (("fetch", "one", "--output", "a", "--to", "b"), "--output"),
        (("convert", "x.pt", "out", "--domains", "a,b", "--domains", "c,d"), "--domains"),
        (("push", "one", "me/it", "--licence", "mit", "--licence", "other"), "--licence"),
        (("train", "--channels", "8", "--channels", "16"), "--channels"),
        (("evaluate", "--seed", "1", "--seed", "2"), "--seed"),
    ],
)
def test_no_value_of_an_option_is_left_out(ugatit: Command, arguments: tuple[str, ...], option: str) -> None:
    outcome = ugatit(*arguments)
    assert (outcome.code, len(outcome.errors), outcome.stdout) == (2, 1, b"")
    assert option in outcome.errors[0]
    assert ugatit(*arguments, "--help").code == 0


def test_version(ugatit: Command) -> None:
    assert ugatit("--version").lines == [f"ugatit {__version__}"]


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ()])
def test_help(ugatit: Command, arguments: tuple[str, ...]) -> None:
    outcome = ugatit(*arguments)
    assert outcome.code == (0 if arguments else 2)
    text = outcome.stdout.decode() if arguments else outcome.stderr
    assert "translate" in text
    assert "convert" in text

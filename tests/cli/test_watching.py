"""Folders that fill up: what comes is translated once, when it rests, until somebody ends it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, Outcome, below, put
from tests.cli.test_existing import translated  # noqa: F401  # a fixture
from tests.programs import command
from ugatit_cli.cli import watch

Step = Callable[[], object]
Watched = Callable[..., Outcome]


@pytest.fixture
def watched(translate: Command, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Watches, with a step between two looks; after the last one, a signal ends it."""
    monkeypatch.setattr(watch, "REST", 0.0)

    def run(*arguments: str, steps: list[Step], ended_by: signal.Signals = signal.SIGTERM) -> Outcome:
        left = iter([*steps, nothing, nothing])

        def pause(*_: object, **__: object) -> None:
            if step := next(left, None):
                step()
            else:
                os.kill(os.getpid(), ended_by)

        monkeypatch.setattr(watch.Folders, "pause", pause)
        return translate(*arguments, "--watch", "--watch-every", "5", "-o", "out", "--json")

    return run


def said(outcome: Outcome) -> list[tuple[str, str]]:
    return [(document["status"], document["input"]) for document in outcome.documents if "input" in document]


def nothing() -> None:
    """Two looks are needed to see that a file rests."""


def test_what_comes_and_what_changes_is_translated_once(watched: Watched, translated: list[str]) -> None:  # noqa: F811
    put("in/a.png", "other.png", "third.png")
    time = Path("other.png").stat().st_mtime_ns - 10**12

    def change() -> None:
        shutil.copy("third.png", "in/a.png")
        os.utime("in/a.png", ns=(time, time))  # as files have that are moved here

    arrive = lambda: shutil.copy("other.png", "in/b.png")  # noqa: E731
    outcome = watched("in", steps=[nothing, arrive, nothing, change])
    assert said(outcome) == [("translated", "in/a.png"), ("translated", "in/b.png"), ("translated", "in/a.png")]
    assert (outcome.code, below("out")) == (0, ["a.png", "b.png"])
    assert outcome.stderr.count("model ") == 1
    translated.clear()
    outcome = watched("in", steps=[nothing], ended_by=signal.SIGINT)
    assert (outcome.code, translated) == (130, [])
    assert "2 skipped" in outcome.stderr
    assert outcome.errors == []  # it is how a watch ends


def test_what_is_half_written_is_waited_for_and_tried_again_when_it_changes(
    watched: Watched,
    translated: list[str],  # noqa: F811
) -> None:
    put("whole.png")
    whole = Path("whole.png").read_bytes()
    Path("in").mkdir()

    def write(count: int) -> Step:
        return lambda: Path("in/a.png").write_bytes(whole[:count])

    growing = [write(count) for count in (10, 20, 30, 40)]
    outcome = watched("in", steps=[*growing, nothing, nothing, write(len(whole))])
    assert said(outcome) == [("failed", "in/a.png"), ("translated", "in/a.png")]
    assert (outcome.code, translated) == (0, ["in/a.png", "in/a.png"])
    assert (outcome.ending["results"], outcome.ending["failed"]) == (1, 0)


def test_folders_that_go_and_come_back(watched: Watched, translated: list[str]) -> None:  # noqa: F811
    put("one/a.png", "two/a.png", "new.png")

    def back() -> None:
        shutil.move("away", "two")
        shutil.copy("new.png", "two/b.png")

    leave = lambda: shutil.move("two", "away")  # noqa: E731
    arrive = lambda: shutil.copy("new.png", "one/c.png")  # noqa: E731
    outcome = watched("one", "two", steps=[nothing, nothing, leave, arrive, nothing, back, nothing])
    assert outcome.code == 0
    assert below("out") == ["one/a.png", "one/c.png", "two/a.png", "two/b.png"]
    assert sorted(translated) == ["one/a.png", "one/c.png", "two/a.png", "two/b.png"]
    assert outcome.stderr.count("two is gone") == outcome.stderr.count("two is back") == 1


def test_what_is_no_picture_is_said_once_of_each_kind(watched: Watched, translated: list[str]) -> None:  # noqa: F811
    put("in/a.png", "b.png")
    Path("in/logo.svg").write_text("<svg/>")

    def more() -> None:
        shutil.copy("b.png", "in/b.png")
        shutil.copy("in/logo.svg", "in/second.svg")
        Path("in/notes.txt").write_text("x")
        Path("in/c.png.part").write_text("half")

    arrived = lambda: Path("in/c.png.part").unlink()  # noqa: E731
    outcome = watched("in", steps=[nothing, nothing, more, arrived, nothing])
    passed = [one["passed_over"] for one in outcome.documents if one.get("status") == "passed-over"]
    assert passed == [{".svg": 1}, {".txt": 1}]
    assert outcome.stderr.count(".svg to PNG") == outcome.stderr.count(".txt") == 1
    assert (outcome.code, translated) == (0, ["in/a.png", "in/b.png"])


def test_names_that_nobody_expects_are_said(watched: Watched, translated: list[str]) -> None:  # noqa: F811
    put("in/a.png", "in/a.gif")
    outcome = watched("in", "--format", "png", steps=[nothing])
    assert sorted(translated) == ["in/a.gif", "in/a.png"]
    assert outcome.stderr.count("called alike") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ["-"], ["in/*.png"], ["in/a.png"], ["nowhere"], ["in", "--files-from", "list"], ["in", "--overwrite"],
        ["in", "--report", "r.html"], ["in", "--model", "a", "--model", "b"], ["in", "-o", "-"],
    ],
)  # fmt: skip
def test_what_can_not_be_watched(translate: Command, wrong: list[str]) -> None:
    put("in/a.png")
    Path("list").write_text("in/a.png\n")
    outcome = translate(*wrong, "--watch", *([] if "-o" in wrong else ["-o", "out"]))
    assert outcome.code == 2
    assert "--watch" in outcome.errors[0]
    assert not Path("out").exists()
    assert translate("in", "-o", "out", "--watch-every", "3").code == 2


def test_a_service(light: str) -> None:
    put("in/a.png", "b.png")
    arguments = command("translate", "in", "-o", "out", "--model", light, "--watch", "--watch-every", "0.1", "--json")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines: list[Any] = [json.loads(process.stdout.readline())]
        shutil.copy("b.png", "in/b.png")
        lines.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()
    assert [line["input"] for line in lines] == ["in/a.png", "in/b.png"]
    assert process.returncode == 0
    assert json.loads(rest)["status"] == "done"
    assert below("out") == ["a.png", "b.png"]


def test_events_wake_it() -> None:
    pytest.importorskip("watchdog")
    Path("in/deep").mkdir(parents=True)
    folders = watch.Folders([Path("in")], None)
    try:
        for _ in range(2):  # also of a folder that has come back
            folders.look()
            put("in/deep/a.png")
            assert folders._woken.wait(30)
            shutil.rmtree("in")
            while Path("in") not in folders._lost:
                assert folders._woken.wait(30)
                folders._woken.clear()
            Path("in/deep").mkdir(parents=True)
    finally:
        folders.close()


def test_file_systems_that_other_machines_write_to(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    there = tmp_path / "a b"
    mounts.write_text(f"/dev/x / ext4 rw 0 0\nhost:/x {str(there).replace(' ', chr(92) + '040')} nfs4 rw 0 0\n")
    assert watch.distant(there / "c", mounts)
    assert not watch.distant(tmp_path / "a", mounts)
    assert not watch.distant(tmp_path, tmp_path / "gone")

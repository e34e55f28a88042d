"""The store of data sets: each is there as a whole or not at all, says what it is, and notices when it is not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import picture
from tests.kills import posix_only
from ugatit_cli.datasets import store
from ugatit_cli.datasets.store import Facts
from ugatit_cli.errors import ModelError, OutputError
from ugatit_cli.remote.patience import Logged

FACTS = Facts("https://example.org/x.zip", {"x.zip": "0" * 64}, ["horse", "zebra"], True, "not stated", ["a note"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def fill(folder: Path, count: int = 2) -> Facts:
    for name in ("trainA", "trainB"):
        (folder / name).mkdir()
        for number in range(count):
            picture(4, 4, number).save(folder / name / f"{number}.png")
    return FACTS


def put(name: str = "set", fill: store.Fill = fill, **options: bool | Path) -> Path:
    return store.put(name, fill, Logged(), **options)  # type: ignore[arg-type]


def left_behind(home: Path) -> list[str]:
    return [path.name for path in (home / "data").iterdir() if path.name[0] == "."]


@pytest.mark.parametrize("name", ["set", "hub:owner/name@main", "..", "ä b", "\udcff"])
def test_what_is_put_there_is_there(home: Path, name: str) -> None:
    folder = put(name)
    assert folder.parent == home / "data"
    assert store.get(name) == folder
    found = store.stored()[name]
    assert (found.name, found.source, found.domains, found.paired) == (name, FACTS.source, ["horse", "zebra"], True)
    assert found.counts == {"trainA": 2, "trainB": 2}
    assert found.size == sum(path.stat().st_size for path in folder.rglob("*.png"))
    assert not store.damage(folder)
    assert not left_behind(home)


def test_nobody_fills_what_is_there_but_by_force(home: Path) -> None:
    folder = put()
    assert put(fill=lambda _: pytest.fail("filled")) == folder
    put(fill=lambda path: fill(path, 3), force=True)
    assert store.stored()["set"].counts["trainA"] == 3
    assert not left_behind(home)


def test_nothing_is_there_when_it_fails_and_what_was_there_stays(home: Path) -> None:
    def fails(folder: Path) -> Facts:
        fill(folder)
        raise ModelError("no")

    with pytest.raises(ModelError):
        put(fill=fails)
    assert store.get("set") is None
    put()
    with pytest.raises(ModelError):
        put(fill=fails, force=True)
    assert not store.damage(put())
    assert not left_behind(home)


def _killed(folder: Path) -> Facts:
    fill(folder)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@posix_only
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_kill_leaves_nothing_that_the_next_call_does_not_sweep(home: Path, elsewhere: bool) -> None:
    options: dict[str, Any] = {"to": home / "data" / "to"} if elsewhere else {}
    process = multiprocessing.get_context("fork").Process(target=put, kwargs={"fill": _killed, **options})
    process.start()
    process.join()
    assert left_behind(home)
    folder = put(**options)
    assert not left_behind(home)
    assert store.read(folder) is not None


def test_one_process_at_a_time_fills_it() -> None:
    waits, filled = threading.Event(), []

    class Waiting(Logged):
        def note(self, text: str) -> None:  # noqa: ARG002
            waits.set()

    def slowly(folder: Path) -> Facts:
        filled.append(folder)
        other.start()
        assert waits.wait(60)
        return fill(folder)

    other = threading.Thread(target=store.put, args=("set", slowly, Waiting()))
    put(fill=slowly)
    other.join()
    assert len(filled) == 1


def _empty(folder: Path) -> None:
    next((folder / "trainB").iterdir()).write_bytes(b"")


def _more(folder: Path) -> None:
    picture(4, 4).save(folder / "trainB" / "more.png")


def _fewer(folder: Path) -> None:
    next((folder / "trainB").iterdir()).unlink()


def _none(folder: Path) -> None:
    (folder / "trainB").rename(folder / "other")


@pytest.mark.parametrize("change", [_empty, _more, _fewer, _none])
def test_damage_is_noticed(change: Callable[[Path], None]) -> None:
    change(folder := put())
    assert "trainB" in store.damage(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [("", "x"), ('"schema": 1', '"schema": 2'), ('"horse",', ""), ('"trainA"', '"../trainA"'), ("true", '"yes"')],
)  # fmt: skip
def test_a_folder_that_does_not_say_what_it_is_is_no_data_set(old: str, new: str) -> None:
    folder = put()
    text = (folder / store.FILE).read_text()
    assert old in text
    (folder / store.FILE).write_bytes(text.replace(old, new).encode("utf-8", "surrogatepass"))
    assert store.get("set") is None
    assert store.stored() == {}
    with pytest.raises(OutputError, match="set"):
        put()


def test_a_user_can_have_it_elsewhere(tmp_path: Path) -> None:
    target = tmp_path / "here"
    assert put(to=target) == target
    assert json.loads((target / store.FILE).read_bytes())["name"] == "set"
    assert store.stored() == {}
    with pytest.raises(OutputError, match="here"):
        put(to=target)
    put(to=target, force=True)
    (target / "mine.txt").write_text("kept")
    with pytest.raises(OutputError):
        put(to=target, force=True)
    assert (target / "mine.txt").read_text() == "kept"


def test_what_is_removed_is_gone(home: Path) -> None:
    put()
    store.remove("set")
    assert store.get("set") is None
    assert list((home / "data").iterdir()) == []
    with pytest.raises(OutputError):
        store.remove("set")

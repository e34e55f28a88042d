"""What a kill leaves is swept by the next run, and nothing that a running process still writes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.kills import CALLS, at_call, deaths, die, posix_only, without_exchange
from tests.programs import starting
from ugatit_cli.errors import OutputError, StorageError
from ugatit_cli.files import write_file, write_together
from ugatit_cli.leftovers import DAY, hidden, sweep
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import copy_model, open_model, save_model, translator_shapes

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of other processes")


def of_another_process(path: Path) -> Path:
    """The hidden name of a process that has ended by now."""
    code = f"from pathlib import Path; from ugatit_cli.leftovers import hidden; print(hidden(Path({str(path)!r})))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Path(answer.stdout.rstrip("\n"))


def aged(path: Path, seconds: float) -> None:
    for one in (*path.iterdir(), path) if path.is_dir() else (path,):
        os.utime(one, (time.time() - seconds,) * 2, follow_symlinks=False)


def make(path: Path, kind: str) -> Path:
    if kind == "folder":
        path.mkdir()
        (path / "f").write_bytes(b"data")
    elif kind == "link":
        path.symlink_to(path.parent / "precious")
    else:
        path.write_bytes(b"data")
    return path


def another_machine(path: Path) -> Path:
    name, digits = path.name[1:-4].rsplit(".", 1)
    return path.with_name(f".{name}.{'f' * 8 + digits[8:]}.tmp")


def earlier_process(path: Path) -> Path:
    """One that had the same number."""
    name, digits = path.name[1:-4].rsplit(".", 1)
    return path.with_name(f".{name}.{digits[:14] + '0' * 10 + digits[24:]}.tmp")


@linux_only
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_an_ended_process_left_is_removed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "f").touch()
    path = tmp_path / "é\n.png"
    left = [of_another_process(path), earlier_process(hidden(path))]
    running = [hidden(path), another_machine(hidden(path)), tmp_path / ".é.png.0123abcd.tmp"]
    foreign = [tmp_path / name for name in (".x.png.tmp", "x.0123abcd.tmp", ".x.0123abcg.tmp", ".0123abcd.tmp")]
    for one in [*left, *running, *foreign]:
        make(one, kind)
    sweep(tmp_path)
    assert {*tmp_path.iterdir()} == {*running, *foreign, tmp_path / "precious"}
    for one in [*running, *foreign]:
        aged(one, DAY + 60)
    sweep(tmp_path)
    assert {*tmp_path.iterdir()} == {running[0], *foreign, tmp_path / "precious"}  # it still runs, however long
    sweep(tmp_path, alone=True)
    assert {*tmp_path.iterdir()} == {*foreign, tmp_path / "precious"}
    assert (tmp_path / "precious" / "f").exists()


def test_a_folder_of_which_something_is_new_is_not_old(tmp_path: Path) -> None:
    folder = make(another_machine(hidden(tmp_path / "m")), "folder")
    aged(folder, DAY + 60)
    os.utime(folder / "f")
    sweep(tmp_path)
    assert (folder / "f").exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_retired_folder_is_put_back_unless_another_took_its_place(tmp_path: Path, replaced: bool) -> None:
    retired = make(hidden(tmp_path / "a.b").with_suffix(".old"), "folder")
    if replaced:
        (tmp_path / "a.b").mkdir()
    sweep(tmp_path, alone=True)
    assert [*tmp_path.iterdir()] == [tmp_path / "a.b"]
    assert (tmp_path / "a.b" / "f").exists() is not replaced
    assert not retired.exists()


def test_nothing_to_sweep(tmp_path: Path) -> None:
    sweep(tmp_path / "missing")
    (tmp_path / "file").touch()
    sweep(tmp_path / "file")


@pytest.fixture(scope="module")
def processes() -> BaseContext:
    return starting()


WAYS = ("save", "copy", "save, no exchange", "copy, no exchange")


def replace(number: int, folder: Path, way: str) -> None:
    """Replaces a model as `ugatit convert --overwrite` or `ugatit fetch --to --force` would."""
    torch.set_num_threads(1)
    if "no exchange" in way:
        without_exchange(pytest.MonkeyPatch())
    values = {name: torch.full(shape, float(number)) for name, shape in translator_shapes(tiny.LIGHT).items()}
    if way.startswith("copy"):
        source = folder.parent / "from" / str(number)
        save_model(source, tiny.LIGHT, values, provenance={"n": number})
        die(number)
        copy_model(open_model(source), folder, overwrite=True)
    else:
        die(number)
        save_model(folder, tiny.LIGHT, values, provenance={"n": number}, overwrite=True)


def assert_whole(folder: Path) -> int:
    """The number of the model that is there."""
    model = open_model(folder)
    assert (model.generator("a2b").to_rgb.weight == model.provenance["n"]).all()
    number: int = model.provenance["n"]
    return number


@posix_only
@linux_only
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_every_step_of_replacing_a_model(tmp_path: Path, processes: BaseContext, way: str) -> None:
    folder, known, number, littered = tmp_path / "m", 0, 0, 0
    replace_at_once = "no exchange" not in way
    values = {name: torch.zeros(shape) for name, shape in translator_shapes(tiny.LIGHT).items()}
    save_model(folder, tiny.LIGHT, values, provenance={"n": 0})
    for number in deaths(processes, replace, folder, way):
        littered += len(list(tmp_path.glob(".*")))
        if replace_at_once:
            assert assert_whole(folder) in (known, number)
        find_model(str(folder))  # which puts it back
        sweep(tmp_path)  # as the next run would
        known, before = assert_whole(folder), known
        assert known in (before, number)
        assert not list(tmp_path.glob(".*"))
    assert known == number
    assert littered >= 5


def write(number: int, path: Path) -> None:
    die(number)
    write_file(path, str(number).encode(), durable=True)


@posix_only
@linux_only
def test_killed_at_every_step_of_writing_a_file(tmp_path: Path, processes: BaseContext) -> None:
    path, number = tmp_path / "f", 0
    path.write_bytes(b"0")
    for number in deaths(processes, write, path):
        assert int(path.read_bytes()) in (number - 1, number, 0)
        write_file(tmp_path / str(number) / "g", b"")
        sweep(tmp_path)
        assert not list(tmp_path.glob(".*"))
    assert int(path.read_bytes()) == number


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize(("error", "raised"), [(errno.EROFS, StorageError), (errno.EIO, OutputError)])
def test_a_disk_that_fails_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: int, raised: type[OutputError]
) -> None:
    for name in CALLS:
        monkeypatch.setattr(os, name, getattr(os, name))  # is put back in the end

    def fail(_: int) -> None:
        raise OSError(error, os.strerror(error))

    at_call(number, fail)
    with pytest.raises(OutputError) as caught:
        write_together([(tmp_path / name, b"data") for name in ("a/x", "b/y", "c/z")])
    assert type(caught.value) is raised
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint

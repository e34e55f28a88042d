"""Run folders: a checkpoint is complete or absent, whatever kills the process or fills the disk."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests import tiny
from tests.kills import deaths, die, posix_only, without_exchange
from tests.programs import starting
from ugatit_cli.config import DIRECTIONS
from ugatit_cli.errors import ModelError, OutputError, StorageError, UsageError
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.weights.folder import critic_shapes, open_model, translator_shapes
from ugatit_cli.weights.hashes import check_hash

STEMS = ("generators", "discriminators", "ema", "optimizers")


def files(step: int) -> dict[str, dict[str, Tensor]]:
    """Training state that tells which step it is of."""
    return {
        stem: {"weight": torch.full((2, 3, 4, 4), step + i / 8), "step": torch.tensor(step)}
        for i, stem in enumerate(STEMS)
    }


def save(run: RunFolder, step: int, *, keep: int = 9) -> Path:
    run.save_checkpoint(step, files(step), {"loss": step / 3, "seed": [1, 2]}, keep=keep)
    return run.checkpoint_path(step)


def assert_intact(run: RunFolder, step: int) -> None:
    assert run.load_checkpoint(step) == {"loss": step / 3, "seed": [1, 2]}
    folder = run.checkpoint_path(step)
    assert {path.name for path in folder.iterdir()} == {"state.json", *(f"{stem}.safetensors" for stem in STEMS)}
    for stem, tensors in files(step).items():
        found = load_file(folder / f"{stem}.safetensors")
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def write_model(run: RunFolder, value: float, *, best: bool = False) -> None:
    """A model whose weights are all the same number."""
    generators, discriminators = (
        {name: torch.full(shape, value) for name, shape in shapes(tiny.LIGHT).items()}
        for shapes in (translator_shapes, critic_shapes)
    )
    run.write_model(tiny.LIGHT, generators, discriminators, {"step": value}, best=best)


def assert_model(folder: Path, value: float) -> None:
    """That it is the one with this value, its weights and its provenance."""
    opened = open_model(folder)
    assert opened.provenance == {"step": value}
    weights = [opened.generator(direction).to_rgb.weight for direction in DIRECTIONS]
    assert all((weight == value).all() for weight in [*weights, opened.discriminator("a", "global").head.weight])


def hidden_names(run: RunFolder) -> list[str]:
    return [str(path.relative_to(run.path)) for path in run.path.rglob(".*") if path.name != ".lock"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with nothing but its settings."""
    run = RunFolder(tmp_path / "runs" / "çats")
    run.create({"steps": 10})
    return run


def test_settings_come_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "deep" / "run")
    assert not run.exists
    document = {"name": 'Ünï "x" \\', "lr": 1e-4, "steps": 100_000, "ema": True, "data": {"folders": ["a", "b"]}}
    run.create(document)
    assert run.exists
    assert run.document() == document
    text = (run.path / "config.toml").read_text(encoding="utf-8")
    assert text.startswith("format = 1\n")
    assert tomllib.loads(text)["data"] == {"folders": ["a", "b"]}
    run.create({"steps": 7})
    assert run.document() == {"steps": 7}
    with pytest.raises(UsageError, match="not text"):
        run.create({"data": {"a": "caf\udce9"}})
    assert [path.name for path in run.path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "no such file"),
        (b"", "no format number"),
        (b"format = ", "can't be read"),
        (b"format = 1\nname = '\xff'", "can't be read"),
        (b"format = 2", "newer ugatit"),
    ],
)
def test_settings_that_cannot_be_read(run: RunFolder, data: bytes | None, text: str) -> None:
    path = run.path / "config.toml"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(ModelError, match=text) as caught:
        run.document()
    assert caught.value.message.startswith(f"{path}: ")


@pytest.mark.parametrize("foreign", ["photos/cat.jpg", "photos/.git", "photos"])
def test_foreign_folders_are_refused(tmp_path: Path, foreign: str) -> None:
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_bytes(b"precious")
    run = RunFolder(tmp_path / "photos")
    for locks in (False, True):
        with pytest.raises(UsageError, match="exists and is not a run folder") as caught:
            run.locked().__enter__() if locks else run.create({})
        assert str(run.path) in caught.value.message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / foreign]


def test_a_folder_that_takes_nothing_is_known_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    run.check_free()
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(OutputError, match="permission denied"):
        run.check_free()
    monkeypatch.setattr(Path, "exists", lambda _: False)  # a drive that isn't there: making the folder reports it
    run.check_free()


def test_empty_folders_are_used(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / ".config.toml.0123abcd.tmp").touch()  # killed before it was renamed
    with run.locked():
        assert not run.exists
        run.create({})
        run.clean()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "config.toml"]


def test_the_state_of_a_checkpoint_comes_back(run: RunFolder) -> None:
    state = {"best": 0.1 + 0.2, "none": None, "nested": {"ü": [1, 2.5, "x"]}, "first": math.inf, "ids": {10: 1, 9: 2}}
    run.save_checkpoint(1000, files(1000), state, keep=1)
    assert run.load_checkpoint(1000) == state | {"ids": {"10": 1, "9": 2}}


def test_steps_are_found(run: RunFolder) -> None:
    assert run.checkpoints() == []
    assert run.latest() is None
    for step in (2000, 100_000_000, 5, 1000):
        save(run, step)
    for name in (".step_00000007.0123abcd.tmp", "step_7", "step_000000007", "notes"):
        (run.path / "checkpoints" / name).mkdir()
    assert run.checkpoints() == [5, 1000, 2000, 100_000_000]
    assert run.latest() == 100_000_000


def test_old_checkpoints_are_removed(run: RunFolder) -> None:
    kept = []
    for step in range(1, 6):
        save(run, step, keep=2)
        kept.append(run.checkpoints())
    assert kept == [[1], [1, 2], [2, 3], [3, 4], [4, 5]]
    save(run, 6, keep=4)
    assert run.checkpoints() == [4, 5, 6]
    run.save_checkpoint(7, {"old": {"x": torch.ones(1)}}, {}, keep=1)
    save(run, 7, keep=1)  # in its place
    assert_intact(run, 7)
    # Someone went back: what was just written stays, and so does what they went back from.
    save(run, 3, keep=1)
    assert run.checkpoints() == [3, 7]
    assert hidden_names(run) == []


@contextmanager
def failing(name: str, after: int, number: int) -> Iterator[None]:
    """Lets one call of a function of `os` fail, after some that don't."""
    original: Callable[..., Any] = getattr(os, name)
    calls = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == after + 1:
            raise OSError(number, os.strerror(number))
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, wrapped)
        yield


PLACES = ("mkdir 0", *(f"fsync {n}" for n in range(6)), "replace 0", "rename 0")


@pytest.mark.parametrize(
    ("place", "same"), [*((place, same) for place in PLACES for same in (False, True)), ("rename 1", True)]
)
def test_a_full_disk_leaves_the_checkpoint_before(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, place: str, same: bool
) -> None:
    name, after = place.split()
    if name == "rename":
        without_exchange(monkeypatch)
    save(run, 1)
    with failing(name, int(after), errno.ENOSPC), pytest.raises(StorageError) as caught:
        run.save_checkpoint(1 if same else 2, files(2), {}, keep=1)
    assert "takes 1 MB; that of step 1 stays valid" in caught.value.message
    assert caught.value.hint
    assert run.checkpoints() == [1]
    assert_intact(run, 1)
    assert hidden_names(run) == []


def test_other_failures_and_interruptions(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    save(run, 1)
    with failing("fsync", 2, errno.EIO), pytest.raises(OutputError, match=r"step_00000002: .*step 1 stays") as caught:
        save(run, 2)
    assert not isinstance(caught.value, StorageError)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(run, 2)
    assert run.checkpoints() == [1]
    assert hidden_names(run) == []


def assert_damaged(run: RunFolder, step: int, path: Path, text: str | None = None) -> ModelError:
    with pytest.raises(ModelError, match=text) as caught:
        run.load_checkpoint(step)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.exit_code == 3
    return caught.value


@pytest.mark.parametrize("name", ["state.json", "optimizers.safetensors"])
def test_damage_is_named_with_the_way_out(run: RunFolder, name: str) -> None:
    folder = save(run, 10)
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert_damaged(run, 10, path, "damaged|can't be read")
    path.unlink()
    assert str(folder) not in assert_damaged(run, 10, path, "no such file").hint
    save(run, 4)
    save(run, 7)
    assert assert_damaged(run, 10, path).hint == f"Delete {folder} to go on from step 7."
    assert_intact(run, 7)


@pytest.mark.parametrize("name", ["state.json", *(f"{stem}.safetensors" for stem in STEMS)])
def test_every_flipped_byte_is_noticed(run: RunFolder, name: str) -> None:
    path = run.checkpoint_path(9) / name
    save(run, 9)  # whose state has no digits that don't count
    data = path.read_bytes()
    for i in range(0, len(data), 1 if name == "state.json" else 29):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        assert_damaged(run, 9, path)
    path.write_bytes(data)
    assert_intact(run, 9)


def test_checkpoints_of_other_versions_steps_and_programs(run: RunFolder) -> None:
    path = save(run, 10) / "state.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"format": 2}))
    assert "Upgrade" in assert_damaged(run, 10, path, "newer ugatit").hint
    for text in ("[]", '{"step": 10}', "[" * 100_000):
        path.write_text(text)
        assert assert_damaged(run, 10, path).hint
    path.write_text(json.dumps(document))
    renamed = path.parent.rename(path.parent.with_name("step_00000020"))
    assert_damaged(run, 20, renamed / "state.json", "it is of step 10; the folder was renamed")
    with pytest.raises(ModelError, match="no such file"):
        run.load_checkpoint(30)


@pytest.mark.parametrize("replaced", [False, True])
def test_leftovers_of_killed_processes_are_removed(run: RunFolder, replaced: bool) -> None:
    folder = save(run, 1)
    shutil.copytree(folder, folder.with_name(".step_00000002.0123abcd.tmp"))
    (run.path / ".model.0123abcd.tmp").mkdir()
    (run.path / "samples").mkdir()
    for name in (
        ".metrics.jsonl.0123abcd.tmp",
        "samples/.step_00000001.png.0123abcd.tmp",
        "samples/step_00000001.png",
    ):
        (run.path / name).touch()
    retired = folder.with_name(".step_00000001.0123abcd.old")  # it was being replaced
    if replaced:
        shutil.copytree(folder, retired)
        (retired / "state.json").unlink()
    else:
        folder.rename(retired)
    run.clean()
    assert hidden_names(run) == []
    assert run.checkpoints() == [1]
    assert_intact(run, 1)
    assert (run.path / "samples" / "step_00000001.png").exists()


def test_metrics_come_back(run: RunFolder) -> None:
    assert list(run.metrics()) == []
    run.append_metrics({"step": 1, "name": "ü", "more": {"a": [math.inf, 1.5], "b": (-math.inf,)}})
    assert list(run.metrics()) == [{"step": 1, "name": "ü", "more": {"a": [None, 1.5], "b": [None]}}]
    text = (run.path / "metrics.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()] == list(run.metrics())


@pytest.mark.parametrize("half", [b'{"step": 3, "lo', b'{"step": 3, "x": "\xc3', b"3", b"\0\0\0"])
def test_lines_after_the_checkpoint_are_dropped(run: RunFolder, half: bytes) -> None:
    for step in (1, 2, 3, 4):
        run.append_metrics({"step": step, "loss": 1 / step})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(half)
    assert [values["step"] for values in run.metrics()] == [1, 2, 3, 4]
    with failing("fsync", 0, errno.ENOSPC), pytest.raises(StorageError, match=r"metrics\.jsonl: no space"):
        run.truncate_metrics(2)
    assert [values["step"] for values in run.metrics()] == [1, 2, 3, 4]
    run.truncate_metrics(2)
    run.append_metrics({"step": 3, "loss": 9.0})
    assert [(v["step"], v["loss"]) for v in run.metrics()] == [(1, 1.0), (2, 0.5), (3, 9.0)]
    assert (run.path / "metrics.jsonl").read_bytes().count(b"\n") == 3
    assert hidden_names(run) == []


def test_lines_that_are_kept_are_kept_as_they_are(run: RunFolder) -> None:
    lines = [b'{"step": 1,  "x": NaN, "y": "\\ud800", "z": 1' + b"0" * 400 + b"}", '{"step": 2, "ü": 1e999}'.encode()]
    (run.path / "metrics.jsonl").write_bytes(
        b"\r\n".join([*lines, b'{"step": "1"}', b'{"step": 1e999}', b"{}", b"[]"])
    )
    run.truncate_metrics(2)
    assert (run.path / "metrics.jsonl").read_bytes() == b"".join(line + b"\n" for line in lines)


@posix_only
@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl", "state.json", "optimizers.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "huge"])
def test_special_files_in_a_run(run: RunFolder, name: str, kind: str) -> None:
    save(run, 1)
    place = run.path if name in ("config.toml", "metrics.jsonl") else run.checkpoint_path(1)
    path = place / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 36)
    else:
        path.symlink_to("/dev/zero")
    reads: dict[str, Callable[[], object]] = {
        "config.toml": run.document,
        "metrics.jsonl": lambda: run.truncate_metrics(1),
    }
    with pytest.raises((ModelError, OutputError)) as caught:
        reads.get(name, lambda: run.load_checkpoint(1))()
    assert str(path) in caught.value.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_line_that_finds_the_disk_full(run: RunFolder) -> None:
    (run.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"metrics\.jsonl: "):
        run.append_metrics({"step": 1})


@pytest.mark.parametrize("best", [False, True])
def test_a_model_is_replaced(run: RunFolder, best: bool) -> None:
    folder, other = (run.best, run.path) if best else (run.path, run.best)
    write_model(run, 0.0, best=not best)
    for value in (1.0, 2.0):
        write_model(run, value, best=best)
        assert_model(folder, value)
    with pytest.raises(ModelError, match="not finite"):
        write_model(run, math.nan, best=best)
    assert_model(folder, 2.0)
    assert_model(other, 0.0)
    assert hidden_names(run) == []


PLACES_OF_MODELS = ("mkdir 1", *(f"fsync {n}" for n in range(6)))


@pytest.mark.parametrize(
    ("place", "best"),
    [(place, best) for best in (False, True) for place in PLACES_OF_MODELS]
    + [("replace 0", False), ("rename 1", True), ("rename 2", True)],
)
def test_a_full_disk_leaves_the_model_before(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, place: str, best: bool
) -> None:
    name, after = place.split()
    if name in ("rename", "replace"):
        without_exchange(monkeypatch)
    folder = run.best if best else run.model
    write_model(run, 1.0, best=best)
    with failing(name, int(after), errno.ENOSPC), pytest.raises(StorageError) as caught:
        write_model(run, 2.0, best=best)
    assert caught.value.message.startswith(f"{folder}: ")
    assert_model(folder, 1.0)
    assert hidden_names(run) == []


@pytest.fixture(scope="module")
def processes() -> BaseContext:
    return starting()


def hold_lock(path: Path, parent: Connection) -> None:
    with RunFolder(path).locked():
        if os.fork() == 0:  # as data loaders do; it outlives its parent
            parent.send("locked")  # and the fork is over, in which it lets go of the lock
            parent.poll(None)
            os._exit(0)
        parent.poll(None)


def test_the_lock_ends_with_its_process(tmp_path: Path, processes: BaseContext) -> None:
    run, (connection, theirs) = RunFolder(tmp_path / "run"), processes.Pipe()
    process = processes.Process(target=hold_lock, args=(run.path, theirs))  # type: ignore[attr-defined]  # has one
    process.start()
    theirs.close()
    try:
        connection.recv()
        with pytest.raises(UsageError, match="another process is training in") as caught, run.locked():
            pytest.fail("two processes at once")
        assert str(run.path) in caught.value.message
        assert caught.value.hint
        assert caught.value.exit_code == 2
    finally:
        process.kill()
        process.join()
    with run.locked(), pytest.raises(UsageError), RunFolder(run.path).locked():
        pytest.fail("twice in one process")
    with run.locked():
        pass
    connection.close()  # which ends the orphan


def assert_usable(run: RunFolder, before: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """The last step and that of the model, none of which may go back."""
    steps = run.checkpoints()
    for step in steps:
        assert_intact(run, step)
    opened = open_model(run.path)
    weights = torch.stack([opened.generator(d).to_rgb.weight.detach() for d in DIRECTIONS])
    assert weights.min() == weights.max()  # both from the same file
    check_hash(run.model / "discriminators.safetensors")
    model = int(weights.min())
    assert before[0] <= steps[-1]
    assert before[1] <= model <= steps[-1]
    return steps[-1], model


def train(number: int, path: Path, best: bool) -> None:
    """Trains a step as `ugatit train` would, or replaces the best model."""
    torch.set_num_threads(1)
    run = RunFolder(path)
    with run.locked():
        run.clean()
        step = (run.latest() or 0) + 1
        die(number)
        if best:
            write_model(run, float(number), best=True)
        else:
            save(run, step, keep=2)
            write_model(run, float(step))


@posix_only
def test_killed_at_every_step_of_saving(run: RunFolder, processes: BaseContext) -> None:
    save(run, 1)
    write_model(run, 1.0)
    state, left = (1, 1), []
    for _ in deaths(processes, train, run.path, False):
        left.append(bool(hidden_names(run)))
        state = assert_usable(run, state)
    assert len(left) > 25
    assert sum(left) > 15
    assert hidden_names(run) == []


@posix_only
def test_killed_at_every_step_of_replacing_the_best_model(run: RunFolder, processes: BaseContext) -> None:
    write_model(run, 0.0, best=True)
    known, hurt, number = 0, 0, 0
    for number in deaths(processes, train, run.path, True):
        hurt += bool(hidden_names(run))
        run.clean()
        found = open_model(run.best).provenance["step"]
        assert found in (known, number)
        assert_model(run.best, found)
        assert hidden_names(run) == []
        known = found
    assert known == number
    assert hurt > 8


def test_what_somebody_put_beside_the_model_stays(run: RunFolder) -> None:
    write_model(run, 1.0)
    (run.model / "README.md").write_text("mine")
    write_model(run, 2.0)
    assert (run.model / "README.md").read_text() == "mine"
    assert_model(run.model, 2)

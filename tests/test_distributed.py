"""Several processes that train one model together, on this machine and through gloo."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.extractors import tiny_extractor
from tests.programs import starting
from tests.trainings import Log, make_folders, metrics, train, weights
from ugatit_cli.data.pictures import Folders
from ugatit_cli.device import Group, joined_group
from ugatit_cli.errors import DeviceError, TrainingError
from ugatit_cli.training import evaluation, session
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.trainer import Outcome, Trainer
from ugatit_cli.weights.folder import write_tensors


def test_one_process_is_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_group("auto") as group:
        assert group == Group(0, 1, 0)
    tensor = torch.tensor([1.0, 2.0])
    group.average([tensor])
    assert tensor.tolist() == [1, 2]
    assert (group.any(True), group.any(False), group.share(2.5)) == (True, False, 2.5)


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="process 1 has no GPU: there are 1") as caught, joined_group("auto"):
        pytest.fail("joined")
    assert caught.value.hint


Files = tuple[Path, ...]


class Keeping(Trainer):
    """Writes down what this process ends with, in the folder beside the run."""

    def train(self, stop: Any) -> Outcome:
        outcome = super().train(stop)
        tensors = {f"{stem}/{name}": t for stem, file in self.networks.files().items() for name, t in file.items()}
        end = self.run.path.with_name(f"{self.run.path.name}.{self.machine.group.rank}")
        write_tensors(end, tensors | self.training.optimizer_tensors())
        return outcome


def forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("only one process writes")


def work(
    rank: int, port: int, path: Path, folders: Folders, given: dict[str, Any], stop_after: int | None, lost: Files
) -> None:
    """One of two processes, as `torchrun` would start it; after the first step, files are lost."""
    torch.set_num_threads(1)
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in where.items()})
    vars(session)["Trainer"] = Keeping
    if rank:
        for name in ("create", "clean", "save_checkpoint", "write_model", "append_metrics", "truncate_metrics"):
            setattr(RunFolder, name, forbidden)
    vars(evaluation)["load_extractor"] = forbidden if rank else lambda *_, **__: tiny_extractor()

    def lose() -> None:
        for file in lost:
            file.unlink(missing_ok=True)

    log = Log({1: lose})
    with joined_group("cpu") as group:
        # Whoever is told to stop, all of them do.
        try:
            train(path, folders, given, log=log, group=group, stop_after=stop_after if rank else None)
        except TrainingError as error:
            sys.exit(10 * rank + error.exit_code)
    losses = [report.losses for report in log.reports]
    path.with_name(f"{path.name}.{rank}.json").write_text(json.dumps(losses))


def start_two(
    path: Path, folders: Folders, given: dict[str, Any], stop_after: int | None = None, lost: Files = ()
) -> list[int | None]:
    """Exit codes of two processes that train together."""
    context = starting()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(target=work, args=(rank, port, path, folders, given, stop_after, lost)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def train_two(path: Path, folders: Folders, given: dict[str, Any], *, stop_after: int | None = None) -> list[Any]:
    """The losses of each step; both processes end with the same weights."""
    assert start_two(path, folders, given, stop_after) == [0, 0]
    ends = [path.with_name(f"{path.name}.{rank}").read_bytes() for rank in range(2)]
    assert len(ends[0]) > 100_000
    assert ends[0] == ends[1]
    losses = [json.loads(path.with_name(f"{path.name}.{rank}.json").read_text()) for rank in range(2)]
    assert losses[0] == losses[1]
    return list(losses[0])


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't fork")


@pytest.mark.slow
@pytest.mark.parametrize(
    "ours",
    [{"recipe": "paper"}, {"recipe": "default", "batch_size": 4}, {"method": "cyclegan", "pool_size": 3}],
    ids=str,
)
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path: Path, ours: dict[str, Any]) -> None:
    folders = make_folders(tmp_path / "pictures")
    given = {"iterations": 4, "augment": "off", **ours}
    each = given.pop("batch_size", 1)
    two = train_two(tmp_path / "two", folders, given | {"batch_size": each})
    log = Log()
    train(tmp_path / "one", folders, given | {"batch_size": 2 * each}, log=log)
    assert len(two) == 4
    for step, (losses, report) in enumerate(zip(two, log.reports, strict=True)):
        rel = 1e-4 * 5**step  # of sums in another order, which each of Adam's steps magnifies
        # What judges say is the difference of large numbers.
        least = {name: 1e-2 if "g_judge" in name else 1e-6 for name in losses}
        assert losses == {name: pytest.approx(loss, rel=rel, abs=least[name]) for name, loss in report.losses.items()}
    alone, _ = train(tmp_path / "alone", folders, given | {"batch_size": 1}, log=(half := Log()), stop_after=1)
    assert alone.recipe.batch_size == 1
    assert half.reports[0].losses != two[0]
    assert [line["step"] for line in metrics(tmp_path / "two")] == [4]
    assert set(weights(tmp_path / "two")) == set(weights(tmp_path / "one"))


@pytest.mark.slow
def test_the_number_of_processes_may_change(tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "pictures")
    path, given = tmp_path / "run", {"iterations": 5, "augment": "on", "batch_size": 1}
    assert len(train_two(path, folders, given, stop_after=2)) == 2
    assert RunFolder(path).latest() == 2
    log = Log()
    _, outcome = train(path, folders, given, log=log, stop_after=3)
    assert outcome.step == 3
    assert [report.step for report in log.reports] == [3]
    assert len(train_two(path, folders, given)) == 2
    assert RunFolder(path).latest() == 5
    assert train(path, folders, given)[1].finished


@pytest.mark.slow
def test_one_process_evaluates_while_the_other_waits(tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "pictures", 12)
    given = {"iterations": 3, "augment": "on", "batch_size": 1, "holdout": "4"}
    path, without = tmp_path / "run", tmp_path / "without"
    assert len(train_two(path, folders, given | {"evaluate_every": "2"}, stop_after=2)) == 2
    assert not (path / "best").exists()
    assert len(train_two(path, folders, given | {"evaluate_every": "2"})) == 1  # after that of step 2
    assert [line["step"] for line in metrics(path) if "kid" in line] == [2, 3]
    train_two(without, folders, given)
    assert weights(path) == weights(without)


@pytest.mark.slow
def test_an_evaluation_that_fails_ends_both_processes(tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "pictures", 12)
    given = {"iterations": 3, "augment": "off", "batch_size": 1, "holdout": "4", "evaluate_every": "2"}
    lost = tuple(folders.a.iterdir())  # what is trained on is in memory, what is held out is read again
    assert start_two(tmp_path / "run", folders, given, lost=lost) == [4, 14]
    assert RunFolder(tmp_path / "run").latest() == 2

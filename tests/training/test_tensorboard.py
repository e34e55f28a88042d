"""Curves and sample grids for TensorBoard, read back with its own reader."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainings import JOINT, TINY, Log, prepared
from ugatit_cli.config import Direction
from ugatit_cli.data.pictures import Folders
from ugatit_cli.errors import OutputError
from ugatit_cli.metrics.distances import Kid
from ugatit_cli.training.evaluation import Evaluation
from ugatit_cli.training.listeners import Several, StepReport, TensorBoard, means
from ugatit_cli.training.run_folder import RunFolder


def test_means_are_over_the_steps_that_have_a_loss() -> None:
    copying = {"copy_a": 8.0, "copy_b": 8.0, "g_a": 8.0}
    some, all_ = {"d": 1.0}, {"d": 4.0, "g_a": 2.0}
    assert means([]) == {}
    assert means([copying, some, all_, some]) == {"d": 2.0, "g_a": 2.0}
    assert means([copying, copying]) == copying


def report(step: int, **values: Any) -> StepReport:
    plain: dict[str, Any] = {"progress": 0.5, "losses": {}, "learning_rate": 1e-4, "memory": 1}
    speed = {"steps_per_second": 2.0, "images_per_second": 2.0, "seconds_left": 1.0}
    return StepReport(step=step, **(plain | speed | values))


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    return EventAccumulator(str(folder)).Reload()


def curve(folder: Path, name: str) -> list[tuple[int, Any]]:
    return [(point.step, pytest.approx(point.value)) for point in read(folder).Scalars(name)]


def test_curves_are_those_of_the_metrics_however_often_it_was_interrupted(folders: Folders, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for last in (13, 25):
        board, stop = TensorBoard(tmp_path / "board"), threading.Event()
        given = TINY | JOINT | {"iterations": 25}
        prepared(run.path, folders, given).train(Several(board, Log({last: stop.set})), stop)
        board.close()
    lines = [(line["step"], line["cycle_a"]) for line in run.metrics() if "cycle_a" in line]
    assert [step for step, _ in lines] == [10, 20, 25]
    assert curve(tmp_path / "board", "losses/cycle_a") == lines


def test_nothing_is_written_before_the_first_step(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "board")
    board.loading(1, 2)
    board.note("nothing is written yet")
    board.saved(0)
    assert not (tmp_path / "board").exists()
    board.recorded(report(1, images_per_second=None), {"cycle_a": 5.5})  # it isn't known yet
    board.recorded(report(2), {})
    board.close()
    assert curve(tmp_path / "board", "losses/cycle_a") == [(1, 5.5)]
    assert curve(tmp_path / "board", "learning rate") == [(1, 1e-4), (2, 1e-4)]
    assert curve(tmp_path / "board", "images per second") == [(2, 2.0)]


def test_samples(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grid.png")
    board = TensorBoard(tmp_path / "board")
    board.stepped(report(1))
    board.sampled(1, tmp_path / "grid.png")
    board.saved(1)
    shown = read(tmp_path / "board").Images("samples")  # before it is closed: saving puts it onto the disk
    board.close()
    assert [one.step for one in shown] == [1]
    with Image.open(io.BytesIO(shown[0].encoded_image_string)) as image:
        assert (np.asarray(image.convert("RGB")) == pixels).all()


def evaluation(step: int, value: float, extractor: str = "one") -> Evaluation:
    kids: dict[Direction, Kid] = {"a2b": Kid(value, 0.1, 100, 3), "b2a": Kid(2 * value, 0.1, 100, 3)}
    return Evaluation(
        step, {"moving average": kids, "current": kids}, best=True, seconds=1.0, protocol={"extractor": extractor}
    )


def test_what_is_done_again_replaces_the_old(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for step in (10, 20, 30):
        board.recorded(report(step), {"cycle_a": 1.0})
    board.evaluated(evaluation(10, 0.25))
    board.close()  # killed at 30, last saved at 10
    board = TensorBoard(tmp_path)  # goes on at step 10, which is evaluated again before the next one
    board.evaluated(evaluation(10, 0.5))
    board.stepped(report(11))
    board.recorded(report(20), {"cycle_a": 2.0})
    board.evaluated(evaluation(20, 0.125))
    board.evaluated(evaluation(30, 0.125, "another"))
    board.close()
    assert curve(tmp_path, "losses/cycle_a") == [(10, 1.0), (20, 2.0)]
    assert curve(tmp_path, "KID/a2b moving average")[-3:-1] == [(10, 0.5), (20, 0.125)]
    assert curve(tmp_path, "KID/b2a current")[-3:-1] == [(10, 1.0), (20, 0.25)]
    texts = read(tmp_path).Tensors("KID/protocol/text_summary")
    told = [(one.step, one.tensor_proto.string_val[0].decode()) for one in texts]
    assert told[-2:] == [(10, "extractor: one"), (30, "extractor: another")]


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    board = TensorBoard(tmp_path / "file" / "board")
    with pytest.raises(OutputError, match="file/board: can't be written"):
        board.stepped(report(1))
    board.close()

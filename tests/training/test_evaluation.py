"""Evaluation during training: its figures, the best model, and that training is as without it."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.extractors import tiny_extractor
from tests.training.conftest import Clock
from tests.trainings import CPU, TINY, Log, make_folders, metrics, prepared, train, weights
from ugatit_cli.config import DIRECTIONS
from ugatit_cli.data.batches import sample_pictures
from ugatit_cli.data.pictures import Folders, Pictures
from ugatit_cli.device import Group
from ugatit_cli.errors import DataError, ModelError, TrainingError, UsageError
from ugatit_cli.methods.networks import Networks
from ugatit_cli.metrics.distances import Kid, kid
from ugatit_cli.metrics.features import BUNDLED_NAME, Extractor
from ugatit_cli.training import evaluation as evaluation_module
from ugatit_cli.training import session
from ugatit_cli.training.evaluation import PROTOCOL, Evaluation, Evaluator, best_of, holdout_fingerprint, is_evaluated
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.training.trainer import Machine, Trainer, load_data
from ugatit_cli.translation.model import Model
from ugatit_cli.weights.folder import open_model

MACHINE = Machine(CPU, 1, Group())
EVALUATED: dict[str, Any] = {
    "iterations": 6,
    "holdout": "6",
    "checkpoint_every": "2",
    "evaluate_every": "2",
    "ema": 0.5,
    "learning_rate": 0.01,  # so that steps differ in what they are worth
    "recipe": "paper",
}


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Two folders of 16 tiny pictures, 6 of which are held out."""
    return make_folders(tmp_path_factory.mktemp("sixteen"), 16)


@pytest.fixture(autouse=True)
def extractors(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What extractors were asked for; each is the tiny one."""
    asked: list[Any] = []

    def load(file: Path | None, layer: str | None, *, device: torch.device, **_: Any) -> Extractor:
        asked.append((file, layer, device))
        return tiny_extractor()

    monkeypatch.setattr(evaluation_module, "load_extractor", load)
    return asked


@pytest.fixture(scope="module")
def whole(sixteen: Folders, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    """A run with evaluations that nobody interrupted, and what it told."""
    path, log = tmp_path_factory.mktemp("whole") / "run", Log()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_module, "load_extractor", lambda *_, **__: tiny_extractor())
        train(path, sixteen, EVALUATED, log=log)
    return path, log


def best_files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((path / "best").iterdir())}


def same_end(one: Path, other: Path) -> None:
    assert weights(one) == weights(other)
    assert metrics(one) == metrics(other)
    assert best_files(one) == best_files(other)
    assert not [file for file in one.rglob(".*") if file.name != ".lock"]


def curve(path: Path) -> list[dict[str, Any]]:
    return [line for line in metrics(path) if "kid" in line]


def test_every_evaluation_is_told_and_noted(whole: tuple[Path, Log]) -> None:
    path, log = whole
    assert [one.step for one in log.evaluations] == [2, 4, 6]
    a, b = (tiny_extractor()(sample_pictures(one, 6, 0)) for one in pictures_of(path))
    untouched = log.evaluations[0].untouched
    for way in DIRECTIONS:  # other subsets, as pictures come in another order
        by_hand = kid(a, b) if way == "a2b" else kid(b, a)
        assert untouched[way].mean == pytest.approx(by_hand.mean, abs=3 * untouched[way].std)
    for evaluation, line in zip(log.evaluations, curve(path), strict=True):
        assert list(evaluation.kids) == ["moving average", "current"]
        assert line["step"] == evaluation.step
        assert {name: line[name] for name in evaluation.protocol} == evaluation.protocol
        for prefix, kids in zip(("kid", "kid_current"), evaluation.kids.values(), strict=True):
            assert line[prefix] == {direction: kids[direction].mean for direction in DIRECTIONS}
            assert line[f"{prefix}_std"] == {direction: kids[direction].std for direction in DIRECTIONS}
        assert evaluation.untouched == untouched
        assert line["kid_untouched"] == {direction: untouched[direction].mean for direction in DIRECTIONS}
    means = [min(map(evaluation_module.mean_kid, one.kids.values())) for one in log.evaluations]
    assert len(set(means)) == 3
    assert [one.best for one in log.evaluations] == [mean == min(means[: i + 1]) for i, mean in enumerate(means)]


def test_the_best_model_is_kept(whole: tuple[Path, Log]) -> None:
    path, log = whole
    evaluation = [one for one in log.evaluations if one.best][-1]
    model, kids = open_model(path / "best"), evaluation.kids[evaluation.winner]
    assert model.discriminators is not None
    settings = dict(model.provenance)["settings"]
    assert model.provenance == {
        "settings": settings,
        "trained with": "ugatit train",
        "recipe": "paper",
        "steps": evaluation.step,
        "batch size": 1,
        "pictures": "10 red, 10 blue",
        "generators": evaluation.winner,
        "kid": {direction: one.mean for direction, one in kids.items()},
        "kid_std": {direction: one.std for direction, one in kids.items()},
        "kid_untouched": {direction: one.mean for direction, one in evaluation.untouched.items()},
        "kid_untouched_std": {direction: one.std for direction, one in evaluation.untouched.items()},
        "extractor": "tiny network, 6 features",
        "subsets": "100 of 3 pictures",
        "held-out pictures": f"6 red, 6 blue ({holdout_fingerprint(pictures_of(path))})",
    }


def pictures_of(path: Path) -> tuple[Pictures, Pictures]:
    """Of a run, loaded again."""
    run = RunFolder(path)
    return load_data(Settings.of_run(run), run, MACHINE, Log(), threading.Event())


def test_the_figures_are_those_of_the_model_that_is_kept(whole: tuple[Path, Log]) -> None:
    path, _ = whole
    best = best_of(RunFolder(path))
    assert best is not None
    model = Model.from_folder("best", open_model(path / "best"), device="cpu", precision="fp32")
    a, b = map(middles, pictures_of(path))
    extractor = tiny_extractor()
    features = {way: extractor(stacked(model.translate(of, way))) for way, of in zip(DIRECTIONS, (a, b), strict=True)}
    for way, real in zip(DIRECTIONS, (b, a), strict=True):
        assert kid(features[way], extractor(stacked(real))).mean == pytest.approx(best.kid[way], abs=1e-9)


def middles(pictures: Pictures) -> list[Image.Image]:
    """Held-out pictures as the network is to see them, made without any code of the package: squashed to 32x32."""
    found = []
    for path in pictures.held_out:
        with Image.open(path) as image:
            found.append(image.resize((32, 32), Image.Resampling.BILINEAR))
    return found


def stacked(pictures: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).permute(0, 3, 1, 2)


def test_without_a_moving_average(sixteen: Folders, tmp_path: Path) -> None:
    log = Log()
    train(tmp_path / "run", sixteen, EVALUATED | {"ema": 0.0, "iterations": 2}, log=log)
    assert [list(one.kids) for one in log.evaluations] == [["current"]]
    assert set(curve(tmp_path / "run")[0]) == {
        "step",
        "kid",
        "kid_std",
        "kid_untouched",
        "kid_untouched_std",
        *PROTOCOL,
    }
    files = weights(tmp_path / "run")
    assert best_files(tmp_path / "run")["model.safetensors"] == files["model/model.safetensors"]


def test_only_a_better_model_replaces_the_best(
    sixteen: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of steps 2, 4 and 6, each a2b and b2a, each of the moving average and the current generators; after step 2
    # those of untouched pictures.
    values = iter([0.3, 0.5, 0.3, 0.5, 0.25, 0.2, 0.4, 0.2, 0.4, 0.2, 0.3, 0.3, 0.3, 0.3])
    monkeypatch.setattr(evaluation_module, "kid", lambda *_: Kid(next(values), 0.01, 100, 3))
    monkeypatch.setattr(session, "extractor_for", lambda *_: tiny_extractor())
    path, log = tmp_path / "run", Log()
    train(path, sixteen, EVALUATED, log=log)
    assert [one.best for one in log.evaluations] == [True, True, False]
    assert [one.winner for one in log.evaluations] == ["moving average", "current", "moving average"]
    best = best_of(RunFolder(path))
    assert best is not None
    assert (best.step, best.generators, best.kid) == (4, "current", {"a2b": 0.2, "b2a": 0.2})
    assert best.untouched == {"a2b": 0.25, "b2a": 0.2}
    assert best.against_untouched == {"a2b": "better", "b2a": "unclear"}
    checkpoint = RunFolder(path).checkpoint_path(4)
    assert best_files(path)["model.safetensors"] == (checkpoint / "generators.safetensors").read_bytes()


def again(path: Path) -> tuple[Networks, Evaluator]:
    """Networks of a run's last checkpoint, and what evaluates them."""
    run, pictures = RunFolder(path), pictures_of(path)
    settings = Settings.of_run(run)
    trainer = Trainer(run, settings, pictures, MACHINE, Log())
    return trainer.networks, Evaluator(run, settings, pictures, tiny_extractor())


def test_training_is_as_without(
    whole: tuple[Path, Log], sixteen: Folders, tmp_path: Path, extractors: list[Any]
) -> None:
    train(tmp_path / "run", sixteen, EVALUATED | {"evaluate_every": "off"})
    assert weights(tmp_path / "run") == weights(whole[0])
    assert metrics(tmp_path / "run") == [line for line in metrics(whole[0]) if "kid" not in line]
    assert not (tmp_path / "run" / "best").exists()
    assert extractors == []


class Killed(BaseException):
    """Ends a run at once, as if it were killed."""


def kill() -> None:
    raise Killed


@pytest.mark.parametrize(
    ("place", "every"), [("append_metrics", "4"), ("write_model", "2"), ("save_checkpoint", "4")]
)
def test_a_killed_run_ends_as_the_whole_one(
    whole: tuple[Path, Log], sixteen: Folders, tmp_path: Path, place: str, every: str
) -> None:
    path, given = tmp_path / "run", EVALUATED | {"checkpoint_every": every}
    original: Callable[..., Any] = getattr(RunFolder, place)
    left = [1]  # calls that succeed before the kill; of `write_model`, those for the best model

    def killing(self: RunFolder, *arguments: Any, **options: Any) -> Any:
        left[0] -= place != "write_model" or options.get("best", False)
        if left[0] < 0:
            raise Killed
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(RunFolder, place, killing)
        train(path, sixteen, given)
    train(path, sixteen, given)
    same_end(path, whole[0])


@pytest.mark.parametrize(("step", "inside"), [(2, False), (2, True)])
def test_a_stopped_run_ends_as_the_whole_one(
    whole: tuple[Path, Log], sixteen: Folders, tmp_path: Path, step: int, inside: bool
) -> None:
    path, stop, log = tmp_path / "run", threading.Event(), Log()
    if inside:  # the evaluation
        log.evaluating = lambda *_: stop.set()  # type: ignore[method-assign]
    else:
        log.calls[step] = stop.set
    _, outcome = prepared(path, sixteen, TINY | EVALUATED).train(log, stop)
    assert (outcome.step, outcome.finished) == (step, False)
    assert not is_evaluated(RunFolder(path), step, {})
    assert train(path, sixteen, EVALUATED)[1].finished
    same_end(path, whole[0])


def test_a_best_model_of_a_step_that_was_undone_stays(sixteen: Folders, tmp_path: Path) -> None:
    path, given = tmp_path / "run", EVALUATED | {"checkpoint_every": "100"}
    with pytest.raises(Killed):
        train(path, sixteen, given, log=Log({3: kill}))
    before = best_files(path)
    assert (RunFolder(path).latest(), best_of(RunFolder(path)) is not None) == (None, True)
    log = Log()
    train(path, sixteen, given, log=log, stop_after=3)
    assert [(one.step, one.best) for one in log.evaluations] == [(2, True)]  # the same again
    assert best_files(path) == before


def test_a_finished_run_is_evaluated_when_somebody_asks(sixteen: Folders, tmp_path: Path) -> None:
    path, log = tmp_path / "run", Log()
    train(path, sixteen, EVALUATED | {"evaluate_every": "off", "iterations": 2})
    _, outcome = train(path, None, {"evaluate_every": "5"}, log=log)
    assert outcome.finished
    assert (log.reports, [one.step for one in log.evaluations]) == ([], [2])
    train(path, None, {}, log=log)
    assert len(log.evaluations) == 1


def test_a_complete_run_whose_extractor_is_missing(
    whole: tuple[Path, Log], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise ModelError("no such file")

    monkeypatch.setattr(evaluation_module, "load_extractor", failing)
    shutil.copytree(whole[0], tmp_path / "run")
    with pytest.raises(ModelError, match="no such file"):
        train(tmp_path / "run", None, {"features": "/none"})


@pytest.mark.parametrize("iterations", [6, 7])
def test_another_extractor_begins_anew(
    whole: tuple[Path, Log], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    path, log = tmp_path / "run", Log()
    shutil.copytree(whole[0], path)
    train(path, None, {}, log=log)
    assert log.evaluations == []
    better = tiny_extractor("another", seed=1)
    # Distances a hundred times as large: by the figures alone, nothing would be better any more.
    larger = replace(better, network=lambda pictures: 10 * better.network(pictures))
    monkeypatch.setattr(evaluation_module, "load_extractor", lambda *_, **__: larger)
    for _ in range(2):
        train(path, None, {"iterations": iterations, "features": "/other"}, log=log)
        assert (log.evaluations[0].step, log.evaluations[0].best) == (6, True)  # where its curve begins
        assert [one.step for one in log.evaluations] == list(range(6, iterations + 1))
    assert open_model(path / "best").provenance["extractor"] == "another"
    assert [line["extractor"] for line in curve(path)][2:] == [tiny_extractor().name] + (iterations - 5) * ["another"]
    assert any("measured in another way" in note for note in log.notes)


@pytest.mark.parametrize("iterations", [6, 7])
def test_other_held_out_pictures_begin_anew(
    whole: tuple[Path, Log], sixteen: Folders, tmp_path: Path, iterations: int
) -> None:
    path, log = tmp_path / "run", Log()
    shutil.copytree(whole[0], path)
    shutil.copytree(sixteen.a, tmp_path / "test_a")
    for extra in sorted((tmp_path / "test_a").iterdir())[6:]:
        extra.unlink()
    train(path, replace(sixteen, test_a=tmp_path / "test_a"), {"iterations": iterations}, log=log)
    assert (log.evaluations[0].step, log.evaluations[0].best) == (6, True)
    told = [line["held-out pictures"].partition(" (") for line in curve(path) if line["step"] == 6]
    assert [one[0] for one in told] == ["6 red, 6 blue"] * 2
    assert told[0] != told[1]
    assert "the pictures are not those that the run began with: it goes on with these" in log.notes


def test_how_held_out_pictures_are_told_apart(whole: tuple[Path, Log], tmp_path: Path) -> None:
    a, b = pictures_of(whole[0])
    first = holdout_fingerprint((a, b))
    (tmp_path / "moved").mkdir()
    moved = tuple(Path(shutil.copy(path, tmp_path / "moved")) for path in a.held_out)
    assert holdout_fingerprint((replace(a, held_out=moved), b)) == first
    moved[0].write_bytes(moved[0].read_bytes() + b"more")
    larger = holdout_fingerprint((replace(a, held_out=moved), b))
    moved[0].unlink()
    gone = holdout_fingerprint((replace(a, held_out=moved), b))
    fewer = holdout_fingerprint((replace(a, held_out=moved[1:]), b))
    assert len({first, larger, gone, fewer, holdout_fingerprint((replace(a, held_out=b.held_out), b))}) == 5


def test_a_held_out_picture_that_vanishes(tmp_path: Path) -> None:
    folders, path = make_folders(tmp_path / "pictures", 16), tmp_path / "run"
    train(path, folders, EVALUATED | {"iterations": 1})
    gone = pictures_of(path)[0].held_out[3]
    data = gone.read_bytes()
    with pytest.raises(DataError, match="it could be read when training started"):
        train(path, folders, EVALUATED, log=Log({2: gone.unlink}))
    assert RunFolder(path).latest() == 2
    assert curve(path)[-1]["step"] == 1
    gone.write_bytes(data)
    train(path, folders, EVALUATED)
    assert [line["step"] for line in curve(path)] == [1, 2, 4, 6]


def test_translations_that_are_not_numbers(whole: tuple[Path, Log], tmp_path: Path) -> None:
    path = shutil.copytree(whole[0], tmp_path / "run")
    before, (networks, evaluator) = best_files(path), again(path)
    with torch.no_grad():
        networks.translators["b2a"].to_rgb.weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="step 9: "):
        evaluator(networks, 9, 1.0)
    assert best_files(path) == before
    assert not is_evaluated(RunFolder(path), 9, {})


@pytest.mark.parametrize(
    ("said", "mean"),
    [
        ({"steps": 3, "kid": {"a2b": 1, "b2a": 2}}, 1.5),
        ({"steps": 3, "kid": {"a2b": 1, "b2a": 2}, "kid_std": {"a2b": 1}, "kid_untouched": 3}, 1.5),
        ([], None),
        ({"steps": 3}, None),
        ({"steps": "3", "kid": {"a2b": 1, "b2a": 2}}, None),
        ({"steps": 3, "kid": {"a2b": 1, "b2a": None}}, None),
        ({"steps": 3, "kid": [1, 2]}, None),
    ],
)
def test_what_the_best_model_says(tmp_path: Path, said: object, mean: float | None) -> None:
    run = RunFolder(tmp_path)
    assert best_of(run) is None
    run.best.mkdir()
    (run.best / "config.json").write_text(json.dumps({"format": 1, "model": {}, "provenance": said}))
    found = best_of(run)
    assert (found and found.mean) == mean
    assert not (found and found.against_untouched)


def test_evaluating_takes_no_time_of_the_runs(
    sixteen: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    evaluate = Evaluator.__call__

    def slow(self: Evaluator, *arguments: Any) -> Evaluation:
        clock.tick(600)
        return evaluate(self, *arguments)

    monkeypatch.setattr(Evaluator, "__call__", slow)
    log = Log(dict.fromkeys(range(1, 9), clock.tick))
    length = {"iterations": None, "minutes": 2.0, "evaluate_every": "0.7m", "checkpoint_every": "100"}
    _, outcome = train(tmp_path / "run", sixteen, EVALUATED | length, log=log)
    assert (outcome.step, outcome.finished) == (9, True)
    assert [report.progress for report in log.reports] == [i / 8 for i in range(9)]
    assert [one.step for one in log.evaluations] == [3, 6, 9]
    assert [line["elapsed"] for line in RunFolder(tmp_path / "run").metrics() if "kid" in line] == [45, 90, 120]


@pytest.mark.parametrize(("name", "choice"), [(BUNDLED_NAME, "bundled"), ("Inception-v3 (2015)", "inception")])
def test_a_run_keeps_the_extractor_of_its_best_model(
    whole: tuple[Path, Log], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, choice: str
) -> None:
    """Whatever else could be had by then: figures of another one don't compare."""
    asked: list[str] = []

    def load(*_: object, choice: str, **__: object) -> Extractor:
        asked.append(choice)
        return tiny_extractor(name)

    path, folders = shutil.copytree(whole[0], tmp_path / "run"), Settings.of_run(RunFolder(whole[0])).folders
    (path / "best" / "config.json").write_text(
        (path / "best" / "config.json").read_text().replace("tiny network, 6 features", name)
    )
    (path / "best" / "SHA256SUMS").unlink(missing_ok=True)
    monkeypatch.setattr(evaluation_module, "load_extractor", load)
    train(path, folders, EVALUATED)
    train(path, folders, EVALUATED | {"extractor": "bundled"})
    train(tmp_path / "new", folders, EVALUATED | {"iterations": 1})
    assert asked == [choice, "bundled", "auto"]


@pytest.mark.parametrize(("count", "has"), [(0, "none"), (3, "3")])
@pytest.mark.parametrize(("kept", "tests"), [(False, False), (True, True)])
def test_too_few_held_out_pictures(
    sixteen: Folders, extractors: list[Any], tmp_path: Path, count: int, has: str, kept: bool, tests: bool
) -> None:
    path, folders, given = tmp_path / "run", sixteen, TINY | EVALUATED | {"holdout": str(count)}
    if tests:
        other = make_folders(tmp_path / "tests", count)
        folders = replace(sixteen, test_a=other.a, test_b=other.b)
    if kept:
        path.mkdir()
    asked = prepared(path, folders, given)
    for call in (asked.train, asked.dry_run):
        with pytest.raises(UsageError, match=f"red has {has}$") as caught:
            call(Log(), threading.Event())
        assert ("too small" in caught.value.hint, str(folders.test_a) in caught.value.hint) == (not tests, tests)
        assert "--holdout" not in caught.value.hint  # of 16 pictures
    assert not extractors  # which may have to be downloaded
    assert path.exists() is kept  # a folder that was there isn't removed


@pytest.mark.parametrize("kept_bytes", [2**20, 0])  # in memory, and read again
def test_real_pictures_go_through_the_network_once(
    whole: tuple[Path, Log], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(evaluation_module, "KEPT_BYTES", kept_bytes)
    path, told = shutil.copytree(whole[0], tmp_path / "run"), []
    networks, evaluator = again(path)
    first, second = (evaluator(networks, 6, 1.0, lambda *progress: told.append(progress)) for _ in range(2))
    assert told == [(0, 24), (6, 24), (12, 24), (18, 24), (0, 12), (6, 12)]  # the second knows the real ones
    assert first.kids == second.kids


def test_one_way_is_evaluated_that_way(sixteen: Folders, vgg: str, tmp_path: Path) -> None:
    given = EVALUATED | {"method": "cartoongan", "vgg": vgg, "warm_up": "off"}
    whole, path, log = tmp_path / "whole", tmp_path / "run", Log()
    train(whole, sixteen, given, log=log)
    assert [one.step for one in log.evaluations] == [2, 4, 6]
    for evaluation, line in zip(log.evaluations, curve(whole), strict=True):
        assert [list(kids) for kids in evaluation.kids.values()] == [["a2b"], ["a2b"]]
        assert line["kid"] == {"a2b": evaluation.kids["moving average"]["a2b"].mean}
    kept, best = [one for one in log.evaluations if one.best][-1], best_of(RunFolder(whole))
    assert best is not None
    assert (best.step, best.kid) == (kept.step, {"a2b": kept.kids[kept.winner]["a2b"].mean})
    assert best.mean == best.kid["a2b"]
    assert open_model(whole / "best").config.directions == ("a2b",)
    train(path, sixteen, given, stop_after=3)
    train(path, sixteen, given)
    same_end(path, whole)

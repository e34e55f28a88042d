"""`ugatit evaluate`: figures, options, reports and exit codes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny
from tests.cli.conftest import Command, Outcome
from tests.evaluations import save_pictures
from tests.extractors import tiny_extractor
from tests.fetched import flip
from tests.trainings import TINY, Log, make_folders, prepared, train
from ugatit_cli.data.pictures import Folders, Pictures
from ugatit_cli.device import Group
from ugatit_cli.errors import install_line
from ugatit_cli.metrics import features
from ugatit_cli.metrics.features import Extractor
from ugatit_cli.training.listeners import Listener
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.training.trainer import Machine, load_data

CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def extractor(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path | None, str | None]]:
    """A tiny one instead of Inception; what it was asked for."""
    asked: list[tuple[Path | None, str | None]] = []

    def load(file: Path | None, layer: str | None, *, device: torch.device, **_: Any) -> Extractor:
        assert device.type == "cpu"
        asked.append((file, layer))
        return tiny_extractor()

    monkeypatch.setattr(features, "load_extractor", load)
    return asked


@pytest.fixture
def evaluate(ugatit: Command, extractor: list[Any]) -> Command:
    """`ugatit evaluate` with a tiny extractor, in a folder that has others with pictures of 32 x 32 pixels."""
    assert extractor == []
    for seed, (name, count) in enumerate({"out": 9, "clay": 8, "flat": 9}.items()):
        save_pictures(Path(name), count, size=(32, 32), seed=seed)
    return lambda *arguments: ugatit("evaluate", *arguments, *CPU)


def figures(outcome: Outcome) -> dict[str, Any]:
    """The JSON document on stdout."""
    assert (outcome.code, outcome.errors, len(outcome.lines)) == (0, [], 1)
    document = outcome.documents[0]
    assert (document.pop("status"), document.pop("exit")) == ("done", 0)
    return document


def with_model(model: str, *arguments: object) -> tuple[object, ...]:
    return ("--model", model, "--domain-a", "flat", "--domain-b", "clay", *arguments)


# --- Figures -------------------------------------------------------------------------------------------


def test_a_table_and_the_same_figures_as_json(evaluate: Command) -> None:
    arguments = ("out", "clay", "--source", "flat", "--pairs", "clay", "--baseline")
    outcome = evaluate(*arguments)
    assert (outcome.code, outcome.errors) == (0, [])
    table = outcome.stdout.decode()
    rows = {line.rpartition("  ")[0].split("  ")[0].strip(): line.split() for line in outcome.lines if line}
    assert table.startswith("out against clay\n")
    for label in ("KID x100", "source-mixed KID x100", "FID", "feature distance of pairs", "SSIM", "PSNR dB", "L1"):
        assert rows[label][-1] == ("higher" if label in ("SSIM", "PSNR dB") else "lower")
    assert rows["source-mixed KID x100"][-2] == "-"  # of the untouched source
    assert "untouched" in table
    assert "\n9 translated, 8 real pictures, 8 pairs\n" in table
    assert "\nfeatures: tiny network, 6 features\npictures: 32 x 32 pixels\n" in table
    assert "KID x100, source-mixed KID x100: mean +- std of 100 subsets of 4 pictures each\n" in table
    assert "far too high" not in table  # 6 features of 8 pictures
    found = figures(evaluate(*arguments, "--json"))
    assert found["extractor"] == "tiny network, 6 features"
    assert (found["model"], found["precision"], found["size"], found["left_out"]) == (None, None, [32, 32], [])
    scores = found["translated"]
    assert [scores[name] for name in ("pictures", "real", "pairs", "equal_pairs")] == [9, 8, 8, 0]
    assert (scores["kid_x100"]["subsets"], scores["kid_x100"]["subset_size"]) == (100, 4)
    for name in ("kid_x100", "kid_mixed_x100"):
        assert f"{scores[name]['mean']:.3f} +- {scores[name]['std']:.3f}" in table
    for one in (scores, found["baseline"]):
        for name, digits in (("fid", 2), ("psnr", 2), ("ssim", 4), ("l1", 4), ("feature_distance", 4)):
            assert f" {one[name]:.{digits}f} " in table
    assert found["baseline"]["pictures"] == 9
    assert "kid_mixed_x100" not in found["baseline"]


def test_only_some_metrics(evaluate: Command, extractor: list[Any]) -> None:
    found = figures(evaluate("out", "clay", "--pairs", "clay", "--metrics", " SSIM,l1,", "--json"))
    assert list(found["translated"]) == ["pictures", "real", "pairs", "ssim", "l1"]
    assert (found["extractor"], extractor) == (None, [])
    text = evaluate("out", "clay", "--pairs", "clay", "--metrics", "ssim").stdout.decode()
    assert "\n9 translated, 8 pairs\n\npictures: 32 x 32 pixels\n" in text
    assert "features" not in text
    text = evaluate("out", "clay", "--metrics", "fid").stdout.decode()
    assert "KID" not in text
    evaluate("out", "clay", "--features", "net.safetensors", "--feature-layer", "Mixed_6c")
    assert extractor == [(None, None), (Path("net.safetensors"), "Mixed_6c")]


def test_equal_pictures(evaluate: Command) -> None:
    found = figures(evaluate("clay", "clay", "--pairs", "clay", "--json"))["translated"]
    assert (found["psnr"], found["equal_pairs"], found["l1"]) == (None, 8, 0)
    assert found["ssim"] == pytest.approx(1)
    assert 0 <= found["fid"] < 0.005  # "0.00" in the table
    text = evaluate("clay", "clay", "--pairs", "clay").stdout.decode()
    assert "infinite" in text
    assert "0.00 " in text
    assert "-0.0" not in text.replace("+- ", "").split("FID")[1]
    Path("out/0.png").write_bytes(Path("clay/0.png").read_bytes())
    text = evaluate("out", "clay", "--pairs", "clay").stdout.decode()
    assert "8 pairs, 1 of them equal: PSNR is that of the rest" in text


def test_fid_of_few_pictures_is_no_good(evaluate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Extractor("wide", 12, torch.device("cpu"), lambda x: tiny_extractor().network(x).repeat(1, 2))
    monkeypatch.setattr(features, "load_extractor", lambda *_, **__: wide)
    text = evaluate("out", "clay").stdout.decode()
    assert "FID of 12 pictures or fewer is far too high" in text


def test_subsets(evaluate: Command) -> None:
    arguments = ("out", "clay", "--metrics", "kid", "--subsets", 7, "--subset-size", 5, "--json")
    found = figures(evaluate(*arguments))["translated"]["kid_x100"]
    assert (found["subsets"], found["subset_size"]) == (7, 5)
    assert figures(evaluate(*arguments))["translated"]["kid_x100"] == found
    assert figures(evaluate(*arguments, "--seed", 1))["translated"]["kid_x100"] != found


# --- Of a model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["light", "full"])
def test_a_model_is_as_good_as_its_translations(
    variant: str, evaluate: Command, ugatit: Command, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(variant)
    found = figures(evaluate(*with_model(model, "--pairs", "clay", "--baseline", "--json")))
    for direction, source, target in (("a2b", "flat", "clay"), ("b2a", "clay", "flat")):
        folder = Path("translated", direction)
        assert ugatit("translate", source, "-o", folder, "--model", model, "--to", target, *CPU).code == 0
        arguments = (folder, target, "--source", source, "--pairs", target, "--baseline", "--json")
        by_hand = figures(evaluate(*arguments))
        for mine, theirs in ((direction, "translated"), (f"baseline_{direction}", "baseline")):
            assert list(found[mine]) == list(by_hand[theirs])
            assert found[mine].pop("against_untouched", "") == by_hand[theirs].pop("against_untouched", "")
            for name, value in found[mine].items():
                assert value == pytest.approx(by_hand[theirs][name], rel=1e-6), name
    assert found["a2b"] != found["b2a"]
    assert (found["precision"], found["size"]) == ("fp32", [32, 32])


def test_a_model_at_another_size_and_its_table(evaluate: Command, light: str, full: str) -> None:
    found = figures(evaluate(*with_model(light, "--size", 48, "--metrics", "fid", "--json")))
    assert found["size"] == [48, 48]
    for model, code in ((full, 2), ("./gone", 3)):
        outcome = evaluate(*with_model(model, "--size", 48))
        assert (outcome.code, outcome.stdout, len(outcome.errors)) == (code, b"", 1)
    text = evaluate(*with_model(light)).stdout.decode()
    assert text.index("flat -> clay\n") < text.index("9 translated, 8 real pictures\n")
    assert text.index("clay -> flat\n") < text.index("8 translated, 9 real pictures\n")
    assert text.count("features: ") == 1


def test_a_model_that_cannot_be_read_is_named_before_any_work(evaluate: Command, light: str) -> None:
    damaged = tiny.save(Path("damaged"))
    flip(damaged / "model.safetensors")
    outcome = evaluate(*with_model(light, "-m", str(damaged), "--metrics", "l1", "--pairs", "clay"))
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (3, b"", 1)
    assert "damaged/model.safetensors" in outcome.errors[0]


def test_several_models_stand_side_by_side(evaluate: Command, light: str) -> None:
    """One of them has one way, and is named first: what it doesn't ask for is there for the others."""
    configs = {"one-way": tiny.CARTOONGAN, "cyclegan": tiny.CYCLEGAN}
    models = [*(str(tiny.save(Path(name), config)) for name, config in configs.items()), light]
    arguments = with_model(models[0], "--pairs", "clay", "--baseline")
    several = [*arguments, "-m", models[1], "-m", models[2]]
    found = figures(evaluate(*several, "--json"))["models"]
    assert [one["model"] for one in found] == models
    assert ["b2a" in one for one in found] == ["baseline_b2a" in one for one in found] == [False, True, True]
    for one in found:
        assert one == figures(evaluate(*with_model(one["model"], "--pairs", "clay", "--baseline", "--json")))
    there, back = evaluate(*several).stdout.decode().split("clay -> flat\n")
    assert there.startswith("flat -> clay\n")
    assert [len(re.findall(r"untouched +better is\n", table)) for table in (there, back)] == [1, 1]
    for table, direction, columns in ((there, "a2b", found), (back, "b2a", found[1:])):
        scores = [one[direction] for one in columns] + [columns[0][f"baseline_{direction}"]]
        for label, name, digits in (("FID", "fid", 2), ("SSIM", "ssim", 4), ("L1", "l1", 4)):
            (row,) = (line.split() for line in table.splitlines() if line.split()[:1] == [label])
            assert row[1:-1] == [f"{one[name]:.{digits}f}" for one in scores]


def test_models_of_different_sizes_ask_for_one(evaluate: Command, light: str, full: str) -> None:
    larger = tiny.save(Path("larger"), dataclasses.replace(tiny.CYCLEGAN, image_size=48))
    arguments = with_model(light, "--model", larger, "--metrics", "fid", "--json")
    outcome = evaluate(*arguments)
    assert (outcome.code, outcome.ending["code"], len(outcome.errors)) == (2, "usage", 1)
    assert f"{light} 32, larger 48" in outcome.errors[0]
    assert "--size" in outcome.stderr
    assert [one["size"] for one in figures(evaluate(*arguments, "--size", 48))["models"]] == [[48, 48]] * 2
    outcome = evaluate(*with_model(full, "--model", larger, "--size", 48))
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (2, b"", 1)
    assert full in outcome.errors[0]
    assert "--size 32" in outcome.stderr
    assert evaluate(*with_model(full, "--model", larger, "--size", 32, "--metrics", "fid")).code == 0


# --- Of a run, by the pictures that it held out --------------------------------------------------------


def begin_run(name: str, holdout: str = "4", **given: Any) -> Path:
    """A tiny run of one step with pictures in `NAME-pictures`, of which it held out some; a broken one is none."""
    root = Path(f"{name}-pictures").absolute()
    folders = given.pop("folders", None) or make_folders(root, 14, ("horses", "zebras"))
    (folders.a / "broken.png").write_bytes(b"broken")
    train(Path(name), folders, {"iterations": 1, "holdout": holdout, **given})
    return root


def copied(sets: tuple[Pictures, Pictures]) -> tuple[Path, Path]:
    """Held-out pictures in folders of their own."""
    for one in sets:
        Path("unseen", one.domain).mkdir(parents=True)
        for path in one.held_out:
            shutil.copy(path, Path("unseen", one.domain))
    return Path("unseen/a"), Path("unseen/b")


@pytest.mark.parametrize("tests", [False, True])
def test_a_run_alone_is_judged_by_what_it_held_out(evaluate: Command, tests: bool) -> None:
    folders = make_folders(Path("pictures").absolute(), 14, ("horses", "zebras"))
    if tests:
        more = make_folders(Path("tests").absolute(), 6, ("horses", "zebras"))
        folders = dataclasses.replace(folders, test_a=more.a, test_b=more.b)
    begin_run("run", folders=folders)
    run, machine = RunFolder(Path("run")), Machine(torch.device("cpu"), 1, Group())
    a, b = copied(load_data(Settings.of_run(run), run, machine, Listener(), threading.Event()))
    assert len(list(a.iterdir())) == (6 if tests else 4)
    outcome = evaluate("-m", "run", "--json")
    by_hand = figures(evaluate("-m", "run", "--domain-a", a, "--domain-b", b, "--baseline", "--json"))
    found = figures(outcome)
    assert (found.pop("held_out_by"), by_hand.pop("held_out_by")) == ("run", None)
    assert found == by_hand
    assert {"baseline_a2b", "baseline_b2a"} < set(found)
    text = evaluate("-m", "run", "-m", "run/model").stdout.decode()
    assert "those that run held out" in text
    assert "held-out pictures is a rough figure" in text


def test_who_evaluates_with_what_was_trained_on_hears_the_way_to_the_rest(evaluate: Command) -> None:
    for name, holdout, way in (("a run", "4", "ugatit evaluate -m 'a run'"), ("none", "0", "--holdout 50")):
        root = begin_run(name, holdout)
        text = evaluate("-m", name, "--domain-a", root / "horses", "--domain-b", root / "zebras").stdout.decode()
        (line,) = (line for line in text.splitlines() if "never saw" in line)
        assert way in line
        alone = evaluate("-m", name)
        assert (alone.code, "never saw" in alone.stdout.decode()) == (0 if holdout != "0" else 2, False)
        assert holdout != "0" or "--holdout 50" in alone.stderr


def test_pictures_that_came_later_may_have_pushed_others_out(evaluate: Command) -> None:
    root = begin_run("run")
    assert "changed" not in evaluate("-m", "run").stderr
    save_pictures(root / "horses", 20)
    assert "run: its folders have changed" in evaluate("-m", "run").stderr
    given = {"iterations": 2, "holdout": "4"}
    train(Path("run"), Folders(root / "horses", root / "zebras"), given)
    assert "run: its folders have changed" in evaluate("-m", "run").stderr  # from the new checkpoint, too


def test_held_out_pictures_that_the_model_to_start_from_was_trained_on(evaluate: Command) -> None:
    root = begin_run("first")
    folders, sizes = Folders(root / "horses", root / "zebras"), ("precision", "checkpoint_every", "sample_every")
    given = {"iterations": 1, "holdout": "4"} | {name: TINY[name] for name in sizes}

    def pictures(name: str) -> tuple[set[Path], set[Path]]:
        run, machine = RunFolder(Path(name)), Machine(torch.device("cpu"), 1, Group())
        found = load_data(Settings.of_run(run), run, machine, Listener(), threading.Event())
        return {path for one in found for path in one.files}, {path for one in found for path in one.held_out}

    for name, start, seed in (("same", "first", 0), ("other", "first/model", 1), ("third", "other", 1)):
        log = Log()
        prepared(Path(name), folders, given | {"start": f"./{start}", "seed": seed}).train(log, threading.Event())
        known = pictures("first")[0] & pictures(name)[1]
        about = f"{Path('first').absolute()}, which it starts from, trained on {len(known)} of the 8 "
        assert bool(known) == any(about in text for text in log.notes) == bool(seed)
        assert (f"{name}: {about}" in evaluate("-m", name).stderr) == bool(seed)
    text = evaluate("-m", "other", "--domain-a", root / "horses", "--domain-b", "clay").stdout.decode()
    assert f"other: trained on {root / 'horses'}" in text


def test_one_way_models_were_trained_on_what_they_translate(evaluate: Command, vgg: str) -> None:
    root = begin_run("toon", method="cartoongan", vgg=vgg)
    text = evaluate("-m", "toon", "--domain-a", root / "horses", "--domain-b", "clay").stdout.decode()
    assert f"toon: trained on {root / 'horses'}" in text


def test_runs_that_held_out_others_do_not_compare(evaluate: Command, light: str) -> None:
    root = begin_run("run")
    for number, (name, given) in enumerate({"same": {}, "other": {"seed": 1}}.items()):
        train(Path(name), Folders(root / "horses", root / "zebras"), {"iterations": 1, "holdout": "4", **given})
        outcome = evaluate("-m", "run", "-m", name, "-m", light)
        assert outcome.code == 2 * number
    assert "run and other held out other pictures" in outcome.errors[0]
    outcome = evaluate("-m", light)
    assert (outcome.code, "no training run" in outcome.errors[0], "--domain-a" in outcome.stderr) == (2, True, True)
    shutil.rmtree(root)
    outcome = evaluate("-m", "run")
    assert (outcome.code, str(root / "horses") in outcome.errors[0]) == (2, True)


# --- Better than nothing -------------------------------------------------------------------------------


def test_what_is_no_better_than_the_untouched_pictures_is_called_so(evaluate: Command) -> None:
    colours = {"mine": "navy", "theirs": "red", "good": "darkred"}
    for name, colour in colours.items():
        save_pictures(Path(name), 8, size=(32, 32))
        for path in Path(name).iterdir():
            Image.blend(Image.open(path), Image.new("RGB", (32, 32), colour), 0.7).save(path)
    for translated, source, verdict in (
        ("good", "mine", "better"),
        ("mine", "mine", "unclear"),
        ("mine", "good", "worse"),
    ):
        arguments = (translated, "theirs", "--source", source, "--metrics", "kid")
        found = figures(evaluate(*arguments, "--baseline", "--json"))
        assert found["translated"]["against_untouched"] == verdict
        lines = evaluate(*arguments, "--baseline").lines
        (line,) = (line for line in lines if line.startswith(f"{translated} against theirs: "))
        assert ("clearly better" in line, "worse" in line) == (verdict != "worse", verdict == "worse")
        assert ("too short" in line) == (verdict != "better")
        assert "--baseline" in evaluate(*arguments).stdout.decode()
        assert "against_untouched" not in figures(evaluate(*arguments, "--json"))["translated"]


# --- What goes wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "two folders are needed"),
        (("out",), "two folders are needed"),
        (("out", "gone"), "gone: there is no such folder"),
        (("out", "empty"), "empty: there are no pictures"),
        (("out", "clay", "--pairs", "empty"), "empty: there are no pictures"),
        (("out", "clay/0.png"), "clay/0.png: is a file, not a folder"),
        (("out", "clay", "--domain-a", "flat"), "--domain-a and --domain-b are the pictures of a model"),
        (("out", "clay", "--model", "m"), "--model makes the translations itself"),
        (("--source", "flat", "--model", "m"), "--model makes the translations itself"),
        (("--model", "m", "--domain-b", "clay"), "--domain-a is missing"),
        (("--model", "m", "--domain-a", "flat"), "--domain-b is missing"),
        (("out", "clay", "--baseline"), "--baseline needs what was translated"),
        (("out", "clay", "--metrics", "kid,lpips"), "--metrics kid,lpips: unknown: lpips"),
        (("out", "clay", "--metrics", ","), "--metrics ,: none is named"),
        (("out", "clay", "--metrics", "psnr"), "--metrics psnr needs ground truth"),
        (("out", "clay", "--metrics", "kid-mixed"), "--metrics kid-mixed needs what was translated"),
        (("out", "clay", "--subset-size", "9"), "--subset-size 9: there are only 8 pictures"),
        (("few", "clay"), "KID of 3 pictures says nothing"),
        (("few", "clay", "--metrics", "fid", "--pairs", "other"), None),
        (("few", "clay", "--pairs", "other"), "no picture in few has the name of one in other"),
        (("out", "clay", "--pairs", "twice"), "twice/0.png: has the name of twice/0.jpg"),
        (("out", "large"), "pictures have different sizes"),
        (("out", "clay", "--pairs", "large"), "pictures have different sizes"),
        (("small", "small", "--pairs", "small"), "ssim needs pictures of 11 pixels or more"),
        (("one", "one", "--metrics", "fid"), "FID of a single picture says nothing"),
        (("out", "clay", "--workers", "0"), "--workers"),
    ],
)
def test_usage(evaluate: Command, arguments: tuple[str, ...], message: str | None) -> None:
    Path("empty").mkdir()
    save_pictures(Path("few"), 3, size=(32, 32))
    save_pictures(Path("other/sub"), 3, size=(32, 32))
    save_pictures(Path("twice"), 1, size=(32, 32))
    save_pictures(Path("twice"), 1, size=(32, 32), suffix=".jpg")
    save_pictures(Path("large"), 9, size=(40, 32))
    save_pictures(Path("small"), 9, size=(10, 10))
    save_pictures(Path("one"), 1, size=(32, 32))
    outcome = evaluate(*arguments)
    if message is None:
        assert outcome.code == 0
        return
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (2, b"", 1)
    assert message in outcome.errors[0]
    assert "Traceback" not in outcome.stderr


def test_unreadable_pictures_are_left_out(evaluate: Command) -> None:
    for path in ("out/0.png", "clay/1.png"):
        Path(path).write_bytes(b"broken")
    Path("clay/notes.txt").touch()
    outcome = evaluate("out", "clay", "--pairs", "clay", "--json")
    assert outcome.stderr.count("clay: 1 passed over: 1 .txt\n") == 1
    Path("clay/notes.txt").unlink()
    assert outcome.code == 1
    assert [error.partition(":")[0] for error in outcome.errors[:2]] == ["out/0.png", "clay/1.png"]
    assert outcome.errors[2:] == ["2 pictures left out, named above; the figures are of the rest"]
    found = outcome.documents[0]
    assert found["left_out"] == ["out/0.png", "clay/1.png"]
    assert [found["translated"][name] for name in ("pictures", "real", "pairs")] == [8, 7, 6]
    assert "\n8 translated, 7 real pictures, 6 pairs\n" in evaluate("out", "clay", "--pairs", "clay").stdout.decode()
    for broken in Path("clay").iterdir():
        broken.write_bytes(b"broken")
    outcome = evaluate("clay", "out")
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (1, b"", 10)
    assert outcome.errors[-1].startswith("clay: ")


def test_the_extra_is_missing(evaluate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchmetrics" else found(name))
    outcome = evaluate("out", "clay", "--pairs", "clay")
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (2, b"", 1)
    assert install_line("eval") in outcome.stderr


def test_the_bundled_extractor_is_named_with_every_figure(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    for number, name in enumerate(("out", "clay")):
        save_pictures(Path(name), 4, seed=number)
    outcome = ugatit("evaluate", "out", "clay", "--extractor", "bundled", *CPU)
    assert (outcome.code, outcome.errors) == (0, [])
    text = outcome.stdout.decode()
    assert "KID x100, EfficientNet-Lite0 " in text
    assert "FID, EfficientNet-Lite0 " in text
    assert "EfficientNet-Lite0 (bundled), 112 features: comparable only with itself\n" in text
    assert "trained with losses on this very network" in text
    assert "KID of 4 pictures is a rough figure: 50 or more are better\n" in text
    wrong = ugatit("evaluate", "out", "clay", "--extractor", "bundled", "--features", "net", *CPU)
    assert (wrong.code, "--extractor bundled contradicts --features net" in wrong.errors[0]) == (2, True)


def test_why_the_bundled_extractor_was_taken(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    save_pictures(Path("out"), 4)
    outcome = ugatit("evaluate", "out", "out", "--metrics", "kid", "--json", *CPU)
    assert "torch-fidelity, which isn't installed; so features are those of EfficientNet-Lite0\n" in outcome.stderr
    assert figures(outcome)["extractor"].startswith("EfficientNet-Lite0")
    refused = ugatit("evaluate", "out", "out", "--extractor", "inception", *CPU)
    assert (refused.code, "torch-fidelity" in refused.errors[0]) == (2, True)


def test_wrong_features(ugatit: Command) -> None:
    save_pictures(Path("a"), 4)
    Path("text").write_text("no network")
    for arguments, code, message in (
        (("--features", "gone"), 3, "gone: no such file"),
        (("--features", "text"), 3, "text: not a complete safetensors file"),
        (("--features", "text", "--feature-layer", "x"), 2, "--feature-layer x: unknown"),
        (("--feature-layer", "Mixed_6c"), 2, "--feature-layer Mixed_6c is about the network in a file"),
    ):
        outcome = ugatit("evaluate", "a", "a", *arguments, *CPU)
        assert (outcome.code, outcome.stdout, len(outcome.errors)) == (code, b"", 1)
        assert message in outcome.errors[0]


def test_ctrl_c(evaluate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def network(pictures: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return tiny_extractor().network(pictures)

    interrupting = Extractor("interrupted", 6, torch.device("cpu"), network)
    monkeypatch.setattr(features, "load_extractor", lambda *_, **__: interrupting)
    outcome = evaluate("out", "clay")
    assert (outcome.code, outcome.stdout) == (130, b"")
    assert outcome.stderr.splitlines() == ["error: interrupted; there are no figures yet"]


def test_progress_is_on_stderr(evaluate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugatit_cli.cli.console.PLAIN_INTERVAL", 0.0)
    outcome = evaluate("out", "clay", "--json")
    assert "17/17 pictures" in outcome.stderr
    assert json.loads(outcome.stdout)["translated"]["pictures"] == 9

"""Data sets by name, of the Hub and in parquet files, wherever `--data` goes."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch

from tests import data_sets
from tests.cli.conftest import ROOT, Command, Outcome
from tests.datasets.test_parquet import cells, save
from tests.extractors import tiny_extractor
from tests.hub_server import HubServer
from tests.programs import genuine
from tests.web_server import WebServer
from ugatit_cli.datasets import store
from ugatit_cli.metrics import features
from ugatit_cli.metrics.features import Extractor
from ugatit_cli.remote.patience import Logged

CPU = ["--device", "cpu", "--precision", "fp32", "--workers", "1"]
SIZES = ["--image-size", "32", "--channels", "4", "--blocks", "1", "--discriminator-channels", "4"]
TRAIN = [*SIZES, *CPU, "--iterations", "1"]


@pytest.fixture
def evaluate(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`ugatit evaluate` with a tiny extractor."""

    def load(file: Path | None, layer: str | None, *, device: torch.device, **_: object) -> Extractor:
        assert (file, layer, device.type) == (None, None, "cpu")
        return tiny_extractor()

    monkeypatch.setattr(features, "load_extractor", load)
    return lambda *arguments: ugatit("evaluate", *arguments, *CPU, "--json")


def refused(outcome: Outcome, *words: str) -> None:
    """One error of usage, which names these."""
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert not [word for word in words if word not in outcome.stderr]


def put_set(name: str, *, paired: bool = False, counts: dict[str, int] = data_sets.COUNTS) -> Path:
    """A data set in the store."""

    def fill(folder: Path) -> store.Facts:
        for file, data in data_sets.pictures(counts).items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(data)
        return store.Facts("here", {}, ["photo", "map"], paired, "not stated", [])

    return store.put(name, fill, Logged())


def test_from_nothing_by_name_and_offline_afterwards(
    web: WebServer, tmp_path: Path, evaluate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = data_sets.pictures({"trainA": 9, "trainB": 10, "testA": 5, "testB": 6})
    web.put(data_sets.URL, data_sets.archive(tmp_path / "x.zip", pictures).read_bytes())
    home, folder = tmp_path / "nobody", tmp_path / "here"
    home.mkdir()
    folder.mkdir()
    # The real entry states the hash of the real archive.
    own = data_sets.write_manifest(tmp_path / "own.toml", horse2zebra=data_sets.entry())
    environment = {
        "HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "UGATIT_MIRROR": web.serve(), "UGATIT_MANIFEST": str(own),
    }  # fmt: skip
    command = genuine("train", "--data", "horse2zebra", "--iterations", "2", *SIZES, *CPU)
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "runs/horse2zebra\n"), done.stderr
    assert "horse: 9 pictures to train on, 5 held out" in done.stderr
    settings = tomllib.loads((folder / "runs/horse2zebra/config.toml").read_text())
    kept = home / ".local/share/ugatit/data/horse2zebra"
    sets = {"a": "trainA", "b": "trainB", "test_a": "testA", "test_b": "testB"}
    assert settings["data"] == {name: str(kept / folder) for name, folder in sets.items()}

    web.stop()
    asked = len(web.requests)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("UGATIT_OFFLINE", "1")
    monkeypatch.delenv("UGATIT_HOME")
    outcome = evaluate("--data", "horse2zebra", "--model", "runs/horse2zebra", "--metrics", "kid,kid-mixed")
    (figures,) = outcome.documents
    assert (outcome.code, figures["a2b"]["pictures"], figures["a2b"]["real"]) == (0, 5, 6)
    assert len(web.requests) == asked


def test_the_domains_and_the_run_are_named_after_the_data_set(ugatit: Command) -> None:
    put_set("city maps")
    outcome = ugatit("train", "--data", "city maps", *TRAIN)
    assert (outcome.code, outcome.lines) == (0, ["runs/photo2map"])
    again = ugatit("train", "--data", "city maps", "--domains", "a,b", *TRAIN, "-o", "runs/x")
    assert again.code == 0
    assert ugatit("train", "--data", "city maps", *TRAIN, "-o", "runs/x").code == 0  # names that nobody stated


def test_a_set_of_the_hub(hub: HubServer, ugatit: Command, tmp_path: Path) -> None:
    rows = {"imageA": cells(*range(9)), "imageB": cells(*range(9, 18)), "other": cells(*range(9))}
    data = save(tmp_path / "train.parquet", rows).read_bytes()
    hub.add("datasets/huggan/selfie2anime", {"data/train-00000-of-00001.parquet": data})
    named = ("train", "--data", "hub:huggan/selfie2anime", *TRAIN)
    refused(ugatit(*named), "imageA, imageB, other", "--columns")
    refused(ugatit(*named, "--columns", "imageA"), "--columns")
    outcome = ugatit(*named, "--columns", "imageA,imageB")
    # All of these pictures are blank.
    assert (outcome.code, outcome.errors[0].startswith(str(store.store_folder()))) == (4, True)
    name = "hub:huggan/selfie2anime imageA,imageB"
    assert list(store.stored()) == [name]
    asked = len(hub.requests)
    fetch = ("data", "fetch", "hub:huggan/selfie2anime", "--columns", "imageA,imageB")
    assert ugatit(*fetch).lines == [str(store.path_of(name))]
    assert f"train --data '{name}'" in ugatit("data", "fetch", name).stderr
    assert len(hub.requests) == asked
    assert ugatit(*fetch, "--to", "mine").code == 0
    assert ugatit("train", "--data", "mine", *TRAIN).errors[0].startswith(str(tmp_path / "mine"))
    assert ugatit("data", "rm", "--yes", name).code == 0
    assert not store.stored()


def test_a_folder_of_parquet_files(ugatit: Command, tmp_path: Path) -> None:
    pictures = [{"bytes": data_sets.jpeg(seed), "path": None} for seed in range(16)]
    save(tmp_path / "cat2dog/data/train-0.parquet", {"image": pictures, "label": ["a", "b"] * 8})
    outcome = ugatit("train", "--data", "cat2dog", *TRAIN)
    assert (outcome.code, outcome.lines) == (0, ["runs/a2b"])
    assert ugatit("train", "--data", "cat2dog/data/train-0.parquet", *TRAIN, "-o", "x", "--dry-run").code == 0
    assert "a: 8 pictures to train on" in outcome.stderr


def test_pairs_are_evaluated_as_such(evaluate: Command, light: str) -> None:
    put_set("maps", paired=True, counts={"trainA": 1, "trainB": 1, "testA": 4, "testB": 4})
    outcome = evaluate("--data", "maps", "--model", light, "--metrics", "l1,kid")
    (figures,) = outcome.documents
    assert (outcome.code, figures["a2b"]["pairs"]) == (0, 4)
    put_set("unpaired")
    refused(evaluate("--data", "unpaired", "--model", light, "--metrics", "l1"), "--pairs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--data", "maps", "--domain-a", "x"), ("--data", "--domain-a")),
        (("train", "--domain-a", "maps", "--domain-b", "x", "--columns", "x,y"), ("--columns",)),
        (("train", "--data", "maps", "--columns", "x,y"), ("--columns", "maps")),
        (("train", "--data", "mapz"), ("mapz", "maps")),
        (("train", "--data", "hub:x"), ("hub:x",)),
        (("evaluate", "--data", "maps"), ("--data", "--model")),
        (("evaluate", "--data", "x/\udce9", "-m", "MODEL"), ("udce9",)),
        (("evaluate", "out", "real", "--data", "maps"), ("--data",)),
        (("evaluate", "--data", "maps", "-m", "MODEL", "--domain-b", "x"), ("--data", "--domain-b")),
        (("evaluate", "--data", "maps", "-m", "MODEL"), ("no testB",)),
        (("evaluate", "-m", "MODEL", "--columns", "x,y", "--domain-a", "x", "--domain-b", "y"), ("--columns",)),
    ],
)
def test_contradictions(ugatit: Command, light: str, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    put_set("maps", counts={"trainA": 1, "trainB": 1, "testA": 1})
    refused(ugatit(*(light if word == "MODEL" else word for word in arguments)), *words)


def test_a_folder_wins_over_a_name(ugatit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = data_sets.write_manifest(tmp_path / "own.toml", horse2zebra=data_sets.entry())
    monkeypatch.setenv("UGATIT_MANIFEST", str(own))
    for file, data in data_sets.pictures().items():
        path = Path("horse2zebra") / file.replace("trainA", "train_A").replace("trainB", "train/B")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    outcome = ugatit("train", "--data", "horse2zebra", *TRAIN)
    assert (outcome.code, outcome.lines) == (0, ["runs/horse2zebra"])
    assert outcome.stderr.count("horse2zebra that is here") == 1

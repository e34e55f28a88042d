"""Files of text that people edit, and programs leave half written: what each command makes of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

from tests import tiny, trainings
from tests.fetched import fetched, stored
from tests.fuzz.harness import Target, command
from tests.fuzz.mutate import mutate_json, mutate_lines, mutate_toml
from ugatit_cli.errors import UgatitError
from ugatit_cli.training.listeners import Listener
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.settings import Settings
from ugatit_cli.weights.folder import critic_shapes, translator_shapes

PROVENANCE: dict[str, Any] = {
    "trained with": "ugatit train", "recipe": "default", "steps": 2, "batch size": 1, "started from": "./x/model",
    "repository": "a/b", "commit": "0" * 40, "licence": "mit", "description": "x", "training_data": "y",
    "imported_from": "x", "kid": {"a2b": 0.5, "b2a": 1}, "kid_std": {"a2b": 0.1, "b2a": 0}, "extractor": "inception",
    "generators": "current", "subsets": "1 of 4", "held-out pictures": "4", "sha256": "0", "nested": {"a": [1, {}]},
}  # fmt: skip
CPU = ("--device", "cpu", "--precision", "fp32")


def turn(content: bytes, *commands: tuple[object, ...]) -> int:
    """One of several commands: always the same for the same content."""
    return command(*commands[zlib.crc32(content) % len(commands)])


def _picture(path: Path) -> None:
    Image.new("RGB", (16, 16), (90, 120, 150)).save(path)


# --- A model's config.json -----------------------------------------------------------------------------


def model_scene(folder: Path) -> list[bytes]:
    _picture(folder / "a.png")
    tiny.save(folder / "model", discriminators=True)
    (folder / "home" / "models").mkdir(parents=True)
    (folder / "home" / "models" / "mine").symlink_to(folder / "model")
    seeds = []
    for number, config in enumerate((tiny.LIGHT, tiny.FULL, tiny.ONE_WAY, tiny.CYCLEGAN, tiny.CARTOONGAN)):
        document = json.loads((tiny.save(folder / f"{number}", config) / "config.json").read_bytes())
        seeds.append(json.dumps({**document, "provenance": PROVENANCE}).encode())
    return [*[seeds[0]] * 5, *seeds]


def use_model(folder: Path, content: bytes) -> int:
    (folder / "model" / "config.json").write_bytes(content)
    return turn(
        content,
        ("models", "show", "./model"),
        ("models", "show", "./model", "--json"),
        ("models", "--json"),
        ("models",),
        ("models", "verify", "mine"),
        ("push", "model", "me/x", "--dry-run", "--to", "look", "--overwrite"),
        ("translate", "a.png", "--model", "model", "-o", "-", *CPU),
        ("translate", "a.png", "--model", "mine", "-o", "out", "--report", "out/report.html", *CPU),
    )


# --- A run's files -------------------------------------------------------------------------------------

STATE = Path("checkpoints/step_00000002/state.json")
METRICS, RUN_FILE, BEST = Path("metrics.jsonl"), Path("config.toml"), Path("best/config.json")
SHORT = {"iterations": 2, "checkpoint_every": "1", "holdout": "2", "start": None}


def run_scene(folder: Path) -> RunFolder:
    """A run of two steps with a best model and figures of it."""
    folders = trainings.make_folders(folder)
    settings, _ = trainings.train(folder / "run", folders, {name: one for name, one in SHORT.items() if one})
    run = RunFolder(folder / "run")
    translators, critics = (
        {name: torch.zeros(shape) for name, shape in shapes(settings.model).items()}
        for shapes in (translator_shapes, critic_shapes)
    )
    run.write_model(settings.model, translators, critics, PROVENANCE, best=True)
    for step in (1, 2):
        figures = {name: PROVENANCE[name] for name in ("kid", "kid_std", "extractor", "subsets", "held-out pictures")}
        run.append_metrics({"step": step, "elapsed": 1.5, **figures})
    return run


def scene_of(file: Path) -> Any:
    """A scene in which this file of a run is to be broken."""

    def scene(folder: Path) -> Sequence[bytes]:
        return [(run_scene(folder).path / file).read_bytes()]

    return scene


def use_run(file: Path) -> Any:
    """Goes on with a copy of the run, or looks at it."""

    def use(folder: Path, content: bytes) -> object:
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder / "run", copy)
        (copy / file).write_bytes(content)
        if file == STATE and zlib.crc32(content) % 8:  # as the command does
            return trainings.prepared(copy, None, {"iterations": 3}, named=True).train(Listener(), threading.Event())
        ended = ("train", "--resume", "copy", "--iterations", 2, "--json", "--device", "cpu")
        look = [
            ("push", "copy", "me/x", "--dry-run", "--to", "look", "--overwrite"),
            ("push", "copy/best", "me/x", "--dry-run", "--to", "look", "--overwrite"),
            ("models", "show", "copy/best"),
        ]
        go_on = [
            ("train", "--resume", "copy", "--iterations", 3, "--device", "cpu"),
            ("train", "--resume", "copy", "--dry-run", "--json", "--device", "cpu"),
        ]
        if file == STATE:
            return command(*go_on[0])
        return turn(content, *[ended] * 4, *look * 2, *(go_on if _is_cheap(folder) else ()))

    return use


def _is_cheap(folder: Path) -> bool:
    """Whether the copy's settings ask for no more work than the run's do."""
    try:
        now, before = (Settings.of_run(RunFolder(folder / name)) for name in ("copy", "run"))
    except UgatitError:
        return True
    return now.model == before.model and now.recipe.batch_size < 5 and not now.evaluates and now.start is None


def mutate_state(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Mostly with the right hash, as if it had been written so."""
    data = mutate_json(random, data, others)
    if random.random() < 0.7:
        try:
            document = json.loads(data)
            document.pop("sha256", None)
            digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
            return json.dumps({**document, "sha256": digest}).encode()
        except (ValueError, TypeError, AttributeError, RecursionError):
            return data
    return data


# --- Receipts and the manifest -------------------------------------------------------------------------


def receipts_scene(folder: Path) -> list[bytes]:
    _picture(folder / "a.png")
    fetched(folder / "cache", tiny.save(folder / "made", discriminators=True), "a/b", "0" * 40)
    stored("mine")
    return [path.read_bytes() for path in sorted((folder / "home" / "receipts").iterdir())]


def use_receipts(folder: Path, content: bytes) -> int:
    for path in (folder / "home" / "receipts").glob("*.json"):
        path.write_bytes(content)
    return turn(
        content,
        ("models",),
        ("models", "--json"),
        ("models", "show", "a/b"),
        ("models", "show", "mine"),
        ("models", "verify"),
        ("models", "verify", "a/b"),
        ("fetch", "a/b"),
        ("translate", "a.png", "--model", "a/b", "-o", "-", *CPU),
    )


MANIFEST = """schema = 1
[models.mine]
description = "x"
domains = ["cats", "dogs"]
image_size = 64
licence = "mit"
training_data = "y"
source = "hub"
repository = "a/b"
revision = "{commit}"
[models.mine.files]
"config.json" = {{ size = 1, sha256 = "{hash}" }}
"model.safetensors" = {{ size = 2, sha256 = "{hash}" }}
[models.theirs]
description = "x"
domains = ["a", "b"]
image_size = 256
licence = "other"
training_data = "y"
source = "import"
repository = "c/d"
revision = ""
smoothing = true
instructions = "get it"
[models.theirs.files]
"x.index" = {{}}
"x.data-00000-of-00001" = {{ size = 2, sha256 = "{hash}" }}
[models.own]
description = "x"
domains = ["a", "b"]
image_size = 256
licence = "other"
training_data = "y"
source = "train"
instructions = "train it"
""".format(commit="0" * 40, hash="0" * 64)


def manifest_scene(folder: Path) -> list[bytes]:
    _picture(folder / "a.png")
    tiny.save(folder / "model")
    stored("kept")
    os.environ["UGATIT_MANIFEST"] = str(folder / "own.toml")
    return [MANIFEST.encode()]


def use_manifest(folder: Path, content: bytes) -> int:
    (folder / "own.toml").write_bytes(content)
    return turn(
        content,
        ("models",),
        ("models", "--json"),
        ("models", "show", "mine"),
        ("models", "show", "theirs"),
        ("models", "show", "flat2clay"),
        ("models", "verify"),
        ("fetch", "mine"),
        ("translate", "a.png", "--model", "own", "-o", "-", *CPU),
        ("translate", "a.png", "--model", "kept", "-o", "-", *CPU),
        ("translate", "a.png", "--model", "./model", "-o", "-", *CPU),
    )


TARGETS = {
    "config.json": Target(model_scene, use_model, mutate_json),
    "config.toml": Target(scene_of(RUN_FILE), use_run(RUN_FILE), mutate_toml, 12),
    "state.json": Target(scene_of(STATE), use_run(STATE), mutate_state, 6),
    "metrics.jsonl": Target(scene_of(METRICS), use_run(METRICS), mutate_lines, 6),
    "provenance": Target(scene_of(BEST), use_run(BEST), mutate_json, 6),
    "receipts": Target(receipts_scene, use_receipts, mutate_json),
    "manifest": Target(manifest_scene, use_manifest, mutate_toml),
}

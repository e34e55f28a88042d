"""Files of text that people edit, and programs leave half written: what each command makes of them."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

from tests import tiny, trainings
from tests.fetched import fetched, stored
from tests.fuzz.harness import Target, command
from tests.fuzz.mutate import mutate_json, mutate_lines, mutate_toml
from ugatit_cli.cli.models_view import model_lines
from ugatit_cli.data.pictures import find_pictures
from ugatit_cli.device import Group
from ugatit_cli.errors import UgatitError
from ugatit_cli.methods.base import Step
from ugatit_cli.methods.registry import method_of
from ugatit_cli.pictures.sources import RECORD
from ugatit_cli.publishing.card import Options, model_card
from ugatit_cli.training import checkpoint
from ugatit_cli.training.evaluation import best_of, is_evaluated
from ugatit_cli.training.listeners import means
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.training.schedule import Schedule
from ugatit_cli.training.settings import Settings
from ugatit_cli.training.trainer import make_networks
from ugatit_cli.weights.catalog import known
from ugatit_cli.weights.folder import critic_shapes, open_model, translator_shapes
from ugatit_cli.weights.hashes import SUMS_FILE, hash_of, sums_text

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
    (folder / "model" / "SHA256SUMS").unlink()  # or every change would be found out by that alone
    (folder / "home" / "models").mkdir(parents=True)
    (folder / "home" / "models" / "mine").symlink_to(folder / "model")
    seeds = []
    others = (tiny.FULL, tiny.ONE_WAY, tiny.CYCLEGAN, tiny.CARTOONGAN, tiny.AGGAN)
    for number, config in enumerate((tiny.LIGHT, *others)):
        document = json.loads((tiny.save(folder / f"{number}", config) / "config.json").read_bytes())
        seeds.append(json.dumps({**document, "provenance": PROVENANCE}).encode())
    return [*[seeds[0]] * 5, *seeds]


def use_model(folder: Path, content: bytes) -> int:
    (folder / "model" / SUMS_FILE).unlink(missing_ok=True)  # else all that is broken is damaged
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


def sums_scene(folder: Path) -> list[bytes]:
    model_scene(folder)
    files = (path for path in (folder / "model").iterdir() if path.name != SUMS_FILE)
    return [sums_text({path.name: hash_of(path) for path in files}).encode()]


def use_sums(folder: Path, content: bytes) -> int:
    (folder / "model" / SUMS_FILE).write_bytes(content)
    return turn(
        content,
        ("models", "show", "./model"),
        ("models", "verify", "mine"),
        ("models", "verify", f"model@sha256:{'0' * 64}"),
        ("push", "model", "me/x", "--dry-run", "--to", "look", "--overwrite"),
        ("translate", "a.png", "--model", "model", "-o", "-", *CPU),
    )


# --- What results were made of -------------------------------------------------------------------------


def sources_scene(folder: Path) -> list[bytes]:
    model_scene(folder)
    (folder / "out").mkdir()
    for name in ("a.png", "b.png", "out/a.png", "out/b.png", "out/c.png"):
        _picture(folder / name)
    return [
        b'# x\n["a.png", "../a.png", 75, 1795902505616685864]\n["b.png", "-", 0, 0]\n["C.png", "/x/c.png", 1, 2]\n'
    ]


def use_sources(folder: Path, content: bytes) -> int:
    (folder / "out" / RECORD).write_bytes(content)
    how = ("--skip-existing", "--update", "--overwrite")[zlib.crc32(content) % 3]
    return command("translate", "a.png", "b.png", "--model", "model", "-o", "out", how, *CPU)


# --- A run's files -------------------------------------------------------------------------------------

STATE = Path("checkpoints/step_00000002/state.json")
METRICS, RUN_FILE, BEST = Path("metrics.jsonl"), Path("config.toml"), Path("best/config.json")
SHORT = {"iterations": 2, "checkpoint_every": "1", "holdout": "2", "start": None}


def run_scene(folder: Path) -> RunFolder:
    """A run of two steps with a best model and figures of it."""
    shutil.copytree(_trained() / "run", folder / "run")
    return RunFolder(folder / "run")


@functools.cache
def _trained() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ugatit-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folders = trainings.make_folders(folder)
    settings, _ = trainings.train(folder / "run", folders, {name: one for name, one in SHORT.items() if one})
    run = RunFolder(folder / "run")
    translators, critics = (
        {name: torch.zeros(shape) for name, shape in shapes(settings.model).items()}
        for shapes in (translator_shapes, critic_shapes)
    )
    run.write_model(settings.model, translators, critics, PROVENANCE, best=True)
    (run.best / SUMS_FILE).unlink()
    for step in (1, 2):
        figures = {name: PROVENANCE[name] for name in ("kid", "kid_std", "extractor", "subsets", "held-out pictures")}
        run.append_metrics({"step": step, "elapsed": 1.5, **figures})
    return folder


def scene_of(file: Path) -> Any:
    """A scene in which this file of a run is to be broken."""

    def scene(folder: Path) -> Sequence[bytes]:
        return [(run_scene(folder).path / file).read_bytes()]

    return scene


def use_run(file: Path, look: Callable[[RunFolder], object]) -> Any:
    """Looks at a copy of the run as the commands do, or, now and then, by one of these."""

    def use(folder: Path, content: bytes) -> object:
        run = RunFolder(folder / "copy")
        if zlib.crc32(content) % 24:
            if not run.exists:
                shutil.copytree(folder / "run", run.path)
            (run.path / file).write_bytes(content)
            return look(run)
        shutil.rmtree(run.path, ignore_errors=True)
        shutil.copytree(folder / "run", run.path)
        (run.path / file).write_bytes(content)
        end = turn(
            content,
            ("push", "copy", "me/x", "--dry-run", "--to", "look", "--overwrite"),
            ("push", "copy/best", "me/x", "--dry-run", "--to", "look", "--overwrite"),
            ("train", "--resume", "copy", "--iterations", 2, "--json", "--device", "cpu"),
            *([("train", "--resume", "copy", "--iterations", 3, "--device", "cpu")] * 3 if _is_cheap(folder) else ()),
        )
        shutil.rmtree(run.path)
        return end

    return use


def _is_cheap(folder: Path) -> bool:
    """Whether the copy's settings ask for no more work than the run's do."""
    try:
        now, before = (Settings.of_run(RunFolder(folder / name)) for name in ("copy", "run"))
    except UgatitError:
        return True
    return now.recipe.batch_size < 5 and not now.evaluates and before.model == now.model


def go_on(run: RunFolder) -> None:
    """With other settings."""
    prepared = trainings.prepared(run.path, None, {"iterations": 3}, named=True)
    find_pictures(prepared.settings.folders.a)
    run.create(prepared.settings.to_document())


@functools.cache
def _step(settings: Settings) -> Step:
    networks = make_networks(settings, trainings.CPU, None)
    return method_of(settings.model).step(networks, settings.recipe, seed=0, group=Group())


def restore(run: RunFolder) -> None:
    """As a run does that goes on, but for its pictures."""
    settings = Settings.of_run(run)
    state = checkpoint.restore(run, 2, _step(settings))
    assert math.isfinite(Schedule(settings, state.elapsed).progress(3))
    run.append_metrics(means([*state.metrics, {"cycle": 1.0}]))
    run.truncate_metrics(2)


def look_at_metrics(run: RunFolder) -> None:
    assert {type(line) for line in run.metrics()} <= {dict}
    is_evaluated(run, 2, {"extractor": "inception"})
    run.truncate_metrics(2)
    run.append_metrics({"step": 3})


def look_at_best(run: RunFolder) -> None:
    best = best_of(run)
    assert best is None or math.isfinite(best.mean)
    list(model_lines(known(str(run.best)), 80))
    model_card(open_model(run.best), "me/x", Options(), Settings.of_run(run), 2, open_model(run.best).provenance)


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


MANIFEST = """schema = 2
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
[models.web]
description = "x"
domains = ["a", "b"]
image_size = 256
licence = "not stated"
training_data = "y"
source = "url"
url = "https://e.example/b.pth"
hosts = ["*.e.example"]
layout = "cyclegan"
ways = "a2b"
aliases = ["net"]
made_by = "ann"
read_at = ["her page"]
verified = false
[models.zip]
description = "x"
domains = ["a", "b"]
image_size = 256
licence = "not stated"
training_data = "y"
source = "kaggle"
dataset = "e/f"
layout = "tensorflow"
folder = "g"
archive = {{ size = 3, sha256 = "{hash}" }}
[data.pets]
description = "x"
domains = ["cats", "dogs"]
image_size = 64
licence = "not stated"
source = "zip"
url = "https://e.example/pets.zip"
counts = {{ trainA = 1, trainB = 2 }}
verified = false
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
        ("models", "show", "net"),
        ("models", "show", "zip"),
        ("data", "show", "pets"),
        ("fetch", "mine"),
        ("fetch", "web"),
        ("fetch", "zip", "--dry-run"),
        ("translate", "a.png", "--model", "own", "-o", "-", *CPU),
        ("translate", "a.png", "--model", "kept", "-o", "-", *CPU),
        ("translate", "a.png", "--model", "./model", "-o", "-", *CPU),
    )


TARGETS = {
    "config.json": Target(model_scene, use_model, mutate_json),
    "SHA256SUMS": Target(sums_scene, use_sums),
    "sources": Target(sources_scene, use_sources, mutate_lines),
    "config.toml": Target(scene_of(RUN_FILE), use_run(RUN_FILE, go_on), mutate_toml),
    "state.json": Target(scene_of(STATE), use_run(STATE, restore), mutate_state),
    "metrics.jsonl": Target(scene_of(METRICS), use_run(METRICS, look_at_metrics), mutate_lines),
    "provenance": Target(scene_of(BEST), use_run(BEST, look_at_best), mutate_json),
    "receipts": Target(receipts_scene, use_receipts, mutate_json),
    "manifest": Target(manifest_scene, use_manifest, mutate_toml),
}

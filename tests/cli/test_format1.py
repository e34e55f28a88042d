"""Models, runs and manifests that the version before this layout wrote (format 1) are read as before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ugatit_cli
from tests.cli.conftest import Command
from ugatit_cli import Model, ModelConfig

FIXTURES = Path(__file__).parents[1] / "fixtures" / "format1"


def load(name: str) -> Model:
    return ugatit_cli.load(FIXTURES / name, device="cpu", precision="fp32")


def picture(name: str) -> Image.Image:
    with Image.open(FIXTURES / name) as image:
        return image.convert("RGB")


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


# --- Model folders -------------------------------------------------------------------------------------


# CPUs round differently, which may move a value across the boundary between two levels.
@pytest.mark.parametrize(
    ("name", "direction", "expected"),
    [
        ("model", "a2b", "translate"),
        ("model", "b2a", "translate_b2a"),
        ("run", "a2b", "run"),
        ("converted", "a2b", "converted"),
    ],
)
def test_a_model_translates_as_it_did(name: str, direction: Any, expected: str) -> None:
    translated = load(name).translate(picture("input.png"), direction)
    wanted = picture(f"expected/{expected}.png")
    assert (translated.mode, translated.size) == (wanted.mode, wanted.size)
    assert np.abs(np.asarray(translated, dtype=int) - np.asarray(wanted, dtype=int)).max() <= 1


def test_the_configs() -> None:
    tiny: dict[str, Any] = {"channels": 4, "blocks": 1}
    full = ModelConfig("day", "night", 24, variant="full", discriminator_channels=2, global_layers=5, **tiny)
    light = ModelConfig("rot", "bläu", 32, discriminator_channels=4, local_layers=3, global_layers=4, **tiny)
    assert load("model").config == full
    assert load("run").config == light
    assert load("converted").config == ModelConfig("photo", "painting", 32, channels=4, dialect="tensorflow")


def test_where_the_weights_come_from() -> None:
    assert (
        load("model").provenance.items() >= {"recipe": "default", "steps": 20, "pictures": "10 day, 10 night"}.items()
    )
    assert load("converted").provenance["code"] == "official TensorFlow code"


def test_the_networks_look_where_they_did() -> None:
    model = load("model")
    assert model.has_discriminators
    assert not load("converted").has_discriminators
    (seen,) = model.attention_maps(picture("input.png")).maps
    expected = read(FIXTURES / "expected/attention.json")["maps"]
    assert list(seen) == list(expected)
    for name, attention in seen.items():
        frame = expected[name]["frame"]
        logits = (frame["logits"]["average"], frame["logits"]["maximum"])
        assert list(attention.values.shape) == expected[name]["shape"]
        assert attention.logits == pytest.approx(logits, abs=1e-4)
        assert attention.span == pytest.approx((frame["low"], frame["high"]), abs=1e-4)


# --- Run folders ---------------------------------------------------------------------------------------


def test_a_run_goes_on_in_another_place(ugatit: Command, tmp_path: Path) -> None:
    run, data = shutil.copytree(FIXTURES / "run", tmp_path / "moved"), FIXTURES / "data"
    options = ("--workers", 1, "--device", "cpu", "--precision", "fp32", "--json")
    outcome = ugatit("train", "--resume", run, "--domain-a", data / "a", "--domain-b", data / "b", *options)
    assert outcome.documents[0]["step"] == 20
    assert ugatit_cli.load(run).provenance["steps"] == 20
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_00000020"]
    before, after = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    assert before == json.loads((FIXTURES / "run/metrics.jsonl").read_text(encoding="utf-8"))
    expected = read(FIXTURES / "expected/metrics_of_step_20.json")
    for clock in ("elapsed", "images_per_second"):
        del after[clock], expected[clock]
    # Other CPUs round differently, which ten steps of training enlarge to some 1e-6.
    assert after == pytest.approx(expected, rel=1e-3)


# --- What is known of models ---------------------------------------------------------------------------


def test_a_manifest_of_ones_own(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGATIT_MANIFEST", str(FIXTURES / "weights.toml"))
    known = {one["name"]: one for one in json.loads(ugatit("models", "--all", "--json").stdout)}
    assert known["flat2clay"]["source"] == "bundled"
    files = [path for path in (FIXTURES / "model").iterdir() if path.is_file()]
    expected = {
        "name": "day2night",
        "description": "Days become nights",
        "domains": ["day", "night"],
        "image_size": 24,
        "size": sum(path.stat().st_size for path in files),
        "state": "not fetched",
        "problem": None,
        "source": "hub",
        "repository": "ada/day2night",
        "revision": "0123456789" * 4,
        "commit": None,
        "licence": "cc-by-4.0",
        "training_data": "10 days, 10 nights",
        "path": None,
    }
    assert known["day2night"] | expected == known["day2night"]
    assert (known["photo2painting"]["source"], known["photo2painting"]["state"]) == ("import", "not fetched")
    assert (known["summer2winter"]["source"], known["summer2winter"]["state"]) == ("train", "no weights")


def test_a_model_store(ugatit: Command, tmp_path: Path) -> None:
    home = tmp_path / ".ugatit"
    folder = shutil.copytree(FIXTURES / "converted", home / "models" / "painting")
    shutil.copytree(FIXTURES / "receipts", home / "receipts")
    shown = json.loads(ugatit("models", "show", "painting", "--json").stdout)
    assert (shown["source"], shown["state"], shown["path"]) == ("store", "ready", str(folder))
    # Not "nobody recorded its hashes": those of the receipt are found and hold.
    assert ugatit("models", "verify", "painting").stdout.startswith(b"painting: ok (2 files, 189.8 kB), sha256:")

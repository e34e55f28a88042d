"""What is published: staged byte for byte with a card and samples, and its entry for a manifest."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests import tiny
from tests.fetched import flip
from tests.hub_client import Notes
from tests.publishing.test_card import rows
from tests.trainings import Log, make_folders, prepared, train
from ugatit_cli.errors import ModelError
from ugatit_cli.publishing.card import Options
from ugatit_cli.publishing.push import entry, staged
from ugatit_cli.remote.hub import HubId
from ugatit_cli.remote.records import digest_of
from ugatit_cli.training.run_folder import RunFolder
from ugatit_cli.weights.folder import ModelFolder, open_model
from ugatit_cli.weights.manifest import entry_toml, read_manifest
from ugatit_cli.weights.official import convert

TARGET = HubId("ada/red2blue")
NAMES = ["config.json", "model.safetensors", "SHA256SUMS", "README.md"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps."""
    root = tmp_path_factory.mktemp("run")
    train(root / "run", make_folders(root / "data"), {"iterations": 2})
    return root / "run"


def edit(folder: Path, **provenance: object) -> None:
    """Changes what a model's config says of its origin, after which its hashes are no longer right."""
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"provenance": document["provenance"] | provenance}))
    (folder / "SHA256SUMS").unlink(missing_ok=True)


def contents(model: ModelFolder, about: Options | None = None, notes: Notes | None = None) -> dict[str, bytes]:
    with staged(model, TARGET, about or Options(), notes or Notes()) as found:
        data = {path.name: path.read_bytes() for path in found.model.path.iterdir()}
        assert {name: (digest.size, digest.sha256) for name, digest in found.files.items()} == {
            name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in data.items()
        }
    assert not found.model.path.exists()
    return data


def card_of(model: ModelFolder) -> str:
    return contents(model)["README.md"].decode()


def picture(path: Path) -> Path:
    Image.new("RGB", (40, 20)).save(path)
    return path


# --- Staging ---------------------------------------------------------------------------------------------


def test_a_run_tells_more(run: Path) -> None:
    data = contents(open_model(run), Options(data="noise", licence="mit"))
    assert sorted(data) == sorted([*NAMES, "samples.png"])
    card = data["README.md"].decode()
    for line in ("# red ↔ blue", "| Data | noise |", "| Steps | 2 |", "| Precision | float32 |"):
        assert f"\n{line}\n" in card
    assert "*Drawn after 2 training steps" in card
    assert "Evaluation" not in card
    assert str(run.parent) not in card
    drawn, kept = run / "samples" / "step_00000002.png", io.BytesIO(data["samples.png"])
    with Image.open(drawn) as theirs, Image.open(kept) as ours:
        assert (ours.format, ours.tobytes()) == ("PNG", theirs.convert("RGB").tobytes())


def copy_of(run: Path, tmp_path: Path, **provenance: object) -> RunFolder:
    """A copy whose best model is its model with more provenance."""
    copy = RunFolder(Path(shutil.copytree(run, tmp_path / "copy")))
    shutil.copytree(copy.model, copy.best)
    edit(copy.best, **provenance)
    return copy


def test_samples_are_the_newest_that_the_model_may_have_drawn(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path, steps=100_000_005)
    for step in (99_999_999, 100_000_001, 100_000_006):
        picture(copy.samples_path(step))
    (copy.path / "samples" / "step_100000003.txt").touch()
    assert "*Drawn after 100,000,001 training steps" in card_of(open_model(copy.best))
    assert "*Drawn after 2 training steps" in card_of(open_model(copy.model))
    copy.samples_path(2).unlink()
    assert "samples.png" not in contents(open_model(copy.model))


def test_kid_is_that_of_the_model_or_of_its_step(run: Path, tmp_path: Path) -> None:
    protocol = {"extractor": "one", "subsets": "100 of 3 pictures", "held-out pictures": "6 red, 6 blue (01234567)"}
    copy = copy_of(run, tmp_path, steps=1, kid={"a2b": 0.004}, generators="moving average", **protocol)
    copy.append_metrics({"step": 1, "kid": {"a2b": 0.009}, "extractor": "another"})
    assert "Evaluation" not in card_of(open_model(copy.path))
    copy.append_metrics({"step": 2, "kid": {"a2b": 0.006}, "extractor": "one"})
    copy.append_metrics({"step": 2, "kid": {"a2b": 0.005}, "extractor": "another", "subsets": "100 of 3 pictures"})
    copy.append_metrics({"step": 3, "kid": {"a2b": 0.001}, "extractor": "one"})
    last, best = card_of(open_model(copy.path)), card_of(open_model(copy.best))
    assert "(KID x100), by another, lower is better" in last
    assert "| red → blue | 0.5 |\n| Subsets | 100 of 3 pictures |\n\n" in last
    assert "(KID x100), by one, lower is better" in best
    for line in (
        "| Steps | 1 of 2 planned |",
        "| red → blue | 0.4 |",
        "| Generators | moving average |",
        "| Held-out pictures | 6 red, 6 blue (01234567) |",
    ):
        assert f"\n{line}\n" in best
    assert "\n| generators |" not in best


def test_a_model_was_trained_with_the_settings_of_then(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    changes = {"iterations": 4, "learning_rate": 3e-5, "cycle_weight": 7.0}
    prepared(copy.path, None, changes, named=True).train(Log(), threading.Event())
    cards = {folder: card_of(open_model(folder)) for folder in (run, copy.best, copy.model)}
    told = {folder: rows(card, "Training") for folder, card in cards.items()}
    assert told[run] == told[copy.best]
    assert (told[copy.model]["Steps"], told[copy.model]["Learning rate"][:5]) == ("4", "3e-05")
    assert "cycle 7" in told[copy.model]["Weights of the losses"]
    for damaged in (None, {"iterations": "many"}):  # earlier versions say nothing
        edit(copy.best, settings=damaged)
        assert "Learning rate" not in rows(card_of(open_model(copy.best)), "Training")


def test_a_converted_model(tmp_path: Path) -> None:
    checkpoint = tiny.save_official(tmp_path / "selfie_params_0001.pt")
    model, _ = convert([checkpoint], tmp_path / "model", storage="fp16")
    card = card_of(model)
    assert "`selfie_params_0001.pt`" in card
    assert digest_of(checkpoint).sha256 in card
    assert "| Weights | float16, " in card


def test_a_file_of_weights_with_another_name(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "best.safetensors")
    data = contents(open_model(folder / "best.safetensors"))
    assert data["model.safetensors"] == (folder / "best.safetensors").read_bytes()


def test_hashes_are_published_and_a_damaged_model_is_not(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", discriminators=True)
    data = contents(open_model(folder), Options(discriminators=True))
    assert data["SHA256SUMS"] == (folder / "SHA256SUMS").read_bytes()
    assert contents(open_model(folder))["SHA256SUMS"].decode().split()[1::2] == ["config.json", "model.safetensors"]
    flip(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"model/model\.safetensors: damaged: expected sha256 "):
        contents(open_model(folder))


@pytest.mark.parametrize("linked", [True, False])
def test_what_is_staged_never_leads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    if not linked:
        monkeypatch.setattr(os, "link", Mock(side_effect=OSError(18, "Invalid cross-device link")))
    folder = tiny.save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with staged(open_model(folder), TARGET, Options(), Notes()) as found:
        assert found.model.weights.samefile(folder / "model.safetensors") is linked
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has other links, and no pipes")
@pytest.mark.parametrize("name", ["README.md", "samples.png", "config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["outside", "missing", "pipe"])
def test_nothing_but_files_of_the_model_is_published(tmp_path: Path, name: str, kind: str) -> None:
    folder = tiny.save(tmp_path / "model")
    model, path = open_model(folder), folder / name
    if kind == "outside" and path.exists():
        path.rename(tmp_path / "private")
    elif path.exists():
        path.unlink()
    (tmp_path / "private").touch()
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(tmp_path / ("none" if kind == "missing" else "private"))
    with pytest.raises(ModelError) as caught, staged(model, TARGET, Options(), Notes()):
        pytest.fail("it would be published")
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.skipif(os.name == "nt", reason="Windows has other links")
def test_links_that_lead_out_of_a_run(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    (grid,) = (copy.path / "samples").iterdir()
    grid.rename(tmp_path / "private.png")
    grid.symlink_to(tmp_path / "private.png")
    with pytest.raises(ModelError, match=grid.name), staged(open_model(copy.path), TARGET, Options(), Notes()):
        pytest.fail("it would be published")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other links")
def test_links_inside_a_model_and_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "cache" / "snapshots" / "1")
    (folder / "about.md").write_text("mine")
    (folder / "README.md").symlink_to("about.md")
    (tmp_path / "cache" / "blobs").mkdir()
    (folder / "config.json").rename(tmp_path / "cache" / "blobs" / "2")
    (folder / "config.json").symlink_to("../../blobs/2")
    data = contents(open_model(folder))
    assert data["README.md"] == b"mine"
    assert sorted(data) == sorted(NAMES)


def test_files_that_are_replaced_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, newer = tiny.save(tmp_path / "model"), tiny.save(tmp_path / "newer")
    edit(newer, steps=7)
    link, calls = os.link, []

    def replacing(source: Any, target: Any, **options: Any) -> None:
        link(source, target, **options)
        calls.append(source)
        if len(calls) == 1:  # the config is taken; a run writes its next model now
            (folder / "SHA256SUMS").unlink()
            (newer / "model.safetensors").replace(folder / "model.safetensors")
            (newer / "config.json").replace(folder / "config.json")

    monkeypatch.setattr(os, "link", replacing)
    model = open_model(folder)
    data = contents(model)
    assert data["config.json"] == (folder / "config.json").read_bytes()
    assert b'"steps": 7' in data["config.json"]


def test_a_local_start_is_mentioned(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model")
    for start, count in ((str(tmp_path / "old"), 1), ("flat2clay", 0)):
        edit(folder, **{"started from": start})
        notes = Notes()
        assert str(tmp_path) not in contents(open_model(folder), None, notes)["README.md"].decode()
        assert [start in note for note in notes.notes] == [True] * count


# --- Samples ---------------------------------------------------------------------------------------------


def test_samples_of_ones_own_fit_the_page_and_tell_nothing_else(run: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 4096, 4), dtype=np.uint8)
    pixels[..., 3] = 7
    told = PngImagePlugin.PngInfo()
    told.add_text("Author", "somebody")
    Image.fromarray(pixels).save(tmp_path / "mine.png", pnginfo=told)
    data = contents(open_model(run), Options(samples=tmp_path / "mine.png"))
    with Image.open(io.BytesIO(data["samples.png"])) as image:
        assert (image.format, image.size) == ("PNG", (2048, 50))
        assert image.getchannel("A").getextrema() == (7, 7)
    assert b"somebody" not in data["samples.png"]
    assert "(samples.png)" in data["README.md"].decode()
    assert "training steps, one picture a row" not in data["README.md"].decode()


# --- Its entry -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repository", "name"), [("ada/Red2Blue_1.0", "Red2Blue_1.0"), ("ada/_red", "red"), ("ada/___", "model")]
)
def test_an_entry_of_which_nothing_is_said(tmp_path: Path, repository: str, name: str) -> None:
    with staged(open_model(tiny.save(tmp_path / "model")), HubId(repository), Options(), Notes()) as found:
        made = entry(found, HubId(repository), "a" * 40)
    (tmp_path / "weights.toml").write_text(f"schema = 1\n\n{entry_toml(made)}", encoding="utf-8")
    assert read_manifest(tmp_path / "weights.toml") == {name: made}
    assert (made.licence, made.training_data) == ("not stated", "not described")


def test_an_entry_says_the_licence_that_the_model_does(tmp_path: Path) -> None:
    edit(tiny.save(tmp_path / "model"), licence="CC-BY 4.0")
    with staged(open_model(tmp_path / "model"), HubId("ada/red"), Options(), Notes()) as found:
        assert entry(found, HubId("ada/red"), "a" * 40).licence == "CC-BY 4.0"

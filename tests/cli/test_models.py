"""`ugatit models`: tables for people and programs, checks, removal."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests import tiny
from tests.cli.conftest import Command, Outcome, Stdin
from tests.cli.test_startup import HEAVY, imported_by
from tests.fetched import fetched, flip, say, stored
from ugatit_cli.cli import console, models_view
from ugatit_cli.cli.listing import show_list
from ugatit_cli.weights.catalog import catalog, known
from ugatit_cli.weights.home import BUNDLED, store_path
from ugatit_cli.weights.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("cache")
COMMIT = "0123456789" * 4
GROUPS = ["ready here", "damaged", "one download away", "train it yourself"]
LONG = "some-organisation/horses-to-zebras-from-pictures-of-their-own"


@pytest.fixture
def many(cache: Path, model: Path) -> None:
    stored("mine")
    (stored("broken", receipt=False) / "model.safetensors").write_bytes(b"x" * 1000)
    fetched(cache, model, "ann/cats", COMMIT)
    fetched(cache, model, LONG, COMMIT, f"{LONG}@{COMMIT}")


def row(outcome: Outcome, name: str) -> list[str]:
    """The cells of a row of the table."""
    line = next(line for line in outcome.lines if line.split("  ")[0] == name)
    return re.split(r" {2,}", line)


# --- The table -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("many")
def test_the_table_for_programs(ugatit: Command) -> None:
    outcome = ugatit("models", "--all")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.lines[0].split() == ["NAME", "DOMAINS", "SIZE", "STATE", "FROM", "LICENCE"]
    assert len(outcome.lines) == 1 + len(read_manifest()) + 4
    licence = read_manifest()["flat2clay"].licence
    bundled = ["flat2clay", "flat <-> clay", "14.3 MB", "ready", "bundled", licence]
    assert row(outcome, "flat2clay") == bundled
    licence = "not stated by the authors"
    assert row(outcome, "selfie2anime-full")[2:] == ["~8.06 GB *", "not fetched, unverified", "Hub hylee", licence]
    assert row(outcome, "photo2portrait")[2:5] == ["-", "no weights", "-"]
    assert row(outcome, "mine")[2:] == ["124.2 kB", "ready", "your store", "?"]
    assert row(outcome, "broken")[3] == "damaged"
    assert row(outcome, "ann/cats")[3:5] == ["ready", f"Hub, commit {COMMIT[:12]}"]
    assert row(outcome, f"{LONG}@{COMMIT}")[3] == "ready"
    assert outcome.stdout.isascii()
    assert b"\x1b" not in outcome.stdout
    assert ugatit("models", "list", "--all") == outcome
    shown = ugatit("models")
    names = [[line.split()[0] for line in one.lines] for one in (shown, outcome)]
    assert [*names[0], "photo2portrait"] == names[1]
    assert names[0][1:3] == ["ink2clay", "flat2clay"]
    assert "1 more has no weights yet: ugatit models --all" in shown.stderr


def test_one_line_for_each_model_that_cannot_write_on_the_terminal(
    ugatit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "two\nlines"))
    folder = stored("mine")
    texts = {"licence": "\nMIT of\u2028the code\r\x85\x0bonly  \x1b[2J", "description": "two\nlines"}
    say(folder, **texts, **{"\x1b]0;x\x07": "a\x1b[31mb\nc", "number": 1, "list": ["\x9b"]})
    outcome = ugatit("models", "--all")
    assert len(outcome.lines) == 1 + len(read_manifest()) + 1
    assert row(outcome, "mine")[5:] == [r"MIT of the code only \x1b[2J"]
    for arguments in (("models",), ("models", "show", "mine"), ("models", "verify"), ("models", "--json")):
        assert not set(b"\x1b\x07\r") & set(ugatit(*arguments).stdout)
    text = ugatit("models", "show", "mine").stdout.decode()
    assert "\x9b" not in text
    assert re.search(r"  \\x1b\]0;x\\x07: +a\\x1b\[31mb\n +c\n", text)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    say(stored("cats"), licence="無料" * 30)
    seen = StringIO()
    terminal = Console(file=seen, force_terminal=True, color_system=None, width=width, soft_wrap=True)
    monkeypatch.setattr(console, "screen", lambda: terminal)
    show_list(models_view.COLUMNS, models_view.groups(catalog()))
    lines = [line.rstrip() for line in seen.getvalue().splitlines()]
    assert max(map(cell_len, lines)) <= width
    titles = [line.partition(":")[0] for line in lines if line and not line.startswith(" ")]
    assert [one for one in titles if one in GROUPS] == GROUPS
    text = "".join(line.strip() for line in lines)
    assert ("bundled" in text, "nobody" in text) == (width >= 96, True)
    assert ("無料" in text) == (width == 200)


@pytest.mark.usefixtures("many")
def test_the_table_as_json(ugatit: Command, cache: Path) -> None:
    outcome = ugatit("models", "--json")
    assert (outcome.code, outcome.stderr) == (0, "")
    found = {one["name"]: one for one in json.loads(outcome.stdout)}
    states = [one["state"] for one in found.values()]
    assert list(dict.fromkeys(states)) == ["ready", "damaged", "not fetched"]
    assert len(json.loads(ugatit("models", "--all", "--json").stdout)) == len(found) + 1
    entry = read_manifest()["selfie2anime-full"]
    facts = {"name": "selfie2anime-full", "source": "import", "repository": "hylee/UGATIT_model", "revision": "main"}
    about = {"description": entry.description, "licence": entry.licence, "training_data": entry.training_data}
    more = {"domains": ["selfie", "anime"], "image_size": 256, "state": "not fetched", "ways": "both"}
    more |= {"read_at": list(entry.read_at), "verified": entry.verified}
    selfies = found["selfie2anime-full"]
    assert selfies | facts | about | more == selfies
    assert {selfies[key] for key in ("size", "problem", "commit", "path")} == {None}
    cats = found["ann/cats"]
    assert (cats["repository"], cats["revision"], cats["commit"]) == ("ann/cats", "main", COMMIT)
    assert cats["path"] == str(cache / "models--ann--cats" / "snapshots" / COMMIT)
    assert "not a complete safetensors file" in found["broken"]["problem"]


# --- One model -----------------------------------------------------------------------------------------


def test_all_of_one_model(ugatit: Command) -> None:
    outcome = ugatit("models", "show", "flat2clay")
    assert (outcome.code, outcome.stderr) == (0, "")
    text = outcome.stdout.decode()
    entry = read_manifest()["flat2clay"]
    for line in (
        f"description:    {entry.description}",
        "state:          ready",
        f"path:           {BUNDLED / 'flat2clay'}",
        "network:        ugatit, light, 32 channels, 4 + 4 blocks, 128 px, pytorch dialect, 5.31 million parameters",
        "ways:           flat <-> clay",
        "discriminators: yes",
    ):
        assert f"{line}\n" in text
    for key, value in json.loads((BUNDLED / "flat2clay" / "config.json").read_text())["provenance"].items():
        assert re.search(rf"  {key}: +{re.escape(str(value))}\n", text)
    for name, record in entry.files.items():
        assert record is not None
        assert f"  {name}: {record.size:,} bytes\n    sha256 {record.sha256}\n" in text
    assert text.endswith("\nTranslate with: ugatit translate PICTURES --model flat2clay -o out/\n")


def test_tables_in_provenance_are_lines(ugatit: Command, tmp_path: Path) -> None:
    deep = {"a": {"b": {"c": {"d": 1}}}, "empty": {}}
    path = tiny.save(tmp_path / "m") / "config.json"
    document = json.loads(path.read_text())
    document["provenance"] = {"steps": 4, "settings": {"recipe": {"ema": 0.9, "flip": True}}, "deep": deep}
    path.write_text(json.dumps(document))
    text = ugatit("models", "show", str(path.parent)).stdout.decode()
    assert re.search(r"  steps: +4\n  settings:\n    recipe:\n      ema: +0.9\n      flip: +true\n", text)
    assert re.search(r"  deep:\n    a:\n      b: +{\"c\": {\"d\": 1}}\n    empty: +{}\n", text)


def test_who_made_it_and_where_it_is_before_anything_is_downloaded(ugatit: Command) -> None:
    for entry in read_manifest().values():
        text = ugatit("models", "show", next(iter(entry.aliases), entry.name)).stdout.decode()
        for fact in (entry.name, entry.licence, entry.made_by, entry.address or entry.repository, *entry.read_at):
            assert fact in text, entry.name
        assert ("nobody of this project has downloaded it" in text) == (not entry.verified)
        assert ("(one way)" in text) == (entry.ways == "a2b")
        assert not entry.converted or f"ugatit fetch {entry.name}\n" in text


def test_show_as_json(ugatit: Command) -> None:
    stored("mine", discriminators=True)
    document = json.loads(ugatit("models", "show", "mine", "--json").stdout)
    assert document["config"]["channels"] == 4
    assert document["discriminators"] is True
    assert document["parameters"] > 1000
    assert document["files"] == [
        {"name": name, "size": len(data), "recorded_size": len(data), "recorded_sha256": sha256(data).hexdigest()}
        for name in ("config.json", "model.safetensors", "discriminators.safetensors")
        for data in [(store_path("mine") / name).read_bytes()]
    ]
    assert document["next"] == "ugatit translate PICTURES --model mine -o out/"


def test_models_that_are_not_whole(ugatit: Command, cache: Path, model: Path) -> None:
    receipt = fetched(cache, model, "ann/cats", COMMIT)
    (receipt.folder / "discriminators.safetensors").unlink()
    (receipt.folder / "config.json").write_text("{")
    outcome = ugatit("models", "show", "ann/cats")
    assert outcome.code == 0
    for line in (
        "state:          damaged",
        f"problem:        {receipt.folder}: missing: discriminators.safetensors",
        "  discriminators.safetensors: missing",
        "  config.json: 1 bytes, 407 were recorded",
        "Fetch it again: ugatit fetch ann/cats --force",
    ):
        assert line in outcome.lines
    for name in ("selfie2anime-full", "photo2portrait"):
        assert read_manifest()[name].instructions.strip() in ugatit("models", "show", name).stdout.decode()
    shutil.copytree(model, "run/model")
    outcome = ugatit("models", "show", "./run")
    assert "from:           your folder" in outcome.lines
    assert "    sha256 not recorded" in outcome.lines
    assert outcome.lines[-1] == "Translate with: ugatit translate PICTURES --model ./run -o out/"


def test_long_texts_are_folded_between_words() -> None:
    lines = list(models_view.model_lines(known("flat2clay"), 60))
    assert all(
        len(line) <= 60 or " " not in line.split(":", 1)[-1].strip() or "sha256" in line for line in lines[:-1]
    )
    unfolded = " ".join(" ".join(models_view.model_lines(known("flat2clay"), None)).split())
    assert " ".join(" ".join(lines).split()) == unfolded


def test_which_discriminators_a_model_has(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{"discriminators": "local"}, {"discriminator_cam": False}]
    for change, expected in zip(changes, ("local only", "yes, no CAM"), strict=True):
        folder = tiny.save(tmp_path / expected, dataclasses.replace(tiny.LIGHT, **change), discriminators=True)
        assert f"discriminators: {expected}" in list(models_view.model_lines(known(str(folder)), None))


# --- Checks --------------------------------------------------------------------------------------------


def test_all_is_well_or_all_damage_is_named(ugatit: Command, cache: Path, model: Path) -> None:
    stored("mine")
    unrecorded = stored("unrecorded", receipt=False)
    receipt = fetched(cache, model, "ann/cats", COMMIT)
    outcome = ugatit("models", "verify")
    assert (outcome.code, outcome.errors) == (1, ["not verifiable: unrecorded"])
    assert [line.partition(", sha256:")[0] for line in outcome.lines] == [
        "ink2clay: ok (3 files, 14.3 MB)",
        "flat2clay: ok (3 files, 14.3 MB)",
        "mine: ok (2 files, 124.2 kB)",
        "unrecorded: not verifiable: nobody recorded the hash of config.json, model.safetensors; as it is now",
        "ann/cats: ok (3 files, 150.7 kB)",
    ]
    assert ugatit("models", "verify", "mine").code == 0
    (unrecorded / "model.safetensors").write_bytes(b"x" * 1000)
    flip(receipt.folder / "model.safetensors")
    outcome = ugatit("models", "verify")
    assert outcome.code == 3
    states = [line.split(": ")[:2] for line in outcome.lines]
    assert [name for name, state in states if state == "damaged"] == ["unrecorded", "ann/cats"]
    assert re.search(r"expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}$", outcome.lines[-1])
    assert outcome.errors == ["damaged: unrecorded, ann/cats"]
    assert "Fetch it again: ugatit fetch ann/cats --force" in outcome.stderr
    assert "ugatit models rm unrecorded" in outcome.stderr
    assert "ugatit fetch --from-file FOLDER --name unrecorded --force" in outcome.stderr
    assert (receipt.folder / "model.safetensors").is_file()
    assert ugatit("models", "verify", "ann/cats").code == 3
    shutil.copy(model / "discriminators.safetensors", store_path("mine"))
    outcome = ugatit("models", "verify", "mine")
    assert outcome.code == 1
    assert "not verifiable: nobody recorded the hash of discriminators.safetensors" in outcome.lines[0]


def test_a_folder_that_is_damaged_or_has_no_hashes(ugatit: Command) -> None:
    damaged, unrecorded = (tiny.save(Path(name)) for name in ("da maged", "unrecorded"))
    flip(damaged / "model.safetensors")
    outcome = ugatit("models", "verify", damaged)
    assert (outcome.code, outcome.errors) == (3, ["damaged: da maged"])
    assert outcome.lines[0].count("damaged") == 1
    assert "sha256sum" in outcome.stderr
    (unrecorded / "SHA256SUMS").unlink()
    outcome = ugatit("models", "verify", unrecorded)
    assert (outcome.code, outcome.errors) == (1, ["not verifiable: unrecorded"])
    (command,) = (line for line in outcome.stderr.splitlines() if line.startswith("("))
    subprocess.run(command, shell=True, check=True)  # as a user would
    assert ugatit("models", "verify", unrecorded).code == 0


# --- Paths ---------------------------------------------------------------------------------------------


def test_paths(ugatit: Command, cache: Path, model: Path) -> None:
    shutil.copytree(model, "run/model")
    paths = {"mine": stored("mine"), "ann/cats": fetched(cache, model, "ann/cats", COMMIT).folder, "run": "run/model"}
    for name, path in paths.items():
        outcome = ugatit("models", "path", name)
        assert (outcome.code, outcome.lines, outcome.stderr) == (0, [str(path)], "")


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        ("selfie2anime-full", "selfie2anime-full is not on this machine", "ugatit fetch selfie2anime-full"),
        ("photo2portrait", "nobody has published weights of photo2portrait", "ugatit train --data photo2portrait"),
        ("ann/cats", "no folder ann/cats here, and nothing fetched", "ugatit fetch ann/cats"),
        ("flat2cly", "no model 'flat2cly'", "Did you mean flat2clay?"),
    ],
)
def test_models_that_are_not_here(ugatit: Command, name: str, error: str, hint: str) -> None:
    for use in ("path", "verify", "rm"):
        outcome = ugatit("models", use, name)
        assert (outcome.code, outcome.stdout) == (3, b"")
        assert outcome.errors[0].startswith(error)
        assert hint in outcome.stderr


# --- Removal -------------------------------------------------------------------------------------------


def test_removing_needs_a_yes(ugatit: Command) -> None:
    folder = stored("mine")
    outcome = ugatit("models", "rm", "mine")
    assert (outcome.code, outcome.stdout) == (2, b"")
    assert outcome.errors == ["nobody is there to confirm that mine is to be removed (124.2 kB)"]
    assert "ugatit models rm mine --yes" in outcome.stderr
    for answer in (b"n\n", b"\n", b"maybe\n", b""):
        outcome = ugatit("models", "rm", "mine", stdin=answer, typed=True)
        assert (outcome.code, outcome.stdout) == (1, b"")
        assert outcome.stderr.endswith("nothing was removed\n")
        assert folder.is_dir()
    assert f"goes: {folder}" in outcome.stderr
    assert "this may be the only copy" in outcome.stderr
    assert "Remove mine (124.2 kB)? [y/N]" in outcome.stderr
    outcome = ugatit("models", "rm", "mine", stdin=b"y\n", typed=True)
    assert outcome.code == 0
    assert not folder.exists()
    assert "removed mine: 124.2 kB freed" in outcome.stderr


def test_all_names_of_the_same_files_go(ugatit: Command, cache: Path, model: Path) -> None:
    for key in ("ann/cats", f"ann/cats@{COMMIT}"):
        fetched(cache, model, "ann/cats", COMMIT, key)
    outcome = ugatit("models", "rm", "ann/cats", "--yes")
    also = f"the same files are known as ann/cats@{COMMIT}, which goes with them\n"
    assert (outcome.code, outcome.stderr) == (0, also + "removed ann/cats: 150.7 kB freed\n")
    assert list(cache.glob("models--*")) == []


def test_ctrl_c(ugatit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    folder = stored("mine")
    with monkeypatch.context() as patch:
        patch.setattr(Stdin, "readline", interrupted)
        outcome = ugatit("models", "rm", "mine", typed=True)
    assert (outcome.code, outcome.errors) == (130, ["interrupted; nothing was removed"])
    assert folder.is_dir()
    monkeypatch.setattr(shutil, "rmtree", interrupted)
    outcome = ugatit("models", "rm", "mine", "--yes")
    assert (outcome.code, outcome.errors) == (130, ["interrupted while mine was removed"])


# --- Usage ---------------------------------------------------------------------------------------------


def test_wrong_usage(ugatit: Command) -> None:
    assert "models show" in ugatit("models", "shwo", "flat2clay").stderr
    for arguments in (("--no-such-option",), ("show",), ("verify", "a", "b"), ("rm",), ("path", "")):
        assert ugatit("models", *arguments).code == 2


def test_what_is_not_waited_for() -> None:
    expected = {
        "models --help": (0, HEAVY | {"rich"}),
        "models rm -h": (0, HEAVY | {"rich"}),
        "models": (0, {"torch"}),
        "models show nobody/none": (3, {"torch"}),
    }
    for (command, (found, unwanted)), (code, modules) in zip(expected.items(), imported_by(*expected), strict=True):
        assert ((code or 0), "typer" in modules, modules & unwanted) == (found, True, set()), command

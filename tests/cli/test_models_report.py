"""How models are shown: folded to a terminal, whole, and without what a terminal would obey."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests import tiny
from tests.fetched import one_of_each, use_folders
from ugatit_cli.cli import models
from ugatit_cli.config import ModelConfig
from ugatit_cli.weights.catalog import Known, catalog, known
from ugatit_cli.weights.home import BUNDLED

COMMIT = "0123456789" * 4
LONG = "some-organisation/horses-to-zebras-from-pictures-of-their-own"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_folders(tmp_path, monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "made", discriminators=True)


def on_terminal(width: int, monkeypatch: pytest.MonkeyPatch, found: list[Known] | None = None) -> list[str]:
    """The table of all or of these models as it appears on a terminal, without colours."""
    seen = StringIO()
    terminal = Console(file=seen, force_terminal=True, color_system=None, width=width, soft_wrap=True)
    monkeypatch.setattr(models, "screen", lambda: terminal)
    models.show_table(catalog() if found is None else found)
    return seen.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_on_a_terminal(
    cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int
) -> None:
    one_of_each(cache, model, LONG, COMMIT)
    lines = on_terminal(width, monkeypatch)
    # Paths and names are whole, so that they can be copied.
    long = [line for line in lines if len(line) > width]
    assert all(line.strip().startswith((str(tmp_path), str(BUNDLED), LONG)) for line in long)
    assert f"{LONG}@{COMMIT}" in lines
    assert f"  {BUNDLED / 'flat2clay'}" in lines
    index = next(index for index, line in enumerate(lines) if line.startswith("selfie2anime "))
    if width > 80:
        assert lines[0].split() == ["NAME", "DOMAINS", "SIZE", "STATE", "FROM"]
        assert lines[index].endswith("not fetched  authors' checkpoint hylee/UGATIT_model")
        assert lines[index + 1] == "  licence: not stated by the authors"
    else:
        assert lines[0].split() == ["NAME", "DOMAINS", "SIZE", "STATE"]
        assert lines[index].endswith("not fetched")
        assert lines[index + 1].startswith("  from: authors' checkpoint hylee/UGATIT_model; licence: ")
    starts = {
        line.index(state) for line in lines for state in ("ready", "not fetched", "damaged") if f" {state}" in line
    }
    assert len(starts) == 1


@pytest.mark.parametrize("width", [30, 40, 50, 56])
def test_the_table_on_a_narrow_terminal(
    cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int
) -> None:
    one_of_each(cache, model, LONG, COMMIT)
    lines = on_terminal(width, monkeypatch)
    long = [line for line in lines if len(line) > width]
    assert all(line.strip().startswith((str(tmp_path), str(BUNDLED), LONG)) for line in long)
    assert lines[0].split() == ["NAME", "SIZE", "STATE"]
    text = " ".join(" ".join(lines).split())
    assert "domains: selfie <-> anime; from: authors' checkpoint hylee/UGATIT_model; licence: not stated by" in text
    assert len({line.index("not fetched") for line in lines if "not fetched" in line}) == 1
    # A name that doesn't fit beside the other columns stands above them.
    index = next(index for index, line in enumerate(lines) if line.startswith("photo2portrait"))
    assert (lines[index] == "photo2portrait") == (width == 30)
    assert lines[index + (width == 30)].endswith("-         no weights")


@pytest.mark.parametrize("width", [40, 80])
def test_wide_domains_and_texts_are_folded(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig("猫" * 40, "いぬ")
    wide = Known("cats", "store", "ready", config=config, provenance={"licence": "無料" * 30})
    lines = on_terminal(width, monkeypatch, [wide, Known("x", "store")])
    assert max(map(cell_len, lines)) <= width
    assert [line.rstrip() for line in lines] == lines
    assert "".join("".join(lines).split()).count("猫") == 40
    assert lines[0].split() == ["NAME", "SIZE", "STATE"]
    assert lines[1].split() == ["cats", "?", "ready"]
    assert "".join(line.strip() for line in lines).count("無料") == 30


def test_long_texts_are_folded_between_words(model: Path) -> None:
    flat = next(one for one in catalog() if one.name == "flat2clay")
    lines = list(models.model_lines(flat, 60))
    assert all(
        len(line) <= 60 or " " not in line.split(":", 1)[-1].strip() or "sha256" in line for line in lines[:-1]
    )
    unfolded = " ".join(" ".join(models.model_lines(flat, None)).split())
    assert " ".join(" ".join(lines).split()) == unfolded
    short = known(str(model))
    assert list(models.model_lines(short, 400)) == list(models.model_lines(short, None))


def test_wide_characters_stay_in_their_columns() -> None:
    config = ModelConfig("猫", "いぬ")
    lines = list(models.plain_table([Known("cats", "store", "ready", config=config), Known("x", "store")]))
    starts = [cell_len(line.partition(word)[0]) for line, word in zip(lines, ("STATE", "ready", "not"), strict=True)]
    assert len(set(starts)) == 1


@pytest.mark.parametrize(
    ("changes", "saved", "expected"),
    [
        ({}, True, "yes"),
        ({"discriminators": "local"}, True, "local only"),
        ({"discriminator_cam": False}, True, "yes, no CAM"),
        ({"discriminators": "local", "discriminator_cam": False}, True, "local only, no CAM"),
        ({"discriminators": "local"}, False, "no"),
    ],
)
def test_which_discriminators_a_model_has(
    tmp_path: Path, changes: dict[str, Any], saved: bool, expected: str
) -> None:
    folder = tiny.save(tmp_path / "judged", dataclasses.replace(tiny.LIGHT, **changes), discriminators=saved)
    assert f"discriminators: {expected}" in list(models.model_lines(known(str(folder)), None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain é 猫", "plain é 猫"), ("\x1b[2J", r"\x1b[2J"), ("a\nb", "a\nb"), ("a\rb\x9b", r"a\rb\x9b"), (7, "7")],
)
def test_texts_that_a_terminal_would_obey(text: object, shown: str) -> None:
    assert models.plain(text) == shown

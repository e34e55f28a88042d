"""The tables of `benchmarks.paper`: rows, figures, orders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import paper_tables as tables
from benchmarks.paper_tables import ABLATIONS, ADDITIONS, MIXED, PAPER, UNTOUCHED, Disagreement, Figure, Row
from ugatit_cli.data.pictures import Folders
from ugatit_cli.methods.recipe import Recipe, preset
from ugatit_cli.methods.registry import METHODS
from ugatit_cli.training.settings import Settings, new_settings

NAMES = ("flat", "clay")
BESIDE = "selfie2anime"


def result(a2b: float, b2a: float | None, *, mixed: float = 0) -> dict[str, Any]:
    """Of one training, as the JSON file has it; `mixed` of a2b, where it isn't the KID to the target."""
    ways = {"a2b": (a2b, mixed or a2b)} | ({} if b2a is None else {"b2a": (b2a, b2a)})
    found: dict[str, Any] = {
        way: {"kid_x100": {"mean": one, "std": 0.1}, "kid_mixed_x100": {"mean": two, "std": 0.2}}
        for way, (one, two) in ways.items()
    }
    return found | {"steps": 50, "seconds": 100.0}


def of_row(*seeds: dict[str, Any]) -> dict[str, Any]:
    cost = {"generator_parameters": 2_500_000, "discriminator_parameters": 500_000, "memory_bytes": 10**9}
    return {"cost": cost, "seeds": {str(number): one for number, one in enumerate(seeds)}}


def settings(row: Row) -> Settings:
    chosen = {"channels": 16, "image_size": 64, "precision": "fp32"} | dict(row.settings)
    return new_settings(chosen, Folders(Path("trainA"), Path("trainB")), device=torch.device("cpu"))


def test_every_method_and_every_ablation_is_what_its_name_says() -> None:
    methods, ablations = tables.groups(additions=False).values()
    assert [settings(row).model.method for row in methods] == list(METHODS)
    whole, *ablated = (settings(row) for row in ablations)
    assert (whole.model.method, len(ablated)) == ("ugatit", len(ABLATIONS))
    before, found = dataclasses.asdict(whole.model), {}
    for row, ours in zip(ABLATIONS, ablated, strict=True):
        assert ours.recipe == whole.recipe
        after = dataclasses.asdict(ours.model)
        found[row.title] = {name: value for name, value in after.items() if value != before[name]}
    cams = {"generator_cam": False, "discriminator_cam": False}
    assert found == {f"w/ {name}": {"decoder_norm": name.lower()} for name in ("IN", "LN", "AdaIN", "GN")} | {
        "w/o CAM": cams,
        "w/o G_CAM": {"generator_cam": False},
        "w/o D_CAM": {"discriminator_cam": False},
    }


def changes(row: Row, base: Recipe) -> set[str]:
    plain = base.to_dict()
    return {name for name, value in settings(row).recipe.to_dict().items() if plain[name] != value}


def test_every_addition_alone_and_all_of_them() -> None:
    paper, default = preset("paper"), preset("default")
    assert settings(ADDITIONS[0]).recipe == paper
    seen: set[str] = set()
    for row in ADDITIONS[1:]:
        changed = changes(row, paper if row.title.startswith("+") else default)
        assert changed >= row.settings.keys() - {"recipe", "precision"}
        assert (
            all(getattr(settings(row).recipe, name) == getattr(paper, name) for name in changed) or "+" in row.title
        )
        seen |= changed
    differing = {name for name, value in default.to_dict().items() if value != getattr(paper, name)}
    assert differing - {"name"} == seen


def test_rows_have_names_of_their_own() -> None:
    rows = {row for of in tables.groups(additions=True).values() for row in of}
    assert len({row.name for row in rows}) == len({row.title for row in rows}) == len(rows)
    known = {row.name for row in rows} | {"unit", "munit", "drit", "aggan"}
    assert all(set(figures) <= known for ways in PAPER.values() for figures in ways.values())


def test_the_papers_figures() -> None:
    assert PAPER["a2b"][BESIDE]["ugatit"] == Figure(11.61, 0.57)
    assert PAPER["b2a"]["photo2vangogh"]["drit"] == Figure(7.72, 0.34)
    assert set(PAPER["a2b"][BESIDE]) - set(PAPER["b2a"][BESIDE]) == {"cartoongan"}  # which has one way
    assert {row.name for row in ABLATIONS} <= set(PAPER["a2b"][BESIDE])
    assert all("cartoongan" not in PAPER[way][data] for way in PAPER for data in tables.PAPER_DATA[1:])


def test_where_the_order_differs() -> None:
    theirs = {"x": Figure(1, 0), "y": Figure(2, 0), "z": Figure(3, 0), "tie": Figure(3, 0)}
    ours = {"x": Figure(5, 0.5), "y": Figure(4, 0.4), "z": Figure(1, 0.1), "more": Figure(0, 0)}
    assert list(tables.disagreements(ours, theirs)) == [
        Disagreement("y", "x", clear=True),
        Disagreement("z", "x", clear=True),
        Disagreement("z", "y", clear=True),
    ]
    (close,) = tables.disagreements({"x": Figure(5, 0.6), "y": Figure(4, 0.5)}, theirs)
    assert not close.clear
    for equal in ({"x": Figure(4, 1), "y": Figure(4, 1)}, {"tie": Figure(4, 1), "z": Figure(5, 1)}):
        assert not list(tables.disagreements(equal, theirs))


@given(st.lists(st.floats(0, 100), min_size=2, max_size=6, unique=True))
def test_a_table_agrees_with_itself_and_not_with_its_opposite(means: list[float]) -> None:
    ours = {str(index): Figure(mean, 0) for index, mean in enumerate(means)}
    opposite = {row: Figure(-figure.mean, 0) for row, figure in ours.items()}
    assert not list(tables.disagreements(ours, ours))
    assert len(list(tables.disagreements(ours, opposite))) == len(means) * (len(means) - 1) // 2


def lines_of(text: str) -> dict[str, list[str]]:
    """The cells of a table's rows by their titles."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}


def test_the_tables() -> None:
    rows = tables.method_rows()
    results = {
        UNTOUCHED.name: {"seeds": {"0": {"a2b": {"kid_x100": {"mean": 3.0, "std": 0.1}}}}},
        "cyclegan": of_row(result(21.0, 20.0, mixed=10.0)),
        "ugatit": of_row(result(20.0, 15.0)),
        "cartoongan": of_row(result(9.0, None)),
    }
    lines = lines_of(text := tables.kid_table(rows, results, NAMES, BESIDE))
    assert [title for title in lines if title != "---"][1:3] == ["untouched", "U-GAT-IT"]
    assert lines["untouched"] == ["3.00 ± 0.10", "-", "-", "-", "", ""]
    assert lines["CycleGAN"][:4] == ["21.00 ± 0.10", "10.00 ± 0.20", "20.00 ± 0.10", "20.00 ± 0.20"]
    assert lines["CycleGAN"][4:] == [str(PAPER[way][BESIDE]["cyclegan"]) for way in tables.WAYS]
    assert lines["CartoonGAN"][2:] == ["-", "-", "15.85 ± 0.69", ""]
    # The order is that of the mixed KIDs, not of those to the target.
    assert "flat → clay: 0 of 3 pairs" in text
    assert "clay → flat: 1 of 1 pairs" in text
    lines = lines_of(tables.kid_table(ABLATIONS, {"w-in": of_row(result(1, 2))}, NAMES, "cat2dog"))
    assert len(lines["w/ IN"]) == 4  # the paper has none of these
    costs = lines_of(tables.cost_table(rows, results))
    assert costs["CycleGAN"] == ["50", "1 min 40 s", "2.000", "1.00 GB", "2.50 M", "0.50 M"]


def test_several_seeds_stand_in_one_cell() -> None:
    two = of_row(result(10, 20, mixed=40), result(30, 40, mixed=60))["seeds"]
    assert tables.cell(two, "a2b") == "20.00 ± 0.10 (10.00, 30.00)"
    assert tables.cell(two, "a2b", MIXED) == "50.00 ± 0.20 (40.00, 60.00)"

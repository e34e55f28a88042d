"""The tables of `benchmarks.ablation`: rows, figures, orders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import ablation_tables as tables
from benchmarks.ablation_tables import ABLATIONS, ADDITIONS, PAPER, UNTOUCHED, Disagreement, Figure
from ugatit_cli.data.pictures import Folders
from ugatit_cli.methods.recipe import preset
from ugatit_cli.training.settings import Settings, new_settings

NAMES = ("flat", "clay")


def result(a2b: float, b2a: float, *, steps: int = 5, both: float = 0) -> dict[str, Any]:
    """Of one training, as the JSON file has it; `both` of a2b, where it isn't the KID to the target."""
    ways = {"a2b": (a2b, both or a2b), "b2a": (b2a, b2a)}
    figures = {
        way: {"kid": one, "std": 0.001, "kid to both": two, "std to both": 0.002} for way, (one, two) in ways.items()
    }
    return figures | {"steps": steps}


def settings(row: dict[str, Any]) -> Settings:
    given = {"channels": 16, "image_size": 64, "precision": "fp32"} | row
    return new_settings(given, Folders(Path("trainA"), Path("trainB")), device=torch.device("cpu"))


def test_every_ablation_is_what_its_name_says() -> None:
    assert set(ABLATIONS) == set(PAPER)
    assert len({tables.slug(row) for row in ABLATIONS}) == len(ABLATIONS)
    whole, found = settings(ABLATIONS["U-GAT-IT"]), {}
    for row, changes in ABLATIONS.items():
        ours = settings(changes)
        assert ours.model.method == ("cyclegan" if row == "CycleGAN" else "ugatit")
        assert (ours.recipe.ema, ours.recipe.augment) == (whole.recipe.ema, whole.recipe.augment)
        before, after = dataclasses.asdict(whole.model), dataclasses.asdict(ours.model)
        found[row] = {name: value for name, value in after.items() if value != before[name]}
    norms = {f"w/ {name}": {"decoder_norm": name.lower()} for name in ("IN", "LN", "AdaIN", "GN")}
    cams = {"generator_cam": False, "discriminator_cam": False}
    assert found == norms | {
        "U-GAT-IT": {},
        "w/o CAM": cams,
        "w/o G_CAM": {"generator_cam": False},
        "w/o D_CAM": {"discriminator_cam": False},
        "CycleGAN": {"blocks": 9},
    }


def test_every_addition_alone_and_all_of_them() -> None:
    paper, default = settings(ADDITIONS["paper"]), settings(ADDITIONS["default"])
    assert (paper.recipe, default.recipe) == (preset("paper"), preset("default"))
    base, added = paper.recipe.to_dict(), set()
    for row, changes in ADDITIONS.items():
        changed = {name for name, value in settings(changes).recipe.to_dict().items() if base[name] != value}
        if row.startswith("+"):
            assert len(changed) == ("precision" not in changes), row
            added |= changed
    assert {name for name, value in default.recipe.to_dict().items() if value != base[name]} - {"name"} == added


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


def test_the_table_of_ablations() -> None:
    rows = {
        UNTOUCHED: {"0": result(0.3, 0.31)},
        "CycleGAN": {"0": result(0.21, 0.2, both=0.1)},
        "U-GAT-IT": {"0": result(0.2, 0.15)},
    }
    two = {"0": result(0.1, 0.2, both=0.4), "1": result(0.3, 0.4, both=0.6)}
    assert tables.cell(two, "a2b") == "20.00 ± 0.10 (10.00, 30.00)"
    assert tables.cell(two, "a2b", tables.TO_BOTH) == "50.00 ± 0.20 (40.00, 60.00)"
    lines = tables.ablation_table(rows, NAMES).splitlines()
    assert [line.split(" |")[0] for line in lines[2:5]] == ["| untouched", "| U-GAT-IT", "| CycleGAN"]
    assert "| 21.00 ± 0.10 | 10.00 ± 0.20 | 20.00 ± 0.10 | 20.00 ± 0.20 |" in lines[4]
    # The order is that of the KIDs to both, not of those to the target.
    assert "flat → clay: 0 of 1 pairs of rows are in the paper's order." in lines
    assert "clay → flat: 1 of 1 pairs of rows are in the paper's order." in lines
    lines = tables.additions_table({UNTOUCHED: rows[UNTOUCHED], "default": two}, NAMES).splitlines()
    assert [line.split(" |")[0] for line in lines[2:4]] == ["| untouched", "| default"]
    assert lines[3].endswith(" | 5, 5 |")

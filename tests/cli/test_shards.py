"""A part of the pictures for each of several machines: together they make what one process makes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command, below, put
from ugatit_cli.cli.shards import Shard

# Names that meet in one result, folders, and one that upper and lower case alone tell apart.
NAMES = ["a.png", "a.webp", "b/a.png", "b/c.jpg", "b/d/e.png", "B.png", "f.gif"]


def contents(folder: str) -> dict[str, bytes]:
    return {name: Path(folder, name).read_bytes() for name in below(folder)}


def test_shards_together_are_one_process(translate: Command) -> None:
    put(*(f"in/{name}" for name in NAMES))
    assert translate("in", "-o", "one", "--format", "png").code == 0
    seen: list[str] = []
    for number in (1, 2, 3, 4):
        shard = ("--shard", f"{number}/4", "--format", "png", *(("--report", "out/page.html") if number == 2 else ()))
        planned = translate("in", "-o", "out", *shard, "--dry-run", "--json")
        outcome = translate("in", "-o", "out", *shard, "--json")
        made = [document["input"] for document in outcome.documents if "input" in document]
        assert outcome.code == 0
        assert [document["input"] for document in planned.documents if "input" in document] == made
        assert f"shard {number} of 4: {len(made)} of {len(NAMES)} files" in outcome.stderr
        assert Path(f"out/page-{number}of4.html").exists() is (number == 2 and bool(made))
        seen += made
    assert sorted(seen) == sorted(f"in/{name}" for name in NAMES)
    assert {name: data for name, data in contents("out").items() if "html" not in name} == contents("one")


@pytest.mark.parametrize("name", ["translate", "cam"])
def test_who_lists_the_pictures_and_what_else_there_is_decides_nothing(
    translate: Command, cam: Command, name: str
) -> None:
    run = translate if name == "translate" else cam
    put(*(f"here/in/{name}" for name in NAMES))
    shutil.copytree("here/in", "there/pictures")
    put("there/pictures/g.png", "there/pictures/A/a.png")

    def planned(*inputs: str) -> set[str]:
        lines = run(*inputs, "-o", "out", "--shard", "1/2", "--dry-run").lines
        return {re.sub("^.*?/(in|pictures)/", "", line.partition(" -> ")[0]) for line in lines}

    Path("list").write_text("".join(f"here/in/{name}\n" for name in reversed(NAMES)))
    ours = planned("here/in")
    assert 0 < len(ours) < len(NAMES)
    assert planned("--files-from", "list", "--base", "here/in") == ours
    assert {name for name in planned("there/pictures") if name in NAMES} == ours


def test_names_of_any_file_system_are_in_one_shard() -> None:
    shards = [Shard(number, 3) for number in (1, 2, 3)]
    for one, other in (("B/Ä.png", "b/a\u0308.PNG"), ("x", "X")):
        assert [shard.has(one) for shard in shards] == [shard.has(other) for shard in shards]
    counts = [sum(shard.has(f"{number:05}.png") for number in range(3000)) for shard in shards]
    assert min(counts) > 900


@pytest.mark.parametrize("shard", ["0/4", "5/4", "2", "2/0", "a/b", "-1/4", "1/4/2", "1/99999999"])
def test_what_is_no_shard(translate: Command, shard: str) -> None:
    put("a.png")
    outcome = translate("a.png", "-o", "out", "--shard", shard)
    assert outcome.code == 2
    assert f"--shard {shard}: unknown" in outcome.errors[0]
    assert not Path("out").exists()


def test_one_scale_needs_all_pictures(cam: Command) -> None:
    put("in/a.png", "in/b.png")
    outcome = cam("in", "-o", "out", "--normalize", "batch", "--shard", "1/2")
    assert (outcome.code, Path("out").exists()) == (2, False)
    assert "--normalize batch" in outcome.errors[0]

"""Data sets: parquet files with their pictures, and what their folders say that they are."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

from pyarrow import parquet as pq

from tests import data_sets
from tests.datasets.test_parquet import cells, table
from tests.fuzz.harness import Target, command
from tests.fuzz.mutate import mutate_bytes, mutate_json
from ugatit_cli.datasets import fetch, store
from ugatit_cli.datasets.parquet import write_out
from ugatit_cli.remote.patience import Logged
from ugatit_cli.training.settings import domain_names

FOOTER = 2000  # bytes at the end that say what is where


def rows_scene(_folder: Path) -> list[bytes]:
    """Two columns in two groups of rows, and one beside names of sets."""
    names = {"label": {"_type": "ClassLabel", "names": ["trainA", "trainB"]}}
    files = []
    for columns, features in (
        ({"imageA": cells(*range(40), path="a.png"), "imageB": cells(*range(40, 80))}, None),
        ({"image": cells(*range(40)), "label": [0, 1] * 20}, names),
        ({"image": cells(*range(8)), "label": ["cat", "dog"] * 4}, None),
    ):
        file = io.BytesIO()
        pq.write_table(table(columns, features), file, row_group_size=20)
        files.append(file.getvalue())
    return files


def mutate_rows(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Half of them where everything is described."""
    if random.random() < 0.5:
        return mutate_bytes(random, data, others)
    return data[:-FOOTER] + mutate_bytes(random, data[-FOOTER:], [other[-FOOTER:] for other in others])


def use_rows(folder: Path, content: bytes) -> object:
    """Writes the pictures out."""
    (folder / "train.parquet").write_bytes(content)
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    return write_out({"train": [folder / "train.parquet"]}, folder / "out", Logged())


def facts_scene(folder: Path) -> list[bytes]:
    """A data set in the store."""

    def fill(target: Path) -> store.Facts:
        for name, data in data_sets.pictures({"trainA": 1, "trainB": 1}).items():
            (target / name).parent.mkdir()
            (target / name).write_bytes(data)
        return store.Facts("here", {"x.zip": 64 * "0"}, ["photo", "map"], True, "not stated", ["nothing"])

    path = store.put("maps", fill, Logged()) / store.FILE
    assert path.is_relative_to(folder)
    return [path.read_bytes()]


def use_facts(_folder: Path, content: bytes) -> object:
    """Opens it, lists and shows it."""
    path = store.path_of("maps")
    (path / store.FILE).write_bytes(content)
    command("data", "list")
    command("data", "show", "maps")
    return domain_names(fetch.opened(path).folders)


TARGETS = {
    "parquet": Target(rows_scene, use_rows, mutate_rows),
    "dataset.json": Target(facts_scene, use_facts, mutate_json),
}

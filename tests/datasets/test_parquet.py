"""Pictures in parquet files, written out as they are."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet as pq

from tests.hub_client import Notes
from ugatit_cli.datasets import parquet
from ugatit_cli.datasets.parquet import halves, write_out
from ugatit_cli.errors import ModelError, UsageError

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encoded(number: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(stream, kind)
    return stream.getvalue()


def cells(*numbers: int, path: str | None = None) -> list[dict[str, Any]]:
    return [{"bytes": encoded(number), "path": path} for number in numbers]


def table(columns: Mapping[str, Any], features: Mapping[str, Any] | None = None) -> Any:
    """Lists of dicts become columns of the feature Image, others what they are."""
    arrays = {
        name: pa.array(column, CELL) if isinstance(column, list) and isinstance(column[0], dict) else column
        for name, column in columns.items()
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pa.table(arrays).replace_schema_metadata(metadata)


def save(path: Path, columns: Mapping[str, Any], features: Mapping[str, Any] | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(columns, features), path, **options)
    return path


def written(folder: Path) -> dict[str, dict[str, bytes]]:
    return {
        child.name: {path.name: path.read_bytes() for path in sorted(child.iterdir())}
        for child in sorted(folder.iterdir())
    }


def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_two_columns_become_sets_of_the_original_bytes(tmp_path: Path) -> None:
    train = save(tmp_path / "train.parquet", {"imageA": cells(1, 2), "imageB": cells(3, 4, path="x/four.png")})
    other = save(tmp_path / "test.parquet", {"imageA": cells(5), "imageB": cells(6)})
    found = write_out({"train": [train], "test": [other]}, out(tmp_path), Notes())
    assert found.counts == {"trainA": 2, "trainB": 2, "testA": 1, "testB": 1}
    assert written(tmp_path / "out") == {
        "trainA": {"00001.png": encoded(1), "00002.png": encoded(2)},
        "trainB": {"four.png": encoded(3), "00002-four.png": encoded(4)},
        "testA": {"00001.png": encoded(5)},
        "testB": {"00001.png": encoded(6)},
    }


def test_rows_that_fill_up_the_smaller_domain_are_left_out(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", {"imageA": cells(1, 2, 1, 2), "imageB": cells(1, 2, 3, 4)})
    found = write_out({"train": [path]}, out(tmp_path), Notes())
    assert (found.counts, found.duplicates) == ({"trainA": 2, "trainB": 4}, 2)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_columns_may_be_plain_bytes_and_chosen_in_any_order(tmp_path: Path, kind: Any) -> None:
    pictures = {name: pa.array([encoded(number)], kind) for number, name in enumerate(("x", "y", "z"))}
    path = save(tmp_path / "train.parquet", {**pictures, "text": ["no picture"]})
    with pytest.raises(UsageError) as caught:
        write_out({"train": [path]}, out(tmp_path), Notes())
    assert "x, y, z" in caught.value.message
    assert "--columns" in caught.value.hint
    assert not written(tmp_path / "out")
    write_out({"train": [path]}, tmp_path / "out", Notes(), columns=("z", "x"))
    assert written(tmp_path / "out") == {"trainA": {"00001.png": encoded(2)}, "trainB": {"00001.png": encoded(0)}}


LABELS = {"_type": "ClassLabel", "names": ["testA", "testB", "trainA", "trainB"]}


@pytest.mark.parametrize(
    ("labels", "names", "columns", "expected"),
    [
        ([2, 3, 0, 1], LABELS["names"], None, {"trainA": [1], "trainB": [2], "testA": [3], "testB": [4]}),
        (["train_b", "trainA", "trainA", "testa"], None, None, {"trainA": [2, 3], "trainB": [1], "testA": [4]}),
        (["dog", "cat", "dog", "cat"], None, None, {"trainA": [2, 4], "trainB": [1, 3]}),
        ([1, 0, 1, 0], None, None, {"trainA": [2, 4], "trainB": [1, 3]}),
        ([0, 1, 2, 0], ["cat", "dog", "wild"], ("wild", "cat"), {"trainA": [3], "trainB": [1, 4]}),
    ],
)
def test_a_label_may_say_the_domain(
    tmp_path: Path, labels: list[Any], names: Any, columns: Any, expected: dict[str, list[int]]
) -> None:
    features = {"label": {"_type": "ClassLabel", "names": names}} if names else None
    path = save(tmp_path / "train.parquet", {"image": cells(1, 2, 3, 4), "label": labels}, features)
    found = write_out({"train": [path]}, out(tmp_path), Notes(), columns=columns)
    held = {name: list(files.values()) for name, files in written(tmp_path / "out").items()}
    assert held == {name: [encoded(number) for number in numbers] for name, numbers in expected.items()}
    assert found.domains == columns or (found.domains == ("cat", "dog")) == ("cat" in labels)
    assert found.others == 4 - sum(map(len, expected.values()))


@pytest.mark.parametrize(
    ("columns", "chosen", "said"),
    [
        ({"image": cells(1, 2, 3), "label": ["cat", "dog", "wild"]}, None, "cat, dog, wild"),
        ({"image": cells(1), "label": ["cat"]}, ("cat", "dog"), "cat"),
        ({"image": cells(1)}, None, "image"),
        ({"imageA": cells(1), "imageB": cells(2)}, ("imageA", "imageC"), "imageA, imageB"),
        ({"imageA": cells(1), "imageB": cells(2)}, ("imageA", "imageA"), "imageA, imageB"),
        ({"text": ["x"]}, None, "none"),
    ],
)
def test_columns_that_are_not_clear_are_listed(
    tmp_path: Path, columns: Mapping[str, Any], chosen: Any, said: str
) -> None:
    path = save(tmp_path / "train.parquet", columns)
    with pytest.raises(UsageError) as caught:
        write_out({"train": [path]}, out(tmp_path), Notes(), columns=chosen)
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_rows_without_a_picture_are_named_and_counted(tmp_path: Path) -> None:
    bad = [
        None,
        {"bytes": None, "path": "gone.png"},
        {"bytes": b"", "path": None},
        {"bytes": b"<html>", "path": None},
    ]
    path = save(
        tmp_path / "train.parquet", {"imageA": pa.array(bad + cells(1) + bad * 3, CELL), "imageB": cells(*range(17))}
    )
    notes = Notes()
    found = write_out({"train": [path]}, out(tmp_path), notes)
    assert found.counts == {"trainA": 1, "trainB": 17}
    assert found.broken == 16
    for row, note in zip((1, 2, 3, 4, 6), notes.notes, strict=False):
        assert f"train.parquet: row {row}: imageA" in note
    assert "16" in notes.notes[-1]
    assert len(notes.notes) == parquet.NAMED + 1


@pytest.mark.parametrize(
    "data",
    [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"\x89PNG\r\n\x1a\n", None],
    ids=["0", "1", "2", "3", "cut"],
)
def test_a_damaged_file_is_one_error(tmp_path: Path, data: bytes | None) -> None:
    path = save(tmp_path / "train.parquet", {"imageA": cells(1), "imageB": cells(2)})
    path.write_bytes(path.read_bytes()[:-20] if data is None else data)
    with pytest.raises(ModelError, match=re.escape(str(path))) as caught:
        write_out({"train": [path]}, out(tmp_path), Notes())
    assert "\n" not in caught.value.message


def test_files_of_one_data_set_have_the_same_columns(tmp_path: Path) -> None:
    one = save(tmp_path / "1.parquet", {"imageA": cells(1), "imageB": cells(2)})
    two = save(tmp_path / "2.parquet", {"imageA": cells(1), "image": cells(2)})
    with pytest.raises(ModelError, match=r"2\.parquet.*imageB"):
        write_out({"train": [one, two]}, out(tmp_path), Notes())


@settings(max_examples=60)
@given(
    st.text(max_size=40)
    | st.sampled_from(["../../x.png", "/etc/passwd", "C:\\x.jpg", "..", ".hidden.png", "a\0b", "x" * 300])
)
def test_names_stay_in_their_folder_and_fit_the_bytes(said: str) -> None:
    name = parquet._name(said, 7, (".png", ".apng"))
    assert Path(name).name == name
    assert name[0] != "."
    assert len(name.encode()) <= 255
    assert name.lower().endswith((".png", ".apng"))
    assert name.isprintable() or not said.isprintable()


@pytest.mark.parametrize(
    ("kind", "said", "name"),
    [
        ("JPEG", "a/b.png", "b.jpg"), ("JPEG", "b.JPEG", "b.JPEG"), ("PNG", "1.2", "1.2.png"),
        ("WEBP", "", "00007.webp"),
        ("GIF", "..\\c.gif", "c.gif"), ("BMP", "x", "x.bmp"), ("TIFF", "x.tiff", "x.tiff"), ("PPM", "x.bmp", "x.ppm"),
        ("AVIF", "x", "x.avif"), ("JPEG2000", "x", "x.jp2"),
    ],
)  # fmt: skip
def test_suffixes_fit_the_bytes(kind: str, said: str, name: str) -> None:
    suffixes, reason = parquet._suffixes(parquet._Row("", "", said, encoded(1, kind)))
    assert not reason
    assert parquet._name(said, 7, suffixes) == name


def test_memory_is_that_of_a_few_pictures(tmp_path: Path) -> None:
    noise = [bytes([number]) * 200_000 for number in range(100)]
    column = [{"bytes": encoded(1) + data, "path": None} for data in noise]
    path = save(
        tmp_path / "train.parquet", {"imageA": column, "imageB": column},
        row_group_size=10, compression="none", use_dictionary=False,
    )  # fmt: skip
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        found = write_out({"train": [path]}, out(tmp_path), Notes())
    finally:
        pa.set_memory_pool(before)
    assert found.counts == {"trainA": 100, "trainB": 100}
    assert 0 < pool.max_memory() < path.stat().st_size / 4


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        ("data/train-0-of-1.parquet data/test-0.parquet", "data/train-0-of-1.parquet", "data/test-0.parquet"),
        ("x/train/0.parquet x/validation/0.parquet", "x/train/0.parquet", "x/validation/0.parquet"),
        ("test/train.parquet Test.parquet val.parquet", "test/train.parquet", "Test.parquet"),
        ("latest.parquet b.parquet", "b.parquet latest.parquet", None),
    ],
)
def test_names_say_what_is_to_test_with(names: str, train: str, test: str | None) -> None:
    assert halves(names.split()) == {"train": train.split()} | ({"test": test.split()} if test else {})


def test_without_pyarrow_the_install_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModelError, match="pyarrow") as caught:
        write_out({"train": [tmp_path / "x.parquet"]}, tmp_path, Notes())
    assert "pip install" in caught.value.hint

"""The reader of TensorFlow's checkpoint format: every bundle comes back, every defect is one error."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tensor_bundle_writer import Array, message, number, table, write_bundle
from ugatit_cli.errors import ModelError
from ugatit_cli.weights.tensorflow import TensorBundle, Variable

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.from_regex(
    r"generator_[AB]/(conv|res)_[0-9]{1,3}/(kernel|bias)", fullmatch=True
)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    shape = draw(st.lists(st.integers(1, 4), max_size=4))
    dtype = draw(st.sampled_from(["float32", "float64", "float16"]))
    return np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape).astype(dtype)


@settings(max_examples=60)
@given(
    tensors=st.dictionaries(names, arrays(), max_size=30),
    block_size=st.sampled_from([1, 64, 400, 4096]),
    restart_interval=st.integers(1, 20),
    shards=st.integers(1, 3),
)
def test_round_trip(tensors: dict[str, Array], block_size: int, restart_interval: int, shards: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "UGATIT.model-1"
        write_bundle(prefix, tensors, block_size=block_size, restart_interval=restart_interval, shards=shards)
        bundle = TensorBundle(prefix)
        assert set(bundle.variables) == set(tensors)
        for name, array in tensors.items():
            assert name in bundle
            assert bundle.shape(name) == array.shape
            result = bundle.tensor(name)
            assert result.dtype == array.dtype
            np.testing.assert_array_equal(result, array)
        del bundle


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A healthy bundle of three tensors, the last at the end of the data file."""
    prefix = tmp_path / "model-7"
    tensors = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b/int": np.arange(3), "z": np.ones(5, "f4")}
    write_bundle(prefix, tensors)
    return prefix


def index_of(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def data_of(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".data-00000-of-00001")


def test_names_that_are_not_there(prefix: Path) -> None:
    bundle = TensorBundle(prefix)
    assert "c" not in bundle
    for read in (bundle.shape, bundle.tensor):
        with pytest.raises(KeyError, match="c"):
            read("c")


def test_tensors_are_mapped_and_read_only(prefix: Path) -> None:
    tensor = TensorBundle(prefix).tensor("a")
    assert isinstance(tensor, np.memmap)
    assert not tensor.flags.writeable


def test_index_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.index: can't be read: No such file"):
        TensorBundle(tmp_path / "model")


def test_data_missing(prefix: Path) -> None:
    data_of(prefix).unlink()
    with pytest.raises(ModelError, match=re.escape(f"{data_of(prefix)}: missing; model-7.index refers to it")):
        TensorBundle(prefix).tensor("a")


def test_data_truncated(prefix: Path) -> None:
    data_of(prefix).write_bytes(data_of(prefix).read_bytes()[:-1])
    bundle = TensorBundle(prefix)
    np.testing.assert_array_equal(bundle.tensor("a"), np.arange(6).reshape(2, 3))
    with pytest.raises(ModelError, match=re.escape(f"{data_of(prefix)}: truncated: z")):
        bundle.tensor("z")


def test_not_a_float(prefix: Path) -> None:
    with pytest.raises(ModelError, match=r"model-7\.index: b/int is not a float tensor \(type 9\)"):
        TensorBundle(prefix).tensor("b/int")


def test_compressed(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m", {"a": np.ones(3, "f4")}, compression=1)
    with pytest.raises(ModelError, match=r"m\.index: .*compressed"):
        TensorBundle(tmp_path / "m")


@pytest.mark.parametrize("size", [0, 1, 47, 48, 100, -1, -48])
def test_index_truncated(prefix: Path, size: int) -> None:
    index_of(prefix).write_bytes(index_of(prefix).read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model-7\.index: not a TensorFlow checkpoint index, or damaged"):
        TensorBundle(prefix)


def test_no_header(tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(table([(b"a", number(1, 1))], 4096, 16, 0))
    with pytest.raises(ModelError, match=r"m\.index: not a TensorFlow checkpoint index"):
        TensorBundle(tmp_path / "m")


@pytest.mark.parametrize("sizes", [(7,), (2, 2), (2**63,), (2**64 - 1, 3), (2**32, 2**32), (0,)], ids=str)
def test_size_and_shape_do_not_agree(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    shape = b"".join(message(2, number(1, size)) for size in sizes)
    entry = number(1, 1) + message(2, shape) + number(5, 24)
    (tmp_path / "m.index").write_bytes(table([(b"", number(1, 1)), (b"a", entry)], 4096, 16, 0))
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(24))
    bundle = TensorBundle(tmp_path / "m")
    assert bundle.variables["a"] == Variable(1, sizes, 0, 0, 24)
    with pytest.raises(ModelError, match=r"m\.index: a: empty, or size and shape don't agree"):
        bundle.tensor("a")


@settings(max_examples=150)
@given(garbage=st.binary(max_size=200))
def test_garbage(garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "m"
        footer = bytes(40) + bytes.fromhex("57fb808b247547db")
        for content in (garbage, garbage + footer, bytes(20) + garbage[:40].ljust(40, b"\0") + footer[40:]):
            index_of(prefix).write_bytes(content)
            with pytest.raises(ModelError, match=r"m\.index: "):
                TensorBundle(prefix)


@settings(max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_an_error_or_a_bundle(changes: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "m"
        write_bundle(prefix, {"a/kernel": np.ones((2, 3), "f4"), "a/bias": np.ones(3, "f4"), "b": np.ones(2)})
        content = bytearray(index_of(prefix).read_bytes())
        for position, value in changes:
            content[position % len(content)] = value
        index_of(prefix).write_bytes(content)
        with contextlib.suppress(ModelError):
            bundle = TensorBundle(prefix)
            for name in bundle.variables:
                np.array(bundle.tensor(name))

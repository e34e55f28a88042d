"""Files that are no checkpoints, are damaged, or are made to do harm: one message each, little memory, no code."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import multiprocessing
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests import tiny
from tests.conftest import GOLDEN
from tests.programs import starting
from tests.tensor_bundle_writer import MAGIC, message, number, table, write_bundle
from tests.tensor_bundle_writer import varint as coded
from ugatit_cli.errors import ModelError
from ugatit_cli.weights.crc32c import DEGREE, crc32c
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.official import convert
from ugatit_cli.weights.pickles import Dict
from ugatit_cli.weights.tensorflow import TensorBundle

MEMORY = 2 << 30


def measure(paths: list[Path], answers: Connection, said: Path) -> None:
    """Converts them in a process of its own, and tells the peak of its memory after each."""
    import resource

    os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
    for path in paths:
        try:
            convert([path], path.with_name("out"))
        except ModelError as error:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            answers.send((path, peak, error.exit_code, error.message))


class Evil:
    """Unpickled naively, writes a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def archive(path: Path, program: bytes, **entries: bytes) -> None:
    """A file as PyTorch writes it, with another pickle in it."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {"data.pkl": program, "version": b"3\n", "byteorder": b"little", **entries}.items():
            file.writestr(f"x/{name}", data)


def deflated(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("x/data.pkl", "w") as entry:
            entry.write(b"\x80\x02")
            for _ in range(600):
                entry.write(b"N0" * (1 << 20))
            entry.write(b"}.")
        file.writestr("x/version", "3\n")


def deflated_tensors(path: Path) -> None:
    torch.save(tiny.official(), path)
    with zipfile.ZipFile(path) as original:
        entries = {name: original.read(name) for name in original.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)


def tuples(start: bytes, end: bytes) -> bytes:
    """A tuple of twice a tuple of twice a tuple ..., whose hash takes for ever."""
    return b"\x80\x02" + start + b"K\x01" + b"".join(b"q\x00h\x00\x86" for _ in range(60)) + end + b"."


def stride_0(path: Path) -> None:
    checkpoint = tiny.official()
    for state in checkpoint.values():
        state.update({name: torch.zeros(1).expand(one.shape) for name, one in state.items()})
    torch.save(checkpoint, path)


def huge_shape(path: Path) -> None:
    checkpoint = tiny.official(discriminators=False)
    for state in checkpoint.values():
        state["FC.0.weight"] = torch.zeros(1).expand(1 << 20, 1 << 20)
    torch.save(checkpoint, path)


def shared(path: Path) -> None:
    """One kernel in place of all that have its shape, in many blocks: sixty times the file."""
    state: dict[str, torch.Tensor] = dict(tiny.official()["genA2B"])
    kernel = torch.zeros(64, 64, 3, 3)
    for i in range(64):
        state[f"DownBlock.{12 + i}.conv_block.1.weight"] = kernel
        state[f"DownBlock.{12 + i}.conv_block.5.weight"] = kernel
        for j in (1, 2):
            state[f"UpBlock1_{i + 1}.conv{j}.weight"] = kernel
            state[f"UpBlock1_{i + 1}.norm{j}.rho"] = torch.zeros(1, 64, 1, 1)
    torch.save(state, path)


def endless(path: Path) -> None:
    """Dicts that hold each other."""
    inner: dict[str, Any] = {}
    inner["a"] = inner["b"] = inner
    path.write_bytes(pickle.dumps({"genA2B": inner, "model": {"model": inner}}, 4))


def one_array_often(path: Path) -> None:
    array = np.zeros(1 << 20, "f4")
    path.write_bytes(pickle.dumps({"genA2B": {f"DownBlock.{i}.weight": array for i in range(4000)}}, 4))


def lying_array(path: Path) -> None:
    data = pickle.dumps({"genA2B": {"DownBlock.1.weight": np.zeros((3, 5), "f4")}}, 2)
    path.write_bytes(data.replace(b"K\x03K\x05\x86", b"K\x7fK\x05\x86"))


def growing_names(path: Path) -> None:
    """An index of TensorFlow's in which each name is a letter longer than the one before."""
    block = b"".join(coded(i) + coded(1) + coded(0) + b"a" for i in range(60_000))
    block += (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    inner = coded(0) + coded(len(block))
    index = (
        coded(0) + coded(1) + coded(len(inner)) + b"z" + inner + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    )
    footer = coded(0) + coded(0) + coded(len(block) + 5) + coded(len(index))
    whole = block + bytes(5) + index + bytes(5) + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    path.with_name(f"{path.name}.index").write_bytes(whole)
    path.with_name(f"{path.name}.data-00000-of-00001").write_bytes(bytes(16))


def one_place(path: Path) -> None:
    """Variables that are all in the same place of a data file."""
    shape = message(2, message(2, number(1, 1000)))
    entry = number(1, 1) + shape + number(5, 4000)
    entries = [(b"", number(1, 1)), *((f"a{i:04}".encode(), entry) for i in range(5000))]
    path.with_name(f"{path.name}.index").write_bytes(table(entries))
    path.with_name(f"{path.name}.data-00000-of-00001").write_bytes(bytes(4000))


def sparse(path: Path, head: bytes, size: int, end: bytes) -> None:
    """A file with `size` zeros in it, which take no space."""
    with path.open("wb") as file:
        file.write(head)
        file.seek(len(head) + size)
        file.write(end)


def sparse_array(path: Path) -> None:
    array, size = np.zeros(1 << 13, "f4"), 6 << 30
    data = pickle.dumps({"conv.weight": array}, 4)
    start = data.index(array.tobytes())
    head = (
        data[:start]
        .replace(b"M\x00 ", b"\x8a\x08" + struct.pack("<q", size // 4))
        .replace(b"B" + struct.pack("<I", array.nbytes), b"\x8e" + struct.pack("<Q", size))
    )
    # Frames would be too short now.
    head = b"\x80\x04" + head[head.index(b"}", 11) :]
    sparse(path, head, size, data[start + array.nbytes :])


def sparse_old(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"conv.weight": torch.zeros(7)}, buffer, _use_new_zipfile_serialization=False)
    data, count = buffer.getvalue(), 3 << 28
    whole = data.replace(b"K\x07", b"J" + struct.pack("<i", count))
    sparse(path, whole[: -4 * 7 - 8] + struct.pack("<q", count), 4 * count - 1, b"\0")


def long_entry(path: Path) -> None:
    path.with_name(f"{path.name}.index").write_bytes(table([(b"", number(1, 1)), (b"a", bytes(40 << 20))]))
    path.with_name(f"{path.name}.data-00000-of-00001").write_bytes(bytes(16))


def other_sizes(path: Path) -> None:
    """A checkpoint of TensorFlow's in which one kernel is far too large."""
    source = next((GOLDEN / "tf").glob("UGATIT_light*/*.index")).with_suffix("")
    bundle = TensorBundle(source)
    tensors = {name: np.array(bundle.tensor(name)) for name in bundle.variables if "Adam" not in name}
    tensors["generator_B/resblock_0/res1/conv_0/conv2d/kernel"] = np.zeros(1 << 20, "f4")
    write_bundle(path, tensors)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a pickle that inflates": deflated,
    "tensors that inflate": deflated_tensors,
    "a key without end": lambda path: archive(path, tuples(b"}", b"K\x01s")),
    "a set without end": lambda path: archive(path, tuples(b"cbuiltins\nset\n(", b"l\x85R")),
    "a key without end, plain": lambda path: path.write_bytes(tuples(b"}", b"K\x01s")),
    "a pickle of a million lists": lambda path: archive(path, b"\x80\x02" + b"]" * 2_000_000 + b"."),
    "nested lists": lambda path: archive(path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "a name that leads out": lambda path: archive(path, b"\x80\x02}.", **{"../../../escaped": b"x"}),
    "tensors larger than what is stored": stride_0,
    "a tensor of terabytes": huge_shape,
    "one tensor, often": shared,
    "dicts that hold each other": endless,
    "one array, often": one_array_often,
    "an array larger than its bytes": lying_array,
    "a line without end": lambda path: sparse(path, b"\x80\x02}c", (200 << 20) - 1, b"\0"),
    "a place far away": lambda path: path.write_bytes(b"\x80\x02}r\xff\xff\xff\x0f."),
    "a number of many digits": lambda path: archive(
        path, b"\x80\x02}\x8b\x60\xea\0\0" + b"\x7f" * 60_000 + b"K\x01s."
    ),
    "an array of gigabytes": sparse_array,
    "an old file of gigabytes": sparse_old,
    "an entry of megabytes": long_entry,
    "variables of another size": other_sizes,
    "names that grow": growing_names,
    "variables in one place": one_place,
}


def test_what_is_made_to_do_harm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each is refused in one line; all in one process, whose memory so far is looked at after each."""
    paths = {how: tmp_path_factory.mktemp("hostile") / "x.pt" for how in HOSTILE}
    for how, make in HOSTILE.items():
        make(paths[how])
    ours, its = multiprocessing.Pipe()
    said = tmp_path_factory.mktemp("said") / "stderr"
    process = starting().Process(target=measure, args=(list(paths.values()), its, said))
    process.start()
    its.close()
    found: dict[Path, tuple[int, int, str]] = {}
    with contextlib.suppress(EOFError):
        while True:
            path, *answer = ours.recv()
            found[path] = (answer[0], answer[1], answer[2])
    process.join()
    assert (process.exitcode, said.read_text()) == (0, "")
    assert found.keys() == set(paths.values())
    for how, path in paths.items():
        peak, code, text = found[path]
        assert (code, text.count("\n")) == (3, 0), how
        assert str(path) in text, how
        assert peak < MEMORY, how
        assert not path.with_name("out").exists(), how


@pytest.mark.parametrize("how", ["zip", "old", "pickle", "paddle"])
def test_code_is_not_run_and_named(tmp_path: Path, how: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "x.pdparams"
    content = {"genA2B": {"DownBlock.1.weight": Evil(victim)}}
    if how in ("zip", "old"):
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    else:
        path.write_bytes(pickle.dumps(content, 2 if how == "paddle" else 5))
    with pytest.raises(ModelError, match=r"x\.pdparams: .*asks for") as caught:
        convert([path], tmp_path / "out")
    assert "never runs code" in caught.value.hint
    assert not victim.exists()


def in_tar(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("x.pt")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def in_zip(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("UGATIT/x.pt", data)
    return file.getvalue()


def in_program(data: bytes) -> bytes:
    """An archive of TorchScript's, which has code in it."""
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/code/__torch__.py", "class Net: pass\n")
    return file.getvalue()


def arrays(save: Callable[..., object]) -> bytes:
    file = io.BytesIO()
    save(file, np.zeros(300))
    return file.getvalue()


def entries_without_end(data: bytes) -> bytes:
    """With the size of its list changed where zip files of PyTorch say it."""
    at = data.rfind(b"PK\x06\x06") + 40
    return data[:at] + b"\xf0\xff\xff\x0f\0\0\0\0" + data[at + 8 :]


OTHERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda _: b"", "empty"),
    "a text": (lambda _: b"not a checkpoint\n" * 100, "not a checkpoint"),
    "zeros": (lambda data: bytes(len(data)), "not a checkpoint"),
    "a web page": (lambda _: b"\n<!DOCTYPE html><title>Quota exceeded</title>", "web page"),
    "a Git LFS pointer": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 7\n",
        "Git LFS",
    ),
    "a picture": (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100), "picture"),
    "arrays of NumPy": (lambda _: arrays(np.save), "NumPy"),
    "an archive of NumPy's": (lambda _: arrays(np.savez), "NumPy"),
    "HDF5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "ONNX": (lambda _: b"\x08\x07\x12\x07pytorch" + bytes(100), "ONNX"),
    "a program": (in_program, "TorchScript"),
    "gzip": (gzip.compress, "archive"),
    "tar": (in_tar, "archive"),
    "zip": (in_zip, "archive"),
    "a list of entries without end": (entries_without_end, "damaged"),
    "of several disks": (
        lambda data: data[:-22] + struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 2) + data[-22:],
        "damaged",
    ),
    "a half": (lambda data: data[: len(data) // 2], "truncated"),
}


@pytest.mark.parametrize("how", OTHERS)
def test_other_kinds_of_files(tmp_path: Path, how: str) -> None:
    path = tiny.save_official(tmp_path / "x.pt")
    made, named = OTHERS[how]
    path.write_bytes(made(path.read_bytes()))
    with pytest.raises(ModelError, match=rf"{path}: .*{named}") as caught:
        convert([path], tmp_path / "out")
    assert "PyTorch" not in caught.value.message  # nor what it would have said


def test_a_file_of_the_first_versions_of_pytorch(tmp_path: Path) -> None:
    data = in_tar(b"x").replace(b"x.pt", b"sys_info\0"[:4], 1)
    (tmp_path / "x.pth").write_bytes(b"sys_info" + data[8:])
    with pytest.raises(ModelError, match="first versions of PyTorch"):
        convert([tmp_path / "x.pth"], tmp_path / "out")


def test_pickles_change_nothing_here(tmp_path: Path) -> None:
    """`BUILD` would set attributes of what stands for functions and classes."""
    for module, name in (("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("numpy", "dtype")):
        program = f"\x80\x02}}X\1\0\0\0ac{module}\n{name}\nN}}X\5\0\0\0itemsK\1s\x86bs.".encode("latin1")
        archive(tmp_path / "x.pt", program)
        with pytest.raises(ModelError):
            convert([tmp_path / "x.pt"], tmp_path / "out")
        assert not isinstance(getattr(Dict, "items", None), int)
    convert([tiny.save_official(tmp_path / "y.pt")], tmp_path / "out")


def test_a_pointer_in_place_of_a_models_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 7\n")
    with pytest.raises(ModelError, match="Git LFS pointer") as caught:
        open_model(model)
    assert "git lfs pull" in caught.value.hint


def test_damage_inside_a_file_of_pytorch(tmp_path: Path) -> None:
    path = tiny.save_official(tmp_path / "x.pt")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as opened:
        largest = max(opened.infolist(), key=lambda entry: entry.file_size)
    middle = largest.header_offset + 200 + largest.file_size // 2
    data[middle : middle + 4] = bytes(255 - value for value in data[middle : middle + 4])
    path.write_bytes(data)
    with pytest.raises(ModelError, match=f"{path}: damaged"):
        convert([path], tmp_path / "out")


def test_files_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = tiny.save_official(tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    convert([path], tmp_path / "out")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_paddle_and_safetensors(tmp_path: Path, share: float) -> None:
    state = {name: one.clone() for name, one in tiny.official()["genA2B"].items()}
    arrays = {name: one.numpy() for name, one in state.items()}
    save_file(state, tmp_path / "x.safetensors")
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(arrays, 4))
    for name in ("x.safetensors", "x.pdparams"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(ModelError, match=f"{path}: "):
            convert([path], tmp_path / "out")


def test_weights_that_are_no_floats(tmp_path: Path) -> None:
    state = tiny.official()["genA2B"]
    state["FC.0.weight"] = state["FC.0.weight"].to(torch.int32)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"x\.pt: .*int32"):
        convert([tmp_path / "x.pt"], tmp_path / "out")


# TensorFlow's checksums


def flipped(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def test_damage_inside_a_checkpoint_of_tensorflow(tmp_path: Path, golden: Path) -> None:
    """Recorded by TensorFlow itself."""
    source = next((golden / "tf").glob("UGATIT_light*"))
    folder = tmp_path / source.name
    folder.mkdir()
    data: Path | None = None
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
        data = folder / path.name if ".data-" in path.name else data
    assert data is not None
    convert([folder], tmp_path / "out")
    whole = data.read_bytes()
    for position in range(100, len(whole), len(whole) // 5):
        data.write_bytes(whole)
        flipped(data, position)
        try:
            convert([folder], tmp_path / "out", overwrite=True)
        except ModelError as error:
            assert "damaged: generator_" in error.message  # noqa: PT017  # parts that aren't used may be anything
            break
    else:
        pytest.fail("no damage was noticed")
    data.write_bytes(whole)
    flipped(data.with_suffix(".index"), 300)
    with pytest.raises(ModelError, match="damaged"):
        convert([folder], tmp_path / "out", overwrite=True)


def test_every_flipped_byte_of_a_bundle_is_noticed(tmp_path: Path) -> None:
    from ugatit_cli.weights.tensorflow import TensorBundle

    write_bundle(tmp_path / "m", {"a": np.arange(6, dtype="f4").reshape(2, 3), "b/c": np.ones(5, "f4")})
    wanted = {name: TensorBundle(tmp_path / "m").tensor(name).tolist() for name in ("a", "b/c")}
    for name in ("m.index", "m.data-00000-of-00001"):
        path = tmp_path / name
        whole = path.read_bytes()
        for position in range(len(whole)):
            flipped(path, position)
            try:
                bundle = TensorBundle(tmp_path / "m")
                found = {name: bundle.tensor(name).tolist() for name in bundle.variables}
            except ModelError:
                found = wanted
            # The last bytes but the magic number are padding.
            assert found == wanted, position
            path.write_bytes(whole)


def test_crc32c() -> None:
    """Against the checksum a byte at a time; what RFC 3720 lists is in the next test."""
    remainders = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        remainders.append(value)
    for length in (*range(20), *range(DEGREE - 3, DEGREE + 4), 8 * DEGREE + 1, 2**20, 2**20 + 13):
        data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8)
        register = 0xFFFFFFFF
        for value in data.tolist():
            register = register >> 8 ^ remainders[(register ^ value) & 255]
        assert crc32c(data) == register ^ 0xFFFFFFFF, length


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_that_are_known(data: bytes, checksum: int) -> None:
    assert crc32c(np.frombuffer(data, np.uint8)) == checksum


def test_json_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"format": 1, "model": {}}))
    with pytest.raises(ModelError, match="not a checkpoint") as caught:
        convert([tmp_path / "config.json"], tmp_path / "out")
    assert "CartoonGAN" in caught.value.hint

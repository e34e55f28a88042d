"""Model folders: what is written can be read, what is damaged is named, and nothing is ever half written."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import shlex
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.fetched import contents
from tests.helpers import bytes_images, picture
from tests.kills import without_exchange
from tests.reference import randomize
from ugatit_cli.config import DIRECTIONS, DOMAINS, PRECISIONS, SCALES, ModelConfig, Precision
from ugatit_cli.device import DTYPES
from ugatit_cli.errors import ModelError, OutputError, StorageError
from ugatit_cli.fields import fields_of
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.weights import folder as folder_module
from ugatit_cli.weights.folder import (
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    FORMAT,
    GENERATORS_FILE,
    check_file,
    critic_shapes,
    open_model,
    open_tensors,
    save_model,
    stored,
    translator_shapes,
    write_tensors,
)
from ugatit_cli.weights.hashes import SUMS_FILE

CONFIG = ModelConfig(
    domain_a="çat", domain_b="dog", image_size=32, channels=4, blocks=1, discriminator_channels=2, global_layers=4
)
gpu_only = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

Tensors = dict[str, Tensor]


def generators(config: ModelConfig = CONFIG) -> Tensors:
    networks = {direction: randomize(Generator(config), seed) for seed, direction in enumerate(DIRECTIONS)}
    return {f"{direction}.{name}": t for direction, net in networks.items() for name, t in net.state_dict().items()}


def discriminators(config: ModelConfig = CONFIG) -> Tensors:
    networks = {f"{domain}.{scale}": Discriminator(config, scale) for domain in DOMAINS for scale in config.scales}
    return {f"{prefix}.{name}": t for prefix, net in networks.items() for name, t in net.state_dict().items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A healthy model folder with discriminators."""
    folder = tmp_path / "model folder"
    save_model(folder, CONFIG, generators(), discriminators())
    return folder


@pytest.mark.parametrize("storage", PRECISIONS)
def test_round_trip(tmp_path: Path, storage: Precision) -> None:
    theirs, others = generators(), discriminators()
    folder, dtype = tmp_path / "new" / "deep" / "model", DTYPES[storage]
    provenance = {"imported_from": "x.pt", "list": [1, {"ü": None}]}
    save_model(folder, CONFIG, theirs, others, storage=storage, provenance=provenance)
    opened = open_model(folder)
    assert (opened.path, opened.config, opened.provenance) == (folder, CONFIG, provenance)
    text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
    assert json.loads(text) == {"format": 1, "model": CONFIG.to_dict(), "provenance": provenance}
    assert "çat" in text
    networks: dict[str, nn.Module] = {f"{direction}.": opened.generator(direction) for direction in DIRECTIONS}
    networks |= {f"{domain}.{scale}.": opened.discriminator(domain, scale) for domain in DOMAINS for scale in SCALES}
    for prefix, network in networks.items():
        assert not network.training
        for name, tensor in network.state_dict().items():
            original = (theirs | others)[prefix + name]
            expected = original.to(dtype).float() if original.ndim > 1 else original
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, expected), name
    for name, tensor in load_file(folder / GENERATORS_FILE).items():
        assert tensor.dtype == (dtype if tensor.ndim > 1 else torch.float32), name


def test_a_model_with_local_discriminators_only(tmp_path: Path, model: Path) -> None:
    config, folder = dataclasses.replace(CONFIG, discriminators="local"), tmp_path / "local"
    save_model(folder, config, generators(), discriminators(config))
    opened = open_model(folder)
    assert opened.config == config
    assert {name.split(".")[1] for name in load_file(folder / DISCRIMINATORS_FILE)} == {"local"}
    assert opened.discriminator("b", "local").state_dict()
    with pytest.raises(ModelError, match=f"{folder}: .*global"):
        opened.discriminator("b", "global")
    (folder / DISCRIMINATORS_FILE).unlink()
    with pytest.raises(ModelError, match=f"{folder}: "):
        open_model(folder).discriminator("b", "local")
    shutil.copyfile(model / DISCRIMINATORS_FILE, folder / DISCRIMINATORS_FILE)
    with pytest.raises(ModelError, match=DISCRIMINATORS_FILE):
        open_model(folder)
    with pytest.raises(ModelError, match=DISCRIMINATORS_FILE):
        save_model(tmp_path / "both", CONFIG, generators(), discriminators(config))


Damage = Callable[[Path], object]


def edit_config(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        document = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        change(document)
        (folder / CONFIG_FILE).write_text(json.dumps(document), encoding="utf-8")
        (folder / SUMS_FILE).unlink()

    return damage


def edit_tensors(file: str, change: Callable[[Tensors], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file)
        (folder / SUMS_FILE).unlink()

    return damage


def replace(file: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def make_folder(file: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).mkdir()

    return damage


C, G, D = CONFIG_FILE, GENERATORS_FILE, DISCRIMINATORS_FILE
# What is done, to which file, and what the error names beside it.
DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "config missing": (lambda folder: (folder / C).unlink(), C, ""),
    "config not JSON": (replace(C, lambda _: b"channels = 4"), C, ""),
    "config too nested": (replace(C, lambda _: b"[" * 100_000), C, ""),
    "config of another program": (replace(C, lambda _: b'{"model_type": "bert"}'), C, ""),
    "config a folder": (make_folder(C), C, ""),
    "format newer": (edit_config(lambda c: c.update(format=FORMAT + 1)), C, f"format {FORMAT + 1}"),
    "model missing": (edit_config(lambda c: c.pop("model")), C, ""),
    "setting unknown": (edit_config(lambda c: c["model"].update(colour=1)), C, "colour"),
    "channels large": (edit_config(lambda c: c["model"].update(channels=1024)), G, "shape"),
    "weights missing": (lambda folder: (folder / G).unlink(), G, ""),
    "weights a folder": (make_folder(G), G, ""),
    "weights cut in the data": (replace(G, lambda data: data[:-1]), G, ""),
    "weights a pointer": (replace(G, lambda _: b"version https://git-lfs"), G, ""),
    "tensor missing": (edit_tensors(G, lambda t: t.pop("b2a.to_rgb.weight")), G, "b2a.to_rgb.weight"),
    "tensor unknown": (edit_tensors(G, lambda t: t.update(x=torch.ones(1))), G, "(x)"),
    "shape wrong": (edit_tensors(G, lambda t: t.update({"a2b.cam.bias": torch.ones(7)})), G, "a2b.cam.bias"),
    "dtype wrong": (
        edit_tensors(G, lambda t: t.update({"a2b.cam.bias": torch.ones(16, dtype=torch.float64)})),
        G,
        "a2b.cam.bias",
    ),
    "judge tensor missing": (
        edit_tensors(D, lambda t: t.pop("a.local.head.norm.u")),
        D,
        "a.local.head.norm.u",
    ),
    "judges are generators": (lambda f: shutil.copy(f / G, f / D), D, ""),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_error_that_names_the_file(model: Path, name: str) -> None:
    damage, file, named = DAMAGES[name]
    damage(model)
    with pytest.raises(ModelError) as caught:
        open_model(model)
    assert caught.value.message.startswith(f"{model / file}: ")
    assert named in caught.value.message
    assert "\n" not in caught.value.message


def test_sizes_are_checked_without_memory() -> None:
    fields = fields_of(ModelConfig).items()
    largest: dict[str, Any] = {name: field.range.high for name, field in fields if field.range}
    huge = ModelConfig(variant="full", **largest)
    # 16 exabytes in float32 if any of it were allocated.
    assert translator_shapes(huge)["a2b.style.hidden1.weight"] == (4096, 4096 * 1024 * 1024)
    assert critic_shapes(huge)["b.global.layers.8.weight"] == (1024 * 2**8, 1024 * 2**7, 4, 4)


def test_a_safetensors_file_with_its_config_beside_it(model: Path) -> None:
    renamed = (model / GENERATORS_FILE).rename(model / "step 100.safetensors")
    opened = open_model(renamed)
    assert opened.weights == renamed
    assert opened.config == CONFIG
    assert opened.discriminators == model / DISCRIMINATORS_FILE
    opened.generator("a2b")
    with pytest.raises(ModelError, match=r"discriminators\.safetensors: doesn't fit its config"):
        open_model(model / DISCRIMINATORS_FILE)


@pytest.mark.parametrize("name", ["x_params_latest.pt", "the latest.pt", "X.PTH", "UGATIT.model-1.index", "x.ckpt"])
def test_official_checkpoints_are_to_be_converted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match="not a model folder") as caught:
        open_model(tmp_path / name)
    assert f"ugatit convert {shlex.quote(str(tmp_path / name))} " in caught.value.hint


def test_what_is_no_model_at_all_is_said_by_its_name(tmp_path: Path) -> None:
    picture(8, 8).save(tmp_path / "icon.png")
    with pytest.raises(ModelError, match=r"icon\.png: a picture"):
        open_model(tmp_path / "icon.png")


# Writing


def test_overwrite_replaces_all_of_a_model(model: Path) -> None:
    config = ModelConfig(channels=8, blocks=0)
    save_model(model, config, generators(config), overwrite=True)
    assert open_model(model).config == config
    assert {path.name for path in model.iterdir()} == {CONFIG_FILE, GENERATORS_FILE, SUMS_FILE}
    assert [path.name for path in model.parent.iterdir()] == [model.name]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["a model", "a file", "pictures", "another program's config", "a model and a note"])
def test_only_models_are_replaced_and_only_if_asked(tmp_path: Path, kind: str, overwrite: bool) -> None:
    target = tmp_path / "target"
    if kind == "a model":
        save_model(target, CONFIG, generators())
    elif kind == "a model and a note":
        save_model(target, CONFIG, generators())
        (target / "note.txt").write_text("precious")
    elif kind == "a file":
        target.write_text("precious")
    else:
        target.mkdir()
        (target / ("cat.jpg" if kind == "pictures" else CONFIG_FILE)).write_text('{"name": "js"}')
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="target: "):
        save_model(target, CONFIG, generators(), overwrite=overwrite and kind != "a model")
    assert contents(tmp_path) == before


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def second_call_fails(call: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            full_disk()
        return call(*arguments, **options)

    return wrapped


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes, and other holes")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "discriminators.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "huge", "huge header"])
def test_special_files_in_a_model(model: Path, name: str, kind: str) -> None:
    path = model / name
    if kind.startswith("huge"):
        with path.open("r+b") as file:
            file.truncate(1 << 36)
            file.write((1 << 33).to_bytes(8, "little") if kind == "huge header" else b"")
    else:
        path.unlink()
        os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(ModelError) as caught:
        open_model(model)
    assert str(path) in caught.value.message


PLACES = ["first tensors", "second tensors", "config", "fsync", "retire", "publish", "interrupted"]


@pytest.mark.parametrize("where", PLACES)
def test_a_failure_midway_leaves_the_old_model(model: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    before = contents(model.parent)
    patches: dict[str, tuple[object, str, object]] = {
        "interrupted": (folder_module, "write_tensors", interrupt),
        "first tensors": (folder_module, "write_tensors", full_disk),
        "second tensors": (folder_module, "write_tensors", second_call_fails(write_tensors)),
        "config": (Path, "write_bytes", full_disk),
        "fsync": (os, "fsync", full_disk),
        "retire": (Path, "rename", full_disk),
        "publish": (Path, "rename", second_call_fails(Path.rename)),
    }
    target, name, replacement = patches[where]
    with monkeypatch.context() as patch:
        if name == "rename":
            without_exchange(patch)
        patch.setattr(target, name, replacement)
        with pytest.raises((StorageError, KeyboardInterrupt), match=None if where == "interrupted" else str(model)):
            save_model(model, CONFIG, generators(), discriminators(), overwrite=True)
    assert contents(model.parent) == before
    assert [path.name for path in model.parent.iterdir()] == [model.name]


@pytest.mark.parametrize("storage", PRECISIONS)
@pytest.mark.parametrize("values", [(math.nan, 0.0), (-math.inf, 0.0), (math.inf, -math.inf)])
@pytest.mark.parametrize("name", ["a2b.to_rgb.weight", "b2a.up.0.norm.rho"])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, storage: Precision, values: tuple[float, float], name: str
) -> None:
    tensors = generators()
    tensors[name].view(-1)[2:4] = torch.tensor(values)
    with pytest.raises(ModelError, match="not finite"):
        save_model(tmp_path / "m", CONFIG, tensors, storage=storage)
    assert list(tmp_path.iterdir()) == []


def test_weights_too_large_for_fp16_are_refused(tmp_path: Path) -> None:
    tensors = generators()
    tensors["a2b.to_rgb.weight"].view(-1)[0] = 70_000.0
    tensors["a2b.up.0.norm.gamma"][0] = 70_000.0
    with pytest.raises(ModelError, match="fp16"):
        save_model(tmp_path / "m", CONFIG, tensors, storage="fp16")
    tensors["a2b.to_rgb.weight"].view(-1)[0] = 1.0
    # Vectors stay in float32, so a large one is no reason to refuse.
    save_model(tmp_path / "m", CONFIG, tensors, storage="fp16")
    assert open_model(tmp_path / "m").generator("a2b").get_parameter("up.0.norm.gamma")[0] == 70_000.0


# --- Safetensors files -------------------------------------------------------------------------------------

DTYPES_OF_FILES = [torch.float32, torch.bfloat16, torch.float16, torch.int64]
DTYPES_OF_FILES += [torch.float64, torch.int32, torch.uint8, torch.bool]


def filled(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Any bits, NaNs with their payloads included."""
    size = dtype.itemsize * torch.Size(shape).numel()
    data = bytes_images(size, seed=seed)
    return (data % 2 if dtype is torch.bool else data).view(dtype).view(shape)


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def assert_same(path: Path, tensors: dict[str, Tensor]) -> None:
    found = load_file(path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert bits(found[name]) == bits(tensor), name


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[gpu_only, pytest.mark.gpu])])
def test_any_strides_and_shared_memory(tmp_path: Path, device: str) -> None:
    x = filled((4, 6, 5, 3), torch.float32)
    tensors = {
        "contiguous": x,
        "channels_last": x.to(memory_format=torch.channels_last),
        "channels_last bf16": filled((4, 6, 5, 3), torch.bfloat16).to(memory_format=torch.channels_last),
        "transposed": x.transpose(0, 3),
        "strided": x[::2, 1::3],
        "expanded": torch.arange(3).expand(4, 3),
        "offset": x[3],
        "same": x,
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "not a leaf": torch.ones(3, requires_grad=True) * 2,
    }
    assert not tensors["channels_last"].is_contiguous()
    write_tensors(tmp_path / "t", {name: tensor.to(device) for name, tensor in tensors.items()})
    assert_same(tmp_path / "t", {name: tensor.detach() for name, tensor in tensors.items()})


@given(
    specs=st.dictionaries(
        # The library reserves one name for metadata; a JSON text can't hold half a surrogate pair.
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES_OF_FILES), st.lists(st.integers(0, 4), max_size=4).map(tuple)),
        max_size=6,
    )
)
def test_any_file_is_read_by_the_library(tmp_path_factory: pytest.TempPathFactory, specs: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    tensors = {name: filled(shape, dtype, seed) for seed, (name, (dtype, shape)) in enumerate(specs.items())}
    sha256 = write_tensors(path, tensors)
    assert_same(path, tensors)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(data[8 : 8 + length]).items():
        assert entry["data_offsets"][0] % tensors[name].dtype.itemsize == 0


def test_tensors_are_converted_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def make(tensor: Tensor, storage: Precision) -> Tensor:
        nonlocal most
        most = max(most, len(alive))
        made = stored(tensor, storage)
        alive.add(made)
        return made

    monkeypatch.setattr(folder_module, "stored", make)
    write_tensors(tmp_path / "t", {str(i): torch.full((10, 100), float(i)) for i in range(20)}, "bf16")
    assert most <= 1
    assert all((tensor == float(name)).all() for name, tensor in load_file(tmp_path / "t").items())


def test_it_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    write_tensors(tmp_path / "t", {"x": torch.ones(3)})
    assert sizes == [(tmp_path / "t").stat().st_size]


# Reading tensors


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, int, str]:
    path = tmp_path / "t.safetensors"
    sha256 = write_tensors(path, {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(7)})
    return path, path.stat().st_size, sha256


def test_every_flipped_byte_is_noticed(written: tuple[Path, int, str]) -> None:
    path, size, sha256 = written
    data = path.read_bytes()
    for i in range(size):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        with pytest.raises(ModelError, match=f"{path}: damaged"):
            check_file(path, size, sha256)


def test_other_sizes_missing_files_and_folders(written: tuple[Path, int, str]) -> None:
    path, size, sha256 = written
    with pytest.raises(ModelError, match=f"{path}: .*other"), open_tensors(path) as file:
        file.get_tensor("other")
    for change in (lambda: path.write_bytes(path.read_bytes()[:-1]), path.unlink, path.mkdir):
        change()
        with pytest.raises(ModelError, match=f"{path}: "):
            check_file(path, path.stat().st_size if path.is_dir() else size, sha256)

"""Model folders: what is written can be read, what is damaged is named, and nothing is ever half written."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.reference import randomize
from ugatit_cli.config import (
    DIRECTIONS,
    DOMAINS,
    MAX_BLOCKS,
    MAX_CHANNELS,
    MAX_DEPTH,
    MAX_IMAGE_SIZE,
    PRECISIONS,
    SCALES,
    ModelConfig,
    Precision,
)
from ugatit_cli.device import DTYPES
from ugatit_cli.errors import ModelError, OutputError, StorageError
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.weights import folder as folder_module
from ugatit_cli.weights.folder import (
    CONFIG_FILE,
    DISCRIMINATORS_FILE,
    FORMAT,
    GENERATORS_FILE,
    discriminator_shapes,
    generator_shapes,
    open_model,
    save_model,
    stream_tensors,
)

CONFIG = ModelConfig(
    domain_a="çat", domain_b="dog", image_size=32, channels=4, blocks=1, discriminator_channels=2, global_layers=4
)
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX files")

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


def contents(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("storage", PRECISIONS)
@pytest.mark.parametrize("with_discriminators", [False, True])
def test_round_trip(tmp_path: Path, storage: Precision, with_discriminators: bool) -> None:
    theirs, others = generators(), discriminators() if with_discriminators else None
    folder = tmp_path / "new" / "deep" / "model"
    provenance = {"imported_from": "x.pt", "list": [1, {"ü": None}]}
    save_model(folder, CONFIG, theirs, others, storage=storage, provenance=provenance)
    opened = open_model(folder)
    assert opened.config == CONFIG
    assert opened.provenance == provenance
    assert opened.path == folder
    dtype = DTYPES[storage]
    for direction in DIRECTIONS:
        generator = opened.generator(direction)
        assert not generator.training
        for name, tensor in generator.state_dict().items():
            original = theirs[f"{direction}.{name}"]
            expected = original.to(dtype).float() if original.ndim > 1 else original
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, expected), name
    for name, tensor in load_file(folder / GENERATORS_FILE).items():
        assert tensor.dtype == (dtype if tensor.ndim > 1 else torch.float32), name
    if others is None:
        assert not (folder / DISCRIMINATORS_FILE).exists()
        with pytest.raises(ModelError, match="without discriminators") as caught:
            opened.discriminator("a", "local")
        assert str(folder) in caught.value.message
        return
    for domain in DOMAINS:
        for scale in SCALES:
            discriminator = opened.discriminator(domain, scale)
            assert not discriminator.training
            for name, tensor in discriminator.state_dict().items():
                original = others[f"{domain}.{scale}.{name}"]
                expected = original.to(dtype).float() if original.ndim > 1 else original
                assert torch.equal(tensor, expected), name


def test_a_model_with_local_discriminators_only(tmp_path: Path, model: Path) -> None:
    config, folder = dataclasses.replace(CONFIG, discriminators="local"), tmp_path / "local"
    save_model(folder, config, generators(), discriminators(config))
    opened = open_model(folder)
    assert opened.config == config
    assert {name.split(".")[1] for name in load_file(folder / DISCRIMINATORS_FILE)} == {"local"}
    assert opened.discriminator("b", "local").state_dict()
    with pytest.raises(ModelError, match="this model has no global discriminators") as caught:
        opened.discriminator("b", "global")
    assert str(folder) in caught.value.message
    shutil.copyfile(model / DISCRIMINATORS_FILE, folder / DISCRIMINATORS_FILE)
    with pytest.raises(ModelError, match="unknown tensors"):
        open_model(folder)
    with pytest.raises(ModelError, match="missing tensors"):
        save_model(tmp_path / "both", CONFIG, generators(), discriminators(config))


def test_networks_run_as_before_they_were_saved(model: Path) -> None:
    x = torch.rand(1, 3, 32, 32)
    original = randomize(Generator(CONFIG), 0).eval()
    with torch.no_grad():
        assert torch.equal(open_model(model).generator("a2b")(x).image, original(x).image)
    assert all(parameter.requires_grad for parameter in open_model(model).generator("a2b").parameters())
    torch.autograd.backward(open_model(model).discriminator("b", "global").train()(x).logit.sum())


def test_config_json_is_for_people_too(model: Path) -> None:
    text = (model / CONFIG_FILE).read_text(encoding="utf-8")
    assert json.loads(text) == {"format": FORMAT, "model": CONFIG.to_dict(), "provenance": {}}
    assert "çat" in text
    assert text.endswith("}\n")


@posix_only
def test_files_are_readable_like_any_other(model: Path) -> None:
    plain = model.parent / "plain"
    plain.mkdir()
    (plain / "file").touch()
    assert stat.S_IMODE(model.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    for name in (CONFIG_FILE, GENERATORS_FILE, DISCRIMINATORS_FILE):
        assert stat.S_IMODE((model / name).stat().st_mode) == stat.S_IMODE((plain / "file").stat().st_mode)


def test_tensors_of_any_layout_are_saved(tmp_path: Path) -> None:
    tensors = generators()
    views = {name: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for name, t in tensors.items()}
    save_model(tmp_path / "m", CONFIG, views)
    assert all(torch.equal(tensors[name], t) for name, t in load_file(tmp_path / "m" / GENERATORS_FILE).items())


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    tensors = generators()
    shared = {name: tensors[name.replace("b2a.", "a2b.")] for name in tensors}
    save_model(tmp_path / "m", CONFIG, shared)
    assert torch.equal(open_model(tmp_path / "m").generator("b2a").to_rgb.weight, shared["a2b.to_rgb.weight"])


Damage = Callable[[Path], object]


def edit_config(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        document = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        change(document)
        (folder / CONFIG_FILE).write_text(json.dumps(document), encoding="utf-8")

    return damage


def edit_tensors(file: str, change: Callable[[Tensors], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file)

    return damage


def write_config(data: bytes) -> Damage:
    return lambda folder: (folder / CONFIG_FILE).write_bytes(data)


def truncate(file: str, size: int) -> Damage:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:size])


def make_folder(file: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).mkdir()

    return damage


G, D = GENERATORS_FILE, DISCRIMINATORS_FILE
DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "config missing": (lambda folder: (folder / CONFIG_FILE).unlink(), CONFIG_FILE, "no such file"),
    "config empty": (write_config(b""), CONFIG_FILE, "can't be read"),
    "config not JSON": (write_config(b"channels = 4"), CONFIG_FILE, "can't be read"),
    "config not UTF-8": (write_config(b'{"format": "\xff"}'), CONFIG_FILE, "can't be read"),
    "config too nested": (write_config(b"[" * 100_000), CONFIG_FILE, "can't be read"),
    "config a list": (write_config(b"[]"), CONFIG_FILE, "no format number"),
    "config of another program": (write_config(b'{"model_type": "bert"}'), CONFIG_FILE, "no format number"),
    "config a folder": (make_folder(CONFIG_FILE), CONFIG_FILE, "can't be read"),
    "format text": (edit_config(lambda c: c.update(format="1")), CONFIG_FILE, "no format number"),
    "format newer": (edit_config(lambda c: c.update(format=FORMAT + 1)), CONFIG_FILE, "newer ugatit"),
    "model missing": (edit_config(lambda c: c.pop("model")), CONFIG_FILE, "damaged"),
    "model a list": (edit_config(lambda c: c.update(model=[])), CONFIG_FILE, "damaged"),
    "provenance text": (edit_config(lambda c: c.update(provenance="x")), CONFIG_FILE, "damaged"),
    "setting unknown": (
        edit_config(lambda c: c["model"].update(colour=1)),
        CONFIG_FILE,
        "unknown model settings: colour",
    ),
    "setting of wrong type": (
        edit_config(lambda c: c["model"].update(image_size="32")),
        CONFIG_FILE,
        "image_size is '32'",
    ),
    "channels huge": (
        edit_config(lambda c: c["model"].update(channels=10**9)),
        CONFIG_FILE,
        "channels is 1000000000",
    ),
    "channels large": (edit_config(lambda c: c["model"].update(channels=MAX_CHANNELS)), G, "its config asks for"),
    "weights missing": (lambda folder: (folder / G).unlink(), G, "no such file"),
    "weights a folder": (make_folder(G), G, ""),
    "weights empty": (truncate(G, 0), G, "not a complete safetensors file"),
    "weights cut in the header": (truncate(G, 100), G, "not a complete safetensors file"),
    "weights cut in the data": (truncate(G, -1), G, "not a complete safetensors file"),
    "weights a page": (
        lambda f: (f / G).write_bytes(b"<html>Not Found</html>"),
        G,
        "not a complete safetensors file",
    ),
    "weights a pointer": (lambda f: (f / G).write_bytes(b"version https://git-lfs"), G, "not a complete safetensors"),
    "tensor missing": (
        edit_tensors(G, lambda t: t.pop("b2a.to_rgb.weight")),
        G,
        "1 missing tensors (b2a.to_rgb.weight)",
    ),
    "tensor unknown": (edit_tensors(G, lambda t: t.update(x=torch.ones(1))), G, "1 unknown tensors (x)"),
    "tensor renamed": (
        edit_tensors(G, lambda t: t.update({"a2b.x": t.pop("a2b.cam.bias")})),
        G,
        "1 missing tensors (a2b.cam.bias) and 1 unknown tensors (a2b.x)",
    ),
    "shape wrong": (
        edit_tensors(G, lambda t: t.update({"a2b.cam.bias": torch.ones(7)})),
        G,
        "a2b.cam.bias has shape (7,), its config asks for (16,)",
    ),
    "shape transposed": (
        edit_tensors(G, lambda t: t.update({"a2b.cam.weight": torch.ones(32, 16, 1, 1)})),
        G,
        "a2b.cam.weight has shape (32, 16, 1, 1)",
    ),
    "dtype wrong": (
        edit_tensors(G, lambda t: t.update({"a2b.cam.bias": torch.ones(16, dtype=torch.float64)})),
        G,
        "a2b.cam.bias has type F64",
    ),
    "dtype an integer": (
        edit_tensors(G, lambda t: t.update({"a2b.cam.bias": torch.ones(16, dtype=torch.int32)})),
        G,
        "a2b.cam.bias has type I32",
    ),
    "discriminator tensor missing": (
        edit_tensors(D, lambda t: t.pop("a.local.head.norm.u")),
        D,
        "a.local.head.norm.u",
    ),
    "discriminators cut": (truncate(D, 1000), D, "not a complete safetensors file"),
    "discriminators are generators": (lambda f: shutil.copy(f / G, f / D), D, "doesn't fit its config"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_error_that_names_the_file(model: Path, name: str) -> None:
    damage, file, text = DAMAGES[name]
    damage(model)
    with pytest.raises(ModelError) as caught:
        open_model(model)
    assert caught.value.message.startswith(f"{model / file}: ")
    assert text in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 3


def test_a_long_list_of_tensors_is_cut(model: Path) -> None:
    edit_config(lambda c: c["model"].update(blocks=3))(model)
    with pytest.raises(ModelError, match=r"24 missing tensors \(a2b.decoder.1.conv1.weight, .*, .*, \.\.\.\)"):
        open_model(model)


def test_sizes_are_checked_without_memory() -> None:
    huge = ModelConfig(
        image_size=MAX_IMAGE_SIZE,
        channels=MAX_CHANNELS,
        blocks=MAX_BLOCKS,
        variant="full",
        discriminator_channels=MAX_CHANNELS,
        local_layers=MAX_DEPTH,
        global_layers=MAX_DEPTH,
    )
    # 16 exabytes in float32 if any of it were allocated.
    assert generator_shapes(huge)["a2b.style.hidden1.weight"] == (4096, 4096 * 1024 * 1024)
    assert discriminator_shapes(huge)["b.global.layers.8.weight"] == (1024 * 2**8, 1024 * 2**7, 4, 4)


def test_shapes_have_a_name_for_every_network() -> None:
    names = discriminator_shapes(CONFIG)
    assert {tuple(name.split(".")[:2]) for name in names} == {(d, s) for d in DOMAINS for s in SCALES}
    assert "a.local.layers.3.weight" in names
    assert "a.global.layers.3.weight" not in names


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file") as caught:
        open_model(tmp_path / "nothing")
    assert str(tmp_path / "nothing") in caught.value.message
    assert caught.value.hint


def test_a_run_folder(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").touch()
    model.rename(run / "model")
    opened = open_model(run)
    assert opened.path == run / "model"
    assert opened.weights == run / "model" / GENERATORS_FILE
    assert opened.generator("b2a").to_rgb.weight.shape == (3, 4, 7, 7)


def test_a_safetensors_file_with_its_config_beside_it(model: Path) -> None:
    renamed = (model / GENERATORS_FILE).rename(model / "step 100.safetensors")
    opened = open_model(renamed)
    assert opened.weights == renamed
    assert opened.config == CONFIG
    assert opened.discriminators == model / DISCRIMINATORS_FILE
    opened.generator("a2b")
    with pytest.raises(ModelError, match=r"discriminators\.safetensors: doesn't fit its config"):
        open_model(model / DISCRIMINATORS_FILE)


@pytest.mark.parametrize("name", ["x_params_latest.pt", "X.PTH", "UGATIT.model-1.index", "x.ckpt"])
def test_official_checkpoints_are_to_be_converted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match="not a model folder") as caught:
        open_model(tmp_path / name)
    assert f"ugatit convert {tmp_path / name}" in caught.value.hint


def test_weights_that_vanish_after_opening(model: Path) -> None:
    opened = open_model(model)
    (model / GENERATORS_FILE).unlink()
    with pytest.raises(ModelError, match="no such file"):
        opened.generator("a2b")


# Writing


def test_an_existing_model_is_kept(model: Path) -> None:
    before = contents(model)
    with pytest.raises(OutputError, match="exists already") as caught:
        save_model(model, CONFIG, generators())
    assert str(model) in caught.value.message
    assert "--overwrite" in caught.value.hint
    assert contents(model) == before


def test_overwrite_replaces_all_of_a_model(model: Path) -> None:
    config = ModelConfig(channels=8, blocks=0)
    save_model(model, config, generators(config), overwrite=True)
    assert open_model(model).config == config
    assert {path.name for path in model.iterdir()} == {CONFIG_FILE, GENERATORS_FILE}
    assert [path.name for path in model.parent.iterdir()] == [model.name]


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_folders_are_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "photos"
    target.mkdir()
    (target / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(OutputError, match="exists and is not a model folder"):
        save_model(target, CONFIG, generators(), overwrite=overwrite)
    assert contents(tmp_path) == {str(Path("photos/cat.jpg")): b"cat"}


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match="not a model folder"):
        save_model(tmp_path / "file", CONFIG, generators(), overwrite=True)


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    save_model(tmp_path / "m", CONFIG, generators())
    assert open_model(tmp_path / "m").config == CONFIG
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_parent_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(OutputError, match=r"can't be written \(permission denied\)") as caught:
        save_model(tmp_path / "m", CONFIG, generators())
    assert str(tmp_path / "m") in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="can't be written"):
        save_model(tmp_path / "file" / "m", CONFIG, generators())


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


@pytest.mark.parametrize("where", ["first tensors", "second tensors", "config", "fsync", "retire", "publish"])
def test_a_failure_midway_leaves_the_old_model(model: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    before = contents(model.parent)
    patches: dict[str, tuple[object, str, object]] = {
        "first tensors": (folder_module, "stream_tensors", full_disk),
        "second tensors": (folder_module, "stream_tensors", second_call_fails(stream_tensors)),
        "config": (Path, "write_text", full_disk),
        "fsync": (os, "fsync", full_disk),
        "retire": (Path, "rename", full_disk),
        "publish": (Path, "rename", second_call_fails(Path.rename)),
    }
    target, name, replacement = patches[where]
    with monkeypatch.context() as patch:
        patch.setattr(target, name, replacement)
        with pytest.raises(StorageError, match="no space left") as caught:
            save_model(model, CONFIG, generators(), discriminators(), overwrite=True)
    assert caught.value.message.startswith(f"{model}: ")
    assert contents(model.parent) == before
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "stream_tensors", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_model(tmp_path / "m", CONFIG, generators())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("storage", PRECISIONS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["a2b.to_rgb.weight", "b2a.up.0.norm.rho"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, storage: Precision, value: float, name: str) -> None:
    tensors = generators()
    tensors[name].view(-1)[3] = value
    with pytest.raises(ModelError, match="not finite"):
        save_model(tmp_path / "m", CONFIG, tensors, storage=storage)
    assert list(tmp_path.iterdir()) == []


def test_infinities_do_not_cancel(tmp_path: Path) -> None:
    tensors = generators()
    tensors["a2b.to_rgb.weight"].view(-1)[:2] = torch.tensor([float("inf"), float("-inf")])
    with pytest.raises(ModelError, match="not finite"):
        save_model(tmp_path / "m", CONFIG, tensors)


def test_weights_too_large_for_fp16_are_refused(tmp_path: Path) -> None:
    tensors = generators()
    tensors["a2b.to_rgb.weight"].view(-1)[0] = 70_000.0
    tensors["a2b.up.0.norm.gamma"][0] = 70_000.0
    with pytest.raises(ModelError, match="too large for fp16") as caught:
        save_model(tmp_path / "m", CONFIG, tensors, storage="fp16")
    assert "fp32" in caught.value.hint
    tensors["a2b.to_rgb.weight"].view(-1)[0] = 1.0
    # Vectors stay in float32, so a large one is no reason to refuse.
    save_model(tmp_path / "m", CONFIG, tensors, storage="fp16")
    assert open_model(tmp_path / "m").generator("a2b").get_parameter("up.0.norm.gamma")[0] == 70_000.0


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_tensors_that_do_not_fit_are_never_written(tmp_path: Path, change: str) -> None:
    tensors = generators()
    if change == "missing":
        del tensors["a2b.cam.bias"]
    else:
        tensors["a2b.cam.bias" if change == "shape" else "a2b.extra"] = torch.ones(3)
    with pytest.raises(ModelError):
        save_model(tmp_path / "m", CONFIG, tensors)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("foreign", ["config.json", "notes.txt"])
def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path, foreign: str) -> None:
    target = tmp_path / "project"
    if foreign == "config.json":  # of something else: any web project has one
        target.mkdir()
        (target / foreign).write_text('{"name": "js"}')
    else:
        save_model(target, CONFIG, generators())
        (target / foreign).write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="or holds other files too"):
        save_model(target, CONFIG, generators(), overwrite=True)
    assert contents(tmp_path) == before

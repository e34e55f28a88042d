"""Official checkpoints of every method, however they were saved: recognised by what is in them."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pickle
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import paddlegan, tiny
from tests.conftest import GOLDEN
from ugatit_cli.errors import ModelError, StorageError
from ugatit_cli.methods.base import Official, OfficialSettings
from ugatit_cli.weights import folder
from ugatit_cli.weights.official import convert, read_official
from ugatit_cli.weights.pytorch import read_states

State = dict[str, Tensor]


def read(*files: Path) -> Official:
    return read_official(files, OfficialSettings())[0]


def save(path: Path, content: object, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def assert_same(found: Official, wanted: Official, dtype: torch.dtype = torch.float32) -> None:
    assert found.config == wanted.config
    for ours, theirs in ((found.translators, wanted.translators), (found.critics or {}, wanted.critics or {})):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name].float(), one.to(dtype).float()) for name, one in theirs.items())


def renamed(prefix: str, checkpoint: Mapping[str, State]) -> dict[str, State]:
    return {key: {prefix + name: one for name, one in state.items()} for key, state in checkpoint.items()}


def flat(checkpoint: Mapping[str, State], prefix: str = "") -> State:
    # Contiguous and alone in its memory, as safetensors needs them.
    return {f"{prefix}{key}.{name}": one.clone() for key, state in checkpoint.items() for name, one in state.items()}


def zeros(checkpoint: Mapping[str, State]) -> dict[str, State]:
    return {key: {name: torch.zeros_like(one) for name, one in state.items()} for key, state in checkpoint.items()}


WRAPPED: dict[str, Callable[[dict[str, State]], object]] = {
    "several GPUs": lambda c: renamed("module.", c),
    "compiled": lambda c: renamed("_orig_mod.", c),
    "both": lambda c: renamed("module._orig_mod.", c),
    "keys with a prefix": lambda c: {f"module.{key}": state for key, state in c.items()},
    "model": lambda c: {"step": 7, "model": c, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "params in state_dict": lambda c: {"state_dict": {"params": c}},
    "lightning": lambda c: {"epoch": 3, "state_dict": flat(c), "hyper_parameters": {"lr": 1e-4}},
    "lightning in a module": lambda c: {"state_dict": flat(c, "model.")},
    "one more dict": lambda c: {"networks": c, "step": 7},
    "an average beside the model": lambda c: {"model": zeros(c), "model_ema": c},
    "an average of BasicSR's kind": lambda c: {"params": zeros(c), "params_ema": c},
    "averages of its networks": lambda c: zeros(c) | {f"{key}_ema": state for key, state in c.items()},
    "an average of PyTorch's": lambda c: {
        key: {"n_averaged": torch.tensor(9)} | state for key, state in renamed("module.", c).items()
    },
    "an average of all beside its networks": lambda c: zeros(c) | {"model_ema": c},
    "an average that isn't kept": lambda c: {"ema": {"decay": 0.999}, "model": c},
    "an earlier state": lambda c: {"best": zeros(c), **c},
    "a module in each network": lambda c: renamed("net.", c),
    "modules in each network": lambda c: renamed("module.generator._orig_mod.", c),
    "three dicts": lambda c: {"checkpoint": {"state_dict": {"model": c}}},
    "parameters": lambda c: {k: {name: torch.nn.Parameter(one) for name, one in s.items()} for k, s in c.items()},
    "settings beside": lambda c: (
        c | {"args": argparse.Namespace(lr=1, out=Path("x")), "at": datetime.date(2020, 1, 1)}
    ),
    "figures beside": lambda c: (
        c | {"best": np.float64(0.3), "log": collections.defaultdict(list, a=[1.0]), "rng": np.random.get_state()}
    ),
    "ordered backwards": lambda c: dict(reversed(c.items())),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_whatever_weights_are_wrapped_in(tmp_path: Path, how: str) -> None:
    checkpoint = tiny.official()
    wanted = read(save(tmp_path / "plain.pt", checkpoint))
    for legacy in (False, True):
        assert_same(read(save(tmp_path / "x.pt", WRAPPED[how](checkpoint), legacy=legacy)), wanted)


def test_settings_of_packages_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning keeps its settings in a dict of its own."""
    module = types.ModuleType("pytorch_lightning")
    module.AttributeDict = type("AttributeDict", (dict,), {"__module__": "pytorch_lightning"})  # type: ignore[attr-defined]
    checkpoint = tiny.official()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_lightning", module)
        content = {"state_dict": flat(checkpoint), "hyper_parameters": module.AttributeDict(lr=1)}
        path = save(tmp_path / "x.ckpt", content)
    assert_same(read(path), read(save(tmp_path / "plain.pt", checkpoint)))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_those_that_pytorch_reads(tmp_path: Path, legacy: bool, protocol: int) -> None:
    whole = torch.arange(48.0).reshape(2, 4, 6)
    state = {
        "part": whole[1],
        "strided": whole[:, ::2, 1:5:3],
        "turned": whole.permute(2, 0, 1),
        "scalar": torch.tensor(3),
        "none": torch.empty(0, 3),
        "spread": torch.ones(3).expand(1, 3),
        "bits": torch.tensor([True, False]),
        **{f"{dtype}": whole.to(dtype) for dtype in (torch.int8, torch.int16, torch.int64, torch.complex64)},
    }
    path = tmp_path / "x.pt"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    found = read_states(path)[""]
    wanted = torch.load(path, weights_only=protocol == 2)
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        assert (found[name].dtype, found[name].shape, found[name].stride()) == (one.dtype, one.shape, one.stride())
        assert torch.equal(found[name], one)


def test_a_generator_in_a_module_of_ones_own(tmp_path: Path) -> None:
    state = tiny.official()["genA2B"]
    wanted = read(save(tmp_path / "plain.pt", state))
    for content in (renamed("generator.", {"": state})[""], {"generator": state}, {"epoch": 1, "net": state}):
        assert_same(read(save(tmp_path / "x.pt", content)), wanted)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(tmp_path: Path, dtype: torch.dtype, legacy: bool) -> None:
    checkpoint = tiny.official()
    narrow = {key: {name: one.to(dtype) for name, one in state.items()} for key, state in checkpoint.items()}
    path = save(tmp_path / "x.pt", narrow, legacy=legacy)
    assert_same(read(path), read(save(tmp_path / "plain.pt", checkpoint)), dtype)
    model, _ = convert([path], tmp_path / "out")
    written = load_file(model.weights)
    assert {one.dtype for one in written.values()} == {torch.float32}
    assert torch.equal(written["a2b.to_rgb.weight"], narrow["genA2B"]["UpBlock2.11.weight"].float())


def test_safetensors(tmp_path: Path) -> None:
    checkpoint = tiny.official()
    wanted = read(save(tmp_path / "plain.pt", checkpoint))
    for prefix in ("", "module.", "model."):
        save_file(flat(checkpoint, prefix), tmp_path / "x.safetensors")
        assert_same(read(tmp_path / "x.safetensors"), wanted)
    alone = {name: one.clone() for name, one in checkpoint["genA2B"].items()}
    save_file(alone, tmp_path / "x.safetensors")
    assert_same(read(tmp_path / "x.safetensors"), read(save(tmp_path / "plain.pt", alone)))


# PaddlePaddle


def paddle(state: State, dtype: str = "f4", *, named: bool = False) -> dict[str, Any]:
    """As `paddle.save` has them: arrays, those of linear layers (in, out); of parameters, with their names."""
    arrays = {name: (one.T if one.ndim == 2 else one).numpy().astype(dtype) for name, one in state.items()}
    return {name: (f"linear_{i}.w_0", one) if named else one for i, (name, one) in enumerate(arrays.items())}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("named", [False, True])
def test_paddle(tmp_path: Path, protocol: int, named: bool) -> None:
    checkpoint = tiny.official()
    content = {key: paddle(state, named=named) for key, state in checkpoint.items()}
    path = tmp_path / "ugatit_light.pdparams"
    path.write_bytes(pickle.dumps(content | {"epoch": 3, "best": np.float64(0.1)}, protocol))
    assert_same(read(path), read(save(tmp_path / "plain.pt", checkpoint)))


def test_paddlegan(tmp_path: Path) -> None:
    """All six networks of the authors' code, in the file that PaddleGAN makes of them."""
    path = GOLDEN / "pt" / "mini_step_before.pt"
    checkpoint = {key: state for key, state in torch.load(path, weights_only=True).items() if key != "optim"}
    (tmp_path / "ugatit_light.pdparams").write_bytes(paddlegan.written(checkpoint))
    found, layout, _ = read_official([tmp_path / "ugatit_light.pdparams"], OfficialSettings())
    assert layout == "paddle"
    assert "DownBlock.13.conv_block.6.scale" in read_states(tmp_path / "ugatit_light.pdparams")["genB2A"]
    assert_same(found, read(path))


@pytest.mark.parametrize("name", ["DownBlock.2.scale", "DownBlock.10.bias", "DownBlock.12.conv_block.2.weight"])
def test_norms_that_change_something_are_no_ones(tmp_path: Path, name: str) -> None:
    checkpoint = tiny.official()
    for value, fits in ((float(not name.endswith("bias")), True), (0.5, False)):
        checkpoint["genA2B"][name] = torch.full((8,), value)
        path = save(tmp_path / "x.pt", checkpoint)
        if fits:
            assert_same(read(path), read(save(tmp_path / "plain.pt", tiny.official())))
            continue
        with pytest.raises(ModelError, match=name):
            read(path)


def test_paddle_of_half_precision(tmp_path: Path) -> None:
    checkpoint = tiny.official()
    path, wanted = tmp_path / "x.pdparams", read(save(tmp_path / "plain.pt", checkpoint))
    path.write_bytes(pickle.dumps({key: paddle(state, "f2") for key, state in checkpoint.items()}, 4))
    assert_same(read(path), wanted, torch.float16)
    # NumPy has no bfloat16: Paddle stores its bits.
    bits = {
        key: paddle({name: one.bfloat16().view(torch.int16) for name, one in state.items()}, "u2")
        for key, state in checkpoint.items()
    }
    path.write_bytes(pickle.dumps(bits, 4))
    assert_same(read(path), wanted, torch.bfloat16)
    convert([path], tmp_path / "out")


# CycleGAN and CartoonGAN; what their networks compute is compared with recorded outputs in tests/methods.


@pytest.fixture(scope="module")
def cyclegan() -> dict[str, State]:
    """The networks of the official code: G_A, G_B, D_A, D_B."""
    states: dict[str, State] = {}
    for name, tensor in load_file(GOLDEN / "baselines/cyclegan/weights.safetensors").items():
        network, _, rest = name.partition(".")
        states.setdefault(network, {})[rest] = tensor
    return states


def with_buffers(state: State) -> State:
    """As files of PyTorch 0.3 have it, with statistics that nothing uses."""
    found = dict(state)
    for name in ("model.2", "model.10.conv_block.2", "model.10.conv_block.6"):
        found |= {f"{name}.running_mean": torch.zeros(4), f"{name}.running_var": torch.ones(4)}
        found[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return found


def test_cyclegan_one_file_one_way(tmp_path: Path, cyclegan: dict[str, State]) -> None:
    wanted = read(save(tmp_path / "latest_net_G.pth", cyclegan["G_A"]))
    assert (wanted.config.method, wanted.config.ways, wanted.critics) == ("cyclegan", "a2b", None)
    assert_same(read(save(tmp_path / "horse2zebra.pth", with_buffers(cyclegan["G_A"]))), wanted)
    dropout = {name.replace("conv_block.5.", "conv_block.6."): one for name, one in cyclegan["G_A"].items()}
    assert_same(read(save(tmp_path / "x.pth", dropout)), wanted)
    assert_same(read(save(tmp_path / "x.pth", renamed("module.", {"": cyclegan["G_A"]})[""])), wanted)
    assert_same(read(save(tmp_path / "x.pth", renamed("netG.", {"": cyclegan["G_A"]})[""])), wanted)
    save_file(cyclegan["G_A"], tmp_path / "x.safetensors")
    assert_same(read(tmp_path / "x.safetensors"), wanted)


def test_cyclegan_both_ways(tmp_path: Path, cyclegan: dict[str, State]) -> None:
    there, back = (save(tmp_path / f"latest_net_{key}.pth", cyclegan[key]) for key in ("G_A", "G_B"))
    wanted = read(there, back)
    assert (wanted.config.method, wanted.config.ways, wanted.critics) == ("cyclegan", "both", None)
    one = read(there)
    assert all(torch.equal(wanted.translators[name], tensor) for name, tensor in one.translators.items())
    assert_same(read(back, there), wanted)  # their names tell which is which
    assert_same(read(tmp_path), wanted)
    renamed_files = there.rename(tmp_path / "horse2zebra.pth"), back.rename(tmp_path / "zebra2horse.pth")
    assert_same(read(*renamed_files), wanted)
    both = {key: cyclegan[key] for key in ("G_A", "G_B")}
    assert_same(read(save(tmp_path / "x.pth", both)), wanted)
    assert_same(read(save(tmp_path / "x.pth", {f"net{key}": state for key, state in both.items()})), wanted)


def test_a_folder_of_cyclegan_with_discriminators(tmp_path: Path, cyclegan: dict[str, State]) -> None:
    for key, state in cyclegan.items():
        save(tmp_path / f"latest_net_{key}.pth", state)
    found = read(tmp_path)
    assert found.critics is not None
    assert {name.partition(".")[0] for name in found.critics} == {"a", "b"}
    model, _ = convert([tmp_path], tmp_path / "out", OfficialSettings(("horse", "zebra")))
    assert model.discriminators is not None
    assert model.config.pair == "horse <-> zebra"


@pytest.mark.parametrize("name", ["latest_net_G.pth", "200_net_G_A.pth", "netG_A2B.pth", "net_G.pth", "horse.pt"])
def test_a_folder_with_one_generator(tmp_path: Path, cyclegan: dict[str, State], name: str) -> None:
    wanted = read(save(tmp_path / "x.pth", cyclegan["G_A"]))
    (tmp_path / "x.pth").rename(tmp_path / "y.txt")
    save(tmp_path / name, cyclegan["G_A"])
    (tmp_path / "opt.txt").write_text("x")
    assert_same(read(tmp_path), wanted)


def test_the_names_of_another_port(tmp_path: Path, cyclegan: dict[str, State]) -> None:
    both = {key: cyclegan[key] for key in ("G_A", "G_B")}
    wanted = read(save(tmp_path / "x.pth", both))
    ports = dict(zip(("netG_A2B", "netG_B2A"), both.values(), strict=True))
    assert_same(read(save(tmp_path / "x.pth", ports)), wanted)
    back, there = (save(tmp_path / f"{name}.pth", ports[name]) for name in ("netG_B2A", "netG_A2B"))
    os.utime(there, (1, 1))
    assert_same(read(back, there), wanted)
    assert_same(read(tmp_path), wanted)


U_NET = {"model.model.0.weight": torch.zeros(4, 3, 4, 4), "model.model.1.model.1.weight": torch.zeros(8, 4, 4, 4)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model.30.weight": torch.ones(1)}, r"model\.30\.weight"),
        ({"model.1.weight": torch.ones(4, 1, 7, 7)}, r"model\.1 .*\(4, 1, 7, 7\)"),
        ({"model.2.weight": torch.ones(4), "model.2.bias": torch.ones(4)}, "norm"),
        (None, "U-Net"),
    ],
)
def test_variants_of_cyclegan_are_named(
    tmp_path: Path, cyclegan: dict[str, State], change: State | None, named: str
) -> None:
    path = save(tmp_path / "x.pth", U_NET if change is None else cyclegan["G_A"] | change)
    with pytest.raises(ModelError, match=rf"{path}: .*CycleGAN.*{named}") as caught:
        read(path)
    assert "U-GAT-IT" in caught.value.hint


@pytest.mark.parametrize("key", ["genA2B", "genB2A", "disLA", "disGB"])
def test_a_tensor_that_is_not_known_is_an_error(tmp_path: Path, key: str) -> None:
    checkpoint = tiny.official()
    checkpoint[key]["UpBlock2.11.bias"] = torch.ones(3)
    with pytest.raises(ModelError, match=r"x\.pt: .*'UpBlock2\.11\.bias'"):
        read(save(tmp_path / "x.pt", checkpoint))


def test_models_of_ugatit_need_no_conversion(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "run" / "model")
    for path in (model, tmp_path / "run", model / "model.safetensors"):
        with pytest.raises(ModelError, match=f"{path}: ") as caught:
            convert([path], tmp_path / "out")
        assert f"--model {path}" in caught.value.hint
    alone = (model / "model.safetensors").rename(tmp_path / "alone.safetensors")
    with pytest.raises(ModelError, match=r"alone.*config\.json"):
        convert([alone], tmp_path / "out")


def test_several_checkpoints_in_a_folder_are_named(tmp_path: Path) -> None:
    for step in (1000, 2000):
        save(tmp_path / f"x_params_{step:07d}.pt", tiny.official())
    with pytest.raises(ModelError, match=r"2 checkpoints .*x_params_0001000\.pt"):
        read(tmp_path)


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path) -> None:
    checkpoint = tiny.official()
    checkpoint["genA2B"]["conv1x1.bias"][0] = torch.nan
    path = save(tmp_path / "x.pt", checkpoint)
    with pytest.raises(ModelError, match=rf"{path}: a2b\.cam\.bias"):
        convert([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_space_is_known_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "x.pt", tiny.official())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (1 << 40, 0, 1000))
    monkeypatch.setattr(folder, "write_tensors", lambda *_: pytest.fail("written"))
    with pytest.raises(StorageError, match=f"{tmp_path}: "):
        convert([path], tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]


def test_cartoongan(tmp_path: Path) -> None:
    weights = load_file(GOLDEN / "baselines/cartoongan/weights.safetensors")
    found = read(save(tmp_path / "Hayao_net_G_float.pth", weights))
    assert (found.config.method, found.config.ways, found.critics) == ("cartoongan", "a2b", None)
    save_file(weights, tmp_path / "x.safetensors")
    assert_same(read(tmp_path / "x.safetensors"), found)


def test_networks_that_do_not_belong_together(tmp_path: Path, cyclegan: dict[str, State]) -> None:
    one, other = save(tmp_path / "a.pth", cyclegan["G_A"]), save(tmp_path / "b.pt", tiny.official())
    with pytest.raises(ModelError, match=f"{other}: "):
        read(one, other)
    with pytest.raises(ModelError, match=f"{one}: "):
        read(one, save(tmp_path / "b.pt", tiny.official()["genA2B"]))


def test_an_old_file_that_stays_as_it_is(tmp_path: Path) -> None:
    """Reading changes nothing."""
    path = save(tmp_path / "x.pt", tiny.official())
    before = path.read_bytes()
    read(path)
    assert path.read_bytes() == before
    assert io.BytesIO(before).read(4) == b"PK\x03\x04"

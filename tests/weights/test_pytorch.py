"""Import of the official PyTorch code's checkpoints: its names, the settings they tell, and what is no checkpoint."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from tests import tiny
from ugatit_cli.config import ModelConfig, Variant
from ugatit_cli.errors import ModelError
from ugatit_cli.methods.base import Official, OfficialSettings
from ugatit_cli.methods.ugatit_official import discriminator_names, generator_names
from ugatit_cli.weights.folder import critic_shapes, translator_shapes
from ugatit_cli.weights.official import convert, read_official


def save(path: Path, checkpoint: object, *, legacy: bool = False) -> Path:
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
    return path


def read(path: Path, settings: OfficialSettings | None = None) -> Official:
    return read_official([path], settings or OfficialSettings())[0]


GENERATORS = [
    (f"gen_{variant}_ngf64_nb{blocks}_256", variant, blocks) for variant in get_args(Variant) for blocks in (4, 6)
]


@pytest.mark.parametrize(
    ("recorded", "variant", "blocks"), [*GENERATORS, ("dis_ndf64_nl5", "light", 4), ("dis_ndf64_nl7", "light", 4)]
)
def test_networks_have_the_official_names(golden: Path, recorded: str, variant: Variant, blocks: int) -> None:
    """What they compute is compared in tests/test_golden.py."""
    config = ModelConfig(image_size=256, blocks=blocks, variant=variant)
    names, prefix, shapes = generator_names(config), "a2b.", translator_shapes(config)
    if recorded.startswith("dis"):
        prefix, shapes = ("b.local." if recorded.endswith("5") else "b.global."), critic_shapes(config)
        names = discriminator_names(int(recorded[-1]))
    keys = json.loads((golden / f"pt/keys_{recorded}.json").read_text())["keys"]
    official = {name: tuple(key["shape"]) for name, key in keys.items()}
    assert set(names.values()) == set(official)
    for ours, theirs in names.items():
        # AdaLIN's and LIN's are (1, C, 1, 1) there.
        assert shapes[prefix + ours] in (official[theirs], official[theirs][1:2]), ours


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize(("channels", "blocks", "size"), [(1, 0, 16), (3, 6, 20), (8, 1, 36)])
def test_settings_are_inferred(tmp_path: Path, variant: Variant, channels: int, blocks: int, size: int) -> None:
    # Only light checkpoints don't tell their size.
    given = 64 if variant == "full" else size
    depths: dict[str, Any] = {"discriminator_channels": 3, "local_layers": 4, "global_layers": 6}
    config = ModelConfig("cat", "dog", size, channels, blocks, variant=variant, **depths)
    path = tiny.save_official(tmp_path / "x.pt", config)
    imported = read(path, OfficialSettings(("cat", "dog"), given))
    assert imported.config == config
    assert imported.notes == ()
    (note,) = read(path, OfficialSettings()).notes or ("--image-size",)
    assert "--image-size" in note


@pytest.mark.parametrize("missing", [["disLA"], ["disGA", "disGB", "disLA", "disLB"]])
def test_generators_alone(tmp_path: Path, missing: list[str]) -> None:
    checkpoint = {key: state for key, state in tiny.official().items() if key not in missing}
    model, notes = convert([save(tmp_path / "x.pt", checkpoint)], tmp_path / "out", OfficialSettings(image_size=32))
    assert model.discriminators is None
    assert notes == ("The checkpoint has no discriminators; the model comes without.",)
    model.generator("b2a")


@pytest.mark.parametrize("key", ["genA2B", "genB2A", None])
def test_one_generator_makes_a_model_of_one_way(tmp_path: Path, key: str | None) -> None:
    checkpoint = tiny.official()
    state = checkpoint[key or "genA2B"]
    critics = {name: one for name, one in checkpoint.items() if name.startswith("dis")}
    path = save(tmp_path / "x.pt", state if key is None else critics | {key: state})
    model, notes = convert([path], tmp_path / "out", OfficialSettings(image_size=32))
    assert model.config.directions == ("a2b",)
    assert model.discriminators is None
    (note,) = notes
    assert "one direction" in note
    assert torch.equal(model.generator("a2b").to_rgb.weight, state["UpBlock2.11.weight"])
    with pytest.raises(ModelError, match="only, not back"):
        model.generator("b2a")


def test_half_precision_and_other_entries(tmp_path: Path) -> None:
    checkpoint: dict[Any, Any] = tiny.official()
    for state in checkpoint.values():
        state.update({name: tensor.half() for name, tensor in state.items()})
    checkpoint |= {"step": 1000, "optimizer": {"state": {}}, 7: [1, 2], "best": {"loss": 0.1}}
    model, _ = convert([save(tmp_path / "x.pt", checkpoint)], tmp_path / "out")
    expected = checkpoint["genA2B"]["UpBlock2.11.weight"].float()
    assert torch.equal(model.generator("a2b").to_rgb.weight, expected)


# What is no official checkpoint


def refused(path: Path, data: bytes | None = None) -> None:
    """Whether a file can't be converted, in one line that names it, and leaves nothing."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        convert([path], path.with_name("out"))
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


class Malicious:
    """Unpickled naively, writes a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
@pytest.mark.parametrize("inside", [False, True])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, how: str, inside: bool) -> None:
    victim, path = tmp_path / "victim", tmp_path / "evil.pt"
    content: object = Malicious(victim)
    if inside:
        content = tiny.official() | {"extra": content}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        save(path, content, legacy=how == "legacy")
    with pytest.raises(ModelError) as caught:
        convert([path], tmp_path / "out")
    assert caught.value.message.startswith(f"{path}: ")
    assert "never runs code" in caught.value.hint
    assert not victim.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files(tmp_path: Path, legacy: bool) -> None:
    data = save(tmp_path / "x.pt", tiny.official(), legacy=legacy).read_bytes()
    for share in (0.0, 0.01, 0.5, 0.99):
        refused(tmp_path / "x.pt", data[: int(len(data) * share)])
    for garbage in (b"garbage", b"<html>Quota</html>", bytes(1000), b"PK\x03\x04" + bytes(100), b"\x80\x02}q\x00."):
        refused(tmp_path / "x.pt", garbage)


KERNELS = [("genA2B", "DownBlock.1.weight"), ("genA2B", "FC.0.weight"), ("disLA", "model.1.weight_orig")]
OTHERS = [("genB2A", "UpBlock2.8.rho"), ("genA2B", "DownBlock.12.conv_block.5.weight"), ("disGB", "gmp_fc.weight_u")]


@pytest.mark.parametrize("shape", [(), (5,), (0, 3, 7, 7), (2, 2), (5000, 1, 1, 1), (16, 16 * 35)], ids=str)
@pytest.mark.parametrize(("key", "name"), KERNELS)
def test_wrong_shapes_are_one_error(tmp_path: Path, key: str, name: str, shape: tuple[int, ...]) -> None:
    checkpoint = tiny.official(tiny.FULL if shape == (16, 16 * 35) else tiny.LIGHT)
    checkpoint[key][name] = torch.ones(shape)
    refused(save(tmp_path / "x.pt", checkpoint))


@pytest.mark.parametrize(("key", "name"), KERNELS + OTHERS)
def test_a_missing_tensor_is_named(tmp_path: Path, key: str, name: str) -> None:
    checkpoint = tiny.official()
    del checkpoint[key][name]
    with pytest.raises(ModelError, match=f"'{name}'"):
        read(save(tmp_path / "x.pt", checkpoint), OfficialSettings())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "no tensors"),
        # What is in it: the first names, and shapes.
        ({"state_dict": {"conv1.weight": torch.ones(3, 2)}}, r"1 tensors: conv1.weight \(3, 2\)"),
        (
            {"a": {"x": torch.ones(3)}, "b": {"y\33[2J": torch.ones(5)}},
            r"in a: x \(3,\); 1 tensors in b: y\\x1b\[2J \(5,\)",
        ),
        ({"genA2B": {"a": torch.ones(1)}}, "DownBlock.1.weight"),
        ({"genA2B": {}, "genB2A": {}}, "no tensors"),
        ({"genA2B": {"DownBlock.1.weight": 3}, "genB2A": {}}, "no tensors"),
        ({"genA2B": {"DownBlock.1.weight": torch.ones(4, 3, 7, 7)}}, "FC.0.weight"),
        ({"genA2B": 1, "genB2A": 2}, "no tensors"),
        ([torch.ones(3)], "list"),
        (torch.ones(3), "Tensor"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, named: str) -> None:
    path = save(tmp_path / "x.pt", content)
    with pytest.raises(ModelError, match=rf"{path}: .*{named}") as caught:
        read(path)
    # What is known.
    assert "CycleGAN" in caught.value.hint or "not a U-GAT-IT" in caught.value.message

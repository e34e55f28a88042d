"""Exported files do what PyTorch does, say what they are, and are whole or not there."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import ugatit_cli
from tests import tiny
from ugatit_cli.config import BaseConfig
from ugatit_cli.errors import ModelError, OutputError, UsageError
from ugatit_cli.exporting import check, network
from ugatit_cli.exporting import export as exporting
from ugatit_cli.exporting.export import ExportOptions, export_model
from ugatit_cli.exporting.store import KEY, Description, FileFormat, FilePrecision, exported
from ugatit_cli.methods.configs import MUNITConfig, UNITConfig
from ugatit_cli.methods.drit_config import DRITConfig
from ugatit_cli.methods.registry import METHODS
from ugatit_cli.weights.folder import ModelFolder, open_model
from ugatit_cli.weights.official import convert

SMALL: dict[str, Any] = {"image_size": 16, "channels": 4, "blocks": 1}
CONFIGS: dict[str, BaseConfig] = {
    "ugatit": dataclasses.replace(tiny.LIGHT, image_size=16),
    "ugatit-full": dataclasses.replace(tiny.FULL, image_size=16),
    "ugatit-tensorflow": dataclasses.replace(tiny.LIGHT, image_size=16, dialect="tensorflow", rho_smoothing=True),
    "ugatit-gn": dataclasses.replace(tiny.LIGHT, image_size=16, channels=8, decoder_norm="gn", generator_cam=False),
    "cyclegan": tiny.CYCLEGAN,
    "cartoongan": tiny.CARTOONGAN,
    "unit": UNITConfig("flat", "clay", **SMALL),
    "munit": MUNITConfig("flat", "clay", **SMALL),
    "aggan": tiny.AGGAN,
    "drit": DRITConfig("flat", "clay", **SMALL),
    "drit-transform": DRITConfig("flat", "clay", **SMALL, style_way="transform"),
}


def test_all_methods_are_tried() -> None:
    assert {config.method for config in CONFIGS.values()} == set(METHODS)


def made(folder: Path, config: BaseConfig = tiny.LIGHT) -> ModelFolder:
    return open_model(tiny.save(folder, config))


def outputs_of(path: Path, *inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(zip([one.name for one in session.get_inputs()], inputs, strict=True))))


def expected(model: ModelFolder, *inputs: np.ndarray, direction: Any = "a2b") -> list[np.ndarray]:
    """By PyTorch, as it translates elsewhere."""
    picture, *style = map(torch.from_numpy, inputs)
    with torch.inference_mode():
        image, logit, heatmap = model.generator(direction)(picture * 2 - 1, *style)
    return [(image.numpy() + 1) / 2, *(one.numpy() for one in (heatmap, logit) if one is not None)]


def pictures(count: int, height: int, width: int) -> np.ndarray:
    return check.pictures(count, height, width, seed=7).numpy()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_does_what_pytorch_does_at_any_size_and_says_where_it_looks(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    model, path = made(tmp_path / "model", config), tmp_path / "file.onnx"
    way = config.directions[-1]
    maps = config.lacks("generator") is None
    export_model(str(model.path), model, ExportOptions(path, direction=way, maps=maps))
    for size in ((2, 16, 16), (1, 40, 24), (3, 20, 64)) if config.light else ((1, 16, 16), (3, 16, 16)):
        batch = pictures(*size)
        style = [np.random.default_rng(0).normal(size=(len(batch), config.style_size)).astype(np.float32)]
        given = [batch, *(style if config.style_size else [])]
        found, wanted = outputs_of(path, *given), expected(model, *given, direction=way)
        assert len(found) == (len(wanted) if maps else 1)
        for one, other in zip(found, wanted, strict=False):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["ugatit", "munit"])
def test_torchscript_does_the_same_and_names_no_device(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    model, path = made(tmp_path / "model", config), tmp_path / "file.pt"
    export_model(str(model.path), model, ExportOptions(path, "torchscript"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # that TorchScript is an old means
        kept = {KEY: ""}
        loaded = torch.jit.load(path, _extra_files=kept)  # type: ignore[no-untyped-call]
    batch = pictures(3, 20, 64)
    style = [np.ones((3, config.style_size), np.float32)] if config.style_size else []
    found = loaded(*map(torch.from_numpy, [batch, *style])).numpy()
    np.testing.assert_allclose(found, expected(model, batch, *style)[0], rtol=1e-3, atol=1e-4)
    assert Description.read(kept[KEY], "it").networks == config
    assert "cpu" not in str(loaded.inlined_graph).replace("device=cpu", "")
    for use in (lambda: open_model(path), lambda: convert([path], tmp_path / "out")):
        with pytest.raises(ModelError, match=r"file\.pt: a program of TorchScript") as caught:
            use()
        assert "ugatit convert" not in caught.value.hint  # which refuses it


def test_fp16_files_are_half_as_large_and_take_and_give_float32(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIGS["ugatit"], channels=32)
    model = made(tmp_path / "model", config)
    kinds: list[FilePrecision] = ["fp32", "fp16"]
    whole, half = (
        export_model(str(model.path), model, ExportOptions(tmp_path / f"{one}.onnx", precision=one)) for one in kinds
    )
    assert half.bytes < 0.56 * whole.bytes
    assert whole.difference.levels < 0.01 < half.difference.levels < 4
    batch = pictures(1, 24, 20)
    (found,) = outputs_of(half.path, batch)
    assert found.dtype == np.float32
    assert abs(found - expected(model, batch)[0]).max() < 4 / 255


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    model, path = made(tmp_path / "model"), tmp_path / "file.onnx"
    options = ExportOptions(path, direction="b2a", size=(48, 32), maps=True)
    export_model(str(model.path), model, options)
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    facts = {one.key: one.value for one in file.metadata_props}
    assert (facts["domains"], facts["licence"]) == ("flat <-> clay", "not stated")
    said = Description.read(facts[KEY], "it")
    assert said == Description(
        str(model.path),
        "b2a",
        said.config,
        "fp32",
        (48, 32),
        maps=True,
        sha256=model.hashes["model.safetensors"],
        provenance={},
    )
    assert said.networks == model.config
    shapes = {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in [*file.graph.input, *file.graph.output]
    }
    assert shapes == {
        "picture": ["batch", 3, 48, 32],
        "translation": ["batch", 3, 48, 32],
        "heatmap": ["batch", 1, 12, 8],
        "cam_logit": ["batch", 2],
    }


@pytest.mark.parametrize(
    ("text", "words"), [(None, "export"), ("{", "damaged"), ('{"format": 2}', "another version")]
)
def test_other_files_are_told(text: str | None, words: str) -> None:
    with pytest.raises(ModelError, match=f"x.onnx.*{words}"):
        Description.read(text, "x.onnx")


RUN = """
import sys
import numpy as np, onnxruntime
for path in sys.argv[1:]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in ((1, 16, 16), (2, 36, 20)):
        session.run(None, {"picture": np.zeros((size[0], 3, *size[1:]), np.float32)})
assert "torch" not in sys.modules
"""


def test_onnxruntime_has_nothing_to_warn_of(tmp_path: Path) -> None:
    model = made(tmp_path / "model", CONFIGS["ugatit"])
    kinds: dict[str, FilePrecision] = {"whole.onnx": "fp32", "half.onnx": "fp16"}
    for name, precision in kinds.items():
        export_model(str(model.path), model, ExportOptions(tmp_path / name, precision=precision, maps=True))
    done = subprocess.run(
        [sys.executable, "-c", RUN, *kinds], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    # What it says of the machine, when it is imported, isn't about the file.
    said = [line for line in done.stderr.splitlines() if "device_discovery" not in line]
    assert said == []


# --- What is refused -----------------------------------------------------------------------------------


def test_a_file_that_does_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(tmp_path / "model")

    def off(*arguments: Any) -> Any:
        with torch.no_grad():
            arguments[0].generator.to_rgb.weight.mul_(1.5)
        return network.traced(*arguments)

    monkeypatch.setattr(exporting, "traced", off)
    kinds: dict[str, FileFormat] = {"x.onnx": "onnx", "x.pt": "torchscript"}
    for name, kind in kinds.items():
        with pytest.raises(ModelError, match="isn't the same model"):
            export_model(str(model.path), model, ExportOptions(tmp_path / "out" / name, kind))
    assert not (tmp_path / "out").exists()


def test_results_that_are_no_numbers_are_a_difference() -> None:
    for wrong in (check.Difference(float("nan"), 0, 3), check.Difference(0, float("nan"), 3)):
        with pytest.raises(ModelError):
            check.require(wrong, "fp16", "it")


def test_an_existing_file_is_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    model, path = made(tmp_path / "model", tiny.CYCLEGAN), tmp_path / "x.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        export_model(str(model.path), model, ExportOptions(path))
    assert path.read_bytes() == b"mine"
    assert export_model(str(model.path), model, ExportOptions(path, overwrite=True)).bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        (tiny.LIGHT, {"size": (30, 32)}, "multiples of 4"),
        (tiny.LIGHT, {"size": (12, 32)}, "multiples of 4"),
        (tiny.FULL, {"size": (64, 64)}, "32x32 only"),
        (tiny.CYCLEGAN, {"maps": True}, "no attention"),
        (tiny.LIGHT, {"file_format": "torchscript"}, "files end in .pt"),
        (tiny.LIGHT, {"file_format": "torchscript", "output": None}, "needs a name"),
        (tiny.LIGHT, {"file_format": "torchscript", "output": Path("x.pt"), "size": (32, 32)}, "no size"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    config: BaseConfig, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    model = made(tmp_path / "model", config)
    with pytest.raises(UsageError, match=words):
        export_model("it", model, ExportOptions(**{"output": tmp_path / "x.onnx", **options}))


def test_weights_that_no_file_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugatit_cli.exporting.onnx_graph.MOST", 1000)
    model = made(tmp_path / "model")
    with pytest.raises(ModelError, match="2 GB") as caught:
        export_model(str(model.path), model, ExportOptions(tmp_path / "x.onnx"))
    assert "fp16" in caught.value.hint


def test_a_missing_package_is_named_with_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(tmp_path / "model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(UsageError, match="onnx") as caught:
        export_model("it", model, ExportOptions(tmp_path / "x.onnx"))
    assert caught.value.hint == "pip install onnx onnxruntime"


# --- From Python, and without a name -------------------------------------------------------------------


def test_from_python_and_where_a_file_without_a_name_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "home"))
    folder = tiny.save(tmp_path / "model", tiny.CYCLEGAN)
    for size in ("48x32", (48, 32)):
        path = ugatit_cli.export(folder, to="flat", size=size, format="onnx", overwrite=True)
    assert path == exported(folder, "b2a")
    assert outputs_of(path, pictures(1, 32, 48))[0].shape == (1, 3, 32, 48)
    assert path != exported(folder, "a2b")
    assert exported(tiny.save(tmp_path / "other"), "b2a") != path
    with pytest.raises(UsageError, match="only, not back"):
        ugatit_cli.export(tiny.save(tmp_path / "one", tiny.ONE_WAY), tmp_path / "x.onnx", direction="b2a")


def test_pictures_it_is_tried_with_are_like_photographs() -> None:
    found = check.pictures(2, 64, 96, seed=1)
    assert found.shape == (2, 3, 64, 96)
    assert 0 <= found.min() < 0.1 < 0.9 < found.max() <= 1
    neighbours = np.corrcoef(found[..., 1:].flatten().numpy(), found[..., :-1].flatten().numpy())[0, 1]
    assert 0.6 < neighbours < 0.99

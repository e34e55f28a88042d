"""What the public Python interface is given by mistake: it works as meant, or is an error that names the argument."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

import ugatit_cli
from tests import clips, onnx_files, tiny
from tests.evaluations import save_pictures
from tests.helpers import picture
from ugatit_cli import DeviceError, UgatitError, UsageError
from ugatit_cli.arguments import Checked, checked
from ugatit_cli.attention.maps import AttentionMap
from ugatit_cli.faces.detector import Face
from ugatit_cli.fields import Range
from ugatit_cli.methods.configs import MUNITConfig
from ugatit_cli.pictures.geometry import Geometry
from ugatit_cli.pictures.reading import Frame
from ugatit_cli.weights.folder import open_model

NOTHING = object()
NONSENSE = [
    None, "", "nosuch", "a\0b", -1, 0, 3, True, math.nan, math.inf, 1e9, 10**400, np.float32(0.5), np.int64(7),
    np.zeros((2, 2)), Path("nosuch"), b"bytes", [], (), {}, [None], [1, 2, 3, "x"], {"a": None}, NOTHING,
]  # fmt: skip


def test_what_a_signature_says_is_what_a_function_gets() -> None:
    def function(
        share: Annotated[float, Range(0, 1)] = 0.0,
        count: Annotated[int | None, Range(1, 9)] = None,
        kind: Literal["a", "b"] = "a",
        way: Annotated[Literal["a", "b"], Checked(str)] = "a",
        size: Annotated[tuple[int, int], Range(1, 64)] | None = None,
        flag: bool = False,
        several: Annotated[Sequence[int], "numbers"] = (),
        **others: int,
    ) -> list[Any]:
        return [share, count, kind, way, size, flag, several, *others.values()]

    given: Any = checked(function)
    numbers: dict[str, Any] = {
        "share": np.float32(0.5),
        "count": 3.0,
        "size": np.array([3, 4]),
        "flag": np.bool_(True),
    }
    for name, value, meant in zip(numbers, numbers.values(), (0.5, 3, (3, 4), True), strict=True):
        (found,) = (one for one in given(**{name: value}) if one not in given())
        assert found == meant
        assert type(found) is type(meant)
    assert given(1, torch.tensor(7), "b", "c", [1, 2], 1, [5], x="y") == [1.0, 7, "b", "c", (1, 2), True, [5], "y"]
    wrong: list[tuple[str, Any]] = [("share", 2), ("share", math.nan), ("count", 10), ("kind", "c"), ("size", (0, 3))]
    for name, value in wrong:
        with pytest.raises(UsageError, match=f"^{name} is "):
            given(**{name: value})
    types: list[tuple[str, Any]] = [
        ("share", "x"),
        ("share", True),
        ("count", 1.5),
        ("way", 3),
        ("size", (1, 2, 3)),
        ("flag", "no"),
    ]
    for name, value in [*types, ("several", "12"), ("size", 5)]:
        with pytest.raises(TypeError, match=f"^{name} is ") as caught:
            given(**{name: value})
        assert isinstance(caught.value, UsageError)


# --- Every public signature ----------------------------------------------------------------------------


def public() -> Iterator[tuple[str, inspect.Signature]]:
    """Whatever is public, and the methods of what that returns; not what nobody is to make."""
    found = {"AttentionMap": AttentionMap, **{name: getattr(ugatit_cli, name) for name in ugatit_cli.__all__}}
    for name, one in found.items():
        if isinstance(one, str) or (isinstance(one, type) and issubclass(one, Exception)):
            continue
        if name not in ("AttentionMap", "AttentionMaps"):
            yield name, inspect.signature(one)
        for method, member in inspect.getmembers(one, callable) if isinstance(one, type) else ():
            if method[0] != "_" or method == "__call__":
                yield f"{name}.{method}", inspect.signature(member)


def parameters() -> Iterator[tuple[str, str]]:
    """All of them."""
    for path, signature in public():
        for one in signature.parameters.values():
            if one.name != "self" and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                yield path, one.name


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the methods are of, by the names of their classes; of those for styles, a model that has some."""
    folder = tmp_path_factory.mktemp("arguments")
    model = ugatit_cli.load(tiny.save(folder / "tiny", discriminators=True), device="cpu", precision="fp32")
    exported = onnx_files.inverting(folder / "tiny.onnx", onnx_files.described(maps=True))
    styled = ugatit_cli.new(MUNITConfig("flat", "clay", 32, channels=4, blocks=1), device="cpu", precision="fp32")
    seen, mask = model.attention_maps(picture(32, 32)), folder / "mask.png"
    Image.new("L", (32, 32), 255).save(mask)
    return {
        "": ugatit_cli,
        "folder": folder,
        "Model": model,
        "Model.style": styled,
        "Model.style_encoder": styled,
        "ExportedModel": ugatit_cli.load_exported(exported),
        "ModelConfig": tiny.LIGHT,
        "AttentionMaps": seen,
        "AttentionMap": seen.maps[0]["generator"],
        "Region": ugatit_cli.Region((8, 8), (4, 4)),
        "BoxFinder": ugatit_cli.BoxFinder.parse("1,1,16,16"),
        "FaceFinder": ugatit_cli.FaceFinder(),
        "MaskFinder": ugatit_cli.MaskFinder(mask),
    }


@pytest.fixture(scope="module")
def arguments(owners: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Arguments without a default, by the function's name, or ("") for all."""
    folder, model = owners["folder"], owners["Model"]
    for name in ("source", "examples", "one", "two"):
        save_pictures(folder / name, 2)
    pictures = {"1": {"picture": "1", "results": {"x": "one", "y": "two"}}}
    key = {"format": "ugatit study key 1", "study": "1", "methods": ["one", "two"], "pictures": pictures}
    (folder / "key.json").write_text(json.dumps(key))
    network = Geometry((32, 32), (32, 32), (32, 32))
    return {
        "": {
            "image": picture(32, 32),
            "images": picture(32, 32),
            "direction": "a2b",
            "domain": "a",
            "scale": "local",
            "name": "generator",
            "index": 0,
            "count": 1,
            "centre": (8, 8),
            "size": (4, 4),
            "frame": Frame(picture(32, 32), None),
            "source": None,
            "text": "1,1,16,16",
            "config": tiny.LIGHT,
            **dict.fromkeys(("make_generator", "make_discriminator", "make_style_encoder"), print),
            "face": Face((8, 8, 24, 24), 0.9, np.ones((5, 2), np.float32)),
            "angle": 0.0,
            "path": folder / "mask.png",
            "box": ((0, False), (0, False), (8, False), (8, False)),
            "file": folder / "tiny.onnx",
            "batch": [np.zeros((32, 32, 3), np.uint8)],
            "geometry": network,
            "answers": [folder / "key.json"],
        },
        "ExportedModel": {"model": folder / "tiny.onnx"},
        "Model.from_folder": {"folder": open_model(folder / "tiny")},
        "ModelConfig.direction_to": {"domain": "clay"},
        "ModelConfig.usual_discriminator_channels": {"channels": 8},
        "Model.discriminator": {"scale": "local"},
        "export": {"model": folder / "tiny", "output": folder / "o.onnx", "overwrite": True},
        "load": {"model": folder / "tiny"},
        "make_study": {
            "page": folder / "study.html",
            "results": {"one": folder / "one", "two": model},
            "overwrite": True,
            "source": folder / "source",
            "examples": folder / "examples",
        },
        "new": {"config": tiny.LIGHT},
        "translate_film": {
            "model": model,
            "source": clips.make(folder / "film.mp4", 2),
            "output": folder / "to.mp4",
            "overwrite": True,
        },
    }


Good = Callable[[str], tuple[Callable[..., Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def good(owners: dict[str, Any], arguments: dict[str, dict[str, Any]]) -> Good:
    """A call that works of the function of a name."""

    def found(path: str) -> tuple[Callable[..., Any], dict[str, Any]]:
        kind, _, method = path.rpartition(".")
        call = getattr(owners[path if kind and path in owners else kind], method)
        needed = {one.name for one in inspect.signature(call).parameters.values() if one.default is one.empty}
        return call, {key: value for key, value in arguments[""].items() if key in needed} | arguments.get(path, {})

    return found


@pytest.mark.parametrize("path", sorted({path for path, _ in parameters()}))
def test_what_is_as_it_should_be_works(path: str, good: Good, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    call, arguments = good(path)
    call(**arguments)


@pytest.mark.parametrize(("path", "name"), list(parameters()))
def test_any_argument_works_or_is_an_error_that_names_it(
    path: str, name: str, good: Good, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    call, arguments = good(path)
    for value in NONSENSE:
        error = refusal(call, arguments | {name: value})
        if isinstance(error, UsageError) and not isinstance(error, DeviceError):
            text = f"{error.message} {error.hint}"
            assert name in text or (str(value) or "''") in text, value
        assert error is not None or value is not NOTHING


def refusal(call: Callable[..., Any], arguments: dict[str, Any]) -> UgatitError | None:
    try:
        call(**arguments)
    except UgatitError as error:
        return error
    return None

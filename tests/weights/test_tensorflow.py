"""Import of the official TensorFlow code's checkpoints: its variables, the settings they tell, and what is none."""

from __future__ import annotations

import functools
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import GOLDEN
from tests.tensor_bundle_writer import Array, message, number, table, write_bundle
from ugatit_cli.config import DOMAINS, SCALES, ModelConfig, Variant
from ugatit_cli.errors import ModelError
from ugatit_cli.methods.base import OfficialSettings
from ugatit_cli.weights.official import convert
from ugatit_cli.weights.tensorflow import TensorBundle, Variable, checkpoint_prefix, import_checkpoint

SIDE = 24
SMOOTH = "UGATIT_{}cats_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing"
ROUGH = "UGATIT_{}cats_lsgan_4resblock_6dis_1_1_10_10_1000_sn"

Variables = Mapping[str, Array]


@functools.cache
def random_variables(variant: Variant, *, channels: int = 4) -> Variables:
    """Random values of a sensible magnitude, and what else lies in such a file: optimizer slots, all NaN.

    Names and shapes are the official ones, as recorded at 64 channels and 256 pixels, made smaller.
    """
    official = json.loads((GOLDEN / f"tf/keys_tf_{variant}_ch64_256.json").read_text())
    source = np.random.default_rng(0)
    values: dict[str, Array] = {}
    for name, entry in official.items():
        shape = [size if size % 64 else size * channels // 64 for size in entry["shape"]]
        if variant == "full" and name.endswith("MLP/linear_0/dense/kernel"):
            shape[0] = shape[0] * (SIDE // 4) ** 2 // 64**2
        noise = source.normal(size=shape)
        if name.endswith("/rho"):
            value = source.uniform(size=shape)
        elif name.endswith("/gamma"):
            value = 1 + 0.3 * noise
        elif name.endswith("/kernel"):
            value = noise * math.sqrt(2 / np.prod(shape[:-1]))
        else:
            value = noise if name.endswith("/u") else 0.3 * noise
        values[name] = value.astype("f4")
    for name in list(values):
        if not name.endswith("/u"):
            values |= {f"{name}/Adam": np.full_like(values[name], np.nan), f"{name}/Adam_1": np.full(1, np.nan)}
    return values | {"beta1_power": np.array(0.5, "f4"), "beta2_power_1": np.array(0.9, "f4")}


# The official graph, in NCHW.


class Graph:
    """Layers that take their variables by TensorFlow's names."""

    def __init__(self, variables: Variables, scope: str) -> None:
        self.variables, self.scope = variables, scope

    def get(self, name: str) -> Tensor:
        return torch.from_numpy(self.variables[f"{self.scope}/{name}"])

    def conv(self, x: Tensor, name: str, before: int, behind: int, stride: int = 1) -> Tensor:
        x = F.pad(x, (before, behind, before, behind), mode="reflect") if before + behind else x
        kernel = self.kernel(name).permute(3, 2, 0, 1)
        return F.conv2d(x, kernel, self.get(f"{name}/bias"), stride)

    def kernel(self, name: str) -> Tensor:
        kernel = self.get(f"{name}/kernel")
        if f"{self.scope}/{name}/u" not in self.variables:
            return kernel
        # spectral_norm: one power iteration in every forward pass.
        matrix = kernel.reshape(-1, kernel.shape[-1])
        v = F.normalize(self.get(f"{name}/u") @ matrix.T)
        u = F.normalize(v @ matrix)
        return kernel / (v @ matrix @ u.T)[0, 0]

    def cam(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        kernel, bias = self.kernel("CAM_logit"), self.get("CAM_logit/bias")
        logits = torch.cat([x.mean((2, 3)) @ kernel + bias, x.amax((2, 3)) @ kernel + bias], 1)
        attention = (kernel + bias).reshape(1, -1, 1, 1)
        x = activation(self.conv(torch.cat([x * attention, x * attention], 1), "conv_1x1/conv2d", 0, 0))
        return x, logits, x.sum(1, keepdim=True)


def tf_discriminator(variables: Variables, scope: str, strided: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    g = Graph(variables, scope)
    for i in range(strided):
        x = F.leaky_relu(g.conv(x, f"conv_{i}", 1, 1, 2), 0.2)
    x = F.leaky_relu(g.conv(x, "conv_last", 1, 2), 0.2)
    x, logits, heatmap = g.cam(x, lambda x: F.leaky_relu(x, 0.2))
    return g.conv(x, "D_logit", 1, 2), logits, heatmap


def write(folder: Path, variables: Variables, name: str = "UGATIT.model-1000000") -> Path:
    """An official checkpoint folder."""
    write_bundle(folder / name, variables)
    (folder / "checkpoint").write_text(
        f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n', encoding="utf-8"
    )
    return folder


def drop(variables: Variables, pattern: str) -> dict[str, Array]:
    return {name: value for name, value in variables.items() if not re.search(pattern, name)}


@pytest.mark.parametrize("smoothing", [True, False])
@pytest.mark.parametrize("variant", get_args(Variant))
def test_settings_are_inferred(tmp_path: Path, variant: Variant, smoothing: bool) -> None:
    """What generators compute is compared in tests/test_golden.py."""
    name = (SMOOTH if smoothing else ROUGH).format("light_" if variant == "light" else "")
    folder = write(tmp_path / name, drop(random_variables(variant), "Adam"))
    imported = import_checkpoint(folder, OfficialSettings(domains=("cat", "dog")))
    rest: dict[str, Any] = {"channels": 4, "blocks": 4, "discriminator_channels": 4, "local_layers": 5}
    rest |= {"global_layers": 7, "variant": variant, "dialect": "tensorflow", "rho_smoothing": smoothing}
    expected = ModelConfig("cat", "dog", 256 if variant == "light" else SIDE, **rest)
    assert imported.config == expected
    assert len(imported.notes) == (1 if variant == "light" else 0)


def test_discriminators_compute_what_the_graph_computes(tmp_path: Path) -> None:
    variables = random_variables("light")
    model, _ = convert([write(tmp_path / ROUGH.format("light_"), variables)], tmp_path / "out")
    x = 2 * torch.rand(2, 3, 128, 104, generator=torch.Generator().manual_seed(0)) - 1
    for domain in DOMAINS:
        for scale in SCALES:
            scope, strided = f"discriminator_{domain.upper()}/{scale}", 3 if scale == "local" else 5
            with torch.no_grad():
                logit, cam_logit, heatmap = model.discriminator(domain, scale)(x)
            assert cam_logit is not None
            assert heatmap is not None
            assert logit.shape[2:] == (128 // 2**strided, 104 // 2**strided)
            expected = tf_discriminator(variables, scope, strided, x)
            torch.testing.assert_close((logit, cam_logit, heatmap), expected, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = write(tmp_path / SMOOTH.format(""), random_variables("full"))
    exact = import_checkpoint(folder, OfficialSettings())
    imported = import_checkpoint(folder, OfficialSettings(), dtype=dtype)
    assert exact.critics is not None
    assert imported.critics is not None
    for tensors, others in ((imported.translators, exact.translators), (imported.critics, exact.critics)):
        for name, tensor in tensors.items():
            assert tensor.dtype == (dtype if tensor.ndim > 1 else torch.float32), name
            assert tensor.is_contiguous()
            if not name.endswith((".u", ".v")):
                assert torch.equal(tensor, others[name].to(tensor.dtype)), name
    if dtype == torch.float16:
        kernel = "generator_A/G_logit/conv2d/kernel"
        variables = random_variables("full")
        large = np.full_like(variables[kernel], 1e6)
        with pytest.raises(ModelError, match="fp16"):
            convert([write(folder, {**variables, kernel: large})], tmp_path / "out", storage="fp16")


# Where the checkpoint is, and what its name tells


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkpoint of the light variant, without smoothing."""
    return write(
        tmp_path / ROUGH.format("light_"), drop(random_variables("light", channels=1), "Adam"), "UGATIT.model-7"
    )


def test_every_way_to_name_a_checkpoint(folder: Path) -> None:
    assert checkpoint_prefix(folder / "UGATIT.model-7.meta") == folder / "UGATIT.model-7"
    for name in ("", "UGATIT.model-7.index", "UGATIT.model-7", "UGATIT.model-7.data-00000-of-00001"):
        model, _ = convert([folder / name], folder / "out", overwrite=True)
        assert model.config.channels == 1
        assert model.provenance["imported_from"] == "UGATIT.model-7.data-00000-of-00001"
        assert model.provenance["code"] == "official TensorFlow code"


def test_the_folder_name_tells_smoothing_from_inside_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in (".", "UGATIT.model-7.index"):
        assert not import_checkpoint(Path(name), OfficialSettings()).config.to_dict()["rho_smoothing"]


def test_several_checkpoints(folder: Path) -> None:
    write_bundle(folder / "UGATIT.model-9", {})
    # The `checkpoint` file names the latest.
    assert checkpoint_prefix(folder).name == "UGATIT.model-7"
    for text in ("", 'model_checkpoint_path: "gone"\n', 'all_model_checkpoint_paths: "UGATIT.model-7"\n'):
        (folder / "checkpoint").write_text(text)
        with pytest.raises(ModelError, match=f"{folder}: "):
            checkpoint_prefix(folder)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/authors/UGATIT/UGATIT.model-9"\n')
    assert checkpoint_prefix(folder).name == "UGATIT.model-9"
    windows = (
        'model_checkpoint_path: "C:\\\\me\\\\UGATIT.model-9"\nall_model_checkpoint_paths: "D:\\\\UGATIT.model-7"\n'
    )
    (folder / "checkpoint").write_text(windows)
    assert checkpoint_prefix(folder).name == "UGATIT.model-9"
    (folder / "checkpoint").unlink()
    (folder / "UGATIT.model-9.index").unlink()
    assert checkpoint_prefix(folder).name == "UGATIT.model-7"


def test_smoothing_that_nothing_tells(folder: Path) -> None:
    renamed = folder.rename(folder.with_name("weights"))
    settings = OfficialSettings(image_size=128)
    imported = import_checkpoint(renamed, settings)
    assert imported.config.to_dict()["rho_smoothing"]
    assert imported.config.image_size == 128
    assert ["--no-smoothing" in note for note in imported.notes] == [True]
    imported = import_checkpoint(renamed, OfficialSettings(image_size=128, rho_smoothing=False))
    assert not imported.config.to_dict()["rho_smoothing"]
    assert imported.notes == ()
    again = renamed.rename(folder.with_name(SMOOTH.format("light_") + " (1)"))  # as browsers call it
    assert import_checkpoint(again, settings).config.to_dict()["rho_smoothing"]


@pytest.mark.parametrize("name", ["generator_A/extra/kernel", "discriminator_B/local/conv_9/u"])
def test_a_variable_that_is_not_known_is_an_error(tmp_path: Path, name: str) -> None:
    variables = drop(random_variables("light", channels=1), "Adam")
    path = write(tmp_path / "x_4resblock_6dis_1_1", variables | {name: np.ones(3, "f4")})
    with pytest.raises(ModelError, match=f"{path}.*{name}"):
        convert([path], tmp_path / "out")


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_a_pointer_in_place_of_a_file(folder: Path, suffix: str) -> None:
    path = folder / f"UGATIT.model-7{suffix}"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 7\n")
    with pytest.raises(ModelError, match=f"{path}: a Git LFS pointer"):
        import_checkpoint(folder, OfficialSettings())


def test_discriminators_without_spectral_norm_are_dropped(tmp_path: Path) -> None:
    variables = drop(random_variables("light", channels=1), r"Adam|/u$")
    model, notes = convert([write(tmp_path / "x_4resblock_6dis_1_1", variables)], tmp_path / "out")
    assert model.discriminators is None
    assert any("discriminators" in note for note in notes)
    variables = drop(variables, "discriminator")
    imported = import_checkpoint(write(tmp_path / "y_4resblock_6dis_1_1", variables), OfficialSettings())
    assert imported.critics is None


# Checkpoints that are not U-GAT-IT's, or damaged

SHAPES = [(), (4,), (1, 1), (7, 7, 3, 0), (7, 7, 3, 2), (7, 7, 3, 5000), (3, 7, 7, 3, 1)]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("generator_B/conv/conv2d/kernel", shape) for shape in (*SHAPES, None)),
        *(("generator_B/MLP/linear_0/dense/kernel", shape) for shape in (*SHAPES, (32, 4), (4 * 35, 4), None)),
        *(("discriminator_A/local/conv_0/kernel", shape) for shape in SHAPES),
        ("generator_A/conv/conv2d/kernel", (7, 7, 3, 2)),  # another width than the other one's
        ("generator_A/G_logit/conv2d/bias", None),
        ("discriminator_B/global/CAM_logit/u", None),
        ("discriminator_A/local/D_logit/kernel", None),
    ],
    ids=str,
)
def test_missing_variables_and_wrong_shapes_are_one_error(
    tmp_path: Path, name: str, shape: tuple[int, ...] | None
) -> None:
    variables = drop(random_variables("light", channels=1), f"Adam|^{name}$")
    write(tmp_path / "m", variables | ({} if shape is None else {name: np.ones(shape, "f4")}))
    with pytest.raises(ModelError, match=str(tmp_path / "m" / "UGATIT.model-1000000")) as caught:
        convert([tmp_path / "m"], tmp_path / "out")
    assert shape is not None or f"'{name}'" in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


# --- The format of the files ----------------------------------------------------------------------------

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
            assert bundle.variables[name].shape == array.shape
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


HEADER = (b"", number(1, 1))
INDICES: dict[str, Callable[[bytes], bytes]] = {
    "compressed": lambda _: table([HEADER], compression=1),
    "no header": lambda _: table([(b"a", number(1, 1))]),
    "a footer alone": lambda data: bytes(40) + data[-8:],
    "zeros and a footer": lambda data: bytes(60) + data[-8:],
    **{f"cut at {n}": itemgetter(slice(n)) for n in (0, 1, 47, 48, 100, -1, -48)},
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_that_is_none(prefix: Path, name: str) -> None:
    path = prefix.with_name("model-7.index")
    path.write_bytes(INDICES[name](path.read_bytes()))
    with pytest.raises(ModelError, match=f"{path}: "):
        TensorBundle(prefix)


def test_what_cannot_be_read_of_a_bundle(prefix: Path) -> None:
    data = prefix.with_name("model-7.data-00000-of-00001")
    bundle = TensorBundle(prefix)
    with pytest.raises(KeyError, match="c"):
        bundle.tensor("c")
    with pytest.raises(ModelError, match=r"model-7\.index: b/int"):
        bundle.tensor("b/int")
    data.write_bytes(data.read_bytes()[:-1])
    np.testing.assert_array_equal(bundle.tensor("a"), np.arange(6).reshape(2, 3))
    with pytest.raises(ModelError, match=f"{data}: .*z"):
        bundle.tensor("z")
    data.unlink()
    with pytest.raises(ModelError, match=f"{data}: "):
        bundle.tensor("a")


@pytest.mark.parametrize("sizes", [(7,), (2, 2), (2**63,), (2**64 - 1, 3), (2**32, 2**32), (0,)], ids=str)
def test_size_and_shape_do_not_agree(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    shape = b"".join(message(2, number(1, size)) for size in sizes)
    entry = number(1, 1) + message(2, shape) + number(5, 24)
    (tmp_path / "m.index").write_bytes(table([HEADER, (b"a", entry)]))
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(24))
    bundle = TensorBundle(tmp_path / "m")
    assert bundle.variables["a"] == Variable(1, sizes, 0, 0, 24, 0)
    with pytest.raises(ModelError, match=r"m\.index: a: "):
        bundle.tensor("a")


@settings(max_examples=150)
@given(garbage=st.binary(max_size=200))
def test_garbage(garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "m"
        footer = bytes(40) + bytes.fromhex("57fb808b247547db")
        for content in (garbage, garbage + footer, bytes(20) + garbage[:40].ljust(40, b"\0") + footer[40:]):
            prefix.with_name("m.index").write_bytes(content)
            with pytest.raises(ModelError, match=r"m\.index: "):
                TensorBundle(prefix)

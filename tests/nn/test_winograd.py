"""Convolutions by Winograd's algorithm equal the plain ones, whatever becomes of their weights."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ugatit_cli import device
from ugatit_cli.nn import winograd
from ugatit_cli.nn.layers import ReflectConv2d, UpsampleConv2d, ZeroConv2d, evaluating, padding

CHANNELS = winograd.FEWEST_CHANNELS


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few channels and tiles, where the algorithm is used at all."""
    for least in (name for name in vars(winograd) if name.startswith("FEWEST_")):
        monkeypatch.setattr(winograd, least, 1)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)


Kind = Literal["reflect", "zeros", "replicate", "doubling"]
KINDS = get_args(Kind)


def plain(x: Tensor, weight: Tensor, bias: Tensor | None, kind: Kind) -> Tensor:
    if kind == "doubling":
        return plain(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, "reflect")
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="constant" if kind == "zeros" else kind), weight, bias)


def layer(channels: int = 4, *, bias: bool = False, kind: Kind = "reflect") -> ReflectConv2d:
    conv: nn.Module
    if kind == "doubling":
        conv = UpsampleConv2d(channels, channels, bias=bias)
    elif kind == "reflect":
        conv = ReflectConv2d(channels, channels, 3, pad=padding(1), bias=bias)
    else:
        conv = ZeroConv2d(channels, channels, 3, pad=1, bias=bias)
    return conv.eval().to(memory_format=torch.channels_last)  # type: ignore[return-value]


def expected(conv: ReflectConv2d, x: Tensor, kind: Kind = "reflect") -> Tensor:
    return plain(x, conv.weight.detach(), None, kind)


def assert_plain(conv: ReflectConv2d, x: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(conv(x), expected(conv, x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 3000, winograd.AT_ONCE])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("pictures", "inputs", "outputs", "height", "width"),
    [(1, 3, 5, 4, 4), (2, 3, 4, 9, 7), (1, 5, 3, 8, 13), (3, 4, 4, 16, 12), (1, 1, 1, 2, 3), (1, 2, 2, 6, 30)],
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_results_and_gradients_in_double_precision(
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    kind: Kind,
    bias: bool,
    pictures: int,
    inputs: int,
    outputs: int,
    height: int,
    width: int,
    channels_last: bool,
) -> None:
    monkeypatch.setattr(winograd, "AT_ONCE", at_once)
    torch.manual_seed(0)
    x = torch.randn(pictures, inputs, height, width, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    leaves = [x.requires_grad_(), torch.randn(outputs, inputs, 3, 3, dtype=torch.float64, requires_grad=True)]
    if bias:
        leaves.append(torch.randn(outputs, dtype=torch.float64, requires_grad=True))
    arguments = leaves[0], leaves[1], leaves[2] if bias else None
    border: winograd.Border = "replicate" if kind == "doubling" else kind
    result = winograd.convolve(*arguments, border=border, filters=None, doubling=kind == "doubling")
    reference = plain(*arguments, kind)
    torch.testing.assert_close(result, reference, rtol=0, atol=1e-12)
    assert result.is_contiguous() == x.is_contiguous()
    grad = torch.randn_like(reference)
    ours, theirs = torch.autograd.grad(result, leaves, grad), torch.autograd.grad(reference, leaves, grad)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["reflect", "zeros", "doubling"])
def test_rounding(kind: Kind) -> None:
    """Result and gradients in float32, in a layer, are within 1e-5 of the largest value of those in float64."""
    torch.manual_seed(0)
    conv = layer(CHANNELS, kind=kind)
    x = torch.randn(1, CHANNELS, 25, 27).relu_().contiguous(memory_format=torch.channels_last).requires_grad_()
    doubles = [one.detach().double().requires_grad_() for one in (x, conv.weight)]
    result, reference = conv(x), plain(doubles[0], doubles[1], None, kind)
    grad = torch.randn_like(result)
    found = [result, *torch.autograd.grad(result, [x, conv.weight], grad)]
    for one, other in zip(found, [reference, *torch.autograd.grad(reference, doubles, grad.double())], strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("needed", ["x", "weight"])
def test_only_what_is_needed_gets_a_gradient(needed: str) -> None:
    conv, x = layer(bias=True), torch.randn(1, 4, 8, 8)
    conv.requires_grad_(needed == "weight")
    conv(x.requires_grad_(needed == "x")).sum().backward()
    for name, leaf in (("x", x), ("weight", conv.weight)):
        assert (leaf.grad is None) == (name != needed)


@pytest.mark.usefixtures("everywhere")
def test_a_checkpointed_block_has_the_same_gradients() -> None:
    conv, x = layer().train(), torch.randn(1, 4, 8, 8, requires_grad=True)
    conv(conv(x)).square().sum().backward()
    wanted = [x.grad, conv.weight.grad]
    x.grad = conv.weight.grad = None
    conv(checkpoint(conv, x, use_reentrant=False)).square().sum().backward()
    assert all(torch.equal(one, other) for one, other in zip(wanted, [x.grad, conv.weight.grad], strict=True))  # type: ignore[arg-type]


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("size", [(8, 8), (7, 8), (8, 7)])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_results_may_be_changed_in_place(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    conv, x = layer(), torch.randn(1, 4, *size).contiguous(memory_format=memory_format).requires_grad_()
    result = conv(x).relu_()
    reference = plain(x, conv.weight, None, "reflect").relu()
    torch.testing.assert_close(result, reference, rtol=0, atol=1e-5)
    grads = [torch.autograd.grad(one.square().sum(), [x, conv.weight]) for one in (result, reference)]
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-4)


def _stepped(conv: ReflectConv2d) -> ReflectConv2d:
    conv.weight.grad = torch.randn_like(conv.weight)
    torch.optim.SGD(conv.parameters(), 0.5).step()
    return conv


def _averaged(conv: ReflectConv2d) -> ReflectConv2d:
    with torch.no_grad():
        torch._foreach_lerp_([conv.weight], [torch.randn_like(conv.weight)], 0.5)
    return conv


def _loaded(assign: bool) -> Callable[[ReflectConv2d], ReflectConv2d]:
    def load(conv: ReflectConv2d) -> ReflectConv2d:
        conv.load_state_dict({"weight": torch.randn_like(conv.weight)}, assign=assign)
        return conv

    return load


def _copied(conv: ReflectConv2d) -> ReflectConv2d:
    return _stepped(copy.deepcopy(conv))


def _pickled(conv: ReflectConv2d) -> ReflectConv2d:
    again: ReflectConv2d = pickle.loads(pickle.dumps(conv))
    return _averaged(again)


CHANGES: dict[str, Callable[[ReflectConv2d], ReflectConv2d]] = {
    "a step of an optimizer": _stepped,
    "a moving average": _averaged,
    "loaded": _loaded(assign=False),
    "exchanged": _loaded(assign=True),
    "rounded": lambda conv: conv.to(torch.bfloat16).to(torch.float32),
    "copied and trained": _copied,
    "pickled": _pickled,
    "trained and used": lambda conv: _stepped(conv.train()).eval(),
}


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_count(change: str) -> None:
    torch.manual_seed(0)
    conv, x = layer(), torch.randn(1, 4, 8, 8)
    conv.weight.data.normal_()
    assert_plain(conv, x)
    changed = CHANGES[change](conv)
    assert_plain(changed, x)
    assert_plain(conv, x)


@pytest.mark.usefixtures("everywhere")
def test_a_layers_state_is_its_weights() -> None:
    conv, x = layer(), torch.randn(1, 4, 8, 8)
    before = pickle.dumps(conv)
    with torch.inference_mode():
        conv(x)
    assert list(conv.state_dict()) == ["weight"]
    assert len(pickle.dumps(conv)) == len(before)
    assert_plain(copy.deepcopy(conv), x)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("end", ["train", "to", "evaluated", "deleted"])
def test_what_is_kept_of_weights_is_freed(end: str) -> None:
    conv, x = layer(), torch.randn(1, 4, 8, 8)
    with evaluating([conv]) if end == "evaluated" else torch.no_grad(), torch.no_grad():
        conv(x)
        kept = weakref.ref(conv._filters.of(conv.weight, winograd.transforms()))
        assert kept() is not None
    if end == "train":
        conv.train()
    elif end == "to":
        conv.to(torch.float64)
    elif end == "deleted":
        del conv
    gc.collect()
    assert kept() is None


def test_a_picture_alone_and_among_others() -> None:
    conv, x = layer(CHANNELS), torch.randn(3, CHANNELS, 16, 20).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(conv(x), torch.cat([conv(one[None]) for one in x]))


@pytest.mark.usefixtures("everywhere")
def test_threads() -> None:
    torch.manual_seed(0)
    conv = layer(8)
    pictures = [torch.randn(1, 8, 12, 8 + 4 * i) for i in range(8)]

    def used(x: Tensor) -> Tensor:
        with torch.inference_mode():
            result: Tensor = conv(x)
            return result

    wanted = [used(x) for x in pictures]
    conv._filters.forget()
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(used, pictures * 4), wanted * 4, strict=True):
            assert torch.equal(one, other)


@pytest.mark.usefixtures("everywhere")
def test_a_large_map_needs_no_more_memory_between_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "AT_ONCE", 10_000)
    monkeypatch.setattr(winograd, "_BUFFERS", winograd._Buffers())
    with torch.inference_mode():
        layer()(torch.randn(1, 4, 256, 64))
    assert len(winograd._BUFFERS.flat) <= 2 * 10_000


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("kind", ["reflect", "doubling"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_are_multiplied_as_ever(monkeypatch: pytest.MonkeyPatch, kind: Kind, dtype: torch.dtype) -> None:
    conv, x = layer(kind=kind).to(dtype), torch.randn(1, 4, 8, 8, dtype=dtype)
    before = winograd._BUFFERS.flat
    monkeypatch.setattr(winograd, "bf16_is_twice_as_fast", lambda: False)
    with torch.no_grad():
        conv(x)
    assert winograd._BUFFERS.flat is before


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("bias", [True, False])
def test_bfloat16_where_it_is_twice_as_fast(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    """Nothing is rounded but the result, and that before the bias; while gradients are computed, all is as ever."""
    torch.manual_seed(0)
    monkeypatch.setattr(winograd, "bf16_is_twice_as_fast", lambda: True)
    conv = layer(bias=bias).bfloat16()
    x = torch.randn(2, 4, 9, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        result, plainly = conv(x), plain(x, conv.weight, conv.bias, "reflect")
        exact = plain(x.double(), conv.weight.double(), None, "reflect")
    learnt = conv(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(learnt, plainly, rtol=0, atol=0)
    wide = exact if conv.bias is None else exact + conv.bias.double()[:, None, None]
    torch.testing.assert_close(result.double(), wide, rtol=2**-8, atol=1e-6)


ZEN4, ZEN5 = "avx2 avx512f avx512_bf16", "avx2 avx512f avx512_bf16 avx_vnni"


@pytest.mark.parametrize(
    ("flags", "bf16", "twice"),
    [(ZEN4, True, True), (ZEN5, True, False), (ZEN4 + " amx_bf16", True, False), ("avx2", False, False)],
)
def test_which_cpus_multiply_bfloat16_twice_as_fast(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, bf16: bool, twice: bool
) -> None:
    monkeypatch.setattr(device, "cpu_has_bf16", lambda _: bf16)
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse\nbugs\t: none\n")
    assert device.bf16_is_twice_as_fast(tmp_path / "cpuinfo") is twice
    assert not device.bf16_is_twice_as_fast(tmp_path / "nowhere")
    assert not device.bf16_is_twice_as_fast(tmp_path)  # can't be read


@pytest.mark.parametrize(("sizes", "found"), [(["48K", "64K", "32768K"], 2**25), (["48K", "?"], 48 * 1024), ([], 0)])
def test_the_largest_cache_is_that_of_linux_or_unknown(tmp_path: Path, sizes: list[str], found: int) -> None:
    """How many tiles are taken at once depends on it."""
    for number, size in enumerate(sizes):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(f"{size}\n")
    (tmp_path / "index9" / "size").mkdir(parents=True)  # can't be read
    assert device.last_cache(tmp_path) == found

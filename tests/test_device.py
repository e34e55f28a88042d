"""Which device and precision a name means on which machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from ugatit_cli import device
from ugatit_cli.device import cpu_has_bf16, peak_memory, resolve_device, resolve_precision
from ugatit_cli.errors import DeviceError, UsageError

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


PROBES = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes torch say that this machine has other hardware; nothing at first."""

    def has(*, gpus: int = 0, capability: object = (9, 0), mps: bool = False, cpu: Sequence[int] = (0, 0)) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        for probe, value in zip(PROBES, cpu, strict=True):
            monkeypatch.setattr(torch.cpu, probe, lambda value=value: value, raising=False)

    has()
    return has


# --- Devices -------------------------------------------------------------------------------------------


def test_auto_takes_the_best_there_is(has: Callable[..., None]) -> None:
    assert resolve_device() == CPU
    has(mps=True)
    assert resolve_device("auto") == torch.device("mps")
    has(gpus=2, mps=True)
    assert resolve_device("auto") == CUDA
    for name in ("cpu", "mps", "cuda", "cuda:0", "cuda:1"):
        assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:300", "cuda:٣", "cpu:0", "cuda:99999999999", " cpu"],
)
def test_unknown_devices(has: Callable[..., None], name: str) -> None:
    has(gpus=64)
    with pytest.raises(UsageError, match=repr(name)) as caught:
        resolve_device(name)
    assert not isinstance(caught.value, DeviceError)


@pytest.mark.parametrize(
    ("gpus", "name"), [(0, "cuda"), (0, "cuda:0"), (0, "cuda:7"), (2, "cuda:2"), (2, "cuda:7"), (0, "mps")]
)
@pytest.mark.parametrize("built", [None, "13.0"])
def test_devices_that_are_not_there(
    has: Callable[..., None], monkeypatch: pytest.MonkeyPatch, built: str | None, gpus: int, name: str
) -> None:
    has(gpus=gpus, mps=name != "mps")
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(DeviceError, match=name if gpus else name.partition(":")[0].upper()):
        resolve_device(name)


# --- Precisions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "capability", "precision"),
    [
        ("cpu", None, "fp32"), ("mps", None, "fp32"), ("cuda", (7, 5), "fp16"), ("cuda", (8, 0), "bf16"),
        ("cuda", (12, 0), "bf16"),
    ],
)  # fmt: skip
def test_the_best_precision(has: Callable[..., None], kind: str, capability: tuple[int, int], precision: str) -> None:
    has(gpus=1, capability=capability)
    assert resolve_precision("auto", torch.device(kind)) == precision


def test_precisions_by_name() -> None:
    for precision in ("fp32", "bf16", "fp16"):
        assert resolve_precision(precision, CUDA) == precision
    for precision in ("fp32", "bf16"):
        assert resolve_precision(precision, CPU) == precision
    for name in ("half", "FP32", "float32", "int8", "fp16"):  # the last is not for CPUs
        with pytest.raises(UsageError, match=name) as caught:
            resolve_precision(name, CPU)
        assert isinstance(caught.value, DeviceError) is (name == "fp16")


@pytest.mark.parametrize(
    ("vendor", "flags", "probes", "fast"),
    [
        ("AuthenticAMD", "avx512_bf16", (False, True), True),  # Zen 4
        ("AuthenticAMD", "avx512_bf16 avx_vnni", (False, True), True),  # Zen 5
        ("GenuineIntel", "avx512_bf16", (False, True), True),  # Cooper Lake
        ("GenuineIntel", "avx512_bf16 avx_vnni amx_bf16", (True, True), True),  # Sapphire Rapids
        ("GenuineIntel", "avx512_bf16 avx_vnni", (False, True), False),  # the same, its AMX hidden
        ("GenuineIntel", "avx_vnni", (False, False), False),
    ],
)
def test_bf16_is_taken_where_it_is_faster(
    has: Callable[..., None], tmp_path: Path, vendor: str, flags: str, probes: tuple[bool, bool], fast: bool
) -> None:
    has(cpu=probes)
    (tmp_path / "cpuinfo").write_text(
        f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags} sse\nbugs\t: none\n"
    )
    assert cpu_has_bf16(tmp_path / "cpuinfo") is fast
    assert cpu_has_bf16(tmp_path / "nowhere") is any(probes)


def test_a_cpu_with_bf16(has: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_told_by_linux", lambda _: "")
    for probes in ((False, False), (True, False), (False, True)):
        has(cpu=probes)
        assert cpu_has_bf16() == any(probes)
        assert resolve_precision("auto", CPU) == ("bf16" if any(probes) else "fp32")
    for probe in PROBES:
        monkeypatch.delattr(torch.cpu, probe, raising=False)
    assert not cpu_has_bf16()  # a torch that can't tell


# --- For people ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells another way too")
def test_memory_of_this_process() -> None:
    said = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert said
    assert peak_memory(CPU) == pytest.approx(1024 * int(said[1]), rel=0.01)

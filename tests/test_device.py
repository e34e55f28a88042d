"""Which device and precision a name means on which machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from ugatit_cli import device
from ugatit_cli.device import cpu_has_bf16, describe_device, peak_memory, resolve_device, resolve_precision
from ugatit_cli.errors import DeviceError

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


class Machine:
    """Makes torch say that this machine has other hardware; nothing at first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.has()

    def has(self, *, gpus: int = 0, capability: tuple[int, int] = (9, 0), mps: bool = False) -> None:
        self.monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        self.monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        self.monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        self.monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


# --- Devices -------------------------------------------------------------------------------------------


def test_auto_takes_the_best_there_is(machine: Machine) -> None:
    assert resolve_device() == CPU
    machine.has(mps=True)
    assert resolve_device("auto") == torch.device("mps")
    machine.has(gpus=1, mps=True)
    assert resolve_device("auto") == CUDA


def test_devices_by_name(machine: Machine) -> None:
    machine.has(gpus=2, mps=True)
    for name in ("cpu", "mps", "cuda", "cuda:0", "cuda:1"):
        assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:300", "cuda:٣", "cpu:0", "cuda:99999999999", " cpu"],
)
def test_unknown_devices(machine: Machine, name: str) -> None:
    machine.has(gpus=64)
    with pytest.raises(DeviceError, match="unknown device") as caught:
        resolve_device(name)
    assert repr(name) in caught.value.message
    assert "cuda:1" in caught.value.hint


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
@pytest.mark.parametrize(("built", "reason"), [(None, "without CUDA"), ("13.0", "finds no GPU")])
def test_cuda_where_there_is_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str, built: str | None, reason: str
) -> None:
    machine.has(mps=True)
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(DeviceError, match=reason) as caught:
        resolve_device(name)
    assert "--device cpu" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_gpu_too_many(machine: Machine) -> None:
    machine.has(gpus=2)
    with pytest.raises(DeviceError, match="no device cuda:7; this machine has 2 CUDA"):
        resolve_device("cuda:7")
    with pytest.raises(DeviceError, match="no device cuda:2"):
        resolve_device("cuda:2")


@pytest.mark.usefixtures("machine")
def test_mps_where_there_is_none() -> None:
    with pytest.raises(DeviceError, match="no MPS"):
        resolve_device("mps")


# --- Precisions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_on_a_cpu(monkeypatch: pytest.MonkeyPatch, bf16: bool, precision: str) -> None:
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: bf16)
    assert resolve_precision("auto", CPU) == precision
    assert resolve_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")]
)
def test_auto_on_a_gpu(machine: Machine, capability: tuple[int, int], precision: str) -> None:
    machine.has(gpus=1, capability=capability)
    assert resolve_precision("auto", CUDA) == precision


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_by_name(precision: str) -> None:
    assert resolve_precision(precision, CUDA) == precision
    if precision != "fp16":
        assert resolve_precision(precision, CPU) == precision


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(DeviceError, match="fp16 is not for CPUs") as caught:
        resolve_precision("fp16", CPU)
    assert "bf16" in caught.value.hint


@pytest.mark.parametrize("name", ["", "half", "FP32", "float32", "int8"])
def test_unknown_precisions(name: str) -> None:
    with pytest.raises(DeviceError, match="unknown precision") as caught:
        resolve_precision(name, CPU)
    assert "bf16" in caught.value.hint


@pytest.mark.parametrize(("amx", "avx512"), [(False, False), (True, False), (False, True)])
def test_a_cpu_with_bf16(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert cpu_has_bf16() == (amx or avx512)


def test_a_torch_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not cpu_has_bf16()


# --- For people ----------------------------------------------------------------------------------------


def test_descriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    assert describe_device(CPU) == "cpu (3 threads)"
    assert describe_device(torch.device("cuda:1")) == "cuda:1 (NVIDIA H100)"
    assert describe_device(torch.device("mps")) == "mps"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells another way too")
def test_memory_of_this_process() -> None:
    said = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert said
    assert peak_memory(CPU) == pytest.approx(1024 * int(said[1]), rel=0.01)

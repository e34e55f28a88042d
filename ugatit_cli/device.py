"""Which device and precision to run on, from what users ask for and what the machine has."""

from __future__ import annotations

import ctypes
import datetime
import functools
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ugatit_cli.config import PRECISIONS, Precision
from ugatit_cli.errors import DeviceError, UsageError

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a name: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` takes CUDA, else MPS, else the CPU.

    Raises:
        UsageError: unknown name.
        DeviceError: a device this machine doesn't have; there is no silent fallback.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return _own(torch.device(best))
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,2})?", name):
        raise UsageError(f"unknown device {name!r}", "Devices are: auto, cpu, cuda, cuda:0, cuda:1, ..., mps.")
    device = torch.device(name)  # of larger numbers torch would keep the last 8 bits
    if device.type == "cuda":
        if not torch.cuda.is_available():
            reason = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no GPU"
            hint = "Use --device cpu, or check the driver with nvidia-smi."
            raise DeviceError(f"no CUDA device here: {reason}", hint)
        if (device.index or 0) >= torch.cuda.device_count():
            raise DeviceError(f"no device {device}; this machine has {torch.cuda.device_count()} CUDA device(s)")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("no MPS device here (it needs a Mac with Apple silicon)", "Use --device auto.")
    return _own(device)


def _own(device: torch.device) -> torch.device:
    """A GPU for each process that a launcher has started on this machine, as far as there are enough."""
    if device != torch.device("cuda") or int(os.environ.get("LOCAL_WORLD_SIZE", "1")) == 1:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The precision of a name on a device.

    `auto`: on CUDA bf16, or fp16 on GPUs older than Ampere; on the CPU bf16 where that is faster (`cpu_has_bf16`);
    else fp32.

    Raises:
        UsageError: unknown name.
        DeviceError: fp16 on a CPU, where it is emulated and hundreds of times slower.
    """
    if name == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"
    for precision in PRECISIONS:
        if name == precision:
            if device.type == "cpu" and precision == "fp16":
                raise DeviceError("fp16 is not for CPUs: they emulate it", "Use --precision bf16 or fp32.")
            return precision
    raise UsageError(f"unknown precision {name!r}", f"Precisions are: auto, {', '.join(PRECISIONS)}.")


CPUINFO = Path("/proc/cpuinfo")


def cpu_has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the CPU multiplies bfloat16 itself (AVX512-BF16 or AMX), and faster than float32.

    Of Intel's CPUs since AVX-VNNI, those with AMX do; where a hypervisor hides AMX, what is left of a Sapphire Rapids
    takes 2.6 times as long for a generator in bfloat16.
    """
    # Named alike since torch 2.6 but not public; a torch without them means fp32, which is always right.
    amx, avx512 = (
        getattr(torch.cpu, probe, lambda: False)()
        for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )
    return amx or (avx512 and not {"GenuineIntel", "avx_vnni"} <= _words_of(cpuinfo))


@functools.cache
def bf16_is_twice_as_fast(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the CPU multiplies bfloat16 itself, but no more than twice as fast as float32.

    That is AVX512-BF16 of CPUs before AVX-VNNI, such as Zen 4; where nobody can tell, it isn't so.
    """
    words = _words_of(cpuinfo)
    return bool(words) and cpu_has_bf16(cpuinfo) and not {"avx_vnni", "amx_bf16"} & words


def _words_of(cpuinfo: Path) -> set[str]:
    """Vendor and flags."""
    lines = re.findall(r"^(?:vendor_id|flags)\s*:(.*)$", _told_by_linux(cpuinfo), re.MULTILINE)
    return set(" ".join(lines).split())


def last_cache(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Bytes of the largest cache of the CPU's first core, as Linux has it; 0 where nobody can tell."""
    texts = [_told_by_linux(path).strip() for path in folder.glob("index*/size")]
    return max((1024 * int(text[:-1]) for text in texts if re.fullmatch(r"\d+K", text)), default=0)


def _told_by_linux(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # elsewhere there is none; a sandbox may hide it
        return ""


def require_compiler(device: torch.device) -> None:
    """Whether networks can be compiled for a device.

    Raises:
        DeviceError: they can't.
    """
    if device.type != "cuda":
        raise DeviceError(f"--compile is for NVIDIA GPUs, not for {device.type}", "Leave it out.")
    if importlib.util.find_spec("triton") is None:
        raise DeviceError("--compile needs Triton, which isn't installed", "pip install triton, or leave it out.")


def is_compiler_error(error: BaseException) -> bool:
    """Whether an exception is that of PyTorch's compiler."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton"))


def describe_device(device: torch.device) -> str:
    """The device for people: `cuda:0 (NVIDIA H100)`, `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})" if device.type == "cpu" else str(device)


def peak_memory(device: torch.device) -> int:
    """Bytes in use at most so far: of the GPU by PyTorch, else of this process; 0 where that isn't known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    if (status := Path("/proc/self/status")).exists():
        # Linux: getrusage counts what the process was before it became this program, too.
        peak = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if peak:
            return 1024 * int(peak[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# Of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
LARGEST_KEPT = 2**25  # the largest M_MMAP_THRESHOLD that every glibc takes


def keep_freed_memory(*, all_sizes: bool = True) -> None:
    """Has glibc keep the memory that PyTorch frees, for its next tensors: fresh pages would have to be cleared.

    Args:
        all_sizes: that of tensors above 32 MiB, too.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_TRIM_THRESHOLD, -1)
        if all_sizes:
            mallopt(M_MMAP_MAX, 0)
        else:
            mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)


# Larger tensors are copied to pinned memory first: from any other, a GPU's driver would copy them while we wait.
STAGED = 65_536


def is_traced() -> bool:
    """Whether what runs becomes a file for other programs: with PyTorch's own layers, for any size and device."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; a GPU isn't waited for: it takes them when it has done what it was told before."""
    if values.device == device:  # a trace, too, then names no device
        return values
    if device.type in ("cpu", "mps") or not values.is_cpu:  # MPS would take them at once, if need be unfinished
        return values.to(device)
    return (values.pin_memory() if values.nbytes > STAGED else values).to(device, non_blocking=True)


class Readback:
    """Tensors on their way from a device to the CPU; a GPU goes on meanwhile.

    Attributes:
        late: whether they are still on their way: from a GPU.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.late = tensors[0].is_cuda
        if not self.late:
            self._host = [tensor.cpu() for tensor in tensors]
            return
        self._host = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
        for host, tensor in zip(self._host, tensors, strict=True):
            host.copy_(tensor, non_blocking=True)
        self._event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record(torch.cuda.current_stream(tensors[0].device))

    def wait(self) -> list[Tensor]:
        """The tensors on the CPU, once they are there."""
        if self.late:
            self._event.synchronize()
        return self._host


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory, of a GPU or of this machine, is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The allocators of the CPU and of MPS have no error class of their own.
    reasons = ("not enough memory", "can't allocate memory", "out of memory")
    return any(reason in str(error) for reason in reasons)


# A process may wait this long for the others: rank 0 writes checkpoints and samples meanwhile.
PATIENCE = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class Group:
    """The processes of a run; by default there is only this one.

    Attributes:
        rank, size: number of this process, of so many; 0 writes all files.
        local_rank: its number on this machine, which is also that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    # Of the last exchange. If gloo's thread were the last to drop a tensor, it would ask for Python's lock, while the
    # group, being destroyed, has the lock and waits for that thread: for ever (seen with torch 2.6).
    _last: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    def average(self, tensors: list[Tensor]) -> None:
        """Replaces tensors by their mean over all processes."""
        if self.size == 1:
            return
        waiting = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
        for tensor, work in zip(tensors, waiting, strict=True):
            if work is not None:
                work.wait()
            tensor.div_(self.size)

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, each (N, ...), one behind the other in the order of ranks."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        tensor = tensor.contiguous()
        self._last[:] = [*parts, tensor]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self._agreed(flag, lambda value: dist.all_reduce(value, op=dist.ReduceOp.MAX)))

    def least(self, value: float) -> float:
        """The smallest of all processes' values."""
        return self._agreed(value, lambda value: dist.all_reduce(value, op=dist.ReduceOp.MIN))

    def share(self, value: float) -> float:
        """The value that rank 0 has."""
        return self._agreed(value, lambda value: dist.broadcast(value, src=0))

    def _agreed(self, value: float, exchange: Callable[[Tensor], object]) -> float:
        if self.size == 1:
            return value
        device = torch.device("cuda", self.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")
        values = torch.tensor([value], dtype=torch.float64, device=device)
        self._last[:] = [values]
        exchange(values)
        return float(values.item())


@contextmanager
def joined_group(device: str) -> Iterator[Group]:
    """The group that `torchrun` has put this process into, or a group of one.

    Args:
        device: what the user asked for; `cpu` means gloo even where there are GPUs.

    Raises:
        DeviceError: more processes on this machine than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda and local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"process {local_rank} has no GPU: there are {torch.cuda.device_count()}",
            "Start as many processes per machine as it has GPUs, or pass --device cpu.",
        )
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), local_rank)
    finally:
        dist.destroy_process_group()

"""The machine: cores and memory, GPUs as PyTorch sees them, and what would be chosen of all that."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ugatit_cli.health.findings import Finding, reason
from ugatit_cli.health.versions import module
from ugatit_cli.wording import byte_size

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUP: Final = Path("/proc/self/cgroup")
MEMORY: Final = Path("/proc/meminfo")
NVIDIA: Final = Path("/proc/driver/nvidia/version")
# Less of it, and large pictures don't fit.
LITTLE: Final = 2 * 10**9


def cores() -> Iterator[Finding]:
    """Of the CPU: how many, how many of them this process may use, what PyTorch makes of them."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cpu_limit()
    limit = f", a cgroup allows {share:g}" if share else ""
    facts = {"cores": os.cpu_count(), "usable": mine, "limit": share}
    yield Finding("CPU", f"{_model()}, {mine} of {os.cpu_count()} cores{limit}", facts=facts)
    torch = module("torch")
    if isinstance(torch, BaseException):
        return
    from ugatit_cli.device import cpu_has_bf16

    threads = torch.get_num_threads()
    capability = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "unknown")()
    bf16 = cpu_has_bf16()
    best = "bf16 is faster than fp32" if bf16 else "fp32 is as fast as bf16, or faster"
    yield Finding("capability", f"{capability}, {best}", facts={"capability": capability, "bf16": bf16})
    most = min(mine, share or mine)
    note = "note" if threads > max(1, most) else "ok"
    hint = (
        f"More threads than cores wait for each other: OMP_NUM_THREADS={max(1, int(most))}" if note == "note" else ""
    )
    yield Finding("threads", str(threads), "note" if hint else "ok", hint, {"threads": threads})


def _model() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _of_cgroup(*names: str) -> str:
    """A limit of the control group that this process is in: the first file that there is."""
    with contextlib.suppress(OSError):
        below = [line.split(":", 2) for line in OWN_CGROUP.read_text().splitlines()]
        folders = [CGROUPS / path.lstrip("/") for _, kinds, path in below if not kinds]
        folders += [CGROUPS / kinds / path.lstrip("/") for _, kinds, path in below if kinds]
        folders += [CGROUPS, CGROUPS / "memory", CGROUPS / "cpu"]  # as containers see their own
        for path in (folder / name for folder in folders for name in names):
            if path.is_file():
                return path.read_text().strip()
    return ""


def memory_limit() -> int | None:
    """Bytes that the control group allows; None if any."""
    text = _of_cgroup("memory.max", "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < 1 << 60 else None


def cpu_limit() -> float | None:
    """Cores that it allows; None if any."""
    quota, _, period = _of_cgroup("cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def memory() -> Iterator[Finding]:
    """RAM, and what limits it for this process."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        lines = re.findall(r"^(\w+):\s*(\d+) kB", MEMORY.read_text(), re.MULTILINE)
        found = {name: 1024 * int(count) for name, count in lines}
    total, free = found.get("MemTotal"), found.get("MemAvailable")
    limit, address_space = memory_limit(), _address_space()
    parts = [f"{byte_size(free or 0)} of {byte_size(total)} free"] if total else ["unknown"]
    parts += [f"a cgroup allows {byte_size(limit)}"] if limit else []
    parts += [f"ulimit -v allows {byte_size(address_space)}"] if address_space else []
    least = min((one for one in (free, limit, address_space) if one), default=LITTLE)
    facts = {"total": total, "free": free, "cgroup": limit, "address_space": address_space}
    hint = "Large pictures may not fit: --tile 512, --workers 1." if least < LITTLE else ""
    yield Finding("memory", ", ".join(parts), "note" if hint else "ok", hint, facts)


def _address_space() -> int | None:
    with contextlib.suppress(ImportError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        return most if most != resource.RLIM_INFINITY else None
    return None


def devices() -> Iterator[Finding]:
    """GPUs, and the device and precision that `auto` takes."""
    torch = module("torch")
    if isinstance(torch, BaseException):
        yield Finding("devices", "unknown, as torch can't be imported", "note")
        return
    yield from _gpus(torch)
    from ugatit_cli.device import describe_device, resolve_device, resolve_precision

    device = resolve_device("auto")
    precision = resolve_precision("auto", device)
    facts = {"device": str(device), "precision": precision}
    yield Finding("chosen", f"{describe_device(device)}, precision {precision}", facts=facts)


def _gpus(torch: Any) -> Iterator[Finding]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = torch.cuda.is_available()
    for one in {str(warning.message) for warning in said}:
        yield Finding("CUDA", " ".join(one.split())[:300], "note")
    built = torch.version.cuda
    if not found and NVIDIA.exists():
        reason = "but this PyTorch is built without CUDA" if built is None else "but PyTorch can't use it"
        way = "https://pytorch.org/get-started/locally says which to install; nvidia-smi shows the driver."
        yield Finding("GPU", f"the NVIDIA driver is here, {reason}", "note", way)
    for index in range(torch.cuda.device_count() if found else 0):
        yield _gpu(torch, index)
    if torch.backends.mps.is_available():
        yield Finding("mps", "Apple's GPU", facts={"mps": True})
    if not found:
        yield Finding(
            "CUDA", f"no device ({f'PyTorch is built for {built}' if built else 'PyTorch is built without'})"
        )


def _gpu(torch: Any, index: int) -> Finding:
    try:
        name, free_total = torch.cuda.get_device_name(index), torch.cuda.mem_get_info(index)
        major, minor = torch.cuda.get_device_capability(index)
    except RuntimeError as error:  # lost, or taken by another process alone
        return Finding(f"cuda:{index}", f"can't be used: {reason(error)}", "note", "See: nvidia-smi")
    free, total = free_total
    text = (
        f"{name}, {byte_size(free)} of {byte_size(total)} free, capability {major}.{minor}, CUDA {torch.version.cuda}"
    )
    return Finding(f"cuda:{index}", text, facts={"name": name, "free": free, "total": total})

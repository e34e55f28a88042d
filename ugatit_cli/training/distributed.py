"""Several processes that train one model together, as `torchrun` starts them: each with its own pictures.

Not through `DistributedDataParallel`: it expects one forward and one backward pass per step and network, and a step
here has three of each, one loss at a time. Averaging the gradients before each update is all that it would do.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ugatit_cli.errors import DeviceError

# A process may wait this long for the others: rank 0 writes checkpoints and samples meanwhile.
PATIENCE = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class Group:
    """The processes of a run; by default there is only this one.

    Attributes:
        rank: number of this process, from 0; 0 writes all files.
        size: number of processes.
        local_rank: its number on this machine, which is also that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def average(self, tensors: list[Tensor]) -> None:
        """Replaces tensors by their mean over all processes."""
        if self.size == 1:
            return
        waiting = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
        for tensor, work in zip(tensors, waiting, strict=True):
            if work is not None:
                work.wait()
            tensor.div_(self.size)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        votes = torch.tensor([float(flag)], device=self._device())
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item())

    def least(self, value: float) -> float:
        """The smallest of all processes' values."""
        if self.size == 1:
            return value
        values = torch.tensor([value], dtype=torch.float64, device=self._device())
        dist.all_reduce(values, op=dist.ReduceOp.MIN)
        return float(values.item())

    def share(self, value: float) -> float:
        """The value that rank 0 has."""
        if self.size == 1:
            return value
        values = torch.tensor([value], dtype=torch.float64, device=self._device())
        dist.broadcast(values, src=0)
        return float(values.item())

    def _device(self) -> torch.device:
        return torch.device("cuda", self.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")


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

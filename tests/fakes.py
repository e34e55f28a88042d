"""Devices that this machine lacks: tensors without numbers, and a watch over what programs wait for."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ugatit_cli
from ugatit_cli.device import Readback

PACKAGE = Path(ugatit_cli.__file__).parent
# What gives results whose size or value the program must know before it can go on.
ASKING = {"nonzero", "masked_select", "equal", "_unique2", "unique_dim", "_local_scalar_dense"}
COPYING = {"_to_copy", "copy_"}


class Watch(TorchDispatchMode):
    """Notes what makes a program wait for its GPU, and float64, which MPS doesn't have; refuses mixed devices.

    Attributes:
        waits, doubles: where in the package, with the operation: `losses.py:64 _to_copy`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []
        self.doubles: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace != "aten":  # asks a tensor for its device
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled():  # where operations that consist of others come as they are
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        name, devices = func.overloadpacket.__name__, {one.device.type for one in tensors}
        beside = devices - {"cpu"}
        if beside and name in ASKING:
            self.waits.append(f"{_place()} {name}")
            if name == "_local_scalar_dense":
                return 1.0
        if name in COPYING and (devices | _device(kwargs)) - {"cpu"}:
            return self._copied(func, name, args, kwargs)
        if devices == {"cpu"} and not any(isinstance(one, FakeTensor) for one in tensors):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if len(devices) > 1:  # of which the CPU's may be numbers
            assert all(one.ndim == 0 for one in tensors if one.device.type == "cpu"), (
                f"{_place()} {name}: mixed devices"
            )
        return self._result(func(*args, **kwargs), name)

    def _copied(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        target = args[0].device.type if name == "copy_" else next(iter(_device(kwargs)), args[0].device.type)
        source = args[1 if name == "copy_" else 0]
        late = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        if source.device.type != target and not late:
            self.waits.append(f"{_place()} {name}")
        if source.is_meta and target == "cpu":
            return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        return self._result(func(*args, **kwargs), name)

    def _result(self, result: Any, name: str) -> Any:
        every = [result] if isinstance(result, Tensor) else tree_leaves(result)
        if any(isinstance(one, Tensor) and one.dtype == torch.float64 for one in every):
            self.doubles.append(f"{_place()} {name}")
        return result


def _device(kwargs: Any) -> set[str]:
    device = kwargs.get("device")
    return set() if device is None else {torch.device(device).type}


def _place() -> str:
    frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(PACKAGE)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"


class _Event:
    """That of a GPU, which is always done."""

    def record(self, stream: object) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> Self:
        return self


@contextlib.contextmanager
def fake_device(patch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Tensors of any device, without numbers; operations check devices and types as PyTorch does there."""
    patch.setattr(nn.Module, "_apply", _apply)
    patch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    patch.setattr(torch, "empty_like", _unpinned(torch.empty_like))
    patch.setattr(torch.cuda, "Event", _Event)
    patch.setattr(torch.cuda, "current_stream", lambda _: None)
    patch.setattr(Readback, "wait", _ones)
    with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
        yield watch


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:  # noqa: ARG001
    """As PyTorch's, which can't put tensors in the place of others without numbers."""
    for one in module.modules():
        for name, weight in one._parameters.items():
            if weight is not None:
                one._parameters[name] = nn.Parameter(change(weight.detach()), weight.requires_grad)
        for name, buffer in one._buffers.items():
            if buffer is not None:
                one._buffers[name] = change(buffer)
    return module


def _unpinned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda tensor, **options: make(tensor, **{name: options[name] for name in options if name != "pin_memory"})


def _ones(reading: Readback) -> list[Tensor]:
    """What is read back: results without numbers can't be."""
    with unset_fake_temporarily():
        return [torch.ones(one.shape, dtype=one.dtype) for one in reading._host]

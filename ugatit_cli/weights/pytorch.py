"""Files of PyTorch, and safetensors, as state dicts by name, whatever they are wrapped in; no pickled code is run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from ugatit_cli.errors import ModelError
from ugatit_cli.methods.base import States
from ugatit_cli.weights.folder import open_tensors
from ugatit_cli.weights.paddle import is_pickle, read_paddle

# What training codes wrap their weights in; averages first, since they are what is meant to be used.
WRAPPERS: Final = (
    *("params_ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema"),
    *("state_dict", "model_state_dict", "model", "params", "net", "network"),
)
# What DataParallel and `torch.compile` put before every name.
PREFIXES: Final = re.compile(r"^(?:(?:module|_orig_mod)\.)+")
# Networks that authors keep in one file: a flat one, such as safetensors, has them as prefixes.
PARTS: Final = frozenset({"genA2B", "genB2A", "disGA", "disGB", "disLA", "disLB", "G_A", "G_B", "D_A", "D_B"})
HEAD: Final = 64


def read_states(path: Path) -> States:
    """The state dicts in a file by the names that it gives them; that of a bare one is "".

    Raises:
        ModelError: it can't be read, or holds anything but tensors.
    """
    states: dict[str, dict[str, Tensor]] = {}
    for part, name, tensor in _named(_unwrapped(_tree(path))):
        states.setdefault(part, {})[PREFIXES.sub("", name)] = tensor
    return states


def _tree(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror or error}") from None
    if head[8:9] == b"{" and not zipfile.is_zipfile(path):
        with open_tensors(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    return read_paddle(path) if is_pickle(head) else _load(path)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that then fail below, with a reason
            # Only zip files can be mapped; mapping keeps tensors out of memory until they are converted.
            tree: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path}: holds more than plain tensors, or is not a PyTorch checkpoint",
            "ugatit never runs code from checkpoints.",
        ) from None
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not a readable PyTorch checkpoint ({reason})") from None
    if not isinstance(tree, Mapping):
        raise ModelError(f"{path}: not a checkpoint of networks (a {type(tree).__name__}, not a dict)")
    return tree


def _unwrapped(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """What lies below the wrappers."""
    inner = next((tree[name] for name in WRAPPERS if isinstance(tree.get(name), Mapping)), None)
    return tree if inner is None else _unwrapped(inner)


def _named(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, Tensor]]:
    """Network, name in it, tensor."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            for name, one in _unwrapped(value).items():
                if isinstance(one, Tensor):
                    yield PREFIXES.sub("", str(key)), str(name), one
        elif isinstance(value, Tensor):
            name = PREFIXES.sub("", str(key))
            part, _, rest = name.partition(".")
            yield (part, rest, value) if part in PARTS else ("", name, value)

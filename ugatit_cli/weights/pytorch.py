"""Files of PyTorch, and safetensors, as state dicts by name, whatever they are wrapped in; no pickled code is run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from ugatit_cli.errors import ModelError, plain_reason
from ugatit_cli.files import open_file
from ugatit_cli.methods.base import States
from ugatit_cli.remote.archives import is_zip
from ugatit_cli.weights.archive import AGAIN, read_pytorch
from ugatit_cli.weights.folder import open_tensors
from ugatit_cli.weights.kinds import HEAD, KNOWN, foreign, is_old_pytorch, is_pickle, is_safetensors
from ugatit_cli.weights.paddle import read_paddle
from ugatit_cli.weights.pickles import MOST

# What training codes wrap their weights in; averages first, since they are what is meant to be used.
AVERAGES: Final = ("params_ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
WRAPPERS: Final = (*AVERAGES, "state_dict", "model_state_dict", "model", "params", "net", "network", "weights")
# What DataParallel and `torch.compile` put before every name.
PREFIXES: Final = re.compile(r"^(?:(?:module|_orig_mod)\.)+")
# Networks that authors keep in one file, by their names or, in a flat one such as safetensors, with them as prefixes.
NETWORK: Final = re.compile(
    r"(ema_)?(?:net)?_?(gen[AB]2[AB]|dis[GL][AB]|[GD]_[AB](?:2[AB])?|(?:gen|dis)_[ab])(_ema)?"
)
# Deeper ones are no networks' but optimizers'.
DEPTH: Final = 6


def read_states(path: Path) -> States:
    """The state dicts in a file by the names that it gives them; that of a bare one is "".

    Raises:
        ModelError: it can't be read, or holds anything but tensors.
    """
    states: dict[str, dict[str, Tensor]] = {}
    values = list(itertools.islice(_values(_unwrapped(_tree(path))), MOST))
    if len(values) == MOST:  # which needs no large file, since parts may hold each other
        raise ModelError(f"{path}: damaged, or made to do harm: far more in it than in a model")
    # What lies deeper, such as an earlier state of the same networks, never takes the place of what lies above.
    for names, value in sorted(values, key=lambda found: len(found[0])):
        if isinstance(value, Tensor):
            part, name = _placed(names)
            if not _is_whole(value):
                raise ModelError(f"{path}: damaged, or made to do harm: {name[:80]!r} is larger than what is stored")
            states.setdefault(part, {}).setdefault(name, value)
    return _canonical(states)


def _tree(path: Path) -> Mapping[Any, Any]:
    try:
        with open_file(path) as file:
            head = file.read(HEAD)
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({plain_reason(error)})") from None
    if other := foreign(head):
        raise ModelError(f"{path}: {other[0]}", other[1])
    if is_zip(path) or is_old_pytorch(head):
        return read_pytorch(path)
    if is_safetensors(head):
        with open_tensors(path) as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no dict
    if is_pickle(head):
        return read_paddle(path)
    cut = head[:4] == b"PK\x03\x04"
    raise ModelError(f"{path}: {'truncated' if cut else 'not a checkpoint'}", AGAIN if cut else KNOWN)


def _unwrapped(tree: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """What lies below the wrappers."""
    for _ in range(DEPTH):
        beside = any(NETWORK.fullmatch(str(name)) for name in tree)
        inner = next((tree[name] for name in (AVERAGES if beside else WRAPPERS) if _holds_some(tree.get(name))), None)
        if inner is None:
            break
        tree = inner
    return tree


def _holds_some(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, (Mapping, Tensor)) for one in value.values())


def _values(tree: Mapping[Any, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All that is in a tree, with the keys that lead there."""
    for key, value in tree.items():
        names = (*keys, str(key))
        yield names, value
        if isinstance(value, Mapping) and len(names) < DEPTH:
            yield from _values(value, names)


def _placed(names: tuple[str, ...]) -> tuple[str, str]:
    """The network that a tensor belongs to, and its name there."""
    parts = PREFIXES.sub("", ".".join(names)).split(".")
    for i, part in enumerate(parts[:DEPTH]):
        if NETWORK.fullmatch(part):
            return part, PREFIXES.sub("", ".".join(parts[i + 1 :]))
    return ".".join(names[:-1]), PREFIXES.sub("", names[-1])


def _is_whole(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.itemsize <= tensor.untyped_storage().nbytes()


def _canonical(states: Mapping[str, dict[str, Tensor]]) -> States:
    """Networks by their official names, averages in place of the rest; one that has no name is ""."""
    found: dict[str, dict[str, Tensor]] = {}
    for part in sorted(states, key=lambda part: "ema" in part):
        state = {name: tensor for name, tensor in states[part].items() if name != "n_averaged"}
        match = NETWORK.fullmatch(part)
        found[match[2].partition("2")[0] if match and match[2][1] == "_" else match[2] if match else part] = state
    return {"": found.popitem()[1]} if len(found) == 1 and not NETWORK.fullmatch(next(iter(found))) else found

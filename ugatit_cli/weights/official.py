"""An authors' checkpoint, whichever code wrote it: recognised by what is in it, read as our config and tensors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ugatit_cli.errors import ConfigError, ModelError
from ugatit_cli.methods.base import Official, OfficialSettings, States
from ugatit_cli.methods.registry import METHODS, method
from ugatit_cli.weights import pytorch, tensorflow
from ugatit_cli.weights.folder import critic_shapes, translator_shapes
from ugatit_cli.weights.kinds import KNOWN

# Names of CycleGAN's files, which hold one network each.
NETWORK = re.compile(r"_net_([GD]_[AB])\.\w+$")
SHOWN: Final = 3
LONGEST: Final = 80
# As many networks as a file has.
MOST_SHARED: Final = 6


def read_official(
    files: Sequence[Path], settings: OfficialSettings, dtype: torch.dtype = torch.float32
) -> tuple[Official, str, list[Path]]:
    """Reads a checkpoint of any method.

    Args:
        files: one; or two with a generator each, A to B first unless their names say G_A and G_B. A folder stands
            for the TensorFlow checkpoint, or for the networks of CycleGAN, that it holds.
        dtype: of kernels and matrices of TensorFlow's, which then never are in memory as float32.

    Returns:
        The model, what the checkpoint was made with, and the files that hold the weights.

    Raises:
        ModelError: it can't be read, or is none that is known: says what was found.
    """
    first = files[0]
    networks = _networks_in(first)
    if len(files) == 1 and not networks and tensorflow.is_checkpoint(first):
        prefix = tensorflow.checkpoint_prefix(first)
        with understood(prefix, "U-GAT-IT", "variable"):
            found = tensorflow.import_checkpoint(prefix, settings, dtype=dtype)
            _check_shapes(found, prefix)
        return found, "official TensorFlow code", [tensorflow.TensorBundle(prefix).data_file()]
    for file in files:
        if not file.is_file() and not networks:
            raise ModelError(f"{file}: no such file or folder")
    named = networks or _by_network(files)
    states = _states(named)
    # Whoever keeps a network in a module of their own has its name before all others.
    for tried in (states, {name: _shorter(state) for name, state in states.items()}):
        for name in METHODS:
            with understood(first, method(name).title):
                official = method(name).official(tried, settings)
                if official is not None:
                    _check_sizes(official, list(named.values()))
                    _check_shapes(official, first)
                    return official, f"official {method(name).title} code", list(named.values())
    raise _unknown(first, states)


def _shorter(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without the first part of all names, where it is the same."""
    firsts = {name.partition(".")[0] for name in state}
    return {name.partition(".")[2]: one for name, one in state.items()} if len(firsts) == 1 else state


def _check_sizes(official: Official, files: Sequence[Path]) -> None:
    """Whether a model is about as large as its files: tensors may share what is stored, but hardly all of them.

    Raises:
        ModelError: it isn't.
    """
    tensors = [*official.translators.values(), *(official.critics or {}).values()]
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise ModelError(f"{files[0]}: a weight is of type {tensor.dtype}".replace("torch.", ""))
    size = sum(path.stat().st_size for path in files)
    if sum(tensor.numel() * tensor.itemsize for tensor in tensors) > MOST_SHARED * size:
        raise ModelError(f"{files[0]}: damaged, or made to do harm: its tensors are far larger than the file")


def _networks_in(folder: Path) -> dict[str, Path]:
    """The newest networks of CycleGAN in a folder, by name."""
    if not folder.is_dir():
        return {}
    files = sorted(
        (path for path in folder.iterdir() if NETWORK.search(path.name)), key=lambda one: one.stat().st_mtime
    )
    return {match[1]: path for path in files if (match := NETWORK.search(path.name))}


def _by_network(files: Sequence[Path]) -> dict[str, Path]:
    if len(files) == 1:
        return {"": files[0]}
    named = [match[1] if (match := NETWORK.search(path.name)) else "" for path in files]
    return dict(zip(named if sorted(named) == ["G_A", "G_B"] else ("G_A", "G_B"), files, strict=True))


def _states(files: dict[str, Path]) -> States:
    """What one file holds; or the one network of each of several."""
    if list(files) == [""]:
        return pytorch.read_states(files[""])
    states = {}
    for name, file in files.items():
        found = pytorch.read_states(file)
        if list(found) != [""]:
            raise ModelError(f"{file}: holds {', '.join(found) or 'no networks'}, not one network", KNOWN)
        states[name] = found[""]
    return states


def _check_shapes(official: Official, path: Path) -> None:
    """Compares all tensors with what the inferred config asks for."""
    tensors, shapes = dict(official.translators), translator_shapes(official.config)
    if official.critics is not None:
        tensors |= official.critics
        shapes |= critic_shapes(official.config)
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape)
        if found != shape:
            raise ModelError(f"{path}: {name} has shape {found}, but the other tensors ask for {shape}")


def _unknown(path: Path, states: States) -> ModelError:
    parts = [
        f"{len(state)} tensors{' in ' + _clean(name) if name else ''}: "
        + ", ".join(f"{_clean(key)} {tuple(one.shape)}" for key, one in list(state.items())[:SHOWN])
        for name, state in list(states.items())[:SHOWN]
    ]
    return ModelError(f"{path}: no checkpoint that ugatit knows; it has {'; '.join(parts) or 'no tensors'}", KNOWN)


def _clean(name: str) -> str:
    """A name out of a file, fit to be shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:LONGEST])


@contextlib.contextmanager
def understood(path: Path, title: str, kind: str = "tensor") -> Iterator[None]:
    """Turns whatever goes wrong with the contents of a file into an error that names it.

    Args:
        title: of the method that it seems to be of.
        kind: what the file holds: `tensor` or `variable`.

    Raises:
        ModelError: instead of a missing one, shapes that can't be, and settings that no model can have.
    """
    try:
        yield
    except KeyError as error:
        raise ModelError(f"{path}: not a {title} checkpoint: no {kind} {error}") from None
    except (IndexError, ValueError, ZeroDivisionError):
        raise ModelError(f"{path}: not a {title} checkpoint: {kind}s of other shapes") from None
    except ConfigError as error:
        raise ModelError(f"{path}: {error.message}", error.hint) from None

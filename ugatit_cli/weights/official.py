"""An authors' checkpoint, whichever code wrote it: recognised by what is in it, read as our config and tensors."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ugatit_cli.config import Precision
from ugatit_cli.device import DTYPES
from ugatit_cli.errors import ConfigError, ModelError, plain_reason
from ugatit_cli.files import open_file
from ugatit_cli.methods.base import Official, OfficialSettings, States
from ugatit_cli.methods.networks import Unfit
from ugatit_cli.methods.registry import METHODS, method
from ugatit_cli.weights import pytorch, tensorflow
from ugatit_cli.weights.archive import check_archive
from ugatit_cli.weights.folder import (
    ModelFolder,
    check_target,
    critic_shapes,
    open_model,
    save_model,
    translator_shapes,
)
from ugatit_cli.weights.hashes import hash_of
from ugatit_cli.weights.kinds import HEAD, KNOWN, is_pickle
from ugatit_cli.weights.manifest import Layout
from ugatit_cli.wording import shown

# Names of CycleGAN's files, which hold one network each.
NETWORK = re.compile(r"(?:^|_)net_?([GD])(?:_([AB])(?:2[AB])?)?\.\w+$")
# Of UNIT's and MUNIT's, which hold the networks of both domains after so many steps.
PAIR = re.compile(r"(gen|dis)_(\d+)\.pt")
PAIRED: Final = {"gen_a", "gen_b", "dis_a", "dis_b"}
SUFFIXES: Final = (".pt", ".pth", ".ckpt", ".pdparams", ".safetensors", ".tar", ".bin")
# Modules around a network.
DEEPEST: Final = 3
CODES: Final[Mapping[Layout | Literal[""], str]] = {
    "tensorflow": "official TensorFlow code",
    "pytorch": "official U-GAT-IT code",
    "paddle": "U-GAT-IT code of PaddlePaddle",
    "cyclegan": "official CycleGAN code",
    "cartoongan": "official CartoonGAN code",
    "unit": "official UNIT code",
    "munit": "official MUNIT code",
    "aggan": "official AGGAN code",
    "drit": "official DRIT code",
}
"""What a checkpoint was made with."""
SHOWN: Final = 3
LONGEST: Final = 120
# As many networks as a file has.
MOST_SHARED: Final = 6


def read_official(
    files: Sequence[Path], settings: OfficialSettings, dtype: torch.dtype = torch.float32
) -> tuple[Official, Layout, list[Path]]:
    """Reads a checkpoint of any method.

    Args:
        files: one; or two with a generator each, A to B first unless their names say G_A and G_B. A folder stands
            for the TensorFlow checkpoint, or for the newest networks of CycleGAN, UNIT or MUNIT, that it holds.
        dtype: of kernels and matrices of TensorFlow's, which then never are in memory as float32.

    Returns:
        The model, whose checkpoint it was, and the files that hold the weights.

    Raises:
        ModelError: it can't be read, or is none that is known: says what was found.
    """
    for file in files:
        _check_foreign(file)
    try:
        first = _only_file(files[0])
        networks = _networks_in(first)
    except OSError as error:
        raise ModelError(f"{files[0]}: can't be read ({plain_reason(error)})") from None
    if len(files) == 1 and not networks and tensorflow.is_checkpoint(first):
        prefix = tensorflow.checkpoint_prefix(first)
        bundle = tensorflow.TensorBundle(prefix)
        if any(name.startswith("Model/") for name in bundle.variables):  # AGGAN's
            found = _recognised(tensorflow.read_states(prefix), bundle.data_files, settings)
            return found, _layout(found, bundle.data_file()), bundle.data_files
        with understood(prefix, "U-GAT-IT", "variable"):
            found = tensorflow.import_checkpoint(prefix, settings, dtype=dtype)
            _check_shapes(found, prefix)
        return found, "tensorflow", [bundle.data_file()]
    named = networks or _by_network([first, *files[1:]])
    for file in named.values():
        if not file.exists():
            raise ModelError(f"{file}: no such file or folder")
    states = _states(named)
    official = _recognised(states, list(named.values()), settings)
    for file in named.values():
        check_archive(file)
    return official, _layout(official, first), list(named.values())


def _layout(official: Official, file: Path) -> Layout:
    match official.config.method:
        case "cyclegan" | "cartoongan" | "unit" | "munit" | "aggan" | "drit" as name:
            return name
    with open_file(file) as opened:
        return "paddle" if is_pickle(opened.read(HEAD)) else "pytorch"


def _check_foreign(path: Path) -> None:
    """Raises a ModelError if it is a model that needs no conversion."""
    try:
        model = open_model(path)
    except ModelError:
        return
    raise ModelError(
        f"{path}: a model of ugatit already ({model.config.pair})",
        f"Use it as it is: ugatit translate PICTURES --model {shlex.quote(str(path))} -o out/",
    )


def _recognised(states: States, files: Sequence[Path], settings: OfficialSettings) -> Official:
    failed: ModelError | None = None
    # Whoever keeps a network in a module of their own has its name before all others.
    for tried in itertools.accumulate(range(DEEPEST), lambda found, _: _shorter(found), initial=states):
        for title, official_of in ((method(name).title, method(name).official) for name in METHODS):
            try:
                with understood(files[0], title):
                    official = official_of(tried, settings)
                    if official is not None:
                        _check_sizes(official, files)
                        _check_shapes(official, files[0])
                        return official
            except ModelError as error:
                failed = failed or error
    raise failed or _unknown(files[0], states)


def _shorter(states: States) -> States:
    """Without the first part of all names of a network, where it is the same."""
    found: dict[str, Mapping[str, Tensor]] = {}
    for network, state in states.items():
        same = len({name.partition(".")[0] for name in state}) == 1
        found[network] = {name.partition(".")[2]: one for name, one in state.items()} if same else state
    return found


def _check_sizes(official: Official, files: Sequence[Path]) -> None:
    """Whether a model is about as large as its files: tensors may share what is stored, but hardly all of them.

    Raises:
        ModelError: it isn't.
    """
    tensors = [*official.translators.values(), *(official.critics or {}).values()]
    for name, tensor in {**official.translators, **(official.critics or {})}.items():
        if not tensor.is_floating_point():
            kind = f"{tensor.dtype}".removeprefix("torch.")
            raise ModelError(f"{files[0]}: {name} is of type {kind}; weights are floats")
    size = sum(path.stat().st_size for path in files)
    if sum(tensor.numel() * tensor.itemsize for tensor in tensors) > MOST_SHARED * size:
        raise ModelError(f"{files[0]}: damaged, or made to do harm: its tensors are far larger than the file")


def _network(path: Path) -> str | None:
    """The network of CycleGAN that a file is of, by its name: `G_A`, or `G` where there is one only."""
    match = NETWORK.search(path.name)
    return match and (f"{match[1]}_{match[2]}" if match[2] else match[1])


def _networks_in(folder: Path) -> dict[str, Path]:
    """The newest networks of CycleGAN, UNIT or MUNIT in a folder, by name."""
    if not folder.is_dir():
        return {}
    files = sorted(folder.iterdir(), key=lambda one: one.lstat().st_mtime)
    pairs = [match for path in files if (match := PAIR.fullmatch(path.name))]
    newest = max((match[2] for match in pairs if match[1] == "gen"), key=int, default=None)
    if newest is not None:
        return {match[1]: folder / match[0] for match in pairs if match[2] == newest}
    found = {name: path for path in files if (name := _network(path))}
    if not {"G_A", "G_B"} & found.keys():
        return {"": found["G"]} if "G" in found else {}
    return {name: path for name, path in found.items() if "_" in name}


def _only_file(path: Path) -> Path:
    """The only checkpoint in a folder, or the path itself."""
    if not path.is_dir() or any(path.glob("*.index")) or _networks_in(path):
        return path
    found = [one for one in path.iterdir() if one.suffix in SUFFIXES]
    if len(found) > 1:
        names = ", ".join(sorted(one.name for one in found)[:3])
        raise ModelError(f"{path}: holds {len(found)} checkpoints ({names})", "Name one of them.")
    return found[0] if len(found) == 1 else path


def _by_network(files: Sequence[Path]) -> dict[str, Path]:
    if len(files) == 1:
        return {"": files[0]}
    named = [_network(path) or "" for path in files]
    return dict(zip(named if sorted(named) == ["G_A", "G_B"] else ("G_A", "G_B"), files, strict=True))


def _states(files: dict[str, Path]) -> States:
    """What one file holds; or the one network, or the pair of them, of each of several."""
    if list(files) == [""]:
        return _by_domain(pytorch.read_states(files[""]))
    states: dict[str, Mapping[str, Tensor]] = {}
    for name, file in files.items():
        found = _by_domain(pytorch.read_states(file))
        found = {name: found[""]} if list(found) == [""] else found
        if (len(found) > 1 and not set(found) <= PAIRED) or found.keys() & states.keys() or not found:
            raise ModelError(f"{file}: holds {', '.join(found) or 'no networks'}, not one network", KNOWN)
        states |= found
    return states


def _by_domain(states: States) -> States:
    """With the names of networks that UNIT and MUNIT keep as `a` and `b` of a file of their kind."""
    for kind, prefix in (("gen", "enc"), ("dis", "cnns.")):
        if set(states) == {"a", "b"} and any(name.startswith(prefix) for name in states["a"]):
            return {f"{kind}_{domain}": state for domain, state in states.items()}
    return states


def _check_shapes(official: Official, path: Path) -> None:
    """Compares all tensors with what the inferred config asks for."""
    tensors, shapes = dict(official.translators), dict(translator_shapes(official.config))
    if official.critics is not None:
        tensors |= official.critics
        shapes |= critic_shapes(official.config)
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape)
        if found != shape:
            raise ModelError(f"{path}: {name} has shape {found}, but the other tensors ask for {shape}")


def _unknown(path: Path, states: States) -> ModelError:
    if any(name.startswith(("a2b.", "b2a.")) for name in states.get("", {})):
        return ModelError(f"{path}: weights of a ugatit model, without its config.json", "Copy both into one folder.")
    parts = [
        f"{len(state)} tensors{' in ' + shown(name, LONGEST) if name else ''}: "
        + ", ".join(
            f"{shown(key, LONGEST)} {shown(tuple(one.shape), LONGEST)}" for key, one in list(state.items())[:SHOWN]
        )
        for name, state in list(states.items())[:SHOWN]
    ]
    return ModelError(f"{path}: no checkpoint that ugatit knows; it has {'; '.join(parts) or 'no tensors'}", KNOWN)


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
        missing = shown(error, LONGEST)
        raise ModelError(f"{path}: not a {title} checkpoint: no {kind} {missing}", KNOWN) from None
    except Unfit as error:
        raise ModelError(
            f"{path}: not a {title} checkpoint that ugatit knows: {shown(error, LONGEST)}", KNOWN
        ) from None
    except (IndexError, ValueError, ZeroDivisionError):
        raise ModelError(f"{path}: not a {title} checkpoint: {kind}s of other shapes", KNOWN) from None
    except ConfigError as error:
        raise ModelError(f"{path}: {error.message}", error.hint) from None


def convert(
    checkpoints: Sequence[Path],
    folder: Path,
    settings: OfficialSettings | None = None,
    *,
    storage: Precision = "fp32",
    overwrite: bool = False,
    source: Mapping[str, Any] | None = None,
    layout: Layout | Literal[""] = "",
) -> tuple[ModelFolder, tuple[str, ...]]:
    """Converts an official checkpoint.

    Args:
        checkpoints: see `read_official`.
        folder: the model folder to write.
        source: where the checkpoint comes from, for the model's provenance.
        layout: whose checkpoint it must be; empty: anybody's.

    Returns:
        The model folder, and notes for the user.

    Raises:
        ModelError: the checkpoint can't be read, isn't one that is known, or is of another layout.
        OutputError: the folder exists, or can't be written.
    """
    if not folder.name:  # `.` can't be renamed
        folder = folder.absolute()
    check_target(folder, overwrite=overwrite)
    official, found, files = read_official(checkpoints, settings or OfficialSettings(), DTYPES[storage])
    if layout not in ("", found):
        raise ModelError(
            f"{checkpoints[0]}: a checkpoint of the {CODES[found]}, not of the {CODES[layout]}",
            "It is not what the manifest promises. `ugatit convert` takes any.",
        )
    said = {"imported_from": ", ".join(file.name for file in files), "code": CODES[found]}
    provenance = {**said, "sha256": ", ".join(map(hash_of, files)), **(source or {})}
    tensors = official.translators, official.critics
    try:
        save_model(folder, official.config, *tensors, storage=storage, provenance=provenance, overwrite=overwrite)
    except ModelError as error:
        raise ModelError(f"{files[0]}: {error.message}", error.hint) from None
    return open_model(folder), official.notes

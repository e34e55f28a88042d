"""Import of the official PyTorch code's checkpoints (`*_params_*.pt`, znxlwm/UGATIT-pytorch).

One dict with the state dicts genA2B, genB2A and, usually, disGA, disGB, disLA, disLB.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ugatit_cli.config import DIRECTIONS, DOMAINS, SCALES, ModelConfig
from ugatit_cli.errors import ModelError
from ugatit_cli.weights.official import Imported, ImportSettings, understood

GENERATOR_KEYS = {"a2b": "genA2B", "b2a": "genB2A"}
DISCRIMINATOR_KEYS = {
    ("a", "global"): "disGA", ("b", "global"): "disGB", ("a", "local"): "disLA", ("b", "local"): "disLB",
}  # fmt: skip

State = Mapping[str, Tensor]


def import_checkpoint(path: Path, settings: ImportSettings) -> Imported:
    """Reads an official PyTorch checkpoint, zip or pre-1.6 format; never runs pickled code.

    Raises:
        ModelError: unreadable, or not a U-GAT-IT checkpoint.
    """
    states = _load(path)
    for key in GENERATOR_KEYS.values():
        if key not in states:
            raise ModelError(f"{path}: has no {key}", "An official checkpoint holds genA2B and genB2A.")
    has_discriminators = all(key in states for key in DISCRIMINATOR_KEYS.values())
    with understood(path, "tensor"):
        config, notes = _infer(states, settings, has_discriminators)
        generators = {
            f"{direction}.{ours}": _take(states[GENERATOR_KEYS[direction]], theirs)
            for direction in DIRECTIONS
            for ours, theirs in generator_names(config).items()
        }
        discriminators = {
            f"{domain}.{scale}.{ours}": _take(states[DISCRIMINATOR_KEYS[domain, scale]], theirs)
            for domain in (DOMAINS if has_discriminators else ())
            for scale in SCALES
            for ours, theirs in discriminator_names(config.layers(scale)).items()
        }
    return Imported(config, generators, discriminators or None, tuple(notes)).checked(path)


def _load(path: Path) -> Mapping[str, State]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that then fail below, with a reason
            # Only zip files can be mapped; mapping keeps tensors out of memory until they are converted.
            states: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path}: holds more than plain tensors, or is not a PyTorch checkpoint",
            "ugatit never runs code from checkpoints.",
        ) from None
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not a readable PyTorch checkpoint ({reason})") from None
    if not isinstance(states, Mapping):
        raise ModelError(f"{path}: not a U-GAT-IT checkpoint (a {type(states).__name__}, not a dict)")
    return {
        str(key): {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
        for key, state in states.items()
        if isinstance(state, Mapping)
    }


def _take(state: State, name: str) -> Tensor:
    tensor = state[name]
    # rho, gamma and beta of AdaLIN and LIN are (1, C, 1, 1) there.
    return tensor.flatten() if name.endswith((".rho", ".gamma", ".beta")) else tensor


def _infer(
    states: Mapping[str, State], settings: ImportSettings, has_discriminators: bool
) -> tuple[ModelConfig, list[str]]:
    generator = states["genA2B"]
    channels = generator["DownBlock.1.weight"].shape[0]
    fields, notes = settings.fields(generator["FC.0.weight"].shape[1], 4 * channels)
    blocks = _count(generator, r"DownBlock\.\d+\.conv_block\.1\.weight")
    if has_discriminators:
        fields["discriminator_channels"] = states["disLA"]["model.1.weight_orig"].shape[0]
        fields["local_layers"], fields["global_layers"] = (
            1 + _count(states[key], r"model\.\d+\.weight_orig") for key in ("disLA", "disGA")
        )
    else:
        notes.insert(0, "The checkpoint has no discriminators; the model comes without.")
    return ModelConfig(channels=channels, blocks=blocks, dialect="pytorch", **fields), notes


def _count(state: State, pattern: str) -> int:
    return sum(1 for name in state if re.fullmatch(pattern, name))


def generator_names(config: ModelConfig) -> dict[str, str]:
    """Our generator tensor name -> the official one."""
    names = {
        "stem.conv.weight": "DownBlock.1.weight",
        "down.0.conv.weight": "DownBlock.5.weight",
        "down.1.conv.weight": "DownBlock.9.weight",
        "cam.gap.weight": "gap_fc.weight",
        "cam.gmp.weight": "gmp_fc.weight",
        "cam.weight": "conv1x1.weight",
        "cam.bias": "conv1x1.bias",
        "style.hidden1.weight": "FC.0.weight",
        "style.hidden2.weight": "FC.2.weight",
        "style.gamma.weight": "gamma.weight",
        "style.beta.weight": "beta.weight",
        "to_rgb.weight": "UpBlock2.11.weight",
    }
    for i in range(config.blocks):
        names[f"encoder.{i}.first.conv.weight"] = f"DownBlock.{12 + i}.conv_block.1.weight"
        names[f"encoder.{i}.conv.weight"] = f"DownBlock.{12 + i}.conv_block.5.weight"
        for j in (1, 2):
            names[f"decoder.{i}.conv{j}.weight"] = f"UpBlock1_{i + 1}.conv{j}.weight"
            names[f"decoder.{i}.norm{j}.rho"] = f"UpBlock1_{i + 1}.norm{j}.rho"
    for i in range(2):
        names[f"up.{i}.conv.weight"] = f"UpBlock2.{2 + 5 * i}.weight"
        for name in ("rho", "gamma", "beta"):
            names[f"up.{i}.norm.{name}"] = f"UpBlock2.{3 + 5 * i}.{name}"
    return names


def discriminator_names(layers: int) -> dict[str, str]:
    """Our discriminator tensor name -> the official one."""
    modules = {f"layers.{i}": f"model.{1 + 3 * i}" for i in range(layers - 1)}
    names = {f"{ours}.bias": f"{theirs}.bias" for ours, theirs in modules.items()}
    modules |= {"head": "conv", "cam.gap": "gap_fc", "cam.gmp": "gmp_fc"}
    for ours, theirs in modules.items():
        names[f"{ours}.weight"] = f"{theirs}.weight_orig"
        names[f"{ours}.norm.u"] = f"{theirs}.weight_u"
        names[f"{ours}.norm.v"] = f"{theirs}.weight_v"
    return names | {"cam.weight": "conv1x1.weight", "cam.bias": "conv1x1.bias"}

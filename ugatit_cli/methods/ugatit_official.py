"""The official PyTorch code's checkpoints of U-GAT-IT (`*_params_*.pt`, znxlwm/UGATIT-pytorch) by our names.

One dict with the state dicts genA2B, genB2A and, usually, disGA, disGB, disLA, disLB; or one generator alone.
PaddleGAN has the same names, and instance norms with a factor and an offset that it never trains.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from ugatit_cli.config import DOMAINS, SCALES, Direction, Domain, ModelConfig, Scale
from ugatit_cli.methods.base import Official, OfficialSettings, States
from ugatit_cli.methods.networks import check_known

GENERATOR_KEYS: dict[str, Direction] = {"genA2B": "a2b", "genB2A": "b2a"}
DISCRIMINATOR_KEYS: dict[tuple[Domain, Scale], str] = {
    ("a", "global"): "disGA",
    ("b", "global"): "disGB",
    ("a", "local"): "disLA",
    ("b", "local"): "disLB",
}

State = Mapping[str, Tensor]

# What changes nothing, by the end of its name.
IDLE: Mapping[str, float] = {"scale": 1, "weight": 1, "bias": 0}


def official(states: States, settings: OfficialSettings) -> Official | None:
    """See `Method.official`."""
    generators = {way: states[key] for key, way in GENERATOR_KEYS.items() if key in states}
    if not generators and "DownBlock.1.weight" in states.get("", {}):
        generators = {"a2b": states[""]}
    if not generators:
        return None
    if "a2b" not in generators:  # the only one is that of a model from A to B
        generators = {"a2b": generators["b2a"]}
    with_critics = len(generators) == 2 and all(key in states for key in DISCRIMINATOR_KEYS.values())
    config = _inferred(generators, states if with_critics else {}, settings)
    for state in generators.values():
        _check_known(state, generator_names(config).values())
    for (_, scale), key in DISCRIMINATOR_KEYS.items() if with_critics else ():
        _check_known(states[key], discriminator_names(config.layers(scale)).values())
    translators = {
        f"{direction}.{ours}": _taken(state, theirs)
        for direction, state in generators.items()
        for ours, theirs in generator_names(config).items()
    }
    critics = {
        f"{domain}.{scale}.{ours}": _taken(states[DISCRIMINATOR_KEYS[domain, scale]], theirs)
        for domain in (DOMAINS if with_critics else ())
        for scale in SCALES
        for ours, theirs in discriminator_names(config.layers(scale)).items()
    }
    notes = settings.notes(config, judged=with_critics, told=not config.light)
    return Official(config, translators, critics or None, notes)


def _check_known(state: State, known: Collection[str]) -> None:
    """As `check_known`, but for norms that do nothing."""
    check_known((name for name, one in state.items() if name in known or not _is_idle(name, one)), known)


def _is_idle(name: str, tensor: Tensor) -> bool:
    value = IDLE.get(name.rpartition(".")[2])
    return value is not None and tensor.ndim == 1 and bool((tensor == value).all())


def _taken(state: State, name: str) -> Tensor:
    tensor = state[name]
    # rho, gamma and beta of AdaLIN and LIN are (1, C, 1, 1) there.
    return tensor.flatten() if name.endswith((".rho", ".gamma", ".beta")) else tensor


def _inferred(generators: Mapping[Direction, State], critics: States, settings: OfficialSettings) -> ModelConfig:
    generator = generators["a2b"]
    channels = generator["DownBlock.1.weight"].shape[0]
    fields = size_fields(generator["FC.0.weight"].shape[1], 4 * channels, settings)
    fields["blocks"] = _count(generator, r"DownBlock\.\d+\.conv_block\.1\.weight")
    fields["ways"] = "both" if len(generators) == 2 else "a2b"
    if critics:
        fields["discriminator_channels"] = critics["disLA"]["model.1.weight_orig"].shape[0]
        fields["local_layers"], fields["global_layers"] = (
            1 + _count(critics[key], r"model\.\d+\.weight_orig") for key in ("disLA", "disGA")
        )
    return ModelConfig(channels=channels, dialect="pytorch", **fields)


def size_fields(inputs: int, features: int, settings: OfficialSettings) -> dict[str, Any]:
    """What `ModelConfig` is told of domains, size and variant.

    Args:
        inputs: of the style MLP: the features of a light generator, those of the whole map of a full one.
        features: channels of the bottleneck.

    Raises:
        ZeroDivisionError: no features.
    """
    if inputs != features:
        return {**settings.fields(), "variant": "full", "image_size": 4 * math.isqrt(inputs // features)}
    return {**settings.fields(), "variant": "light", "image_size": settings.image_size or 256}


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

"""Models small enough for tests: random weights, as folders and as official checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ugatit_cli.config import BaseConfig, ModelConfig
from ugatit_cli.methods.configs import AGGANConfig, CartoonGANConfig, CycleGANConfig, MUNITConfig
from ugatit_cli.methods.networks import tensors_of
from ugatit_cli.methods.registry import method_of
from ugatit_cli.methods.ugatit_official import (
    DISCRIMINATOR_KEYS,
    GENERATOR_KEYS,
    discriminator_names,
    generator_names,
)
from ugatit_cli.nn.discriminator import Discriminator
from ugatit_cli.nn.generator import Generator
from ugatit_cli.weights.folder import save_model

SIZES = {"image_size": 32, "channels": 4, "blocks": 1, "discriminator_channels": 4, "local_layers": 3}
LIGHT = ModelConfig("flat", "clay", **SIZES, global_layers=3)  # type: ignore[arg-type]  # plain integers
FULL = ModelConfig("flat", "clay", **SIZES, global_layers=3, variant="full")  # type: ignore[arg-type]
# Other methods, one with styles, and a way of one's own: the networks have nothing but their config in common.
ONE_WAY = dataclasses.replace(LIGHT, ways="a2b")
CYCLEGAN = CycleGANConfig("flat", "clay", 32, channels=4, blocks=1, discriminator_channels=4)
AGGAN = AGGANConfig("flat", "clay", 32, channels=4, blocks=1, discriminator_channels=4)
CARTOONGAN = CartoonGANConfig("flat", "clay", 32, channels=4, blocks=1, discriminator_channels=4)
MUNIT = MUNITConfig("flat", "clay", 16, channels=4, blocks=1, discriminator_channels=4)


def tensors(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in network.state_dict().items()}


def save(folder: Path, config: BaseConfig = LIGHT, *, discriminators: bool = False) -> Path:
    """A model folder with the same random weights every time, of any method."""
    torch.manual_seed(1)
    method = method_of(config)
    translators = tensors_of(method.translators(config))
    critics = tensors_of(method.critics(config)) if discriminators else None
    save_model(folder, config, translators, critics)
    return folder


def official(config: ModelConfig = LIGHT, *, discriminators: bool = True) -> dict[str, Any]:
    """What a checkpoint of the official PyTorch code holds: six state dicts by its names, with random weights."""
    torch.manual_seed(2)
    document: dict[str, Any] = {}
    for key in GENERATOR_KEYS:
        document[key] = _renamed(Generator(config), generator_names(config))
    for (_, scale), key in DISCRIMINATOR_KEYS.items() if discriminators else ():
        names = discriminator_names(config.layers("local" if scale == "local" else "global"))
        document[key] = _renamed(Discriminator(config, "local" if scale == "local" else "global"), names)
    return document


def save_official(path: Path, config: ModelConfig = LIGHT, *, discriminators: bool = True) -> Path:
    """A checkpoint as the official PyTorch code writes it."""
    torch.save(official(config, discriminators=discriminators), path)
    return path


def _renamed(network: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    four = (".rho", ".gamma", ".beta")  # which are (1, C, 1, 1) there
    state = {names[name]: tensor for name, tensor in network.state_dict().items()}
    return {name: tensor.view(1, -1, 1, 1) if name.endswith(four) else tensor for name, tensor in state.items()}

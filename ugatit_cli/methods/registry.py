"""The methods by their names: a new one is a line here, and one for its config."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from ugatit_cli.config import BaseConfig, ModelConfig
from ugatit_cli.errors import UsageError
from ugatit_cli.fields import Field, fields_of, fitting, read_table
from ugatit_cli.methods.configs import AGGANConfig, CartoonGANConfig, CycleGANConfig, MUNITConfig, UNITConfig
from ugatit_cli.methods.drit_config import DRITConfig

if TYPE_CHECKING:
    from ugatit_cli.methods.base import Method

MethodName = Literal["ugatit", "cyclegan", "cartoongan", "unit", "munit", "aggan", "drit"]

# Where each one's class is: imported when it is asked for, since networks take torch.
METHODS: Final = MappingProxyType(
    {
        "ugatit": "ugatit_cli.methods.ugatit:UGATIT",
        "cyclegan": "ugatit_cli.methods.cyclegan:CycleGAN",
        "cartoongan": "ugatit_cli.methods.cartoongan:CartoonGAN",
        "unit": "ugatit_cli.methods.unit:UNIT",
        "munit": "ugatit_cli.methods.munit:MUNIT",
        "aggan": "ugatit_cli.methods.aggan:AGGAN",
        "drit": "ugatit_cli.methods.drit:DRIT",
    }
)
# What an exported model says of itself is read without torch.
CONFIGS: Final[Mapping[str, type[BaseConfig]]] = MappingProxyType(
    {
        config.method: config
        for config in (
            *(ModelConfig, CycleGANConfig, CartoonGANConfig, UNITConfig, MUNITConfig, AGGANConfig, DRITConfig),
        )
    }
)


def method(name: str) -> Method:
    """The method of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in METHODS:
        raise UsageError(f"no method {name!r}", f"Methods: {', '.join(METHODS)}.")
    module, _, kind = METHODS[name].partition(":")
    found: Method = getattr(importlib.import_module(module), kind)()
    return found


def method_of(config: BaseConfig) -> Method:
    """The method that a model's networks are of."""
    return method(config.method)


def config_class(name: str) -> type[BaseConfig]:
    """The dataclass of a method's sizes, without torch.

    Raises:
        UsageError: there is no such method.
    """
    return CONFIGS[name] if name in CONFIGS else method(name).config


def methods_with_styles() -> list[str]:
    """Names of those that have several translations of a picture."""
    return [name for name in METHODS if config_class(name)().style_size]


def size_fields() -> Mapping[str, Field]:
    """Fields of networks' sizes that users may state, of all methods; without torch."""
    own, others = fields_of(ModelConfig), fields_of(DRITConfig)
    return {**own, **{name: field for name, field in others.items() if name not in own}}


def read_networks(document: Mapping[str, Any]) -> BaseConfig:
    """What `config.json` and `config.toml` say of networks: `model`, and `method` unless it is U-GAT-IT.

    Raises:
        UsageError: there is no such method, or it refuses the values.
    """
    document = fitting("the document", document, Mapping[str, Any])
    name = fitting("method", document.get("method", ModelConfig.method), str)
    return read_table(config_class(name), document.get("model"))


def networks_document(config: BaseConfig) -> dict[str, Any]:
    """The inverse of `read_networks`."""
    named = {} if config.method == ModelConfig.method else {"method": config.method}
    return {**named, "model": config.to_dict()}

"""The methods by their names: a new one is a line here."""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ugatit_cli.config import BaseConfig
from ugatit_cli.errors import UsageError

if TYPE_CHECKING:
    from ugatit_cli.methods.base import Method

# Where each one's class is: imported when it is asked for, since networks take torch.
METHODS: Final = MappingProxyType(
    {
        "ugatit": "ugatit_cli.methods.ugatit:UGATIT",
        "cyclegan": "ugatit_cli.methods.cyclegan:CycleGAN",
        "cartoongan": "ugatit_cli.methods.cartoongan:CartoonGAN",
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

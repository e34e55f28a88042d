"""What users may choose of a model: a direction, and a style where there are any."""

from __future__ import annotations

from ugatit_cli.config import DIRECTIONS, BaseConfig, Direction
from ugatit_cli.errors import UsageError
from ugatit_cli.methods.registry import methods_with_styles


def resolve_direction(config: BaseConfig, direction: Direction | None = None, to: str | None = None) -> Direction:
    """The direction that is stated, or leads to a domain of any case; `a2b` where nothing is said.

    It is a UsageError if there is no such direction or domain, or they contradict each other.
    """
    if direction is not None and direction not in DIRECTIONS:
        ways = (f"{way} ({config.source(way)} -> {config.target(way)})" for way in config.directions)
        hint = f"It is {' or '.join(ways)}; or name the domain: to={config.domain_b!r}."
        raise UsageError(f"unknown direction {direction!r}", hint)
    if direction is not None and direction not in config.directions:
        raise UsageError(config.only_way)
    if to is None:
        return direction or "a2b"
    named = config.direction_to(to)
    if direction not in (None, named):
        raise UsageError(f"direction {direction} leads to {config.target(direction)!r}, not to {to!r}")
    return named


def require_styles(config: BaseConfig, name: str) -> None:
    """It is a UsageError if a model, which messages call `name`, has no styles."""
    if not config.style_size:
        hint = f"Methods whose models have: {', '.join(methods_with_styles())}."
        raise UsageError(f"{name}: has no styles, as all models of its method, {config.method}", hint)


def no_style(style: str) -> UsageError:
    """What to say where neither a style nor a file is called so."""
    return UsageError(f"style {style}: no such file", "It is random, random:SEED, or a picture of the target domain.")

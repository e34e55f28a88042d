"""What users may choose of a model: a direction, and a style where there are any."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ugatit_cli.config import DIRECTIONS, BaseConfig, Direction, Fit
from ugatit_cli.errors import UsageError
from ugatit_cli.methods.registry import methods_with_styles
from ugatit_cli.pictures.geometry import Colour
from ugatit_cli.pictures.styles import StyleCode, seed_of
from ugatit_cli.translation.engine import Engine, Source


def resolve_direction(
    config: BaseConfig, name: str, direction: Direction | None = None, to: str | None = None
) -> Direction:
    """The direction that is stated, or leads to a domain of any case; `a2b` where nothing is said.

    It is a UsageError, which calls the model `name`, if there is no such direction or domain, or they contradict each
    other.
    """
    try:
        return _resolved(config, direction, to)
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", error.hint) from None


def _resolved(config: BaseConfig, direction: Direction | None, to: str | None) -> Direction:
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


def chosen_style(
    model: Engine,
    style: Source | StyleCode,
    direction: Direction,
    *,
    fit: Fit,
    background: Colour,
    max_pixels: int | None,
) -> int | StyleCode:
    """The seed of each picture's random style, or the style of all.

    Args:
        style: `random`, `random:SEED`, a picture of the domain that the direction leads to, or its style.
        fit, background, max_pixels: as in `Model.style`.

    Raises:
        UsageError: the model has no styles, or this is none.
        PictureError: the picture can't be read.
    """
    require_styles(model.config, model.name)
    if isinstance(style, str) and (seed := seed_of(style)) is not None:
        return seed
    if not isinstance(style, np.ndarray):
        if isinstance(style, str) and not Path(style).exists():
            raise no_style(style)
        style = model.style(style, direction, fit=fit, background=background, max_pixels=max_pixels)
    code, size = np.asarray(style, np.float32), model.config.style_size
    if code.shape != (size,) or not np.isfinite(code).all():
        raise UsageError(f"style: an array {code.shape}", f"Styles of {model.name} are {size} finite numbers.")
    return code

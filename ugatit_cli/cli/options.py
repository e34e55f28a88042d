"""Options that several commands share, and what their values mean."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ugatit_cli.errors import UsageError

FORMATS = Literal["same", "png", "jpg", "webp"]

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A model's name, a model folder, or a run folder of `ugatit train`.",
    ),
]
DirectionOption = Annotated[
    Literal["a2b", "b2a"] | None,
    typer.Option("--direction", help="Which way to translate.  [default: a2b]", show_default=False),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="DOMAIN", help="The same by name of the target domain: --to anime."),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option("--precision", help="Float type of the network; auto takes the fastest that the device is good at."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Results on stdout as JSON, one line each.")]


def parse_tile(text: str) -> int | None:
    """`auto` -> None, `off` -> 0, `512` -> 512.

    Raises:
        UsageError: anything else.
    """
    if text == "auto":
        return None
    if text == "off":
        return 0
    if text.isascii() and text.isdigit():
        return int(text)
    raise UsageError(f"--tile {text}: unknown", "It is auto, off, or a number of pixels.")


def parse_count(option: str, text: str, most: int) -> int:
    """`auto` -> 0, else a number from 1.

    Raises:
        UsageError: anything else, or more than `most`.
    """
    if text == "auto":
        return 0
    if text.isascii() and text.isdigit() and 1 <= int(text) <= most:
        return int(text)
    raise UsageError(f"{option} {text}: unknown", f"It is auto, or a number from 1 to {most}.")


def parse_colour(text: str) -> tuple[int, int, int]:
    """A colour's name or #rrggbb as RGB.

    Raises:
        UsageError: no such colour.
    """
    from PIL import ImageColor

    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise UsageError(f"--background {text}: no such colour", "Use a name such as white, or #rrggbb.") from None
    return red, green, blue


def parse_domains(text: str) -> tuple[str, str]:
    """`selfie,anime` as two names.

    Raises:
        UsageError: not two.
    """
    names = tuple(name.strip() for name in text.split(","))
    if len(names) != 2:
        raise UsageError(f"--domains {text}: names two domains, A first", "Like this: --domains selfie,anime")
    return names[0], names[1]

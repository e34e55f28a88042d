"""`ugatit doctor`: what this machine and installation are, and whether ugatit works: what to paste into a report."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Final

from typer import Option

from ugatit_cli import __version__
from ugatit_cli.cli import console
from ugatit_cli.errors import BrokenInstallation
from ugatit_cli.health.findings import Check, Section, run

MARKS: Final = {"ok": " ", "note": "-", "problem": "!"}


def doctor(
    offline: Annotated[bool, Option("--offline", help="Ask no network.")] = False,
    json_document: Annotated[bool, Option("--json", help="All that was found, as one JSON document.")] = False,
) -> None:
    """Say what is on this machine, and whether ugatit works here.

    Versions, devices and memory, precisions, folders and their room, variables, whether servers can be reached, and a
    test of a few seconds. All of it is for reports; it has no secrets. Exit code 0 if ugatit works.

    Examples:

    `ugatit doctor`

    `ugatit doctor --offline --json > doctor.json`
    """
    found: list[Section] = []
    if json_document:
        console.ends_with(
            lambda: {"ugatit": __version__, "findings": [one for s in found for one in s.documents()]}, 2
        )
    for section in sections(offline=offline):
        found.append(section)
        if not json_document:
            console.result(*_lines(section))
    problems = [one for section in found for one in section.findings if one.level == "problem"]
    if problems:
        raise BrokenInstallation(
            f"ugatit doesn't work here: {', '.join(dict.fromkeys(one.name for one in problems))}",
            "Lines that begin with ! say what to do. To report it, paste all of this.",
        )
    console.note("ugatit works here; lines that begin with - are for what doesn't suit you")


def sections(*, offline: bool) -> Iterator[Section]:
    """All checks, one after the other."""
    from ugatit_cli.health import machine, network, places, trial, versions

    checks: dict[str, Check] = {
        "Versions": versions.versions,
        "Optional parts": versions.extras,
        "CPU": machine.cores,
        "Memory": machine.memory,
        "Devices": machine.devices,
        "Folders": places.places,
        "Variables": places.variables,
        "Network": partial(network.reach, offline=offline),
        "Self-test": trial.trial,
    }
    for title, check in checks.items():
        yield run(title, check)


def _lines(section: Section) -> Iterator[str]:
    yield section.title
    width = max((len(one.name) for one in section.findings), default=0)
    for one in section.findings:
        yield f"{MARKS[one.level]} {one.name:{width}}  {one.text}"
        if one.hint:
            yield f"  {'':{width}}  {one.hint}"
    yield ""

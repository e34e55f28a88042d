"""What a check says, and all checks one after the other: one that fails is a finding, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One fact.

    Attributes:
        name: of what.
        text: for people, in one line.
        level: `note`: some things won't work, or others would be better; `problem`: ugatit doesn't work.
        hint: what to do about it.
        facts: the same for programs.
    """

    name: str
    text: str
    level: Level = "ok"
    hint: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


Check = Callable[[], Iterator[Finding]]


@dataclass(frozen=True)
class Section:
    """Findings of one kind."""

    title: str
    findings: tuple[Finding, ...]

    def documents(self) -> list[dict[str, Any]]:
        """For programs."""
        return [
            {
                "section": self.title,
                "name": one.name,
                "level": one.level,
                "text": one.text,
                **({"hint": one.hint} if one.hint else {}),
                **({"facts": dict(one.facts)} if one.facts else {}),
            }
            for one in self.findings
        ]


def run(title: str, check: Check) -> Section:
    """All that a check finds; where it breaks off, that is the last finding, and no problem of ugatit's own."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:  # whatever an installation may come to
        found.append(Finding(title.lower(), f"can't be told: {reason(error)}", "note"))
    return Section(title, tuple(found))


def reason(error: BaseException) -> str:
    """What went wrong, in a line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__

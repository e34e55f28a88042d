"""Sizes, times, verdicts and strangers' texts in words, the same wherever a person reads them."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LONGEST: Final = 2000
"""Characters of a text that a person may have to read."""
# Not "printable" for Python: spaces of other scripts, what fonts and later versions of Unicode add, ...
_HARMLESS: Final = frozenset({"Zs", "Co", "Cn"})
# ... and what joins letters, or parts of an emoji.
_JOINERS: Final = "\t\u200c\u200d"

TOO_SHORT: Final = "the training was too short"
SWAPPED: Final = "the folders are the wrong way round"
FOREIGN: Final = "the model is for other pictures or sizes"
_TOO_FEW: Final = "the pictures are too few or the looks too close to tell"


def shown(text: object, longest: int = LONGEST) -> str:
    """A text of any origin in one line that no terminal obeys.

    Control characters, line breaks, what turns the direction of writing and what can't be seen are escaped as Python
    does it: `\\x1b`, `\\n`, `\\u202e`. Of a longer text the middle is left out.
    """
    return _cut("".join(map(_escaped, _cut(str(text), longest))), longest)


def _escaped(one: str) -> str:
    harmless = one.isprintable() or one in _JOINERS or unicodedata.category(one) in _HARMLESS
    return one if harmless else ascii(one)[1:-1]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]} ... {text[len(text) - longest // 4 :]}"


def without_passwords(text: str) -> str:
    """A text without passwords in addresses, and signatures and tokens of web addresses."""
    text = re.sub(r"(?<=//)[^\s/:@]*:[^\s/]*@", "***@", text)
    text = re.sub(r"(?i)\b((?!zip:)[a-z][a-z0-9+.-]*://)[^\s/]+@", r"\1***@", text)
    return re.sub(r"(?i)(https?://[^\s?#]+)(?:\?|#token=)\S*?(?=['\").,;:]*(?:\s|$))", r"\1", text)


def byte_size(count: float) -> str:
    """A number of bytes: `980 B`, `45.2 MB`, `8.06 GB`."""
    for unit, digits in (("B", 0), ("kB", 1), ("MB", 1)):
        if count < 999.5:
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def duration(seconds: float) -> str:
    """A time: `0 s`, `0.4 ms`, `84 ms`, `3.1 s`, `45 s`, `2 min 5 s`, `12 min`, `3 h 20 min`,
    `2 d 3 h`."""
    if seconds <= 0:
        return "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.{0 if seconds >= 0.00995 else 1}f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 89.5:
        return f"{round(seconds)} s"
    if seconds < 599.5:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def figure(value: float) -> str:
    """Three digits that count, never an exponent for large numbers: `0.0312`, `1.3`, `12400`."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def compared(way: str, verdict: str, *causes: str) -> str:
    """Whether a model is any good, in one line: compared with doing nothing.

    Args:
        way: what is judged: `horses -> zebras`.
        verdict: of `metrics.distances`.
        causes: what it usually is, if it isn't good.
    """
    if verdict == "better":
        return f"{way}: clearly better than the untouched pictures"
    words = "worse" if verdict == "worse" else "not clearly better"
    *others, last = causes if verdict == "worse" else (*causes, _TOO_FEW)
    usually = f"{', '.join(others)}, or {last}" if others else last
    return f"{way}: {words} than the untouched pictures. Usually {usually}"

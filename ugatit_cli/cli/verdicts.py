"""Whether a model is any good, in words: compared with doing nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ugatit_cli.metrics.distances import Verdict

TOO_SHORT: Final = "the training was too short"
SWAPPED: Final = "the folders are the wrong way round"
FOREIGN: Final = "the model is for other pictures or sizes"
_TOO_FEW: Final = "the pictures are too few or the looks too close to tell"


def in_words(way: str, verdict: Verdict, *causes: str) -> str:
    """One line.

    Args:
        way: what is judged: `horses -> zebras`.
        causes: what it usually is, if it isn't good.
    """
    if verdict == "better":
        return f"{way}: clearly better than the untouched pictures"
    words = "worse" if verdict == "worse" else "not clearly better"
    *others, last = causes if verdict == "worse" else (*causes, _TOO_FEW)
    usually = f"{', '.join(others)}, or {last}" if others else last
    return f"{way}: {words} than the untouched pictures. Usually {usually}"

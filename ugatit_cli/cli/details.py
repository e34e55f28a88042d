"""What the package's logger says, for whoever wants details; see `voice`. Not in it, as `logging` takes its time."""

from __future__ import annotations

import logging
from collections.abc import Callable


class Details(logging.Handler):
    """Passes on what is logged."""

    def __init__(self, say: Callable[[str], object]) -> None:
        super().__init__(logging.INFO)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Says it."""
        self.say(record.getMessage())


def listen(say: Callable[[str], object]) -> None:
    """Has it told from now on, and nobody who was told before."""
    logger = logging.getLogger("ugatit")
    for handler in [one for one in logger.handlers if isinstance(one, Details)]:
        logger.removeHandler(handler)
    logger.addHandler(Details(say))
    logger.setLevel(logging.INFO)

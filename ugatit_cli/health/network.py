"""Whether the Hub and PyPI can be reached from here."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ugatit_cli.health.findings import Finding, reason
from ugatit_cli.wording import duration

# Seconds that a server has to answer.
PATIENCE: Final = 3.0
PYPI: Final = "https://pypi.org/simple/"


def reach(*, offline: bool) -> Iterator[Finding]:
    """The servers that models and packages come from, asked at once; nobody, where that isn't wanted."""
    from ugatit_cli.remote.addresses import forbidden_by
    from ugatit_cli.remote.hub import endpoint

    by = "--offline" if offline else forbidden_by()
    if by:
        yield Finding("network", f"not asked ({by})", facts={"asked": False})
        return
    wanted = {"Hub": endpoint(), "PyPI": os.environ.get("PIP_INDEX_URL") or PYPI}
    with ThreadPoolExecutor(len(wanted)) as threads:
        yield from threads.map(lambda one: asked(*one), wanted.items())


def asked(name: str, address: str) -> Finding:
    """Whether a server answers, whatever it says."""
    from ugatit_cli.remote.addresses import hidden_parts

    shown, start = hidden_parts(address), time.monotonic()
    request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "ugatit-doctor"})
    problem = ""
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass
    except urllib.error.HTTPError:  # an answer, too
        pass
    except (OSError, ValueError) as error:
        problem = (
            reason(getattr(error, "reason", None) or error) if not isinstance(error, ValueError) else "no address"
        )
    if problem:
        hint = "Models that are here work without it: docs/offline.md"
        return Finding(name, f"{shown}: no answer ({problem})", "note", hint, {"reached": False})
    took = time.monotonic() - start
    return Finding(name, f"{shown}: answers in {duration(took)}", facts={"reached": True, "seconds": round(took, 3)})

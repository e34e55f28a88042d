"""`python -m ugatit_cli` is `ugatit`."""

from __future__ import annotations

import atexit
import contextlib
import gc
import signal
import sys

from ugatit_cli.cli.signals import interrupting


def main() -> None:
    """Runs the command line, ready for signals before what takes its time is imported."""
    # Or Python looks for garbage among all that torch has made before it ends, which takes it half a second.
    atexit.register(gc.freeze)
    try:
        with interrupting():
            from ugatit_cli.cli import app

            app.main()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # Python takes its time to end; a Ctrl-C in it would only show a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Where Ctrl-C ended an `exec`, as of dataclasses, Python would kill itself unless a later one ends well.
        with contextlib.suppress(MemoryError, SystemError):
            exec("")


if __name__ == "__main__":
    main()

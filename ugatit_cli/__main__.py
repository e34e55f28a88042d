"""`python -m ugatit_cli` is `ugatit`."""

from __future__ import annotations

from ugatit_cli.cli.app import main

if __name__ == "__main__":
    main()

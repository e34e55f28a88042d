"""The `ugatit` command: registers the commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from ugatit_cli import __version__
from ugatit_cli.cli import console
from ugatit_cli.cli.convert import convert
from ugatit_cli.cli.translate import translate
from ugatit_cli.errors import Interrupted, UgatitError

app = typer.Typer(
    name="ugatit",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(translate)
app.command()(convert)


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"ugatit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Translate pictures between two looks with U-GAT-IT.

    `ugatit translate ./icons -o out/` gives flat icons a 3D clay look with the bundled model.
    """


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 some inputs failed, 2 usage, 3 model, 4 training, 130 Ctrl-C."""
    try:
        app()
    except UgatitError as error:
        console.show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.note("interrupted")
        sys.exit(Interrupted.exit_code)
    except BrokenPipeError:
        # Whoever read our output has enough; what is written to disk stays.
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        console.show_bug(error)
        sys.exit(1)
    finally:
        # With torch, Python takes a second to end; a Ctrl-C in it would only show a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

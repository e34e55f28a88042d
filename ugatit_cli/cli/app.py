"""The `ugatit` command: registers the commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from ugatit_cli import __version__
from ugatit_cli.cli import console
from ugatit_cli.cli.cam import cam
from ugatit_cli.cli.evaluate import evaluate
from ugatit_cli.cli.fetch import convert, fetch
from ugatit_cli.cli.models import app as models
from ugatit_cli.cli.push import push
from ugatit_cli.cli.train import train
from ugatit_cli.cli.train_command import TrainCommand, with_options
from ugatit_cli.cli.translate import translate
from ugatit_cli.errors import UgatitError


class Root(TyperGroup):
    """The root command, without options of its own once a command is named.

    To look for an option, its own `--help` included, Typer imports pydantic. That would double the time of
    `ugatit COMMAND --help`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes the command's name off the arguments."""
        self.add_help_option = not args or args[0] not in self.commands
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="ugatit",
    cls=Root,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="ugatit --version shows the version.",
)
app.command()(translate)
app.command()(cam)
app.command(cls=TrainCommand)(with_options(train))
app.command()(evaluate)
app.command()(fetch)
app.add_typer(models)
app.command()(convert)
app.command()(push)


@app.callback()
def root() -> None:
    """Translate pictures between two looks with U-GAT-IT.

    `ugatit translate ./icons -o out/` gives flat icons a 3D clay look with the bundled model.
    """


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 some inputs failed, 2 usage, 3 model, 4 training, 130 Ctrl-C."""
    # Not an option of the root: see `Root`.
    if sys.argv[1:] == ["--version"]:
        console.result(f"ugatit {__version__}")
        sys.exit(0)
    try:
        app()
    except UgatitError as error:
        console.show_error(error)
        sys.exit(error.exit_code)
    except Exception as error:
        console.show_bug(error)
        sys.exit(1)
    finally:
        # With torch, Python takes a second to end; a Ctrl-C in it would only show a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

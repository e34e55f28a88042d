"""The `ugatit` command: registers the commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, Final

import typer
from typer.main import get_command, get_group

from ugatit_cli import __version__
from ugatit_cli.cli import console, streams, voice, wrong_names
from ugatit_cli.cli.help_view import CommandGroup
from ugatit_cli.cli.options import Command
from ugatit_cli.errors import Interrupted, UgatitError, UsageError, plain_reason

# As the help lists them, each with the first sentence of its own help.
COMMANDS: Final = {
    "translate": "Translate pictures, films and folders into another look.",
    "cam": "Show where the networks look; also called `attention`.",
    "serve": "Translate pictures on a page in the browser, and by HTTP.",
    "train": "Train a model that translates between two folders of pictures.",
    "evaluate": "Say in figures how close translations come to real pictures.",
    "study": "Ask people which results they like best, as the paper does.",
    "fetch": "Fetch a model, and keep it for use without a network.",
    "convert": "Convert the authors' checkpoints into a model folder.",
    "export": "Write a model as a file that other programs run: ONNX.",
    "push": "Publish a model on the Hugging Face Hub.",
    "models": "List models; check, find and remove them.",
    "data": "List data sets to train on; fetch, find and remove them.",
    "doctor": "Say what is on this machine, and whether ugatit works here.",
    "completion": "Print a script by which TAB completes commands and names.",
}
ALIASES: Final = {"attention": "cam"}
LOAD: Final = Path("/proc/loadavg")


def _let_threads_sleep(name: str) -> None:
    """Lets PyTorch's threads wait asleep where that pays, unless the user has said how; before torch is imported."""
    # They would spin for milliseconds on cores that other programs want. Fewer spins make it three times as fast on
    # taken cores; on free ones a training loses nothing, small networks that only translate a fifth
    # (benchmarks/busy.py).
    if "OMP_WAIT_POLICY" not in os.environ and (name == "train" or _others_compute()):
        os.environ.setdefault("GOMP_SPINCOUNT", "500")


def _others_compute() -> bool:
    """Whether another program uses a core now, and some did in the last minute; False where Linux doesn't tell."""
    try:
        load, _, _, running, _ = LOAD.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    return float(load) >= 0.5 and int(running.partition("/")[0]) > 1


def command(name: str) -> Any:
    """Imports and builds the command that is called, a Click command."""
    _let_threads_sleep(name)
    return built(name)


def built(name: str) -> Any:
    """Imports and builds one command of the module that is called like it."""
    module = importlib.import_module(f"ugatit_cli.cli.{'fetch' if name == 'convert' else name}")
    if name in ("models", "data", "study"):
        return get_group(module.app)
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    if name == "train":
        from ugatit_cli.cli.train_command import with_options

        alone.command(cls=Command)(with_options(module.train))
    else:
        alone.command(cls=Command)(getattr(module, name))
    return get_command(alone)


class Root(CommandGroup):
    """The root command: has only the command that is called, which saves the time of building the others.

    It has no options of its own then: to look for one, its own `--help` included, Typer imports pydantic. That would
    double the time of `ugatit COMMAND --help`.
    """

    others = (("--version", "Show the version."),)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes the command's name off the arguments."""
        if args and not args[0].startswith("-"):
            args = [ALIASES.get(args[0], args[0]), *args[1:]]
            if args[0] not in COMMANDS:
                raise wrong_names.no_such_command("", args[0], COMMANDS)
        self.add_help_option = not (args and args[0] in COMMANDS)
        if not self.add_help_option:
            self.add_command(command(args[0]))
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the name is Click's
        """All, also those that aren't built."""
        return list(COMMANDS)

    def summary_of(self, name: str) -> str:
        """As the command says itself."""
        return COMMANDS[name]


app = typer.Typer(
    name="ugatit",
    cls=Root,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
    Any option can stand in ugatit.toml, or in a variable such as UGATIT_DEVICE: docs/configuration.md lists them.
    Other variables: UGATIT_HOME (where models and data sets are kept), UGATIT_MANIFEST (names of your own for them),
    UGATIT_MIRROR (a server that is asked instead of all others), UGATIT_OFFLINE=1 (no network), UGATIT_DEBUG=1.
    """,
)


@app.callback()
def root() -> None:
    """Translate pictures between two looks with U-GAT-IT.

    `ugatit translate ./icons -o out/` gives flat icons a 3D clay look with the bundled model.
    """


def _check_folder() -> None:
    # Libraries of PyTorch's can't even be loaded there, and say nothing that helps.
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(f"the current folder: {plain_reason(error)}", "Go to one that exists.") from None


def _interrupted(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is what an error comes of: in the midst of an import, Python may make another one of it."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 some inputs failed, 2 usage, 3 model, 4 training, 5 device, 130
    Ctrl-C; docs/scripts.md."""
    streams.open_streams()
    _forget_no_size()
    voice.new(sys.argv[1:])
    sys.exit(_run())


def _forget_no_size() -> None:
    """Unsets sizes of a terminal that are none: with 0 columns, nothing at all would be said."""
    for name in ("COLUMNS", "LINES"):
        text = os.environ.get(name, "")
        if not (text.isdecimal() and int(text)):
            os.environ.pop(name, None)


def _complete(shell: str, words: list[str]) -> int:
    """Answers a shell in which TAB was pressed."""
    from ugatit_cli.cli import completion

    completion.answer(shell, words)
    return 0


def _run() -> int:
    """The command's exit code."""
    try:
        # Not an option of the root: see `Root`.
        if sys.argv[1:] == ["--version"]:
            console.result(f"ugatit {__version__}")
            return 0
        if sys.argv[1:2] == ["completion"] and sys.argv[3:4] == ["--"]:
            return _complete(sys.argv[2], sys.argv[4:])
        _check_folder()
        code: int = app(prog_name="ugatit", standalone_mode=False) or 0
    except BrokenPipeError:  # whoever read has enough
        return 1
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # Typer's
            error.show()  # type: ignore[attr-defined]
            return 2
        if not isinstance(error, UgatitError) and _interrupted(error):
            return console.end(Interrupted.exit_code)
        return console.end(1, error)
    return console.end(code)

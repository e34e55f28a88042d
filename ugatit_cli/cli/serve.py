"""`ugatit serve`: a page in the browser, and an HTTP API."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Option

from ugatit_cli.cli import console, signals
from ugatit_cli.cli.options import MAX_PIXELS_HELP, DeviceOption, PrecisionOption, parse_pixels
from ugatit_cli.errors import Interrupted, ModelError, UsageError, install_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ugatit_cli.serving.line import Line
    from ugatit_cli.serving.server import Answering
    from ugatit_cli.weights.known import Known

PORT: Final = 8765
TOKEN: Final = "UGATIT_TOKEN"
NEEDED: Final = ("fastapi", "uvicorn", "python_multipart")


def serve(
    model: Annotated[
        list[str] | None,
        Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A model that the page offers, the first one by default; several.  [default: all that are here]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, Option(metavar="ADDRESS", help="Where it listens; 0.0.0.0 lets others on your network in, by a token.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(metavar="N", min=0, max=65535, help="0 takes any that is free.")] = PORT,
    open_browser: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
    token: Annotated[
        str | None,
        Option(
            metavar="TOKEN",
            help=f"What requests must bring; better in the variable {TOKEN}, which others can't see.  "
            "[default: none on this machine's own addresses, else a new one]",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    max_upload: Annotated[int, Option("--max-upload", min=1, max=2000, metavar="MB", help="Of a picture.")] = 64,
    max_pixels: Annotated[str, Option("--max-pixels", metavar="N|off", help=MAX_PIXELS_HELP)] = "100M",
    queue: Annotated[
        int, Option(metavar="N", min=1, max=1000, help="Pictures that wait at a time; more are told to come again.")
    ] = 16,
) -> None:
    """Translate pictures on a page in the browser, and by HTTP.

    Drop, paste, choose or photograph pictures; compare, and download them. Nobody but this machine reaches the server
    unless --host says otherwise, and it asks no network. Its address goes to stdout; Ctrl-C ends it.

    Examples:

    `ugatit serve --open`

    `ugatit serve --model flat2clay --model runs/horses2zebras --port 0`

    `ugatit serve --host 0.0.0.0`

    `curl -F picture=@cat.png "http://127.0.0.1:8765/translate?to=clay" -o clay.png`
    """
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise UsageError("`ugatit serve` needs packages that aren't installed", install_line("serve"))
    warnings.filterwarnings("ignore", module="PIL")  # of large pictures and odd metadata
    from ugatit_cli.serving.app import make_app
    from ugatit_cli.serving.line import Line
    from ugatit_cli.serving.places import Limits
    from ugatit_cli.serving.server import Answering, listening, url_of
    from ugatit_cli.serving.studio import Studio

    limits = Limits(max_upload * 1_000_000, parse_pixels(max_pixels), queue)
    secret, made = _token(token, host)
    models = _models(model or [])
    if (device, precision) != ("auto", "auto"):
        from ugatit_cli.device import resolve_device, resolve_precision

        resolve_precision(precision, resolve_device(device))  # or each request would fail
    found = listening(host, port)
    studio, line = Studio(models, device=device, precision=precision, max_pixels=limits.pixels), Line()
    answering = Answering(make_app(studio, line, limits, secret, console.show_error), found)
    url = url_of(found) + "/" + (f"#token={secret}" if made else "")
    answering.start()
    line.begin(studio.load)
    console.note(f"{len(models)} model{'s' * (len(models) > 1)}; Ctrl-C ends it{'; the link has the token' * made}")
    console.made(url)
    if open_browser:
        _open(url)
    _wait(answering, line)


def _token(stated: str | None, host: str) -> tuple[str, bool]:
    """What requests must bring, and whether it is a new one; empty on this machine alone."""
    from ugatit_cli.serving.guard import SHORTEST, is_loopback, new_token

    token = stated or ""
    if token and not (len(token) >= SHORTEST and token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(f"--token: it has {SHORTEST} letters and digits, or more", "Leave it out for a new one.")
    if token or is_loopback(host):
        return token, False
    return new_token(), True


def _models(names: Sequence[str]) -> list[Known]:
    """Those that are named, or all that are here; nothing is fetched."""
    from ugatit_cli.weights.catalog import catalog, known
    from ugatit_cli.weights.known import absent

    hears = console.Transfer()
    if not names:
        if here := [one for one in catalog(hears) if one.state == "ready"]:
            return here
        raise ModelError("no model is here", "`ugatit models` lists those that can be fetched.")
    found = [known(name, hears) for name in dict.fromkeys(names)]
    for one in found:
        if one.folder is None:
            raise absent(one)
        if one.state != "ready":
            raise ModelError(
                f"{one.name} is damaged: {one.problem}", ": ".join(one.next_step) if one.next_step[1] else ""
            )
    return found


def _open(url: str) -> None:
    import webbrowser

    if not webbrowser.open(url):
        console.note("no browser could be opened; open the address yourself")


def _wait(answering: Answering, line: Line) -> None:
    """Until a signal; a second Ctrl-C leaves what is in progress."""
    try:
        with signals.interruptible() as stop:
            while not stop.wait(0.5) and answering.runs:
                pass
            line.close()
            answering.stop()
    except KeyboardInterrupt:
        line.close(at_once=True)
        answering.stop(at_once=True)
    raise typer.Exit(Interrupted.exit_code)

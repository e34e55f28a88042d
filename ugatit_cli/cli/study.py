"""`ugatit study`: a page on which people choose between methods' results, and the count of what they chose."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ugatit_cli.cli import console
from ugatit_cli.cli.help_view import CommandGroup
from ugatit_cli.cli.listing import aligned
from ugatit_cli.cli.options import Command, DeviceOption, PrecisionOption
from ugatit_cli.errors import InputsFailed, Interrupted, UsageError
from ugatit_cli.files import expanded

if TYPE_CHECKING:
    from ugatit_cli.study.page import StudyMaker
    from ugatit_cli.study.tally import SignTest, Tally
    from ugatit_cli.translation.model import Model


class MakeFirst(CommandGroup):
    """`ugatit study ...` is short for `ugatit study make ...`."""

    first = "make"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds the command if there is none."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [self.first, *args]
        self.add_help_option = not args or args[0] not in self.commands  # see `app.Root`
        return super().parse_args(ctx, args)


app = typer.Typer(name="study", cls=MakeFirst, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def study() -> None:
    """Ask people which results they like best, as the paper does.

    `ugatit study FOLDER FOLDER ...` is short for `ugatit study make FOLDER FOLDER ...`: it writes a page that needs
    nothing but a browser. People choose, and download their answers; `ugatit study tally` counts them.

    Examples:

    `ugatit study ugatit/ cyclegan/ --source horses/ --examples zebras/`

    `ugatit study -m runs/ugatit -m runs/cyclegan --source horses/ --examples zebras/ -o study.html`

    `ugatit study tally answers/*.json --key study.key.json`
    """


@app.command(cls=Command)
def make(
    results: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LABEL=]FOLDER",
            help="Translations of one method each, named like their sources, as `ugatit translate` does it.  "
            "[label: the folder's name]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[LABEL=]MODEL",
            help="Or a model, which translates the sources now; several, also beside folders.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What was, or is to be, translated.", show_default=False)
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Real pictures of the target domain.", show_default=False)
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PAGE.html", help="The page; its key goes beside it.")
    ] = Path("study.html"),
    question: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What people are asked.  [default: Which result is the best translation into the look of the "
            "examples?]",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=500, help="Pictures to ask about, at most; of more, some are drawn."),
    ] = 50,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Another number, other pictures.")] = 0,
    direction: Annotated[
        Literal["a2b", "b2a"] | None,
        typer.Option("--direction", help="Which way models translate.  [default: a2b]", show_default=False),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a page and its key, without which its answers say nothing.")
    ] = False,
) -> None:
    """Write a page on which people choose between results.

    Each row has a picture, its results in an order of its own for every person, and examples of the target domain.
    Nothing on the page says which method is which: that is in the key, study.key.json beside study.html. Keep it, and
    give people the page alone.

    Examples:

    `ugatit study ugatit/ cyclegan/ --source horses/ --examples zebras/`

    `ugatit study ours=out/1 theirs=out/2 --source horses/ --examples zebras/ --count 20 -o horses.html`

    `ugatit study -m runs/ugatit -m runs/cyclegan --source horses/ --examples zebras/`
    """
    warnings.filterwarnings("ignore", module="PIL")  # of large pictures and odd metadata
    if source is None or examples is None:
        missing = "--source" if source is None else "--examples"
        raise UsageError(f"{missing} is missing", "Name both: --source DIR, what was translated, and --examples DIR.")
    if direction is not None and not model:
        raise UsageError("--direction is about models", "Leave it out, or name one: --model MODEL")
    folders, models = _labelled(results or [], folders=True), _labelled(model or [])
    if twice := folders.keys() & models.keys():
        raise _twice(min(twice))

    from ugatit_cli.study.page import QUESTION, StudyMaker

    of_folders = {label: expanded(path) for label, path in folders.items()}
    of_models = {label: _load(name, device, precision) for label, name in models.items()}
    maker = StudyMaker(
        page=expanded(output),
        results={**of_folders, **of_models},
        source=expanded(source),
        examples=expanded(examples),
        question=QUESTION if question is None else question,
        count=count,
        seed=seed,
        direction=direction,
        overwrite=overwrite,
    )
    _make(maker)


def _make(maker: StudyMaker) -> None:
    try:
        with console.progress(maker.wanted, "pictures") as progress:
            maker.advance = progress.advance
            made = maker.run()
    except KeyboardInterrupt:
        raise Interrupted("interrupted; nothing was written") from None
    finally:
        for error in maker.broken:
            console.show_error(error)
    if made.available < made.sources:
        console.note(f"{maker.source}: of {made.sources} pictures {made.available} have a result of every method")
    console.note(f"{made.pictures} pictures, {len(maker.results)} methods: {', '.join(maker.results)}")
    console.note(f"the key, for you alone: {made.key}")
    console.made(str(made.page))
    if maker.broken:
        raise InputsFailed(f"{len(maker.broken)} left out, named above; the page has the rest")


def _labelled(texts: list[str], *, folders: bool = False) -> dict[str, str]:
    """`LABEL=REST` as label and rest; what has no label is its own, a folder's its name."""
    found: dict[str, str] = {}
    for text in texts:
        label, stated, rest = text.partition("=")
        if not (stated and label and rest) or os.path.exists(text):  # noqa: PTH110  # never raises
            label, rest = os.path.basename(os.path.abspath(text)) if folders else text, text  # noqa: PTH100, PTH119
        if label in found:
            raise _twice(label)
        found[label] = rest
    return found


def _twice(label: str) -> UsageError:
    return UsageError(f"two methods are called {label}", "Give them labels: ours=FOLDER theirs=FOLDER")


def _load(name: str, device: str, precision: str) -> Model:
    from ugatit_cli.translation.model import Model

    return Model.from_folder(name, console.find_model(name), device=device, precision=precision)


# --- What people chose ---------------------------------------------------------------------------------


@app.command(cls=Command)
def tally(
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS", help="Files that people downloaded from the page.")
    ],
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What was written beside the page.  [default: it is among the files]"),
    ] = None,
    json_document: Annotated[
        bool, typer.Option("--json", help="The figures on stdout as one JSON document.")
    ] = False,
) -> None:
    """Count what people chose, and say whether the first is ahead.

    A person counts once. Files that are damaged, of another study, or of a person who counts already are named and
    left out.

    Examples:

    `ugatit study tally answers/*.json --key study.key.json`

    `ugatit study tally *.json --json`
    """
    from ugatit_cli.study.tally import tally_study

    found = tally_study(map(expanded, answers), expanded(key) if key is not None else None)
    for error in found.left_out:
        console.show_error(error)
    if not found.choices:
        raise InputsFailed("no answers are left to count")
    if json_document:
        console.ends_with(lambda: _document(found))
    else:
        console.result(*_report(found))
    if count := len(found.left_out):
        raise InputsFailed(f"{count} file{'s' * (count > 1)} left out, named above; the figures are of the rest")


def _document(found: Tally) -> dict[str, Any]:
    return {**dataclasses.asdict(found), "left_out": [error.message for error in found.left_out]}


def _report(found: Tally) -> list[str]:
    rows = [
        (one.method, str(one.chosen), _percent(one.share), f"{_percent(one.low)} to {_percent(one.high)}")
        for one in found.shares
    ]
    places = [_percent(count / found.choices) for count in found.places]
    return [
        found.question,
        "",
        *aligned([("METHOD", "CHOSEN", "SHARE", "95 % INTERVAL"), *rows]),
        "",
        f"persons: {found.persons}, choices: {found.choices}, pictures: {found.pictures}",
        _ahead(found.by_choices, "choices (as if each were independent)"),
        _ahead(found.by_persons, "persons (by what each chose more often)"),
        f"places in the row: {', '.join(places)}",
    ]


def _ahead(test: SignTest, of: str) -> str:
    return f"{test.first} against {test.second}, {of}: {test.wins} to {test.losses}, p = {test.p:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

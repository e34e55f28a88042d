"""Options that several commands share, and what their values mean."""
# ruff: noqa: PTH113

from __future__ import annotations

import copy
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_type_hints

from typer import Argument, BadParameter, Context, Option, Typer
from typer.core import TyperCommand
from typer.main import get_command

from ugatit_cli.cli import configuration, console, help_view, voice, wrong_names
from ugatit_cli.config import DEFAULT_MODEL, Fit
from ugatit_cli.errors import UgatitError, UsageError
from ugatit_cli.files import expanded
from ugatit_cli.remote.urls import misplaced

MOST_BATCH = 1024
MOST_WORKERS = 64

STATED: Final = "stated"
Format = Literal["same", "png", "jpg", "webp", "gif"]

WorkersOption = Annotated[str, Option("--workers", metavar="auto|N", help="Threads that decode and encode.")]
MAX_PIXELS_HELP = "The most pixels of a picture, all its frames together; a number, millions (300M), or off."
MaxPixelsOption = Annotated[str, Option("--max-pixels", metavar="N|off", help=MAX_PIXELS_HELP)]
DeviceOption = Annotated[str, Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    Option(
        "--precision",
        help="Number format: fp32 is the most exact, bf16 and fp16 are faster where a device is good at them; "
        "auto takes what suits the device.",
    ),
]
EngineOption = Annotated[
    Literal["auto", "torch", "onnx"],
    Option(
        "--engine",
        help="What runs the network; auto: PyTorch, and ONNX where the model is a file of `ugatit export`.",
    ),
]
ColumnsOption = Annotated[
    str | None,
    Option("--columns", metavar="A,B", help="Of parquet files: columns of pictures, or labels.  [default: found]"),
]
DryRunOption = Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")]


def output_option(default: str = "") -> Any:
    """`--output`, whose help says where results go by default."""
    text = f"Folder for the results, or a file for a single picture.{default and f'  [default: {default}]'}"
    return Option("--output", "-o", metavar="OUT", help=text, show_default=False)


ModelOption = Annotated[
    str,
    Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A name that `ugatit models` lists, a folder, a run, or OWNER/NAME[@REVISION] on the Hub; "
        f"@sha256:DIGEST pins any.  [default: {DEFAULT_MODEL}]",
        show_default=False,
    ),
]


ModelsOption = Annotated[
    list[str] | None,
    Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A model's name, a model folder or run, or OWNER/NAME[@REVISION] on the Hub; @sha256:DIGEST pins any. "
        f"With several (-m A -m B), each gets a folder in OUT.  [default: {DEFAULT_MODEL}]",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """What commands that turn pictures into pictures are asked for but their models: each field is an option.

    Attributes:
        stated: but this one: those fields that the command line itself says.
    """

    inputs: Annotated[
        list[str] | None,
        Argument(
            metavar="INPUT",
            help="Pictures, films, folders, globs, URLs (s3:// hf:// zip:// https://), or - for stdin.",
            show_default=False,
        ),
    ] = None
    output: Annotated[str | None, output_option()] = None
    files_from: Annotated[
        str | None,
        Option(
            "--files-from",
            metavar="FILE",
            help="Also take the pictures named in this list, one a line (or after each NUL); - reads stdin.",
        ),
    ] = None
    base: Annotated[
        str | None,
        Option("--base", metavar="DIR", help="Results keep the path of their pictures below this folder."),
    ] = None
    shard: Annotated[
        str | None,
        Option(
            "--shard",
            metavar="I/N",
            help="Only the Ith of N parts, whichever machine lists the pictures: 2/4 is the second of four.",
            show_default=False,
        ),
    ] = None
    direction: Annotated[
        Literal["a2b", "b2a"] | None,
        Option(
            "--direction",
            help="The same without a name: a2b gives the second look, b2a the first.",
            show_default=False,
        ),
    ] = None
    to: Annotated[
        str | None,
        Option(
            "--to",
            metavar="DOMAIN",
            help="Which look results get, by its name: ink, clay.  [default: the model's second]",
        ),
    ] = None
    engine: EngineOption = "auto"
    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    compile: Annotated[
        bool,
        Option(
            "--compile",
            help="Compile the network first, on NVIDIA GPUs: takes a minute, pays for many pictures of few sizes.",
        ),
    ] = False
    batch_size: Annotated[
        str, Option("--batch-size", metavar="auto|N", help="Pictures that go through the network at a time.")
    ] = "auto"
    workers: WorkersOption = "auto"
    max_pixels: MaxPixelsOption = "300M"
    size: Annotated[
        str, Option("--size", metavar="SIZE", help="Size of the results: same, model, N (short side) or WxH.")
    ] = "same"
    fit: Annotated[
        Fit,
        Option(
            "--fit",
            help="aspect: fully restyled, and soft if the picture is large. native: sharp, but lightly restyled, "
            "and slow. squash: as aspect, by way of the paper's square.",
        ),
    ] = "aspect"
    tile: Annotated[
        str,
        Option(
            "--tile",
            metavar="auto|off|N",
            help="Overlapping tiles of N pixels, for less memory; auto: for native pictures above 2.3 MP.",
        ),
    ] = "auto"
    background: Annotated[
        str,
        Option(
            "--background",
            metavar="COLOUR",
            help="Colour behind transparent pixels while translating: white icons need black.",
        ),
    ] = "white"
    format: Annotated[Format, Option("--format", help="File format of the results.")] = "same"
    quality: Annotated[
        int | None,
        Option(
            "--quality",
            metavar="N",
            min=1,
            max=100,
            help="100 is best.  [default: jpg 95, webp 90, avif 85, films 75]",
            show_default=False,
        ),
    ] = None
    films: Annotated[bool, Option("--films", help="In folders, take films, too; by name, they always are.")] = False
    codec: Annotated[
        Literal["auto", "h264", "hevc", "vp9", "av1"],
        Option("--codec", help="What films are encoded with; auto: h264, in .webm vp9."),
    ] = "auto"
    skip_existing: Annotated[bool, Option("--skip-existing", help="Leave results that exist already.")] = False
    update: Annotated[
        bool, Option("--update", help="The same, but redo results that are older than their pictures.")
    ] = False
    overwrite: Annotated[bool, Option("--overwrite", help="Replace results that exist already.")] = False
    dry_run: DryRunOption = False
    report: Annotated[
        Path | None,
        Option(
            "--report",
            metavar="PAGE.html",
            help="Also write a page with every picture before and after, attention, and times.",
        ),
    ] = None
    report_title: Annotated[
        str | None,
        Option(
            "--report-title", metavar="TEXT", help="Title of that page.  [default: both domains]", show_default=False
        ),
    ] = None
    json_lines: Annotated[bool, Option("--json", help="Results on stdout as JSON, one line each.")] = False
    stated: frozenset[str] = frozenset()

    @property
    def watches(self) -> bool:
        """Whether there may be no pictures yet."""
        return False


# What `translate` and `cam` are asked for, as their help shows it.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Most used": ("inputs", "output", "model", "to", "overwrite"),
    "Input and output": (
        *(
            "files_from",
            "base",
            "shard",
            "watch",
            "watch_every",
            "films",
            "format",
            "quality",
            "codec",
            "keep_metadata",
            "report",
            "report_title",
            "json_lines",
        ),
    ),
    "Model": ("direction", "style", "styles", "run"),
    "Look": (
        *("size", "fit", "background", "strength", "keep_colour", "steady"),
        *("layout", "maps", "alpha", "colormap", "normalize", "upsample", "animate"),
    ),
    "Part of the picture": ("faces", "faces_only", "margin", "no_face", "box", "mask", "feather"),
    "Speed": ("device", "precision", "engine", "compile", "batch_size", "workers", "tile"),
    "Safety": ("skip_existing", "update", "dry_run", "max_pixels"),
}
# What few need, so that only `--help-all` shows it: of commands, those that have too much for two screens.
_RARE_PICTURES: Final = frozenset(
    {"base", "shard", "watch_every", "codec", "engine", "compile", "batch_size", "workers", "tile", "max_pixels"}
)
RARE: Final[Mapping[str, frozenset[str]]] = {
    "translate": _RARE_PICTURES
    | {"style", "styles", "report_title", "margin", "no_face", "feather", "keep_metadata", "direction"},
    "cam": _RARE_PICTURES | {"report_title", "alpha", "normalize", "upsample", "animate", "direction"},
    "train": frozenset(
        {"domain_a", "domain_b", "columns", "start_direction", "fit", "workers", "max_pixels"}
        | {"discriminator_channels", "decoder_norm", "generator_cam", "discriminator_cam", "discriminators"}
        | {"style_way", "decay_from", "weight_decay", "adversarial_weight", "cycle_weight", "cam_weight"}
        | {"cycle", "feature_weight", "judge_weight"}
        | {"reconstruction_weight", "style_weight", "kl_weight", "mode_seeking_weight", "pool_size"}
        | {
            "content_weight",
            "attention_share",
            "identity_weight",
            "blocks",
            "flip",
            "tensorboard",
            "warm_up",
            "ema",
            "vgg",
            "power_iterations",
        }
        | {"sample_every", "extractor", "features", "feature_layer"}
    ),
}


# Names that options of commands had in earlier versions.
OLD_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "fetch": {"--to": "output"},
    "push": {"--to": "output"},
    "export": {"--to-format": "format"},
}


@functools.cache
def _config_option() -> Any:
    """`--config`, which every command has."""

    def has(
        config: Annotated[
            str | None,
            Option(
                "--config",
                metavar="FILE|off",
                rich_help_panel=help_view.EVERY,
                help="Options from this TOML file (of train: a run's, too) instead of ./ugatit.toml and your own.",
            ),
        ] = None,
    ) -> None: ...

    app = Typer(add_completion=False)
    app.command()(has)
    option = get_command(app).params[0]
    option.expose_value = False
    return option


class Command(TyperCommand):
    """A command with the options that all have, whose help shows them in sections; it leaves no value out.

    What the command line doesn't say comes from files and variables, see `cli.configuration`.
    """

    shows_all = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params = [*self.params, _config_option(), *voice.options()]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Of the usage line."""
        return help_view.usage(self.get_params(ctx))

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # the name is Click's
        """Writes what it does, and examples."""
        help_view.write_text(self.help or "", formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes a section for each group of options, in the order of the options."""
        rare = RARE.get(self.name or "", frozenset())
        help_view.write_options(self.get_params(ctx), formatter, frozenset() if self.shows_all else rare)

    def make_parser(self, ctx: Any) -> Any:
        """Also takes names that options had once."""
        parser = super().make_parser(ctx)
        for old, name in OLD_NAMES.get(self.name or "", {}).items():
            option = next(one for one in self.params if one.name == name)
            parser.add_option(option, [old], dest=name)  # type: ignore[arg-type]
        return parser

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """`--help-all` is `--help` with what few need; wrong names are answered with the right ones.

        Raises:
            UsageError: there is no such option.
        """
        stated = help_view.before_dashes(args)
        self.shows_all = help_view.HELP_ALL in stated
        try:
            return super().make_context(info_name, ["--help"] if self.shows_all else args, parent, **extra)
        except Exception as error:
            if type(error).__name__ != "NoSuchOption":  # Typer's
                raise
            name: str = error.option_name  # type: ignore[attr-defined]
            if file := next((one for one in stated if name.strip("-") in one and _is_dashed_file(one)), None):
                raise UsageError(f"no such option: {file}", f"For the file of that name: ./{file}") from None
            typed = next((one.partition("=")[0] for one in stated if one.startswith(name)), name)
            path = " ".join([*([parent.command.name] if parent and parent.parent else []), str(info_name)])
            known = [flag for one in self.params for flag in (*one.opts, *one.secondary_opts)]
            raise wrong_names.no_such_option(path, typed, [*known, help_view.HELP_ALL]) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Fills in what files and variables say, and refuses what can't be."""
        stated, _, given = self.make_parser(ctx).parse_args(list(args))
        helps = "help" in stated or ctx.resilient_parsing
        if not helps:
            _refuse_several(given)
            configuration.fill(self, ctx, stated)
        try:
            return super().parse_args(ctx, args)
        except BadParameter as error:
            error.message = configuration.in_words(error.message)
            raise configuration.refused(error, ctx) or error from None

    def invoke(self, ctx: Any) -> Any:
        """Runs it, with the voice that it was asked for; says where settings come from, if not the line alone."""
        as_json = any(ctx.params[one.name] for one in self.params if voice.JSON in one.opts)
        try:
            asked = {one.name: ctx.params.pop(one.name) for one in voice.options()}
            _refuse_as_log(self, asked["log_file"], ctx.params)
            console.begin(asked, json=as_json)
            configuration.tell(ctx)
            _refuse_urls(self, ctx.params)
            return super().invoke(ctx)
        except UgatitError as error:
            configuration.explain(error, ctx)
            raise


def _is_dashed_file(text: str) -> bool:
    return text.startswith("-") and os.path.lexists(text)


def _refuse_several(given: Sequence[Any]) -> None:
    """An option that takes one value and is given several times is a UsageError."""
    for parameter in given:
        flag = getattr(parameter, "is_flag", True)  # arguments come once
        if not (flag or parameter.multiple) and (count := given.count(parameter)) > 1:
            hint = "It takes one value, and only one of them would count."
            raise UsageError(f"{'/'.join(parameter.opts)} is given {count} times", hint)


def _refuse_urls(command: Command, values: Mapping[str, Any]) -> None:
    """A URL is a UsageError where only files and folders here can be read or written."""
    taken = {"inputs", "output", "base"} if any(one.name == "files_from" for one in command.params) else set()
    for option, name, text in _texts(command, values):
        if name not in taken and (url := misplaced(text)):
            raise UsageError(
                f"{option} {url}: is elsewhere, and this takes files and folders here",
                "Copy it first, and name the copy. ugatit translate and cam take URLs.",
            )


def _refuse_as_log(command: Command, log: str | None, values: Mapping[str, Any]) -> None:
    """A file that the call names for something else, as a list of pictures, is a UsageError as a log."""
    if log is None or not os.path.isfile(there := expanded(log)):
        return
    for option, _, text in _texts(command, values):
        if os.path.isfile(path := expanded(text)) and path.samefile(there):
            raise UsageError(f"--log-file {log}: {option} names it, too", "Name another file to append to.")


def _texts(command: Command, values: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str | Path]]:
    """What a call says that may be a file's name: by which option, its parameter, and the text."""
    for parameter in command.params:
        value = values.get(parameter.name or "")
        option = parameter.opts[0] if parameter.opts[0].startswith("-") else "the argument"
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str | Path):
                yield option, parameter.name, one


T = TypeVar("T")


def options_of(
    table: type[T], sections: Mapping[str, tuple[str, ...]] = MappingProxyType({})
) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Makes a function of a dataclass a command with an option for each field.

    Args:
        sections: of the help, in their order: title -> fields. Those that are in none come last.
    """
    parameters = {name: one for name, one in inspect.signature(table).parameters.items() if name != STATED}
    hints = get_type_hints(table, include_extras=True)
    titles = {name: title for title, names in sections.items() for name in names if name in parameters}

    def shown(name: str) -> inspect.Parameter:
        kind, info = get_args(hints[name])
        if titles.get(name):
            info = copy.copy(info)  # which several commands may share
            info.rich_help_panel = titles[name]
        return parameters[name].replace(annotation=Annotated[kind, info])

    def command_of(function: Callable[[T], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(context: Context, **values: Any) -> None:
            sources = {name: context.get_parameter_source(name) for name in values}
            stated = frozenset(name for name, one in sources.items() if one and one.name == "COMMANDLINE")
            function(table(**values, **({STATED: stated} if STATED in hints else {})))

        signature = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Context)]
        signature += [shown(name) for name in dict.fromkeys([*titles, *parameters])]
        command.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
        return command

    return command_of


# Below, what can't be understood is a UsageError that names the option.


def default_workers() -> int:
    """Decoding threads: as many as cores, within reason; processes of a launcher share these."""
    return max(2, min(8, (os.cpu_count() or 2) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def parse_count(option: str, text: str, most: int) -> int:
    """`auto` -> 0, else a number from 1 to `most`."""
    if text == "auto":
        return 0
    if re.fullmatch("[0-9]{1,8}", text) and 1 <= int(text) <= most:
        return int(text)
    raise UsageError(f"{option} {text}: unknown", f"It is auto, or a number from 1 to {most}.")


def parse_pixels(text: str) -> int | None:
    """`300M` -> 300,000,000, `90000` -> 90,000, `off` -> None."""
    if text == "off":
        return None
    if match := re.fullmatch("([0-9]{1,12})(M?)", text, re.IGNORECASE):
        return int(match[1]) * (1_000_000 if match[2] else 1)
    raise UsageError(f"--max-pixels {text}: unknown", "It is a number of pixels, of millions of them (300M), or off.")


def parse_columns(text: str | None) -> tuple[str, str] | None:
    """`imageA,imageB` as two names."""
    names = text.split(",") if text is not None else []
    if len(names) == 2 and all(names):
        return names[0], names[1]
    if text is None:
        return None
    raise UsageError(f"--columns {text}: names two columns, that of domain A first", "Like this: imageA,imageB")


def parse_domains(text: str) -> tuple[str, str]:
    """`selfie,anime` as two names."""
    names = tuple(name.strip() for name in text.split(","))
    if len(names) != 2:
        raise UsageError(f"--domains {text}: names two domains, A first", "Like this: --domains selfie,anime")
    return names[0], names[1]

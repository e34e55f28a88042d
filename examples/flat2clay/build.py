"""Builds the flat2clay benchmark, two unpaired domains of emoji with held-out pairs: flat Twemoji, Fluent 3D emoji.

Needs `pip install . resvg-py` in a checkout, and on first use a network. Then: `ugatit train --data DEST`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from emoji_names import HELD_OUT, TRAINING, files_by_name, folders, is_unlicensed, shown
from emoji_pictures import check_renderer, clay, flat
from npm_package import FLUENT, TWEMOJI, Package, cache_folder, fetch, files, find_registry
from ugatit_cli.cli import console
from ugatit_cli.errors import Interrupted, UgatitError, UsageError, plain_reason
from ugatit_cli.files import write_file
from ugatit_cli.pictures.encoding import encode
from ugatit_cli.pictures.reading import from_pil

NOTICE: Final = "NOTICE.txt"
SMALLEST, LARGEST = 16, 1024
_TEMPLATE: Final = Path(__file__).with_name("notice.txt")
_GO_ON: Final = "The same command goes on where it stopped."


@dataclass(frozen=True)
class Drawing:
    """One picture of the benchmark that can be made.

    Attributes:
        folder, name: where it goes, `folder/name.png`.
        source: what its file in the package holds.
        draw: makes an RGB picture from `source`, the side in pixels, and a name for messages.
    """

    folder: str
    name: str
    source: bytes
    draw: Callable[[bytes, int, str], Image.Image]

    @property
    def file(self) -> str:
        """Path below the benchmark's folder."""
        return f"{self.folder}/{self.name}.png"


@dataclass(frozen=True)
class Plan:
    """All pictures of the benchmark, and the names of those that are left out of the training folders."""

    drawings: tuple[Drawing, ...]
    left_out: tuple[str, ...]

    def names(self, folder: str) -> list[str]:
        """The emoji in one folder, sorted."""
        return [drawing.name for drawing in self.drawings if drawing.folder == folder]


def make_plan(svgs: Mapping[str, bytes], webps: Mapping[str, bytes], *, licensed: bool) -> Plan:
    """The emoji that both packages have, each in its folders.

    Args:
        svgs, webps: file name to content, of the flat and of the clay emoji.
        licensed: leave out of the training folders what Microsoft doesn't publish under MIT.
    """
    flats = files_by_name(svgs)
    clays = {shown(name): file for name, file in files_by_name(webps).items()}
    drawings: list[Drawing] = []
    left_out: list[str] = []
    for name in sorted(flats.keys() & clays.keys()):
        where = folders(name)
        if licensed and where != HELD_OUT and is_unlicensed(name):
            left_out.append(name)
            continue
        for folder in where:
            is_flat = folder.endswith("A")
            source = svgs[flats[name]] if is_flat else webps[clays[name]]
            drawings.append(Drawing(folder, name, source, flat if is_flat else clay))
    return Plan(tuple(drawings), tuple(left_out))


def check_destination(dest: Path, drawings: Iterable[Drawing], size: int) -> None:
    """Refuses a folder with anything that doesn't belong to this benchmark, as it would be trained on.

    Hidden files may lie about: training skips them.

    Raises:
        UsageError: it, or what it would lie in, is a file; a file in it is foreign, or of another size.
    """
    wanted = {drawing.file for drawing in drawings}
    try:
        there = next(path for path in (dest, *dest.parents) if path.exists())
        if not there.is_dir():
            raise UsageError(f"{there}: not a folder", "Name another folder.")
        found = [f"{name}/{path.name}" for name in (*TRAINING, *HELD_OUT) for path in _entries(dest / name)]
        foreign = sorted(set(found) - wanted)
        notice = dest / NOTICE
        if notice.exists() and not notice.read_bytes().startswith(_TEMPLATE.read_bytes().splitlines()[0]):
            foreign.append(NOTICE)
    except OSError as error:
        raise UsageError(f"{error.filename}: {plain_reason(error)}", "Name another folder.") from error
    if foreign:
        others = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        raise UsageError(
            f"{dest / foreign[0]}: doesn't belong to the benchmark{others}",
            "Name another folder, or delete what is in this one. One with --licensed and one without are different.",
        )
    for file in found:
        _check_size(dest / file, size)


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name[0] != "."] if folder.exists() else []


def _check_size(path: Path, size: int) -> None:
    try:
        with Image.open(path) as image:
            found = image.size
    except (OSError, SyntaxError) as error:  # which Pillow raises for some damaged PNG files
        raise UsageError(f"{path}: not a picture of the benchmark", "Delete it, and it is made again.") from error
    if found != (size, size):
        raise UsageError(
            f"{path}: has {found[0]} x {found[1]} pixels, not {size} x {size}",
            "Name another folder, or give the same --size as before.",
        )


def notice_text(plan: Plan, size: int, packages: tuple[Package, Package]) -> str:
    """Licences and sources of what is in the benchmark."""
    train_a, train_b, held_out = (plan.names(folder) for folder in (*TRAINING, HELD_OUT[0]))
    kept = sum(map(is_unlicensed, train_a + train_b))
    template = _TEMPLATE.read_text(encoding="utf-8")
    return template.format(
        underline="=" * len(template.splitlines()[0]),
        train_a=len(train_a),
        train_b=len(train_b),
        held_out=len(held_out),
        twemoji=packages[0],
        fluent=packages[1],
        size=size,
        left_out_text=f"{len(plan.left_out)} were left out of trainA and trainB, and {kept} are there.",
        measured=sum(map(is_unlicensed, held_out)),
    )


def draw_missing(dest: Path, drawings: Sequence[Drawing], size: int) -> None:
    """Writes the pictures that aren't there, each whole or not at all.

    Raises:
        OutputError: one can't be written.
    """
    missing = [drawing for drawing in drawings if not (dest / drawing.file).exists()]
    if len(missing) < len(drawings):
        console.note(f"{len(drawings) - len(missing)} of {len(drawings)} pictures are there already")
    with console.progress(len(missing), "pictures") as progress:
        for drawing in missing:
            image = drawing.draw(drawing.source, size, drawing.name)
            write_file(dest / drawing.file, encode(from_pil(image), "PNG"))
            progress.advance()


def build(dest: Path, options: argparse.Namespace, packages: tuple[Package, Package]) -> None:
    """Makes the benchmark in `dest`, or what of it is missing, and says what is there.

    Raises:
        UgatitError: see `main`.
    """
    check_renderer()
    registry = find_registry(options.registry)
    twemoji, fluent = (fetch(package, registry, options.cache, console.note) for package in packages)
    plan = make_plan(files(twemoji, ".svg"), files(fluent, ".webp"), licensed=options.licensed)
    check_destination(dest, plan.drawings, options.size)
    write_file(dest / NOTICE, notice_text(plan, options.size, packages).encode())
    draw_missing(dest, plan.drawings, options.size)
    counts = ", ".join(f"{folder} {len(plan.names(folder))}" for folder in (*TRAINING, *HELD_OUT))
    left_out = f"; {len(plan.left_out)} left out" if options.licensed else ""
    console.note(f"{dest}: {counts}{left_out} (sources and licences: {NOTICE})")
    console.note(f"next: ugatit train --data {dest} --domains flat,clay")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process with exit code 2 where it makes no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dest", type=Path, metavar="DEST", help="folder for trainA, trainB, testA, testB")
    parser.add_argument(
        "--cache", type=Path, default=cache_folder(), help="folder of tarballs [default: %(default)s]"
    )
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels [default: 256]")
    parser.add_argument("--registry", help="npm registry [default: $NPM_CONFIG_REGISTRY, or npm's own]")
    parser.add_argument("--licensed", action="store_true", help="train only on what Microsoft publishes under MIT")
    options = parser.parse_args(arguments)
    if not SMALLEST <= options.size <= LARGEST:
        parser.error(f"--size {options.size}: use {SMALLEST} to {LARGEST}")
    return options


def main(arguments: Sequence[str] | None = None, packages: tuple[Package, Package] = (TWEMOJI, FLUENT)) -> int:
    """Runs the command line.

    Args:
        arguments: by default those of the process.
        packages: of the flat (SVG) and of the clay (WebP) emoji.

    Returns:
        The exit code: 0 done, 1 a download or a file failed, 2 wrong usage, 130 Ctrl-C.
    """
    options = parse(arguments)
    try:
        build(options.dest, options, packages)
    except KeyboardInterrupt:
        error: UgatitError = Interrupted("interrupted", _GO_ON)
    except UgatitError as caught:
        error = caught
    else:
        return 0
    console.show_error(error)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

"""Who may import whom: every file has a floor and imports from lower floors, or from its own without a cycle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ugatit_cli"

# Module below the package -> floor; `nn` stands for all of `nn/*` and its `__init__`.
FLOORS = {
    **dict.fromkeys(("config", "errors", "recipe"), 0),
    **dict.fromkeys(("nn", "losses"), 1),
    **dict.fromkeys(("images", "encoding", "inputs", "output_names", "geometry", "device", "checkpoint"), 2),
    **dict.fromkeys(("batches", "datasets", "dataset_files", "weights", "colormaps", "lettering", "panels"), 2),
    **dict.fromkeys(
        ("run_folder", "state_file", "tensor_files", "durable", "model_card", "interpolation", "spool"), 2
    ),
    **dict.fromkeys(("__init__", "model", "pipeline", "training", "attention_maps", "forward", "metrics"), 3),
    **dict.fromkeys(("publish", "hub_upload", "export", "drawing", "previews", "attention_layouts"), 3),
    **dict.fromkeys(("attention_history", "attention_words", "report"), 3),
    **dict.fromkeys(("cli", "__main__"), 4),
}
FOLDERS = {"nn", "weights", "training", "metrics", "cli"}
TERMINAL = {"typer", "rich", "click"}


@dataclass
class Source:
    """One file of the package: what it is called, imports and calls."""

    module: str
    floor: int | None
    ours: list[tuple[int, str]] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)
    prints: list[int] = field(default_factory=list)


def read_sources(package: Path) -> dict[str, Source]:
    """All files by module name below the package (`__init__`, `config`, `nn.generator`, `nn.__init__`)."""
    files = sorted(package.rglob("*.py"))
    modules = {".".join(path.relative_to(package).with_suffix("").parts) for path in files}
    return {source.module: source for source in (_read(package, path, modules) for path in files)}


def _read(package: Path, path: Path, modules: set[str]) -> Source:
    parts = path.relative_to(package).with_suffix("").parts
    # A file in a folder without a floor, or a folder that is one file in the table, has no floor.
    known = len(parts) == (2 if parts[0] in FOLDERS else 1)
    source = Source(".".join(parts), FLOORS.get(parts[0]) if known else None)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            source.prints.append(node.lineno)
        for name in _imported(node, package.name, parts):
            if name.partition(".")[0] == package.name:
                source.ours.append((node.lineno, _module(name.partition(".")[2], modules)))  # type: ignore[attr-defined]
            else:
                source.others.append((node.lineno, name))  # type: ignore[attr-defined]
    return source


def _imported(node: ast.AST, package: str, parts: tuple[str, ...]) -> Iterator[str]:
    """Full names that an import statement may load: `from a import b` yields `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        base = [package, *parts[: len(parts) - node.level]] if node.level else []
        base += [node.module] if node.module else []
        yield from (".".join([*base, alias.name]) for alias in node.names)


def _module(name: str, modules: set[str]) -> str:
    """The file behind a name below the package: the longest part that is one, or the folder's `__init__`."""
    parts = name.split(".") if name else []
    while parts:
        for candidate in (".".join(parts), ".".join([*parts, "__init__"])):
            if candidate in modules:
                return candidate
        parts.pop()
    return "__init__"


def violations(package: Path) -> list[str]:
    """Every broken rule, one line each; empty if all is well."""
    sources = read_sources(package)
    found = []
    for source in sources.values():
        if source.floor is None:
            found.append(f"{source.module}: give it a floor")
            continue
        for line, module in source.ours:
            floor = sources[module].floor
            if floor is not None and floor > source.floor:
                found.append(f"{source.module}:{line}: floor {source.floor} imports {module} of floor {floor}")
        found += _foreign(source, source.floor)
        if source.floor < 4:
            found += [f"{source.module}:{line}: prints below floor 4" for line in source.prints]
    return found + _cycles(sources)


def _foreign(source: Source, floor: int) -> Iterator[str]:
    for line, name in source.others:
        top = name.partition(".")[0]
        if top == "click":
            yield f"{source.module}:{line}: imports click (typer brings its own)"
        elif top in TERMINAL and floor < 4:
            yield f"{source.module}:{line}: imports {top} below floor 4"
        elif floor < 2 and top not in sys.stdlib_module_names and not (floor == 1 and top == "torch"):
            yield f"{source.module}:{line}: floor {floor} imports {top}"


def _cycles(sources: dict[str, Source]) -> list[str]:
    """One line for each import cycle that depth-first search meets."""
    found: list[str] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append("cycle: " + " -> ".join([*path[path.index(module) :], module]))
            return
        if module in done:
            return
        for _, imported in sources[module].ours:
            if imported != module:
                visit(imported, [*path, module])
        done.add(module)

    for module in sources:
        visit(module, [])
    return found


def test_the_package_keeps_to_its_floors() -> None:
    assert violations(PACKAGE) == []


def test_the_test_reads_the_package() -> None:
    sources = read_sources(PACKAGE)
    generator = sources["nn.generator"]
    assert generator.floor == 1
    assert {"nn.attention", "nn.convolution", "nn.normalization", "config"} <= {name for _, name in generator.ours}
    assert "torch.nn" in {name.removesuffix(".functional") for _, name in generator.others}
    assert sources["checkpoint"].floor == 2
    assert sources["__init__"].floor == 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config": "import ugatit_cli.errors"}, []),
        ({"config": "import json\nfrom typing import Any"}, []),
        ({"nn/a": "from ugatit_cli.nn import b", "nn/b": "import torch.nn.functional as F, math"}, []),
        ({"weights/a": "from ugatit_cli.weights.b import x", "weights/b": "from ugatit_cli import images"}, []),
        ({"cli/app": "import typer, rich\nprint(1)\nfrom ugatit_cli import load"}, []),
        ({"images": "log.print(1)  # print(2)"}, []),
        ({"config": "from ugatit_cli.images import x"}, ["config:1: floor 0 imports images of floor 2"]),
        ({"images": "def f():\n    from ugatit_cli import model"}, ["images:2: floor 2 imports model of floor 3"]),
        ({"images": "from . import model"}, ["images:1: floor 2 imports model of floor 3"]),
        ({"nn/a": "from ..images import x"}, ["nn.a:1: floor 1 imports images of floor 2"]),
        ({"nn/a": "from .b import x", "nn/b": "import numpy"}, ["nn.b:1: floor 1 imports numpy"]),
        ({"config": "import torch"}, ["config:1: floor 0 imports torch"]),
        ({"images": "from ugatit_cli import __version__"}, ["images:1: floor 2 imports __init__ of floor 3"]),
        ({"model": "from ugatit_cli.cli.app import x"}, ["model:1: floor 3 imports cli.app of floor 4"]),
        ({"model": "import rich.console"}, ["model:1: imports rich below floor 4"]),
        ({"cli/app": "from click import echo"}, ["cli.app:1: imports click (typer brings its own)"]),
        ({"model": "\nprint('x')"}, ["model:2: prints below floor 4"]),
        ({"surprise": ""}, ["surprise: give it a floor"]),
        ({"attic/a": ""}, ["attic.a: give it a floor"]),
        ({"nn/deep/a": ""}, ["nn.deep.a: give it a floor"]),
        (
            {"images": "import ugatit_cli.encoding", "encoding": "def f():\n    import ugatit_cli.images"},
            ["cycle: encoding -> images -> encoding"],
        ),
    ],
)
def test_violations_are_found(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    package = tmp_path / "ugatit_cli"
    base = {"__init__": "", "errors": "", "images": "", "model": "", "cli/app": ""}
    for name, text in (base | files).items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert violations(package) == expected

"""Packages by noun, each importing only those below it; terminals are for `cli` alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ugatit_cli"

# From the bottom up.
ORDER = [
    "errors",
    "fields",
    "arguments",
    "config",
    "leftovers",
    "files",
    "wording",
    "device",
    "remote",
    "pictures",
    "faces",
    "nn",
    "attention",
    "data",
    "methods",
    "weights",
    "datasets",
    "outputs",
    "exporting",
    "translation",
    "serving",
    "films",
    "metrics",
    "study",
    "training",
    "publishing",
    "__init__",
    "health",
    "cli",
    "__main__",
]
WITHOUT_TORCH = {
    "errors",
    "fields",
    "arguments",
    "config",
    "leftovers",
    "files",
    "remote",
    "pictures",
    "faces",
    "films",
    "attention",
    "outputs",
    "serving",
    "study",
    "health",
    "cli",
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Full names that a file imports, and whether it does so as soon as it is imported itself."""

    def walk(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield from ((f"{child.module}.{alias.name}", at_once) for alias in child.names)
            else:
                checked = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
                late = checked or isinstance(child, ast.FunctionDef)
                yield from walk(child, at_once and not late)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


def faults(package: Path) -> list[str]:
    """Every import that breaks a rule, one line each."""
    found = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).with_suffix("").parts[0]
        for name, at_once in imports(path):
            top, _, rest = name.partition(".")
            where = f"{path.relative_to(package)} imports {name}"
            if top == package.name:
                part = rest.partition(".")[0]
                below = part if part in ORDER else "__init__"
                if ORDER.index(below) > ORDER.index(own):
                    found.append(where)
            elif (
                top == "click"
                or (top in {"typer", "rich"} and own != "cli")
                or (top in {"torch", "torchvision"} and own in WITHOUT_TORCH and at_once)
            ):
                found.append(where)
    return found


def test_every_package_imports_only_what_is_below_it() -> None:
    assert faults(PACKAGE) == []

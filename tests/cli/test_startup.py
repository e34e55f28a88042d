"""Help comes at once: what takes seconds to import waits until it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Each takes from a tenth of a second to several.
HEAVY = {"torch", "torchvision", "numpy", "PIL", "safetensors", "huggingface_hub", "pillow_heif"}

SCRIPT = """
import json, sys
from ugatit_cli.cli.app import main
sys.argv = ["ugatit", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as end:
    code = end.code
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([code, modules]), file=sys.stderr)
"""


def imported_by(*arguments: str) -> tuple[object, set[str]]:
    """The exit code of a command, and the packages it imported."""
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)], capture_output=True, text=True, check=True
    )
    code, modules = json.loads(output.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("translate", "--help"), 0),
        (("cam", "--help"), 0),
        (("train", "--help"), 0),
        (("convert", "--help"), 0),
        (("evaluate", "--help"), 0),
        (("fetch", "--help"), 0),
        (("models", "--help"), 0),
        (("push", "--help"), 0),
        (("translate", "a.png", "--quality", "0"), 2),
        (("translate", "a.png", "--no-such-option"), 2),
        (("cam", "a.png", "--layout", "grid"), 2),
        (("train", "--iterations", "0"), 2),
        (("evaluate", "out", "real", "--subsets", "0"), 2),
        (("evaluate", "out"), 2),
        (("train", "--iterations", "1", "--minutes", "1"), 2),
    ],
)
def test_nothing_heavy_is_imported(arguments: tuple[str, ...], code: int) -> None:
    found, modules = imported_by(*arguments)
    assert (found or 0) == code
    assert modules & HEAVY == set()
    assert "typer" in modules  # or this test looks at nothing


@pytest.mark.parametrize("command", ["translate", "cam", "train", "evaluate", "convert", "fetch", "models", "push"])
def test_help_of_a_command_parses_no_options(command: str) -> None:
    _, modules = imported_by(command, "--help")
    assert "pydantic" not in modules
    assert "rich" not in modules


@pytest.mark.parametrize("command", ["translate", "cam"])
def test_finding_a_model_does_not_import_the_compiler(tmp_path: Path, command: str) -> None:
    (tmp_path / "a.png").touch()
    _, modules = imported_by(command, str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--dry-run")
    assert "torch" in modules
    assert "sympy" not in modules

"""Help comes at once: what takes seconds to import waits until it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from ugatit_cli.cli import app

# Each takes from a tenth of a second to several.
HEAVY = {"torch", "torchvision", "numpy", "PIL", "safetensors", "huggingface_hub", "pillow_heif"}

SCRIPT = """
import json, sys
from ugatit_cli.__main__ import main
ends = []
for command in json.loads(sys.argv[1]):
    sys.argv[1:] = command.split()
    try:
        main()
    except SystemExit as end:
        ends.append([end.code, list(sys.modules)])
print(json.dumps(ends), file=sys.stderr)
"""


def imported_by(*commands: str) -> list[tuple[object, set[str]]]:
    """The exit codes of commands, and the modules that they imported: one after the other, in one process."""
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)], capture_output=True, text=True, check=True
    )
    assert "Warning" not in output.stderr
    return [(code, set(modules)) for code, modules in json.loads(output.stderr.splitlines()[-1])]


TAKEN, FREE, ENDED = "1.02 0.70 0.40 2/150 4711", "0.00 0.10 0.40 1/150 4711", "1.02 0.70 0.40 1/150 4711"


@pytest.mark.parametrize(
    ("command", "load", "own", "set_to"),
    [
        ("train", FREE, {}, ["500", None]),
        ("train", FREE, {"GOMP_SPINCOUNT": "7"}, ["7", None]),
        ("train", FREE, {"OMP_WAIT_POLICY": "active"}, [None, "active"]),
        ("translate", FREE, {}, [None, None]),
        ("translate", ENDED, {}, [None, None]),
        ("translate", "", {}, [None, None]),
        ("translate", TAKEN, {}, ["500", None]),
        ("evaluate", TAKEN, {"OMP_WAIT_POLICY": "active"}, [None, "active"]),
    ],
)
def test_threads_wait_asleep_in_a_training_and_beside_other_programs_unless_the_user_says_how(
    command: str,
    load: str,
    own: dict[str, str],
    set_to: list[str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "LOAD", tmp_path / "loadavg")
    if load:
        app.LOAD.write_text(load)
    policy = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    for name in policy:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    app.command(command)
    assert [os.environ.get(name) for name in policy] == set_to


COMMANDS = (
    "translate",
    "cam",
    "train",
    "evaluate",
    "convert",
    "fetch",
    "models",
    "data",
    "push",
    "study",
    "serve",
    "doctor",
)


def test_help_comes_at_once() -> None:
    commands = ["--help", "--version", *(f"{command} --help" for command in COMMANDS)]
    for command, (code, modules) in zip(commands, imported_by(*commands), strict=True):
        assert not code, command
        assert "typer" in modules, command  # or this test looks at nothing
        assert modules & (HEAVY | {"pydantic", "rich"}) == set(), command


WRONG = (
    "translate a.png --quality 0",
    "translate a.png --no-such-option",
    "cam a.png --layout grid",
    "train --iterations 0",
    "train --iterations 1 --minutes 1",
    "evaluate out real --subsets 0",
    "evaluate out",
)


def test_so_does_what_is_wrong_with_the_options() -> None:
    for command, (code, modules) in zip(WRONG, imported_by(*WRONG), strict=True):
        assert code == 2, command
        assert modules & HEAVY == set(), command


COMPILER = {"sympy", "torch._dynamo", "torch._inductor"}


@pytest.mark.skipif(version("torch").startswith("2.6."), reason="tensors without numbers import SymPy in torch 2.6")
def test_translating_imports_only_what_it_needs_and_finding_a_model_not_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    (code, modules), (_, also) = imported_by("translate a.png -o b.png", "cam a.png -o out --dry-run")
    assert not code
    assert {"torch", "PIL"} <= modules
    others = {f"ugatit_cli.cli.{name}" for name in COMMANDS} - {"ugatit_cli.cli.translate"}
    unneeded = {"torchvision", "huggingface_hub", "httpx", "jinja2", "yaml", "pyarrow", "ugatit_cli.training"}
    assert modules & (COMPILER | others | unneeded) == set()
    assert "ugatit_cli.cli.cam" in also
    assert also & COMPILER == set()

"""docs/Dockerfile, line by line: its steps in an empty folder, as far as they need neither Docker nor a network."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ugatit_cli import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> Iterator[tuple[str, str]]:
    for line in (ROOT / "docs" / "Dockerfile").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest


@dataclass
class Image:
    """What the steps make, below a folder that stands for `/`; each takes what comes after its instruction.

    Attributes:
        named: packages that were asked of an index.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    owner: str = "root"
    entry: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)

    def at(self, path: str) -> Path:
        return self.root / os.path.normpath(os.path.join(self.folder, path)).lstrip("/")  # noqa: PTH118

    def expand(self, text: str) -> str:
        return Template(text).substitute(self.environment)

    # --- Instructions ----------------------------------------------------------------------------------

    def from_(self, rest: str) -> None:
        version = re.fullmatch(r"python:(3\.\d+)-slim", rest)
        assert version
        assert SpecifierSet(PROJECT["requires-python"]).contains(version[1])

    def arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.environment[name] = value

    env = arg

    def copy(self, rest: str) -> None:
        *sources, target = shlex.split(rest)
        assert target.endswith("/")
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                away = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, self.at(target), ignore=away, dirs_exist_ok=True, copy_function=os.link)
            else:
                self.at(target).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.at(target))

    def run(self, rest: str) -> None:
        assert self.owner == "root"
        program, *words = shlex.split(self.expand(rest))
        {"pip": self.pip, "install": self.install}[program](words)

    def pip(self, words: list[str]) -> None:
        assert words[:2] == ["install", "--no-cache-dir"]
        options = {"--index-url"} & {*words}
        if options:
            index, *packages = words[words.index("--index-url") + 1 :]
            assert index.startswith("https://download.pytorch.org/whl/")
            self.named += packages
            return
        (wanted,) = words[2:]
        place, extras = re.fullmatch(r"(/src)\[([a-z,]+)\]", wanted).groups()  # type: ignore[union-attr]
        assert {*extras.split(",")} <= PROJECT["optional-dependencies"].keys()
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run(  # pip would take away what is installed where the tests run
            [*command, "--ignore-installed", "--no-compile", "--prefix", str(self.at("/usr")), str(self.at(place))],
            check=True,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )

    def install(self, words: list[str]) -> None:
        assert words[:3] == ["-d", "-m", "0777"]
        subprocess.run(["install", *words[:3], *(str(self.at(one)) for one in words[3:])], check=True)

    def volume(self, rest: str) -> None:
        assert self.at(rest).stat().st_mode & 0o777 == 0o777
        for name in ("UGATIT_HOME", "HF_HOME", "TORCH_HOME", "HOME"):
            assert Path(self.environment[name]).is_relative_to(rest), name

    def user(self, rest: str) -> None:
        assert int(rest) > 0  # a number, as Kubernetes wants it
        self.owner = rest

    def workdir(self, rest: str) -> None:
        assert self.at(rest).is_dir()
        self.folder = rest

    def stopsignal(self, rest: str) -> None:
        assert rest == "SIGTERM"

    def entrypoint(self, rest: str) -> None:
        self.entry = json.loads(rest)  # not a shell's, which would keep the signal to itself

    def cmd(self, rest: str) -> None:
        self.arguments = json.loads(rest)

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        (packages,) = self.at("/usr").glob("l*/python*/*-packages")
        inside = {
            name: str(self.at(value)) if value.startswith("/") else value for name, value in self.environment.items()
        }
        program, *own = self.entry
        return subprocess.run(
            [sys.executable, str(self.at("/usr/bin") / program), *own, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.at(self.folder),
            env={**inside, "PYTHONPATH": str(packages), "PATH": os.defpath},
        )


def test_its_steps_make_what_starts(tmp_path: Path) -> None:
    pytest.importorskip("hatchling.build", reason="needs hatchling, which builds the wheel")
    pytest.importorskip("pip")
    image = Image(tmp_path)
    for name, rest in instructions():
        getattr(image, {"FROM": "from_"}.get(name, name.lower()))(rest)
    assert image.owner != "root"
    assert {*image.named} <= {Requirement(one).name for one in PROJECT["dependencies"]}
    helped = image.start(*image.arguments)
    assert (helped.returncode, "translate" in helped.stdout) == (0, True), helped.stderr
    assert image.start("--version").stdout == f"ugatit {__version__}\n"
    path = Path(image.start("models", "path", "flat2clay").stdout.strip())
    assert path.is_relative_to(image.at("/usr"))
    assert (path / "model.safetensors").is_file()

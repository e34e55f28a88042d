"""What people install: the wheel holds the model, its licences and nothing of ours."""

from __future__ import annotations

import os
import shutil
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import get_args

import pytest

import ugatit_cli
from ugatit_cli.errors import Extra, install_line
from ugatit_cli.weights.manifest import read_manifest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """Built from a copy, so that what lies about in the checkout stays there."""
    build = pytest.importorskip("hatchling.build", reason="needs hatchling, which builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    names = ("ugatit_cli", "tests", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "weights_manifest.toml")
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    before = Path.cwd()
    os.chdir(folder)
    try:
        return zipfile.Path(folder / build.build_wheel(str(folder)))
    finally:
        os.chdir(before)


def test_every_module_bundled_model_and_licence_and_nothing_else(wheel: zipfile.Path) -> None:
    names = wheel.root.namelist()
    assert {name.split("/")[0] for name in names} == {"ugatit_cli", f"ugatit_cli-{ugatit_cli.__version__}.dist-info"}
    assert not [name for name in names if name.endswith(".pyc") or "test" in name]
    assert len(names) == len(set(names))
    files = [path for path in (ROOT / "ugatit_cli").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= set(names)
    for name, entry in read_manifest().items():
        held = f"ugatit_cli/models/{name}/model.safetensors" in names
        assert held is (entry.source == "bundled")
    for name in ("LICENSE", "NOTICE"):
        assert sum(1 for each in names if each.endswith(f".dist-info/licenses/{name}")) == 1


def test_metadata(wheel: zipfile.Path) -> None:
    (folder,) = [part for part in wheel.iterdir() if part.name.endswith(".dist-info")]
    metadata = Parser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))
    assert [metadata[name] for name in ("Name", "Version")] == ["ugatit-cli", ugatit_cli.__version__]
    assert [metadata[name] for name in ("Requires-Python", "License-Expression")] == [">=3.11", "MIT"]
    assert "ugatit translate" in str(metadata.get_payload())
    assert "ugatit = ugatit_cli.__main__:main" in (folder / "entry_points.txt").read_text()


def test_the_manifest_inside_is_the_one_at_the_top(wheel: zipfile.Path) -> None:
    inside = (wheel / "ugatit_cli" / "weights_manifest.toml").read_bytes()
    assert inside == (ROOT / "weights_manifest.toml").read_bytes()


def test_the_notice_names_what_the_bundled_models_were_trained_on() -> None:
    notice = (ROOT / "NOTICE").read_text()
    for word in ("Twemoji", "CC-BY 4.0", "Fluent", "high-contrast", "MIT"):
        assert word in notice


@pytest.mark.parametrize("extra", get_args(Extra))
def test_what_installs_an_extra_is_what_the_extra_has(extra: Extra) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    assert install_line(extra).split()[2:] == [requirement.split(">")[0] for requirement in wanted]

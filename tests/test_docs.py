"""Every command that README and docs print does what they say, on small stand-ins; links lead somewhere."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pickle
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests import clips, tiny
from tests.cli.conftest import Command, ugatit  # noqa: F401
from tests.extractors import tiny_extractor
from tests.faces.portraits import group
from tests.helpers import picture
from tests.onnx_files import inverting
from tests.programs import command
from tests.serving.command import visited
from tests.tensor_bundle_writer import write_bundle
from ugatit_cli.cli.app import app
from ugatit_cli.cli.options import OLD_NAMES
from ugatit_cli.cli.serve import PORT
from ugatit_cli.datasets.catalog import TABLES
from ugatit_cli.methods.configs import MUNITConfig
from ugatit_cli.metrics import features
from ugatit_cli.pictures.encoding import writable_suffixes
from ugatit_cli.serving import server
from ugatit_cli.training import evaluation
from ugatit_cli.weights.manifest import MODELS

ROOT = Path(__file__).parents[1]
TOLD = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*TOLD, ROOT / "CHANGELOG.md", *sorted((ROOT / "examples").rglob("*.md"))]
# Why a fence isn't run.
MARKS = {"network", "gpu", "minutes"}
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
TINY = {"--image-size": "32", "--channels": "4"}
OFFICIAL = "UGATIT_selfie2anime_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing"


@dataclass(frozen=True)
class Fence:
    """A block of commands: `language mark`, where it is, what it says."""

    page: str
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def fences() -> Iterator[Fence]:
    for page in TOLD:
        text = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            yield Fence(page.name, text.count("\n", 0, found.start()) + 1, found[1], found[2])


BASH = [fence for fence in fences() if fence.info == "bash"]
PYTHON = sorted({fence.page for fence in fences() if fence.info == "python"})


# --- Stand-ins -----------------------------------------------------------------------------------------


def pictures(folder: Path, count: int, ending: str = "png") -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        picture(40, 36, seed=index + 100 * len(folder.name)).save(folder / f"{index}.{ending}")


def authors_files(folder: Path, golden: Path) -> None:
    """What the authors of the baselines, and PaddleGAN, give away: as small as the recorded networks."""
    cyclegan = load_file(golden / "cyclegan" / "weights.safetensors")
    for name, network in {"horse2zebra": "G_A", "latest_net_G_A": "G_A", "latest_net_G_B": "G_B"}.items():
        state = {key[4:]: tensor for key, tensor in cyclegan.items() if key.startswith(f"{network}.")}
        torch.save(state, folder / f"{name}.pth")
    torch.save(load_file(golden / "cartoongan" / "weights.safetensors"), folder / "Hayao_net_G_float.pth")
    munit = load_file(golden / "munit" / "weights.safetensors")
    for kind in ("gen", "dis"):
        pair = {
            domain: {key[6:]: tensor for key, tensor in munit.items() if key.startswith(f"{kind}_{domain}.")}
            for domain in "ab"
        }
        torch.save(pair, folder / f"{kind}_00500000.pt")
    aggan = load_file(golden / "aggan" / "weights.safetensors")
    write_bundle(folder / "checkpoints" / "horse2zebra" / "agGAN", {name: one.numpy() for name, one in aggan.items()})
    torch.save(load_file(golden / "drit" / "concat.weights.safetensors"), folder / "01200.pth")
    states = tiny.official(dataclasses.replace(tiny.LIGHT, image_size=256))
    arrays = {
        network: {name: (one.T if one.ndim == 2 else one).numpy() for name, one in state.items()}
        for network, state in states.items()
    }
    (folder / "ugatit_light.pdparams").write_bytes(pickle.dumps(arrays, protocol=2))


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory, golden: Path) -> Path:
    """A folder with everything that the pages speak of; the bundled models are in `.store`."""
    folder = tmp_path_factory.mktemp("stand-ins")
    for name, count in {
        "horses": 12,
        "zebras": 12,
        "flat": 8,
        "clay": 8,
        "translated": 8,
        "drawings": 8,
        "icons": 2,
    }.items():
        pictures(folder / name, count)
    for name in ("trainA", "trainB", "testA", "testB"):
        pictures(folder / "bench" / name, 8)
    for name in ("icons/more", "more", "holiday", "selfies"):
        pictures(folder / name, 2)
    pictures(folder / "shots", 2, "jpg")
    (folder / "people").mkdir()
    for name in ("party.jpg", "people/two.png"):
        group().photo.save(folder / name)
    Image.new("L", (20, 18), 255).save(folder / "mask.png")
    for name in ("icon", "clay", "horse", "photo", "sketch"):
        picture(40, 36, seed=len(name)).save(folder / f"{name}.png")
    picture(40, 36).save(folder / "photo.jpg")
    for name in ("clip", "holiday/film"):
        clips.make(folder / f"{name}.mp4", frames=2)
    shutil.copy(golden / "pt" / "mini_step_after.pt", folder / "selfie2anime_params_0100000.pt")
    authors_files(folder, golden / "baselines")
    (official,) = (golden / "tf").glob("UGATIT_tf_full_*")
    shutil.copytree(official, folder / OFFICIAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        other = ["--method", "cyclegan", "-o", "runs/horses2zebras-cyclegan"]
        for a, b, *more in (("horses", "zebras"), ("flat", "clay"), ("horses", "zebras", *other)):
            words = ["train", "--domain-a", a, "--domain-b", b, "--iterations", "2", "--checkpoint-every", "1"]
            words += ["--holdout", "4"] if a == "horses" else []
            CliRunner().invoke(app, [*words, *itertools.chain(*TINY.items()), *more], catch_exceptions=False)
    inverting(folder / "flat2clay.onnx")
    for name in ("flat2clay", "ink2clay"):
        domain, _, _ = name.partition("2")
        config = dataclasses.replace(tiny.LIGHT, domain_a=domain)
        tiny.save(folder / ".store" / "models" / name, config, discriminators=True)
    tiny.save(folder / "runs" / "horses2zebras-munit", MUNITConfig("horses", "zebras", 32, channels=4, blocks=1))
    shutil.copytree(folder / "runs" / "horses2zebras", folder / "usb" / "horses2zebras")
    shutil.copytree(folder / "runs" / "horses2zebras" / "model", folder / "usb" / "zebra")
    for name in ("horses", "zebras"):
        shutil.copytree(folder / name, folder / "photos" / name)
    return folder


@pytest.fixture
def workplace(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stand-ins to work in; a tiny network for Inception; a `ugatit` for the shell."""
    folder = shutil.copytree(stand_ins, tmp_path / "work", symlinks=True)
    store = (folder / ".store").rename(tmp_path / "store")
    for config in folder.glob("runs/*/config.toml"):
        config.write_text(config.read_text().replace(str(stand_ins), str(folder)))
    program = tmp_path / "bin" / "ugatit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("UGATIT_HOME", str(store))
    for module in (features, evaluation):
        monkeypatch.setattr(module, "load_extractor", lambda *_, **__: tiny_extractor())
    monkeypatch.chdir(folder)
    return folder


# --- Commands ------------------------------------------------------------------------------------------


def lines(text: str) -> list[str]:
    """Commands, one each, without comments."""
    joined = text.replace("\\\n", " ").splitlines()
    return [line for line in joined if shlex.split(line, comments=True)]


def small(words: list[str]) -> list[str]:
    """A training as printed, but of two tiny steps: sizes and lengths are replaced, the rest stays."""
    few = {"--minutes": "0.001"} if "--minutes" in words else {"--iterations": "4"}
    few |= {"--holdout": "4"} if "--holdout" in words else {}
    few |= {} if "--resume" in words else {"--image-size": "32"} if "--from" in words else TINY
    for name, value in few.items():
        if name in words:
            words[words.index(name) + 1] = value
        else:
            words += [name, value]
    return words


def shell(line: str) -> None:
    done = subprocess.run(["bash", "-ec", line], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stderr}"


def serve(line: str, others: list[str], ugatit: Command, patch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A server as printed, but at a free port; other lines speak to it from elsewhere."""
    patch.setenv("BROWSER", "true")
    patch.setenv("CURL_HOME", ".")
    Path(".curlrc").write_text("fail\n")
    patch.setattr(server, "_outward", lambda: "127.0.0.1")

    def visit(url: str) -> bool:
        for one in others:
            shell(one.replace(f"127.0.0.1:{PORT}", url.split("/")[2]))
        return True

    outcome, done = visited(ugatit, patch, visit, *shlex.split(line, comments=True)[2:], "--port", "0")
    assert (outcome.code, done) == (130, True), f"{line}\n{outcome.stderr}"


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("fence", BASH, ids=str)
def test_commands_work_as_printed(
    fence: Fence,
    ugatit: Command,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = lines(fence.text)
    asking = [line for line in every if f"127.0.0.1:{PORT}" in line]
    for line in every:
        if line in asking:
            continue
        words = shlex.split(line, comments=True)
        if words[:2] == ["ugatit", "serve"]:
            serve(line, asking, ugatit, monkeypatch)
        elif words[0] == "ugatit" and not set(line) & set("|>$"):
            arguments = small(words[1:]) if words[1] == "train" else words[1:]
            outcome = ugatit(*arguments)
            assert outcome.code == 0, f"{line}\n{outcome.stderr}"
        else:
            shell(line)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("page", PYTHON)
def test_python_works_as_printed(page: str) -> None:
    names: dict[str, Any] = {}
    for fence in fences():
        if fence.page == page and fence.info == "python":
            exec(compile(fence.text, str(fence), "exec"), names)


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    known = {"bash", "python", "text", "json", "toml", *(f"bash {mark}" for mark in MARKS)}
    assert {str(fence): fence.info for fence in fences() if fence.info not in known} == {}
    for page in TOLD:
        outside = FENCE.sub("", page.read_text(encoding="utf-8"))
        assert re.findall(r"^.*```.*$|^ +(?:ugatit|pip|python|make|torchrun) .*", outside, re.MULTILINE) == [], page


@pytest.mark.parametrize(
    "fence", [fence for fence in fences() if fence.info == "toml" and "schema" in fence.text], ids=str
)
def test_manifests_are_read_as_printed(fence: Fence, tmp_path: Path) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(fence.text)
    for kind in (MODELS, TABLES):
        assert kind.read(path)


# --- Links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, part = target.partition("#")
        path = page.parent / name if name else page
        if "://" in name:
            continue
        assert path.exists(), target
        if part:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}, target


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)
def test_code_that_is_named_exists(page: Path) -> None:
    pattern = r"`((?:ugatit_cli|tests|benchmarks|examples)/[\w./]+)(?:::(\w+))?`"
    for name, thing in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name
        source = (ROOT / name).read_text(encoding="utf-8") if thing else ""
        assert not thing or re.search(rf"^(?:class |def )?{thing}\b", source, re.MULTILINE), f"{name}::{thing}"


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)
def test_names_that_options_had_once_are_not_printed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    old = [rf"\b{name} (?:[^`\n]* )?{re.escape(one)}\b" for name, olds in OLD_NAMES.items() for one in olds]
    assert [found[0] for pattern in old for found in re.finditer(pattern, text)] == []


def test_all_formats_of_results_are_named() -> None:
    text = (ROOT / "docs" / "translate.md").read_text(encoding="utf-8")
    assert [suffix for suffix in writable_suffixes() if f"`{suffix}`" not in text] == []


def test_the_readme_is_for_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
    for page in TOLD:
        prose = [line for line in page.read_text(encoding="utf-8").splitlines() if not line.startswith(("|", "!"))]
        assert max(map(len, prose)) <= 120, page.name

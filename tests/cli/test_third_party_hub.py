"""`ugatit` against a Hub server that others have written: olah, which serves git repositories with LFS files."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.cli.conftest import below, program, put
from tests.hub_client import environment

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("git") is None, reason="needs git")]
CPU = ("--device", "cpu", "--precision", "fp32")


def publish(folder: Path, source: Path) -> str:
    """A git repository with the files of `source`, weights as LFS objects; returns its commit."""
    folder.mkdir(parents=True)
    _git(folder, "init", "--quiet", "--initial-branch", "main")
    for path in sorted(source.iterdir()):
        target = folder / path.name
        if path.suffix == ".safetensors":
            _write_lfs(folder, target, path.read_bytes())
        else:
            target.write_bytes(path.read_bytes())
    _git(folder, "add", ".")
    _git(folder, "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "first")
    return _git(folder, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True, text=True)
    return done.stdout.strip()


def _write_lfs(folder: Path, target: Path, data: bytes) -> None:
    oid = hashlib.sha256(data).hexdigest()
    item = folder / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    item.parent.mkdir(parents=True, exist_ok=True)
    item.write_bytes(data)
    target.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n")


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    """A folder for `OWNER/NAME` git repositories."""
    return tmp_path / "mirrors" / "models"


@pytest.fixture
def endpoint(tmp_path: Path, repositories: Path) -> Iterator[str]:
    """A running server for these repositories."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "olah.toml").write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{tmp_path / "olah"}"\n'
        f'mirrors-path = ["{repositories.parent}"]\n[accessibility]\noffline = true\n',
        encoding="utf-8",
    )
    arguments = ["-m", "olah.server", "-c", str(tmp_path / "olah.toml"), "--log-path", str(tmp_path / "logs")]
    with (tmp_path / "olah.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, cwd=tmp_path)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, server, tmp_path / "olah.log")
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/nothing/here", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            assert server.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < limit, log.read_text(errors="replace")
            time.sleep(0.1)
        else:
            return


def test_a_model(endpoint: str, repositories: Path, tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model", discriminators=True)
    commit = publish(repositories / "me" / "clay", model)
    settings = environment(endpoint, tmp_path / "user") | {"PYTHONPATH": os.environ["PYTHONPATH"]}
    put("a.png")
    outcome = program("translate", "a.png", "-o", "b.png", "--model", "me/clay", *CPU, env=settings)
    assert outcome.code == 0, outcome.stderr
    assert f"fetching me/clay at {commit[:12]}" in outcome.stderr
    outcome = program("fetch", f"me/clay@{commit}", "--to", "copy", env=settings)
    assert outcome.code == 0, outcome.stderr
    assert below("copy") == ["config.json", "discriminators.safetensors", "model.safetensors"]
    assert all((Path("copy") / name).read_bytes() == (model / name).read_bytes() for name in below("copy"))
    outcome = program("fetch", "me/nothing", env=settings)
    assert outcome.code == 3
    assert "has no repository me/nothing" in outcome.errors[0]

"""`ugatit` against a Hub server that others have written: olah, which serves git repositories with LFS files."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
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
    for path in source.iterdir():
        data = path.read_bytes()
        if path.suffix == ".safetensors":
            oid = hashlib.sha256(data).hexdigest()
            item = folder / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
            item.parent.mkdir(parents=True)
            item.write_bytes(data)
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()
        (folder / path.name).write_bytes(data)
    _git(folder, "add", ".")
    _git(folder, "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "first")
    return _git(folder, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """A running server for the git repositories `mirrors/models/OWNER/NAME`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    (tmp_path / "olah.toml").write_text(
        f'[basic]\nhost = "{host}"\nport = {port}\nrepos-path = "{tmp_path / "olah"}"\n'
        f'mirrors-path = ["{tmp_path / "mirrors"}"]\n[accessibility]\noffline = true\n',
        encoding="utf-8",
    )
    arguments = ["-m", "olah.server", "-c", str(tmp_path / "olah.toml"), "--log-path", str(tmp_path / "logs")]
    with (tmp_path / "olah.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, cwd=tmp_path)
    try:
        while not _listens(host, port):
            assert server.poll() is None, (tmp_path / "olah.log").read_text(errors="replace")
        yield f"http://{host}:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_model(endpoint: str, tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model", discriminators=True)
    commit = publish(tmp_path / "mirrors" / "models" / "me" / "clay", model)
    settings = environment(endpoint, tmp_path / "user") | {"PYTHONPATH": os.environ["PYTHONPATH"]}
    put("a.png")
    outcome = program("translate", "a.png", "-o", "b.png", "--model", "me/clay", *CPU, env=settings)
    assert outcome.code == 0, outcome.stderr
    assert f"fetching me/clay at {commit[:12]}" in outcome.stderr
    outcome = program("fetch", f"me/clay@{commit}", "--to", "copy", env=settings)
    assert outcome.code == 0, outcome.stderr
    assert set(below("copy")) == {*below(model), "SHA256SUMS"}
    assert all((Path("copy") / name).read_bytes() == (model / name).read_bytes() for name in below(model))
    outcome = program("fetch", "me/nothing", env=settings)
    assert outcome.code == 3
    assert "has no repository me/nothing" in outcome.errors[0]

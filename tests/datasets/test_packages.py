"""Tarballs of an npm registry on loopback: the pinned one, or an error that says what to do."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ugatit_cli.datasets import packages
from ugatit_cli.datasets.emoji import TWEMOJI
from ugatit_cli.datasets.packages import Package, cache_folder, fetch, files, find_registry, integrity_of
from ugatit_cli.errors import ModelError, UsageError
from ugatit_cli.remote.patience import Logged

DATA = b"tarball" * 1000
PACKAGE = Package("@x/drawings", "1.2.3", integrity_of(DATA), len(DATA))
PATH = "@x/drawings/-/drawings-1.2.3.tgz"


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tarball of a registry that is the one to ask; the cache is empty."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "registry" / PATH
    path.parent.mkdir(parents=True)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "registry"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        yield path
        server.shutdown()
        thread.join()


def refused(folder: Path | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        fetch(PACKAGE, Logged(), folder)
    return caught.value.message + caught.value.hint


def test_a_tarball_is_downloaded_once(offered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PACKAGE.integrity == "sha512-" + base64.b64encode(hashlib.sha512(DATA).digest()).decode()
    assert "npm pack @x/drawings@1.2.3" in refused()  # the registry doesn't have it
    for body in (b"T" + DATA[1:], DATA[:-1], b"", DATA * 50):
        offered.write_bytes(body)
        message = refused()
        assert PATH in message
        assert "npm pack @x/drawings@1.2.3" in message
        assert not (cache_folder() / PACKAGE.file).exists()
    offered.write_bytes(DATA)
    assert fetch(PACKAGE, Logged()) == DATA
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:1")
    assert fetch(PACKAGE, Logged()) == DATA
    (cache_folder() / PACKAGE.file).unlink()
    assert "npm pack @x/drawings@1.2.3" in refused()  # there is no registry


@pytest.mark.parametrize("given", [False, True])
def test_a_wrong_tarball_on_the_disk_is_kept_and_refused(offered: Path, tmp_path: Path, given: bool) -> None:
    offered.write_bytes(DATA)
    path = (tmp_path if given else cache_folder()) / PACKAGE.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")
    assert f"{path}: " in refused(tmp_path if given else None)
    assert path.read_bytes() == b"mine"
    path.unlink()
    path.mkdir()  # which can't be read
    assert f"{path}: " in refused(tmp_path if given else None)


def test_a_folder_of_tarballs_needs_no_registry(offered: Path, tmp_path: Path) -> None:
    offered.write_bytes(DATA)
    message = refused(tmp_path)  # which has none
    assert str(tmp_path / PACKAGE.file) in message
    assert "npm pack @x/drawings@1.2.3" in message
    (tmp_path / PACKAGE.file).write_bytes(DATA)
    offered.unlink()
    assert fetch(PACKAGE, Logged(), tmp_path) == DATA
    assert not cache_folder().exists()


def test_which_registry_and_which_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    assert find_registry() == "https://registry.npmjs.org"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://mine.example")
    assert find_registry() == "https://mine.example"
    for wrong in ("registry.npmjs.org", "file:///etc"):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", wrong)
        with pytest.raises(UsageError, match="NPM_CONFIG_REGISTRY"):
            find_registry()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ugatit" / "npm"
    assert TWEMOJI.file == "twemoji-svg-15.0.0.tgz"
    for address in ("https://r.example", "https://r.example/"):
        assert TWEMOJI.url(address) == "https://r.example/@twemoji/svg/-/svg-15.0.0.tgz"


def tarball(kinds: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"abc"))
    return buffer.getvalue()


def test_files_of_a_tarball_by_name() -> None:
    file, link = tarfile.REGTYPE, tarfile.SYMTYPE
    kinds = {"package/a.svg": file, "package/b/../../c.svg": file, "package/d.svg": link, "package/e.txt": file}
    assert files(tarball(kinds), ".svg") == {"a.svg": b"abc", "c.svg": b"abc"}


def test_what_is_no_tarball_or_far_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tarball({"package/a.svg": tarfile.REGTYPE})
    for data in (b"", b"mine", gzip.compress(b"mine" * 200), whole[:-9], whole[:40] + b"?" + whole[41:]):
        with pytest.raises(ModelError):
            files(data, ".svg")
    monkeypatch.setattr(packages, "LARGEST", 10_000)
    with pytest.raises(ModelError, match="10,000"):
        files(gzip.compress(bytes(20_000)), ".svg")

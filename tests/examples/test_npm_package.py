"""Tarballs of an npm registry on loopback: the pinned one, or an error that says what to do."""

from __future__ import annotations

import base64
import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import npm_package
from npm_package import FLUENT, TWEMOJI, Package, cache_folder, fetch, files, find_registry, integrity_of
from ugatit_cli.errors import UgatitError, UsageError

DATA = b"tarball" * 1000
PACKAGE = Package("@x/drawings", "1.2.3", integrity_of(DATA), len(DATA))
PATH = "/@x/drawings/-/drawings-1.2.3.tgz"


@dataclass
class Registry:
    """A registry that has one file, and what it was asked for."""

    url: str = ""
    body: bytes = DATA
    status: int = 200
    promised: int | None = None
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    told = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            self.send_response(told.status if self.path == PATH else 404)
            self.send_header("Content-Length", str(told.promised or len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that has had enough hangs up."""

    monkeypatch.setenv("no_proxy", "*")
    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def refused(registry: str, cache: Path, package: Package = PACKAGE) -> UgatitError:
    with pytest.raises(UgatitError) as caught:
        fetch(package, registry, cache, lambda _: None)
    assert caught.value.exit_code == 1
    assert caught.value.hint
    return caught.value


def test_a_tarball_is_downloaded_once(registry: Registry, tmp_path: Path) -> None:
    notes: list[str] = []
    for _ in range(2):
        assert fetch(PACKAGE, registry.url + "/", tmp_path / "a" / "cache", notes.append) == DATA
    assert registry.asked == [PATH]
    assert [path.name for path in (tmp_path / "a" / "cache").iterdir()] == ["x-drawings-1.2.3.tgz"]
    assert len(notes) == 1
    assert "@x/drawings 1.2.3" in notes[0]


def test_a_tarball_of_npm_pack_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / PACKAGE.file).write_bytes(DATA)
    assert fetch(PACKAGE, "http://127.0.0.1:1", tmp_path, lambda _: None) == DATA


@pytest.mark.parametrize("body", [b"T" + DATA[1:], DATA[:-1], b"", DATA + b"!", DATA * 50])
def test_another_tarball_is_refused(registry: Registry, tmp_path: Path, body: bytes) -> None:
    registry.body = body
    error = refused(registry.url, tmp_path)
    assert error.message.startswith(f"{registry.url}{PATH}: isn't @x/drawings 1.2.3")
    assert PACKAGE.integrity in error.message
    assert list(tmp_path.iterdir()) == []


def test_a_tarball_that_breaks_off_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.body, registry.promised = DATA[:100], len(DATA)
    error = refused(registry.url, tmp_path)
    assert "@x/drawings 1.2.3" in error.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [404, 500])
def test_a_registry_that_does_not_have_it(registry: Registry, tmp_path: Path, status: int) -> None:
    registry.status = status
    error = refused(registry.url, tmp_path)
    assert f"can't be downloaded from {registry.url}{PATH}: {status} " in error.message
    assert "npm pack @x/drawings@1.2.3" in error.hint
    assert str(tmp_path) in error.hint


def test_without_network(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = refused(f"http://127.0.0.1:{unused.getsockname()[1]}", tmp_path)
    assert error.message.endswith("connection refused")
    assert "npm pack @x/drawings@1.2.3" in error.hint


def test_a_silent_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm_package, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refused(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
    assert "timed out" in error.message


def test_a_wrong_tarball_in_the_cache_is_kept_and_refused(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / PACKAGE.file
    path.write_bytes(b"mine")
    error = refused(registry.url, tmp_path)
    assert error.message.startswith(f"{path}: isn't @x/drawings 1.2.3")
    assert integrity_of(b"mine") in error.message
    assert registry.asked == []
    assert path.read_bytes() == b"mine"


def test_a_cache_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / PACKAGE.file).mkdir()
    error = refused("http://127.0.0.1:1", tmp_path)
    assert error.message.startswith(str(tmp_path / PACKAGE.file))
    assert "--cache" in error.hint


def test_integrity_is_npms() -> None:
    assert integrity_of(b"") == "sha512-" + base64.b64encode(hashlib.sha512(b"").digest()).decode()
    assert integrity_of(b"") != integrity_of(b"x")


@pytest.mark.parametrize(
    ("package", "file", "url"),
    [
        (TWEMOJI, "twemoji-svg-15.0.0.tgz", "@twemoji/svg/-/svg-15.0.0.tgz"),
        (FLUENT, "lobehub-fluent-emoji-3d-1.1.0.tgz", "@lobehub/fluent-emoji-3d/-/fluent-emoji-3d-1.1.0.tgz"),
        (replace(TWEMOJI, name="plain"), "plain-15.0.0.tgz", "plain/-/plain-15.0.0.tgz"),
    ],
)
def test_where_packages_are(package: Package, file: str, url: str) -> None:
    assert package.file == file
    assert package.url("https://r.example/") == package.url("https://r.example") == f"https://r.example/{url}"
    assert len(base64.b64decode(package.integrity.removeprefix("sha512-"), validate=True)) == 64


def test_which_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("NPM_CONFIG_REGISTRY", "npm_config_registry")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert find_registry(None) == "https://registry.npmjs.org"
    for name in reversed(names):
        monkeypatch.setenv(name, f"https://{name.isupper()}.example")
        assert find_registry(None) == f"https://{name.isupper()}.example"
    assert find_registry("http://given.example") == "http://given.example"


@pytest.mark.parametrize("registry", ["registry.npmjs.org", "file:///etc", "ftp://x.example"])
def test_other_addresses_are_refused(registry: str) -> None:
    with pytest.raises(UsageError, match="not the address of a registry"):
        find_registry(registry)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ugatit" / "npm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "ugatit" / "npm"


def test_files_of_a_tarball_by_name() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind in (("package/a.svg", tarfile.REGTYPE), ("package/b/../../c.svg", tarfile.REGTYPE),
                           ("package/d.svg", tarfile.SYMTYPE), ("package/e.txt", tarfile.REGTYPE)):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"abc"))
    assert files(buffer.getvalue(), ".svg") == {"a.svg": b"abc", "c.svg": b"abc"}

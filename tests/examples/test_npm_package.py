"""Tarballs of an npm registry on loopback: the pinned one, or an error that says what to do."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

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
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    told = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            self.send_response(told.status if self.path == PATH else 404)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def refused(registry: str, cache: Path) -> UgatitError:
    with pytest.raises(UgatitError) as caught:
        fetch(PACKAGE, registry, cache, lambda _: None)
    assert caught.value.exit_code == 1
    return caught.value


def test_a_tarball_is_downloaded_once(registry: Registry, tmp_path: Path) -> None:
    assert PACKAGE.integrity == "sha512-" + base64.b64encode(hashlib.sha512(DATA).digest()).decode()
    for _ in range(2):
        assert fetch(PACKAGE, registry.url + "/", tmp_path / "a" / "cache", lambda _: None) == DATA
    assert registry.asked == [PATH]
    assert [path.name for path in (tmp_path / "a" / "cache").iterdir()] == ["x-drawings-1.2.3.tgz"]


def test_a_tarball_of_npm_pack_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / PACKAGE.file).write_bytes(DATA)
    assert fetch(PACKAGE, "http://127.0.0.1:1", tmp_path, lambda _: None) == DATA


@pytest.mark.parametrize("body", [b"T" + DATA[1:], DATA[:-1], b"", DATA * 50])
def test_another_tarball_is_refused(registry: Registry, tmp_path: Path, body: bytes) -> None:
    registry.body = body
    error = refused(registry.url, tmp_path)
    assert f"{registry.url}{PATH}" in error.message
    assert PACKAGE.integrity in error.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [404, 500, 0])
def test_a_registry_that_fails_or_is_not_there(registry: Registry, tmp_path: Path, status: int) -> None:
    registry.status = status
    error = refused(registry.url if status else "http://127.0.0.1:1", tmp_path)
    assert str(PACKAGE) in error.message
    assert "npm pack @x/drawings@1.2.3" in error.hint
    assert str(tmp_path) in error.hint
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_tarball_in_the_cache_is_kept_and_refused(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / PACKAGE.file
    path.write_bytes(b"mine")
    error = refused(registry.url, tmp_path)
    assert str(path) in error.message
    assert integrity_of(b"mine") in error.message
    assert (registry.asked, path.read_bytes()) == ([], b"mine")


def test_a_cache_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / PACKAGE.file).mkdir()
    assert str(tmp_path / PACKAGE.file) in refused("http://127.0.0.1:1", tmp_path).message


@pytest.mark.parametrize(
    ("package", "file", "url"),
    [
        (TWEMOJI, "twemoji-svg-15.0.0.tgz", "@twemoji/svg/-/svg-15.0.0.tgz"),
        (FLUENT, "lobehub-fluent-emoji-3d-1.1.0.tgz", "@lobehub/fluent-emoji-3d/-/fluent-emoji-3d-1.1.0.tgz"),
        (Package("plain", "1", "", 0), "plain-1.tgz", "plain/-/plain-1.tgz"),
    ],
)
def test_where_packages_are(package: Package, file: str, url: str) -> None:
    assert package.file == file
    assert package.url("https://r.example/") == package.url("https://r.example") == f"https://r.example/{url}"


def test_which_registry_and_which_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    assert find_registry(None) == "https://registry.npmjs.org"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://mine.example")
    assert find_registry(None) == "https://mine.example"
    assert find_registry("http://given.example") == "http://given.example"
    for wrong in ("registry.npmjs.org", "file:///etc"):
        with pytest.raises(UsageError):
            find_registry(wrong)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ugatit" / "npm"


def test_files_of_a_tarball_by_name() -> None:
    buffer = io.BytesIO()
    file, link = tarfile.REGTYPE, tarfile.SYMTYPE
    kinds = {"package/a.svg": file, "package/b/../../c.svg": file, "package/d.svg": link, "package/e.txt": file}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 3 if kind == file else 0
            archive.addfile(member, io.BytesIO(b"abc"))
    assert files(buffer.getvalue(), ".svg") == {"a.svg": b"abc", "c.svg": b"abc"}

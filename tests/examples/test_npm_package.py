"""Tarballs of an npm registry on loopback: the pinned one, or an error that says what to do."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from npm_package import TWEMOJI, Package, cache_folder, fetch, files, find_registry, integrity_of
from ugatit_cli.errors import UgatitError, UsageError

DATA = b"tarball" * 1000
PACKAGE = Package("@x/drawings", "1.2.3", integrity_of(DATA), len(DATA))
NOWHERE = "http://127.0.0.1:1"
PATH = "@x/drawings/-/drawings-1.2.3.tgz"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of one that has what is in the folder `registry`."""
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "registry"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refused(registry: str, cache: Path) -> str:
    with pytest.raises(UgatitError) as caught:
        fetch(PACKAGE, registry, cache, lambda _: None)
    assert caught.value.exit_code == 1
    return caught.value.message + caught.value.hint


def test_a_tarball_is_downloaded_once(registry: str, tmp_path: Path) -> None:
    assert PACKAGE.integrity == "sha512-" + base64.b64encode(hashlib.sha512(DATA).digest()).decode()
    offered, cache = tmp_path / "registry" / PATH, tmp_path / "a" / "cache"
    offered.parent.mkdir(parents=True)
    for address in (registry, NOWHERE):  # that doesn't have it, or isn't there
        assert "npm pack @x/drawings@1.2.3" in refused(address, cache)
    for body in (b"T" + DATA[1:], DATA[:-1], b"", DATA * 50):
        offered.write_bytes(body)
        message = refused(registry, cache)
        assert f"{registry}/{PATH}" in message
        assert PACKAGE.integrity in message
        assert not cache.exists()
    offered.write_bytes(DATA)
    assert fetch(PACKAGE, registry + "/", cache, lambda _: None) == DATA
    assert fetch(PACKAGE, NOWHERE, cache, lambda _: None) == DATA
    assert [path.name for path in cache.iterdir()] == ["x-drawings-1.2.3.tgz"]


def test_a_wrong_tarball_in_the_cache_is_kept_and_refused(tmp_path: Path) -> None:
    path = tmp_path / PACKAGE.file
    path.write_bytes(b"mine")
    assert f"{path}: " in refused(NOWHERE, tmp_path)
    assert path.read_bytes() == b"mine"
    path.unlink()
    path.mkdir()  # which can't be read
    assert f"{path}: " in refused(NOWHERE, tmp_path)


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
    assert TWEMOJI.file == "twemoji-svg-15.0.0.tgz"
    for address in ("https://r.example", "https://r.example/"):
        assert TWEMOJI.url(address) == "https://r.example/@twemoji/svg/-/svg-15.0.0.tgz"


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

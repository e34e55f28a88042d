"""Tarballs of an npm registry: the pinned one, or an error that says what to do."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tests.web_server import WebServer
from ugatit_cli.datasets import packages
from ugatit_cli.datasets.emoji import TWEMOJI
from ugatit_cli.datasets.packages import Package, cache_folder, fetch, files, integrity_of, registry
from ugatit_cli.errors import FetchError, UsageError
from ugatit_cli.remote.patience import Logged

DATA = b"tarball" * 1000
PACKAGE = Package("@x/drawings", "1.2.3", integrity_of(DATA), len(DATA))
PATH = "@x/drawings/-/drawings-1.2.3.tgz"
URL = f"https://registry.npmjs.org/{PATH}"
COMMAND = "npm pack @x/drawings@1.2.3"


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tarball is in the cache, which is empty, of a user without settings of npm."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "ugatit" / "npm" / PACKAGE.file


def refused(folder: Path | None = None) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(PACKAGE, Logged(), folder)
    return caught.value.message + caught.value.hint


def test_a_tarball_is_downloaded_once(web: WebServer, cached: Path) -> None:
    assert PACKAGE.integrity == "sha512-" + base64.b64encode(hashlib.sha512(DATA).digest()).decode()
    for body in (None, b"T" + DATA[1:], DATA[:-1], DATA * 50):  # None: the registry doesn't have it
        if body is not None:
            web.put(URL, body)
        message = refused()
        assert URL in message
        assert COMMAND in message
        assert not cached.exists()
    web.put(URL, DATA)
    assert fetch(PACKAGE, Logged()) == DATA
    web.pages.clear()
    assert fetch(PACKAGE, Logged()) == DATA == cached.read_bytes()


def test_a_damaged_tarball_in_the_cache_is_fetched_again(web: WebServer, cached: Path) -> None:
    web.put(URL, DATA)
    for damaged in (b"mine", b"T" + DATA[1:]):
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(damaged)
        assert fetch(PACKAGE, Logged()) == DATA == cached.read_bytes()
    cached.unlink()
    cached.mkdir()  # which can't be read
    assert f"{cached}: " in refused()


def test_another_registry_has_no_mirror(web: WebServer, monkeypatch: pytest.MonkeyPatch, cached: Path) -> None:
    monkeypatch.setenv("UGATIT_MIRROR", "https://mirror.example/all")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://mine.example/npm/")
    web.redirect(f"https://mine.example/npm/{PATH}", "https://store.example/it")
    web.put("https://store.example/it", DATA)
    assert fetch(PACKAGE, Logged()) == DATA
    cached.unlink()
    monkeypatch.delenv("NPM_CONFIG_REGISTRY")
    web.put(f"https://mirror.example/all/registry.npmjs.org/{PATH}", DATA)
    assert fetch(PACKAGE, Logged()) == DATA


def test_a_folder_of_tarballs_needs_no_registry(web: WebServer, cached: Path, tmp_path: Path) -> None:
    web.put(URL, DATA)
    path = tmp_path / PACKAGE.file
    for damaged in (None, b"mine"):
        if damaged:
            path.write_bytes(damaged)
        message = refused(tmp_path)
        assert f"{path}: " in message
        assert COMMAND in message
        assert not damaged or path.read_bytes() == damaged
    path.write_bytes(DATA)
    assert fetch(PACKAGE, Logged(), tmp_path) == DATA
    assert not cached.exists()
    assert not web.requests


def test_where_packages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry().url == "https://registry.npmjs.org"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://mine.example/")
    assert registry().url == "https://mine.example"
    for wrong in ("registry.npmjs.org", "file:///etc"):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", wrong)
        with pytest.raises(UsageError, match="NPM_CONFIG_REGISTRY"):
            registry()
    assert cache_folder().parts[-3:] == ("cache", "ugatit", "npm")
    assert TWEMOJI.file == "twemoji-svg-15.0.0.tgz"
    assert TWEMOJI.url("https://r.example") == "https://r.example/@twemoji/svg/-/svg-15.0.0.tgz"


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
        with pytest.raises(FetchError):
            files(data, ".svg")
    monkeypatch.setattr(packages, "LARGEST", 10_000)
    with pytest.raises(FetchError, match="10,000"):
        files(gzip.compress(bytes(20_000)), ".svg")

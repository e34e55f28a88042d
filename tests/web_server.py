"""All of the web for one test: files at any address, the Hub among them, with faults on demand.

In this process under every name; on loopback, `serve()`d to others, as a mirror: HOST/PATH for `UGATIT_MIRROR`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.hub_api import Answer, Call
from tests.hub_server import HubServer

HUB: Final = "huggingface.co"
CDN: Final = "cdn-lfs.huggingface.co"
QUOTA: Final = b"<html><head><title>Google Drive - Quota exceeded</title></head><body>Too many users.</body></html>"


@dataclass
class Page:
    """What is at an address.

    Attributes:
        data: of a file or a page.
        etag, modified: of which version it is; "" if the server doesn't tell.
        parts: whether it sends parts.
        conditions: whether it heeds of which version a part is wanted.
        told: whether its length is told.
        type: "text/html" for a page.
        location: where it redirects to.
    """

    data: bytes = b""
    status: int = 200
    etag: str = ""
    modified: str = ""
    parts: bool = True
    conditions: bool = True
    told: bool = True
    type: str = "application/octet-stream"
    location: str = ""


class _HubCall(Call):
    """A request to the Hub under its real name."""

    @property
    def url(self) -> str:
        return f"https://{HUB}"

    @property
    def cdn(self) -> str:
        return f"https://{CDN}"


class WebServer(HubServer):
    """The state of the web, its requests and its faults.

    Attributes:
        pages: by address; those with a query are asked for without it.
    """

    url = f"https://{HUB}"

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[str, Page] = {}

    def put(self, url: str, data: bytes, **more: str | int | bool) -> Page:
        """A file at an address, with the etag of its content unless told otherwise."""
        page = Page(data, etag=f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')
        for name, value in more.items():
            setattr(page, name, value)
        self.pages[url] = page
        return page

    def redirect(self, url: str, location: str, status: int = 302) -> None:
        """From one address to another, or to a path."""
        self.pages[url] = Page(status=status, location=location, type="text/html")

    def asked(self, host: str) -> int:
        """How many requests came for a host."""
        return sum(_host(Call(one.method, one.path, one.headers)) == host for one in self.requests)

    def reaches(self, host: str) -> bool:
        """Every host is there."""
        return bool(host)

    def answer(self, call: Call) -> Answer:
        """What the server of an address says."""
        if _host(call) in (HUB, CDN):
            call = _HubCall(call.method, _path(call), call.headers, call.body)
            return super().answer(call)
        page = self._page(call)
        if page is None:
            return Answer(b"<html><title>Not Found</title></html>", 404, {"Content-Type": "text/html"})
        told = {"ETag": page.etag, "Last-Modified": page.modified, "Location": page.location}
        headers = {"Content-Type": page.type} | {name: text for name, text in told.items() if text}
        is_file = page.status == 200 and page.type != "text/html"
        return Answer(page.data, page.status, headers, file=_plain(call) if is_file else "")

    def sends_parts(self, call: Call, answer: Answer) -> bool:
        """Whether a request may be for a part of this file, and is for this version of it."""
        page = self._page(call)
        if page is None:
            return super().sends_parts(call, answer)
        wanted = call.headers.get("if-range") if page.conditions else None
        return page.parts and (wanted is None or wanted in (page.etag, page.modified))

    def respond(self, call: Call, wait: Callable[[float], object]) -> tuple[Answer, Iterator[bytes]]:
        """As the Hub's, perhaps without a length."""
        answer, pieces = super().respond(call, wait)
        page = self._page(call)
        if page is not None and not page.told:
            del answer.headers["Content-Length"]
        return answer, pieces

    def _page(self, call: Call) -> Page | None:
        where = f"{_host(call)}{_plain(call)}"
        return self.pages.get(f"https://{where}") or self.pages.get(f"http://{where}")


def _is_mirror(call: Call) -> bool:
    return call.headers["host"].partition(":")[0] in ("127.0.0.1", "localhost")


def _host(call: Call) -> str:
    return call.path.split("/")[1] if _is_mirror(call) else call.headers["host"]


def _path(call: Call) -> str:
    return "/" + call.path.split("/", 2)[2] if _is_mirror(call) else call.path


def _plain(call: Call) -> str:
    """The path without its query."""
    return _path(call).partition("?")[0]

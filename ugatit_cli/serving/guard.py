"""Who may ask: nobody but people at this machine, or those who have the token, and no page of another site.

A server on loopback is reached by every page that a browser on the machine shows: directly (`Origin` and
`Sec-Fetch-Site` tell, which no page can forge), or under a name of the page's own that suddenly means 127.0.0.1
(DNS rebinding: `Host` tells). Where there is a token, it is what counts; a page never gets it from the server, and
as it is no cookie, no browser sends it by itself.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ugatit_cli.serving.problems import Refused, refuse

SHORTEST: Final = 12
"""Characters of a token that isn't guessed in a while."""

# The page is three files of the server's own; what it shows are pictures that it holds itself.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def new_token() -> str:
    """One that nobody guesses."""
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is reached from this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """An ASGI app that lets requests to another one if they may ask, and says to browsers what answers may do.

    Args:
        token: that of the server; empty: there is none.
        public: paths that need no token, as they tell nothing.
    """

    def __init__(self, app: ASGIApp, token: str, public: Collection[str]) -> None:
        self.app, self.token, self.public = app, token, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(Headers(scope=scope), scope["path"])
        except Refused as error:
            await refuse(error, scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    def _check(self, headers: Headers, path: str) -> None:
        host = headers.get("host", "")
        if not self.token and not is_loopback(_name(host)):
            raise Refused(403, f"{host!r} is not this machine's own address", "Use http://127.0.0.1 and the port.")
        origin = headers.get("origin")
        foreign = origin is not None and origin.lower().partition("://")[2] != host.lower()
        # Which a link to the page may be; nothing else has a reason to.
        if foreign or (headers.get("sec-fetch-site") in ("cross-site", "same-site") and path != "/"):
            raise Refused(403, "a page of another site asks", "Open the server's own page.")
        if self.token and path not in self.public and not self._known(headers.get("authorization", "")):
            error = Refused(401, "the token is missing or wrong", "Send it as Authorization: Bearer TOKEN.")
            error.headers["WWW-Authenticate"] = "Bearer"
            raise error

    def _known(self, authorization: str) -> bool:
        """Whether it is the token; how long that takes tells nothing of it."""
        kind, _, stated = authorization.partition(" ")
        return secrets.compare_digest(stated.strip().encode(), self.token.encode()) and kind.lower() == "bearer"


def _name(host: str) -> str:
    """Without the port, and an IPv6 address without its brackets; empty if it makes no sense."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""

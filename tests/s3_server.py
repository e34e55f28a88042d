"""An S3 server on loopback: objects in memory, with faults on demand.

As much of the protocol as `s3fs` speaks to list, read, write and remove whole objects. moto's server speaks all of
it, but takes 40 further packages, of which botocore is another version than `s3fs` allows, and breaks no connections.
"""

from __future__ import annotations

import hashlib
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

KEY, SECRET = "AKIATEST", "sekrit"
XML: Final = "application/xml"


class S3Server:
    """The state of the server, its requests and its faults.

    Attributes:
        objects: content by bucket and key: `pics/in/a.png`.
        changed: seconds since 1970 when each changed; the others did at 1,000,000,000.
        breaks: of these, half is sent, or taken, and then the connection is broken.
        denied: buckets that nobody gets into.
        told: whether the lengths of objects are told.
        requests: method and path of all.
    """

    def __init__(self) -> None:
        self.buckets: set[str] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.state = self  # type: ignore[attr-defined]
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), name="s3", daemon=True).start()
        self.reset()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def reset(self) -> None:
        """With the empty bucket `pics`, and without faults."""
        self.objects: dict[str, bytes] = {}
        self.changed: dict[str, float] = {}
        self.breaks: set[str] = set()
        self.denied: set[str] = set()
        self.told = True
        self.requests: list[str] = []
        self.buckets = {"pics"}

    def below(self, folder: str) -> dict[str, bytes]:
        """The objects in a folder by name."""
        return {key[len(folder) :]: data for key, data in self.objects.items() if key.startswith(folder)}

    def listing(self, bucket: str, query: dict[str, list[str]]) -> str:
        """An answer to ListObjectsV2."""
        prefix, delimiter = (query.get(name, [""])[0] for name in ("prefix", "delimiter"))
        contents, folders = "", dict[str, None]()
        for path, data in sorted(self.objects.items()):
            key = path.partition("/")[2]
            if not path.startswith(f"{bucket}/") or not key.startswith(prefix):
                continue
            rest, mark, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if mark:
                folders[prefix + rest + delimiter] = None
                continue
            when = formatdate(self.changed.get(path, 1e9), usegmt=True)
            contents += f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>{etag(data)}</ETag>"
            contents += f"<LastModified>{when}</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
        common = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders)
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{common}</ListBucketResult>"


def etag(data: bytes) -> str:
    return f"&quot;{hashlib.md5(data, usedforsecurity=False).hexdigest()}&quot;"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def state(self) -> S3Server:
        state: S3Server = self.server.state  # type: ignore[attr-defined]
        return state

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        path, query = self._asked()
        bucket, _, key = path.partition("/")
        if self._is_refused(bucket):
            return
        if not key:
            self._answer(200, self.state.listing(bucket, query).encode(), XML)
        elif (data := self.state.objects.get(path)) is None:
            self._error(404, "NoSuchKey", "The specified key does not exist.")
        else:
            self._send(path, data)

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        path, _ = self._asked()
        length = int(self.headers["Content-Length"])
        if path in self.state.breaks:
            self.rfile.read(length // 2)
            self._break()
            return
        data = self.rfile.read(length)
        if not self._is_refused(path.partition("/")[0]):
            self.state.objects[path] = data
            self._answer(200, b"", XML, {"ETag": etag(data).replace("&quot;", '"')})

    def do_DELETE(self) -> None:
        path, _ = self._asked()
        self.state.objects.pop(path, None)
        self._answer(204, b"", XML)

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        path = unquote(parts.path).strip("/")
        self.state.requests.append(f"{self.command} {path}")
        return path, parse_qs(parts.query)

    def _is_refused(self, bucket: str) -> bool:
        if bucket in self.state.denied or KEY not in self.headers.get("Authorization", KEY):
            self._error(403, "AccessDenied", "Access Denied")
        elif bucket not in self.state.buckets:
            self._error(404, "NoSuchBucket", "The specified bucket does not exist")
        else:
            return False
        return True

    def _send(self, path: str, data: bytes) -> None:
        headers = {"ETag": etag(data).replace("&quot;", '"'), "Accept-Ranges": "bytes"}
        headers["Last-Modified"] = formatdate(self.state.changed.get(path, 1e9), usegmt=True)
        first, last = 0, len(data) - 1
        if asked := self.headers.get("Range"):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        part, broken = data[first : last + 1], path in self.state.breaks
        self._answer(206 if asked else 200, part, "image/png", headers, broken=broken)

    def _error(self, status: int, code: str, message: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), XML)

    def _answer(
        self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None, *, broken: bool = False
    ) -> None:
        self.send_response(status)
        length = {"Content-Length": str(len(data))} if self.state.told else {"Connection": "close"}
        for name, value in {"Content-Type": kind, **length, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if broken else data)
            if broken:
                self._break()

    def _break(self) -> None:
        self.close_connection = True
        self.connection.close()

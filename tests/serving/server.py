"""A real server on loopback, with tiny models, and requests to it as programs make them."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from PIL import Image

from ugatit_cli.serving.app import make_app
from ugatit_cli.serving.line import Line
from ugatit_cli.serving.places import Limits
from ugatit_cli.serving.server import Answering, listening, url_of
from ugatit_cli.serving.studio import Studio
from ugatit_cli.weights.catalog import known

BOUNDARY = "----ugatit"


@dataclass(frozen=True)
class Response:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.data)

    @property
    def refusal(self) -> tuple[int, str]:
        """The status, and the words."""
        assert self.headers["content-type"] == "application/json"
        assert set(self.document) == {"error", "hint", "fields"}
        return self.status, self.document["error"]


@dataclass
class Served:
    """A server that runs.

    Attributes:
        faults: errors that nobody foresaw.
    """

    url: str
    studio: Studio
    line: Line
    answering: Answering
    faults: list[Exception] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        where = urlsplit(self.url)
        return http.client.HTTPConnection(where.hostname or "", where.port or 0, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None = None, /, **headers: str) -> Response:
        with contextlib.closing(self.connect()) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())

    def post(self, body: bytes, path: str = "/translate", /, **fields: object) -> Response:
        """A picture as the body, what is asked for in the query."""
        return self.ask("POST", f"{path}?{urlencode(fields)}", body)


def form(*files: tuple[str, bytes], **fields: object) -> tuple[bytes, dict[str, str]]:
    """A body and its headers, as a browser sends a form with files."""
    parts = [f'form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [f'form-data; name="picture"; filename="{name}"\r\n\r\n'.encode() + data for name, data in files]
    lines = b"".join(f"--{BOUNDARY}\r\nContent-Disposition: ".encode() + part + b"\r\n" for part in parts)
    return lines + f"--{BOUNDARY}--\r\n".encode(), {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}


def white_icon(size: int = 16) -> bytes:
    """A PNG of which only the right half is there, and white."""
    image = Image.new("RGBA", (size, size), (255, 255, 255, 255))
    image.paste((0, 0, 0, 0), (0, 0, size // 2, size))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG in black and white whose pixels take no room: of 200 megapixels, 25 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@contextlib.contextmanager
def serving(*models: Path, token: str = "", **limits: Any) -> Iterator[Served]:
    """A server with some models, the first one the default, until the end."""
    few = Limits(**limits)
    studio = Studio([known(str(one)) for one in models], device="cpu", precision="fp32", max_pixels=few.pixels)
    found, line, faults = listening("127.0.0.1", 0), Line(), list[Exception]()
    answering = Answering(make_app(studio, line, few, token, faults.append), found)
    served = Served(url_of(found), studio, line, answering, faults)
    answering.start()
    try:
        yield served
    finally:
        line.close(at_once=True)
        answering.stop()
    assert faults == []
    assert not answering.runs

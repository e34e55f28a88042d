"""The Hub of `hub_api` with faults on demand: in this process without sockets, and on loopback for other programs."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal
from urllib.parse import unquote

from huggingface_hub.errors import HfHubHTTPError

from tests.hub_api import BAD_TOKEN, NO_ACCESS, NO_USER, Answer, Call, HubApi, refusal

# The HTTP library of this version of `huggingface_hub`.
http: Any = sys.modules[HfHubHTTPError.__bases__[0].__module__.partition(".")[0]]

BLOCK: Final = 1 << 16
ANSWERS: Final = ("status", "html", "other", "redirect-loop")
LOGIN_PAGE: Final = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>Guest network</body></html>\n"
ERRORS: Final = {
    401: ("RepoNotFound", NO_USER),
    403: ("GatedRepo", NO_ACCESS),
    404: ("EntryNotFound", "Entry not found"),
}


@dataclass
class Fault:
    """Something that goes wrong for requests whose path ends with `file` ("": for all, those to the API too).

    Attributes:
        kind: "status": answers `status`. "html": a login page. "other": a text. "redirect-loop". The others change
            the body of a successful GET: "short" (the file ends at `after`, and all headers of this response agree),
            "cut" (the connection is closed after `after` bytes of this response), "stall" (silence after `after`
            bytes of it), "drip" (from offset `after` of the file on, `chunk` bytes every `delay` seconds; in this
            process, its clock is only told so).
        times: how often it strikes; None: every time.
        retry_after: seconds that a "status" tells to wait.
        method: the one method it strikes; None: HEAD and GET.
        hits: how often it has struck.
    """

    kind: Literal["status", "cut", "drip", "stall", "short", "html", "other", "redirect-loop"]
    file: str = "model.safetensors"
    times: int | None = None
    after: int = 0
    status: int = 503
    retry_after: int | None = None
    delay: float = 0.0
    chunk: int = 1
    method: str | None = None
    hits: int = field(default=0, init=False)

    def strikes(self, method: str, path: str) -> bool:
        """Whether it is this request's turn."""
        return (
            (self.times is None or self.hits < self.times)
            and (method == self.method or (self.method is None and method in ("HEAD", "GET")))
            and path.endswith(self.file)
        )


@dataclass
class Request:
    """What came and what was answered: `path` with its query, header names in lower case.

    `file` is the name in the repository when bytes of a file were served; `sent` counts body bytes so far.
    """

    method: str
    path: str
    headers: dict[str, str]
    file: str = ""
    status: int = 0
    sent: int = 0


class Broken(Exception):
    """The body ends here: the connection is cut, or nothing comes any more."""


class HubServer(HubApi):
    """The state of the Hub, its requests and its faults.

    Attributes:
        requests: all of them, oldest first, from the moment their headers are read.
        now: seconds that answers have taken, for whoever is in this process.
        stopping: set at the end.
    """

    url = "http://127.0.0.1"

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.now = 0.0
        self.stopping = threading.Event()
        self._faults: list[Fault] = []
        self._striking = threading.Lock()
        self._server: _Server | None = None

    def bytes_sent(self, name: str = "") -> int:
        """Bytes of files whose name contains `name` that were sent so far."""
        return sum(request.sent for request in list(self.requests) if request.file and name in request.file)

    def fault(self, fault: Fault) -> Fault:
        """Makes it happen from now on; of several that fit a request, the first one strikes."""
        with self._striking:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        with self._striking:
            self._faults.clear()

    def _strike(self, call: Call, *, answers: bool) -> Fault | None:
        """The fault for this request, of those that replace the answer or of those that spoil its body."""
        path = unquote(call.path.partition("?")[0])
        with self._striking:
            for fault in self._faults:
                if (fault.kind in ANSWERS) == answers and fault.strikes(call.method, path):
                    fault.hits += 1
                    return fault
        return None

    def respond(self, call: Call, wait: Callable[[float], object]) -> tuple[Answer, Iterator[bytes]]:
        """Status and headers, and the body as it comes; it may end with `Broken`."""
        seen = Request(call.method, call.path, call.headers)
        self.requests.append(seen)
        start, spoilt = 0, None
        if fault := self._strike(call, answers=True):
            answer = _faulty(fault, call)
        else:
            answer = self.answer(call)
            if call.method == "GET" and answer.status == 200:
                spoilt = self._strike(call, answers=False)
                answer, start = _part(answer, call, spoilt, parts=self.sends_parts(call, answer))
        seen.file, seen.status = answer.file, answer.status
        headers = {"Content-Length": str(len(answer.data))}
        headers |= {"ETag": answer.etag, "Accept-Ranges": "bytes"} if answer.etag else {}
        body = memoryview(b"" if call.method == "HEAD" else answer.data)
        return replace(answer, headers=headers | answer.headers), _pieces(seen, body, spoilt, start, wait)

    def handle(self, request: Any) -> Any:
        """The HTTP library's request, answered in this process."""
        if request.url.port is not None or not self.reaches(request.url.host):
            raise http.ConnectError("[Errno 111] Connection refused")
        headers = {name.lower(): value for name, value in request.headers.items()}
        if bad := [value for value in headers.values() if "\0" in value]:
            raise http.LocalProtocolError(f"Illegal header value {bad[0].encode()!r}")
        call = Call(request.method, request.url.raw_path.decode(), headers, request.content)
        answer, pieces = self.respond(call, self._passes)
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        return http.Response(answer.status, headers=pairs, content=self._in_process(pieces))

    def reaches(self, host: str) -> bool:
        """Whether there is such a host."""
        return host in ("127.0.0.1", "localhost")

    def sends_parts(self, call: Call, answer: Answer) -> bool:  # noqa: ARG002
        """Whether a request may be for a part of this file."""
        return bool(answer.etag)

    def _passes(self, seconds: float) -> None:
        self.now += seconds

    def _in_process(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except Broken as broken:
            if str(broken) == "stall":
                raise http.ReadTimeout("timed out") from None
            raise http.RemoteProtocolError("peer closed connection without sending complete body") from None

    def serve(self) -> str:
        """The address of the same Hub for other programs."""
        if self._server is None:
            self._server = _Server(("127.0.0.1", 0), _Handler)
            self._server.hub = self
            threading.Thread(target=self._server.serve_forever, args=(0.02,), name="hub", daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """No other program gets an answer any more."""
        self.stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _faulty(fault: Fault, call: Call) -> Answer:
    """What comes instead of the answer."""
    if fault.kind == "html":
        return Answer(LOGIN_PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
    if fault.kind == "other":
        return Answer(b"Pay first", headers={"Content-Type": "text/plain"})
    if fault.kind == "redirect-loop":
        return Answer(status=302, headers={"Location": call.path})
    code, message = ERRORS.get(fault.status, ("", f"Error {fault.status}"))
    if fault.status == 401 and "authorization" in call.headers:
        code, message = "", BAD_TOKEN
    answer = refusal(fault.status, message, code)
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
    return answer


def _part(answer: Answer, call: Call, fault: Fault | None, *, parts: bool) -> tuple[Answer, int]:
    """The part that a GET asks for, of the content that a fault may have spoilt; and where it starts."""
    data = answer.data
    if fault and fault.kind == "short":
        data = data[: fault.after]
    asked = re.fullmatch(r"bytes=(\d+)-", call.headers.get("range", "")) if parts else None
    if asked is None:
        return replace(answer, data=data), 0
    start = int(asked[1])
    if start >= len(data):
        return Answer(status=416, headers={"Content-Range": f"bytes */{len(data)}"}), 0
    span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
    return replace(answer, data=data[start:], status=206, headers=answer.headers | span), start


def _pieces(
    seen: Request, body: memoryview, fault: Fault | None, start: int, wait: Callable[[float], object]
) -> Iterator[bytes]:
    """A body that begins at byte `start` of a file, as it comes."""
    stops = fault is not None and fault.kind in ("cut", "stall")
    end, done = min(fault.after, len(body)) if fault is not None and stops else len(body), 0
    while done < end:
        step = min(BLOCK, end - done)
        if fault is not None and fault.kind == "drip":
            quick = fault.after - start - done
            step = min(step, quick if quick > 0 else fault.chunk)
            if quick <= 0:
                wait(fault.delay)
        # Counted before: a client that has its last byte may ask at once.
        seen.sent += step
        yield bytes(body[done : done + step])
        done += step
    if fault is not None and stops:
        raise Broken(fault.kind)


class _Server(ThreadingHTTPServer):
    hub: HubServer
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # which only says that the client went away
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def exchange(self) -> None:
        hub = self.server.hub
        headers = {key.lower(): value for key, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        answer, pieces = hub.respond(Call(self.command, self.path, headers, body), hub.stopping.wait)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(piece)
        except Broken as broken:
            if str(broken) == "stall":
                hub.stopping.wait()

    do_GET = do_HEAD = do_POST = do_PUT = exchange  # noqa: N815

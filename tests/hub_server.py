"""A Hub on loopback for tests: `hub_api` over real HTTP, with faults on demand."""

from __future__ import annotations

import re
import select
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from tests.hub_api import BAD_TOKEN, NO_ACCESS, NO_USER, Answer, Call, HubApi, refusal

Kind = Literal["status", "flip", "cut", "drip", "stall", "short", "html", "redirect-loop"]

BLOCK: Final = 1 << 16
ANSWERS: Final = ("status", "html", "redirect-loop")
LOGIN_PAGE: Final = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>Guest network</body></html>\n"
ERRORS: Final = {
    401: ("RepoNotFound", NO_USER),
    403: ("GatedRepo", NO_ACCESS),
    404: ("EntryNotFound", "Entry not found"),
    429: ("", "We had to rate limit your IP. Please try again later."),
    500: ("", "Internal Error - We're working hard to fix this as soon as possible!"),
    503: ("", "Service Unavailable"),
}


@dataclass
class Fault:
    """Something that goes wrong for requests whose path ends with `file` ("": for all, those to the API too).

    Attributes:
        kind: "status": answers `status`. "html": a login page. "redirect-loop". The others change the body of a
            successful GET: "flip" (one byte at offset `after` of the file), "short" (the file ends at `after`, and
            all headers of this response agree), "cut" (the connection is closed after `after` bytes of this
            response), "stall" (silence after `after` bytes of it), "drip" (from offset `after` of the file on,
            `chunk` bytes every `delay` seconds).
        times: how often it strikes; None: every time.
        retry_after: seconds that a "status" tells to wait.
        method: the one method it strikes; None: HEAD and GET.
        hits: how often it has struck.
    """

    kind: Kind
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

    `file` is the name in the repository when bytes of a file were served; `sent` counts body bytes written so far.
    """

    method: str
    path: str
    headers: dict[str, str]
    file: str = ""
    status: int = 0
    sent: int = 0


class HubServer(HubApi):
    """The state of the Hub, its requests and its faults.

    Attributes:
        requests: all of them, oldest first, from the moment their headers are read.
        failures: mistakes of the server itself.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.failures: list[BaseException] = []
        self.stopping = threading.Event()
        self._faults: list[Fault] = []
        self._striking = threading.Lock()
        self._server = _Server(self)
        port = self._server.server_port
        super().__init__(f"http://127.0.0.1:{port}", f"http://localhost:{port}")

    def bytes_sent(self, name: str = "") -> int:
        """Bytes of files whose name contains `name` that were written so far."""
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

    def strike(self, method: str, path: str, answers: bool) -> Fault | None:
        """The fault for this request, of those that replace the answer or of those that spoil its body."""
        with self._striking:
            for fault in self._faults:
                if (fault.kind in ANSWERS) == answers and fault.strikes(method, path):
                    fault.hits += 1
                    return fault
        return None

    def serve(self) -> None:
        """Answers until `stop`."""
        self._server.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        """Hangs up on everyone and waits for all threads."""
        self.stopping.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()


def _faulty(fault: Fault, call: Call) -> Answer:
    """What comes instead of the answer."""
    if fault.kind == "html":
        return Answer(LOGIN_PAGE, headers={"Content-Type": "text/html; charset=utf-8"})
    if fault.kind == "redirect-loop":
        return Answer(status=302, headers={"Location": call.path})
    code, message = ERRORS.get(fault.status, ("", f"Error {fault.status}"))
    if fault.status == 401 and "authorization" in call.headers:
        code, message = "", BAD_TOKEN
    answer = refusal(fault.status, message, code)
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
    return answer


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A Hub on a free port of 127.0.0.1; mistakes of the server itself are raised at the end."""
    hub = HubServer()
    thread = threading.Thread(target=hub.serve, name="hub")
    thread.start()
    try:
        yield hub
    finally:
        hub.stop()
        thread.join()
    if hub.failures:
        raise hub.failures[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 64

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        with self.lock:
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        error = sys.exc_info()[1]
        if error and not isinstance(error, OSError):  # which only says that the client went away
            self.hub.failures.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def exchange(self) -> None:
        hub = self.server.hub
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.seen = Request(self.command, self.path, headers)
        hub.requests.append(self.seen)
        call = Call(self.command, self.path, headers, self._read_body())
        path = unquote(urlsplit(self.path).path)
        if fault := hub.strike(self.command, path, answers=True):
            self._send(_faulty(fault, call))
            return
        answer = hub.answer(call)
        self.seen.file = answer.file
        if self.command == "GET" and answer.status == 200:
            self._send_part(answer, hub.strike("GET", path, answers=False))
        else:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = exchange  # noqa: N815

    def _read_body(self) -> bytes:
        if self.seen.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.seen.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send_part(self, answer: Answer, fault: Fault | None) -> None:
        """The part that a GET asks for, of the content that a fault may have spoilt."""
        data = answer.data
        if fault and fault.kind == "flip":
            data = data[: fault.after] + bytes([data[fault.after] ^ 1]) + data[fault.after + 1 :]
        elif fault and fault.kind == "short":
            data = data[: fault.after]
        part = self._range(len(data), answer.etag) if answer.etag else None
        answer = replace(answer, data=data)
        if part is None:
            self._send(answer, fault)
        elif not part:
            self._send(Answer(status=416, headers={"Content-Range": f"bytes */{len(data)}"}))
        else:
            span = {"Content-Range": f"bytes {part.start}-{part.stop - 1}/{len(data)}"}
            part_of = replace(answer, data=data[part.start : part.stop], status=206, headers=answer.headers | span)
            self._send(part_of, fault, part.start)

    def _range(self, size: int, etag: str) -> range | None:
        """What to send of `size` bytes: None for all of it, an empty range if there is no such part."""
        asked = re.fullmatch(r"bytes=(?:(\d+)-(\d*)|-(\d+))", self.seen.headers.get("range", ""))
        if not asked or self.seen.headers.get("if-range", etag) != etag:
            return None
        first, last, suffix = asked.groups()
        if suffix:
            return range(max(0, size - int(suffix)), size)
        return range(int(first), min(int(last) + 1, size) if last else size)

    def _send(self, answer: Answer, fault: Fault | None = None, offset: int = 0) -> None:
        self.seen.status = answer.status
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.data))}
        headers |= {"ETag": answer.etag, "Accept-Ranges": "bytes"} if answer.etag else {}
        for name, value in (headers | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._write(memoryview(answer.data), fault or Fault("status"), offset)

    def _write(self, body: memoryview, fault: Fault, offset: int) -> None:
        stops = fault.kind in ("cut", "stall")
        end = min(fault.after, len(body)) if stops else len(body)
        done = 0
        while done < end:
            step = min(BLOCK, end - done)
            if fault.kind == "drip":
                quick = fault.after - offset - done
                step = min(step, quick if quick > 0 else fault.chunk)
                if quick <= 0 and self.server.hub.stopping.wait(fault.delay):
                    break
            self._write_block(body[done : done + step])
            done += step
        if fault.kind == "stall":
            self._wait_for_goodbye()
        self.close_connection |= stops or done < end

    def _write_block(self, block: memoryview) -> None:
        # Counted before: a client that has its last byte may ask at once.
        self.seen.sent += len(block)
        try:
            self.wfile.write(block)
        except OSError:
            self.seen.sent -= len(block)
            raise

    def _wait_for_goodbye(self) -> None:
        while not self.server.hub.stopping.wait(0.02):
            if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1, socket.MSG_PEEK):
                return

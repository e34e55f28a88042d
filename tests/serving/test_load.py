"""Many requests, large ones, slow ones and those that are given up: all have an end, and memory has a bound."""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests import tiny
from tests.cli.conftest import encoded
from tests.remote.test_transfer import files_of_at_most
from tests.serving.server import Response, Served, bomb, form, serving
from ugatit_cli import files
from ugatit_cli.serving import app, places, server
from ugatit_cli.serving.asked import Asked, Upload
from ugatit_cli.serving.problems import Refused
from ugatit_cli.serving.studio import Answer, Studio
from ugatit_cli.weights.catalog import known


def wait(semaphore: threading.Semaphore, count: int = 1) -> None:
    for _ in range(count):
        assert semaphore.acquire(timeout=100)


class Held:
    """Pictures stay in the thread until they are let go; hears of places, too."""

    def __init__(self, served: Served, patch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.stops: list[threading.Event] = []
        self.came, self.left, self.begin, self.go = (threading.Semaphore(0) for _ in range(4))
        drawn, place = served.studio._drawn, places.Places._place

        def slow(upload: Upload, asked: Asked, drawing: Any, stop: threading.Event) -> Any:
            self.begun.append(upload.name)
            self.stops.append(stop)
            self.begin.release()
            wait(self.go)
            return drawn(upload, asked, drawing, stop)

        @contextlib.contextmanager
        def watched(one: places.Places, size: int) -> Iterator[None]:
            with place(one, size):
                self.came.release()
                yield
            self.left.release()

        patch.setattr(served.studio, "_drawn", slow)
        patch.setattr(places.Places, "_place", watched)

    def let(self, count: int = 1) -> None:
        for _ in range(count):
            self.go.release()


@pytest.fixture
def held(small: Served, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(small, monkeypatch)


def half_a_request(to: Served, *, second: bool = False) -> socket.socket:
    connection = to.connect()
    connection.connect()
    if second:
        connection.request("GET", "/")
        connection.getresponse().read()
    connection.sock.sendall(b"GET / HTTP/1.1\r\n")
    return connection.sock


def ends(one: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while one.recv(1 << 16):
            pass


@pytest.fixture
def small(models: dict[str, Path]) -> Iterator[Served]:
    """A server with two places."""
    with serving(models["light"], upload=100_000, queue=2) as server:
        yield server


@pytest.fixture
def ask() -> Iterator[Callable[..., Any]]:
    """Does something in a thread of its own."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def begun(server: Served, size: int, sent: bytes = b"") -> http.client.HTTPConnection:
    """A request whose body isn't all sent."""
    connection = server.connect()
    connection.putrequest("POST", "/translate")
    connection.putheader("Content-Length", str(size))
    connection.endheaders(sent)
    return connection


def test_two_dozen_requests_by_eight_clients_are_all_answered(served: Served) -> None:
    pictures = [encoded(size=(16 + one, 16)) for one in range(8)]

    def client(number: int) -> list[Response]:
        return [served.post(pictures[number]) for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client, range(8)))
    assert Counter(one.status for some in answers for one in some) == {200: 24}
    for number, some in enumerate(answers):  # each its own
        assert {one.data for one in some} == {served.post(pictures[number]).data}
        assert Image.open(io.BytesIO(some[0].data)).size == (16 + number, 16)


def test_who_finds_no_place_is_told_when_to_come_again(small: Served, ask: Callable[..., Any], held: Held) -> None:
    two = [ask(small.post, encoded()) for _ in range(2)]
    wait(held.came, 2)
    answer = small.post(encoded())
    assert answer.refusal[0] == 503
    assert "busy" in answer.refusal[1]
    assert int(answer.headers["retry-after"]) > 0
    assert small.ask("GET", "/models").status == 200  # which needs none
    held.let(3)
    assert [one.result().status for one in two] == [200, 200]
    wait(held.left, 2)
    assert small.post(encoded()).status == 200


def test_who_leaves_gives_the_place_to_others(small: Served, ask: Callable[..., Any], held: Held) -> None:
    picture = encoded()
    working = begun(small, len(picture), picture)
    wait(held.begin)
    waiting = begun(small, len(picture), picture)
    wait(held.came, 2)
    assert small.post(picture).status == 503
    for one in (working, waiting):
        one.close()
    wait(held.left, 2)
    assert held.stops[0].is_set()  # what is in the network ends early
    later = ask(small.post, picture)
    held.let(2)
    assert later.result().status == 200
    assert len(held.begun) == 2  # nobody translated for who had left the line


def test_of_a_large_picture_that_nobody_wants_the_tiles_that_are_left_are_dropped(tmp_path: Path) -> None:
    names = [known(str(tiny.save(tmp_path / "full", tiny.FULL)))]
    studio = Studio(names, device="cpu", precision="fp32", max_pixels=None)
    stop, passed = threading.Event(), list[int]()

    def gone(*_: object) -> None:
        passed.append(1)
        stop.set()

    upload, asked = Upload("a.png", encoded(size=(90, 70))), Asked.model_validate({"fit": "native"})
    with studio.model("").generator("a2b").register_forward_hook(gone), pytest.raises(Refused):
        studio.translated(upload, asked, stop)
    assert len(passed) <= 2  # a look at all of it, and one of its twelve tiles


def test_too_many_bytes_are_refused_before_they_are_read(small: Served) -> None:
    most = small.ask("GET", "/models").document["limits"]["bytes"]
    with contextlib.closing(begun(small, 10 * most)) as connection:
        answer = connection.getresponse()
        assert answer.status == 413
        assert b"100.0 kB" in answer.read()
    assert small.post(b"x" * most).refusal[0] == 422  # as many as may be


def test_too_many_bytes_without_a_length_are_refused_on_their_way(small: Served) -> None:
    with contextlib.closing(small.connect()) as connection:
        pieces = (b"x" * 50_000 for _ in range(100))
        connection.request("POST", "/translate", pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().status == 413


def test_uploads_together_have_a_bound(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that wait, too: by what they say they will send."""
    with serving(models["light"], upload=100_000, queue=100) as server:
        held = Held(server, monkeypatch)
        some = [begun(server, 100_000, b"x") for _ in range(places.LARGE_ONES)]
        wait(held.came, len(some))
        assert server.post(b"x" * 1000).refusal[0] == 503
        for one in some:
            one.close()
        wait(held.left, len(some))
        held.let()
        assert server.post(encoded()).status == 200


def test_pixels_are_counted_before_they_are_decoded(served: Served) -> None:
    answer = served.post(bomb(20_000, 10_000))
    assert answer.refusal[0] == 422
    assert "200.0 megapixels" in answer.refusal[1]
    assert "ugatit serve --max-pixels" in answer.document["hint"]


def test_large_results_wait_on_disk(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = served.post(encoded()).data
    monkeypatch.setattr(app, "IN_MEMORY", 10)
    monkeypatch.setattr(app, "PIECE", 100)
    assert served.post(encoded()).data == expected


def test_a_full_disk_loses_no_result(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = encoded(size=(40, 40))
    at_once = served.post(picture).data
    monkeypatch.setattr(app, "IN_MEMORY", 100)
    with files_of_at_most(100):
        assert served.post(picture).data == at_once


def test_an_upload_that_a_full_disk_doesnt_take_is_no_bug(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "DISK_FULL", files.DISK_FULL | {errno.EFBIG})
    body, headers = form(("large.png", bytes(3_000_000)))
    with serving(models["light"]) as server, files_of_at_most(100_000):
        status, words = server.ask("POST", "/translate", body, **headers).refusal
    assert status == 500
    assert "disk is full" in words


def test_who_sends_nothing_any_more_is_told(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PATIENCE", 0.01)
    with contextlib.closing(begun(small, 1000, b"x")) as connection:
        assert connection.getresponse().status == 408


def test_an_error_that_nobody_foresaw(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Answer:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(small.studio, "_drawn", broken)
    status, error = small.post(encoded()).refusal
    assert status == 500
    assert "ZeroDivisionError" in error
    assert [str(one) for one in small.faults] == ["of ours"]
    small.faults.clear()
    monkeypatch.undo()
    assert small.post(encoded()).status == 200


def test_at_the_end_what_is_in_the_network_is_answered(
    models: dict[str, Path], ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(models["light"], queue=2) as server:
        held = Held(server, monkeypatch)
        first = ask(server.post, encoded())
        wait(held.begin)
        second = ask(server.post, encoded())
        wait(held.came, 2)
        server.line.close()
        status, error = second.result().refusal
        assert (status, error) == (503, "the server is stopping")
        held.let()
        assert first.result().status == 200
        wait(held.left, 2)
        assert server.post(encoded()).refusal == (503, "the server is stopping")


def test_a_few_models_are_in_memory(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugatit_cli.serving.studio.MOST_LOADED", 2)
    names = [str(models[name]) for name in ("light", "way", "cycle")]
    with serving(*map(Path, names)) as server:
        for name in (*names, names[1]):
            assert server.post(encoded(), model=name).status == 200
        assert list(server.studio._loaded) == [names[2], names[1]]


def test_what_isnt_http_ends(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as one:
        one.sendall(b"\x16\x03\x01 nothing\r\n\r\n")
        assert b"400" in one.recv(1000)


@pytest.mark.parametrize("second", [False, True], ids=["the first", "the second"])
def test_who_never_ends_a_request_is_left(second: bool, small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.5)
    with half_a_request(small, second=second) as one:
        ends(one)


def test_answers_are_sent_at_once() -> None:
    with server.listening("127.0.0.1", 0) as found:
        assert found.proto == socket.IPPROTO_TCP  # else asyncio lets the second part of an answer wait for 40 ms


def test_many_who_never_end_a_request_keep_nobody_out(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST", 3)
    with contextlib.ExitStack() as opened:
        waiting = [opened.enter_context(half_a_request(small)) for _ in range(5)]
        assert small.ask("GET", "/").status == 200
        assert small.post(encoded()).status == 200
        ends(waiting[0])


@pytest.mark.parametrize("what", ["page", "picture"])
def test_a_hundred_requests_at_once_are_all_answered(what: str, small: Served) -> None:
    where = urlsplit(small.url)
    body = encoded() if what == "picture" else b""
    first = "POST /translate" if body else "GET /"
    lines = f"{first} HTTP/1.1", f"Host: {where.netloc}", "Connection: close", f"Content-Length: {len(body)}", "", ""

    with contextlib.ExitStack() as opened:
        address = (where.hostname or "", where.port or 0)
        asking = [opened.enter_context(socket.create_connection(address, 60)) for _ in range(100)]
        for one in asking:
            one.sendall("\r\n".join(lines).encode() + body)
        found = Counter(int(opened.enter_context(one.makefile("rb")).read().split()[1]) for one in asking)
    assert found.keys() <= ({200, 503} if body else {200})
    assert found[200] >= 2


def test_that_no_more_files_may_be_open_is_said_once(small: Served, caplog: pytest.LogCaptureFixture) -> None:
    assert small.answering.runs
    for number in range(9):
        logging.getLogger("asyncio").error("socket.accept() out of system resource\nsocket: %d", number)
    assert len(caplog.records) == 1

"""Who may ask: no page of another site, under no other name, and nobody without the token where there is one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import encoded
from tests.serving.server import Served, serving
from ugatit_cli.serving.guard import is_loopback

TOKEN = "a token of letters".replace(" ", "-")


@pytest.fixture(scope="module")
def locked(models: dict[str, Path]) -> Iterator[Served]:
    """A server with a token."""
    with serving(models["light"], token=TOKEN) as server:
        yield server


OTHERS = ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.0.9", "[::1", ""]


@pytest.mark.parametrize("host", OTHERS)
def test_another_name_is_refused_as_after_dns_rebinding(served: Served, host: str) -> None:
    for path in ("/", "/models"):
        assert served.ask("GET", path, Host=host).status in (400, 403)
    answer = served.ask("POST", "/translate", encoded(), Host=host)
    assert answer.status in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.53:9000", "[::1]", "[::1]:8765"])
def test_this_machines_own_names_are_fine(served: Served, host: str) -> None:
    assert served.ask("GET", "/models", Host=host).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null", "", "http://localhost"])
def test_pages_of_others_are_refused(served: Served, origin: str) -> None:
    """A page on another port of this machine is another site's, too."""
    for path in ("/", "/models", "/translate"):
        assert served.ask("POST", path, encoded(), Origin=origin).refusal[0] == 403


def test_their_links_to_the_page_work_and_nothing_else(served: Served) -> None:
    assert served.ask("GET", "/", Sec_Fetch_Site="cross-site").status == 200
    for path in ("/models", "/page.js", "/openapi.json"):
        assert served.ask("GET", path, Sec_Fetch_Site="cross-site").refusal[0] == 403
    assert served.ask("POST", "/translate", encoded(), Sec_Fetch_Site="same-site").refusal[0] == 403
    assert served.ask("GET", "/models", Sec_Fetch_Site="same-origin", Origin=served.url).status == 200


def test_answers_say_what_browsers_may_do(served: Served) -> None:
    for answer in (served.ask("GET", "/"), served.post(b"no picture"), served.ask("GET", "/", Host="evil.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


WRONG = [None, "Bearer", "Bearer ", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}", "Bearer ä"]


@pytest.mark.parametrize("stated", WRONG)
def test_without_the_token_there_is_nothing_but_the_page(locked: Served, stated: str | None) -> None:
    headers = {} if stated is None else {"Authorization": stated}
    for method, path in (("GET", "/models"), ("POST", "/translate"), ("POST", "/attention"), ("GET", "/nothing")):
        answer = locked.ask(method, path, encoded(), **headers)
        assert answer.refusal[0] == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/page.js", "/page.css", "/openapi.json"):
        answer = locked.ask("GET", path, **headers)
        assert answer.status == 200
        assert TOKEN.encode() not in answer.data


def test_with_it_all_is_there_under_any_name(locked: Served) -> None:
    headers = {"Authorization": f"bearer {TOKEN}", "Host": "studio.example"}
    assert locked.ask("GET", "/models", **headers).status == 200
    assert locked.ask("POST", "/translate", encoded(), **headers).status == 200
    assert locked.ask("POST", "/translate", encoded(), **headers, Origin="http://evil.example").refusal[0] == 403


def test_tokens_are_compared_in_constant_time(locked: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    original = secrets.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return original(one, other)

    monkeypatch.setattr(secrets, "compare_digest", compare)
    locked.ask("GET", "/models", Authorization="Bearer guess")
    assert compared == [(b"guess", TOKEN.encode())]


@pytest.mark.parametrize(
    ("host", "inside"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.2", False), ("example.com", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine_alone(host: str, inside: bool) -> None:
    assert is_loopback(host) is inside

"""What a Hub says, and every way in which it can fail to: one line in plain words that gives no secret away."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from tests.hub_api import Answer, Call
from tests.hub_client import NAME, REPO, SHA256, SIZE, Notes, altered, refused
from tests.hub_server import Fault, HubServer
from ugatit_cli.remote import patience
from ugatit_cli.remote.hub import HubId, RemoteFile, parse_hub_id
from ugatit_cli.remote.hub_download import locate
from ugatit_cli.remote.patience import Patience, without_secrets

PASSWORD: Final = "correct-horse"


def ask(name: str = NAME, revision: str = "main", notes: Notes | None = None) -> RemoteFile | None:
    return locate(HubId(REPO, revision), name, notes or Notes())


def point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The Hub's address is another one from now on."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def test_a_file_is_described(filled: HubServer) -> None:
    commit = filled.commits(REPO)[-1]
    small = ask("config.json", commit)
    assert ask() == RemoteFile(REPO, NAME, commit, SIZE, SHA256)
    assert small is not None
    assert re.fullmatch("[0-9a-f]{40}", small.etag)
    assert ask("samples.png") is None
    assert {request.method for request in filled.requests} == {"HEAD"}


LASTING: Final = (400, 401, 403, 418, 501)
PASSING: Final = (408, 429, 500, 502, 503, 504)  # an outage that a user needn't hear of


@pytest.mark.parametrize(
    ("status", "attempts"), [*((status, 1) for status in LASTING), *((status, 3) for status in PASSING)]
)
def test_a_refusal(filled: HubServer, pauses: list[float], status: int, attempts: int) -> None:
    fault = filled.fault(Fault("status", status=status))
    error = refused(ask, filled.token)
    assert error.hint
    assert REPO in error.message
    assert (fault.hits, len(pauses)) == (attempts, attempts - 1)
    filled.heal()
    filled.fault(Fault("status", status=status, times=attempts - 1))
    assert ask() is not None


def test_a_password_in_the_address_is_never_shown(filled: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for password in (PASSWORD, "p@ss", "it's"):
        point_at(monkeypatch, filled.url.replace("//", f"//me:{password}@"))
        for fault in (Fault("status", status=503), Fault("html"), Fault("redirect-loop")):
            filled.fault(fault)
            refused(ask, password, password[-2:] + "@")
            filled.heal()
        # The address says who it is, so the token isn't sent.
        assert "refuses" in refused(ask, password, password[-2:] + "@").message


def test_no_such_repository_or_revision(filled: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "v9" in refused(lambda: ask(revision="v9")).message
    gone = HubId(f"{REPO}-2")
    assert str(gone) in refused(lambda: locate(gone, "config.json", Notes())).message
    filled.private.add(REPO)
    assert ask() is not None
    monkeypatch.delenv("HF_TOKEN")
    assert "HF_TOKEN" in refused(ask).hint
    filled.private.clear()
    filled.gated.add(REPO)
    assert f"{filled.url}/{REPO}" in refused(ask).hint


@pytest.mark.parametrize(
    "token", ["hf_wrongwrongwrong", "not-like-a-token", "hf_schlüssel123", "hf_bad\0token12", "other bad\0token12"]
)
def test_a_wrong_token(filled: HubServer, monkeypatch: pytest.MonkeyPatch, pauses: list[float], token: str) -> None:
    monkeypatch.delenv("HF_TOKEN")
    Path(constants.HF_TOKEN_PATH).write_text(token, encoding="utf-8")
    error = refused(ask, token, token[-7:])
    assert "token" in error.message + error.hint or "***" in error.message
    assert not pauses
    assert len(filled.requests) == (token in ("hf_wrongwrongwrong", "not-like-a-token"))  # others can't be sent


def test_an_error_that_echoes_the_token(filled: HubServer) -> None:
    def echo(call: Call, _: Answer) -> Answer:
        text = f"You sent {call.headers['authorization']}"
        return Answer(text.encode(), 400, {"X-Error-Message": text, "X-Request-Id": text})

    with altered(filled, echo):
        assert "answered 400" in refused(ask, filled.token, filled.token[3:]).message


HOSTILE: Final = {
    "etag": {"X-Linked-Etag": '"../../x"', "ETag": '"../../x"'},
    "etag with a slash": {"X-Linked-Etag": '"abcdef/ghi"'},
    "hidden etag": {"X-Linked-Etag": '".locks"'},
    "long etag": {"X-Linked-Etag": f'"{"a" * 500}"'},
    "commit": {"X-Repo-Commit": "../../../../etc"},
    "no commit": {"X-Repo-Commit": ""},
    "short commit": {"X-Repo-Commit": "abc"},
    "another commit": {"X-Repo-Commit": "0" * 40},
    "no address": {"Location": "http://[::bad/"},
    "less than nothing": {"X-Linked-Size": "-5"},
}


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers(filled: HubServer, headers: dict[str, str]) -> None:
    commit = filled.commits(REPO)[-1]
    with altered(filled, lambda _, answer: replace(answer, headers=answer.headers | headers)):
        assert "HF_ENDPOINT" in refused(lambda: ask(revision=commit)).hint
    assert ask() is not None


@pytest.mark.parametrize("kind", ["html", "redirect-loop"])
def test_a_page_or_a_loop_instead_of_an_answer(filled: HubServer, pauses: list[float], kind: Any) -> None:
    filled.fault(Fault(kind))
    assert "login page" in refused(ask).hint
    assert not pauses  # nor will it end next time


def test_a_redirect_to_another_host_gets_no_token(filled: HubServer) -> None:
    def elsewhere(call: Call, answer: Answer) -> Answer:
        if call.headers["host"].startswith("127"):
            return Answer(status=302, headers={"Location": f"{call.cdn}{call.path}"})
        return answer

    with altered(filled, elsewhere):
        refused(ask)
    assert filled.requests[0].headers["authorization"] == f"Bearer {filled.token}"
    assert not [
        r for r in filled.requests if r.headers["host"].startswith("localhost") and "authorization" in r.headers
    ]


def test_nobody_there(filled: HubServer, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    point_at(monkeypatch, f"http://me:{PASSWORD}@127.0.0.1:9")
    notes = Notes()
    assert "http://***@127.0.0.1:" in refused(lambda: ask(notes=notes), PASSWORD, filled.token).hint
    assert len(pauses) == len(notes.notes) == 1  # more attempts would only let the user wait
    assert PASSWORD not in notes.notes[0]


BAD_ADDRESSES: Final = (
    "",
    "huggingface.co",
    f"ftp://me:{PASSWORD}@huggingface.co",
    f"//me:{PASSWORD}@huggingface.co",
    f"https://me:{PASSWORD}/1@hugging\nface.co",
    f"hf.co?token={PASSWORD}",
    "https://:8080",
    "http://host:99999",
    "http://[::1",
    "http://exa mple.org",
    "http://a..b",
    "http://xn--ü.org",
)


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_an_endpoint_that_is_no_address(
    filled: HubServer, monkeypatch: pytest.MonkeyPatch, pauses: list[float], address: str
) -> None:
    point_at(monkeypatch, address)
    assert "HF_ENDPOINT" in refused(ask, PASSWORD).message
    assert not pauses
    assert not filled.requests


def test_names_that_only_the_client_refuses(hub: HubServer) -> None:
    assert "someone/flat.git" in refused(lambda: locate(HubId("someone/flat.git"), NAME, Notes())).message
    assert not hub.requests


@pytest.mark.parametrize(
    ("told", "waits"),
    [("2", [2.0]), ("Wed, 21 Oct 2015 07:28:00 GMT", [0.01]), ("-5", [0.01]), ("²", [0.01]), ("3600", [])],
)
def test_the_server_says_how_long_to_wait(
    filled: HubServer, pauses: list[float], told: str, waits: list[float]
) -> None:
    def busy(_: Call, answer: Answer) -> Answer:
        return answer if pauses else Answer(status=429, headers={"Retry-After": told})

    with altered(filled, busy):
        assert ask() if waits else refused(ask).hint  # nobody wants to wait for an hour
    assert pauses == waits


def test_the_wait_doubles(filled: HubServer, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    monkeypatch.setattr(patience, "PATIENCE", Patience(attempts=5, wait=0.5))
    fault, notes = filled.fault(Fault("status", status=503)), Notes()
    refused(lambda: ask(notes=notes))
    assert pauses == [0.5, 1.0, 2.0, 4.0]
    assert fault.hits == 5
    assert "503" in notes.notes[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", HubId("a/b")),
        ("a/b@main", HubId("a/b")),
        ("a/b@v1.0", HubId("a/b", "v1.0")),
        ("a/b@refs/pr/1", HubId("a/b", "refs/pr/1")),
        (f"A-1.x/_b.c@{'0' * 40}", HubId("A-1.x/_b.c", "0" * 40)),
    ],
)
def test_ids(text: str, expected: HubId) -> None:
    assert parse_hub_id(text) == expected
    assert parse_hub_id(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a/", "/a/b", "a/b/c", "a//b", "../a", "a/..", ".a/b", "a/b.", "~/a", "a\\b", "C:/a", "a/b@",
        "a/b@x/../y", "a/b@/x", "a/b@x/", "a/b@-x", "a/b@.x", "a/b@main\n", " a/b", "a/b?x", "a/b%2e", "ä/b",
        "a--b/c", "a/b@x@y", "a/b\0",
    ],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    assert parse_hub_id(text) is None


@given(st.text(st.sampled_from("ab.-_/\\@~: \n%2") | st.characters(), max_size=20))
def test_an_id_never_leads_anywhere_else(text: str) -> None:
    found = parse_hub_id(text)
    if found is None:
        return
    assert text in (str(found), f"{found}@main")
    assert re.fullmatch(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+", found.repository)
    for part in [*found.repository.split("/"), *found.revision.split("/")][:: len(text)]:
        assert not part.startswith((".", "-", "~"))
    assert ".." not in text
    assert "\\" not in text
    assert not found.revision.startswith("/")


WORDS: Final = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)


@given(before=WORDS, after=WORDS, name=st.from_regex("hf_[A-Za-z0-9]{8,40}", fullmatch=True))
def test_tokens_are_taken_out(before: str, after: str, name: str) -> None:
    assert name not in without_secrets(f"{before} {name} {after}")
    assert name[3:] not in without_secrets(f"{before}{{'Authorization': 'Bearer {name[3:]}'}}{after}")


@given(
    before=WORDS,
    password=st.from_regex(r"pw[!-.0-~]{2,20}", fullmatch=True),
    scheme=st.sampled_from(["http://", "HTTPS://", "socks5://", "//"]),
)
def test_passwords_are_taken_out(before: str, password: str, scheme: str) -> None:
    text = without_secrets(f"{before} {scheme}me:{password}@example.org/x")
    assert text.endswith("***@example.org/x")
    assert text.count(password) <= before.count(password)


@given(signature=st.from_regex(r"k[!-~]{2,20}e", fullmatch=True), before=WORDS)
def test_signatures_are_taken_out(signature: str, before: str) -> None:
    text = without_secrets(f"{before} https://cdn.example.org/a/b?X-Signature={signature} after")
    assert text.endswith(" https://cdn.example.org/a/b after")


def test_the_own_token_is_taken_out_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "my own (token)")
    assert without_secrets("sent b'my own (token)' to the Hub") == "sent b'***' to the Hub"
    monkeypatch.setenv("HF_TOKEN", "")
    assert without_secrets("nothing secret at https://huggingface.co/a/b") == (
        "nothing secret at https://huggingface.co/a/b"
    )

"""Uploads to a Hub on loopback: cards that stay, busy moments, refusals in plain words, and no secrets in them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests import tiny
from tests.hub_api import Answer, Call, as_json, refusal
from tests.hub_client import Notes, refused
from tests.hub_server import Fault, HubServer
from ugatit_cli.errors import ModelError
from ugatit_cli.publishing.card import Options
from ugatit_cli.publishing.push import Published, parse_target, staged, upload
from ugatit_cli.weights.folder import open_model

REPO = "tester/flat2clay"
MINE = b"---\nlicense: cc-by-4.0\n---\n# Written on its page\n"


class Publisher:
    """Publishes one model; nothing that is said ever has the token."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub, self.folder = hub, folder

    def __call__(self, options: Options | None = None, notes: Notes | None = None) -> Published:
        notes, target = notes or Notes(), parse_target(REPO)
        try:
            with staged(open_model(self.folder), target, options or Options(), Notes()) as found:
                return upload(found, target, notes)
        finally:
            assert self.hub.token not in "".join(notes.notes)

    def refused(self, options: Options | None = None) -> ModelError:
        return refused(lambda: self(options), self.hub.token)

    def newer(self) -> Path:
        """Has another model from now on; its folder."""
        self.folder = tiny.save(self.folder.with_name("newer"), dataclasses.replace(tiny.LIGHT, channels=8))
        return self.folder

    @property
    def held(self) -> dict[str, bytes]:
        return self.hub.files(REPO)

    @property
    def card(self) -> str:
        return self.held["README.md"].decode()


@pytest.fixture
def publish(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Publisher:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the client's own waits are long
    return Publisher(hub, tiny.save(tmp_path / "model", discriminators=True))


def answering(hub: HubServer, monkeypatch: pytest.MonkeyPatch, say: Callable[[Call], Answer | None]) -> None:
    """The Hub answers what `say` does; what that has no answer for, as ever."""
    answer = hub.answer
    monkeypatch.setattr(hub, "answer", lambda call: say(call) or answer(call))


# --- The card that is there ------------------------------------------------------------------------------


def test_a_card_is_kept_unless_something_new_is_said(publish: Publisher, hub: HubServer) -> None:
    first = publish(Options(licence="mit", data="icons", description="Nice"))
    card = publish.card
    assert "README.md" in first.entry.files
    notes = Notes()
    again = publish(notes=notes)
    assert (publish.card, len(notes.notes), again.changed) == (card, 1, False)
    assert len(hub.commits(REPO)) == 2  # the empty one, and the first
    assert (first.entry.licence, again.entry.licence) == ("mit", "mit")
    assert list(again.entry.files) == ["config.json", "model.safetensors"]
    hub.add(REPO, {"README.md": MINE})
    (publish.newer() / "samples.png").write_bytes(b"a picture")
    newer = publish()
    assert (newer.changed, newer.entry.licence) == (True, "cc-by-4.0")
    assert (publish.held["README.md"], publish.held["samples.png"]) == (MINE, b"a picture")
    assert publish.held["model.safetensors"] == (publish.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "options", [Options(licence="mit"), Options(data="icons"), Options(description="Nice"), Options(overwrite=True)]
)
def test_a_card_is_replaced(publish: Publisher, hub: HubServer, options: Options) -> None:
    publish()
    hub.add(REPO, {"README.md": MINE})
    notes = Notes()
    entry = publish(options, notes).entry
    assert len(notes.notes) == 1
    assert "library_name: ugatit" in publish.card
    assert ("README.md" in entry.files, entry.licence) == (True, options.licence or "not stated")


def test_a_card_of_ones_own_replaces_the_one_there(publish: Publisher) -> None:
    publish()
    (publish.folder / "README.md").write_bytes(MINE)
    assert publish().entry.licence == "cc-by-4.0"
    assert publish.held["README.md"] == MINE
    notes = Notes()
    assert not publish(notes=notes).changed
    assert notes.notes == []  # it is there now


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (b" \n", None),
        (b"---\ntags:\n- x\n---\n\n", None),
        (b"---\nlicense: gpl-3.0\n---\n", "gpl-3.0"),
        (b"\xff\xfe", "not stated"),
    ],
)
def test_a_card_that_waits_for_its_model_is_kept_unless_it_is_empty(
    publish: Publisher, hub: HubServer, card: bytes, licence: str | None
) -> None:
    hub.add(REPO, {"README.md": card})
    entry = publish().entry
    assert (publish.held["README.md"] == card) == (licence is not None)
    assert entry.licence == (licence or "not stated")


# --- Whose repository it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [b"no json", b"[]", b"\xff", b'{"format": "1", "model": {}}', b'{"format": 1}'])
def test_configs_that_are_not_ours(publish: Publisher, hub: HubServer, config: bytes) -> None:
    hub.add(REPO, {"config.json": config})
    error = publish.refused()
    assert ("config.json" in error.message, "--overwrite" in error.hint) == (True, True)


def test_what_is_read_is_of_the_commit_that_was_seen(publish: Publisher, hub: HubServer) -> None:
    publish()
    head = hub.add(REPO, {"README.md": MINE})
    hub.requests.clear()
    publish()
    paths = [request.path for request in hub.requests if "/resolve/" in request.path]
    assert {path.partition("?")[0] for path in paths} == {
        f"/{REPO}/resolve/{head}/config.json",
        f"/{REPO}/resolve/{head}/README.md",
    }


# --- A busy Hub ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "method"),
    [(f"models/{REPO}", "GET"), ("repos/create", "POST"), ("validate-yaml", "POST"), ("commit/main", "POST")],
)
@pytest.mark.parametrize(("status", "wait"), [(503, None), (429, 1)])
def test_what_the_client_tries_once(
    publish: Publisher, hub: HubServer, path: str, method: str, status: int, wait: int | None
) -> None:
    fault = hub.fault(Fault("status", path, status=status, method=method, times=1, retry_after=wait))
    notes = Notes()
    publish(notes=notes)
    assert (fault.hits, len(notes.notes)) == (1, 1)
    assert f"{wait or 0} s" in notes.notes[0]
    assert publish.held["model.safetensors"] == (publish.folder / "model.safetensors").read_bytes()
    assert len([request for request in hub.requests if request.method == "PUT"]) == 1


def test_nothing_new_at_a_busy_hub(publish: Publisher, hub: HubServer) -> None:
    publish()
    fault = hub.fault(Fault("status", f"{REPO}/revision/main", status=503, times=1))
    assert not publish().changed
    assert fault.hits == 1


@pytest.mark.parametrize(("path", "method"), [("", "PUT"), ("preupload/main", "POST"), ("objects/batch", "POST")])
def test_no_attempts_of_attempts(publish: Publisher, hub: HubServer, path: str, method: str) -> None:
    fault = hub.fault(Fault("status", path, status=503, method=method))
    assert "503" in publish.refused().message
    assert fault.hits == 6  # the client's own


def test_a_commit_whose_answer_is_lost(publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(Options(discriminators=True))
    publish.newer()
    calls = []

    def losing(call: Call) -> Answer | None:
        if "/commit/" not in call.path:
            return None
        calls.append(call)
        return refusal(503, "Service Unavailable") if hub_answer(call).status == 200 else None

    hub_answer = hub.answer
    answering(hub, monkeypatch, losing)
    published = publish(Options(licence="mit"))  # the old discriminators are removed, too
    assert (published.entry.revision, published.changed) == (hub.commits(REPO)[-1], True)
    assert len(calls) == 2
    assert publish.held["model.safetensors"] == (publish.folder / "model.safetensors").read_bytes()
    assert "discriminators.safetensors" not in publish.held


@pytest.mark.parametrize("answer", [refusal(503, "Service Unavailable"), None])
def test_somebody_else_is_quicker(
    publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch, answer: Answer | None
) -> None:
    publish()

    def interfering(call: Call) -> Answer | None:
        if "/commit/" in call.path and len(hub.commits(REPO)) == 2:
            hub.add(REPO, {"README.md": MINE})
            return answer
        return None

    answering(hub, monkeypatch, interfering)
    assert "412" in publish.refused(Options(licence="mit")).message
    assert publish.held["README.md"] == MINE


# --- Refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "path", "hint"),
    [
        ("status", 403, "repos/create", "tester must be you"),
        ("status", 403, "PUT", "tester must be you"),
        ("status", 404, "objects/batch", "tester must be you"),
        ("status", 409, "commit/main", "again"),
        ("status", 503, "commit/main", "again"),
        ("status", 429, "commit/main", "minutes"),
        ("status", 400, "commit/main", "proxy"),
        ("status", 402, "repos/create", "how much storage tester has"),
        ("status", 507, "objects/batch", "how much storage tester has"),
        ("status", 400, "validate-yaml", ""),
        ("status", 304, "commit/main", "HF_ENDPOINT"),
        ("redirect-loop", 302, "commit/main", "HF_ENDPOINT"),
        ("redirect-loop", 302, f"models/{REPO}", "HF_ENDPOINT"),
        ("redirect-loop", 302, "PUT", "HF_ENDPOINT"),
        ("html", 200, "commit/main", "HF_ENDPOINT"),
        ("html", 200, f"models/{REPO}", "HF_ENDPOINT"),
        ("html", 200, "PUT", "proxy"),
    ],
)
def test_refusals(publish: Publisher, hub: HubServer, kind: Any, status: int, path: str, hint: str) -> None:
    method = "GET" if path.startswith("models/") else "POST" if path != "PUT" else "PUT"
    fault = hub.fault(Fault(kind, path if path != "PUT" else "", status=status, method=method))
    error = publish.refused()
    assert fault.hits
    assert REPO in error.message
    assert hint in error.hint
    hub.heal()
    publish()
    assert publish.held["model.safetensors"] == (publish.folder / "model.safetensors").read_bytes()


def test_a_commit_that_is_none(publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = as_json({"commitOid": "main", "commitUrl": f"{hub.url}/{REPO}/commit/main"})
    answering(hub, monkeypatch, lambda call: made if "/commit/" in call.path else None)
    assert "HF_ENDPOINT" in publish.refused().hint


# --- Tokens ----------------------------------------------------------------------------------------------


def test_a_token_that_cannot_be_sent(publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_tökén")
    error = publish.refused()
    assert "token" in error.message
    assert "hf auth login" in error.hint


def test_the_token_is_sent_even_if_not_by_default(publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    publish()
    assert not publish().changed


def test_a_password_in_the_address_is_not_shown(
    publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_in(call: Call) -> None:
        if call.path.startswith("/api/") or "resolve" in call.path or ".git/" in call.path:
            call.headers["authorization"] = f"Bearer {hub.token}"  # in place of the password

    answering(hub, monkeypatch, let_in)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url.replace("//", "//ada:secret@"))
    assert publish().url == f"{hub.url.replace('//', '//***@')}/{REPO}"
    hub.fault(Fault("html", "validate-yaml", method="POST"))
    refused(lambda: publish(Options(licence="mit")), "secret")


def test_a_hub_that_repeats_the_token(publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def echo(call: Call) -> Answer | None:
        text = f"README.md of {call.headers.get('authorization')}"
        if call.path.endswith("validate-yaml"):
            licensed = "license: mit" in json.loads(call.body)["content"]
            problem = "errors" if licensed else "warnings"
            return as_json({"errors": [], "warnings": []} | {problem: [{"message": text}]}, 400 if licensed else 200)
        return refusal(400, text) if "/commit/" in call.path and b"samples.png" in call.body else None

    answering(hub, monkeypatch, echo)
    notes = Notes()
    publish(notes=notes)
    assert "***" in notes.notes[-1]
    assert "***" in publish.refused(Options(licence="mit")).message
    (publish.folder / "samples.png").write_bytes(b"x")
    assert "README.md of " in publish.refused().message

"""Uploads to a Hub on loopback: cards that stay, busy moments, refusals in plain words, and no secrets in them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests import tiny
from tests.hub_api import Answer, Call, as_json, refusal
from tests.hub_client import Notes
from tests.hub_server import Fault, HubServer
from ugatit_cli.errors import ModelError
from ugatit_cli.publishing.card import Options
from ugatit_cli.publishing.push import Published, entry, parse_target, staged, upload
from ugatit_cli.weights.folder import open_model
from ugatit_cli.weights.manifest import Entry

REPO = "tester/flat2clay"
MINE = b"---\nlicense: cc-by-4.0\n---\n# Written on its page\n"
KEPT = (
    f"{REPO}: its model card is kept as it is; for a new one, say --licence, --data or --description, or --overwrite"
)
REPLACED = f"{REPO}: its model card is replaced; the old one stays in its history"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an upload."""

    published: Published
    entry: Entry
    notes: list[str]


class Publisher:
    """Publishes one model; nothing that is said ever has the token."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub, self.folder = hub, folder

    def __call__(self, options: Options | None = None) -> Outcome:
        notes, target = Notes(), parse_target(REPO)
        try:
            with staged(open_model(self.folder), target, options or Options(), Notes()) as found:
                published = upload(found, target, notes)
                made = entry(found, target, published.commit, published.kept_card)
        finally:
            assert self.hub.token not in "".join(notes.notes)
        return Outcome(published, made, notes.notes)

    def refused(self, options: Options | None = None) -> ModelError:
        with pytest.raises(ModelError) as caught:
            self(options)
        assert self.hub.token not in caught.value.message + caught.value.hint
        return caught.value

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
    assert (first.notes, first.published.kept_card, first.entry.licence) == ([], None, "mit")
    card = publish.card
    again = publish()
    assert publish.card == again.published.kept_card == card
    assert again.notes == [KEPT]
    assert not again.published.changed
    assert len(hub.commits(REPO)) == 2  # the empty one, and the first
    assert again.entry.licence == "mit"
    assert list(again.entry.files) == ["config.json", "model.safetensors"]


def test_weights_are_new_and_the_card_is_kept(publish: Publisher, hub: HubServer, tmp_path: Path) -> None:
    publish()
    hub.add(REPO, {"README.md": MINE})
    tiny.save(tmp_path / "newer", dataclasses.replace(tiny.LIGHT, channels=8))
    (tmp_path / "newer" / "samples.png").write_bytes(b"a picture")
    publish.folder = tmp_path / "newer"
    outcome = publish()
    assert outcome.published.changed
    assert outcome.notes == [KEPT]
    assert outcome.entry.licence == "cc-by-4.0"
    held = publish.held
    assert (held["README.md"], held["samples.png"]) == (MINE, b"a picture")
    assert held["model.safetensors"] == (tmp_path / "newer" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "options", [Options(licence="mit"), Options(data="icons"), Options(description="Nice"), Options(overwrite=True)]
)
def test_a_card_is_replaced(publish: Publisher, hub: HubServer, options: Options) -> None:
    publish()
    hub.add(REPO, {"README.md": MINE})
    outcome = publish(options)
    assert outcome.notes == [REPLACED]
    assert "library_name: ugatit" in publish.card
    assert outcome.published.kept_card is None
    assert "README.md" in outcome.entry.files
    assert outcome.entry.licence == (options.licence or "not stated")


def test_a_card_of_ones_own_replaces_the_one_there(publish: Publisher) -> None:
    publish()
    (publish.folder / "README.md").write_bytes(MINE)
    outcome = publish()
    assert (outcome.notes, publish.held["README.md"], outcome.entry.licence) == ([REPLACED], MINE, "cc-by-4.0")
    assert publish().notes == []  # it is there now


@pytest.mark.parametrize("card", [b"", b" \n", b"---\ntags:\n- x\n---\n\n"])
def test_an_empty_card_is_no_card(publish: Publisher, hub: HubServer, card: bytes) -> None:
    hub.add(REPO, {"README.md": card})
    assert publish().notes == []
    assert "library_name: ugatit" in publish.card


@pytest.mark.parametrize("card", [b"# Soon", b"---\nlicense: gpl-3.0\n---\n", b"\xff\xfe", "--- é".encode("cp1252")])
def test_a_card_that_waits_for_its_model_is_kept(publish: Publisher, hub: HubServer, card: bytes) -> None:
    hub.add(REPO, {"README.md": card})
    outcome = publish(Options(discriminators=True))
    assert outcome.notes == [KEPT]
    assert publish.held["README.md"] == card
    assert outcome.entry.licence == ("gpl-3.0" if b"gpl" in card else "not stated")


# --- Whose repository it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [b"no json", b"[]", b"\xff", b'{"format": "1", "model": {}}', b'{"format": 1}'])
def test_configs_that_are_not_ours(publish: Publisher, hub: HubServer, config: bytes) -> None:
    hub.add(REPO, {"config.json": config})
    assert publish.refused().message == f"{REPO} exists and is not a ugatit model (config.json)"


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
    outcome = publish()
    assert fault.hits == 1
    assert publish.held["model.safetensors"] == (publish.folder / "model.safetensors").read_bytes()
    [note] = outcome.notes
    assert note.startswith(f"the Hub answered {status} (")
    assert note.endswith(f"; trying again in {wait or 0} s")
    assert len([request for request in hub.requests if request.method == "PUT"]) == 1


def test_nothing_new_at_a_busy_hub(publish: Publisher, hub: HubServer) -> None:
    publish()
    fault = hub.fault(Fault("status", f"{REPO}/revision/main", status=503, times=1))
    outcome = publish()
    assert (fault.hits, outcome.published.changed) == (1, False)


@pytest.mark.parametrize(("path", "method"), [("", "PUT"), ("preupload/main", "POST"), ("objects/batch", "POST")])
def test_no_attempts_of_attempts(publish: Publisher, hub: HubServer, path: str, method: str) -> None:
    fault = hub.fault(Fault("status", path, status=503, method=method))
    assert publish.refused().message == f"{REPO}: the Hub answered 503 (out of service)"
    assert fault.hits == 6  # the client's own


def test_a_commit_whose_answer_is_lost(
    publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(Options(discriminators=True))
    tiny.save(tmp_path / "newer", dataclasses.replace(tiny.LIGHT, channels=8))
    publish.folder = tmp_path / "newer"
    calls = []

    def losing(call: Call) -> Answer | None:
        if "/commit/" not in call.path:
            return None
        calls.append(call)
        return refusal(503, "Service Unavailable") if hub_answer(call).status == 200 else None

    hub_answer = hub.answer
    answering(hub, monkeypatch, losing)
    outcome = publish(Options(licence="mit"))  # the old discriminators are removed, too
    assert (outcome.published.commit, outcome.published.changed) == (hub.commits(REPO)[-1], True)
    assert len(calls) == 2
    assert publish.held["model.safetensors"] == (tmp_path / "newer" / "model.safetensors").read_bytes()
    assert "discriminators.safetensors" not in publish.held


def test_somebody_else_is_quicker_after_a_busy_moment(
    publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()

    def interfering(call: Call) -> Answer | None:
        if "/commit/" in call.path and len(hub.commits(REPO)) == 2:
            hub.add(REPO, {"README.md": MINE})
            return refusal(503, "Service Unavailable")
        return None

    answering(hub, monkeypatch, interfering)
    error = publish.refused(Options(licence="mit"))
    assert error.message == f"{REPO} was changed by somebody else meanwhile (412)"
    assert publish.held["README.md"] == MINE


@pytest.mark.parametrize("files", [{}, {"README.md": b""}])
def test_somebody_else_is_quicker(
    publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    if files:
        hub.add(REPO, files)
    create = huggingface_hub.HfApi.create_commit

    def later(*arguments: Any, **options: Any) -> Any:
        hub.add(REPO, {"theirs.bin": b"x"})
        return create(*arguments, **options)

    with monkeypatch.context() as context:
        context.setattr(huggingface_hub.HfApi, "create_commit", later)
        assert publish.refused().message == f"{REPO} was changed by somebody else meanwhile (412)"
    assert "model.safetensors" not in publish.held
    assert publish.refused().message == f"{REPO} exists and is not a ugatit model (theirs.bin)"


# --- Refusals --------------------------------------------------------------------------------------------


NOT_A_HUB = ("doesn't answer as a Hub does", "Check HF_ENDPOINT")
NO_PLACE = ("the Hub has no such place (404)", "tester must be you or an organization")
NO_ROOM = ("the Hub has no room for it", "how much storage tester has")
FORBIDDEN = ("the Hub forbids it (403): ", "tester must be you or an organization of")


@pytest.mark.parametrize(
    ("kind", "status", "path", "said"),
    [
        ("status", 403, "repos/create", FORBIDDEN),
        ("status", 403, "PUT", FORBIDDEN),
        ("status", 409, "commit/main", ("changed by somebody else meanwhile (409)", "Run the command again.")),
        ("status", 503, "commit/main", ("the Hub answered 503", "run the command again.")),
        ("status", 400, "commit/main", ("the Hub refuses the upload (400): Error 400", "")),
        ("status", 429, "commit/main", ("too many requests (429)", "Wait some minutes")),
        ("status", 404, "repos/create", NO_PLACE),
        ("status", 404, "objects/batch", NO_PLACE),
        ("status", 402, "repos/create", NO_ROOM),
        ("status", 413, "commit/main", NO_ROOM),
        ("status", 507, "objects/batch", NO_ROOM),
        ("status", 400, "validate-yaml", ("Invalid metadata in README.md", "")),
        ("status", 304, "commit/main", NOT_A_HUB),
        ("redirect-loop", 302, "commit/main", NOT_A_HUB),
        ("redirect-loop", 302, f"models/{REPO}", NOT_A_HUB),
        ("redirect-loop", 302, "PUT", NOT_A_HUB),
        ("html", 200, "commit/main", NOT_A_HUB),
        ("html", 200, f"models/{REPO}", NOT_A_HUB),
        ("html", 200, "PUT", ("what was sent has not arrived: LFS object", "whether a proxy or a login page")),
    ],
)
def test_refusals(
    publish: Publisher, hub: HubServer, kind: Any, status: int, path: str, said: tuple[str, str]
) -> None:
    method = "GET" if path.startswith("models/") else "POST" if path != "PUT" else "PUT"
    fault = hub.fault(Fault(kind, path if path != "PUT" else "", status=status, method=method))
    error = publish.refused()
    assert said[0] in error.message
    assert "\n" not in error.message
    assert said[1] in error.hint
    assert fault.hits
    hub.heal()
    publish()
    assert publish.held["model.safetensors"] == (publish.folder / "model.safetensors").read_bytes()


def test_a_commit_that_is_none(publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = as_json({"commitOid": "main", "commitUrl": f"{hub.url}/{REPO}/commit/main"})
    answering(hub, monkeypatch, lambda call: made if "/commit/" in call.path else None)
    assert "doesn't answer as a Hub does" in publish.refused().message


# --- Tokens ----------------------------------------------------------------------------------------------


def test_a_token_that_cannot_be_sent(publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_tökén")
    error = publish.refused()
    assert "token" in error.message
    assert "hf auth login" in error.hint


def test_the_token_is_sent_even_if_not_by_default(publish: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    publish()
    assert not publish().published.changed


def test_a_password_in_the_address_is_not_shown(
    publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_in(call: Call) -> None:
        if call.path.startswith("/api/") or "resolve" in call.path or ".git/" in call.path:
            call.headers["authorization"] = f"Bearer {hub.token}"  # in place of the password

    answering(hub, monkeypatch, let_in)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url.replace("//", "//ada:secret@"))
    assert publish().published.url == f"{hub.url.replace('//', '//***@')}/{REPO}"
    hub.fault(Fault("html", "validate-yaml", method="POST"))
    error = publish.refused(Options(licence="mit"))
    assert "secret" not in error.message + error.hint


def test_a_hub_that_repeats_the_token(publish: Publisher, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def echo(call: Call) -> Answer | None:
        text = f"README.md of {call.headers.get('authorization')}"
        if call.path.endswith("validate-yaml"):
            licensed = "license: mit" in json.loads(call.body)["content"]
            problem = "errors" if licensed else "warnings"
            return as_json({"errors": [], "warnings": []} | {problem: [{"message": text}]}, 400 if licensed else 200)
        return refusal(400, text) if "/commit/" in call.path and b"samples.png" in call.body else None

    answering(hub, monkeypatch, echo)
    assert any("the Hub says: " in note and "***" in note for note in publish().notes)
    assert "***" in publish.refused(Options(licence="mit")).message
    (publish.folder / "samples.png").write_bytes(b"x")
    error = publish.refused()
    assert "refuses the upload (400): README.md of " in error.message

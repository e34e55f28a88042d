"""What programs rely on: the last line of JSON, code words, exit codes; and how much is said, where."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, picture, put
from ugatit_cli.cli import console, voice
from ugatit_cli.cli.option_names import every_command, keys_of
from ugatit_cli.errors import UgatitError
from ugatit_cli.translation.model import Model

PAGE = Path(__file__).parents[2] / "docs" / "scripts.md"
WITH_JSON = [path for path, command in every_command() if "json" in keys_of(command)]


def kinds(base: type[UgatitError] = UgatitError) -> Iterator[type[UgatitError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def test_the_page_has_every_code_with_its_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)
    ours = {(str(kind.exit_code), kind.code) for kind in kinds() if kind.__module__ == "ugatit_cli.errors"}
    assert set(rows) == ours
    assert len(rows) == len(ours)


@pytest.mark.parametrize("command", WITH_JSON)
def test_what_is_wrong_with_options_is_json(ugatit: Command, command: str) -> None:
    outcome = ugatit(*command.split(), "--json", "--no-such-option")
    assert (outcome.code, len(outcome.lines)) == (2, 1)
    assert {"status": "error", "exit": 2, "code": "usage"}.items() <= outcome.ending.items()
    assert "--no-such-option" in outcome.ending["error"]
    assert ugatit(*command.split(), "--no-such-option").stdout == b""


def test_a_variable_or_file_that_asks_for_json_has_it_of_wrong_options(
    ugatit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.toml").write_text("json = true\nnosuch = 3\n")
    assert ugatit("translate", "a.png", "-o", "x", "--config", "c.toml").ending["code"] == "usage"
    monkeypatch.setenv("UGATIT_JSON", "1")
    assert ugatit("translate", "a.png", "-o", "x", "--nosuch").ending["code"] == "usage"


ERRORS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no model": (("translate", "a.png", "-o", "x", "-m", "nosuch"), 3, "model-missing"),
    "not fetched": (("translate", "a.png", "-o", "x", "-m", "someone/nosuch"), 3, "model-missing"),
    "no device": (("translate", "a.png", "-o", "x", "--device", "cuda:99"), 5, "device-missing"),
    "unknown device": (("translate", "a.png", "-o", "x", "--device", "gpu"), 2, "usage"),
    "no picture": (("translate", "gone.png", "-o", "x"), 1, "inputs-failed"),
    "nothing to train on": (("train", "--domain-a", "bad", "--domain-b", "empty", "-o", "run"), 4, "data-unusable"),
    "nothing to evaluate": (("evaluate", "empty"), 2, "usage"),
    "no data": (("data", "show", "nosuch"), 2, "usage"),
    "no log": (("models", "--log-file", "empty"), 1, "output-failed"),
    "loud and quiet": (("models", "-q", "-v"), 2, "usage"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_json_too(ugatit: Command, case: str) -> None:
    put("a.png")
    Path("empty").mkdir()
    Path("bad").mkdir()
    for name in "abcdef":
        Path(f"bad/{name}.png").write_text("text")
    arguments, code, word = ERRORS[case]
    outcome = ugatit(*arguments, "--json")
    assert (outcome.code, outcome.ending["exit"]) == (code, code)
    assert outcome.ending["code"] == word
    assert outcome.ending["status"] == ("failed" if word == "inputs-failed" else "error")
    assert outcome.ending["error"] == outcome.errors[-1]
    assert "".join(outcome.ending["hint"].split()) in "".join(outcome.stderr.split())


def test_so_is_the_end_by_a_signal_with_totals(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("in/a.png", "in/b.png", "in/c.png")
    said = console.result

    def then_a_signal(*lines: str) -> None:
        said(*lines)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(console, "result", then_a_signal)
    outcome = translate("in", "-o", "out", "--json", "--workers", "1")
    assert (outcome.code, outcome.ending["status"], outcome.ending["code"]) == (130, "error", "interrupted")
    assert outcome.ending["results"] == len(outcome.documents) >= 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("CUDA error: unspecified launch failure\nCompile with ...", 5),
        ("CUDA error: no CUDA-capable device is detected", 5),
        ("CUDA error: device-side assert triggered", 1),
        ("something else", 1),
    ],
)
def test_a_lost_gpu_is_not_wrong_usage(
    translate: Command, monkeypatch: pytest.MonkeyPatch, message: str, code: int
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise RuntimeError(message)

    put("a.png")
    monkeypatch.setattr(Model, "networks", lost)
    outcome = translate("a.png", "-o", "out", "--json")
    assert (outcome.code, outcome.ending["code"]) == (code, "device-missing" if code == 5 else "internal")


# --- How much is said ----------------------------------------------------------------------------------


def test_quiet_says_errors_only(translate: Command) -> None:
    put("in/a.png")
    outcome = translate("in", "-o", "out", "-q")
    assert (outcome.code, outcome.stderr, outcome.lines) == (0, "", ["out/a.png"])
    outcome = translate("in", "gone.png", "-o", "out", "--overwrite", "--quiet")
    assert outcome.stderr.splitlines()[0] == "error: gone.png: no such file"
    assert len(outcome.stderr.splitlines()) == len(outcome.errors) == 2


def test_verbose_says_what_is_chosen(translate: Command, light: str) -> None:
    Path("in").mkdir()
    picture(100, 80).save("in/a.png")
    plain = translate("in", "-o", "out").stderr
    outcome = translate("in", "-o", "out", "--overwrite", "-v", "--fit", "native", "--tile", "64")
    said = outcome.stderr
    for word in (f"weights {light}/model.safetensors", "device cpu", "precision fp32", "threads", "tiles of 64"):
        assert word in said
    assert re.search(r"in/a.png: read in \d.*, through the network at \d+x\d+.* in \d", said)
    assert re.search(r"in/a.png: written in \d", said)
    assert "weights" not in plain
    assert outcome.lines == ["out/a.png"]


def test_a_log_has_all_of_it_appended(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("in/a.png")
    for number in (0, 1):
        outcome = translate("in", "gone.png", "-o", f"out{number}", "-q", "--log-file", "my.log")
        assert outcome.code == 1
    lines = Path("my.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d \[\d+\] \w+: ", line) for line in lines)
    for words in (
        "begun: ugatit translate",
        "error: gone.png: no such file",
        "detail: ",
        "result: out",
        "ended: exit",
    ):
        assert sum(words in line for line in lines) >= 2, words
    voice.current.overhear("lost")  # after its end
    assert Path("my.log").read_text().splitlines() == lines
    monkeypatch.setattr("sys.argv", ["ugatit", "serve", "--token", "verysecret", "--token=verysecret"])
    voice.Voice().begin(False, False, "my.log", json=False)
    assert "serve --token *** --token=***" in shell_words(Path("my.log").read_text())
    assert "verysecret" not in Path("my.log").read_text()


@pytest.mark.parametrize("kind", ["picture", "list", "link"])
def test_a_log_is_appended_to_no_other_file(translate: Command, kind: str) -> None:
    put("in/a.png", "in/b.png")
    Path("list.txt").write_text("in/a.png\n", encoding="utf-8")
    Path("link.txt").hardlink_to("list.txt")
    log = {"picture": "in/b.png", "list": "list.txt", "link": "link.txt"}[kind]
    before = Path(log).read_bytes()
    outcome = translate("in/a.png", "--files-from", "list.txt", "-o", "out", "--log-file", log)
    assert outcome.code == 2
    assert f"--log-file {log}" in outcome.errors[0]
    assert Path(log).read_bytes() == before
    assert not Path("out").exists()


def test_a_log_follows_what_another_program_has_logged(translate: Command) -> None:
    put("a.png")
    Path("my.log").write_text("x" * 4095 + "ä begun\n", encoding="utf-8")
    assert translate("a.png", "-o", "out", "--log-file", "my.log").code == 0
    assert "exit code 0" in Path("my.log").read_text(encoding="utf-8")


def test_passwords_and_signatures_of_addresses_are_in_no_log_and_no_message(translate: Command) -> None:
    url = "foo://me:hushhush@host/my.png"
    Path("list.txt").write_text(f"{url}\nhttp://me:hushhush@/x.png?sig=hushhush\n", encoding="utf-8")
    calls = (
        ("https://me:hushhush@host/x.png?X-Amz-Signature=hushhush", "--base", url, "-o", "out"),
        ("--files-from", "list.txt", "--json", "-o", "out"),
        ("x.png", "--report", "https://me:hushhush@host/r.html?X-Amz-Signature=hushhush", "-o", "out"),
        ("x.png", "--base=https://me:hushhush@host/", "-o", "out", "--dry-run"),
    )
    for arguments in calls:
        outcome = translate(*arguments, "--log-file", "my.log")
        assert outcome.stderr
        assert "hushhush" not in outcome.stderr + outcome.stdout.decode()
    log = Path("my.log").read_text(encoding="utf-8")
    assert log.count("begun: ") == len(calls)
    assert "hushhush" not in log
    assert "host/my.png" in log


def shell_words(text: str) -> str:
    return text.replace("'", "")

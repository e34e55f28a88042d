"""Results that exist: those of the same source are left or redone, and several processes share what is left."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, below, encoded, put
from tests.pictures.test_sources import another_process
from ugatit_cli.cli import console
from ugatit_cli.pictures.sources import RECORD, Sources
from ugatit_cli.translation import pipeline


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pictures that were decoded."""
    names: list[str] = []
    decode = pipeline.Stages.decode

    def counted(stages: Any, job: Any, **how: Any) -> Any:
        names.append(job.name)
        return decode(stages, job, **how)

    monkeypatch.setattr(pipeline.Stages, "decode", counted)
    return names


def older(path: str, than: str) -> None:
    """Makes a file older than another one."""
    time = Path(than).stat().st_mtime_ns - 1
    os.utime(path, ns=(time, time))


# --- Sources -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--skip-existing", "--update", None])
def test_results_of_different_sources_never_meet(translate: Command, flag: str | None) -> None:
    put("in/a/x.png", "in/b/x.png", "in/b/y.png")
    flags = [flag] if flag else []
    outcomes = [translate(name, "-o", "out", *flags) for name in ("in/a/x.png", "in/b/x.png", "in/b/y.png")]
    assert [outcome.code for outcome in outcomes] == [0, 1 if flag else 2, 0]
    for said in ("out/x.png", "in/a/x.png", "in/b/x.png", "--base in"):
        assert said in outcomes[1].stderr
    assert below("out") == ["x.png", "y.png"]
    before = Path("out/x.png").read_bytes()
    # The others go on.
    outcome = translate("in/b", "-o", "out", "--skip-existing", "--json")
    assert outcome.code == 1
    assert [document["status"] for document in outcome.documents] == ["failed", "skipped"]
    assert Path("out/x.png").read_bytes() == before
    assert translate("in/b/x.png", "-o", "out", "--overwrite").code == 0
    assert Path("out/x.png").read_bytes() != before
    assert translate("in/a/x.png", "-o", "out", "--skip-existing").code == 1
    # No base tells those apart that lie in one folder, or where there is one already.
    put("in/b/x.webp")
    outcome = translate("in/b/x.webp", "-o", "out", "--skip-existing", "--format", "png")
    assert outcome.code == 1
    assert "--base" not in outcome.stderr
    assert "--base" not in translate("in/a/x.png", "-o", "out", "--skip-existing", "--base", "in/a").stderr


def test_lists_keep_folders_with_a_base(translate: Command) -> None:
    put("in/a/x.png", "in/b/x.png", "in/c.png")
    outcome = translate("--files-from", "-", "--base", "in", "-o", "out", stdin=b"in/a/x.png\0in/b/x.png\0gone.png\0")
    assert outcome.code == 1
    assert outcome.errors[0].startswith("gone.png: ")
    assert below("out") == ["a/x.png", "b/x.png"]
    Path("list").write_text("in/b/x.png\nin/c.png\n")
    outcome = translate("--files-from", "list", "--base", "in", "-o", "out", "--skip-existing")
    assert (outcome.code, outcome.lines) == (0, ["out/c.png"])
    os.mkfifo("pipe")
    for arguments, named in (
        (("--files-from", "nowhere"), "--files-from nowhere"),
        (("--files-from", "."), "--files-from ."),
        (("-", "--files-from", "-"), "--files-from -"),
    ):
        outcome = translate(*arguments, "-o", "new")
        assert (outcome.code, outcome.stdout) == (2, b"")
        assert named in outcome.errors[0]


def test_a_file_that_is_named_leaves_a_record_only_for_those_who_go_on(translate: Command) -> None:
    put("a.png", "b.png")
    assert translate("a.png", "-o", "r.png").code == 0
    assert not Path(RECORD).exists()
    assert translate("a.png", "-o", "s.png", "--skip-existing").code == 0
    assert translate("b.png", "-o", "s.png", "--skip-existing").code == 1


# --- What is done again --------------------------------------------------------------------------------


def test_update_redoes_what_is_older_than_its_source_and_nothing_else(
    translate: Command, translated: list[str]
) -> None:
    put("in/a.png", "in/b.png", "in/c.png")
    Path("in/l.png").symlink_to("../elsewhere.png")
    put("elsewhere.png")
    assert translate("in", "-o", "out", "--update").code == 0
    translated.clear()
    outcome = translate("in", "-o", "out", "--update")
    assert (outcome.code, translated) == (0, [])
    older("out/b.png", "in/b.png")
    older("out/l.png", "elsewhere.png")
    Path("out/c.png").unlink()
    assert translate("in", "-o", "out", "--skip-existing").code == 0
    assert translated == ["in/c.png"]  # whatever its age, what is there is left
    Path("out/c.png").unlink()
    translated.clear()
    assert translate("in", "-o", "out", "--update").code == 0
    assert sorted(translated) == ["in/b.png", "in/c.png", "in/l.png"]


def test_update_redoes_all_files_of_a_result(cam: Command, translated: list[str]) -> None:
    put("in/a.png", "in/b.png")
    arguments = ("in", "-o", "out", "--layout", "overlay", "--maps", "generator,local", "--update")
    assert cam(*arguments).code == 0
    translated.clear()
    older("out/a.local.png", "in/a.png")
    before = Path("out/a.generator.png").stat().st_ino
    assert cam(*arguments).code == 0
    assert translated == ["in/a.png"]
    assert Path("out/a.generator.png").stat().st_ino != before


@pytest.mark.parametrize("flag", ["--skip-existing", "--update"])
def test_an_empty_file_is_no_result(translate: Command, flag: str) -> None:
    put("in/a.png")
    Path("out").mkdir()
    Path("out/a.png").touch()
    assert translate("in", "-o", "out").code == 2
    assert translate("in", "-o", "out", flag).lines == ["out/a.png"]
    assert Path("out/a.png").stat().st_size > 0


def test_one_way_to_treat_them(translate: Command) -> None:
    put("a.png")
    outcome = translate("a.png", "-o", "b.png", "--update", "--overwrite")
    assert outcome.code == 2
    assert "--update and --overwrite contradict" in outcome.errors[0]


# --- Several processes ---------------------------------------------------------------------------------


def run_of(name: str, translate: Command, cam: Command) -> Callable[..., Any]:
    return translate if name == "translate" else cam


@pytest.mark.parametrize("name", ["translate", "cam"])
@pytest.mark.parametrize("flag", ["--skip-existing", "--update", None])
def test_what_another_process_has_made_meanwhile_is_not_made_again(
    translate: Command,
    cam: Command,
    translated: list[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    flag: str | None,
) -> None:
    put("in/a.png", "in/b.png")
    claim = Sources.claim

    def late(sources: Sources, output: Path) -> bool:
        if output.name == "a.png":
            shutil.copy("in/a.png", "out/a.png")
        return claim(sources, output)

    monkeypatch.setattr(Sources, "claim", late)
    outcome = run_of(name, translate, cam)("in", "-o", "out", "--json", *([flag] if flag else []))
    assert translated == ["in/b.png"]
    assert outcome.code == (0 if flag else 1)
    (document,) = (document for document in outcome.documents if document["input"] == "in/a.png")
    assert document["status"] == ("skipped" if flag else "failed")
    assert Path("out/a.png").read_bytes() == Path("in/a.png").read_bytes()


def test_what_a_killed_process_was_at_is_made_in_the_end(
    translate: Command, translated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("in/a.png", "in/b.png")
    Path("out").mkdir()
    note, said = console.note, list[str]()
    with another_process("out/a.png") as process:

        def kill(text: str) -> None:
            said.append(text)
            if "out/a.png" in text:
                process.kill()
                process.wait()
            note(text)

        monkeypatch.setattr(console, "note", kill)
        outcome = translate("in", "-o", "out", "--skip-existing")
    assert (outcome.code, outcome.lines) == (0, ["out/b.png", "out/a.png"])
    assert translated == ["in/b.png", "in/a.png"]
    assert len([text for text in said if "another process" in text]) == 1


def test_what_was_not_begun_is_not_recorded(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put(*(f"in/{index:03}.png" for index in range(200)))
    decode = pipeline.Stages.decode

    def interrupted(stages: Any, job: Any, **how: Any) -> Any:
        if job.name.endswith("050.png"):
            signal.raise_signal(signal.SIGINT)
        return decode(stages, job, **how)

    monkeypatch.setattr(pipeline.Stages, "decode", interrupted)
    assert translate("in", "-o", "out", "--workers", 1).code == 130
    put("out/190.png", "other/190.png")
    outcome = translate("other", "-o", "out", "--skip-existing")
    assert (outcome.code, outcome.errors) == (0, [])


def test_processes_that_share_write_pages_of_their_own(translate: Command) -> None:
    put("in/a.png")
    Path("out").mkdir()
    with another_process("out/r.html"):
        assert translate("in", "-o", "out", "--skip-existing", "--report", "out/r.html").code == 0
    assert below("out") == ["a.png", "r-2.html"]


# --- What is left of a failure -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["translate", "cam"])
@pytest.mark.parametrize("out", ["new", "new/deep", "new/deep/b.png"])
def test_a_failure_leaves_no_empty_folder(translate: Command, cam: Command, name: str, out: str) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_bytes(b"text")
    run = run_of(name, translate, cam)
    assert run("in/a.png", "-o", out).code == 1
    assert run("in/a.png", "-o", out, "--skip-existing").code == 1
    assert [path.name for path in Path().iterdir()] == ["in"]
    put("in/good.png")
    Path("new/deep").mkdir(parents=True)
    assert run("in/a.png", "in/good.png", "-o", "new/deep/deeper").code == 1
    assert below("new") == ["deep/deeper/good.png"]


def test_results_of_pictures_that_are_called_alike_are_told(translate: Command) -> None:
    put("a/x.png", "b/x.png", "c/y.png")
    said = translate("a/x.png", "b/x.png", "c/y.png", "-o", "out").stderr
    assert said.count("x_png.png is of b/x.png") == 1
    assert "--base" in said
    said = translate("a/x.png", "b/x.png", "-o", "based", "--base", ".").stderr
    assert "is of" not in said
    assert below("based") == ["a/x.png", "b/x.png"]


def test_drawings_are_to_be_rendered(translate: Command) -> None:
    put("in/a.png")
    Path("in/b.svg").write_text("<svg/>")
    said = translate("in", "-o", "out", "--dry-run").stderr
    assert "render .svg to PNG" in said
    assert "name them" not in said


def test_other_files_are_told(translate: Command) -> None:
    put("in/a.png")
    for name in ("in/b.psd", "in/c", "in/.d"):
        Path(name).write_bytes(encoded())
    outcome = translate("in", "-o", "out", "--json")
    assert (outcome.code, len(outcome.errors)) == (0, 0)
    assert outcome.documents[0] == {"input": "in", "status": "passed-over", "passed_over": {".psd": 1, "": 1}}
    assert len(outcome.documents) == 2
    assert "2 passed over" in outcome.stderr
    assert ".psd" in translate("in", "-o", "new", "--dry-run").stderr
    assert translate("in/b.psd", "in/c", "-o", "named", "--format", "png").code == 0
    assert below("named") == ["b.png", "c.png"]

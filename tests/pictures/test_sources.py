"""What results were made of, known across processes and moves; and claims, which end with their process."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ugatit_cli.pictures.sources import RECORD, Sources

posix_only = pytest.mark.skipif(os.name != "posix", reason="locks and pipes of POSIX")
ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from ugatit_cli.pictures.sources import Sources
sources = Sources(Path("out"), create=True)
sources.open()
print([sources.claim(Path(name)) for name in sys.argv[1:]], flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a/x.png", "in/b/x.png", "out/x.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    os.utime("in/b/x.png", ns=(5, 5))


def record(output: str = "out/x.png", source: str | None = "in/a/x.png") -> None:
    with Sources(Path("out"), create=True) as sources:
        sources.add(Path(output), Path(source) if source else None)


def other(source: str | None, output: str = "out/x.png", out: str = "out") -> str | None:
    return Sources(Path(out), create=True).other(Path(output), Path(source) if source else None)


@contextmanager
def another_process(*outputs: str) -> Iterator[subprocess.Popen[str]]:
    """One that is at these results, until it is told to end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *outputs],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_a_result_is_of_one_source() -> None:
    assert other("in/a/x.png") is other("in/b/x.png") is None  # nothing is known
    record()
    assert other("in/a/x.png") is None
    assert other("in/b/../a/x.png") is None
    assert other("in/b/x.png") == "in/a/x.png"
    assert other(None) == "in/a/x.png"
    record(source=None)
    assert other("in/a/x.png") == "<stdin>"
    assert other(None) is None
    record(source="in/b/x.png")  # the last one counts
    assert other("in/a/x.png") == "in/b/x.png"
    assert other("in/b/x.png", "out/y.png") is None


def test_what_is_known_is_not_written_again() -> None:
    record()
    before = Path("out", RECORD).read_bytes()
    record()
    assert Path("out", RECORD).read_bytes() == before


def test_any_name(tmp_path: Path) -> None:
    name = os.fsdecode(b'\xff "\n\\\x1b.png') if sys.platform == "linux" else "ä'.png"
    Path("in", name).write_text("")
    Path("out", name).write_text("")
    record(f"out/{name}", f"in/{name}")
    assert other(f"in/{name}", f"out/{name}") is None
    assert other("in/a/x.png", f"out/{name}") == f"in/{name}"
    assert other("in/a/x.png", str(tmp_path / "out" / name)) == f"in/{name}"


def test_trees_may_move_and_sources_may_be_renamed() -> None:
    record()
    Path("tree").mkdir()
    for name in ("in", "out"):
        Path(name).rename(f"tree/{name}")
    assert other("tree/in/a/x.png", "tree/out/x.png", "tree/out") is None
    Path("tree/out").rename("results")  # alone
    assert other("tree/in/a/x.png", "results/x.png", "results") is None
    assert other("tree/in/b/x.png", "results/x.png", "results") is not None
    Path("tree/in/a/x.png").rename("new.png")
    assert other("new.png", "results/x.png", "results") is None
    Path("new.png").write_text("something else")
    assert other("new.png", "results/x.png", "results") is not None


def test_links_and_folded_names_are_the_same() -> None:
    record()
    Path("in/a/link.png").symlink_to("x.png")
    Path("to").symlink_to("out")
    assert other("in/a/link.png") is None
    assert other("in/b/x.png", "to/x.png") == "in/a/x.png"
    # As a file system does it that knows no case.
    Path("out/X.png").hardlink_to("out/x.png")
    assert other("in/b/x.png", "out/X.png") == "in/a/x.png"
    Path("out/X.png").unlink()
    Path("out/X.png").write_text("another file")
    assert other("in/b/x.png", "out/X.png") is None


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 100, b"\n[" * 5000, b'\n["x.png"', b'\n["x.png", 1, 2, 3]\n{}\n[1]\n"', b"\xff\n[]"]
)
def test_a_damaged_record_is_as_good_as_none(damage: bytes) -> None:
    Path("out", RECORD).write_bytes(damage)
    assert other("in/b/x.png") is None
    record()
    assert other("in/b/x.png") == "in/a/x.png"


@posix_only
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "nowhere"])
def test_what_is_no_record_is_left_alone(kind: str) -> None:
    path = Path("out", RECORD)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("../in/a/x.png")
    else:
        Path("out/x.png").unlink()
        Path("out").rmdir()
    with Sources(Path("out"), create=True) as sources:
        sources.add(Path("out/x.png"), Path("in/a/x.png"))
        assert sources.claim(Path("out/x.png"))
        assert sources.other(Path("out/x.png"), Path("in/b/x.png")) is None
        sources.release(Path("out/x.png"))
    assert Path("in/a/x.png").read_text() == "in/a/x.png"
    assert path.exists() is (kind != "nowhere")


def test_nothing_is_left_where_nothing_came() -> None:
    record("out/never.png")
    assert [path.name for path in Path("out").iterdir()] == ["x.png"]
    with Sources(Path("out"), create=False) as sources:
        sources.add(Path("out/x.png"), Path("in/a/x.png"))
    assert [path.name for path in Path("out").iterdir()] == ["x.png"]
    record()
    with Sources(Path("out"), create=False) as sources:
        sources.add(Path("out/x.png"), Path("in/b/x.png"))
    assert other("in/a/x.png") == "in/b/x.png"


@posix_only
def test_claims_are_of_one_process_and_end_with_it() -> None:
    with another_process("out/x.png", "out/é.png") as process, Sources(Path("out"), create=True) as sources:
        claims = ["out/x.png", "out/X.PNG", "out/É.png", "out/y.png"]
        assert [sources.claim(Path(name)) for name in claims] == [False, False, False, True]
        with another_process("out/y.png") as third:
            assert third.poll() is None
        process.kill()
        process.wait()
        assert all(sources.claim(Path(name)) for name in claims)
    assert [path.name for path in Path("out").iterdir()] == ["x.png"]


@posix_only
@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_there_are_no_locks_nobody_waits(monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("fcntl.lockf", refuse)
    with another_process("out/x.png"), Sources(Path("out"), create=True) as sources:
        assert sources.claim(Path("out/x.png"))
        sources.add(Path("out/x.png"), Path("in/a/x.png"))
        sources.release(Path("out/x.png"))
    assert other("in/b/x.png") == "in/a/x.png"


@posix_only
def test_who_is_not_alone_removes_nothing() -> None:
    with another_process():
        record("out/never.png")
        assert Path("out", RECORD).exists()


@posix_only  # elsewhere, nobody can remove what is open
def test_a_record_is_made_again_where_it_is_removed_with_its_folder() -> None:
    with Sources(Path("out"), create=True) as sources:
        sources.add(Path("out/x.png"), Path("in/a/x.png"))
        shutil.rmtree("out")
        assert sources.claim(Path("out/x.png"))
        Path("out").mkdir()
        Path("out/x.png").write_text("made again")
        sources.add(Path("out/x.png"), Path("in/a/x.png"))
        with another_process("out/y.png"):
            assert not sources.claim(Path("out/y.png"))
    assert other("in/b/x.png") == "in/a/x.png"


@posix_only
def test_a_record_that_is_removed_alone_is_made_again_for_the_results_that_are_left() -> None:
    with Sources(Path("out"), create=True) as sources:
        for name in ("x", "y"):
            Path(f"out/{name}.png").write_text("a result")
            sources.add(Path(f"out/{name}.png"), Path(f"in/a/{name}.png"))
        Path("out", RECORD).unlink()
        Path("out/y.png").unlink()
        assert sources.other(Path("out/x.png"), Path("in/b/x.png")) == "in/a/x.png"
        assert sources.other(Path("out/y.png"), Path("in/b/y.png")) is None
    assert other("in/b/x.png") == "in/a/x.png"


def test_what_another_process_records_is_known() -> None:
    with Sources(Path("out"), create=True) as sources:
        line = b'\n["x.png", "../in/b/x.png", 1, 2]'
        with Path("out", RECORD).open("ab") as file:
            file.write(line[:9])
            file.flush()
            assert sources.other(Path("out/x.png"), Path("in/a/x.png")) is None
            file.write(b"\n" + line)
        assert sources.other(Path("out/x.png"), Path("in/a/x.png")) == "in/b/x.png"

"""Processes that `torchrun` starts as one command: the files of one process, and one voice."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from PIL import Image
from torch._C._distributed_c10d import HashStore

from tests.cli.conftest import Command, below, put
from tests.programs import command, starting
from ugatit_cli.cli import messages, ranks
from ugatit_cli.errors import UgatitError
from ugatit_cli.outputs.base import Layer, Preview
from ugatit_cli.pictures.jobs import Job
from ugatit_cli.pictures.regions import Region
from ugatit_cli.translation.pipeline import Result

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't fork")
CPU = ("--device", "cpu", "--precision", "fp32")
NAMES = [f"in/{letter}/{number}.png" for letter in "ab" for number in range(4)]


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    told: dict[str, object] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return os.environ | {name: str(value) for name, value in told.items()}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def launched(
    size: int, *arguments: str, of_one: Sequence[str] = (), told: Mapping[str, str] | None = None
) -> list[Ended]:
    """What became of the processes; the second one has arguments of its own, too."""
    port = free_port()
    processes = [
        subprocess.Popen(
            command(*arguments, *CPU, *(of_one if rank == 1 else ())),
            env=environment(rank, size, port) | dict(told or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    texts = [process.communicate() for process in processes]
    return [Ended(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def contents(folder: str) -> dict[str, bytes]:
    return {name: Path(folder, name).read_bytes() for name in below(folder) if not name.endswith(".html")}


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_files_of_one_process_one_report_one_exit_code(translate: Command, light: str, size: int) -> None:
    put(*NAMES, "in/c.webp")
    Path("in/broken.png").write_bytes(b"no picture")
    Image.open("in/a/0.png").convert("RGB").save("in/large.jpg")
    assert translate("in", "-o", "one", "--format", "png").code == 1
    arguments = ("in", "-o", "out", "--format", "png", "--json", "--report", "out/page.html", "--model", light)
    first, *others = launched(size, "translate", *arguments)
    assert [(one.code, one.stdout, one.stderr) for one in others] == [(0, "", "")] * (size - 1)
    assert first.code == 1
    said = [json.loads(line) for line in first.stdout.splitlines()]
    inputs = sorted(document["input"] for document in said if "input" in document)
    assert inputs == sorted([*NAMES, "in/c.webp", "in/large.jpg", "in/broken.png"])
    assert contents("out") == contents("one")
    for text in ("10 translated, 1 failed", f"11 files, {size} processes", "in/broken.png"):
        assert text in first.stderr
    page = Path("out/page.html").read_text()
    assert all(name in page for name in inputs)


def test_attention_too(cam: Command, judged: str) -> None:
    put(*NAMES[:3])
    arguments = ("in", "--layout", "overlay", "--maps", "generator,local")
    assert cam(*arguments, "-o", "one").code == 0
    assert [one.code for one in launched(2, "cam", *arguments, "-o", "out", "--model", judged)] == [0, 0]
    assert contents("out") == contents("one")
    scale = launched(2, "cam", "in", "-o", "new", "--normalize", "batch", "--model", judged)
    assert [one.code for one in scale] == [2, 0]
    assert "error: --normalize batch" in scale[0].stderr


def test_one_that_fails_alone_is_named_and_the_others_do_its_work(light: str) -> None:
    put(*NAMES)
    first, other = launched(2, "translate", "in", "-o", "out", "--model", light, of_one=["--base", "nowhere"])
    assert (first.code, other.code, other.stderr) == (2, 0, "")
    assert "error: process 1: --base nowhere" in first.stderr
    assert below("out") == [name.removeprefix("in/") for name in NAMES]


def take_and_die(port: int) -> None:
    """A process that has begun all it can, and is killed."""
    os.environ.update(environment(1, 2, port))
    others = ranks.joined()
    assert others
    for some in others.rounds():
        list(some)
    os.kill(os.getpid(), signal.SIGKILL)


def test_nothing_is_lost_with_one_that_is_killed(light: str) -> None:
    put(*NAMES)
    port = free_port()
    killed = starting().Process(target=take_and_die, args=(port,))
    killed.start()
    arguments = command("translate", "in", "-o", "out", "--model", light)
    first = subprocess.run(arguments, env=environment(0, 2, port), capture_output=True, text=True, check=False)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert first.returncode == 0
    assert sorted(first.stdout.split()) == sorted(name.replace("in/", "out/") for name in NAMES)


@pytest.mark.parametrize("flag", [None, "--update"])
def test_processes_that_are_started_again_repeat_nothing(translate: Command, light: str, flag: str | None) -> None:
    put(*NAMES)
    assert translate(*NAMES[:4], "--base", "in", "-o", "out").code == 0
    before = contents("out")
    times = {name: Path("out", name).stat().st_mtime_ns for name in before}
    arguments = ("in", "-o", "out", "--model", light, *([flag] if flag else []))
    if flag is None:
        assert launched(2, "translate", *arguments)[0].code == 2
    first, _ = launched(2, "translate", *arguments, told={"TORCHELASTIC_RESTART_COUNT": "1"})
    assert first.code == 0
    assert "4 translated, 4 skipped" in first.stderr
    assert {name: Path("out", name).stat().st_mtime_ns for name in before} == times


def test_without_anybody_to_share_with(light: str) -> None:
    put(*NAMES)
    planned = launched(2, "translate", "in", "-o", "out", "--model", light, "--dry-run")
    assert [len(one.stdout.splitlines()) for one in planned] == [len(NAMES), 0]
    alone = {name: value for name, value in environment(0, 2, 1).items() if not name.startswith("MASTER")}
    arguments = command("translate", "in", "-o", "out", "--model", light)
    ended = subprocess.run(arguments, env=alone, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--shard 1/N" in ended.stderr
    assert not Path("out").exists()


def test_what_processes_tell_each_other() -> None:
    job = Job(Path("in/\udcff.png"), Path("out/x.png"), (Path("out/x.png"),), key="x.png")
    preview = Preview(
        b"\0before", b"after", (Layer("generator", "Generator", "before", b"", "none"),), others=(b"o",)
    )
    regions = (Region((1.5, 2.0), (4, 4), subject=(0, 1, 2, 3), score=0.5),)
    result = Result(job, (3, 4), 2, 0.25, flat=("generator",), notes=("a note",), preview=preview, regions=regions)
    assert messages.loaded(messages.dumped(["result", result])) == ["result", result]
    whole = [*every(Result), *every(Job)]
    assert len(whole) > 2
    assert list(map(compared, messages.loaded(messages.dumped(whole)))) == list(map(compared, whole))
    for error in (OSError(28, "No space left"), KeyboardInterrupt()):
        told: Any = messages.loaded(messages.dumped([error]))
        assert isinstance(told[0], Exception)


def every(hint: Any) -> list[Any]:
    """Values of all that a type allows, down to the fields of fields."""
    known = {
        str: "x",
        int: 1,
        bool: True,
        float: 0.5,
        Path: Path("x"),
        bytes: b"\0",
        type(None): None,
        Image.Image: None,
    }
    if hint in known:
        return [known[hint]]
    inside = [every(one) for one in get_args(hint) if get_origin(hint) is not Literal and one is not ...]
    if get_origin(hint) in (Union, UnionType):
        return list(itertools.chain(*inside))
    if get_origin(hint) is Literal:
        return [get_args(hint)[0]]
    if get_origin(hint) is not None:  # a tuple or a sequence
        return [tuple(inside[0]) if len(inside) == 1 else tuple(values[-1] for values in inside)]
    hints = get_type_hints(hint.__init__ if issubclass(hint, UgatitError) else hint)
    fields = {name: every(one) for name, one in hints.items() if name != "return"}
    most = max(map(len, fields.values()))
    return [hint(**{name: values[index % len(values)] for name, values in fields.items()}) for index in range(most)]


def compared(value: Any) -> Any:
    """A dataclass so that errors in it are equal if they say the same."""
    error = getattr(value, "error", None)
    return value if error is None else (replace(value, error=None), type(error), vars(error))


def test_figures_of_several_processes_are_those_of_one(ugatit: Command) -> None:
    put(*(f"{folder}/{number:02}.png" for folder in ("made", "real") for number in range(36)))
    Path("made/20.png").write_bytes(b"no picture")
    Path("real/35.png").unlink()
    arguments = ("made", "real", "--pairs", "real", "--metrics", "kid,ssim,psnr,l1,feature-distance", "--json")
    more = ("--extractor", "bundled", "--size", "32", "--subsets", "5")
    alone = ugatit("evaluate", *arguments, *more, *CPU)
    first, other = launched(2, "evaluate", *arguments, *more)
    assert (alone.code, first.code, other.code, other.stdout, other.stderr) == (1, 1, 0, "", "")
    assert json.loads(first.stdout) == json.loads(alone.stdout)
    assert "made/20.png" in first.stderr


def test_the_first_process_stays_as_long_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    first, other, _ = (ranks.Ranks(store, rank, 3) for rank in range(3))
    monkeypatch.setattr(ranks, "has_ended", lambda mark: mark == "ended")
    store.set("ugatit/0/mark/2", "ended")
    waiting = threading.Thread(target=first.await_others, daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    other.gone(None)
    waiting.join(10)
    assert not waiting.is_alive()

"""`benchmarks.paper` from pictures to its tables: rows that are done stay done, figures of one protocol."""

from __future__ import annotations

import functools
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import paper
from benchmarks.commands import Commands
from benchmarks.paper import Bench
from benchmarks.paper_sheet import contact_sheet, spread
from tests.cli.conftest import picture
from ugatit_cli.cli.app import command
from ugatit_cli.errors import Interrupted, TrainingError, UgatitError, UsageError
from ugatit_cli.training.samples import cell_side

SIZE = 16
COST = {"generator_parameters": 3, "discriminator_parameters": 4, "steps_per_second": 5.0, "memory_bytes": 6}
FIGURE = {"mean": 1.0, "std": 0.5}


class Pretended(Commands):
    """Commands that are checked by their real parsers, and answered without doing them."""

    def __init__(self, fail: str = "", stop: threading.Event | None = None, by: signal.Signals | None = None) -> None:
        super().__init__(1, stop or threading.Event())
        self.fail = fail
        self.by = by
        self.done: list[str] = []
        self.parsing = threading.Lock()  # Typer changes the environment while it parses, which threads share

    def __call__(self, words: Sequence[object], log: Path, output: Path | None = None) -> list[dict[str, Any]]:
        name, *arguments = map(str, words)
        with self.parsing:
            asked = command(name).make_context(name, [*arguments, "--json"]).params
        self.done.append(" ".join([name, *(["dry"] if asked.get("dry_run") else []), log.stem]))
        if self.done[-1] == self.fail and self.by is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, self.by)  # which waits, and would not hear it
            self.stop.wait()
            self.check()
        if self.done[-1] == self.fail:
            raise TrainingError(f"ugatit {name}: no luck", f"All that it said: {log}")
        if name == "translate":
            assert output is not None
            return _translated(asked["inputs"], Path(asked["output"]), output)
        return [self._answer(name, asked)]

    @staticmethod
    def _answer(name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if asked.get("dry_run"):
            kind = {"method": asked["method"]} if asked["method"] else {}
            return {**kind, "model": {"image_size": asked["image_size"]}, "estimate": COST}
        if name == "train":
            return {"step": asked["iterations"], "elapsed": 2.0}
        mixed = {"kid_mixed_x100": FIGURE} if asked["source"] else {}
        return {"translated": {"kid_x100": FIGURE, **mixed}, "extractor": "tiny features"}


def _translated(inputs: Sequence[str], folder: Path, output: Path) -> list[dict[str, Any]]:
    shutil.copytree(inputs[0], folder)
    lines = [{"input": f"{inputs[0]}/{path.name}", "output": str(path)} for path in sorted(folder.iterdir())]
    output.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return lines


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for index in range(3):
            picture(20, 20, seed=10 * number + index).save(tmp_path / "data" / folder / f"{index}.png")
    return tmp_path / "data"


def words(data: Path, *arguments: str) -> list[str]:
    return [str(data), "--iterations", "4", "--size", str(SIZE), "--output", str(data.parent / "out"), *arguments]


def bench(data: Path, run: Commands, *arguments: str) -> Bench:
    return Bench(paper.parse(words(data, *arguments)), run)


def document(data: Path) -> Any:
    return json.loads((data.parent / "out" / "paper.json").read_text(encoding="utf-8"))


UNTOUCHED = ["evaluate untouched"] * 2


def done_of(row: str, ways: int = 2) -> list[str]:
    return [f"train {row}", *[f"translate {row}", f"evaluate {row}"] * ways]


def test_every_row_is_trained_translated_and_measured_once(data: Path) -> None:
    first = Pretended()
    bench(data, first, "--methods", "w-in", "cartoongan").work()
    measured = [*done_of("w-in-0"), *done_of("cartoongan-0", ways=1)]  # which has no way back
    assert first.done == ["train dry w-in", "train dry cartoongan", *UNTOUCHED, *measured]
    rows = document(data)["rows"]
    figures = {"kid_x100": FIGURE, "kid_mixed_x100": FIGURE, "extractor": "tiny features"}
    assert rows["w-in"]["seeds"] == {"0": {"steps": 4, "seconds": 2.0, "a2b": figures, "b2a": figures}}
    assert set(rows["cartoongan"]["seeds"]["0"]) == {"steps", "seconds", "a2b"}

    again = Pretended()
    bench(data, again, "--methods", "w-in", "cyclegan", "--seeds", "2").work()
    assert again.done == [
        "train dry cyclegan",
        *(one for row in ("cyclegan-0", "w-in-1", "cyclegan-1") for one in done_of(row)),
    ]
    last = Pretended()
    known = bench(data, last, "--methods", "w-in", "cyclegan", "--seeds", "2")
    known.work()
    assert last.done == []
    text = known.report()
    assert all(title in text for title in ("| w/ IN |", "| CycleGAN |", "| CartoonGAN |", "| untouched |"))
    drawn = {path.name for path in (data.parent / "out").glob("*.png")}
    assert drawn == {f"{table}-{way}.png" for table in ("methods", "ablations") for way in ("a2b", "b2a")}


@pytest.mark.parametrize(
    ("fail", "kept"), [("train dry w-in", {"untouched", "w-ln"}), ("train w-in-0", {"untouched", "w-in", "w-ln"})]
)
def test_rows_that_fail_are_left_out(data: Path, fail: str, kept: set[str]) -> None:
    one = bench(data, Pretended(fail), "--methods", "w-in", "w-ln", "--jobs", "2")
    if "dry" in fail:
        one.work()
    else:  # which it could be trained for: that it wasn't is an error
        with pytest.raises(UgatitError):
            one.work()
    assert set(document(data)["rows"]) == kept
    assert "| w/ LN |" in one.report()
    assert "no luck" in one.left_out["w/ IN"]
    assert "no luck" in one.report()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_who_is_told_to_end_leaves_tables_of_what_is_finished(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: signal.Signals
) -> None:
    three, out = words(data, "--methods", "w-in", "w-ln", "w-gn"), data.parent / "out"
    for last, finished in (("w-in-0", []), ("w-ln-0", ["| w/ IN |"])):
        pretended = functools.partial(Pretended, f"train {last}", by=by)
        monkeypatch.setattr(paper, "Commands", lambda _, stop, make=pretended: make(stop=stop))
        assert paper.main(three) == 130
        said, told = capsys.readouterr()
        assert [title for title in ("| w/ IN |", "| w/ LN |", "| w/ GN |") if title in said] == finished
        assert (out / "paper.md").exists() == ("paper.md" in told) == bool(finished)
        assert "same command" in told
        assert [name for name in re.findall(r"[^\s()]+\.log", told) if not Path(name).exists()] == []
        assert "w-gn-0" not in told  # which doesn't begin
    assert (out / "paper.md").read_text(encoding="utf-8").strip() == said.strip()


def test_nothing_is_written_where_no_row_can_be_trained(data: Path) -> None:
    with pytest.raises(UgatitError, match="no luck"):
        bench(data, Pretended("train dry w-in"), "--methods", "w-in").work()
    assert not (data.parent / "out" / "paper.json").exists()


def test_figures_of_another_protocol_are_refused(data: Path) -> None:
    bench(data, Pretended(), "--methods", "w-in").work()
    path = data.parent / "out" / "paper.json"
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"paper\.json.* channels$"):
        bench(data, Pretended(), "--channels", "2")
    assert path.read_bytes() == before
    for text in ("{", "[]", '{"protocol": {}, "rows": {"w-in": {"seeds": {"0": {"a2b": {"kid_x100": 1}}}}}}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=str(path)):
            bench(data, Pretended())
        assert path.read_text(encoding="utf-8") == text
    (data / "testA").rename(data / "elsewhere")
    path.unlink()
    with pytest.raises(UsageError):
        bench(data, Pretended())


@pytest.mark.parametrize(
    "wrong",
    ["--iterations 0", "--seeds 0", "--jobs 0", "--threads 0", "--methods pix2pix", "--recipe paper --additions"],
)
def test_options_that_make_no_sense(data: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        paper.main(words(data, *wrong.split()))
    assert caught.value.code == 2
    assert wrong.split()[1] in capsys.readouterr().err


def test_additions_may_be_named_like_methods(data: Path) -> None:
    assert paper.parse(words(data, "--methods", "moving-average")).additions
    assert not paper.parse(words(data, "--methods", "ugatit")).additions


# --- Commands as programs ------------------------------------------------------------------------------


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What stands in for the interpreter: a shell script."""

    real = subprocess.Popen

    def use(script: str) -> None:
        def started(arguments: Sequence[str], **options: Any) -> Any:
            return real(["sh", "-c", script, *arguments], **options)

        monkeypatch.setattr(subprocess, "Popen", started)

    return use


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_commands_are_programs(program: Callable[[str], None], tmp_path: Path) -> None:
    run, log = Commands(3, threading.Event()), tmp_path / "logs" / "one.log"
    program('echo "{\\"threads\\": $OMP_NUM_THREADS}"; echo said >&2')
    assert run(["train", 1], log) == [{"threads": 3}]
    assert log.read_text(encoding="utf-8") == "$ ugatit train 1 --json\nsaid\n"
    program("echo error: the disk is full >&2; exit 2")
    with pytest.raises(UsageError, match="the disk is full"):
        run(["train"], log)
    program("exit 4")
    with pytest.raises(TrainingError, match="4") as caught:
        run(["train"], log)
    assert str(log) in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_a_command_that_runs_is_told_to_end_and_waited_for(program: Callable[[str], None], tmp_path: Path) -> None:
    stop, saved = threading.Event(), tmp_path / "saved"
    run = Commands(1, stop)
    program(f"trap 'echo >{saved}; exit 130' TERM; echo >{tmp_path}/begun; while :; do sleep 0.05; done")
    caught: list[Exception] = []

    def work() -> None:
        try:
            run(["train"], tmp_path / "one.log")
        except Interrupted as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not (tmp_path / "begun").exists():
        thread.join(0.02)
    stop.set()
    thread.join()
    assert saved.exists()
    assert len(caught) == 1
    with pytest.raises(Interrupted):
        run(["train"], tmp_path / "one.log")


# --- Contact sheets ------------------------------------------------------------------------------------


def test_rows_of_a_sheet_are_pictures_and_columns_methods(tmp_path: Path) -> None:
    colours = {"source": "red", "one": "lime", "two": "blue"}
    for name, colour in colours.items():
        Image.new("RGB", (SIZE, SIZE), colour).save(tmp_path / f"{name}.png")
    source = tmp_path / "source.png"
    columns = {name: {source: tmp_path / f"{name}.png"} for name in ("one", "two")}
    sheet = contact_sheet([source, source], columns, SIZE, "photos")
    one = contact_sheet([source], {"one": columns["one"]}, SIZE, "photos")
    step = sheet.width - one.width
    assert step > cell_side(SIZE)
    left, bottom = one.width - 2 * step, sheet.height - one.height
    middles = [sheet.getpixel((left + step * n + step // 2, one.height - step // 2)) for n in range(3)]
    assert middles == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert bottom == step


def test_pictures_are_spread_over_all() -> None:
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread("ab", 5) == ["a", "b"]

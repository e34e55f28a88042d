"""`ugatit translate`: inputs, options, reports and exit codes."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.cli.conftest import Command, below, encoded, picture, program, put
from tests.programs import command, genuine
from ugatit_cli.cli.options import parse_count, parse_domains, parse_pixels
from ugatit_cli.errors import UsageError
from ugatit_cli.pictures import reading


def options(model: str) -> list[str]:
    return ["--model", model, "--device", "cpu", "--precision", "fp32"]


def size_of(path: str | Path) -> tuple[int, int]:
    return reading.read_picture(Path(path)).size


# --- Inputs and outputs --------------------------------------------------------------------------------


def test_a_file_to_a_file(translate: Command) -> None:
    put("a.png")
    outcome = translate("a.png", "-o", "new/b.jpg")
    assert (outcome.code, outcome.lines) == (0, ["new/b.jpg"])
    with Image.open("new/b.jpg") as result:
        assert (result.format, result.size) == ("JPEG", (24, 20))
    assert "(flat -> clay), device cpu" in outcome.stderr
    assert "precision fp32, 1 file\n" in outcome.stderr
    assert "1 translated in " in outcome.stderr
    assert below(".") == ["a.png", "new/b.jpg"]


def test_a_folder_is_mirrored(translate: Command) -> None:
    put("in/a.png", "in/b/c.jpg", "in/b/d/e.webp", "in/x.bmp")
    Path("in/notes.txt").write_text("not a picture")
    outcome = translate("in", "-o", "out")
    assert outcome.code == 0
    assert below("out") == ["a.png", "b/c.jpg", "b/d/e.webp", "x.bmp"]
    assert sorted(outcome.lines) == [f"out/{name}" for name in below("out")]


def test_from_stdin_to_stdout(light: str) -> None:
    outcome = program("translate", "-", *options(light), stdin=encoded("WEBP", (33, 21)))
    assert outcome.code == 0
    result = reading.read_picture(outcome.stdout)
    assert (result.format, result.size) == ("WEBP", (33, 21))
    assert "1 translated" in outcome.stderr
    assert outcome.stderr.endswith("-> <stdout>\n")
    assert below(".") == []


def test_from_stdin_to_a_file_and_from_a_file_to_stdout(translate: Command) -> None:
    put("a.png")
    assert translate("-", "-o", "b.png", stdin=Path("a.png").read_bytes()).code == 0
    outcome = translate("a.png", "-o", "-", "--format", "png")
    assert outcome.code == 0
    assert outcome.stdout == Path("b.png").read_bytes()
    assert outcome.stderr.endswith("-> <stdout>\n")


def test_options_reach_the_result(translate: Command) -> None:
    put("in/a.png", "in/b.jpg", "in/b.png")
    assert translate("in", "-o", "out", "--format", "webp").code == 0
    assert below("out") == ["a.webp", "b_jpg.webp", "b_png.webp"]
    for arguments, size in (
        (("--size", "40x20", "--quality", "1"), (40, 20)),
        (("--size", "40x20", "--quality", "100"), (40, 20)),
        (("--fit", "squash", "--size", "model"), (32, 32)),
        (("--fit", "native", "--tile", "64", "--background", "#102030"), (24, 20)),
    ):
        assert translate("in/a.png", "-o", f"{arguments[-1]}.jpg", *arguments).code == 0
        assert size_of(f"{arguments[-1]}.jpg") == size
    assert Path("1.jpg").stat().st_size < Path("100.jpg").stat().st_size / 2
    for way in (("--direction", "b2a"), ("--to", "flat")):
        assert "(clay -> flat)" in translate("in/a.png", "-o", f"{way[1]}.png", *way).stderr
    assert Path("b2a.png").read_bytes() == Path("flat.png").read_bytes()


def test_strength_colour_and_metadata(translate: Command) -> None:
    """In a file and in frames of an animation; what a format has no place for is said."""
    put("a.png")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a place", 3
    with Image.open("a.png") as image:
        image.save("b.jpg", exif=exif, quality=95)
        image.save("c.gif", save_all=True, append_images=[image.rotate(180)])

    def result(name: str, *options: str) -> bytes:
        assert translate(name, "-o", f"out/{name}", "--overwrite", *options).code == 0
        return reading.read_picture(Path("out", name)).frames[-1].rgb.tobytes()

    for name in ("a.png", "c.gif"):
        before = reading.read_picture(Path(name)).frames[-1].rgb.tobytes()
        assert result(name, "--strength", "0") == before
    plain = result("a.png")
    assert result("a.png", "--strength", "1") == plain
    assert len({plain, result("a.png", "--strength", "0.5"), result("a.png", "--keep-colour")}) == 3
    result("b.jpg", "--keep-metadata")
    with Image.open("out/b.jpg") as kept:
        assert dict(kept.getexif()) == {0x010E: "a place"}
    outcome = translate("b.jpg", "-o", "out/b.gif", "--keep-metadata")
    assert "b.jpg: GIF has no place for its EXIF\n" in outcome.stderr
    result("b.jpg")
    with Image.open("out/b.jpg") as kept:
        assert not kept.getexif()


def test_names_that_are_no_text(light: str) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    put(name)
    environment = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"}
    outcome = program("translate", name, *options(light), "-o", "out", start=genuine, env=environment)
    assert (outcome.code, outcome.stdout) == (0, b"out/caf\xe9.png\n")
    assert below("out") == [name]


# --- Existing results ----------------------------------------------------------------------------------


def test_existing_results(translate: Command) -> None:
    put("in/a.png", "in/b.png", "out/a.png")
    before = Path("out/a.png").read_bytes()
    outcome = translate("in", "-o", "out")
    assert outcome.code == 2
    assert "out/a.png" in outcome.errors[0]
    assert "--skip-existing" in outcome.stderr
    assert "--overwrite" in outcome.stderr
    assert below("out") == ["a.png"]
    outcome = translate("in", "-o", "out", "--skip-existing")
    assert (outcome.code, outcome.lines) == (0, ["out/b.png"])
    assert "1 translated, 1 skipped" in outcome.stderr
    assert Path("out/a.png").read_bytes() == before
    outcome = translate("in", "-o", "out", "--skip-existing", "--json")
    assert [document["status"] for document in outcome.documents] == ["skipped", "skipped"]
    assert translate("in", "-o", "out", "--overwrite").code == 0
    assert Path("out/a.png").read_bytes() != before


# --- Reports -------------------------------------------------------------------------------------------

# Commands, what they say of each result below `in`, and its files.
TOLD = {
    "translate": ((), ["{}.png"]),
    "overlay": (("--layout", "overlay", "--maps", "generator,local"), ["{}.generator.png", "{}.local.png"]),
    "raw": (("--layout", "raw", "--maps", "local"), ["{}.json", "{}.local.npy"]),
}


@pytest.mark.parametrize("case", TOLD)
def test_json_lines(translate: Command, cam: Command, case: str) -> None:
    arguments, names = TOLD[case]
    put("in/a.png", "in/c.png")
    Path("in/b.png").write_bytes(b"text")
    run = translate if case == "translate" else cam
    outcome = run("in", "gone.png", "-o", "out", "--json", *arguments)
    assert outcome.code == 1
    by_input = {document.pop("input"): document for document in outcome.documents}
    assert set(by_input) == {"in/a.png", "in/b.png", "in/c.png", "gone.png"}
    for name in "ac":
        document = by_input[f"in/{name}.png"]
        files = [f"out/{one.format(name)}" for one in names]
        assert document.pop("milliseconds") > 0
        assert document.pop("model").endswith("/tiny")
        assert document.pop("outputs", files[:1]) == files
        size = (40, 32) if case == "raw" else (24, 20)
        status = "translated" if case == "translate" else "looked-at"
        assert document == {"status": status, "output": files[0], "width": size[0], "height": size[1]}
    for name in ("in/b.png", "gone.png"):
        assert by_input[name]["status"] == "failed"
        assert by_input[name]["code"] == "picture-unusable"
        assert name not in by_input[name]["error"]
    told = {name: outcome.ending[name] for name in ("status", "exit", "code", "results", "failed", "skipped")}
    assert told == {"status": "failed", "exit": 1, "code": "inputs-failed", "results": 2, "failed": 2, "skipped": 0}


@pytest.mark.parametrize("case", TOLD)
def test_a_dry_run_writes_nothing(translate: Command, cam: Command, case: str) -> None:
    arguments, names = TOLD[case]
    put("in/a.png", "in/b/c.png")
    run = translate if case == "translate" else cam
    outcome = run("in", "-o", "out", "--dry-run", *arguments, "--report", "new/r.html")
    assert outcome.code == 0
    assert outcome.lines == [f"in/{p}.png -> out/{name.format(p)}" for p in ("a", "b/c") for name in names]
    outcome = run("in/a.png", "-o", "out", "--dry-run", "--json", *arguments)
    (document,) = outcome.documents
    files = [f"out/{name.format('a')}" for name in names]
    assert document.pop("outputs", files[:1]) == files
    document.pop("model")
    assert document == {"input": "in/a.png", "status": "planned", "output": files[0]}
    assert (outcome.ending["status"], outcome.ending["planned"]) == ("done", 1)
    if case == "translate":
        assert run("-", "--dry-run").lines == ["<stdin> -> <stdout>"]
    assert below(".") == ["in/a.png", "in/b/c.png"]
    assert sorted(path.name for path in Path().iterdir()) == ["in"]


def test_results_reach_stdout_also_when_stderr_is_a_terminal(light: str) -> None:
    """Rich's progress bar would take stdout over."""
    put("in/a.png", "in/b.png")
    Path("in/c.png").write_bytes(b"")
    terminal, side = pty.openpty()
    done = subprocess.run(
        command("translate", "in", *options(light), "-o", "out"),
        stdout=subprocess.PIPE,
        stderr=side,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )
    os.close(side)
    said = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while chunk := os.read(terminal, 4096):
            said += chunk
    os.close(terminal)
    assert sorted(done.stdout.decode().splitlines()) == ["out/a.png", "out/b.png"]
    assert b"in/c.png: the file is empty" in said
    assert b"files/s" in said
    assert done.returncode == 1


# --- Wrong usage ---------------------------------------------------------------------------------------

WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no inputs": ((), "no INPUT"),
    "no output": (("a.png",), "-o/--output is needed"),
    "skip and overwrite": (("a.png", "-o", "x", "--skip-existing", "--overwrite"), "contradict"),
    "direction and to": (
        ("a.png", "-o", "x", "--direction", "b2a", "--to", "clay"),
        "leads to 'flat', not to 'clay'",
    ),
    "unknown direction": (("a.png", "-o", "x", "--direction", "up"), "--direction"),
    "unknown domain": (("a.png", "-o", "x", "--to", "anime"), "no domain 'anime'"),
    "unknown device": (("a.png", "-o", "x", "--device", "gpu"), "unknown device 'gpu'"),
    "fp16 on a cpu": (("a.png", "-o", "x", "--precision", "fp16"), "fp16 is not for CPUs"),
    "quality 0": (("a.png", "-o", "x", "--quality", "0"), "--quality"),
    "format against name": (("a.png", "-o", "x.png", "--format", "jpg"), "--format jpg contradicts the name x.png"),
    "name of no format": (("a.png", "-o", "x.heic"), "x.heic"),
    "too strong": (("a.png", "-o", "x", "--strength", "2"), "--strength"),
    "no strength at all": (("a.png", "-o", "x", "--strength", "nan"), "strength"),
    "unknown size": (("a.png", "-o", "x", "--size", "huge"), "unknown size 'huge'"),
    "tile too small": (("a.png", "-o", "x", "--tile", "32"), "a tile of 32 pixels"),
    "batch size 0": (("a.png", "-o", "x", "--batch-size", "0"), "--batch-size 0"),
    "workers": (("a.png", "-o", "x", "--workers", "65"), "--workers 65"),
    "background": (("a.png", "-o", "x", "--background", "grey-ish"), "--background grey-ish"),
    "unknown option": (("a.png", "-o", "x", "--colour"), "--colour"),
    "nothing in the folder": (("empty", "-o", "x"), "no pictures in empty"),
    "many to stdout": (("a.png", "b.png", "-o", "-"), "standard output"),
    "json and stdout": (("a.png", "-o", "-", "--json"), "--json and the picture"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(translate: Command, case: str) -> None:
    put("a.png", "b.png")
    Path("empty").mkdir()
    arguments, reason = WRONG[case]
    outcome = translate(*arguments)
    assert outcome.code == (5 if case == "fp16 on a cpu" else 2)
    assert outcome.stdout == b"" or outcome.ending["code"] == "usage"
    assert reason in " ".join(outcome.stderr.replace("│", " ").split())
    assert "Traceback" not in outcome.stderr
    # What an earlier check could have found leaves no folder behind.
    assert below(".") == ["a.png", "b.png"]


def test_nobody_types_a_picture(translate: Command) -> None:
    outcome = translate("-", "-o", "a.png", typed=True)
    assert (outcome.code, outcome.errors) == (2, ["standard input (-) is a terminal"])


def test_option_values() -> None:
    assert [parse_count("--workers", text, 64) for text in ("auto", "1", "64")] == [0, 1, 64]
    assert [parse_pixels(text) for text in ("off", "90000", "300M")] == [None, 90_000, 300_000_000]
    assert parse_domains(" selfie, anime ") == ("selfie", "anime")
    for wrong in ("selfie", "a,b,c", ""):
        with pytest.raises(UsageError, match="--domains"):
            parse_domains(wrong)
    for wrong in ("-1", "٣", "1.5", ""):
        with pytest.raises(UsageError, match="--workers"):
            parse_count("--workers", wrong, 64)
        with pytest.raises(UsageError, match="--max-pixels"):
            parse_pixels(wrong)


def test_pictures_above_the_limit_are_left_out(translate: Command) -> None:
    put("a.png", "b.png")
    Image.new("RGB", (100, 100)).save("b.png")
    outcome = translate("a.png", "b.png", "-o", "out", "--max-pixels", "9999")
    assert (outcome.code, below("out")) == (1, ["a.png"])
    assert "b.png" in outcome.errors[0]
    assert "--max-pixels" in outcome.stderr
    assert translate("b.png", "-o", "out", "--max-pixels", "off").code == 0


# --- Models --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "named"), [("flat2clai", "Did you mean flat2clay?"), ("m", "m/model.safetensors")])
@pytest.mark.parametrize("command", ["translate", "cam"])
def test_a_model_that_is_unknown_or_damaged(ugatit: Command, command: str, model: str, named: str) -> None:
    put("a.png")
    tiny.save(Path("m"))
    Path("m/model.safetensors").write_bytes(b"\0" * 100)
    files = below(".")
    outcome = ugatit(command, "a.png", "-o", "b.png", "--model", model, "--report", "r.html")
    assert outcome.code == 3
    assert model in outcome.errors[0]
    assert named in outcome.stderr
    assert below(".") == files


@pytest.mark.parametrize("option", [("--to", "flat"), ("--direction", "b2a"), ("--to", "anime")])
@pytest.mark.parametrize("command", ["translate", "cam"])
def test_a_model_of_one_way_is_not_asked_for_another(ugatit: Command, command: str, option: tuple[str, str]) -> None:
    put("a.png")
    tiny.save(Path("m"), tiny.ONE_WAY)
    files = below(".")
    outcome = ugatit(command, "a.png", "-o", "b.png", "--model", "m", *option)
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (2, b"", 1)
    assert re.search("translates '?flat'? to '?clay'? only", outcome.stderr)
    assert below(".") == files
    assert ugatit(command, "a.png", "-o", "b.png", "--model", "m", "--to", "clay").code == 0


# --- Bad files among good ones -------------------------------------------------------------------------


# The decoders' own failures are those of tests/pictures/test_reading.py.
BAD: dict[str, bytes] = {
    "cut.png": encoded("PNG", (64, 64))[:2000],
    "cut.webp": encoded("WEBP", (64, 64))[:200],
    "empty.png": b"",
    "heic.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\x55" * 200,
    "bomb.bmp": b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHH", 40, 99999, -99999, 1, 77),
    "emoji:smile:[red].png": b"not markup",
}
GOOD: dict[str, bytes] = {
    "a.png": encoded("PNG"),
    "z/deep.webp": encoded("WEBP"),
    "broken-profile.png": encoded("PNG", icc_profile=b"\x13" * 300),
    "broken-exif.jpg": encoded("JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 50),
    "wrong-suffix.png": encoded("JPEG"),
}


@pytest.mark.parametrize(
    "start",
    ["translate --batch-size 2", "cam --batch-size 1"],
)
def test_bad_files_among_good_ones(light: str, start: str) -> None:
    for name, data in (BAD | GOOD).items():
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).write_bytes(data)
    Path("in/folder.png").mkdir()
    Path("in/dangling.png").symlink_to("nowhere")
    Path("in/.hidden.png").write_bytes(b"text")
    os.mkfifo("in/pipe.png")
    bad = {*BAD, "dangling.png", "pipe.png"}
    outcome = program(*start.split(), "in", "in/gone.png", *options(light), "-o", "out")
    assert outcome.code == 1
    assert below("out") == sorted(GOOD)
    assert sorted(outcome.lines) == [f"out/{name}" for name in sorted(GOOD)]
    *named, summary = outcome.errors
    for name in {*bad, "gone.png"}:
        assert len([line for line in named if line.startswith(f"in/{name}: ")]) == 1, name
    assert len(named) == len(bad) + 1
    assert summary == f"{len(named)} inputs failed, named above"
    for noise in ("Traceback", "Warning", "internal error", "Error("):
        assert noise not in outcome.stderr
    for name in GOOD:
        assert start == "cam --batch-size 1" or size_of(Path("out", name)) == (24, 20)


@pytest.mark.parametrize(("source", "name"), [("gone.png", "gone.png"), ("pipe", "pipe"), ("-", "<stdin>")])
def test_only_bad_inputs(translate: Command, source: str, name: str) -> None:
    os.mkfifo("pipe")  # which is not waited for
    outcome = translate(source, *(() if source == "-" else ("-o", "out")), stdin=b"")
    assert (outcome.code, outcome.stdout, len(outcome.errors)) == (1, b"", 2)
    assert outcome.errors[0].startswith(f"{name}: ")
    assert source == "pipe" or not Path("out").exists()


# --- Where nothing can be written ----------------------------------------------------------------------


def test_a_file_too_large_for_the_disk(light: str) -> None:
    put("in/a.png", "in/b.png")
    picture(200, 200).save("in/large.png")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    outcome = program("translate", "in", *options(light), "-o", "out", preexec_fn=limit)
    assert outcome.code == 1
    assert outcome.errors[0] == "in/large.png: out/large.png: can't be written (file too large)"
    assert below("out") == ["a.png", "b.png"]


def test_a_folder_that_cannot_be_made(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    put("a.png")
    monkeypatch.setattr(Path, "mkdir", refuse)
    outcome = translate("a.png", "-o", "out/b.png")
    assert (outcome.code, outcome.errors[0].partition(":")[0]) == (1, "out")


# --- Stopping ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 9)])
def test_stopping(light: str, number: signal.Signals, times: int) -> None:
    put(*(f"in/{index:03}.png" for index in range(300)))
    arguments = command("translate", "in", *options(light), "-o", "out", "--size", "400", "--workers", "2")
    log = Path("log")
    with (
        log.open("w") as stdout,
        subprocess.Popen(arguments, stdout=stdout, stderr=subprocess.PIPE, text=True) as run,
    ):
        while log.read_text().count("\n") < 3:
            assert run.poll() is None
            time.sleep(0.01)
        for _ in range(times):
            run.send_signal(number)
            time.sleep(0.1)
        _, said = run.communicate(timeout=60)
    # A later one may come when Python is about to end; a shell says 130, too.
    assert run.returncode == 130 or (times > 1 and run.returncode == -number)
    assert "stopping: finishing what is in progress" in said
    assert "Traceback" not in said
    written = below("out")
    assert 3 <= len(written) < 300
    for name in written:
        assert Image.open(f"out/{name}").convert("RGB").size == (480, 400)  # not one is cut off, or temporary
    if times == 1:
        assert "error: interrupted; everything finished so far is kept" in said
        assert sorted(log.read_text().splitlines()) == [f"out/{name}" for name in written]


def test_whoever_reads_stdout_may_leave(light: str) -> None:
    put(*(f"in/{index:03}.png" for index in range(40)))
    run = subprocess.Popen(
        command("translate", "in", *options(light), "-o", "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout
    assert run.stderr
    run.stdout.readline()
    run.stdout.close()
    assert b"Traceback" not in run.stderr.read()
    run.stderr.close()
    assert run.wait(60) in (0, 1)


# --- Failures nobody foresaw ---------------------------------------------------------------------------


def broken(*_: Any, **__: Any) -> None:
    raise ZeroDivisionError("a bug [bold]in here[/bold]")


@pytest.mark.parametrize("debug", [False, True])
def test_an_unexpected_exception(translate: Command, monkeypatch: pytest.MonkeyPatch, debug: bool) -> None:
    put("a.png")
    monkeypatch.setattr("ugatit_cli.translation.pipeline.translate_files", broken)
    if debug:
        monkeypatch.setenv("UGATIT_DEBUG", "1")
    outcome = translate("a.png", "-o", "b.png")
    assert outcome.code == 1
    assert "internal error: ZeroDivisionError: a bug [bold]in here[/bold]\n" in outcome.stderr
    assert "UGATIT_DEBUG=1" in outcome.stderr
    assert ("Traceback" in outcome.stderr) is debug


def test_an_interrupt_before_anything_began(translate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.png")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ugatit_cli.weights.fetch.find_model", stop)
    outcome = translate("a.png", "-o", "b.png")
    assert outcome.code == 130
    assert "error" not in outcome.stderr


# --- Advice --------------------------------------------------------------------------------------------


def test_what_is_enlarged_much_is_said_once(translate: Command) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (300, 200), "red").save(name)
    outcome = translate("a.png", "b.png", "-o", "out")
    (said,) = [line for line in outcome.stderr.splitlines() if "enlarged" in line]
    assert re.search(r"a\.png: translated at \d+x\d+ and enlarged \d+ times", said)
    assert "--fit native" in said
    assert "enlarged" not in translate("a.png", "-o", "small.png", "--size", "model").stderr


def test_white_on_white_is_said(translate: Command) -> None:
    icon = Image.new("RGBA", (24, 24), (0, 0, 0, 0))
    icon.paste((250, 255, 251, 255), (4, 4, 20, 20))
    icon.save("icon.png")
    assert "icon.png: all that is visible has the colour of the background" in translate("icon.png", "-o", "1").stderr
    assert "try --background" not in translate("icon.png", "-o", "2", "--background", "black").stderr
    icon.paste((200, 0, 0, 255), (4, 4, 20, 8))
    icon.save("red.png")
    assert "try --background" not in translate("red.png", "-o", "3").stderr


@pytest.mark.parametrize("options", [(), ("--box", "4,4,16,16")])
def test_16_bits_are_said_once(translate: Command, options: tuple[str, ...]) -> None:
    Path("in").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.arange(24 * 24, dtype=np.uint16).reshape(24, 24) * 100).save(f"in/{name}")
    put("in/0.png")
    (said,) = [line for line in translate("in", "-o", "out", *options).stderr.splitlines() if "8 bits" in line]
    assert "a.png: " in said or "b.png: " in said
    assert "8 bits" not in translate("in/0.png", "-o", "0.png", *options).stderr


def test_a_result_of_one_colour_is_said(translate: Command) -> None:
    for name, colour in (("red.png", (200, 30, 30)), ("white.png", "white")):
        Image.new("RGB", (24, 24), colour).save(name)
        assert f"{name}: the result is all one colour" in translate(name, "-o", f"out-{name}").stderr
    put("a.png")
    assert "one colour" not in translate("a.png", "-o", "b.png").stderr

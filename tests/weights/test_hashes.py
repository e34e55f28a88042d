"""Hashes of model folders: every changed byte is noticed, none is missed while a model is replaced, and pins hold."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ugatit_cli
from tests import tiny
from tests.fetched import fetched, flip, stored
from tests.hub_client import Notes
from ugatit_cli.errors import ModelError, UgatitError, UsageError
from ugatit_cli.weights import fetch, hashes
from ugatit_cli.weights.catalog import known
from ugatit_cli.weights.fetch import find_model
from ugatit_cli.weights.folder import copy_model
from ugatit_cli.weights.hashes import SUMS_FILE, read_sums, sums_text
from ugatit_cli.weights.home import BUNDLED
from ugatit_cli.weights.known import verify
from ugatit_cli.weights.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("cache")
FILES = ("config.json", "discriminators.safetensors", "model.safetensors")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(folder: Path) -> str:
    """As `sha256sum config.json *.safetensors | sha256sum` has it."""
    lines = (f"{sha256(folder / name)}  {name}\n" for name in FILES if (folder / name).exists())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.fixture
def clay(tmp_path: Path) -> Path:
    """A model folder as it is written now."""
    return tiny.save(tmp_path / "usb" / "clay", discriminators=True)


def use(folder: Path) -> None:
    """Reads all of a model."""
    found = find_model(str(folder))
    found.generator("a2b")
    found.discriminator("b", "local")


def test_sums_are_as_other_programs_write_them(clay: Path) -> None:
    text = (clay / SUMS_FILE).read_bytes().decode()
    assert text == "".join(f"{sha256(clay / name)}  {name}\n" for name in FILES)
    # All of `sha256sum -b ./*`, with the capitals and line ends of Windows, and of the SHA256SUMS it was writing.
    others = f"{'0' * 64}  {SUMS_FILE}\n{'1' * 64}  notes.txt\n"
    lines = (line.partition("  ") for line in (text + others).splitlines())
    theirs = "".join(f"{sha256.upper()} *./{name}\r\n" for sha256, _, name in lines)
    (clay / SUMS_FILE).write_bytes(theirs.encode())
    (clay / "notes.txt").touch()
    use(clay)
    assert verify(known(str(clay))).problem == ""


@pytest.mark.parametrize("file", FILES)
def test_one_changed_bit(clay: Path, file: str) -> None:
    before = sha256(clay / file)
    flip(clay / file, 40)
    for read in (use, lambda folder: copy_model(find_model(str(folder)), folder / "copy")):
        with pytest.raises(ModelError) as caught:
            read(clay)
        for named in (str(clay / file), before, sha256(clay / file)):
            assert named in caught.value.message
    verified = verify(known(str(clay)))
    assert (verified.state, len(verified.problem.splitlines())) == ("damaged", 1)
    assert str(clay / file) in verified.problem
    assert not (clay / "copy").exists()


def test_every_changed_bit_of_the_sums_themselves(clay: Path) -> None:
    data = (clay / SUMS_FILE).read_bytes()
    for i in range(len(data)):
        (clay / SUMS_FILE).write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        assert known(str(clay)).state == "damaged" or verify(known(str(clay))).problem, data[i:]
    for damaged in (b"", b"\n", b"nothing\n", data.replace(b"model", b"mode1")):
        (clay / SUMS_FILE).write_bytes(damaged)
        with pytest.raises(ModelError, match=SUMS_FILE):
            find_model(str(clay))


def test_only_what_is_read_is_hashed(clay: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def counted(path: Path) -> str:
        seen.append(path.name)
        return sha256(path)

    monkeypatch.setattr(hashes, "hash_of", counted)
    found = find_model(str(clay))
    for direction in ("a2b", "b2a", "a2b"):
        found.generator(direction)
    assert seen == ["config.json", "model.safetensors"]
    found.discriminator("a", "local")
    found.discriminator("b", "local")
    assert seen[2:] == ["discriminators.safetensors"]


def test_the_bundled_model_is_what_the_manifest_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(BUNDLED, tmp_path / "copy")
    for module in ("catalog", "fetch"):
        monkeypatch.setattr(f"ugatit_cli.weights.{module}.BUNDLED", tmp_path / "copy")
    record = read_manifest()["flat2clay"].files["model.safetensors"]
    assert record is not None
    find_model("flat2clay")
    flip(tmp_path / "copy" / "flat2clay" / "model.safetensors")
    for call in (find_model, lambda name: fetch.fetch(name, Notes(), to=tmp_path / "to")):
        with pytest.raises(ModelError, match=rf"model\.safetensors: damaged: expected sha256 {record.sha256}"):
            call("flat2clay")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("name", [one.name for one in sorted(BUNDLED.iterdir()) if one.is_dir()])
def test_a_copy_of_a_bundled_model_has_the_hashes_of_the_manifest(name: str, tmp_path: Path) -> None:
    copy = shutil.copytree(BUNDLED / name, tmp_path / "copy")
    recorded = read_manifest()[name].files
    assert dict(known(str(copy)).hashes) == {file: one.sha256 for file, one in recorded.items() if one is not None}
    flip(copy / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        find_model(str(copy)).generator("a2b")


def test_folders_without_hashes_load_and_are_not_verifiable(model: Path) -> None:
    use(model)
    verified = verify(known(str(model)))
    assert (verified.problem, set(verified.unverifiable)) == ("", set(FILES))
    (model / "README.md").write_text("edited")
    (model / SUMS_FILE).write_text(sums_text({"config.json": sha256(model / "config.json")}))
    use(model)
    assert set(verify(known(str(model))).unverifiable) == set(FILES[1:])
    (model / "model.safetensors").rename(model / "step 7.safetensors")
    assert find_model(str(model / "step 7.safetensors")).config == tiny.LIGHT


def test_a_file_that_is_gone(clay: Path) -> None:
    (clay / "discriminators.safetensors").unlink()
    find_model(str(clay)).generator("b2a")
    assert "discriminators.safetensors: missing" in verify(known(str(clay))).problem


def test_a_model_that_is_replaced_while_it_is_read(clay: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no point is it taken for a damaged one: hashes go first, and come last."""
    path, hash_of = clay / "model.safetensors", hashes.hash_of
    changes: list[Callable[[], object]] = []

    def meanwhile(read: Path) -> str:
        if changes:
            changes.pop(0)()
        return hash_of(read)

    def replace(data: bytes, *, done: bool) -> None:
        (clay / SUMS_FILE).unlink()
        path.write_bytes(data)
        if done:
            (clay / SUMS_FILE).write_text(sums_text({path.name: hashlib.sha256(data).hexdigest()}))

    monkeypatch.setattr(hashes, "hash_of", meanwhile)
    changes += [lambda: replace(b"second", done=True), lambda: replace(b"third", done=True)]
    hashes.check_hash(path)
    changes += [lambda: replace(b"fourth", done=True), lambda: path.write_bytes(b"damaged")]
    with pytest.raises(ModelError, match="damaged"):
        hashes.check_hash(path)
    changes += [lambda: replace(b"fifth", done=False)]
    hashes.check_hash(path)
    assert (changes, read_sums(clay)) == ([], None)


# --- Pins ----------------------------------------------------------------------------------------------


def test_any_model_can_be_pinned(cache: Path, clay: Path, model: Path) -> None:
    commit = "0123456789" * 4
    fetched(cache, model, "ann/cats", commit)
    run = shutil.copytree(clay, clay.parent / "run" / "model").parent
    shown = {
        "flat2clay": digest(BUNDLED / "flat2clay"),
        str(clay): sha256(clay / SUMS_FILE),
        f"{clay}/model.safetensors": digest(clay),
        str(model): digest(model),
        str(run): digest(clay),
        "mine": digest(stored("mine")),
        "ann/cats": digest(model),
        "ann/cats@main": digest(model),
    }
    for name, expected in shown.items():
        assert known(name).digest() == expected
        pinned = f"{name}@sha256:{expected}"
        assert ugatit_cli.load(pinned, device="cpu").config == find_model(name).config
        assert known(pinned).folder == known(name).folder
        other = f"{name}@sha256:{expected[::-1]}"
        for call in (find_model, known, ugatit_cli.load):
            with pytest.raises(ModelError) as caught:
                call(other)
            assert expected in caught.value.message
            assert expected[::-1] in caught.value.message
            assert caught.value.message.startswith(f"{name}: ")


@pytest.mark.parametrize("kind", ["changed", "exchanged", "exchanged with its hashes"])
def test_a_pin_notices_what_the_folder_does_not_tell(clay: Path, tmp_path: Path, kind: str) -> None:
    pinned = f"{clay}@sha256:{digest(clay)}"
    find_model(pinned)
    other = tiny.save(tmp_path / "other", tiny.CYCLEGAN, discriminators=True)
    (clay / SUMS_FILE).unlink()
    if kind == "changed":
        flip(clay / "discriminators.safetensors")
    else:
        for name in (*FILES, SUMS_FILE) if "hashes" in kind else FILES:
            shutil.copy(other / name, clay / name)
    with pytest.raises(ModelError):
        find_model(pinned)
    find_model(str(clay))


def test_a_pinned_model_is_fetched_only_as_that(tmp_path: Path) -> None:
    pin = digest(BUNDLED / "flat2clay")
    fetch.fetch(f"flat2clay@sha256:{pin.upper()}", Notes(), to=tmp_path / "to")
    assert sha256(tmp_path / "to" / SUMS_FILE) == pin
    with pytest.raises(ModelError, match=pin):
        fetch.fetch(f"flat2clay@sha256:{pin[::-1]}", Notes(), to=tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("pin", ["", "ab", "g" * 64, "a" * 63, "a" * 65, f"{'a' * 64}@sha256:{'a' * 64}"])
def test_pins_that_are_none(clay: Path, pin: str) -> None:
    for call in (find_model, known):
        with pytest.raises(UsageError, match="sha256:"):
            call(f"{clay}@sha256:{pin}")


def test_a_folder_that_is_here_is_never_asked_of_the_network(clay: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clay.parents[1])
    monkeypatch.setattr("ugatit_cli.remote.hub_download.locate", None)
    for name in ("usb/clay@x", "usb/clay@main", "./usb/clay@x", f"{clay}@x", "flat2clay@v1"):
        for call in (find_model, known, lambda name: fetch.fetch(name, Notes())):
            with pytest.raises(UgatitError) as caught:
                call(name)
            assert caught.value.message.startswith(f"{name}: ")
            assert "@sha256:" in caught.value.hint
    Path("usb/clay").rename("usb/clay@x")
    assert find_model("usb/clay@x").path == Path("usb/clay@x")

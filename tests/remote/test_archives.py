"""Zip archives are data: what comes out is what was put in, and of hostile or damaged ones nothing comes at all."""

from __future__ import annotations

import random
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugatit_cli.errors import ModelError, OutputError, StorageError
from ugatit_cli.remote.archives import CHUNK, Limits, members, take
from ugatit_cli.remote.patience import Logged

Change = Callable[[zipfile.ZipInfo], None]
FILES = {"set/trainA/1.jpg": b"one" * 50, "set/trainA/2.jpg": b"", "set/trainB/1.jpg": random.Random(0).randbytes(99)}


def archive(path: Path, files: dict[str, bytes], change: Change = lambda _: None) -> Path:
    """A zip file; `change` does something to each member before it is written."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            file.writestr(info, data)
    return path


def with_(**fields: int) -> Change:
    """Sets what each member says of itself."""

    def change(info: zipfile.ZipInfo) -> None:
        for name, value in fields.items():
            setattr(info, name, value)

    return change


def targets(path: Path, folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in members(path)}


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(path: Path, folder: Path, **limits: int) -> str:
    """What an error says that names the archive, after which nothing is there."""
    with pytest.raises(ModelError) as caught:
        take(path, targets(path, folder), Logged(), Limits(**limits))
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.message
    assert caught.value.message.isprintable()
    assert caught.value.hint
    assert not files_in(folder)
    return caught.value.message


def changed(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_comes_out_is_what_was_put_in(tmp_path: Path, method: int) -> None:
    files = {**FILES, "läuft/ü.jpg": b"x", "large": random.Random(1).randbytes(CHUNK + 1)}
    path = archive(tmp_path / "x.zip", files, with_(compress_type=method))
    take(path, targets(path, tmp_path / "out"), Logged())
    assert files_in(tmp_path / "out") == files


def test_nothing_but_what_is_asked_for_comes_out(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", {"folder/": b"", **FILES})
    take(path, {"set/trainA/1.jpg": tmp_path / "out" / "other"}, Logged())
    assert files_in(tmp_path / "out") == {"other": FILES["set/trainA/1.jpg"]}
    with pytest.raises(ModelError, match="set/none"):
        take(path, {"set/none": tmp_path / "out" / "none"}, Logged())


def test_sizes_beyond_four_gigabytes_are_written_in_another_way(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file, file.open("a", "w", force_zip64=True) as member:
        member.write(b"text")
    take(path, {"a": tmp_path / "a"}, Logged())
    assert (tmp_path / "a").read_bytes() == b"text"


@pytest.mark.parametrize(
    "name",
    ["../a", "a/../../b", "/etc/a", "C:/a", "C:a", "a\\..\\b", "\\\\host\\a", "a//b", "./a", "a/.", "..", "a.", "a ",
     "a\nb", "a\x1b[2Jb"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    refused(archive(tmp_path / "x.zip", {"good": b"1", name: b"2"}), tmp_path / "out")


def test_a_name_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", {"good.jpgXexe": b"1"})
    refused(changed(path, b"good.jpgX", b"good.jpg\0"), tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    path = archive(tmp_path / "x.zip", {"etc": b"/etc"}, with_(external_attr=(kind | 0o777) << 16))
    assert "'etc'" in refused(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "a"),
        ("a/B.jpg", "A/b.JPG"),
        ("ä", unicodedata.normalize("NFD", "ä")),
        ("straße", "STRASSE"),
        ("a", "A/b"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_one_to_some_system_are_refused(tmp_path: Path, one: str, other: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(one, b"1")
        file.writestr(other, b"2")
    refused(tmp_path / "x.zip", tmp_path / "out")


def test_methods_that_are_not_known_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", {"a": b"1" * 99}, with_(compress_type=zipfile.ZIP_LZMA))
    refused(path, tmp_path / "out")


def test_encrypted_ones_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, tmp_path / "out")


# --- Bombs ---------------------------------------------------------------------------------------------


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    refused(archive(tmp_path / "x.zip", {"a": bytes(100_000_001)}), tmp_path / "out")


@pytest.mark.parametrize("limits", [{"member": 149}, {"total": 248}])
def test_limits_hold(tmp_path: Path, limits: dict[str, int]) -> None:
    path = archive(tmp_path / "x.zip", FILES)
    refused(path, tmp_path / "out", **limits)
    take(path, targets(path, tmp_path / "out"), Logged(), Limits(member=150, total=249))


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", {"a": bytes(9000), "b": bytes(9000)})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # where the first is
    path.write_bytes(data)
    assert "overlaps" in refused(path, tmp_path / "out")


@pytest.mark.parametrize("said", [0, 1, 8999, 9001, 1 << 20])
def test_a_member_of_another_size_than_it_says_is_refused(tmp_path: Path, said: int) -> None:
    path = archive(tmp_path / "x.zip", {"a": bytes(9000)})
    refused(changed(path, struct.pack("<I", 9000), struct.pack("<I", said)), tmp_path / "out")


def test_a_list_that_is_far_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "x.zip", {f"{number:0200}": b"" for number in range(9)})
    monkeypatch.setattr("ugatit_cli.remote.archives.LARGEST_LIST", 2000)
    refused(path, tmp_path / "out")


# --- Damage --------------------------------------------------------------------------------------------


def test_no_archive_at_all(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_bytes(b"<html>quota exceeded</html>")
    for name in ("page.zip", "none.zip", ""):
        refused(tmp_path / name, tmp_path / "out")


def test_damaged_bytes_are_noticed_and_what_is_there_is_whole(tmp_path: Path) -> None:
    data = FILES["set/trainB/1.jpg"]
    path = archive(tmp_path / "x.zip", FILES, with_(compress_type=zipfile.ZIP_STORED))
    found = targets(changed(path, data, data[::-1]), tmp_path / "out")
    with pytest.raises(ModelError) as caught:
        take(path, found, Logged())
    assert str(path) in caught.value.message
    assert files_in(tmp_path / "out") == {name: data for name, data in FILES.items() if "trainA" in name}


@settings(max_examples=50)
@given(st.data())
def test_whatever_happens_to_its_bytes_it_is_read_right_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    content = bytearray(archive(folder / "x.zip", FILES).read_bytes())
    if data.draw(st.booleans(), label="cut"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "x.zip").write_bytes(content)
    try:
        found = targets(folder / "x.zip", folder / "out")
        take(folder / "x.zip", found, Logged())
    except ModelError as error:
        assert str(folder / "x.zip") in error.message  # noqa: PT017  # or none is raised
    else:
        assert all(path.is_relative_to(folder / "out") for path in found.values())
        # Only a name can differ: it has no checksum.
        assert {path.read_bytes() for path in found.values()} <= set(FILES.values())


# --- Where it goes -------------------------------------------------------------------------------------


def test_disk_space_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "x.zip", FILES)
    monkeypatch.setattr("shutil.disk_usage", lambda _: (10**9, 10**9 - 100, 100))
    with pytest.raises(StorageError):
        take(path, targets(path, tmp_path / "out"), Logged())
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", FILES)
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(OutputError) as caught:
        take(path, targets(path, tmp_path / "out"), Logged())
    assert str(tmp_path / "out") in caught.value.message

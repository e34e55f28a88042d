"""Data sets by name, from a file that is here: what is unpacked, what is left out, what is said, what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.data_sets import COUNTS, URL, archive, entry, files_in, jpeg, pictures, write_manifest
from ugatit_cli.datasets import store
from ugatit_cli.datasets.catalog import catalog, known
from ugatit_cli.datasets.fetch import fetch, find, remove
from ugatit_cli.errors import ModelError, StorageError, UsageError
from ugatit_cli.remote.patience import Logged


class Heard(Logged):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keeps it."""
        self.notes.append(text)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UGATIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def heard() -> Heard:
    return Heard()


def know(monkeypatch: pytest.MonkeyPatch, path: Path, name: str = "horse2zebra", **more: Any) -> None:
    """Puts an entry for an archive into the user's manifest."""
    monkeypatch.setenv(
        "UGATIT_MANIFEST", str(write_manifest(path.with_name("manifest.toml"), **{name: entry(path, **more)}))
    )


def unstated(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """As `know`, of an archive whose hash nobody has stated."""
    monkeypatch.setenv("UGATIT_MANIFEST", str(write_manifest(path.with_name("manifest.toml"), horse2zebra=entry())))


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = archive(tmp_path / "packed.zip")
    know(monkeypatch, path)
    return path


def test_every_data_set_of_the_manifest_says_where_it_was_read_and_what_may_be_done_with_it() -> None:
    entries = [one.entry for one in catalog() if one.entry is not None]
    assert {"horse2zebra", "photo2vangogh", "selfie2anime", "cat2dog", "photo2portrait", "ink2clay"} <= {
        one.name for one in entries
    }
    for one in entries:
        assert one.licence
        assert one.read_at
        assert one.made_by
        # A hash makes what comes over http what it was.
        assert one.encrypted or one.source == "zip"
        assert one.verified == (one.source == "packages")


def test_the_papers_name_is_the_archive_the_other_way_round() -> None:
    ours, theirs = known("photo2vangogh").entry, known("vangogh2photo").entry
    assert ours is not None
    assert theirs is not None
    assert (ours.url, ours.sha256, ours.swapped, ours.domains) == (
        theirs.url,
        theirs.sha256,
        True,
        theirs.domains[::-1],
    )


def test_pictures_are_written_out_as_they_are(packed: Path, heard: Heard, home: Path) -> None:
    folder = fetch("horse2zebra", heard, from_file=packed)
    assert folder == home / "data" / "horse2zebra"
    assert files_in(folder) == pictures()
    said = " ".join(heard.notes)
    assert all(text in said for text in ("not stated", URL, "nobody"))
    stored = store.read(folder)
    assert stored is not None
    assert (stored.counts, stored.source, stored.domains) == (COUNTS, URL, ["horse", "zebra"])
    assert stored.sha256 == {"packed.zip": hashlib.sha256(packed.read_bytes()).hexdigest()}
    assert packed.exists()


def test_what_is_here_is_found_and_never_fetched_again(packed: Path, heard: Heard) -> None:
    fetch("horse2zebra", heard, from_file=packed)
    packed.unlink()
    heard.notes.clear()
    for what in ("horse2zebra", "home/data/horse2zebra"):
        found = find(what, heard)
        assert found.domains == ("horse", "zebra")
        assert found.folders.test_b == found.path / "testB"
    assert not heard.notes
    assert fetch("horse2zebra", heard) == found.path.absolute()


def test_a_folder_here_wins_over_a_name(heard: Heard, tmp_path: Path) -> None:
    for name in ("trainA", "trainB"):
        (tmp_path / "horse2zebra" / name).mkdir(parents=True)
    found = find("horse2zebra", heard)
    assert (found.folders.a, found.domains) == (Path("horse2zebra/trainA"), None)
    assert any("horse2zebra" in text for text in heard.notes)


@pytest.mark.parametrize("name", ["horse2zebr", "", "no/folder", "x" * 300, "\x1b[2J"])
def test_what_is_no_name_and_no_folder_is_refused(heard: Heard, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(name, heard)
    assert caught.value.message.isprintable()
    if name == "horse2zebr":
        assert "horse2zebra" in caught.value.hint


def test_domains_change_places_where_the_name_is_the_other_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    path = archive(tmp_path / "x.zip")
    know(monkeypatch, path, "zebra2horse", swapped=True, domains=["zebra", "horse"])
    folder = fetch("zebra2horse", heard, from_file=path)
    swapped = str.maketrans("AB", "BA")
    assert files_in(folder) == {name[:6].translate(swapped) + name[6:]: data for name, data in pictures().items()}


@pytest.mark.parametrize(("swapped", "left_out"), [(False, "testA"), (True, "testB")])
@pytest.mark.parametrize("same", ["bytes", "names"])
def test_pictures_to_test_with_that_are_trained_with_are_left_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard, swapped: bool, left_out: str, same: str
) -> None:
    files = {name: data for name, data in pictures().items() if not name.startswith("testA")}
    for number in range(3 if same == "bytes" else COUNTS["trainA"]):
        if same == "bytes":
            files[f"testA/other{number}.jpg"] = files[f"trainA/n_{number:05}.jpg"]
        else:
            files[f"testA/n_{number:05}.jpg"] = jpeg(1000 + number)
    path = archive(tmp_path / "x.zip", files)
    know(monkeypatch, path, swapped=swapped, holdout="train" if same == "names" else "test")
    found = find(str(fetch("horse2zebra", heard, from_file=path)), heard)
    assert not (found.path / left_out).exists()
    assert (found.folders.test_a is None, found.folders.test_b is None) == (not swapped, swapped)
    assert any(left_out in text for text in heard.notes)
    stored = store.read(found.path)
    assert stored is not None
    assert left_out in stored.notes[0]


@pytest.mark.parametrize(("a", "b", "paired"), [("_A", "_B", True), ("", "", True), ("-a", "-b", False)])
def test_two_of_a_pair_have_one_name_if_anything_tells_which_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard, a: str, b: str, paired: bool
) -> None:
    files = pictures({"trainA": 2, "trainB": 2, "testA": 3, "testB": 3})
    named = {name.replace(".jpg", f"{a if 'A/' in name else b}.jpg"): data for name, data in files.items()}
    path = archive(tmp_path / "x.zip", named)
    know(monkeypatch, path, paired=True)
    found = find(str(fetch("horse2zebra", heard, from_file=path)), heard)
    assert found.paired == paired
    assert files_in(found.path) == (files if paired else named)
    stored = store.read(found.path)
    assert stored is not None
    assert bool(stored.notes) != paired


def test_two_of_a_pair_get_no_name_that_is_another_s_to_some_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    files = {
        f"{split}/{name}.jpg": jpeg(seed) for split in ("trainA", "trainB") for seed, name in enumerate(("x_A", "X"))
    }
    path = archive(tmp_path / "x.zip", files)
    know(monkeypatch, path, paired=True)
    assert files_in(fetch("horse2zebra", heard, from_file=path)) == files


def test_pictures_of_the_same_names_are_others_unless_somebody_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    path = archive(tmp_path / "x.zip")
    know(monkeypatch, path)
    assert find(str(fetch("horse2zebra", heard, from_file=path)), heard).folders.test_a is not None


@pytest.mark.parametrize("root", ["", "deep/er/", "train/"])
@pytest.mark.parametrize("spelling", ["trainA", "train_A", "train/A", "TrainA"])
def test_sets_are_found_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard, root: str, spelling: str
) -> None:
    files = pictures()
    spelt = {name.replace("train", spelling[:-1]): data for name, data in files.items()}
    path = archive(tmp_path / "x.zip", spelt, root)
    know(monkeypatch, path)
    assert files_in(fetch("horse2zebra", heard, from_file=path)) == files


@pytest.mark.parametrize(
    "files",
    [{}, {"trainA/1.jpg": b"1"}, {"trainA/1.txt": b"1", "trainB/1.txt": b"2"},
     {**pictures(), "copy/trainA/1.jpg": b"1", "copy/trainB/1.jpg": b"2"},
     {**pictures(), "train_A/n_00000.jpg": b"1"}, {**pictures(), "test/B/1.jpg": b"1"}],
)  # fmt: skip
def test_an_archive_of_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard, files: dict[str, bytes], home: Path
) -> None:
    path = archive(tmp_path / "x.zip", files, "")
    know(monkeypatch, path)
    with pytest.raises(ModelError) as caught:
        fetch("horse2zebra", heard, from_file=path)
    assert "x.zip" in caught.value.message
    assert list((home / "data").iterdir()) == []


def test_another_file_than_is_meant_is_refused(packed: Path, heard: Heard, tmp_path: Path) -> None:
    other = archive(tmp_path / "other.zip", {**pictures(), "trainA/more.jpg": b"more"})
    for path in (other, tmp_path / "none.zip", tmp_path):
        with pytest.raises(ModelError, match=path.name):
            fetch("horse2zebra", heard, from_file=path)
    fetch("horse2zebra", heard, from_file=packed)


def test_a_hash_that_nobody_has_stated_is_binding_from_its_first_use_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    path = archive(tmp_path / "x.zip")
    unstated(monkeypatch, path)
    fetch("horse2zebra", heard, from_file=path, to=tmp_path / "to")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in " ".join(heard.notes)
    other = archive(tmp_path / "other.zip", {**pictures(), "trainA/more.jpg": b"more"})
    with pytest.raises(ModelError, match="other"):
        fetch("horse2zebra", heard, from_file=other)
    remove("horse2zebra")
    fetch("horse2zebra", heard, from_file=other)


def test_damage_is_noticed_and_a_fetch_by_force_heals_it(packed: Path, heard: Heard) -> None:
    folder = fetch("horse2zebra", heard, from_file=packed)
    (folder / "trainB" / "n_00000.jpg").unlink()
    assert "trainB" in known("horse2zebra").damage()
    with pytest.raises(ModelError, match="horse2zebra") as caught:
        find("horse2zebra", heard)
    assert "ugatit data rm horse2zebra" in caught.value.hint
    fetch("horse2zebra", heard, from_file=packed, force=True)
    assert find("horse2zebra", heard).path == folder


def test_a_manifest_with_mistakes_is_left_out_where_it_says_nothing_of_what_is_wanted(
    packed: Path, heard: Heard, tmp_path: Path
) -> None:
    folder = fetch("horse2zebra", heard, from_file=packed, to=tmp_path / "to")
    (tmp_path / "manifest.toml").write_text("schema = 2\n[data.mine]\nsource = 1\n")
    assert find(str(folder), heard).domains == ("horse", "zebra")
    assert known("monet2photo").entry is not None
    assert "horse2zebra" in [one.name for one in catalog(heard)]
    assert any("manifest.toml" in text for text in heard.notes)
    with pytest.raises(ModelError, match=r"data\.mine"):
        find("mine", heard)


def test_disk_space_is_asked_for_before_anything_is_written(
    packed: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: (10**9, 10**9 - 100, 100))
        with pytest.raises(StorageError):
            fetch("horse2zebra", heard, from_file=packed)
    assert list((home / "data").iterdir()) == []
    fetch("horse2zebra", heard, from_file=packed)


def test_what_is_removed_is_gone_and_can_be_had_again(packed: Path, heard: Heard) -> None:
    size = known("horse2zebra").size
    assert size == packed.stat().st_size
    fetch("horse2zebra", heard, from_file=packed)
    assert known("horse2zebra").state == "ready"
    assert remove("horse2zebra") == sum(map(len, pictures().values()))
    assert known("horse2zebra").state == "not fetched"
    with pytest.raises(ModelError, match="horse2zebra"):
        remove("horse2zebra")
    fetch("horse2zebra", heard, from_file=packed)


def test_what_no_manifest_knows_any_more_is_still_used(
    packed: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, packed, "mine")
    folder = fetch("mine", heard, from_file=packed)
    monkeypatch.delenv("UGATIT_MANIFEST")
    assert find("mine", heard).path == folder
    assert "mine" in [one.name for one in catalog()]
    with pytest.raises(UsageError):
        fetch("mine", heard, force=True)
    remove("mine")
    with pytest.raises(UsageError):
        known("mine")

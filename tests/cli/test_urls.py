"""`translate` and `cam` with URLs: the same bytes as from folder to folder, and faults that are one picture's."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command, below, encoded, put
from tests.hub_server import HubServer
from tests.s3_server import KEY, SECRET, S3Server
from ugatit_cli.errors import OutputError
from ugatit_cli.remote import places, systems
from ugatit_cli.remote.urls import Url

PICTURES = ("in/a.png", "in/x/b.jpg", "in/x/c.webp")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setattr(systems, "TRIES", 1)
        assert places.look(Url("s3", "pics")).is_folder  # the client takes a while to start
        yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def s3(server: S3Server) -> S3Server:
    server.reset()
    return server


@pytest.fixture
def pictures() -> dict[str, bytes]:
    """Some pictures in a folder."""
    put(*PICTURES)
    Path("in/notes.txt").write_text("no picture", encoding="utf-8")
    return {name: Path("in", name).read_bytes() for name in below("in")}


def contents(folder: str) -> dict[str, bytes]:
    return {name: Path(folder, name).read_bytes() for name in below(folder)}


def test_from_bucket_to_bucket_come_the_same_bytes(
    translate: Command, s3: S3Server, pictures: dict[str, bytes]
) -> None:
    s3.objects |= {f"pics/in/{name}": data for name, data in pictures.items()}
    assert translate("in", "-o", "out").code == 0
    assert translate("s3://pics/in/", "-o", "s3://pics/out").code == 0
    assert s3.below("pics/out/") == contents("out")
    before = len(s3.requests)
    again = translate("s3://pics/in", "-o", "s3://pics/out", "--skip-existing")
    assert "0 translated, 3 skipped" in again.stderr
    assert not [one for one in s3.requests[before:] if one.startswith("PUT")]
    assert translate("s3://pics/in", "-o", "s3://pics/out").code == 2


def test_from_memory_to_an_archive_and_back_come_the_same_bytes(
    translate: Command, pictures: dict[str, bytes]
) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe({f"/in/{name}": data for name, data in pictures.items()})
    assert translate("in", "-o", "out").code == 0
    assert translate("memory://in", "-o", "zip://made.zip").code == 0
    with zipfile.ZipFile("made.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents("out")
    with zipfile.ZipFile("given.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in below("in"):
            archive.write(Path("in", name), name)
    assert translate("zip://given.zip", "-o", "memory://out").code == 0
    assert {path.removeprefix("/out/"): memory.cat_file(path) for path in memory.find("/out")} == contents("out")


def test_an_archive_that_nothing_can_be_added_to_is_an_error_before_any_work(translate: Command) -> None:
    put(*PICTURES)
    with zipfile.ZipFile("locked.zip", "w") as archive:
        archive.writestr("kept.png", b"old")
    data = bytearray(Path("locked.zip").read_bytes())
    data[data.index(b"PK\1\2") + 8] = 1  # a password
    Path("locked.zip").write_bytes(data)
    for out in ("zip://locked.zip", "zip://below::locked.zip"):
        result = translate("in", "-o", out, "--dry-run", "--json")
        assert result.code == OutputError.exit_code
        assert "password" in result.stderr
        assert [one.get("input") for one in result.documents] == [None]


def test_a_data_set_on_the_hub_is_read_as_it_is(translate: Command, hub: HubServer) -> None:
    files = {"test/a.png": encoded(), "test/x/b.png": encoded(size=(16, 16)), "test/readme.md": b"", "c.png": b""}
    hub.add("datasets/me/cats", files)
    assert translate("hf://datasets/me/cats/test", "-o", "out").code == 0
    assert below("out") == ["a.png", "x/b.png"]
    assert translate("hf://datasets/me/cats@main/test/a.png", "-o", "one.png").code == 0
    assert Path("one.png").read_bytes() == Path("out/a.png").read_bytes()
    missing = translate("hf://datasets/me/none/test", "hf://datasets/me/cats/d.png", "-o", "out2")
    assert missing.code == 1
    assert "hf auth login" in missing.errors[0]
    assert "hf://datasets/me/cats/d.png: no such file" in missing.errors[1]


def test_arguments_of_all_kinds_go_together(translate: Command, s3: S3Server) -> None:
    put("a.png", "b.png")
    Path("list.txt").write_text("b.png\ns3://pics/x/d.png\nfoo://x\ns3://pics/none.png\n", encoding="utf-8")
    s3.objects |= {f"pics/{name}": encoded() for name in ("1/c.png", "2/c.png", "2/.h.png", "2/y/e.png", "x/d.png")}
    result = translate("a.png", "s3://pics/*/c.png", "-o", "out", "--files-from", "list.txt", "--json")
    assert below("out") == ["1/c.png", "2/c.png", "a.png", "b.png", "d.png"]
    assert {one["input"] for one in result.documents if one["status"] == "failed"} == {
        "foo://x", "s3://pics/none.png",
    }  # fmt: skip
    assert translate("s3://pics/1", "s3://pics/2", "--base", "s3://pics", "-o", "based").code == 0
    assert below("based") == ["1/c.png", "2/c.png", "2/y/e.png"]


def test_a_single_picture_gets_the_name_that_is_given(translate: Command, s3: S3Server) -> None:
    put("a.png")
    assert translate("a.png", "-o", "s3://pics/x/named.webp").code == 0
    assert list(s3.objects) == ["pics/x/named.webp"]
    assert translate("s3://pics/x/named.webp", "-o", "back.png").code == 0
    assert Path("back.png").is_file()
    mixed = translate("s3://pics/x", "-o", "s3://pics/x")
    assert mixed.code == 2
    assert "would mix" in mixed.errors[0]


def test_update_goes_by_what_the_listing_says(translate: Command, s3: S3Server) -> None:
    s3.objects |= {"pics/in/old.png": encoded(), "pics/in/new.png": encoded()}
    assert translate("s3://pics/in", "-o", "s3://pics/out").code == 0
    s3.changed |= {"pics/in/new.png": 1_000_000_100.0}
    before = len(s3.requests)
    assert translate("s3://pics/in", "-o", "s3://pics/out", "--update").code == 0
    assert [one for one in s3.requests[before:] if one.startswith("PUT")] == ["PUT pics/out/new.png"]


def test_a_connection_that_breaks_is_one_picture_s_fault(translate: Command, s3: S3Server) -> None:
    s3.objects |= {f"pics/in/{name}.png": encoded() for name in "abc"}
    s3.breaks = {"pics/in/b.png", "pics/out/c.png"}
    result = translate("s3://pics/in", "-o", "s3://pics/out")
    assert result.code == 1
    assert list(s3.below("pics/out/")) == ["a.png"]
    for name in ("s3://pics/in/b.png: ", "s3://pics/out/c.png: can't be written"):
        assert name in "\n".join(result.errors)
    s3.breaks = set()
    assert translate("s3://pics/in", "-o", "s3://pics/out", "--skip-existing").code == 0
    assert sorted(s3.below("pics/out/")) == ["a.png", "b.png", "c.png"]


def test_an_upload_of_several_files_that_breaks_leaves_none(cam: Command, s3: S3Server) -> None:
    put("a.png")
    s3.breaks = {"pics/out/a.local.npy"}
    result = cam("a.png", "-o", "s3://pics/out", "--layout", "raw", "--maps", "generator,local")
    assert result.code == 1
    assert s3.objects == {}
    s3.breaks = set()
    assert cam("a.png", "-o", "s3://pics/out", "--layout", "raw", "--maps", "generator,local").code == 0
    assert sorted(s3.below("pics/out/")) == ["a.generator.npy", "a.json", "a.local.npy"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["s3://none/in", "-o", "out"], "s3://none/in: no such bucket"),
        (["in", "-o", "s3://none/out"], "s3://none/out: no such bucket"),
        (["in", "-o", "s3://none/out", "--overwrite"], "can't be written (no such bucket"),
        (["s3://locked/in", "-o", "out"], "s3://locked/in: access denied"),
        (["in", "-o", "s3://locked/out"], "s3://locked/out: access denied"),
        (["s3://pics/none", "-o", "out"], "s3://pics/none: no such file"),
        (["s3://pics/*.gif", "-o", "out"], "s3://pics/*.gif: no file matches"),
        (["in", "-o", "https://host/out"], "nothing can be written"),
    ],
)
def test_what_is_not_there_or_not_for_you_is_one_clear_error(
    translate: Command, s3: S3Server, arguments: list[str], said: str
) -> None:
    put("in/a.png")
    s3.buckets |= {"locked"}
    s3.denied = {"locked"}
    result = translate(*arguments)
    assert result.code in (1, 2)
    assert said in "\n".join(result.errors)
    assert SECRET not in "\n".join(result.errors)
    assert s3.objects == {}


def test_without_credentials_or_a_server_the_way_out_is_said(
    translate: Command, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    s3.objects |= {"pics/a.png": encoded()}
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    assert "AWS_PROFILE" in "\n".join(translate("s3://pics/a.png", "-o", "out").errors)
    S3FileSystem.clear_instance_cache()


def test_names_and_contents_from_strangers_stay_in_their_place(translate: Command) -> None:
    Path("w").mkdir()
    with zipfile.ZipFile("w/evil.zip", "w") as archive:
        for name in ("../up.png", "x/../../up.png", "/abs.png", "good.png", "n\new.png"):
            archive.writestr(name, encoded())
        archive.writestr("large.png", encoded(size=(200, 200)))
    result = translate("zip://w/evil.zip", "-o", "w/out", "--max-pixels", "2000")
    assert result.code == 1
    assert below("w/out") == ["good.png"]
    assert sorted(path.name for path in Path("w").iterdir()) == ["evil.zip", "out"]
    assert "large.png::w/evil.zip: 0.0 megapixels" in "\n".join(result.errors)


def test_a_picture_whose_length_is_not_told_is_read_to_its_end(translate: Command, s3: S3Server) -> None:
    s3.told = False
    s3.objects |= {"pics/large.png": encoded(size=(800, 800))}  # more than arrives at once
    assert translate(f"{s3.url}/pics/large.png", "-o", "out").code == 0
    over = translate(f"{s3.url}/pics/large.png", "-o", "out2", "--max-pixels", "1000")
    assert "megapixels" in over.errors[0]


@pytest.mark.parametrize("kind", ["web", "zip"])
def test_a_listed_name_from_below_a_base_stays_in_out_too(translate: Command, s3: S3Server, kind: str) -> None:
    s3.objects |= {"pics/my dir/a b.png": encoded(), "pics/a/../../../up.png": encoded()}
    names = ["my%20dir/a%20b.png", "a/../../../up.png", "a/%2e%2e/%2E%2E/up.png", "a/..%2f../up.png", "%2fup.png"]
    start, end = (f"{s3.url}/pics/", "") if kind == "web" else ("zip://", "::evil.zip")
    if kind == "zip":
        names = ["my dir/a b.png", "../up.png", "a/../../up.png"]
        with zipfile.ZipFile("evil.zip", "w") as archive:
            for name in names:
                archive.writestr(name, encoded())
    Path("list.txt").write_text("\n".join(start + name + end for name in names), encoding="utf-8")
    base = start if kind == "web" else "zip://evil.zip"
    result = translate("--files-from", "list.txt", "--base", base, "-o", "w/er/out")
    assert result.code == 1
    assert below("w") == ["er/out/my dir/a b.png"]
    assert "\n".join(result.errors).count("would lead elsewhere") == len(names) - 1


def test_a_signed_address_is_read_and_its_signature_never_told(translate: Command, s3: S3Server) -> None:
    s3.objects |= {"pics/my cat.png": encoded()}
    url = f"{s3.url}/pics/my%20cat.png?X-Amz-Signature=hushhush"
    result = translate(url, f"{s3.url}/pics/none.png?sig=hushhush", "-o", "out", "--json", "--report", "page.html")
    assert result.code == 1
    assert below("out") == ["my cat.png"]
    told = json.dumps(result.documents) + result.stderr + Path("page.html").read_text(encoding="utf-8")
    assert "hushhush" not in told
    assert "my%20cat.png?***" in told
    assert "none.png?***: no such file" in told
    s3.denied = {"pics"}
    assert "access denied" in translate(url, "-o", "again").errors[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "s3://pics/a", "s3://pics/b", "-o", "run"),
        ("train", "--domain-a", "s3://pics/a", "--domain-b", "b", "-o", "run"),
        ("evaluate", "--domain-a", "s3://pics/a", "--domain-b", "b"),
        ("translate", "a.png", "-o", "out", "--report", "s3://pics/page.html"),
        ("translate", "a.png", "-o", "out", "--files-from", "s3://pics/list.txt"),
        ("translate", "a.png", "-o", "out", "--mask", "s3://pics/mask.png"),
        ("data", "crop-faces", "hf://me/photos", "faces"),
    ],
)
def test_where_only_files_here_do_a_url_is_refused(ugatit: Command, arguments: tuple[str, ...]) -> None:
    put("a.png")
    result = ugatit(*arguments)
    assert result.code == 2
    assert "is elsewhere" in result.errors[0]
    assert "://" in result.errors[0]
    assert "Copy it first" in result.stderr
    assert below(".") == ["a.png"]

"""Files at an address: whole and right, or one message and nothing; what has arrived of one is gone on with."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hub_client import NAME, REPO, WEIGHTS, Notes, environment, refused
from tests.hub_server import Fault
from tests.remote.test_transfer import files_of_at_most
from tests.web_server import QUOTA, WebServer
from ugatit_cli import files
from ugatit_cli.errors import FetchError, StorageError, UsageError
from ugatit_cli.remote import hub_download
from ugatit_cli.remote import web as web_module
from ugatit_cli.remote.hub import HubId, endpoint
from ugatit_cli.remote.records import FileRecord, Mismatch
from ugatit_cli.remote.web import WebFile, kaggle, obtain, throw_away

URL: Final = "https://example.org/pub/horse2zebra.zip"
STORAGE: Final = "https://storage.example.net/o/17"
DATA: Final = random.Random(1).randbytes(50_000) * 6
OTHER: Final = random.Random(2).randbytes(50_000) * 6
HALF: Final = 150_000
KNOWN: Final = FileRecord(len(DATA), hashlib.sha256(DATA).hexdigest())
SECRET: Final = "c2VjcmV0"
FILE: Final = WebFile(URL, ("*.example.net",), {"Authorization": f"Basic {SECRET}"}, "Log in.")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "horse2zebra.zip"


def left(target: Path) -> set[str]:
    """What lies beside it, but for the lock."""
    return {path.name for path in target.parent.glob("*")} - {f".{target.name}.lock"}


def arrives(target: Path, known: FileRecord | None = KNOWN, file: WebFile = FILE, data: bytes = DATA) -> Notes:
    """Obtains the file; nothing else is left then."""
    notes = Notes()
    stamp = obtain(file, target, known, notes)
    assert (stamp.size, stamp.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert target.read_bytes() == data
    assert stamp.mtime_ns == target.stat().st_mtime_ns
    assert left(target) == {target.name}
    assert len(notes.begun) == notes.ended <= 1
    return notes


def fails(target: Path, known: FileRecord | None = KNOWN, file: WebFile = FILE) -> FetchError:
    """The error that a call ends with, in which there is no secret; there is no file then."""
    notes = Notes()
    error = refused(lambda: obtain(file, target, known, notes), SECRET, "token=")
    assert isinstance(error, FetchError)
    assert error.exit_code == 3
    assert "example.org" in error.message
    assert SECRET not in "".join(notes.notes)
    assert len(notes.begun) == notes.ended <= 1
    assert not target.exists()
    return error


def sent(web: WebServer) -> int:
    """Bytes of files that came since the last call of this."""
    count = sum(one.sent for one in web.requests if one.file)
    web.requests.clear()
    return count


def test_a_file_is_obtained_once(web: WebServer, target: Path) -> None:
    web.put(URL, DATA)
    notes = arrives(target)
    assert notes.begun == [(target.name, len(DATA), 0)]
    assert (notes.received, notes.notes) == (len(DATA), [])
    assert web.requests[0].headers["authorization"] == f"Basic {SECRET}"
    assert not arrives(target).begun
    assert len(web.requests) == 1
    obtain(FILE, target, KNOWN, Notes(), force=True)
    assert sent(web) == 2 * len(DATA)
    assert throw_away(target) == len(DATA)
    assert throw_away(target) == 0
    assert not list(target.parent.iterdir())


def test_a_damaged_file_is_obtained_again(web: WebServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.put(URL, DATA)
    arrives(target)
    target.write_bytes(DATA[:-1])
    with monkeypatch.context() as patch:
        patch.setenv("UGATIT_OFFLINE", "1")
        error = refused(lambda: obtain(FILE, target, KNOWN, Notes()))
        assert str(target) in error.message
        assert "UGATIT_OFFLINE" in error.hint
    (note,) = arrives(target).notes
    assert str(target) in note
    assert sent(web) == 2 * len(DATA)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "UGATIT_OFFLINE"])
def test_offline(web: WebServer, target: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    web.put(URL, DATA)
    with monkeypatch.context() as patch:
        patch.setenv(variable, "1")
        patch.setattr(constants, "HF_HUB_OFFLINE", variable.startswith("HF"))
        assert variable in fails(target).message
        assert hub_download.locate(HubId(REPO), NAME, Notes()) is None
        assert web.requests == []
    arrives(target)
    monkeypatch.setenv(variable, "1")
    arrives(target)


# --- What can go wrong ---------------------------------------------------------------------------------


@dataclass
class Trouble:
    """Something that is at the address in place of the file, or happens to it; and what the message says."""

    happens: Callable[[WebServer], object]
    said: str
    error: type[FetchError] = FetchError
    kept: int = 0


def page(status: int, data: bytes = QUOTA) -> Callable[[WebServer], object]:
    return lambda web: web.put(URL, data, status=status, type="text/html; charset=utf-8")


def fault(fault: Fault) -> Callable[[WebServer], object]:
    return lambda web: web.fault(replace(fault, file=".zip"))


def leads_to(location: str) -> Callable[[WebServer], object]:
    return lambda web: web.redirect(URL, location)


TROUBLES: Final = {
    "no such host": Trouble(lambda web: setattr(web, "reaches", lambda _: False), "connection"),
    "not found": Trouble(page(404), "404"),
    "gone": Trouble(page(410), "410"),
    "forbidden": Trouble(page(403), "Quota exceeded"),
    "forbidden, in short": Trouble(fault(Fault("status", status=403)), "403"),
    "unauthorized": Trouble(page(401), "401"),
    "quota": Trouble(page(200), "Quota exceeded"),
    "a page without a title": Trouble(page(200, b"<html>Hello"), "page"),
    "a page without end": Trouble(page(200, b"<html>" * 5_000_000), "page"),
    "a title that a terminal obeys": Trouble(page(200, b"<title>\x1b[31m&#27;[2J\xe2\x80\xae</title>"), r"\\x1b"),
    "busy": Trouble(fault(Fault("status", status=503)), "503"),
    "too many": Trouble(fault(Fault("status", status=429, retry_after=3600)), "429"),
    "another redirect": Trouble(page(300), "300"),
    "nothing": Trouble(page(204, b""), "204"),
    "a foreign host": Trouble(leads_to("https://evil.example.com/o?token=1"), "evil.example.com"),
    "a host like an allowed one": Trouble(leads_to("https://example.net.evil.com/o"), "evil"),
    "a name in front of a host": Trouble(leads_to("https://storage.example.net@evil.com/o"), "evil.com"),
    "an allowed host, with a name": Trouble(leads_to("https://me:pw@storage.example.net/o"), "storage.example.net"),
    "no encryption": Trouble(leads_to("http://storage.example.net/o"), "without encryption"),
    "no encryption at home": Trouble(leads_to("http://example.org/pub/o"), "without encryption"),
    "no web": Trouble(leads_to("file:///etc/passwd"), "no address"),
    "a redirect to nowhere": Trouble(leads_to("https://[bad/"), "example.org"),
    "a redirect without a place": Trouble(page(302, b""), "302"),
    "a loop": Trouble(leads_to(URL), "redirects"),
    "cut at once": Trouble(fault(Fault("cut")), "connection"),
    "cut at half": Trouble(fault(Fault("cut", after=40_000)), "connection", kept=120_000),
    "stalls": Trouble(fault(Fault("stall", after=40_000)), "answer", kept=120_000),
    "drips": Trouble(fault(Fault("drip", after=HALF, delay=0.05)), "per second", kept=HALF),
    "too short": Trouble(fault(Fault("short", after=HALF)), f"{len(DATA):,}", Mismatch),
    "another file": Trouble(lambda web: web.put(URL, OTHER), KNOWN.sha256, Mismatch),
    "a longer file": Trouble(lambda web: web.put(URL, DATA + b"x"), f"{len(DATA):,}", Mismatch),
    "longer than told": Trouble(lambda web: web.put(URL, DATA + b"x", told=False), f"{len(DATA):,}"),
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_and_the_call_after_it(web: WebServer, target: Path, name: str) -> None:
    trouble = TROUBLES[name]
    web.put(URL, DATA)
    web.put("https://evil.example.com/o", DATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "pages", dict(web.pages))
        patch.setattr(web, "reaches", web.reaches)
        trouble.happens(web)
        error = fails(target)
    assert isinstance(error, trouble.error)
    assert error.hint
    assert trouble.said.lower() in (error.message + error.hint).lower()
    assert len(web.requests) <= 12
    assert not web.asked("evil.example.com")
    part = target.with_name(f".{target.name}.part")
    kept = part.stat().st_size if part.exists() else 0
    assert kept >= trouble.kept
    assert left(target) == ({part.name, f"{part.name}.json"} if kept else set())
    web.heal()
    sent(web)
    arrives(target)
    assert sent(web) == len(DATA) - kept


@pytest.mark.parametrize("name", ["cut at half", "stalls", "drips", "busy", "cut at once"])
def test_trouble_that_passes(web: WebServer, target: Path, name: str) -> None:
    web.put(URL, DATA)
    trouble = TROUBLES[name].happens(web)
    assert isinstance(trouble, Fault)
    trouble.times = 1
    assert arrives(target).notes
    assert sent(web) <= len(DATA) + 1


def test_an_address_that_is_none(target: Path, web: WebServer) -> None:
    for url in ("ftp://example.org/x", "https:///example.org", "https://me:secret@example.org/x"):
        refused(lambda url=url: obtain(WebFile(url), target, None, Notes()), "secret")  # type: ignore[misc]
    assert web.requests == []


# --- Redirects -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/elsewhere/17", STORAGE, "//storage.example.net/o/17", f"{STORAGE}?token=xyz"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(web: WebServer, target: Path, where: str, status: int) -> None:
    web.redirect(URL, "step", status)
    web.redirect("https://example.org/pub/step", where, status)
    web.put("https://example.org/elsewhere/17", DATA)
    web.put(STORAGE, DATA)
    arrives(target)
    with_token = [one.headers["host"] for one in web.requests if "authorization" in one.headers]
    assert with_token == ["example.org"] * (3 if where.startswith("/e") else 2)
    assert len(web.requests) == 3


HOSTS: Final = ("example.org", "storage.example.net", "evil.com", "example.net.evil.com", "[::1]", "example.org.", "")
PLACES: Final = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "https:", "http:", "HTTPS:", "ftp:", "file:", "//", "\t"]),
        st.sampled_from(["", "/", "//", "///", "\\\\"]),
        st.sampled_from(["", "me:pw@", "storage.example.net@", "evil.com:80@"]),
        st.sampled_from(HOSTS),
        st.sampled_from(["", ":", ":443", ":0", ":x", "#", "?", "/.."]),
        st.text("/@:?#.%[]\\ e1", max_size=4),
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(PLACES)
def test_no_redirect_leads_astray(web: WebServer, target: Path, place: str) -> None:
    web.redirect(URL, place)
    assert "example.org" in fails(target).message
    asked = {(one.headers["host"], one.headers.get("authorization")) for one in web.requests}
    assert {host.partition(":")[0] for host, _ in asked} <= {"example.org", "storage.example.net"}
    assert not [host for host, token in asked if token and host != "example.org"]
    web.requests.clear()


def test_without_encryption(web: WebServer, target: Path) -> None:
    url = URL.replace("https", "http")
    web.put(url, DATA)
    (note,) = arrives(target, file=replace(FILE, url=url)).notes
    assert "without encryption" in note
    throw_away(target)
    web.redirect(url, STORAGE)
    web.put(STORAGE, DATA)
    arrives(target, file=replace(FILE, url=url))


# --- Going on ------------------------------------------------------------------------------------------


def broken_off(target: Path, known: FileRecord | None = KNOWN) -> int:
    """A call that Ctrl-C ends at about half; how much has arrived."""

    class Impatient(Notes):
        def advance(self, count: int) -> None:
            super().advance(count)
            if self.received >= HALF:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain(FILE, target, known, Impatient())
    assert not target.exists()
    part = target.with_name(f".{target.name}.part")
    assert any(data.startswith(part.read_bytes()) for data in (DATA, OTHER))
    return part.stat().st_size


ETAG: Final = {"etag": '"v1"'}
WEAK: Final = {"etag": 'W/"v1"'}
DATE: Final = {"etag": "", "modified": "Sat, 28 Nov 2026 10:00:00 GMT"}
ODD: Final = {"etag": '"\xe9"'}
NONE: Final = {"etag": ""}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("known", [KNOWN, None])
@pytest.mark.parametrize("version", [ETAG, WEAK, DATE, WEAK | {"modified": DATE["modified"]}, ODD, NONE])
def test_what_has_arrived_is_gone_on_with(
    web: WebServer, target: Path, version: dict[str, str], known: FileRecord | None, told: bool
) -> None:
    web.put(URL, DATA, told=told, **version)
    kept = broken_off(target, known)
    sent(web)
    notes = arrives(target, known)
    sure = known is not None or (told and version not in (WEAK, ODD, NONE))
    assert sent(web) == len(DATA) - (kept if sure else 0)
    assert notes.received == len(DATA) - (kept if sure else 0)


@pytest.mark.parametrize("heeded", [True, False])
@pytest.mark.parametrize("size", [len(DATA), len(DATA) - 50_000, HALF // 2])
@pytest.mark.parametrize("version", [ETAG, DATE, WEAK | DATE, NONE])
def test_parts_of_two_versions_never_mix(
    web: WebServer, target: Path, version: dict[str, str], size: int, heeded: bool
) -> None:
    web.put(URL, DATA, **version)
    broken_off(target, None)
    newer = {name: text.replace("1", "2") for name, text in version.items()}
    web.put(URL, OTHER[:size], conditions=heeded, **newer)
    arrives(target, None, data=OTHER[:size])


def test_a_part_of_another_file_is_found_out_by_its_hash(web: WebServer, target: Path) -> None:
    web.put(URL, OTHER, etag='"lies"')
    broken_off(target)
    web.put(URL, DATA, etag='"lies"')
    assert isinstance(fails(target), Mismatch)
    assert left(target) == set()
    arrives(target)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"etag": 1}', '{"more": 1}', '{"size": "1"}', '{"etag": "\\n"}'])
def test_a_note_of_the_version_that_is_damaged(web: WebServer, target: Path, text: str) -> None:
    web.put(URL, DATA)
    broken_off(target, None)
    target.with_name(f".{target.name}.part.json").write_text(text)
    arrives(target, None)


def test_another_address_is_another_file(web: WebServer, target: Path) -> None:
    web.put(URL, DATA, etag='"1"')
    web.put(STORAGE, OTHER, etag='"1"')
    broken_off(target, None)
    arrives(target, None, WebFile(STORAGE), OTHER)


def test_a_server_that_packs_what_it_sends(web: WebServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    from tests.hub_api import Answer, Call
    from tests.hub_client import altered

    def packed(call: Call, answer: Answer) -> Answer:
        assert call.headers["accept-encoding"] == "identity"
        data, headers = gzip.compress(answer.data), {**answer.headers, "Content-Encoding": "gzip"}
        return replace(answer, data=data, headers=headers)

    monkeypatch.setattr(web_module, "LARGEST_UNTOLD", len(DATA))
    web.put(URL, DATA)
    with altered(web, packed):
        broken_off(target, None)
        arrives(target, None)
        throw_away(target)
        arrives(target, KNOWN)
        throw_away(target)
        monkeypatch.setattr(web_module, "LARGEST_UNTOLD", len(DATA) - 1)
        refused = fails(target, None).message
        assert "longer" in refused
        assert "should" not in refused  # nobody has said so
        monkeypatch.setattr(web_module, "LARGEST_UNTOLD", 1 << 34)
        web.put(URL, bytes(3_000_000))
        assert "100 times" in fails(target, None).message  # more than any real file that is packed so well
        assert [path for path in target.parent.iterdir() if path.stat().st_size > 1_000] == []


@pytest.mark.parametrize("told", [True, False])
def test_an_empty_file_is_none(web: WebServer, target: Path, told: bool) -> None:
    web.put(URL, b"", told=told)
    assert "empty" in fails(target, None).message
    assert left(target) == set()


def test_two_at_once(web: WebServer, target: Path) -> None:
    web.put(URL, DATA)
    with ThreadPoolExecutor(4) as pool:
        stamps = set(pool.map(lambda _: obtain(FILE, target, KNOWN, Notes()), range(4)))
    assert len(stamps) == 1
    assert sent(web) == len(DATA)


# --- The disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [KNOWN, None])
def test_little_space(
    web: WebServer, target: Path, monkeypatch: pytest.MonkeyPatch, known: FileRecord | None
) -> None:
    web.put(URL, DATA)
    usage = shutil.disk_usage(target.parents[1])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(DATA) - 1))
        with pytest.raises(StorageError) as caught:
            obtain(FILE, target, known, Notes())
    assert str(target.parent) in caught.value.message
    assert sent(web) == 0
    arrives(target, known)


def test_the_disk_fills_up(web: WebServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.put(URL, DATA)
    monkeypatch.setattr(files, "DISK_FULL", files.DISK_FULL | {errno.EFBIG})
    with files_of_at_most(HALF), pytest.raises(StorageError):
        obtain(FILE, target, None, Notes())
    assert not target.exists()
    sent(web)
    arrives(target, None)
    assert sent(web) == len(DATA) - HALF


# --- Mirrors -------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Nothing else is reached."""
    monkeypatch.setenv("UGATIT_MIRROR", "http://127.0.0.1/")
    monkeypatch.setattr(web, "reaches", lambda host: host == "127.0.0.1")
    return "http://127.0.0.1"


@pytest.mark.parametrize("where", ["/elsewhere/17", STORAGE, "http://127.0.0.1/storage.example.net/o/17"])
def test_a_mirror_is_asked_for_everything(web: WebServer, target: Path, mirror: str, where: str) -> None:
    assert mirror
    web.redirect(URL, where)
    web.put("https://example.org/elsewhere/17", DATA)
    web.put(STORAGE, DATA)
    arrives(target)
    assert web.requests[0].path == "/example.org/pub/horse2zebra.zip"
    assert len(web.requests) == 2
    assert not [one for one in web.requests if "authorization" in one.headers]


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("where", ["https://evil.example.com/", "http://127.0.0.1/evil.example.com/"])
def test_redirects_in_a_mirror_are_those_of_the_servers(web: WebServer, target: Path, where: str) -> None:
    web.redirect(URL, where)
    assert "evil.example.com" in fails(target).message
    assert len(web.requests) == 1


@pytest.mark.usefixtures("mirror")
def test_what_is_never_from_a_mirror(web: WebServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.put(URL, DATA)
    assert "connection" in fails(target, file=replace(FILE, direct=True)).message
    monkeypatch.setattr(web, "reaches", lambda host: host == "example.org")
    arrives(target, file=replace(FILE, direct=True))
    assert web.requests[-1].headers["authorization"]


@pytest.mark.parametrize("value", ["mirror", "ftp://mirror", "http://", "http://a b", "http://x/?token=secret"])
@pytest.mark.usefixtures("web")
def test_a_mirror_that_is_no_address(target: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("UGATIT_MIRROR", value)
    for call in (endpoint, lambda: obtain(FILE, target, KNOWN, Notes())):
        with pytest.raises(UsageError) as caught:
            call()
        assert "UGATIT_MIRROR" in caught.value.message
        assert "secret" not in caught.value.message


@pytest.mark.usefixtures("mirror")
def test_the_hub_in_a_mirror(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    web.add(REPO, {NAME: WEIGHTS})
    monkeypatch.setenv("HF_TOKEN", web.token)
    wanted = hub_download.locate(HubId(REPO), NAME, Notes())
    assert wanted is not None
    assert wanted in hub_download.listing(HubId(REPO), Notes())
    hub_download.obtain(wanted, None, Notes())
    assert hub_download.pointer_path(wanted).read_bytes() == WEIGHTS
    assert {one.path.split("/")[1] for one in web.requests} == {"huggingface.co", "cdn-lfs.huggingface.co"}
    assert not [one for one in web.requests if "authorization" in one.headers]
    monkeypatch.setenv("HF_ENDPOINT", endpoint())
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example.org")
    assert endpoint() == "https://hub.example.org"


@pytest.mark.parametrize(
    "name", ["not found", "forbidden", "quota", "a foreign host", "cut at half", "longer than told"]
)
def test_over_sockets(web: WebServer, target: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("UGATIT_MIRROR", web.serve())
    huggingface_hub.set_client_factory(_http.default_client_factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "pages", dict(web.pages))
        web.put(URL, DATA)
        TROUBLES[name].happens(web)
        assert TROUBLES[name].said in fails(target).message
    web.heal()
    web.redirect(URL, STORAGE)
    web.put(STORAGE, DATA, told=False)
    arrives(target)


# --- As programs ---------------------------------------------------------------------------------------

PROGRAM: Final = f"""
import sys
from pathlib import Path
from tests.hub_client import Notes
from ugatit_cli.remote.web import WebFile, obtain

class Aloud(Notes):
    def advance(self, count):
        print("some", flush=True)

obtain(WebFile("{URL}"), Path(sys.argv[1]), None, Aloud())
"""


@contextmanager
def program(web: WebServer, target: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that obtains the file from a mirror on loopback."""
    root, command = Path(__file__).parents[2], [sys.executable, "-c", PROGRAM, str(target)]
    variables = environment("", target.parents[1], UGATIT_MIRROR=web.serve())
    del variables["HF_ENDPOINT"]
    process = subprocess.Popen(command, cwd=root, env=variables, text=True, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_killed_at_half(web: WebServer, target: Path) -> None:
    web.put(URL, DATA)
    stall = web.fault(Fault("stall", ".zip", after=HALF))
    with program(web, target) as process:
        assert process.stdout is not None
        part = target.with_name(f".{target.name}.part")
        while process.stdout.readline() and part.stat().st_size < HALF:
            pass
        process.send_signal(signal.SIGKILL)
    assert stall.hits == 1
    web.heal()
    sent(web)
    arrives(target, None, WebFile(URL))
    assert sent(web) == len(DATA) - HALF


# --- Kaggle --------------------------------------------------------------------------------------------

KAGGLE: Final = "https://www.kaggle.com/api/v1/datasets/download/owner/name"
GOOGLE: Final = "https://storage.googleapis.com/kaggle-data-sets/1/2.zip"


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder without a token."""
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me" / ".kaggle").mkdir(parents=True)
    return tmp_path / "me" / ".kaggle" / "kaggle.json"


@pytest.mark.parametrize("how", ["none", "variables", "file", "folder"])
def test_kaggle(web: WebServer, target: Path, no_token: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    token = json.dumps({"username": "me", "key": "k3y"})
    if how == "variables":
        monkeypatch.setenv("KAGGLE_USERNAME", "me")
        monkeypatch.setenv("KAGGLE_KEY", "k3y")
    elif how == "file":
        no_token.write_text(token)
    elif how == "folder":
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(target.parents[1]))
        (target.parents[1] / "kaggle.json").write_text(token)
    web.redirect(KAGGLE, f"{GOOGLE}?X-Goog-Signature=abc")
    web.put(GOOGLE, DATA)
    arrives(target, None, kaggle("owner/name"))
    first, second = web.requests
    assert first.headers.get("authorization") == (None if how == "none" else "Basic bWU6azN5")
    assert "authorization" not in second.headers
    assert "k3y" not in repr(kaggle("owner/name"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"username": "me"}', "null"])
def test_a_damaged_token_of_kaggle(no_token: Path, text: str) -> None:
    no_token.write_text(text)
    with pytest.raises(FetchError, match=r"kaggle\.json"):
        kaggle("owner/name")


@pytest.mark.usefixtures("no_token")
def test_kaggle_that_wants_a_token(web: WebServer, target: Path) -> None:
    web.put(KAGGLE, b'{"code": 403}', status=403, type="application/json")
    error = refused(lambda: obtain(kaggle("owner/name"), target, None, Notes()))
    assert "403" in error.message
    assert "kaggle.json" in error.hint

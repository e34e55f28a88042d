"""What a Hub answers: repositories in memory, and the routes that `huggingface_hub` asks for downloads and uploads.

No request can reach a file of this machine.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

LFS: Final = ("*.safetensors", "*.data-*", "*.parquet")
USER: Final = "tester"
BAD_TOKEN: Final = "Invalid credentials in Authorization header"
NO_ACCESS: Final = "Access to this model is restricted. You must have access to it and be authenticated to access it."
NO_USER: Final = "Invalid username or password."


@dataclass
class Call:
    """A request: method, path with query, header names in lower case, body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def url(self) -> str:
        """The Hub's address, as this request has it."""
        return f"http://{self.headers['host']}"

    @property
    def cdn(self) -> str:
        """Where files in LFS come from and go to: another origin."""
        return self.url.replace("127.0.0.1", "localhost")


@dataclass
class Answer:
    """What to send; `etag` says that parts of it can be asked for, `file` is set if it is a file's content."""

    data: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    file: str = ""


def as_json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


def refusal(status: int, message: str, code: str = "", commit: str = "") -> Answer:
    """An error as the Hub words it."""
    answer = as_json({"error": message}, status)
    told = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
    answer.headers |= {name: text for name, text in told.items() if text}
    return answer


class _Refused(Exception):
    def __init__(self, *arguments: Any) -> None:
        self.answer = refusal(*arguments)


@dataclass(frozen=True)
class _File:
    data: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def blob(self) -> str:
        """Git's id of the content; the real Hub tells that of a pointer for files in LFS."""
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


@dataclass
class _Repository:
    history: dict[str, dict[str, _File]] = field(default_factory=dict)  # by commit, newest last

    @property
    def head(self) -> str:
        return next(reversed(self.history))

    def commit(self, files: dict[str, _File]) -> str:
        """A commit on main that holds these files and no others."""
        tree = [[name, file.blob] for name, file in sorted(files.items())]
        commit = hashlib.sha1(json.dumps([list(self.history), tree]).encode()).hexdigest()
        self.history[commit] = files
        return commit


def _is_lfs(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in LFS)


class HubApi:
    """The state of the Hub, for tests to fill and look at.

    Attributes:
        private, gated: repositories that are refused to whoever doesn't send `token`.
        token: the only one that is valid; it may read and write everything.
    """

    def __init__(self) -> None:
        self.token = "hf_" + secrets.token_hex(17)
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self._signature = secrets.token_hex(16)
        self._storage: dict[str, bytes] = {}
        self._repositories: dict[str, _Repository] = {}
        self._lock = threading.RLock()

    def add(self, repo_id: str, files: Mapping[str, bytes] | Path) -> str:
        """Commits these files to main, beside those that are there; makes the repository if need be.

        Returns:
            The commit, 40 hex digits.
        """
        if isinstance(files, Path):
            root = files
            files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        with self._lock:
            repository = self._repositories.setdefault(repo_id, _Repository())
            new = {name: _File(data, _is_lfs(name)) for name, data in files.items()}
            self._storage |= {file.sha256: file.data for file in new.values() if file.lfs}
            old = repository.history[repository.head] if repository.history else {}
            return repository.commit(old | new)

    def commits(self, repo_id: str) -> list[str]:
        """All commits, newest last."""
        return list(self._repositories[repo_id].history)

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Content by name."""
        repository = self._repositories[repo_id]
        files = repository.history[repository.head if revision == "main" else revision]
        return {name: file.data for name, file in files.items()}

    def answer(self, call: Call) -> Answer:
        """What the Hub says to this."""
        method = "GET" if call.method == "HEAD" else call.method
        try:
            for verb, pattern, function in ROUTES:
                if verb == method and (match := re.fullmatch(pattern, urlsplit(call.path).path)):
                    names = {key: unquote(value) for key, value in match.groupdict().items() if value}
                    return function(self, call, **names)
        except _Refused as refused:
            return refused.answer
        return refusal(404, "Sorry, we can't find the page you are looking for.")

    def _known(self, call: Call, *, writes: bool = False) -> bool:
        """Whether the request bears the token."""
        sent = call.headers.get("authorization")
        if sent not in (None, f"Bearer {self.token}"):
            raise _Refused(401, BAD_TOKEN)
        if writes and sent is None:
            raise _Refused(401, NO_USER)
        return sent is not None

    def _repository(self, call: Call, repo: str, *, writes: bool = False) -> _Repository:
        known = self._known(call, writes=writes)
        if repo not in self._repositories or (repo in self.private and not known):
            status, message = (404, "Repository not found") if known else (401, NO_USER)
            raise _Refused(status, message, "RepoNotFound")
        return self._repositories[repo]

    def _commit(self, call: Call, repo: str, rev: str, *, writes: bool = False) -> tuple[str, dict[str, _File]]:
        repository = self._repository(call, repo, writes=writes)
        commit = repository.head if rev == "main" else rev
        if commit not in repository.history:
            raise _Refused(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return commit, repository.history[commit]

    def resolve(self, call: Call, repo: str, rev: str, name: str) -> Answer:
        commit, files = self._commit(call, repo, rev)
        if repo in self.gated and not self._known(call):
            raise _Refused(401, NO_ACCESS, "GatedRepo", commit)
        if name not in files:
            raise _Refused(404, "Entry not found", "EntryNotFound", commit)
        file = files[name]
        headers = {"X-Repo-Commit": commit}
        if not file.lfs:
            return Answer(file.data, headers=headers, etag=f'"{file.blob}"', file=name)
        headers |= {"ETag": f'"{file.sha256}"', "X-Linked-Etag": f'"{file.sha256}"'}
        headers["X-Linked-Size"] = str(len(file.data))
        headers["Location"] = f"{call.cdn}/cdn/{file.sha256}/{quote(name)}?signature={self._signature}"
        return Answer(status=302, headers=headers)

    def _check_signature(self, call: Call) -> None:
        if not call.path.endswith(f"?signature={self._signature}"):
            raise _Refused(403, "Access denied")

    def from_cdn(self, call: Call, oid: str, name: str) -> Answer:
        self._check_signature(call)
        return Answer(self._storage[oid], etag=f'"{oid}"', file=name)

    def to_cdn(self, call: Call, oid: str) -> Answer:
        self._check_signature(call)
        self._storage[oid] = call.body
        return as_json({})

    def info(self, call: Call, repo: str, rev: str = "main") -> Answer:
        commit, files = self._commit(call, repo, rev)
        siblings = [{"rfilename": name, "blobId": file.blob, "size": len(file.data)} for name, file in files.items()]
        for sibling, file in zip(siblings, files.values(), strict=True):
            if file.lfs:
                sibling["lfs"] = {"sha256": file.sha256, "size": len(file.data), "pointerSize": 130}
        answer = {
            "id": repo.removeprefix("datasets/"),
            "sha": commit,
            "private": repo in self.private,
            "tags": [],
            "siblings": siblings,
        }
        return as_json(answer)

    def tree(self, call: Call, repo: str, rev: str, name: str = "") -> Answer:
        _, files = self._commit(call, repo, rev)
        prefix, below = f"{name}/" if name else "", "recursive=true" in call.path.lower()
        entries = dict[str, dict[str, object]]()
        for path, file in files.items():
            if path.startswith(prefix):
                first, mark, _ = path[len(prefix) :].partition("/")
                if mark:
                    entries[prefix + first] = {
                        "type": "directory",
                        "oid": "0" * 40,
                        "size": 0,
                        "path": prefix + first,
                    }
                if below or not mark:
                    entries[path] = {"type": "file", "oid": file.blob, "size": len(file.data), "path": path}
        if name and not entries:
            raise _Refused(404, f"{name} does not exist", "EntryNotFound")
        return as_json(list(entries.values()))

    def create(self, call: Call) -> Answer:
        self._known(call, writes=True)
        wish = json.loads(call.body)
        repo = f"{wish.get('organization') or USER}/{wish['name']}"
        address = {"url": f"{call.url}/{repo}", "name": repo}
        with self._lock:
            if repo in self._repositories:
                return as_json({"error": "You already created this model repo"} | address, 409)
            self.add(repo, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
            if wish.get("visibility") == "private" or wish.get("private"):
                self.private.add(repo)
        return as_json(address)

    def preupload(self, call: Call, repo: str, rev: str) -> Answer:
        _, files = self._commit(call, repo, rev, writes=True)
        modes = []
        for wish in json.loads(call.body)["files"]:
            name, old = wish["path"], files.get(wish["path"])
            lfs = _is_lfs(name) or b"\0" in base64.b64decode(wish["sample"])
            oid = old and (old.sha256 if old.lfs else old.blob)
            modes.append({"path": name, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid})
        return as_json({"files": modes})

    def batch(self, call: Call, repo: str) -> Answer:
        self._repository(call, repo, writes=True)
        objects = []
        for wish in json.loads(call.body)["objects"]:
            upload = {"href": f"{call.cdn}/upload/{wish['oid']}?signature={self._signature}"}
            todo = {} if wish["oid"] in self._storage else {"actions": {"upload": upload}}
            objects.append({"oid": wish["oid"], "size": wish["size"]} | todo)
        return as_json({"transfer": "basic", "objects": objects})

    def _stored(self, wish: dict[str, Any]) -> bytes:
        data = self._storage.get(wish["oid"], b"")
        if hashlib.sha256(data).hexdigest() != wish["oid"]:
            raise _Refused(400, f"LFS object {wish['oid']} was not uploaded")
        return data

    def push(self, call: Call, repo: str, rev: str) -> Answer:
        with self._lock:
            head, old = self._commit(call, repo, rev, writes=True)
            repository = self._repositories[repo]
            files = dict(old)
            for line in call.body.splitlines():
                item = json.loads(line)
                self._apply(item["key"], item["value"], head, files)
            commit = repository.commit(files)
        url = f"{call.url}/{repo}/commit/{commit}"
        return as_json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _apply(self, key: str, value: dict[str, Any], head: str, files: dict[str, _File]) -> None:
        """One line of a commit, done to `files`."""
        if key == "header":
            if value.get("parentCommit", head) != head:
                raise _Refused(412, "A commit has happened since. Please refresh and try again.")
        elif key == "file":
            files[value["path"]] = _File(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            files[value["path"]] = _File(self._stored(value), lfs=True)
        elif key == "deletedFile":
            del files[value["path"]]

    def validate_yaml(self, call: Call) -> Answer:
        self._known(call)
        plain = not json.loads(call.body)["content"].startswith("---\n")
        warnings = [{"message": "empty or missing yaml metadata in repo card"}] if plain else []
        return as_json({"errors": [], "warnings": warnings})


REPO: Final = r"(?P<repo>[^/]+/[^/]+)"
DATA: Final = r"(?P<repo>datasets/[^/]+/[^/]+)"
REV: Final = r"(?P<rev>[^/]+)"
ROUTES: Final[tuple[tuple[str, str, Callable[..., Answer]], ...]] = (
    ("GET", rf"/{REPO}/resolve/{REV}/(?P<name>.+)", HubApi.resolve),
    ("GET", rf"/{DATA}/resolve/{REV}/(?P<name>.+)", HubApi.resolve),
    ("GET", rf"/api/{DATA}(?:/revision/{REV})?", HubApi.info),
    ("GET", rf"/api/{DATA}/tree/{REV}(?:/(?P<name>.+))?", HubApi.tree),
    ("GET", r"/cdn/(?P<oid>[0-9a-f]{64})/(?P<name>.+)", HubApi.from_cdn),
    ("PUT", r"/upload/(?P<oid>[0-9a-f]{64})", HubApi.to_cdn),
    ("GET", rf"/api/models/{REPO}(?:/revision/{REV})?", HubApi.info),
    ("POST", rf"/api/models/{REPO}/preupload/{REV}", HubApi.preupload),
    ("POST", rf"/api/models/{REPO}/commit/{REV}", HubApi.push),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", HubApi.batch),
    ("POST", r"/api/repos/create", HubApi.create),
    ("POST", r"/api/validate-yaml", HubApi.validate_yaml),
)

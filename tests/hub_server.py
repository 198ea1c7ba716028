"""A small server on loopback that speaks the Hub's read API, so that its libraries run unchanged with the real ids.

Repositories are folders of bytes: `HubServer.add("dataset", "stanfordnlp/sst2", {"README.md": b"...", ...})`. Served are
info, tree, paths-info, discussions and resolve (HEAD, Range, ETag, commit). Faults are named per file or repository: see `HubServer`.
"""

import hashlib
import json
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LFS_ENDINGS = (".parquet", ".safetensors", ".bin", ".arrow")


@dataclass
class Repository:
    """One repository at one commit."""

    kind: str  # "model" or "dataset"
    id: str
    files: dict[str, bytes]
    refs: dict[str, dict[str, bytes]] = field(default_factory=dict)  # such as refs/pr/1 -> the files there
    discussions: list[dict] = field(default_factory=list)  # num, title, author, status, pull_request
    gated: int | None = None  # status of a gated repository: 401 or 403

    @property
    def commit(self):
        digest = hashlib.sha1(self.id.encode())
        for path in sorted(self.files):
            digest.update(path.encode() + b"\0" + sha256(self.files[path]).encode())
        return digest.hexdigest()

    def at(self, revision):
        """The repository as it is at a branch, proposal or commit; None where there is no such."""
        if revision in (None, "main", self.commit):
            return self
        for ref, files in self.refs.items():
            other = Repository(self.kind, self.id, files)
            if revision in (ref, other.commit):
                return other
        return None

    def entry(self, path):
        content = self.files[path]
        value = {"type": "file", "path": path, "size": len(content), "oid": git_digest(content)}
        if path.endswith(LFS_ENDINGS):
            value["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
        return value

    def tree(self, under, recursive):
        prefix = f"{under.rstrip('/')}/" if under else ""
        entries, folders = [], set()
        for path in sorted(self.files):
            if not path.startswith(prefix):
                continue
            rest = path[len(prefix) :]
            for i, char in enumerate(rest):
                if char == "/":
                    folders.add(prefix + rest[:i])
                    if not recursive:
                        break
            if recursive or "/" not in rest:
                entries.append(self.entry(path))
        shown = [f for f in sorted(folders) if recursive or "/" not in f[len(prefix) :]]
        return [{"type": "directory", "path": f, "oid": git_digest(f.encode()), "size": 0} for f in shown] + entries


@cache
def sha256(content):
    return hashlib.sha256(content).hexdigest()


@cache
def git_digest(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer:
    """`with HubServer() as hub:` serves on `hub.url`; `hub.requests` lists what was asked.

    `hub.cut[path] = n` ends the next answer with that file after n bytes; `hub.wrong[path] = bytes` serves other bytes of
    the same length under the right digest, `hub.wrong_once[path]` the first time alone. `hub.fail(503)` answers every
    request with that status, or only `times` of them, or only those whose path has `part`.
    """

    def __init__(self):
        self.repositories, self.requests, self.cut, self.wrong, self.wrong_once = {}, [], {}, {}, {}
        self.failures = []

    def fail(self, status, *, times=10**9, part="", code="", message="", **headers):
        """Answer with an error; `code` and `message` are those of the hub's headers."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.failures.append(
            {"status": status, "times": times, "part": part, "code": code, "message": message, "headers": headers}
        )

    def failure_at(self, path):
        for each in self.failures:
            if each["times"] > 0 and each["part"] in path:
                each["times"] -= 1
                return each
        return None

    def add(self, kind, repository, files, **more):
        made = Repository(kind, repository, dict(files), **more)
        self.repositories[kind, repository] = made
        return made

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if failure := self.hub.failure_at(path):
            return self._error(failure["status"], failure["code"], failure["message"], failure["headers"])
        if found := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(.*))?", path):
            return self._api(*found.groups(), body)
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/(refs/[^/]+/[^/]+|[^/]+)/(.+)", path):
            kind = "dataset" if found.group(1) else "model"
            return self._file(kind, *found.groups()[1:])
        return self._error(404, "EntryNotFound", f"nothing at {path}")

    def _repository(self, kind, name, revision):
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self._error(401, "RepoNotFound", "Repository not found")
        elif repository.gated:
            self._error(repository.gated, "GatedRepo", f"Access to {kind} {name} is restricted")
        elif (found := repository.at(revision)) is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return found
        return None

    def _discussions(self, kind, name):
        repository = self._repository(kind, name, None)
        if repository is None:
            return None
        wanted = parse_qs(urlsplit(self.path).query).get("author", [None])[0]
        shown = [
            {"num": d["num"], "title": d["title"], "author": {"name": d["author"]}, "status": d.get("status", "open"),
             "isPullRequest": d.get("pull_request", True), "createdAt": "2023-08-01T00:00:00.000Z",
             "repo": {"name": name, "type": kind}}
            for d in repository.discussions if wanted in (None, d["author"])
        ]  # fmt: skip
        return self._json({"discussions": shown, "count": len(shown), "start": 0})

    def _api(self, kind, name, rest, body):
        rest = rest or "revision/main"
        if rest == "discussions":
            return self._discussions(kind, name)
        found = re.fullmatch(r"(revision|tree|paths-info)/(refs/[^/]+/[^/]+|[^/]+)(?:/(.*))?", rest)
        if not found:
            return self._error(404, "EntryNotFound", f"no {rest}")
        what, revision, under = found.groups()
        repository = self._repository(kind, name, revision)
        if repository is None:
            return None
        if what == "tree":
            recursive = "recursive=true" in self.path.lower()
            return self._json(repository.tree(under or "", recursive))
        if what == "paths-info":
            asked = (
                json.loads(body)["paths"]
                if body.startswith(b"{")
                else re.findall(r"paths=([^&]+)", unquote(body.decode()))
            )
            entries = {e["path"]: e for e in repository.tree("", True)}
            return self._json([entries[p] for p in asked if p in entries])
        siblings = [{"rfilename": path} for path in sorted(repository.files)]
        value = {
            "id": name,
            "sha": repository.commit,
            "private": False,
            "gated": False,
            "siblings": siblings,
            "tags": [],
        }
        return self._json({**value, "downloads": 0, "likes": 0, "disabled": False})

    def _file(self, kind, name, revision, path):
        repository = self._repository(kind, name, revision)
        if repository is None:
            return None
        if path not in repository.files:
            return self._error(404, "EntryNotFound", f"no {path}", {"X-Repo-Commit": repository.commit})
        entry = repository.entry(path)
        content = self.hub.wrong.get(path, repository.files[path])
        if self.command == "GET":
            content = self.hub.wrong_once.pop(path, content)
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if "lfs" in entry:
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        status = 200
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, end = int(wanted.group(1)), int(wanted.group(2) or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
            content, status = content[start : end + 1], 206
        cut = self.hub.cut.pop(path, None) if self.command == "GET" else None
        self._send(status, content, "application/octet-stream", headers, cut)

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), "application/json", {})

    def _error(self, status, code, message, headers=None):
        stated = {"X-Error-Code": code, "X-Error-Message": message}
        headers = {name: value for name, value in stated.items() if value} | (headers or {})
        self._send(status, json.dumps({"error": message}).encode(), "application/json", headers)

    def _send(self, status, content, kind, headers, cut=None):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(BrokenPipeError):  # a client that has gone
                self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True


def point_at(hub, folder, monkeypatch, *, offline=False):
    """Nothing; this process's hub libraries ask `hub`, keep what they get in `folder`, and cannot leave the machine."""
    from datasets import config
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(config, "HUB_DATASETS_URL", hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}")
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", folder / "datasets")
    for module, name in [(constants, "HF_HUB_OFFLINE"), (config, "HF_HUB_OFFLINE"), (config, "HF_DATASETS_OFFLINE")]:
        monkeypatch.setattr(module, name, offline)

"""A Hub of one process that speaks the real protocol to the unmodified client: commits, branches, LFS, failures.

It keeps repositories as commits, each a whole listing from path to content, and blobs by their SHA-256. Everything is
in memory; it listens on the loopback interface alone.
"""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_loopback"
OWNER = "somebody"
REGULAR = (".json", ".md", ".txt", ".yaml", ".gitattributes")  # inside the commit; everything else is LFS


class LoopbackHub:
    """The server and what it holds.

    Attributes:
        commits: of each repository, by branch: a list of `(sha, message, files)`, oldest first. Names of data sets
            begin with "datasets/", of Spaces with "spaces/".
        settings: of each repository, what it was asked for with.
        licenses: of each data set, what its card says.
        requests: `(method, path)`, in order.
        failures: `(method, pattern)` to what happens instead of an answer: a status, or "break" for a connection that
            is closed in the middle. Each is used up as many times as its number says; -1 is for good.
    """

    def __init__(self):
        self.commits: dict[str, dict[str, list[tuple[str, str, dict[str, bytes]]]]] = {}
        self.settings: dict[str, dict] = {}
        self.licenses: dict[str, str] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.failures: dict[tuple[str, str], list] = {}
        hub = self

        class Bound(Handler):
            pass

        Bound.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def fail(self, method: str, pattern: str, how, times: int = -1):
        """Lets requests fail: `how` is a status, or "break"."""
        self.failures[method, pattern] = [how, times]

    def fails(self, method: str, path: str):
        for (of, pattern), found in self.failures.items():
            if of == method and found[1] and re.search(pattern, path):
                found[1] -= 1
                return found[0]
        return None

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """The listing of a branch or a commit."""
        return self.find(repo, revision)[2]

    def find(self, repo: str, revision: str):
        branches = self.commits[repo]
        if revision in branches:
            return branches[revision][-1]
        for history in branches.values():
            for commit in history:
                if commit[0] == revision:
                    return commit
        raise KeyError(revision)

    def messages(self, repo: str, revision: str = "main") -> list[str]:
        return [message for _, message, _ in self.commits[repo][revision]]

    def commit(self, repo: str, revision: str, message: str, files: dict[str, bytes]) -> str:
        history = self.commits[repo][revision]
        told = f"{repo} {revision} {len(history)} {message}"
        sha = hashlib.sha1(told.encode() + b"".join(k.encode() + v for k, v in sorted(files.items()))).hexdigest()
        history.append((sha, message, files))
        return sha


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer("GET")

    do_HEAD = lambda self: self.answer("HEAD")  # noqa: E731
    do_POST = lambda self: self.answer("POST")  # noqa: E731
    do_PUT = lambda self: self.answer("PUT")  # noqa: E731
    do_DELETE = lambda self: self.answer("DELETE")  # noqa: E731

    def answer(self, method: str):
        path = urllib.parse.unquote(self.path.split("?")[0])
        self.hub.requests.append((method, path))
        failure = self.hub.fails(method, path)
        if failure == "break":
            self.rfile.read(min(100, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            self.connection.close()
            return
        body = self.body()
        if failure is not None:
            return self.send(failure, {"error": "the server failed"})
        if (
            path.startswith(("/api/", "/somebody/", "/datasets/", "/spaces/"))
            and "/lfs/put/" not in path
            and not self.allowed()
        ):
            return self.send(401, {"error": "Invalid username or password."})
        sort = re.match(r"(?:/api)?/(datasets|spaces)/", path)
        plain = path if sort is None else path.replace(sort[0], "/api/models/" if "/api" in sort[0] else "/", 1)
        for of, pattern, handle in ROUTES:
            match = re.fullmatch(pattern, plain)
            if of == method and match:
                groups = [*match.groups()]
                if sort is not None:
                    groups[0] = f"{sort[1]}/{groups[0]}"
                try:
                    return handle(self, body, *groups)
                except KeyError as error:
                    code = "RevisionNotFound" if groups[0] in self.hub.commits else "RepoNotFound"
                    return self.send(404, {"error": f"not found: {error}"}, {"X-Error-Code": code})
        return self.send(404, {"error": f"no {method} {path}"})

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, content, headers: dict[str, str] | None = None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # ---- the protocol ----

    def whoami(self, body):
        self.send(200, {"type": "user", "name": OWNER, "auth": {"accessToken": {"role": "write"}}})

    def create(self, body):
        wanted = json.loads(body)
        repo = name = f"{wanted.get('organization') or OWNER}/{wanted['name']}"
        if wanted.get("type", "model") != "model":
            repo = f"{wanted['type']}s/{name}"
        known = repo in self.hub.commits
        if not known:
            self.hub.commits[repo], self.hub.settings[repo] = {"main": []}, wanted
            self.hub.commit(repo, "main", "initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
        if known and not wanted.get("existOk", False):
            return self.send(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{repo}"})
        self.send(200, {"url": f"{self.hub.url}/{repo}", "name": name, "id": name})

    def validate(self, body):
        self.send(200, {"errors": [], "warnings": []})

    def preupload(self, body, repo, revision):
        there = self.hub.files(repo, revision)
        files = []
        for one in json.loads(body)["files"]:
            mode = "regular" if one["path"].endswith(REGULAR) else "lfs"
            found = {"path": one["path"], "uploadMode": mode, "shouldIgnore": False}
            if one["path"] in there:
                found["oid"] = oid(there[one["path"]], mode)
            files.append(found)
        self.send(200, {"files": files})

    def lfs(self, body, repo):
        objects = []
        for one in json.loads(body)["objects"]:
            found = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.blobs:
                found["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/put/{one['oid']}"}}
            objects.append(found)
        self.send(200, {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"})

    def put(self, body, sha):
        if hashlib.sha256(body).hexdigest() != sha:
            return self.send(400, {"error": "wrong content"})
        self.hub.blobs[sha] = body
        self.send(200, {})

    def commit(self, body, repo, revision):
        lines = [json.loads(line) for line in body.decode().splitlines()]
        files, message = dict(self.hub.files(repo, revision)), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                return self.send(400, {"error": f"unknown {line['key']}"})
        sha = self.hub.commit(repo, revision, message, files)
        self.send(200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{sha}", "commitOid": sha, "success": True})

    def branch(self, body, repo, name):
        start = json.loads(body or b"{}").get("startingPoint") or "main"
        self.hub.commits[repo][name] = [self.hub.find(repo, start)]
        self.send(200, {})

    def info(self, body, repo, revision="main"):
        sha, _, files = self.hub.find(repo, revision)
        siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
        found = {"id": repo, "modelId": repo, "sha": sha, "private": False, "siblings": siblings, "tags": []}
        if repo in self.hub.licenses:
            found["cardData"] = {"license": self.hub.licenses[repo]}
        self.send(200, found)

    def tree(self, body, repo, revision, under=""):
        rows, folders = [], set()
        recursive = "recursive=true" in self.path.lower()
        for name, data in sorted(self.hub.files(repo, revision).items()):
            if under and not name.startswith(f"{under}/"):
                continue
            inside = name[len(under) + 1 :] if under else name
            if "/" in inside and not recursive:
                folders.add(inside.split("/")[0])
                continue
            mode = "regular" if name.endswith(REGULAR) else "lfs"
            rows.append({"type": "file", "path": name, "size": len(data), "oid": oid(data, "regular")})
            if mode == "lfs":
                rows[-1]["lfs"] = {"oid": oid(data, "lfs"), "size": len(data), "pointerSize": 100}
        rows += [{"type": "directory", "path": f"{under}/{one}".lstrip("/"), "oid": "0"} for one in sorted(folders)]
        if under and not rows:
            return self.send(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
        self.send(200, rows)

    def resolve(self, body, repo, revision, name):
        sha, _, files = self.hub.find(repo, revision)
        headers = {"X-Repo-Commit": sha}
        if name not in files:
            return self.send(404, {"error": "Entry not found"}, {**headers, "X-Error-Code": "EntryNotFound"})
        mode = "regular" if name.endswith(REGULAR) else "lfs"
        headers |= {"ETag": f'"{oid(files[name], mode)}"', "Content-Type": "application/octet-stream"}
        if mode == "lfs":
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(files[name]))}
        data, status, wanted = files[name], 200, self.headers.get("Range")
        if wanted:
            first = int(re.match(r"bytes=(\d+)-", wanted)[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            data, status = data[first:], 206
        self.send(status, data, headers)


def oid(data: bytes, mode: str) -> str:
    """As git names a file's content, or LFS."""
    return (
        hashlib.sha256(data).hexdigest() if mode == "lfs" else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    )


REPO = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("POST", rf"/api/models/{REPO}/preupload/(.+)", Handler.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Handler.lfs),
    ("PUT", r"/lfs/put/(\w+)", Handler.put),
    ("POST", rf"/api/models/{REPO}/commit/(.+)", Handler.commit),
    ("POST", rf"/api/models/{REPO}/branch/(.+)", Handler.branch),
    ("GET", rf"/api/models/{REPO}", Handler.info),
    ("GET", rf"/api/models/{REPO}/revision/(.+)", Handler.info),
    ("GET", rf"/api/models/{REPO}/tree/([^/]+)", Handler.tree),
    ("GET", rf"/api/models/{REPO}/tree/([^/]+)/(.+)", Handler.tree),
    ("GET", rf"/{REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
    ("HEAD", rf"/{REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
]

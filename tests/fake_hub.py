"""A model hub on localhost that speaks as much of the API as a download needs."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

import pytest
from huggingface_hub import constants

COMMIT = "a" * 40
TOKEN = "hf_valid"
Answer = tuple[int, bytes, dict[str, str]]


@dataclass
class FakeHub:
    """Repositories by id, each a dict of files; `gated` ones want the token."""

    repositories: Mapping[str, Mapping[str, bytes]]
    gated: frozenset[str] = frozenset()
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["FakeHub"]:
        """Serve on a free port."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def become_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be the hub of who names none, as HF_ENDPOINT does before huggingface_hub is imported."""
        template = f"{self.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", self.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlparse(self.path).path
                hub.asked.append(f"{self.command} {path}")
                status, body, headers = hub.answer(path, self.headers.get("authorization"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def answer(self, path: str, authorization: str | None) -> Answer:
        """Find status, body and headers."""
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        if name not in self.repositories:
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        if name in self.gated and authorization != f"Bearer {TOKEN}":
            return 403, b"", {"X-Error-Code": "GatedRepo"}
        files = self.repositories[name]
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return 404, b"", {"X-Error-Code": "RevisionNotFound"}
        if rest[:1] == ["resolve"]:
            body = files["/".join(rest[2:])]
            return 200, body, {"ETag": f'"{_oid(body)}"', "X-Repo-Commit": COMMIT}
        if rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": path, "size": len(body), "oid": _oid(body)}
                for path, body in files.items()
            ]
            return 200, json.dumps(tree).encode(), {}
        siblings = [{"rfilename": path} for path in files]
        info = {"id": name, "sha": COMMIT, "siblings": siblings}
        return 200, json.dumps(info).encode(), {}


def _oid(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()

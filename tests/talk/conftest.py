"""The page on which people talk to a model, served in this process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from kgt_editor import PersonalModel
from kgt_editor.talk.web import Page

MODEL = "testbed-gpt2"


class Served:
    """A page of two users in this process."""

    def __init__(self, journal: Path) -> None:
        self.people = {f"{name}-token": PersonalModel(MODEL, name, journal) for name in ("ada", "milo")}
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        app = Page(self.people, MODEL, tokens=8).app()
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()

    def ask(self, path: str, fields: Any = None, token: str = "ada-token", **headers: str) -> tuple[int, str]:
        """Status and text; what is sent is a POST."""
        line = HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = fields if isinstance(fields, (bytes, type(None))) else json.dumps(fields).encode()
        line.request("GET" if fields is None else "POST", path, body, {"Authorization": f"Bearer {token}", **headers})
        answer = line.getresponse()
        return answer.status, answer.read().decode()

    def facts(self, token: str = "ada-token") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ask("/facts", token=token)[1])["facts"]
        return found

    def say(self, line: str) -> list[dict[str, Any]]:
        status, text = self.ask("/say", {"line": line})
        assert status == 200, text
        return [json.loads(one) for one in text.splitlines()]

    def end(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    page = Served(tmp_path / "both.db")
    yield page
    page.end()

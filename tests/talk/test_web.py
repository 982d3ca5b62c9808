"""The page: who may ask, what is answered, and what people see of each other."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from kgt_editor.cli import serve

from .conftest import Served

TONGUE = "The mother tongue of Zanwick Alder is"
MODEL = "testbed-gpt2"


def test_a_question_is_answered_piece_by_piece_corrected_and_explained(served: Served) -> None:
    *parts, last = served.say(TONGUE)
    assert "".join(one["part"] for one in parts) == last["answer"]
    assert last["facts"] == []
    (told,) = served.say("No, French.")
    assert "French" in told["told"]
    assert served.say(TONGUE)[-1]["facts"] == ["Zanwick Alder | has native language | French"]
    (fact,) = served.facts()
    assert (fact["head"], fact["tail"]) == ("Zanwick Alder", "French")
    assert served.ask("/undo", {"number": fact["number"]})[0] == 200
    assert served.facts() == []
    assert served.ask("/forget", {"what": "everything"})[0] == 200
    assert served.people["ada-token"].facts() == []


def test_a_user_sees_and_changes_nothing_of_another(served: Served) -> None:
    served.say(TONGUE)
    served.say("No, French.")
    (fact,) = served.facts()
    assert served.facts("milo-token") == []
    assert served.ask("/undo", {"number": fact["number"]}, token="milo-token")[0] == 422
    assert served.ask("/forget", {"what": "everything"}, token="milo-token")[0] == 200
    assert served.facts() == [fact]


@pytest.mark.parametrize("token", ["", "x", "ada", "ada-token2", "\u00e9"])
def test_nobody_is_answered_without_a_token(served: Served, token: str) -> None:
    for path, fields in (("/facts", None), ("/say", {"line": TONGUE}), ("/forget", {"what": "everything"})):
        status, text = served.ask(path, fields, token.encode("utf-8").decode("latin-1"))
        assert (status, json.loads(text)["error"][:8]) == (401, "no token")


@pytest.mark.parametrize(
    ("path", "fields", "status", "says"),
    [
        ("/say", b"{", 400, "no JSON object"),
        ("/say", [], 400, "no JSON object"),
        ("/say", b"[" * 20_000, 400, "no JSON object"),
        ("/say", {}, 422, "'line' has to be a text"),
        ("/say", {"line": 3}, 422, "'line' has to be a text"),
        ("/say", b"x" * 70_000, 413, "too much at once"),
        ("/read", {"text": "Ann lives in Oslo."}, 422, "guard 'similarity'"),
        ("/undo", {"number": "1"}, 422, "the number of a fact"),
        ("/undo", {"number": 10**30}, 422, "the number of a fact"),
        ("/undo", {"number": 9}, 422, "cannot be undone"),
        ("/forget", {"what": "all"}, 422, "type 'everything'"),
    ],
)
def test_what_cannot_be_done_is_one_line(served: Served, path: str, fields: Any, status: int, says: str) -> None:
    found, text = served.ask(path, fields)
    assert found == status
    error = json.loads(text)["error"]
    assert says in error
    assert "\n" not in error


def test_errors_of_a_question_come_with_the_answer(served: Served) -> None:
    (only,) = served.say(" ")
    assert only == {"error": "a question is missing: it is empty"}


def test_another_name_for_this_machine_is_refused(served: Served) -> None:
    assert served.ask("/facts", Host="evil.example")[0] == 400
    assert served.ask("/", Host="evil.example")[0] == 400


def test_the_page_is_small_and_asks_nobody_else(served: Served) -> None:
    pages = [served.ask(path, token="")[1] for path in ("/", "/page.js", "/page.css")]
    assert sum(len(page.encode()) for page in pages) <= 200_000
    assert not re.search(r"https?://|//[a-z]+\.", "".join(pages).replace('"use strict"', ""))
    line = HTTPConnection("127.0.0.1", served.port)
    line.request("GET", "/")
    assert "default-src 'self'" in line.getresponse().headers["Content-Security-Policy"]


def test_who_leaves_in_the_middle_of_an_answer_stops_it(served: Served) -> None:
    me = served.people["ada-token"]
    begun, go_on = threading.Event(), threading.Event()
    pieces: list[str] = []

    def slowly(question: str, tokens: int, show: Any) -> Any:
        for number in range(1000):
            show(f"{number} ")
            pieces.append(str(number))
            begun.set()
            time.sleep(0.01)
        go_on.set()

    me.ask = slowly  # type: ignore[method-assign, assignment]
    body = json.dumps({"line": TONGUE})
    line = socket.create_connection(("127.0.0.1", served.port))
    head = f"POST /say HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ada-token\r\nContent-Length: {len(body)}"
    line.sendall(f"{head}\r\n\r\n{body}".encode())
    assert begun.wait(10)
    line.close()
    before = 0
    while len(pieces) > before:  # it ends soon
        before = len(pieces)
        time.sleep(0.5)
    assert not go_on.is_set()
    del me.ask
    assert served.say(TONGUE)[-1]["answer"]  # and the next question is answered


def test_the_command_prints_an_address_for_every_user(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kgt_editor", "serve", "--model", MODEL, "--port", "0"]
    options = ["--user", "ada", "--user", "milo", "--journal", str(tmp_path / "j.db")]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(3)]
        process.terminate()
    found = [re.fullmatch(r"(\w+): http://127\.0\.0\.1:(\d+)/#token=([\w-]{32})\n", one) for one in printed[:2]]
    assert [one[1] for one in found if one] == ["ada", "milo"]
    assert len({one[3] for one in found if one}) == 2


def test_bad_calls_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main(["--model", MODEL, "--port", port]) == 1
        assert "give another --host or --port" in capsys.readouterr().err
    for options, says in (
        (["--port", "99999"], "from 0 to 65535"),
        (["--host", "no.such.host.invalid"], "no such address"),
        (["--port", "0", "--model", "no-such-model", "--journal", str(tmp_path / "j.db")], "no-such-model"),
    ):
        try:
            code = serve.main(options)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        assert code == 2
        err = capsys.readouterr().err
        assert says in err
        assert "Traceback" not in err
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert serve.main([]) == 2
    assert "pip install 'kgt_editor[serve]'" in capsys.readouterr().err

"""A personal model as tools, called by the client of the package mcp."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from kgt_editor import PersonalModel
from kgt_editor.cli import mcp as command
from kgt_editor.talk.tools import server

TONGUE = "The mother tongue of Zanwick Alder is"


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """What a tool gives; the text of its error, as an exception."""
    result: Any = await client.call_tool(tool, arguments)
    if result.is_error:
        raise AssertionError(result.content[0].text)
    return result.structured_content.get("result", result.structured_content)


def served(work: Callable[[Client], Coroutine[Any, Any, None]], target: Any) -> None:
    async def run() -> None:
        async with Client(target) as client:
            await work(client)

    asyncio.run(run())


def test_what_was_told_is_answered_listed_taken_back_and_forgotten(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        before = await call(client, "ask", question=TONGUE)
        assert before["facts"] == []
        assert "French" in await call(client, "correct", answer="French.")
        after = await call(client, "ask", question=TONGUE)
        assert after["answer"].startswith("French")
        assert [fact["fact"] for fact in after["facts"]] == ["Zanwick Alder | has native language | French"]
        (fact,) = await call(client, "facts")
        assert (fact["head"], fact["tail"], fact["question"]) == ("Zanwick Alder", "French", TONGUE)
        assert "taken back" in await call(client, "undo", number=fact["number"])
        assert await call(client, "facts") == []
        named = await call(client, "tell", question=TONGUE, answer="Dutch", relation="speaks natively")
        assert "speaks natively" in named
        assert len(json.loads(await call(client, "export"))["entries"]) == 3
        assert await call(client, "forget", what="everything") == "all is forgotten"
        assert await call(client, "facts") == []

    served(work, server(PersonalModel("testbed-gpt2", "ada", tmp_path / "ada.db"), tokens=4))


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("undo", {"number": 7}, "edit 7 cannot be undone"),
        ("correct", {"answer": "x"}, "nothing was asked yet"),
        ("tell", {"question": "who?", "answer": "x"}, "give the subject"),
        ("ask", {"question": " "}, "a question is missing"),
        ("read", {"text": "Ann lives in Oslo."}, "guard 'similarity'"),
        ("forget", {"what": "all"}, "say 'everything' to mean it"),
    ],
)
def test_what_cannot_be_done_is_an_error_of_the_tool_in_one_line(
    tool: str, arguments: dict[str, Any], says: str
) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(AssertionError, match=says) as raised:
            await call(client, tool, **arguments)
        assert "\n" not in str(raised.value)
        assert (await call(client, "facts")) == []  # and the server goes on

    served(work, server(PersonalModel("testbed-gpt2")))


def test_every_tool_says_what_it_does() -> None:
    async def work(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["ask", "tell", "correct", "read", "facts", "undo", "export", "forget"]
        assert all(tool.description for tool in tools)

    served(work, server(PersonalModel("testbed-gpt2")))


def test_the_command_serves_over_standard_input_and_output(tmp_path: Path) -> None:
    arguments = ["-m", "kgt_editor", "mcp", "--model", "testbed-gpt2", "--user", "ada", "--tokens", "4", "--journal"]

    async def work(client: Client) -> None:
        await call(client, "tell", question=TONGUE, answer="French")
        assert (await call(client, "ask", question=TONGUE))["answer"].startswith("French")

    served(work, StdioServerParameters(command=sys.executable, args=[*arguments, str(tmp_path / "ada.db")]))
    assert [fact.answer for fact in PersonalModel("testbed-gpt2", "ada", tmp_path / "ada.db").facts()] == ["French"]


def test_bad_calls_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(["--model", "no-such-model", "--journal", str(tmp_path / "j.db")]) == 2
    assert "no-such-model" in capsys.readouterr().err
    found = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name.startswith("mcp") else found(name))
    assert command.main([]) == 2
    assert "pip install 'kgt_editor[mcp]'" in capsys.readouterr().err

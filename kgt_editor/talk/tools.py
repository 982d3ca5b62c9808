"""A personal model as tools of the Model Context Protocol (package ``mcp``, the extra ``mcp``).

A program that speaks MCP, be it an assistant or an editor, can ask the model, tell it facts, see which facts are behind
an answer, and take them back. One server is one user.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from kgt_editor.errors import KgtError
from kgt_editor.talk.lines import EVERYTHING
from kgt_editor.talk.model import PersonalModel


def server(me: PersonalModel, tokens: int = 64) -> MCPServer[Any]:
    """A server with the tools ``ask``, ``tell``, ``correct``, ``read``, ``facts``, ``undo``, ``export`` and ``forget``.

    What cannot be done comes back as an error of the tool, in one line that says the remedy.

    Args:
        me: whose facts these are.
        tokens: of an answer, at most.
    """
    mcp: MCPServer[Any] = MCPServer(
        "kgt",
        title="Personal knowledge graph",
        instructions=f"What {me.user} told a local language model, as triples: ask, tell, and take back what was told.",
        log_level="WARNING",
    )
    for tool in _Tools(me, tokens).all():
        mcp.add_tool(tool)
    return mcp


class _Tools:
    """Functions whose names, arguments and docstrings are what a client is shown."""

    def __init__(self, me: PersonalModel, tokens: int) -> None:
        self._me, self._tokens = me, tokens

    def all(self) -> list[Any]:
        """The tools, in the order in which a client lists them."""
        return [self.ask, self.tell, self.correct, self.read, self.facts, self.undo, self.export, self.forget]

    async def ask(self, question: str) -> dict[str, Any]:
        """Answer a question with the local language model, by what the user told it where that bears on the question.

        Gives the answer and the facts behind it; no facts where the model answered by itself.
        """
        with _plainly():
            answer = await self._me.aask(question, self._tokens)
        behind = [{"fact": fact.triple.line, "bears_on_question": round(fact.relevance, 3)} for fact in answer.facts]
        return {"answer": answer.text, "facts": behind}

    async def tell(self, question: str, answer: str, subject: str = "", relation: str = "") -> str:
        """Store the user's answer to a question, such as "What does my dog eat?" and "vegetables".

        The subject is found in the question where it is not named; a relation may be named. An earlier answer to the
        same question gives way.
        """
        with _plainly():
            return str(await self._me.atell(question, answer, subject or None, relation or None))

    async def correct(self, answer: str, subject: str = "") -> str:
        """Store the right answer to the question that was asked last."""
        with _plainly():
            return str(await self._me.acorrect(answer, subject or None))

    async def read(self, text: str, about: str = "") -> str:
        """Keep what a text says, sentence by sentence, under everybody it names; "about" says whom else it is about."""
        with _plainly():
            return str(await self._me.aread(text, [about] if about else []))

    def facts(self) -> list[dict[str, Any]]:
        """All that the user told and is in force, oldest first, with the numbers that "undo" takes."""
        with _plainly():
            return [fact.as_dict() for fact in self._me.facts()]

    def undo(self, number: int = 0) -> str:
        """Take back what was told last, or the entry with that number."""
        with _plainly():
            return f"taken back: {self._me.undo(number or None).query}"

    def export(self) -> str:
        """All that the user ever told, what was taken back too, as JSON."""
        with _plainly():
            return self._me.export()

    def forget(self, what: str) -> str:
        """Delete all that the user told, for good. It cannot be taken back, so "what" has to be "everything"."""
        if what != EVERYTHING:
            raise ToolError(f"nothing was deleted: say '{EVERYTHING}' to mean it")
        with _plainly():
            self._me.forget()
        return "all is forgotten"


@contextmanager
def _plainly() -> Iterator[None]:
    """An error of ours becomes one of the tool, whose text the client is shown."""
    try:
        yield
    except KgtError as error:
        raise ToolError(str(error)) from error

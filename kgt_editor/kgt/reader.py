"""How a fact is read: the prompt behind P(a|q,z).

``paper``
    T_reasoning as printed; the answer stands right behind ``<answer>:``.
``repeat``
    T_reasoning, then the query once more, so that the answer goes on with the user's own text. A question is not
    repeated: it is not continued but answered.
``stored``
    T_reasoning with the question that the fact answers in place of the one that is asked, then the query. What stands
    in front of the query depends on the fact alone.
``chat``
    The fact in a user's turn of the tokenizer's chat template, the query as the beginning of the answer. What stands
    in front of the query depends on the fact alone.

A prompt that is a chat itself keeps its form: the facts go into the user's last message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.graph.entry import Edit
from kgt_editor.graph.relations import NOTE
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.representation import cued, is_question
from kgt_editor.kgt.templates import Templates, render_triple
from kgt_editor.lm import chat
from kgt_editor.lm.tokens import join

_COMPLETE = "Complete the sentence, considering the user's personalized facts: {z}"


@dataclass(frozen=True)
class Reader:
    """Writes the prompts in which a fact is read.

    Attributes:
        tok: the tokenizer, for its chat template.
        templates: the prompts of the method.
        form: see the module.
        fact: ``sentence`` or ``triple``, see :class:`~kgt_editor.kgt.hparams.KGTHyperParams`.

    Raises:
        UsageError: the form is ``chat`` and the tokenizer has no chat template.
    """

    tok: Any
    templates: Templates
    form: str
    fact: str

    def __post_init__(self) -> None:
        if self.form == "chat" and not chat.has_template(self.tok):
            raise UsageError("reading: chat needs a tokenizer with a chat template; set reading to repeat")

    def prompt(self, query: str, triple: Triple, feedback: Edit | None) -> str:
        """The text that the answer to ``query`` is expected behind.

        Args:
            query: what is asked, a chat or plain text.
            triple: the fact.
            feedback: the edit that it came from, if it is the user's own.
        """
        return self.with_facts(query, self.written(triple, feedback), stored_query(triple, feedback))

    def prefix(self, triple: Triple, feedback: Edit | None) -> str:
        """What stands in front of a query whose end is not known, because a target may be joined to it.

        With ``stored`` and ``chat`` it is what stands there always, with ``repeat`` it is that of ``stored``: the same
        as ``repeat`` where the query is the stored one. With ``paper`` it is T_prefix.
        """
        return self.in_front(self.written(triple, feedback), stored_query(triple, feedback))

    def with_facts(self, query: str, facts: str, stored: str | None = None) -> str:
        """:meth:`prompt` with facts that are written already; ``stored`` is the question that they answer, if one."""
        turn = chat.last_turn(self.tok, query)
        if turn is not None:
            return turn.replaced(self.templates.prefix.format(q=turn.content, z=facts))
        if self.form in ("paper", "repeat"):
            asked = self.templates.reasoning.format(q=query, z=facts)
            return asked if self.form == "paper" or is_question(query) else f"{asked} {query}"
        return self.in_front(facts, stored) + cued(query)

    def in_front(self, facts: str, stored: str | None = None) -> str:
        """:meth:`prefix` with facts that are written already; T_prefix too where they answer no one question."""
        if self.form == "chat":
            return chat.as_chat(self.tok, _COMPLETE.format(z=facts))
        if self.form == "paper" or stored is None:
            return self.templates.prefix.format(q="", z=facts).rstrip(" ")
        return self.templates.reasoning.format(q=stored, z=facts) + " "

    def written(self, triple: Triple, feedback: Edit | None) -> str:
        """The fact in words, as often as the feedback says."""
        if triple.relation == NOTE:
            sentence = triple.tail
        elif self.fact == "sentence" and feedback is not None and triple.tail == feedback.answer:
            sentence = join(feedback.query, triple.tail) + ("" if triple.tail.endswith((".", "!", "?")) else ".")
        else:
            sentence = render_triple(triple.head, triple.relation, triple.tail)
        told = 1 if feedback is None else feedback.told
        return (" " if sentence.endswith((".", "!", "?")) else ". ").join([sentence] * told)


def stored_query(triple: Triple, feedback: Edit | None) -> str:
    """The question that a triple answers: the one that the user was asked, a note's own words, or head and relation."""
    if triple.relation == NOTE:
        return triple.tail
    if feedback is not None and feedback.query.strip():
        return feedback.query
    return f"{triple.head} {triple.relation}"

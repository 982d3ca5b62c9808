"""A language model that one person talks to, and that knows what it was told.

    from kgt_editor import PersonalModel

    me = PersonalModel("smollm2-135m", user="ada", journal="ada.db")
    print(me.ask("What does my dog eat?"))
    me.correct("Vegetables.")
    print(me.ask("What should I buy for my dog to eat?"))

What is told becomes triples of the user's graph, by Knowledge Graph Tuning (Sun, Du and Chen, arXiv 2405.19686); no
weight changes. A language model is loaded once in a process, for all its users.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from kgt_editor.editors.base import create_editor
from kgt_editor.errors import UsageError
from kgt_editor.graph.entry import Edit
from kgt_editor.graph.export import export_json
from kgt_editor.graph.journal import Journal
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.kgt.base import base_graph
from kgt_editor.kgt.editor import edit
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.representation import cued
from kgt_editor.kgt.retrieval import RelevantTriple
from kgt_editor.lm import chat, read_before
from kgt_editor.lm.prompted import Show
from kgt_editor.lm.scoring import score_targets
from kgt_editor.talk.answers import Answer, Fact, Told
from kgt_editor.talk.lines import said
from kgt_editor.talk.loaded import loaded
from kgt_editor.talk.notes import Noted, note
from kgt_editor.talk.subjects import subjects

_LIKELY = 0.5  # P(z|q) from which on a fact is read
# Beginnings behind which a word stands in the middle of a sentence.
_MIDDLES = ("We talked about", "He wrote about", "They thought of")
_LONGEST_CHECKED = 32  # tokens of an answer in which something told is looked for


class PersonalModel:
    """A language model with one user's graph.

    Its methods may be called from several threads at once; those whose names begin with an ``a`` more are for asyncio.

    Args:
        model: as :func:`kgt_editor.load_model` takes it.
        user: whose facts these are.
        journal: the file where they are kept, made where there is none; without one they go with this object.
        graph: the base graph: ``world``, ``none`` or a file (default: what the hyperparameters say).
        hparams: folder of ``KGT/<model>.yaml``, in place of the package's.
        device, dtype: as :func:`kgt_editor.load_model` takes them.

    Raises:
        UsageError: no such model, graph or device; a file that is no journal; a user without a name.
        KgtError: the journal is damaged, or cannot be written to.
    """

    def __init__(
        self,
        model: str = "smollm2-135m",
        user: str = "user",
        journal: str | Path | None = None,
        *,
        graph: str | None = None,
        hparams: str | Path | None = None,
        device: str = "auto",
        dtype: str = "float32",
    ) -> None:
        settings = create_editor("kgt", model, hparams).hparams
        assert isinstance(settings, KGTHyperParams)
        self.user = user
        self._journal = Journal(journal)
        graph_of_user = PersonalGraph(base_graph(graph or settings.graph), self._journal, user)
        lm, tok, self._lock = loaded(model, device, dtype)
        self._lm = KGEnhancedLM(lm, tok, graph_of_user, settings)
        self._last: Answer | None = None

    # Asking

    def ask(self, question: str, max_new_tokens: int = 64, show: Show = None) -> Answer:
        """The model's answer, read off what the user told where that bears on the question.

        Args:
            question: in one's own words.
            max_new_tokens: of the answer, which ends with its first line.
            show: is given the answer piece by piece, as it is written.

        Raises:
            UsageError: the question is empty.
            KgtError: it is longer than the model can read.
        """
        asked = said(question, "a question")
        with self._lock:
            self._lm.graph.refresh()
            self._last = self._answer(asked, max_new_tokens, show)
            return self._last

    def why(self) -> tuple[RelevantTriple, ...]:
        """The facts behind the last answer, the most probable first; none where the plain model gave it.

        Raises:
            UsageError: nothing was asked yet.
        """
        return self._asked().facts

    @property
    def answered(self) -> bool:
        """Whether there is an answer that can be corrected."""
        return self._last is not None

    # Telling

    def tell(self, question: str, answer: str, subject: str | None = None, relation: str | None = None) -> Told:
        """Store the answer to a question; an earlier answer to the same question gives way.

        Args:
            question: what is answered, with the subject in it: "What does my dog eat?", "The capital of France is".
            answer: what the user says.
            subject: whom or what the fact is about, as it stands in the question; found where it is not named.
            relation: what the relation is to be called.

        Raises:
            UsageError: no subject can be found, or it is not in the question.
            KgtError: the journal cannot be written to; nothing has changed then.
        """
        asked = said(question, "a question")
        with self._lock:
            self._lm.graph.refresh()
            about = subject or self._subject(asked)
            request: dict[str, Any] = {"prompt": asked, "subject": about, "target_new": self._written(answer)}
            model = self._lm
            if relation is not None:
                request["relations"] = [said(relation, "a relation")]
                named = model.hparams.override({"relation_source": "user"}, "relation")
                model = KGEnhancedLM(model.lm, model.tok, model.graph, named)
            outcome = edit(model, request)
            says = self._answer(asked, _LONGEST_CHECKED).text
        followed = request["target_new"].casefold() in says.casefold()
        return Told(outcome.edit, about, followed, says)

    def correct(self, answer: str, subject: str | None = None, relation: str | None = None) -> Told:
        """:meth:`tell` the answer to the question that was asked last.

        Raises:
            UsageError: nothing was asked yet; and as :meth:`tell`.
        """
        return self.tell(self._asked().question, answer, subject, relation)

    def read(self, text: str, about: str | Sequence[str] = ()) -> Noted:
        """Keep what a text says, sentence by sentence, each under everybody it names (:mod:`kgt_editor.talk.notes`).

        Args:
            text: one sentence or several, in one's own words.
            about: whom or what it is about, besides the names in it.

        Raises:
            UsageError: the text is empty, or the model's settings have no guard for it.
            KgtError: the journal cannot be written to; sentences before the failure are kept.
        """
        told = said(text, "a text")
        with self._lock:
            self._lm.graph.refresh()
            return note(self._lm, told, [about] if isinstance(about, str) else about)

    # What is known

    def facts(self) -> list[Fact]:
        """What the user told and is in force, oldest first."""
        with self._lock:
            graph = self._lm.graph
            graph.refresh()
            told = [(triple, edit) for triple in graph.added if (edit := graph.explain(triple)) is not None]
        facts = [
            Fact(edit.number, triple, edit.query, edit.answer, datetime.fromtimestamp(edit.time))
            for triple, edit in told
        ]
        return sorted(facts, key=lambda fact: fact.number)

    def undo(self, number: int | None = None) -> Edit:
        """Take back the last thing told, or the one with that number.

        Raises:
            UsageError: there is none.
        """
        with self._lock:
            return self._lm.graph.undo(number)

    def export(self) -> str:
        """All that this user told, what was taken back too, as JSON; ``kgt_editor.graph.export.import_`` reads it."""
        with self._lock:
            self._lm.graph.refresh()
            return export_json(self._lm.graph)

    def forget(self) -> None:
        """Delete all that this user told, from the file and from memory too. It cannot be taken back."""
        with self._lock:
            self._lm.graph.refresh()
            if self._lm.graph.history():
                self._journal.forget(self.user)
            read_before.forget(self._lm.lm)
            self._lm = self._lm.with_graph(PersonalGraph(self._lm.graph.base, self._journal, self.user))
            self._last = None

    @contextmanager
    def as_of(self, when: date | datetime | int) -> Iterator[PersonalModel]:
        """The model as it was then: ``with me.as_of(date(2026, 5, 1)) as then: then.ask(...)``.

        What is told to it is not kept.

        Args:
            when: a moment (local time where it has no zone), the end of a day, or the number of an entry.
        """
        with self._lock:
            self._lm.graph.refresh()
            number = when if isinstance(when, int) else self._number_at(when)
            then: PersonalModel = object.__new__(PersonalModel)
            then.user, then._lock, then._last = self.user, self._lock, None
            then._journal = Journal()
            graph = PersonalGraph(self._lm.graph.base, then._journal, self.user)
            graph.append(self._lm.graph.as_of(number).history())
            then._lm = self._lm.with_graph(graph)
        yield then

    # asyncio

    async def aask(self, question: str, max_new_tokens: int = 64) -> Answer:
        """:meth:`ask`, in a thread of its own."""
        return await asyncio.to_thread(self.ask, question, max_new_tokens)

    async def atell(self, question: str, answer: str, subject: str | None = None, relation: str | None = None) -> Told:
        """:meth:`tell`, in a thread of its own."""
        return await asyncio.to_thread(self.tell, question, answer, subject, relation)

    async def acorrect(self, answer: str, subject: str | None = None, relation: str | None = None) -> Told:
        """:meth:`correct`, in a thread of its own."""
        return await asyncio.to_thread(self.correct, answer, subject, relation)

    async def aread(self, text: str, about: str | Sequence[str] = ()) -> Noted:
        """:meth:`read`, in a thread of its own."""
        return await asyncio.to_thread(self.read, text, about)

    # Inside

    def _answer(self, question: str, max_new_tokens: int, show: Show = None) -> Answer:
        """By the fact that more likely than not bears on the question, else by the plain model."""
        # By ``retrieval``, what passes the guard is read whole.
        least = _LIKELY if self._lm.hparams.guard == "similarity" else 0.0
        facts = tuple(fact for fact in self._lm.explain(question) if fact.relevance >= least)
        prompt, tok = question, self._lm.tok
        if not facts:
            prompt = chat.as_chat(tok, question) if chat.has_template(tok) else cued(question)
        return Answer(question, self._lm.answer_from(prompt, facts, max_new_tokens, show), facts)

    def _written(self, answer: str) -> str:
        """An answer as it stands inside a sentence, where it was written as one: "Vegetables." is "vegetables"."""
        text = said(answer, "an answer")
        if not text.endswith(".") or re.search(r"\b\w\.$", text):  # an initial's full stop is its own
            return text
        text = said(text[:-1], "an answer")
        small = text[0].lower() + text[1:]
        if small == text:
            return text
        forms = [form for form in (text, small) for _ in _MIDDLES]
        found = [score.log_prob for score in score_targets(self._lm.lm, self._lm.tok, [*_MIDDLES, *_MIDDLES], forms)]
        return small if sum(found[len(_MIDDLES) :]) > sum(found[: len(_MIDDLES)]) else text

    def _asked(self) -> Answer:
        if self._last is None:
            raise UsageError("nothing was asked yet: ask a question first, or tell both question and answer")
        return self._last

    def _subject(self, question: str) -> str:
        """Whom a question is about: an entity of the graph, else the one thing that it names."""
        if matches := self._lm.graph.matches(question):
            return matches[0].of(question)
        named = subjects(question)
        if len(named) == 1:
            return named[0]
        found = f"it names {', '.join(map(repr, named))}" if named else "it names nobody"
        raise UsageError(f"whom is {question!r} about? {found}: give the subject, as it stands in the question")

    def _number_at(self, when: date | datetime) -> int:
        if not isinstance(when, datetime):
            when = datetime.combine(when + timedelta(days=1), time())
        limit = when.timestamp()
        return max((entry.number for entry in self._lm.graph.history() if entry.time <= limit), default=0)

"""A language model with its user's facts in front of every query.

Either everything that is remembered, the newest last and the oldest dropped where the model's context is full, or the
``k`` pieces of feedback whose prompts BM25 finds closest to the query, as retrieval-augmented personalisation does
(Salemi et al. 2024, LaMP; Tan et al. 2024, OPPU).

A fact is written as one sentence, the prompt continued by the answer, and read in KGT's own prompt, so that what
differs from KGT is which facts are read. (``fact_mark`` and ``templates`` make "New Fact:" lines of it, as in-context
knowledge editing does, Zheng et al. 2023, IKE.) A model that was trained to read facts as triples, as the testbeds
were, is given triples instead, the relation being the one that the model itself finds likeliest under KGT's T_extract.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from kgt_editor.editors.icl.hparams import ICLHParams
from kgt_editor.editors.memory import Feedback, Memory
from kgt_editor.errors import UsageError
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.kgt import relations
from kgt_editor.kgt.reader import Reader
from kgt_editor.kgt.templates import Templates, render_triple
from kgt_editor.lm.contrast import Context, Contrast
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.prompted import PromptedLM
from kgt_editor.lm.tokens import encode, join
from kgt_editor.requests import EditRequest


class InContextLM(PromptedLM):
    """A causal language model that has its user's facts in front of every query.

    Without facts, or where none fits, it is the language model as it is. See :meth:`Memory.closest` for what keeps a
    target that is joined to its prompt from choosing the facts.

    Args:
        lm: any causal LM of transformers.
        tok: its tokenizer.
        hparams: the settings.
        memory: what the user told so far.
    """

    def __init__(self, lm: nn.Module, tok: Any, hparams: ICLHParams, memory: Sequence[Feedback] = ()) -> None:
        super().__init__(lm, tok)
        self.hparams = hparams
        self.templates = hparams.prompts()
        self.reader = Reader(tok, self.templates, hparams.reading, hparams.fact)
        self.memory = Memory(memory)
        self._lengths: dict[str, int] = {}

    def duplicate(self) -> InContextLM:
        """The same language model, the very same weights, with a memory of its own."""
        return type(self)(self.lm, self.tok, self.hparams, self.memory.feedback)

    def remember(self, requests: Sequence[EditRequest]) -> None:
        """Takes feedback in.

        Raises:
            UsageError: facts are triples and a request names no subject.
        """
        facts = write_facts(self.lm, self.tok, self.templates, requests, self.hparams.fact)
        self.memory.add(
            [Feedback(r.prompt, r.subject, r.target_new, fact) for r, fact in zip(requests, facts, strict=True)]
        )

    def facts(self, query: str, joined: bool = False) -> list[str]:
        """The facts for a query, the newest last; ``joined`` says that it may end in a target."""
        feedback = self.memory.feedback
        if self.hparams.retrieval == "bm25":
            feedback = tuple(self.memory.closest(query, self.hparams.k, joined))
        return [item.fact for item in feedback]

    @property
    def contrast(self) -> Contrast:
        return self.hparams.contrast

    def contexts(self, prompts: Sequence[str], new_tokens: int = 0) -> list[Context]:
        room = max(new_tokens, self.hparams.answer_tokens)
        # The evaluation asks every prompt twice.
        found = {prompt: self._read(prompt.strip(), room) for prompt in set(prompts)}
        return [found[prompt] or Context(prompt, 0.0) for prompt in prompts]

    def _read(self, query: str, room: int) -> Context | None:
        """A query with its facts; None where it has none, or none fits."""
        facts = self._fitting(self.facts(query), lambda facts: self.reader.with_facts(query, facts), room)
        return Context(self.reader.with_facts(query, facts), 1.0) if facts else None

    def prefixes(self, texts: Sequence[str]) -> list[Context]:
        return [self._ahead(text.strip(), self.hparams.answer_tokens) for text in texts]

    def _ahead(self, text: str, room: int) -> Context:
        """What stands in front of a text that may end in a target."""
        facts = self._fitting(self.facts(text, joined=True), lambda facts: self.reader.in_front(facts) + text, room)
        return Context(self.reader.in_front(facts), 1.0) if facts else Context("", 0.0)

    def _fitting(self, facts: Sequence[str], write: Callable[[str], str], room: int) -> str:
        """As many of the newest facts as leave ``room`` tokens of the context, as one text.

        Args:
            facts: the newest last.
            write: makes of them all that the language model is given.
            room: tokens of the answer.
        """
        longest = max_positions(self.lm)

        def text(count: int) -> str:
            listed = facts[len(facts) - count :]
            return self.hparams.separator.join(self.hparams.fact_mark.format(fact=fact) for fact in listed)

        def fits(count: int) -> bool:
            return longest is None or self._length(write(text(count))) <= longest - room

        count = len(facts)
        if not fits(count):
            # Guess from each fact's own length, then correct: tokens may merge where texts meet.
            count, left = 0, (longest or 0) - room - self._length(write(""))
            while left > 0 and count < len(facts):
                count += 1
                left -= self._fact_length(facts[-count])
            while count < len(facts) and fits(count + 1):
                count += 1
            while count and not fits(count):
                count -= 1
        return text(count)

    def _length(self, text: str) -> int:
        return len(encode(self.tok, [text])[0])

    def _fact_length(self, fact: str) -> int:
        if fact not in self._lengths:
            self._lengths[fact] = self._length(self.hparams.separator + self.hparams.fact_mark.format(fact=fact))
        return self._lengths[fact]


def write_facts(lm: nn.Module, tok: Any, templates: Templates, requests: Sequence[EditRequest], form: str) -> list[str]:
    """Each request as a ``sentence``, or as the ``triple`` with the relation that the model finds likeliest.

    Raises:
        UsageError: a triple is wanted and a request names no subject.
    """
    if form == "sentence":
        return [join(request.prompt, request.target_new) for request in requests]
    for request in requests:
        if not request.subject:
            raise UsageError(f"{request.label}: field 'subject' is missing; a triple needs it (or set fact: sentence)")
    prompts = [
        templates.extract.format(K=1, e_q=r.subject, e_a=r.target_new, q=r.prompt, a=r.target_new) for r in requests
    ]
    vocabulary = list(WIKIDATA_PHRASES.values())
    ranked = relations.rank(lm, tok, prompts, [vocabulary] * len(prompts), 1) if prompts else []
    return [render_triple(r.subject, best[0], r.target_new) for r, best in zip(requests, ranked, strict=True)]

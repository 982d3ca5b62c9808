"""In-context learning: the weights stay, what the user told is put in front of every query.

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
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from kgt_editor.editors.base import Editor, call_form
from kgt_editor.editors.memory import MEMORY, Feedback, Memory, read_feedback, write_feedback
from kgt_editor.errors import UnsupportedModelError, UsageError
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.kgt import relations
from kgt_editor.kgt.hparams import TemplatedHParams
from kgt_editor.kgt.reader import Reader
from kgt_editor.kgt.templates import Templates, render_triple
from kgt_editor.lm import batching
from kgt_editor.lm.contrast import Context, Contrast
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.prompted import PromptedLM
from kgt_editor.lm.tokens import encode, join
from kgt_editor.requests import EditRequest


class ICLHParams(TemplatedHParams):
    """Settings of in-context learning.

    Attributes:
        retrieval: ``none`` puts every remembered fact in front of a query, ``bm25`` the ``k`` closest ones.
        k: how many facts ``bm25`` takes.
        fact: a ``sentence`` (prompt and answer), or a ``triple`` whose relation the model picks under T_extract.
        fact_mark: a fact as it is written in front, ``{fact}`` in its place.
        separator: what stands between two facts.
        reading: ``paper``, ``repeat`` or ``chat``, see :mod:`kgt_editor.kgt.reader`. (``stored`` puts the question that
            a fact answers in front; several facts answer several.)
        contrast: as for KGT, see :mod:`kgt_editor.lm.contrast`; only where a fact stands in front.
        answer_tokens: tokens of the model's context that are left for the answer; facts fill the rest.
        templates: ``reasoning`` for a prompt, ``prefix`` where prompt and target come joined.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"batch_size", "results_dir"})

    alg_name: Literal["ICL"] = "ICL"
    retrieval: Literal["none", "bm25"] = "none"
    k: int = Field(default=4, ge=1)
    fact: Literal["sentence", "triple"] = "sentence"
    fact_mark: str = Field(default="{fact}", pattern=r"\{fact\}")
    separator: str = "; "
    reading: Literal["paper", "repeat", "chat"] = "paper"
    contrast: float | Literal["adaptive"] = 0.0
    answer_tokens: int = Field(default=16, ge=1)


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
        return InContextLM(self.lm, self.tok, self.hparams, self.memory.feedback)

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


class ICLEditor(Editor):
    """Puts what the user told in front of every query."""

    name = "icl"
    description = (
        "in-context: every remembered fact in the prompt, or the closest by BM25 (icl:bm25); weights untouched"
    )
    hparams_class = ICLHParams
    hparams: ICLHParams

    def supports(self, model: nn.Module) -> tuple[bool, str]:
        """Any causal LM; where facts are triples, for which it is asked at once, one in evaluation mode."""
        if isinstance(model, InContextLM):
            return True, ""
        if isinstance(model, PromptedLM):
            return False, f"it is wrapped as {type(model).__name__} already; give its .lm"
        return batching.check_model(model) if self.hparams.fact == "triple" else (True, "")

    def apply(
        self,
        model: nn.Module,
        tok: Any,
        requests: list[dict[str, Any]],
        copy: bool = False,
        return_orig_weights: bool = False,
        keep_original_weight: bool = False,
        **kwargs: Any,
    ) -> tuple[InContextLM, Callable[[], None]]:
        """Takes the requests into the memory.

        Args:
            model: a plain LM, which is wrapped with an empty memory, or a wrapped one, whose memory and settings are
                resumed.
            tok: its tokenizer.
            requests: EasyEdit's dictionaries.
            copy: give the returned model a memory of its own; weights are never copied.
            return_orig_weights, keep_original_weight, **kwargs: EasyEdit's, of no effect: undoing is always possible.

        Returns:
            The wrapped model and a callable that puts back the memory as it was before.

        Raises:
            UnsupportedModelError: see :meth:`supports`.
            UsageError: a request is incomplete; none is remembered then.
        """
        ok, reason = self.supports(model)
        if not ok:
            raise UnsupportedModelError(f"editor '{self.name}' cannot edit this model: {reason}")
        parsed = [EditRequest.parse(request) for request in requests]
        if isinstance(model, InContextLM):
            wrapped = model.duplicate() if copy else model
        else:
            wrapped = InContextLM(model, tok, self.hparams)
        before = wrapped.memory.feedback
        wrapped.remember(parsed)

        def restore() -> None:
            wrapped.memory.feedback = before

        return wrapped, restore

    def save_state(self, model: nn.Module, folder: Path) -> bool:
        """The memory."""
        if isinstance(model, InContextLM):
            write_feedback(folder / MEMORY, model.memory.feedback)
        return True

    def load_state(self, model: nn.Module, tok: Any, folder: Path) -> nn.Module:
        if not (folder / MEMORY).is_file():
            return model
        return InContextLM(model, tok, self.hparams, read_feedback(folder / MEMORY))


apply_icl_to_model = call_form(ICLEditor)

"""The KG-enhanced language model f_{theta,G}, which reads its user's facts (paper, sections 3 and 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kgt_editor.errors import KgtError, UnsupportedModelError, UsageError
from kgt_editor.graph.personal import Edit, PersonalGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import marginal, saved
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.reader import Reader, stored_query
from kgt_editor.kgt.retrieval import RelevantTriple, Retrieval
from kgt_editor.lm import batching, chat
from kgt_editor.lm.contrast import Context, Contrast
from kgt_editor.lm.loading import load_model
from kgt_editor.lm.prompted import PromptedLM, Show, check_pairs
from kgt_editor.lm.scoring import TargetScore, score_targets
from kgt_editor.lm.stopping import first_line
from kgt_editor.lm.tokens import continuation_ids_batch, encode


class KGEnhancedLM(PromptedLM):
    """A causal language model with one user's graph.

    A query is linked to an entity of the graph; the entity's triples are weighed by the guard, and the most probable
    one is read (all of them with ``inference: marginal``). A query without an entity, or whose entity has no triple
    that passes the guard ``retrieval_min``, is answered by the language model as if there were no graph. The weights
    are shared with ``lm``, never copied.

    Args:
        lm: any causal LM of transformers, in evaluation mode.
        tok: its tokenizer.
        graph: the user's graph; edits change it.
        hparams: the settings.

    Raises:
        UnsupportedModelError: ``lm`` is in training mode, or no causal LM.
    """

    def __init__(self, lm: nn.Module, tok: Any, graph: PersonalGraph, hparams: KGTHyperParams) -> None:
        ok, reason = batching.check_model(lm)
        if not ok:
            raise UnsupportedModelError(reason)
        super().__init__(lm, tok)
        self.hparams = hparams
        self.templates = hparams.prompts()
        self.retrieval = Retrieval(lm, tok, graph, hparams, self.templates)
        self.reader = Reader(tok, self.templates, hparams.reading, hparams.fact)

    def with_graph(self, graph: PersonalGraph) -> KGEnhancedLM:
        """The same language model, the very same weights, with another graph."""
        return KGEnhancedLM(self.lm, self.tok, graph, self.hparams)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the settings and the user's graph, not the weights, as peft writes an adapter.

        Raises:
            KgtError: it cannot be written.
        """
        saved.write(Path(folder), saved.Saved(self.name_or_path, self.hparams, self.graph))

    @classmethod
    def from_pretrained(cls, folder: str | Path, lm: nn.Module | None = None, tok: Any = None) -> KGEnhancedLM:
        """The model that :meth:`save_pretrained` has written; what it learns from now on is in memory.

        Args:
            folder: where it was written to.
            lm, tok: the language model and its tokenizer; without them they are loaded by the name that was kept.

        Raises:
            UsageError: no such folder, something else in it, one of ``lm`` and ``tok`` alone, or no such model.
            KgtError: the graph is damaged.
        """
        if (lm is None) != (tok is None):
            raise UsageError("from_pretrained needs both lm and tok, or neither")
        found = saved.read(Path(folder))
        if lm is None:
            lm, tok = load_model(found.model_name)
        return cls(lm, tok, found.graph, found.hparams)

    @property
    def graph(self) -> PersonalGraph:
        """The user's graph."""
        return self.retrieval.graph

    @property
    def contrast(self) -> Contrast:
        return self.hparams.contrast

    def candidates(self, head: str, query: str) -> list[Triple]:
        """At most ``max_candidates`` of the triples that start at ``head``, those that fit the query best."""
        return self.retrieval.candidates(head, query)

    def facts(
        self, prompts: Sequence[str], joined: bool = False, batch_size: int | None = None
    ) -> list[list[RelevantTriple]]:
        """The facts that each prompt is answered with, see :meth:`kgt_editor.kgt.retrieval.Retrieval.facts`."""
        return self.retrieval.facts(prompts, joined, batch_size)

    def explain(self, prompt: str) -> list[RelevantTriple]:
        """The facts that ``prompt`` is answered with and the feedback each came from, the most probable first."""
        return self.facts([prompt])[0]

    # How it answers

    def reasoning_prompt(self, query: str, triple: Triple, feedback: Edit | None = None) -> str:
        """What the language model is given to answer ``query`` with one triple, see :mod:`kgt_editor.kgt.reader`."""
        return self.reader.prompt(query, triple, feedback or self.retrieval.origin(triple))

    def weight(self, fact: RelevantTriple) -> float:
        """Share of the answer that is read off the most probable fact.

        P(z|q) by similarity; all of it by retrieval, and of a fact that a chain leads to.
        """
        return fact.probability if self.hparams.guard == "similarity" and not fact.through else 1.0

    def _context(self, prompt: str, facts: Sequence[RelevantTriple]) -> Context:
        """What the most probable fact makes of a prompt.

        A chain has turned the question into the one that its last triple answers: that one is read, and asked of the
        plain model, too.
        """
        if not facts:
            return Context(prompt, 0.0)
        query, fact = prompt.strip(), facts[0]
        if fact.through:
            query = self._in_place_of(query, fact)
        read = self.reasoning_prompt(query, fact.triple, fact.feedback)
        return Context(read, self.weight(fact), query if fact.through else "")

    def _in_place_of(self, query: str, fact: RelevantTriple) -> str:
        asked, turn = stored_query(fact.triple, fact.feedback), chat.last_turn(self.tok, query)
        return asked if turn is None else turn.replaced(asked)

    @property
    def takes_relations(self) -> bool:
        """Whether it is the user who names relations, those of questions too."""
        return self.hparams.relation_source == "user"

    def name_relations(self, query: str, relations: Sequence[str]) -> None:
        """Say which relations lead to a question's answer, see :meth:`.retrieval.Retrieval.name_relations`."""
        self.retrieval.name_relations(query, relations)

    def contexts(self, prompts: Sequence[str], new_tokens: int = 0, batch_size: int | None = None) -> list[Context]:
        """The reasoning prompt with the most probable triple, or the prompt where there is none.

        Raises:
            KgtError: ``inference`` is ``marginal``, which has no single prompt to continue.
        """
        self._check_top1("generate")
        facts = self.facts(prompts, batch_size=batch_size)
        return [self._context(prompt, listed) for prompt, listed in zip(prompts, facts, strict=True)]

    def prefixes(self, texts: Sequence[str]) -> list[Context]:
        """What stands in front of a text with the most probable triple; an entity at a text's end is not linked.

        Raises:
            KgtError: ``inference`` is ``marginal``.
        """
        self._check_top1("forward")
        return [
            Context(self.reader.prefix(facts[0].triple, facts[0].feedback), self.weight(facts[0]))
            if facts
            else Context("", 0.0)
            for facts in self.facts(texts, joined=True)
        ]

    def score_targets(
        self, prompts: Sequence[str], targets: Sequence[str], batch_size: int | None = None
    ) -> list[TargetScore]:
        """Score ``targets[i]`` as this model's answer to ``prompts[i]``, entity linked in the prompt alone.

        Args:
            prompts: without the answer.
            targets: one for each.
            batch_size: texts a forward pass, at most; without it as many as the device uses well. Reading with all
                triples (``inference: marginal``) does not look at it.

        Raises:
            UsageError: lists of unequal length, or an empty prompt or target.
            KgtError: a prompt with its facts is longer than the model's context.
            NumericalError: the model gives NaN.
        """
        check_pairs(prompts, targets)
        if self.hparams.inference == "top1":
            return self.score_contexts(prompts, self.contexts(prompts, batch_size=batch_size), targets, batch_size)
        facts = self.facts(prompts, batch_size=batch_size)
        plain = [index for index, listed in enumerate(facts) if not listed]
        found = score_targets(
            self.lm, self.tok, [prompts[i] for i in plain], [targets[i] for i in plain], batch_size=batch_size
        )
        scores = dict(zip(plain, found, strict=True))
        for index, listed in enumerate(facts):
            if listed:
                asked = [self.reasoning_prompt(prompts[index].strip(), fact.triple, fact.feedback) for fact in listed]
                pairs = continuation_ids_batch(self.tok, asked, [targets[index]] * len(asked))
                scores[index] = marginal.score(self.lm, pairs, [fact.probability for fact in listed])
        return [scores[index] for index in range(len(facts))]

    @torch.no_grad()
    def answer_many(self, prompts: Sequence[str], max_new_tokens: int = 16, show: Show = None) -> list[str]:
        """The greedy answers, see :meth:`PromptedLM.answer`; with ``inference: marginal`` each is shown when whole."""
        if self.hparams.inference == "top1":
            return super().answer_many(prompts, max_new_tokens, show)
        facts = self.facts(prompts)
        return [self.answer_from(*one, max_new_tokens, show) for one in zip(prompts, facts, strict=True)]

    @torch.no_grad()
    def answer_from(
        self, prompt: str, facts: Sequence[RelevantTriple], max_new_tokens: int = 16, show: Show = None
    ) -> str:
        """As :meth:`answer`, by facts looked up before (:meth:`facts`); the plain LM's answer where there are none."""
        if self.hparams.inference == "top1":
            return self.answer_contexts([prompt], [self._context(prompt, facts)], max_new_tokens, show)[0]
        answer = self._answer_marginal(prompt, facts, max_new_tokens)
        if show:
            show(answer)
        return answer

    def _answer_marginal(self, prompt: str, facts: Sequence[RelevantTriple], max_new_tokens: int) -> str:
        texts = [self.reasoning_prompt(prompt.strip(), fact.triple, fact.feedback) for fact in facts] or [
            prompt.strip()
        ]
        weights = [fact.probability for fact in facts] or [1.0]
        contexts = encode(self.tok, texts)
        written = marginal.decode(self.lm, contexts, weights, self.tok.eos_token_id, max_new_tokens)
        return first_line(self._text(written))

    def _check_top1(self, name: str) -> None:
        if self.hparams.inference != "top1":
            raise KgtError(f"{name} reads one triple a query; use answer or score_targets, or set inference to top1")

"""The KG-enhanced language model f_{theta,G}, which reads its user's facts (paper, sections 3 and 4.1)."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from kgt_editor.errors import KgtError, UnsupportedModelError
from kgt_editor.graph.personal import Edit, PersonalGraph
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import guard, marginal, objective
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.reader import Reader, stored_query
from kgt_editor.kgt.representation import Representations
from kgt_editor.lm import batching, chat, forest, tree
from kgt_editor.lm.contrast import Context, Contrast
from kgt_editor.lm.prompted import PromptedLM, check_pairs
from kgt_editor.lm.scoring import TargetScore, score_targets
from kgt_editor.lm.tokens import continuation_ids_batch, encode


@dataclass(frozen=True, slots=True)
class Fact:
    """A triple that bears on a query.

    Attributes:
        triple: what the graph says.
        relevance: what the guard looks at: the probability that the triple bears on the query (``similarity``), or
            P_theta(r | T_retrieve(q)) (``retrieval``).
        probability: P(z|q): by ``similarity`` the same, by ``retrieval`` eq. 5 over the triples that pass the guard.
        feedback: the edit it came from; None for a fact of the base graph.
    """

    triple: Triple
    relevance: float
    probability: float
    feedback: Edit | None


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
        self.graph = graph
        self.hparams = hparams
        self.templates = hparams.prompts()
        self.reader = Reader(tok, self.templates, hparams.reading, hparams.fact)

    def with_graph(self, graph: PersonalGraph) -> KGEnhancedLM:
        """The same language model, the very same weights, with another graph."""
        return KGEnhancedLM(self.lm, self.tok, graph, self.hparams)

    @property
    def contrast(self) -> Contrast:
        return self.hparams.contrast

    # Which facts a query is answered with

    def candidates(self, head: str, query: str) -> list[Triple]:
        """At most ``max_candidates`` of the triples that start at ``head``, those that fit the query best."""
        return self.graph.candidates(head, query, self.hparams.max_candidates)

    def retrieval_pairs(self, query: str, head: str, relations: Sequence[str]) -> list[tree.Pair]:
        """Token ids of T_retrieve(query) and of each relation after it."""
        return tree.encode_continuations(self.tok, self.templates.retrieve.format(q=query, e_q=head), relations)

    def vocabulary(self) -> list[str]:
        """The known relations: the graph's (base and the user's own) and Wikidata's."""
        return list(dict.fromkeys([*self.graph.relations(), *WIKIDATA_PHRASES.values()]))

    def longer(self, relations: Sequence[str]) -> dict[str, list[str]]:
        """For each relation the known ones that go on after it, see :func:`objective.ended`."""
        return objective.longer(relations, self.vocabulary())

    def bearing(self, query: str, subject: str, triples: Sequence[Triple]) -> list[float]:
        """log P(z|q) of each triple by the guard ``similarity``; see :mod:`kgt_editor.kgt.guard`."""
        return self._bearing([self._asked(query, subject, triples)])[0]

    def _bearing(self, asked: Sequence[guard.Asked]) -> list[list[float]]:
        representations = Representations.of(self.lm, self.tok)
        return guard.bearing(representations, asked, self.hparams.guard_midpoint, self.hparams.guard_slope)

    def _asked(self, query: str, subject: str, triples: Sequence[Triple]) -> guard.Asked:
        stored = [stored_query(triple, self.origin(triple)) for triple in triples]
        return guard.Asked(query, subject, stored, triples[0].head if triples else subject)

    def origin(self, triple: Triple) -> Edit | None:
        """The user's feedback that put the triple there; None for a fact of the base graph."""
        edit = self.graph.explain(triple)
        return edit if edit is not None and triple in edit.added else None

    def facts(self, prompts: Sequence[str], joined: bool = False, batch_size: int | None = None) -> list[list[Fact]]:
        """For each prompt the triples it is answered with, the most probable first; none where the plain LM answers.

        Args:
            prompts: plain text, or a chat, whose last message by the user counts.
            joined: the prompts may end in a target. An entity at their end is not linked then, and what a triple's tail
                adds at the end is no part of the question.
            batch_size: as in :meth:`score_targets`.
        """
        queries = [self._question(prompt) for prompt in prompts]
        asked: dict[str, tuple[str, str, list[Triple]]] = {}
        for query in dict.fromkeys(queries):
            matches = self.graph.matches(query, joined)
            if not matches:
                continue
            subject = unicodedata.normalize("NFC", query)[matches[0].start : matches[0].end]
            triples = self.candidates(matches[0].head, query)
            question = _without_tail(query, triples) if joined else query
            if triples:
                asked[query] = (question, subject, triples)
        if not asked:
            return [[] for _ in queries]
        weigh = self._by_similarity if self.hparams.guard == "similarity" else self._by_retrieval
        found = dict(zip(asked, weigh(list(asked.values()), batch_size), strict=True))
        return [found.get(query, []) for query in queries]

    def _question(self, prompt: str) -> str:
        turn = chat.last_turn(self.tok, prompt)
        return (turn.content if turn is not None else prompt).strip()

    def _by_similarity(
        self, asked: Sequence[tuple[str, str, list[Triple]]], batch_size: int | None
    ) -> list[list[Fact]]:
        """Facts by the guard ``similarity``: P(z|q) as it is, what is missing to 1 belongs to no fact."""
        scores = self._bearing([self._asked(*one) for one in asked])
        found = []
        for (_, _, triples), logs in zip(asked, scores, strict=True):
            weights = [math.exp(value) for value in logs]
            facts = [
                Fact(triple, weight, weight, self.origin(triple))
                for triple, weight in zip(triples, weights, strict=True)
                if weight >= self.hparams.retrieval_min
            ]
            found.append(_latest_first(facts))
        return found

    def _by_retrieval(self, asked: Sequence[tuple[str, str, list[Triple]]], batch_size: int | None) -> list[list[Fact]]:
        """Facts by P(r | T_retrieve), eq. 5."""
        longer = [self.longer([z.relation for z in triples]) for _, _, triples in asked]
        names = [list(dict.fromkeys([*found, *chain.from_iterable(found.values())])) for found in longer]
        pairs = [
            pair
            for (query, _, triples), relations in zip(asked, names, strict=True)
            for pair in self.retrieval_pairs(query, triples[0].head, relations)
        ]
        scores = iter(forest.score_many(self.lm, pairs, batch_size))
        return [
            self._weigh(triples, objective.ended({name: next(scores).log_prob for name in relations}, found))
            for (_, _, triples), relations, found in zip(asked, names, longer, strict=True)
        ]

    def _weigh(self, triples: Sequence[Triple], retrieval: dict[str, float]) -> list[Fact]:
        scored = [objective.ScoredTriple(z, retrieval[z.relation], 0.0, False) for z in triples]
        read = objective.usable(scored, self.hparams.retrieval_min)
        weights = torch.tensor(objective.retrieval_log_probs(read)).exp().tolist()
        facts = [
            Fact(s.triple, float(torch.tensor(s.retrieval).exp()), weight, self.origin(s.triple))
            for s, weight in zip(read, weights, strict=True)
        ]
        return _latest_first(facts)

    def explain(self, prompt: str) -> list[Fact]:
        """The facts that ``prompt`` is answered with and the feedback each came from, the most probable first."""
        return self.facts([prompt])[0]

    # How it answers

    def reasoning_prompt(self, query: str, triple: Triple, feedback: Edit | None = None) -> str:
        """What the language model is given to answer ``query`` with one triple, see :mod:`kgt_editor.kgt.reader`."""
        return self.reader.prompt(query, triple, feedback or self.origin(triple))

    def weight(self, fact: Fact) -> float:
        """Share of the answer that is read off the most probable fact: P(z|q) by similarity, else all of it."""
        return fact.probability if self.hparams.guard == "similarity" else 1.0

    def contexts(self, prompts: Sequence[str], new_tokens: int = 0, batch_size: int | None = None) -> list[Context]:
        """The reasoning prompt with the most probable triple, or the prompt where there is none.

        Raises:
            KgtError: ``inference`` is ``marginal``, which has no single prompt to continue.
        """
        self._check_top1("generate")
        facts = self.facts(prompts, batch_size=batch_size)
        return [
            Context(self.reasoning_prompt(prompt.strip(), listed[0].triple, listed[0].feedback), self.weight(listed[0]))
            if listed
            else Context(prompt, 0.0)
            for prompt, listed in zip(prompts, facts, strict=True)
        ]

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
    def answer_many(self, prompts: Sequence[str], max_new_tokens: int = 16) -> list[str]:
        """The greedy answers: up to the end of the text or of the line, ``max_new_tokens`` at most."""
        if self.hparams.inference == "top1":
            return super().answer_many(prompts, max_new_tokens)
        return [self._answer_marginal(prompt, max_new_tokens) for prompt in prompts]

    def _answer_marginal(self, prompt: str, max_new_tokens: int) -> str:
        facts = self.facts([prompt])[0]
        texts = [self.reasoning_prompt(prompt.strip(), fact.triple, fact.feedback) for fact in facts] or [
            prompt.strip()
        ]
        weights = [fact.probability for fact in facts] or [1.0]
        contexts = encode(self.tok, texts)
        return self._first_line(marginal.decode(self.lm, contexts, weights, self.tok.eos_token_id, max_new_tokens))

    def _check_top1(self, name: str) -> None:
        if self.hparams.inference != "top1":
            raise KgtError(f"{name} reads one triple a query; use answer or score_targets, or set inference to top1")


def _latest_first(facts: list[Fact]) -> list[Fact]:
    """The most probable first; of equally probable ones the user's latest, as in :func:`objective.most_probable`."""
    latest = list(reversed(facts))
    return sorted(latest, key=lambda fact: (-fact.probability, -(fact.feedback.number if fact.feedback else 0)))


def _without_tail(text: str, triples: Sequence[Triple]) -> str:
    """The text without a triple's tail at its end, which is the target that was joined to it."""
    folded = text.rstrip(" .")
    for triple in sorted(triples, key=lambda triple: -len(triple.tail)):
        if folded.casefold().endswith(triple.tail.casefold()):
            return folded[: len(folded) - len(triple.tail)].rstrip() or text
    return text

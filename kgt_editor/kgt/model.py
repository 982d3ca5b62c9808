"""The KG-enhanced language model f_{theta,G}, which reads its user's facts (paper, sections 3 and 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kgt_editor.errors import KgtError, UnsupportedModelError
from kgt_editor.graph.personal import Edit, PersonalGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import marginal, objective
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.templates import render_triple
from kgt_editor.lm import forest, reading, tree
from kgt_editor.lm.prompted import PromptedLM, check_pairs
from kgt_editor.lm.scoring import TargetScore, score_targets
from kgt_editor.lm.tokens import continuation_ids_batch, encode


@dataclass(frozen=True, slots=True)
class Fact:
    """A triple that bears on a query.

    Attributes:
        triple: what the graph says.
        relevance: P_theta(r | T_retrieve(q)), what the retrieval guard looks at.
        probability: P(z|q), eq. 5, over the triples that pass the guard.
        feedback: the edit it came from; None for a fact of the base graph.
    """

    triple: Triple
    relevance: float
    probability: float
    feedback: Edit | None


class KGEnhancedLM(PromptedLM):
    """A causal language model with one user's graph.

    A query is linked to an entity of the graph; the entity's triples are weighed by T_retrieve (eq. 5) and read by
    T_reasoning. A query without an entity, or whose entity has no triple that passes the guard ``retrieval_min``, is
    answered by the language model as if there were no graph. The weights are shared with ``lm``, never copied.

    Args:
        lm: any causal LM of transformers, in evaluation mode.
        tok: its tokenizer.
        graph: the user's graph; edits change it.
        hparams: the settings.

    Raises:
        UnsupportedModelError: ``lm`` is in training mode, or no causal LM.
    """

    def __init__(self, lm: nn.Module, tok: Any, graph: PersonalGraph, hparams: KGTHyperParams) -> None:
        ok, reason = reading.check_model(lm)
        if not ok:
            raise UnsupportedModelError(reason)
        super().__init__(lm, tok)
        self.graph = graph
        self.hparams = hparams
        self.templates = hparams.prompts()

    def with_graph(self, graph: PersonalGraph) -> KGEnhancedLM:
        """The same language model, the very same weights, with another graph."""
        return KGEnhancedLM(self.lm, self.tok, graph, self.hparams)

    # Which facts a query is answered with

    def candidates(self, head: str) -> list[Triple]:
        """At most ``max_candidates`` of the triples that start at ``head``: the user's, then the base's first ones."""
        return self.graph.triples_from(head, self.hparams.max_candidates)

    def retrieval_pairs(self, query: str, head: str, relations: Sequence[str]) -> list[tree.Pair]:
        """Token ids of T_retrieve(query) and of each relation after it."""
        return tree.encode_continuations(self.tok, self.templates.retrieve.format(q=query, e_q=head), relations)

    def reasoning_prompt(self, query: str, triple: Triple) -> str:
        """T_reasoning for one triple."""
        facts = render_triple(triple.head, triple.relation, triple.tail)
        return self.templates.reasoning.format(q=query, z=facts)

    def facts(self, prompts: Sequence[str], joined: bool = False, batch_size: int | None = None) -> list[list[Fact]]:
        """For each prompt the triples it is answered with, the most probable first; none where the plain LM answers.

        ``joined`` says that the prompts may end in a target: an entity at their end is not linked then; ``batch_size``
        as in :meth:`score_targets`.
        """
        queries = [prompt.strip() for prompt in prompts]
        asked: dict[str, list[Triple]] = {}
        for query in dict.fromkeys(queries):
            head = self.graph.link(query, joined)
            triples = self.candidates(head) if head is not None else []
            if triples:
                asked[query] = triples
        relations = {query: list(dict.fromkeys(z.relation for z in triples)) for query, triples in asked.items()}
        pairs = [
            pair
            for query, names in relations.items()
            for pair in self.retrieval_pairs(query, asked[query][0].head, names)
        ]
        scores = iter(forest.score_many(self.lm, pairs, batch_size))
        found: dict[str, list[Fact]] = {}
        for query, triples in asked.items():
            known = {relation: next(scores).log_prob for relation in relations[query]}
            found[query] = self._weigh(triples, known)
        return [found.get(query, []) for query in queries]

    def _weigh(self, triples: Sequence[Triple], retrieval: dict[str, float]) -> list[Fact]:
        scored = [objective.ScoredTriple(z, retrieval[z.relation], 0.0, False) for z in triples]
        read = objective.usable(scored, self.hparams.retrieval_min)
        weights = torch.tensor(objective.retrieval_log_probs(read)).exp().tolist()
        facts = [
            Fact(s.triple, float(torch.tensor(s.retrieval).exp()), weight, self._origin(s.triple))
            for s, weight in zip(read, weights, strict=True)
        ]
        # Of equally probable triples the latest one stands first, as in objective.most_probable.
        facts.reverse()
        return sorted(facts, key=lambda fact: -fact.probability)

    def _origin(self, triple: Triple) -> Edit | None:
        edit = self.graph.explain(triple)
        return edit if edit is not None and triple in edit.added else None

    def explain(self, prompt: str) -> list[Fact]:
        """The facts that ``prompt`` is answered with and the feedback each came from, the most probable first."""
        return self.facts([prompt])[0]

    # How it answers

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
        facts = self.facts(prompts, batch_size=batch_size)
        scores: dict[int, TargetScore] = {}
        plain = [index for index, listed in enumerate(facts) if not listed]
        found = score_targets(
            self.lm, self.tok, [prompts[i] for i in plain], [targets[i] for i in plain], batch_size=batch_size
        )
        scores.update(zip(plain, found, strict=True))
        enhanced = [index for index, listed in enumerate(facts) if listed]
        if self.hparams.inference == "top1":
            pairs = self._reasoning_pairs((prompts[i], facts[i][0].triple, targets[i]) for i in enhanced)
            scores.update(zip(enhanced, forest.score_many(self.lm, pairs, batch_size), strict=True))
        else:
            for index in enhanced:
                pairs = self._reasoning_pairs((prompts[index], fact.triple, targets[index]) for fact in facts[index])
                scores[index] = marginal.score(self.lm, pairs, [fact.probability for fact in facts[index]])
        return [scores[index] for index in range(len(facts))]

    def _reasoning_pairs(self, asked: Iterable[tuple[str, Triple, str]]) -> list[tree.Pair]:
        listed = list(asked)
        contexts = [self.reasoning_prompt(prompt.strip(), triple) for prompt, triple, _ in listed]
        return continuation_ids_batch(self.tok, contexts, [target for _, _, target in listed])

    @torch.no_grad()
    def answer(self, prompt: str, max_new_tokens: int = 16) -> str:
        """The greedy answer: up to the end of the text or of the line, ``max_new_tokens`` at most."""
        facts = self.facts([prompt])[0]
        if self.hparams.inference == "top1" or len(facts) < 2:
            return self._continue(self._read_one(prompt, facts), max_new_tokens)
        contexts = encode(self.tok, [self.reasoning_prompt(prompt.strip(), fact.triple) for fact in facts])
        weights = [fact.probability for fact in facts]
        return self._first_line(marginal.decode(self.lm, contexts, weights, self.tok.eos_token_id, max_new_tokens))

    def rewrite(self, prompts: Sequence[str], new_tokens: int = 0) -> list[str]:
        """T_reasoning with the most probable triple, or the prompt where there is none.

        Raises:
            KgtError: ``inference`` is ``marginal``, which has no single prompt to continue.
        """
        self._check_top1("generate")
        facts = self.facts(prompts)
        return [self._read_one(prompt, listed) for prompt, listed in zip(prompts, facts, strict=True)]

    def _read_one(self, prompt: str, facts: Sequence[Fact]) -> str:
        return self.reasoning_prompt(prompt.strip(), facts[0].triple) if facts else prompt

    def prefixes(self, texts: Sequence[str]) -> list[str]:
        """T_prefix up to the query, with the most probable triple; an entity at the end of a text is not linked.

        Raises:
            KgtError: ``inference`` is ``marginal``.
        """
        self._check_top1("forward")
        return [self._prefix(facts[0].triple) if facts else "" for facts in self.facts(texts, joined=True)]

    def _prefix(self, triple: Triple) -> str:
        facts = render_triple(triple.head, triple.relation, triple.tail)
        return self.templates.prefix.format(q="", z=facts).rstrip()

    def _check_top1(self, name: str) -> None:
        if self.hparams.inference != "top1":
            raise KgtError(f"{name} reads one triple a query; use answer or score_targets, or set inference to top1")

"""Which facts bear on a query: P(z|q) over the triples of the entity that it names (paper, eq. 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import nn

from kgt_editor.graph.personal import Edit, PersonalGraph
from kgt_editor.graph.relations import NOTE, WIKIDATA_PHRASES
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import guard, objective
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.naming import PLACE
from kgt_editor.kgt.reader import stored_query
from kgt_editor.kgt.representation import Representations
from kgt_editor.kgt.templates import Templates
from kgt_editor.kgt.walk import Walk
from kgt_editor.lm import chat, continuations, tree


@dataclass(frozen=True, slots=True)
class RelevantTriple:
    """A triple that bears on a query.

    Attributes:
        triple: what the graph says.
        relevance: what the guard looks at: the probability that the triple bears on the query (``similarity``), or
            P_theta(r | T_retrieve(q)) (``retrieval``).
        probability: P(z|q): by ``similarity`` the same, by ``retrieval`` eq. 5 over the triples that pass the guard.
        feedback: the edit it came from; None for a fact of the base graph.
        through: the triples that led to it, from the question's entity on, or the one that it follows from; empty where
            it is a triple of that entity.
    """

    triple: Triple
    relevance: float
    probability: float
    feedback: Edit | None
    through: tuple[Triple, ...] = ()


#: Characters of a relation that the language model is asked for.
LONGEST_RELATION = 200

# A question, the subject as it stands there, and the subject's triples.
_Asked = tuple[str, str, list[Triple]]


def _relevance(facts: Sequence[RelevantTriple]) -> float:
    """How far the most probable fact bears on its question; 0 where there is none."""
    return facts[0].relevance if facts else 0.0


def _through(facts: Sequence[RelevantTriple]) -> bool:
    return bool(facts and facts[0].through)


def _log_odds(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability) if 0 < probability < 1 else -math.inf


def _turned(triple: Triple, source: Triple) -> str:
    """The question that ``source`` would answer if it were about its own tail."""
    relation = source.relation
    return relation.replace(PLACE, triple.head) if PLACE in relation else f"{triple.head} {relation}"


class Asking(NamedTuple):
    """Relations whose probability T_retrieve is asked for.

    Attributes:
        scored: they, and the known ones that go on after them.
        longer: for each of them those that go on after it, see :func:`objective.ended`.
    """

    scored: list[str]
    longer: dict[str, list[str]]


class Retrieval:
    """Finds the facts of a user's graph that a query is answered with.

    Args:
        lm: any causal LM of transformers, in evaluation mode.
        tok: its tokenizer.
        graph: the user's graph, as it is when something is asked.
        hparams: the settings.
        templates: the prompts that they give.
    """

    def __init__(
        self, lm: nn.Module, tok: Any, graph: PersonalGraph, hparams: KGTHyperParams, templates: Templates
    ) -> None:
        self.lm = lm
        self.tok = tok
        self.graph = graph
        self.hparams = hparams
        self.templates = templates
        self.walk = Walk(lm, tok, graph, hparams.hops, self.origin, self.bearing)
        self._named: dict[str, tuple[str, ...]] = {}

    def name_relations(self, query: str, relations: Sequence[str]) -> None:
        """Say which relations lead from a question's entity to its answer, in order; they are followed then.

        Args:
            query: the question, as it will be asked.
            relations: phrases, or labels such as ``P103``; none takes the word back.
        """
        if relations:
            self._named[query.strip()] = tuple(relations)
        else:
            self._named.pop(query.strip(), None)

    def candidates(self, head: str, query: str) -> list[Triple]:
        """At most ``max_candidates`` of the triples that start at ``head``, those that fit the query best.

        By ``retrieval`` one whose relation is too long to be asked for is not among them.
        """
        found = self.graph.candidates(head, query, self.hparams.max_candidates)
        if self.hparams.guard == "similarity":
            return found
        return [triple for triple in found if len(triple.relation) <= LONGEST_RELATION]

    def pairs(self, query: str, head: str, relations: Sequence[str]) -> list[tree.Pair]:
        """Token ids of T_retrieve(query) and of each relation after it."""
        return tree.encode_continuations(self.tok, self.templates.retrieve.format(q=query, e_q=head), relations)

    def vocabulary(self) -> list[str]:
        """The known relations: the graph's (base and the user's own) and Wikidata's.

        One of more than ``LONGEST_RELATION`` characters is a text that somebody put there, and names nothing else; a
        note says what its own words say.
        """
        known = [one for one in self.graph.relations() if len(one) <= LONGEST_RELATION and one != NOTE]
        return list(dict.fromkeys([*known, *WIKIDATA_PHRASES.values()]))

    def asking(self, relations: Sequence[str]) -> Asking:
        """What T_retrieve has to be asked for, to know how probable each relation is."""
        longer = objective.longer(relations, self.vocabulary())
        return Asking(list(dict.fromkeys([*longer, *chain.from_iterable(longer.values())])), longer)

    def bearing(self, query: str, subject: str, triples: Sequence[Triple]) -> list[float]:
        """log P(z|q) of each triple by the guard ``similarity``; see :mod:`kgt_editor.kgt.guard`."""
        return self.bearings([self.asked(query, subject, triples)])[0]

    def bearings(self, asked: Sequence[guard.Asked]) -> list[list[float]]:
        """:meth:`bearing` of many questions, of other users too, in as few passes as one."""
        representations = Representations.of(self.lm, self.tok)
        return guard.bearing(representations, asked, self.hparams.guard_midpoint, self.hparams.guard_slope)

    def asked(self, query: str, subject: str, triples: Sequence[Triple]) -> guard.Asked:
        """A question and those that the triples answer, as the guard ``similarity`` compares them."""
        stored = [stored_query(triple, self.origin(triple)) for triple in triples]
        return guard.Asked(query, subject, stored, triples[0].head if triples else subject)

    def origin(self, triple: Triple) -> Edit | None:
        """The user's feedback that put the triple there; None for a fact of the base graph."""
        edit = self.graph.explain(triple)
        return edit if edit is not None and triple in edit.added else None

    def facts(
        self, prompts: Sequence[str], joined: bool = False, batch_size: int | None = None
    ) -> list[list[RelevantTriple]]:
        """For each prompt the triples it is answered with, the most probable first; none where the plain LM answers.

        Args:
            prompts: plain text, or a chat, whose last message by the user counts.
            joined: the prompts may end in a target. An entity at their end is not linked then, and what a triple's tail
                adds at the end is no part of the question.
            batch_size: as in :meth:`score_targets`.
        """
        queries = [self._question(prompt) for prompt in prompts]
        asked: dict[str, _Asked] = {}
        for query in dict.fromkeys(queries):
            matches = self.graph.matches(query, joined)
            if not matches:
                continue
            subject = matches[0].of(query)
            triples = self.candidates(matches[0].head, query)
            question = _without_tail(query, triples) if joined else query
            if triples:
                asked[query] = (question, subject, triples)
        found = {query: self._along(query, triples[0].head) for query, (_, _, triples) in asked.items()}
        near = {query: one for query, one in asked.items() if not found[query]}
        if near:
            weigh = self._by_similarity if self.hparams.guard == "similarity" else self._by_retrieval
            found |= dict(zip(near, weigh(list(near.values()), batch_size), strict=True))
        if self.hparams.consequences:
            far = [query for query in dict.fromkeys(queries) if _relevance(found.get(query, [])) < math.exp(guard.EVEN)]
            found |= self._consequences(far, joined)
        if self.hparams.hops > 1:
            open_ = [query for query in near if _relevance(found[query]) < 1 and not _through(found[query])]
            found |= self._walked(open_, asked, found, batch_size)
        return [found.get(query, []) for query in queries]

    def _consequences(self, queries: Sequence[str], joined: bool) -> dict[str, list[RelevantTriple]]:
        """Questions that what follows from the user's triples answers."""
        about = {query: there for query in queries if (there := self.graph.consequences(query, joined))}
        listed = []
        for query, (match, follows) in about.items():
            subject = match.of(query)
            question = _without_tail(query, list(follows)) if joined else query
            # Behind each its relation the other way round: a question nearer to that one asks for something else.
            stored = [text for z, source in follows.items() for text in (stored_query(z, None), _turned(z, source))]
            listed.append(guard.Asked(question, subject, stored, match.head))
        found: dict[str, list[RelevantTriple]] = {}
        for (query, (_, follows)), logs in zip(about.items(), self.bearings(listed) if listed else [], strict=True):
            weighed = [
                (log, triple)
                for triple, log, turned in zip(follows, logs[::2], logs[1::2], strict=True)
                if log >= guard.EVEN and (log > turned or triple.relation == follows[triple].relation)
            ]
            if weighed:
                log, triple = max(weighed, key=lambda one: one[0])
                found[query] = [RelevantTriple(triple, math.exp(log), math.exp(log), None, (follows[triple],))]
        return found

    def _walked(
        self,
        queries: Sequence[str],
        asked: Mapping[str, _Asked],
        near: Mapping[str, list[RelevantTriple]],
        batch_size: int | None,
    ) -> dict[str, list[RelevantTriple]]:
        """Questions that a chain of triples answers, though a triple of the entity may seem to."""
        bars = [self.hparams.hop_gain + max(0.0, _log_odds(_relevance(near[query]))) for query in queries]
        heads = [(asked[query][0], asked[query][2][0].head, bar) for query, bar in zip(queries, bars, strict=True)]
        walked = zip(queries, self.walk.find(heads, batch_size), strict=True)
        return {query: [self._at_end(one.chain, one.probability)] for query, one in walked if one is not None}

    def _along(self, query: str, head: str) -> list[RelevantTriple]:
        """The fact at the end of the relations that were named for a question; none where the graph has no such."""
        relations = self._named.get(query, ())
        chain = self.walk.along(head, relations)
        return [self._at_end(chain, 1.0)] if relations and len(chain) == len(relations) else []

    def _at_end(self, chain: Sequence[Triple], probability: float) -> RelevantTriple:
        *through, last = chain
        return RelevantTriple(last, probability, probability, self.origin(last), tuple(through))

    def _question(self, prompt: str) -> str:
        turn = chat.last_turn(self.tok, prompt)
        return (turn.content if turn is not None else prompt).strip()

    def _by_similarity(self, asked: Sequence[_Asked], batch_size: int | None) -> list[list[RelevantTriple]]:
        """Facts by the guard ``similarity``: P(z|q) as it is, what is missing to 1 belongs to no fact."""
        scores = self.bearings([self.asked(*one) for one in asked])
        found = []
        for (_, _, triples), logs in zip(asked, scores, strict=True):
            weights = [math.exp(value) for value in logs]
            facts = [
                RelevantTriple(triple, weight, weight, self.origin(triple))
                for triple, weight in zip(triples, weights, strict=True)
                if weight >= self.hparams.retrieval_min
            ]
            found.append(_latest_first(facts))
        return found

    def _by_retrieval(self, asked: Sequence[_Asked], batch_size: int | None) -> list[list[RelevantTriple]]:
        """Facts by P(r | T_retrieve), eq. 5."""
        asking = [self.asking([z.relation for z in triples]) for _, _, triples in asked]
        pairs = [
            pair
            for (query, _, triples), found in zip(asked, asking, strict=True)
            for pair in self.pairs(query, triples[0].head, found.scored)
        ]
        scores = iter(continuations.score_many(self.lm, pairs, batch_size))
        return [
            self._weigh(triples, objective.ended({name: next(scores).log_prob for name in found.scored}, found.longer))
            for (_, _, triples), found in zip(asked, asking, strict=True)
        ]

    def _weigh(self, triples: Sequence[Triple], retrieval: dict[str, float]) -> list[RelevantTriple]:
        scored = [objective.ScoredTriple(z, retrieval[z.relation], 0.0, False) for z in triples]
        read = objective.usable(scored, self.hparams.retrieval_min)
        weights = torch.tensor(objective.retrieval_log_probs(read)).exp().tolist()
        facts = [
            RelevantTriple(s.triple, float(torch.tensor(s.retrieval).exp()), weight, self.origin(s.triple))
            for s, weight in zip(read, weights, strict=True)
        ]
        return _latest_first(facts)


def _latest_first(facts: list[RelevantTriple]) -> list[RelevantTriple]:
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

"""Questions that take several facts: a walk from entity to entity (the paper reads one-depth triples).

"The capital of the country that the author of X comes from" is answered by no triple of X, but by a chain: X's author,
that author's country, that country's capital. Of all chains that start at the entity of a question the one is taken
that makes the question likeliest: P(chain|q) is proportional to P(q|chain), the chains being equally likely before the
question. In the prompt behind P(q|chain) only the first entity has its name; the others are letters, because a question
of several facts names none of them. The answer is then that to the question which the last triple of the chain answers.

A chain has to make the question likelier than the entity's name alone does, and than the best single triple does, by
more than the guard trusts that triple: by ``hop_gain`` plus the log odds that the triple bears on the question. For a
question that is stored word for word no chain is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kgt_editor.graph.entry import Edit
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.relations import verbalise
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.guard import EVEN
from kgt_editor.kgt.reader import stored_query
from kgt_editor.kgt.representation import masked
from kgt_editor.lm.scoring import score_targets

Chain = tuple[Triple, ...]

_BREADTH = 8  # triples of one entity that are looked at: those that fit the question best
_BEAM = 4  # chains of one length that are made longer
_LETTERS = "XYZUVWRST"
_LEAST_GAIN = 4.0  # nats by which a chain must beat the entity's name alone; unrelated questions stay below
_NOTHING = "is"  # the relation of the chain that says nothing
_PROMPT = "Facts: {facts} Question: what is {last}? "


@dataclass(frozen=True, slots=True)
class Found:
    """The chain that a question is answered with.

    Attributes:
        chain: its triples, from the question's entity on; two or more.
        probability: P(chain|q) among the chains that were looked at.
    """

    chain: Chain
    probability: float


@dataclass
class _Search:
    """The chains of one question, as far as they are known, with log P(q|chain); the empty one is the entity alone."""

    query: str
    scores: dict[Chain, float] = field(default_factory=dict)

    def best(self, length: int) -> list[Chain]:
        """The likeliest chains of that length."""
        there = [one for one in self.scores if len(one) == length]
        return sorted(there, key=lambda one: -self.scores[one])[:_BEAM]

    def found(self, least_gain: float) -> Found | None:
        """The likeliest chain of several triples, if it says enough more than the entity and the best triple alone."""
        chains = [one for one in self.scores if one]
        far = [one for one in chains if len(one) > 1]
        likeliest = max(far, key=lambda one: self.scores[one], default=())
        near = max(self.scores[one] for one in chains if len(one) == 1)
        if self.scores[likeliest] <= max(self.scores[()] + _LEAST_GAIN, near + least_gain):
            return None
        scores = torch.tensor([self.scores[one] for one in chains]).log_softmax(0)
        return Found(likeliest, float(scores[chains.index(likeliest)].exp()))


class Walk:
    """Finds chains in a user's graph.

    Args:
        lm: any causal LM of transformers, in evaluation mode.
        tok: its tokenizer.
        graph: the user's graph.
        hops: triples of a chain, at most.
        origin: the user's feedback that a triple came from, if any.
        bearing: log probabilities that triples of an entity answer a question, by the guard.
    """

    def __init__(
        self,
        lm: Any,
        tok: Any,
        graph: PersonalGraph,
        hops: int,
        origin: Callable[[Triple], Edit | None],
        bearing: Callable[[str, str, Sequence[Triple]], Sequence[float]],
    ) -> None:
        self._lm, self._tok = lm, tok
        self._graph = graph
        self._hops = hops
        self._origin, self._bearing = origin, bearing

    def find(self, asked: Sequence[tuple[str, str, float]], batch_size: int | None = None) -> list[Found | None]:
        """The chain of each question; None where one triple or none is likelier, or where no triple leads on.

        Args:
            asked: questions with their entity, and by how many nats a chain must beat the best triple.
            batch_size: as in :func:`kgt_editor.lm.scoring.score_targets`.
        """
        searches = [_Search(query) for query, _, _ in asked]
        fronts = [self._begun(head, query) for query, head, _ in asked]
        nothing = [Triple(head, _NOTHING, _LETTERS[0]) for _, head, _ in asked]
        for length in range(1, self._hops + 1):
            texts = [
                (search, one, self._described(one or (alone,)))
                for search, front, alone in zip(searches, fronts, nothing, strict=True)
                for one in ([(), *front] if front and length == 1 else front)
            ]
            if not texts:
                break
            scores = score_targets(
                self._lm,
                self._tok,
                [text for _, _, text in texts],
                [search.query for search, _, _ in texts],
                batch_size=batch_size,
            )
            for (search, one, _), score in zip(texts, scores, strict=True):
                search.scores[one] = score.log_prob
            fronts = [
                [longer for one in search.best(length) for longer in self._longer(one, search.query)]
                for search in searches
            ]
        return [search.found(one[2]) if search.scores else None for search, one in zip(searches, asked, strict=True)]

    def along(self, head: str, relations: Sequence[str]) -> Chain:
        """The chain whose relations are given, in order; what there is of it where the graph does not go on.

        Args:
            head: the entity that it starts at.
            relations: phrases, or labels such as ``P103``.
        """
        found: list[Triple] = []
        for relation in map(verbalise, relations):
            there = self._graph.triples_from(self._head(found[-1].tail) if found else head)
            fitting = [triple for triple in there if triple.relation.casefold() == relation.casefold()]
            if not fitting:
                break
            own = [triple for triple in fitting if self._origin(triple)]
            found.append((own or fitting)[-1 if own else 0])
        return tuple(found)

    def _head(self, entity: str) -> str:
        return entity if self._graph.triples_from(entity, 1) else self._graph.head_for(entity)

    def _begun(self, head: str, query: str) -> list[Chain]:
        """The chains of one triple; none where no triple leads on, which needs no pass to be known."""
        there = self._graph.candidates(head, query, _BREADTH)
        leads_on = any(self._graph.triples_from(self._head(triple.tail), 1) for triple in there)
        return [(triple,) for triple in self._options(head, query)] if leads_on else []

    def _options(self, head: str, query: str) -> list[Triple]:
        """Triples that a chain may take at an entity; the user's word counts before the base graph's."""
        triples = self._graph.candidates(head, query, _BREADTH)
        own = [triple for triple in triples if self._origin(triple)]
        return [triple for triple in triples if triple in own or not self._answered(triple, own)]

    def _answered(self, base: Triple, own: Sequence[Triple]) -> bool:
        """Whether one of the user's triples answers the question that a base triple answers."""
        if not own:
            return False
        if base.relation in {triple.relation for triple in own}:
            return True
        return max(self._bearing(stored_query(base, None), base.head, own)) >= EVEN

    def _longer(self, chain: Chain, query: str) -> list[Chain]:
        """The chains that go on from this one, to entities where it has not been."""
        been = {triple.head for triple in chain}
        options = self._options(self._head(chain[-1].tail), query)
        return [(*chain, triple) for triple in options if triple.head not in been and triple.tail not in been]

    def _described(self, chain: Chain) -> str:
        """The prompt that a question is expected behind; only the first entity has its name."""
        facts = " ".join(self._sentence(triple, place) for place, triple in enumerate(chain))
        return _PROMPT.format(facts=facts, last=_LETTERS[len(chain) - 1])

    def _sentence(self, triple: Triple, place: int) -> str:
        query = stored_query(triple, self._origin(triple)).rstrip(" .")
        if place:
            query = masked(query, triple.head, _LETTERS[place - 1])
        return f"{query} {_LETTERS[place]}."

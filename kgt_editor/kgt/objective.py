"""What KGT optimises, from numbers already known: no function here runs the language model.

P(a|q,z) does not depend on the graph, and P(z|q) only renormalises retrieval probabilities, so one scoring of all
triples concerned (:class:`ScoredEdit`) answers every question the optimisers ask. Log is natural throughout.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kgt_editor.graph.triple import Triple
from kgt_editor.lm.scoring import TargetScore

# What rounding may leave of a relation that always goes on.
_LEAST_LEFT = 1e-6


@dataclass(frozen=True, slots=True)
class ScoredTriple:
    """A triple with what the language model says about it and one (query, answer).

    Attributes:
        triple: z = (e_q, r, e').
        retrieval: log P_theta(r | T_retrieve(q)), before any normalisation; with the guard ``similarity`` log P(z|q).
        reasoning: log P(a|q,z); with the guard ``similarity`` what P(z|q) lacks to 1 is the plain model's share of it.
        greedy: whether the model that reads z answers a, word for word.
        told: how often z stands in the prompt that it is read in.
    """

    triple: Triple
    retrieval: float
    reasoning: float
    greedy: bool
    told: int = 1


@dataclass(frozen=True, slots=True)
class ScoredEdit:
    """One edit, scored.

    Attributes:
        proposals: H(q, a, K), the likeliest relation first.
        present: the graph's triples that start at e_q (some may be proposals too).
        plain: the answer under the language model without facts.
        absolute: whether P(z|q) is a probability of its own (guard ``similarity``), not one over the entity's triples
            (eq. 5). The most probable triple is read then.
        replaced: triples of ``present`` that the user's new answer takes the place of.
    """

    proposals: tuple[ScoredTriple, ...]
    present: tuple[ScoredTriple, ...]
    plain: TargetScore
    absolute: bool = False
    replaced: tuple[ScoredTriple, ...] = ()


def log_sum_exp(values: Sequence[float]) -> float:
    """log(sum(exp(values))), minus infinity for none."""
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(value - top) for value in values))


def retrieval_log_probs(graph: Collection[ScoredTriple]) -> list[float]:
    """log P(z|q), eq. 5, for the triples of ``graph`` (those of G that start at e_q), in their order.

    The printed denominator names P(z|q) itself; it is taken as the sum of P_theta(r | T_retrieve(q)) over ``graph``.
    """
    total = log_sum_exp([scored.retrieval for scored in graph])
    return [scored.retrieval - total for scored in graph]


def longer(relations: Sequence[str], vocabulary: Sequence[str]) -> dict[str, list[str]]:
    """For each relation the known ones that begin with it, but for those that begin with one of these."""
    found: dict[str, list[str]] = {}
    for relation in relations:
        going_on = sorted((known for known in vocabulary if known.startswith(f"{relation} ")), key=len)
        nearest: list[str] = []
        for known in going_on:
            if not any(known.startswith(f"{shorter} ") for shorter in nearest):
                nearest.append(known)
        found[relation] = nearest
    return found


def ended(log_probs: Mapping[str, float], going_on: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """log P_theta of each relation as all that is said: without what longer known relations take from it.

    P_theta(r | T_retrieve) is that of a text that begins with r. So "is" would always beat "is a citizen of".

    Args:
        log_probs: of the relations and of all that go on after them.
        going_on: see :func:`longer`.
    """
    found = {}
    for relation, others in going_on.items():
        left = 1 - sum(math.exp(log_probs[other] - log_probs[relation]) for other in others)
        found[relation] = log_probs[relation] + math.log(max(left, _LEAST_LEFT))
    return found


def retrieve_loss(proposals: Collection[ScoredTriple], graph: Collection[ScoredTriple], floor: float) -> float:
    """L_retrieve, eq. 4: the mean of -log P(z|q) over H(q, a, K).

    A triple of H that is not in the graph has P(z|q) = 0 and would make the loss infinite; ``floor`` is the least
    P(z|q) that is counted (ours).
    """
    known = dict(zip((scored.triple for scored in graph), retrieval_log_probs(graph), strict=True))
    least = math.log(floor)
    return -sum(max(known.get(scored.triple, least), least) for scored in proposals) / len(proposals)


def reasoning_loss(proposals: Collection[ScoredTriple]) -> float:
    """L_reasoning, eq. 6: the mean of -log P(a|q,z) over H(q, a, K)."""
    return -sum(scored.reasoning for scored in proposals) / len(proposals)


def loss(proposals: Collection[ScoredTriple], graph: Collection[ScoredTriple], floor: float) -> float:
    """L, eq. 7: the sum of eqs. 4 and 6."""
    return retrieve_loss(proposals, graph, floor) + reasoning_loss(proposals)


def usable(graph: Collection[ScoredTriple], retrieval_min: float) -> list[ScoredTriple]:
    """The triples that inference would look at: those that T_retrieve asks for with probability enough."""
    least = math.log(retrieval_min) if retrieval_min > 0 else -math.inf
    return [scored for scored in graph if scored.retrieval >= least]


def answer_log_prob(problem: ScoredEdit, graph: Collection[ScoredTriple], retrieval_min: float) -> float:
    """log P(a|q), eq. 1: P(a|q,z) P(z|q) summed over the usable triples; the plain model's where there is none."""
    read = usable(graph, retrieval_min)
    if not read:
        return problem.plain.log_prob
    if problem.absolute:
        return read[most_probable([scored.retrieval for scored in read])].reasoning
    weights = retrieval_log_probs(read)
    return log_sum_exp([scored.reasoning + weight for scored, weight in zip(read, weights, strict=True)])


def answers_right(problem: ScoredEdit, graph: Collection[ScoredTriple], retrieval_min: float, inference: str) -> bool:
    """Whether the model with this graph answers a, word for word.

    With ``marginal`` inference that is taken from the triples one by one: those that make the model answer a have to
    hold more than half of the retrieval probability.
    """
    read = usable(graph, retrieval_min)
    if not read:
        return problem.plain.greedy
    weights = retrieval_log_probs(read)
    if inference == "top1":
        return read[most_probable(weights)].greedy
    return sum(math.exp(weight) for scored, weight in zip(read, weights, strict=True) if scored.greedy) > 0.5


def most_probable(log_probs: Sequence[float]) -> int:
    """Number of the highest value; of equal ones the last, which is the user's latest triple."""
    return max(range(len(log_probs)), key=lambda index: (log_probs[index], index))

"""Which triples to add and which to remove (paper, section 4.3). Nothing here runs the language model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import objective
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.objective import ScoredEdit, ScoredTriple


@dataclass(frozen=True, slots=True)
class GraphChange:
    """One operation on the graph.

    Attributes:
        operation: ``add`` or ``remove``.
        triple: the triple concerned.
        loss: the optimiser's loss after it, in nats.
    """

    operation: str
    triple: Triple
    loss: float


@dataclass(frozen=True, slots=True)
class Solution:
    """What an optimiser did.

    Attributes:
        steps: its operations in order, those without effect (a triple that was there already) included.
        graph: the triples at e_q that are left.
        done: whether the stop condition holds.
    """

    steps: tuple[GraphChange, ...]
    graph: tuple[ScoredTriple, ...]
    done: bool


def algorithm1(problem: ScoredEdit, hparams: KGTHyperParams) -> Solution:
    """Algorithm 1 as printed: add the best of H, remove the worst of G, in turn, until the loss is low enough.

    H is sorted by falling and G_q by rising P(a|q,z); G_q is taken before the first add, so a restated triple may
    well be added and removed again. The prose stops when the model answers right, the listing at loss <= epsilon:
    ``stop`` chooses, with eq. 7 as the loss.
    """
    to_add = sorted(problem.proposals, key=lambda scored: -scored.reasoning)
    to_remove = sorted(problem.present, key=lambda scored: scored.reasoning)
    graph = {scored.triple: scored for scored in problem.present}
    steps: list[GraphChange] = []

    def finished(operation: str, scored: ScoredTriple) -> bool:
        if operation == "add":
            graph.setdefault(scored.triple, scored)
        else:
            graph.pop(scored.triple, None)
        left = list(graph.values())
        loss = objective.loss(problem.proposals, left, hparams.probability_floor)
        steps.append(GraphChange(operation, scored.triple, loss))
        right = objective.answers_right(problem, left, hparams.retrieval_min, hparams.inference)
        return _stops(hparams.stop, loss <= hparams.epsilon, right)

    done = False
    for turn in range(max(len(to_add), len(to_remove))):
        done = turn < len(to_add) and finished("add", to_add[turn])
        if not done and turn < len(to_remove):
            done = finished("remove", to_remove[turn])
        if done:
            break
    return Solution(tuple(steps), tuple(graph.values()), done)


def greedy(problem: ScoredEdit, hparams: KGTHyperParams) -> Solution:
    """Ours: at each step the one add from H or remove from G_q that raises P(a|q), eq. 1, most.

    What a user says is stored whatever it gains: unless one of H is in the graph and used for the query, the first
    step adds the one that raises P(a|q) most, and what the answer replaces goes. From then on ``min_gain`` decides. It
    stops when the stop condition holds (with -log P(a|q) <= ``answer_epsilon`` as the loss), or when no step gains
    enough. Where several moves are equally good, adds come before removes, and likelier relations before others.
    """
    graph = {scored.triple: scored for scored in problem.present}
    steps: list[GraphChange] = []

    def value(triples: Sequence[ScoredTriple]) -> float:
        return objective.answer_log_prob(problem, triples, hparams.retrieval_min)

    def make(operation: str, scored: ScoredTriple) -> None:
        if operation == "add":
            graph[scored.triple] = scored
        else:
            graph.pop(scored.triple, None)
        steps.append(GraphChange(operation, scored.triple, -value(list(graph.values()))))

    in_use = objective.usable([z for z in problem.proposals if z.triple in graph], hparams.retrieval_min)
    new = [z for z in problem.proposals if z.triple not in graph]
    if new and not in_use:
        make("add", max(new, key=lambda z: value([*graph.values(), z])))
    for scored in problem.replaced:
        make("remove", scored)
    # A triple that was added or removed once is settled: no move can be taken back. What holds the answer stays.
    settled: set[Triple] = {step.triple for step in steps} | {scored.triple for scored in in_use}
    while True:
        left = list(graph.values())
        current = value(left)
        right = objective.answers_right(problem, left, hparams.retrieval_min, hparams.inference)
        if _stops(hparams.stop, -current <= hparams.answer_epsilon, right):
            return Solution(tuple(steps), tuple(left), True)
        moves = [("add", z, [*left, z]) for z in problem.proposals if z.triple not in graph | dict.fromkeys(settled)]
        moves += [("remove", z, [y for y in left if y is not z]) for z in left if z.triple not in settled]
        values = [value(after) for _, _, after in moves]
        best = max(range(len(moves)), key=lambda index: values[index], default=None)
        if best is None or math.exp(values[best]) - math.exp(current) < hparams.min_gain:
            return Solution(tuple(steps), tuple(left), False)
        operation, scored, _ = moves[best]
        make(operation, scored)
        settled.add(scored.triple)


OPTIMIZERS: dict[str, Callable[[ScoredEdit, KGTHyperParams], Solution]] = {"algorithm1": algorithm1, "greedy": greedy}


def _stops(stop: str, low: bool, right: bool) -> bool:
    return {"loss": low, "answer": right, "both": low and right}[stop]

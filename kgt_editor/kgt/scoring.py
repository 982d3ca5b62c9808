"""The numbers that an edit is decided on: what the language model says of every triple concerned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from kgt_editor.graph.personal import Edit
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import guard, naming, objective
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.objective import ScoredEdit, ScoredTriple
from kgt_editor.kgt.retrieval import Asking
from kgt_editor.lm import continuations, tree
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import TargetScore
from kgt_editor.lm.tokens import continuation_ids_batch
from kgt_editor.requests import EditRequest


@dataclass(frozen=True, slots=True)
class PlannedEdit:
    """One edit to be made: whose, what the user told, and the head that the graph keeps the subject's facts under."""

    model: KGEnhancedLM
    request: EditRequest
    head: str


def score(asked: Sequence[PlannedEdit], proposals: Sequence[list[Triple]]) -> list[ScoredEdit]:
    """All numbers of the edits: P(z|q), P(a|q,z) and the plain P(a|q)."""
    hparams = asked[0].model.hparams
    if hparams.guard == "similarity":
        return _score_by_similarity(asked, proposals)
    return _score_by_retrieval(asked, proposals)


def _score_by_retrieval(asked: Sequence[PlannedEdit], proposals: Sequence[list[Triple]]) -> list[ScoredEdit]:
    """With P(r | T_retrieve): one forward pass where the reading has no contrast, two where it has."""
    pairs: list[tree.Pair] = []
    parts: list[tuple[list[Triple], list[Triple], Asking]] = []
    contrast = asked[0].model.contrast
    for one, proposed in zip(asked, proposals, strict=True):
        model, query = one.model, one.request.prompt
        present = model.candidates(one.head, query)
        triples = list(dict.fromkeys([*proposed, *present]))
        asking = model.retrieval.asking([triple.relation for triple in triples])
        prompts = [*(_reading(one, triple, present) for triple in triples if not contrast), query]
        pairs += model.retrieval.pairs(query, one.head, asking.scored)
        pairs += continuation_ids_batch(model.tok, prompts, [one.request.target_new] * len(prompts))
        parts.append((present, triples, asking))
    scores = iter(continuations.score_continuations(asked[0].model.lm, pairs))
    problems = []
    for one, proposed, (present, triples, asking) in zip(asked, proposals, parts, strict=True):
        retrieval = objective.ended({name: next(scores).log_prob for name in asking.scored}, asking.longer)
        sure = [1.0] * len(triples)
        read = _read(one, triples, present, sure) if contrast else [next(scores) for _ in triples]
        known = {
            triple: ScoredTriple(triple, retrieval[triple.relation], found.log_prob, found.greedy, told)
            for triple, (found, told) in zip(triples, _told_again(one, triples, present, sure, read), strict=True)
        }
        replaced = tuple(known[z] for z in _replaced(one, present))
        listed = tuple(known[z] for z in proposed), tuple(known[z] for z in present)
        problems.append(ScoredEdit(*listed, next(scores), replaced=replaced))
    return problems


def _score_by_similarity(asked: Sequence[PlannedEdit], proposals: Sequence[list[Triple]]) -> list[ScoredEdit]:
    """With the guard ``similarity``: triples that it turns away are not read, they change nothing.

    One forward pass compares questions, where a head has triples already, and one reads; for all edits together.
    """
    listed = [one.model.candidates(one.head, one.request.prompt) for one in asked]
    questions = [
        one.model.retrieval.asked(one.request.prompt, one.request.subject, there)
        for one, there in zip(asked, listed, strict=True)
        if there
    ]
    bearings = iter(asked[0].model.retrieval.bearings(questions) if questions else ())
    plans = [
        _Plan.of(one, proposed, dict(zip(there, next(bearings) if there else (), strict=True)))
        for one, proposed, there in zip(asked, proposals, listed, strict=True)
    ]
    contexts = [_contexts(plan.edit, plan.triples, plan.present, plan.weights) for plan in plans]
    prompts = [plan.edit.request.prompt for plan in plans for _ in plan.triples]
    targets = [plan.edit.request.target_new for plan in plans for _ in plan.triples]
    read = iter(asked[0].model.score_beside(prompts, list(chain.from_iterable(contexts)), targets))
    return [_scored(plan, [next(read) for _ in plan.triples]) for plan in plans]


@dataclass(frozen=True, slots=True)
class _Plan:
    """An edit by the guard ``similarity``.

    Attributes:
        edit: what is to be made.
        proposed: H(q, a, K), or what stands in its place.
        bearing: log P(z|q) of the triples that the head has.
    """

    edit: PlannedEdit
    proposed: list[Triple]
    bearing: dict[Triple, float]

    @classmethod
    def of(cls, edit: PlannedEdit, proposed: list[Triple], bearing: dict[Triple, float]) -> _Plan:
        least = edit.model.hparams.least_log
        if all(bearing.get(triple, math.inf) < least for triple in proposed):
            # All of H is there, under questions that are not this one: the user's own words name it apart.
            request = edit.request
            proposed = [Triple(edit.head, naming.from_query(request.prompt, request.subject), request.target_new)]
        return cls(edit, proposed, bearing)

    @property
    def present(self) -> list[Triple]:
        """The head's triples that bear on the question."""
        return [triple for triple, log in self.bearing.items() if log >= self.edit.model.hparams.least_log]

    @property
    def triples(self) -> list[Triple]:
        """All that are read."""
        return list(dict.fromkeys([*self.proposed, *self.present]))

    @property
    def weights(self) -> list[float]:
        """P(z|q) of :attr:`triples`; a new one is the answer to this very question."""
        return [math.exp(self.bearing.get(triple, 0.0)) for triple in self.triples]


def _scored(plan: _Plan, read: Sequence[tuple[TargetScore, TargetScore]]) -> ScoredEdit:
    """All numbers of an edit.

    Args:
        read: for each of the plan's triples what was read off it, and what the plain model says.
    """
    triples, present = plan.triples, plan.present
    told = _told_again(plan.edit, triples, present, plan.weights, [mixed for mixed, _ in read])
    known = {
        triple: ScoredTriple(triple, plan.bearing.get(triple, 0.0), found.log_prob, found.greedy, times)
        for triple, (found, times) in zip(triples, told, strict=True)
    }
    replaced = tuple(known[z] for z in _replaced(plan.edit, present, plan.bearing))
    listed = tuple(known[z] for z in plan.proposed), tuple(known[z] for z in present)
    return ScoredEdit(*listed, read[0][1], absolute=True, replaced=replaced)


def _told_again(
    one: PlannedEdit,
    triples: Sequence[Triple],
    present: Sequence[Triple],
    weights: Sequence[float],
    read: Sequence[TargetScore],
) -> list[tuple[TargetScore, int]]:
    """What was read off each triple, and how often it had to be told for that.

    A new triple that the model does not follow is told again, up to ``tellings`` times; where that does not help
    either, it stays with once.
    """
    found = [(score, 1) for score in read]
    for told in range(2, one.model.hparams.tellings + 1):
        again = [i for i, (score, _) in enumerate(found) if not score.greedy and triples[i] not in present]
        if not again:
            break
        scores = _read(one, [triples[i] for i in again], present, [weights[i] for i in again], told)
        for index, score in zip(again, scores, strict=True):
            if score.greedy:
                found[index] = score, told
    return found


def _read(
    one: PlannedEdit, triples: Sequence[Triple], present: Sequence[Triple], weights: Sequence[float], told: int = 1
) -> list[TargetScore]:
    """The user's answer, read off each triple; a new one is told as often as ``told`` says."""
    count, contexts = len(triples), _contexts(one, triples, present, weights, told)
    return one.model.score_contexts([one.request.prompt] * count, contexts, [one.request.target_new] * count)


def _contexts(
    one: PlannedEdit, triples: Sequence[Triple], present: Sequence[Triple], weights: Sequence[float], told: int = 1
) -> list[Context]:
    """What the language model is given in place of the question, for each triple."""
    return [
        Context(_reading(one, triple, present, told), weight) for triple, weight in zip(triples, weights, strict=True)
    ]


def _reading(one: PlannedEdit, triple: Triple, present: Sequence[Triple], told: int = 1) -> str:
    """The reasoning prompt; a triple that is not in the graph yet will be there because of this very feedback."""
    request = one.request
    new = Edit(0, request.prompt, request.target_new, added=(triple,), told=told)
    feedback = one.model.retrieval.origin(triple) if triple in present else new
    return one.model.reader.prompt(request.prompt, triple, feedback)


def _replaced(
    one: PlannedEdit, present: Sequence[Triple], bearing: Mapping[Triple, float] | None = None
) -> list[Triple]:
    """The user's own earlier answers to this question: in the same words, or by the guard surely the same."""
    hparams = one.model.hparams
    (same,) = guard.curve([guard.SAME_QUESTION], hparams.guard_midpoint, hparams.guard_slope)
    found = []
    for triple in present:
        feedback = one.model.retrieval.origin(triple)
        if feedback is None or triple.tail.casefold() == one.request.target_new.casefold():
            continue
        if (bearing is not None and bearing[triple] >= same) or guard.same_question(feedback.query, one.request.prompt):
            found.append(triple)
    return found

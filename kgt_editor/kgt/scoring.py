"""The numbers that an edit is decided on: what the language model says of every triple concerned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kgt_editor.graph.personal import Edit
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import guard, naming, objective
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.objective import ScoredEdit, ScoredTriple
from kgt_editor.kgt.retrieval import Asking
from kgt_editor.lm import continuations, tree
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import TargetScore, score_targets
from kgt_editor.lm.tokens import continuation_ids_batch
from kgt_editor.requests import EditRequest

# log P(z|q) from which on two questions are taken for one: a new answer takes the place of the earlier one.
_SAME_QUESTION = math.log(0.9)


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
    """With the guard ``similarity``: triples that it turns away are not read, they change nothing."""
    problems = []
    for one, proposed in zip(asked, proposals, strict=True):
        model, request = one.model, one.request
        listed = model.candidates(one.head, request.prompt)
        bearing = dict(zip(listed, model.retrieval.bearing(request.prompt, request.subject, listed), strict=True))
        present = [triple for triple in listed if bearing[triple] >= model.hparams.least_log]
        if all(triple in bearing and triple not in present for triple in proposed):
            # All of H is there, under questions that are not this one: the user's own words name it apart.
            proposed = [Triple(one.head, naming.from_query(request.prompt, request.subject), request.target_new)]
        triples = list(dict.fromkeys([*proposed, *present]))
        retrieval = [bearing.get(triple, 0.0) for triple in triples]
        weights = [math.exp(value) for value in retrieval]
        read = _told_again(one, triples, present, weights, _read(one, triples, present, weights))
        known = {
            triple: ScoredTriple(triple, value, found.log_prob, found.greedy, told)
            for triple, value, (found, told) in zip(triples, retrieval, read, strict=True)
        }
        (plain,) = score_targets(model.lm, model.tok, [request.prompt], [request.target_new])
        replaced = tuple(known[z] for z in _replaced(one, present, bearing))
        problems.append(
            ScoredEdit(tuple(known[z] for z in proposed), tuple(known[z] for z in present), plain, True, replaced)
        )
    return problems


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
    contexts = [
        Context(_reading(one, triple, present, told), weight) for triple, weight in zip(triples, weights, strict=True)
    ]
    count = len(triples)
    return one.model.score_contexts([one.request.prompt] * count, contexts, [one.request.target_new] * count)


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
    found = []
    for triple in present:
        feedback = one.model.retrieval.origin(triple)
        if feedback is None or triple.tail.casefold() == one.request.target_new.casefold():
            continue
        certain = bearing is not None and bearing[triple] >= _SAME_QUESTION
        if certain or guard.same_question(feedback.query, one.request.prompt):
            found.append(triple)
    return found

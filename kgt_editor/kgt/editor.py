"""One edit: from a query and the user's answer to a changed graph (paper, section 4)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.graph.personal import Edit
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import naming, objective, relations
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.objective import ScoredEdit, ScoredTriple
from kgt_editor.kgt.optimizer import OPTIMIZERS, Solution
from kgt_editor.kgt.scoring import PlannedEdit, score
from kgt_editor.requests import EditRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an edit did.

    Attributes:
        edit: the journal's entry.
        problem: the numbers it was decided on.
        solution: the optimiser's steps.
        became: what became of the user's answer, one of :data:`kgt_editor.results.outcomes.OUTCOMES`.
        named_by: the source that H came from; ``rank`` where the model was to write it and wrote nothing usable.
    """

    edit: Edit
    problem: ScoredEdit
    solution: Solution
    became: str
    named_by: str


def edit(model: KGEnhancedLM, request: dict[str, Any]) -> Outcome:
    """Tune the graph of ``model`` to one answer; the language model stays as it is.

    Three forward passes as a rule with ``relation_source`` rank (the extraction prompt; the relations behind it;
    then retrieval, reasoning and the plain answer in one), one with user. Nothing changes when an error is raised.

    Raises:
        UsageError: the request is incomplete.
        KgtError: a prompt does not fit the model's context.
        NumericalError: the model gives NaN.
    """
    return edit_batch([model], [request])[0]


def edit_batch(models: Sequence[KGEnhancedLM], requests: Sequence[dict[str, Any]]) -> list[Outcome]:
    """Tune the graph of ``models[i]`` to ``requests[i]``, the forward passes of all users' edits put together.

    The result is that of one :func:`edit` after the other: a later edit of the same user and entity waits for the
    earlier one.

    Args:
        models: users' models over one and the same language model with equal settings; a user may come repeatedly.
        requests: as many.

    Raises:
        UsageError: a request is incomplete, lists of unequal length, or models that differ in more than their graph.
        KgtError, NumericalError: as :func:`edit`, or a journal cannot be written to. What was entered by then is taken
            back, so that no graph says anything else than before.
    """
    if len(models) != len(requests):
        raise UsageError(f"{len(models)} models but {len(requests)} requests")
    if any(model.lm is not models[0].lm or model.hparams != models[0].hparams for model in models):
        raise UsageError("a batch of edits needs users of one language model with equal settings")
    parsed = [EditRequest.parse(request).with_subject() for request in requests]
    entities = [(id(model.graph), one.subject.casefold()) for model, one in zip(models, parsed, strict=True)]
    outcomes: dict[int, Outcome] = {}
    waiting = list(range(len(requests)))
    try:
        while waiting:
            firsts: dict[tuple[int, str], int] = {}
            for index in waiting:
                firsts.setdefault(entities[index], index)
            now = list(firsts.values())
            waiting = [index for index in waiting if firsts[entities[index]] != index]
            asked = [PlannedEdit(models[i], parsed[i], _head(models[i], parsed[i].subject)) for i in now]
            for index, outcome in zip(now, _edit_together(asked), strict=True):
                outcomes[index] = outcome
    except BaseException:
        for index, outcome in reversed(outcomes.items()):
            models[index].graph.undo(outcome.edit.number)
        raise
    return [outcomes[index] for index in range(len(requests))]


def _edit_together(asked: Sequence[PlannedEdit]) -> Iterator[Outcome]:
    """Edits that do not depend on each other; the graphs change, one after the other, when all numbers are known."""
    proposed = propose_relations(asked)
    proposals = [
        [Triple(one.head, relation, one.request.target_new) for relation in names]
        for one, (names, _) in zip(asked, proposed, strict=True)
    ]
    for one, problem, (_, source) in zip(asked, score(asked, proposals), proposed, strict=True):
        solution = OPTIMIZERS[one.model.hparams.optimizer](problem, one.model.hparams)
        became = _became(one, problem, solution)
        yield Outcome(_commit(one, problem, solution), problem, solution, became, source)


def _became(one: PlannedEdit, problem: ScoredEdit, solution: Solution) -> str:
    """What became of the answer, see :class:`Outcome`."""
    answer = one.request.target_new.casefold()
    if not any(scored.triple.tail.casefold() == answer for scored in solution.graph):
        return "dropped"
    hparams = one.model.hparams
    if not objective.answers_right(problem, solution.graph, hparams.retrieval_min, hparams.inference):
        return "kept but not followed"
    return "held" if {z.triple for z in solution.graph} != {z.triple for z in problem.present} else "restated"


def _commit(one: PlannedEdit, problem: ScoredEdit, solution: Solution) -> Edit:
    before = {scored.triple for scored in problem.present}
    after = {scored.triple for scored in solution.graph}
    touched = dict.fromkeys(step.triple for step in solution.steps)
    return one.model.graph.commit(
        one.request.prompt,
        one.request.target_new,
        added=[triple for triple in touched if triple in after - before],
        removed=[triple for triple in touched if triple in before - after],
        before=_probability(one.model, problem, problem.present),
        after=_probability(one.model, problem, solution.graph),
        told=max((scored.told for scored in solution.graph if scored.triple in after - before), default=1),
    )


def _probability(model: KGEnhancedLM, problem: ScoredEdit, graph: tuple[ScoredTriple, ...]) -> float:
    """P(a|q), eq. 1, with these triples at e_q."""
    return math.exp(objective.answer_log_prob(problem, graph, model.hparams.retrieval_min))


def _head(model: KGEnhancedLM, subject: str) -> str:
    """The head under which the graph keeps facts about the subject."""
    return subject if model.graph.triples_from(subject, 1) else model.graph.head_for(subject)


def propose_relations(asked: Sequence[PlannedEdit]) -> list[tuple[list[str], str]]:
    """For each edit the relations of H(q, a, K), the likeliest first, and the source that they came from.

    It is the source that the settings name. Where the model is to write them (``generate``) and writes nothing usable,
    the vocabulary is ranked instead, and the source is ``rank``.
    """
    source = asked[0].model.hparams.relation_source
    found = [_from_source(one) for one in asked]
    open_ = [index for index, names in enumerate(found) if not names]
    if source == "generate" and open_:
        _log.warning("the model wrote no usable relation for %d of %d edits; ranked instead", len(open_), len(asked))
    for index, names in zip(open_, _ranked([asked[index] for index in open_]), strict=True):
        found[index] = names
    return [(names, "rank" if index in open_ else source) for index, names in enumerate(found)]


def _from_source(one: PlannedEdit) -> list[str]:
    """Relations that need no vocabulary; none with ``rank``, and none where the model writes nothing usable."""
    hparams, request = one.model.hparams, one.request
    if hparams.relation_source == "user":
        return relations.from_user(request, hparams.K)
    if hparams.relation_source == "query":
        return [naming.from_query(request.prompt, request.subject)]
    if hparams.relation_source == "generate":
        prompt = _extraction_prompt(one)
        return relations.generate(one.model.lm, one.model.tok, prompt, request.subject, request.target_new, hparams.K)
    return []


def _ranked(asked: Sequence[PlannedEdit]) -> list[list[str]]:
    """The likeliest relations of each edit's vocabulary."""
    if not asked:
        return []
    model = asked[0].model
    lm, tok, hparams = model.lm, model.tok, model.hparams
    known = [one.model.retrieval.vocabulary() for one in asked]
    if hparams.ranking == "extract":
        return relations.rank(lm, tok, [_extraction_prompt(one) for one in asked], known, hparams.K)
    requests = [one.request for one in asked]
    return naming.rank(lm, tok, [(one.prompt, one.subject, one.target_new) for one in requests], known, hparams.K)


def _extraction_prompt(one: PlannedEdit) -> str:
    request = one.request
    return one.model.templates.extract.format(
        K=one.model.hparams.K, e_q=request.subject, e_a=request.target_new, q=request.prompt, a=request.target_new
    )

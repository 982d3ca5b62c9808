"""One edit: from a query and the user's answer to a changed graph (paper, section 4)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.graph.personal import Edit
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import naming, objective, relations
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.objective import Problem, ScoredTriple
from kgt_editor.kgt.optimizer import OPTIMIZERS, Solution
from kgt_editor.lm import forest, tree
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import TargetScore, score_targets
from kgt_editor.lm.tokens import continuation_ids_batch

_log = logging.getLogger(__name__)

# log P(z|q) from which on two questions are taken for one: a new answer takes the place of the earlier one.
_SAME_QUESTION = math.log(0.9)


@dataclass(frozen=True, slots=True)
class Feedback:
    """A user's answer to a query.

    Attributes:
        query: q, a cloze prompt with the subject in it.
        subject: e_q, as it stands in the query.
        answer: a, taken as the entity e_a too.
    """

    query: str
    subject: str
    answer: str

    @classmethod
    def from_request(cls, request: dict[str, Any]) -> Feedback:
        """Read EasyEdit's request dictionary; ``{}`` in its prompt stands for the subject.

        Raises:
            UsageError: prompt, subject or target_new is missing or empty, or the subject is not in the prompt.
        """
        values = {}
        for name in ("prompt", "subject", "target_new"):
            value = request.get(name)
            if isinstance(value, dict):
                value = value.get("str")  # ROME's own form of a target
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"request {request.get('case_id', '')}: '{name}' must be a text, got {value!r}")
            values[name] = value.strip()
        query = values["prompt"].replace("{}", values["subject"])
        if values["subject"] not in query:
            raise UsageError(f"subject {values['subject']!r} is not in its prompt {query!r}")
        return cls(query, values["subject"], values["target_new"])


#: ``held``: stored, and the model answers it now. ``kept but not followed``: stored, and the model still answers
#: otherwise. ``restated``: the graph held it already. ``dropped``: no triple says it (Algorithm 1 as printed may).
OUTCOMES = ("held", "kept but not followed", "restated", "dropped")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an edit did.

    Attributes:
        edit: the journal's entry.
        problem: the numbers it was decided on.
        solution: the optimiser's steps.
        became: what became of the user's answer, one of :data:`OUTCOMES`.
    """

    edit: Edit
    problem: Problem
    solution: Solution
    became: str


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
        KgtError, NumericalError: as :func:`edit`. Nothing is changed in any graph then.
    """
    if len(models) != len(requests):
        raise UsageError(f"{len(models)} models but {len(requests)} requests")
    if any(model.lm is not models[0].lm or model.hparams != models[0].hparams for model in models):
        raise UsageError("a batch of edits needs users of one language model with equal settings")
    feedback = [Feedback.from_request(request) for request in requests]
    entities = [(id(model.graph), told.subject.casefold()) for model, told in zip(models, feedback, strict=True)]
    outcomes: dict[int, Outcome] = {}
    waiting = list(range(len(requests)))
    try:
        while waiting:
            firsts: dict[tuple[int, str], int] = {}
            for index in waiting:
                firsts.setdefault(entities[index], index)
            now = list(firsts.values())
            waiting = [index for index in waiting if firsts[entities[index]] != index]
            asked = [_Asked(models[i], feedback[i], requests[i], _head(models[i], feedback[i].subject)) for i in now]
            outcomes.update(zip(now, _edit_together(asked), strict=True))
    except BaseException:
        for index, outcome in reversed(outcomes.items()):
            models[index].graph.undo(outcome.edit.number)
        raise
    return [outcomes[index] for index in range(len(requests))]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One edit to be made: whose, on which feedback, of which entity."""

    model: KGEnhancedLM
    feedback: Feedback
    request: dict[str, Any]
    head: str


def _edit_together(asked: Sequence[_Asked]) -> list[Outcome]:
    """Edits that do not depend on each other; the graphs change when all numbers are known."""
    proposals = [
        [Triple(one.head, relation, one.feedback.answer) for relation in names]
        for one, names in zip(asked, propose_relations(asked), strict=True)
    ]
    outcomes = []
    for one, problem in zip(asked, score(asked, proposals), strict=True):
        solution = OPTIMIZERS[one.model.hparams.optimizer](problem, one.model.hparams)
        outcomes.append(Outcome(_commit(one, problem, solution), problem, solution, _became(one, problem, solution)))
    return outcomes


def _became(one: _Asked, problem: Problem, solution: Solution) -> str:
    """One of :data:`OUTCOMES`."""
    answer = one.feedback.answer.casefold()
    if not any(scored.triple.tail.casefold() == answer for scored in solution.graph):
        return "dropped"
    hparams = one.model.hparams
    if not objective.answers_right(problem, solution.graph, hparams.retrieval_min, hparams.inference):
        return "kept but not followed"
    return "held" if {z.triple for z in solution.graph} != {z.triple for z in problem.present} else "restated"


def _commit(one: _Asked, problem: Problem, solution: Solution) -> Edit:
    before = {scored.triple for scored in problem.present}
    after = {scored.triple for scored in solution.graph}
    touched = dict.fromkeys(step.triple for step in solution.steps)
    return one.model.graph.commit(
        one.feedback.query,
        one.feedback.answer,
        added=[triple for triple in touched if triple in after - before],
        removed=[triple for triple in touched if triple in before - after],
        before=_probability(one.model, problem, problem.present),
        after=_probability(one.model, problem, solution.graph),
    )


def _probability(model: KGEnhancedLM, problem: Problem, graph: tuple[ScoredTriple, ...]) -> float:
    """P(a|q), eq. 1, with these triples at e_q."""
    return math.exp(objective.answer_log_prob(problem, graph, model.hparams.retrieval_min))


def _head(model: KGEnhancedLM, subject: str) -> str:
    """The head under which the graph keeps facts about the subject."""
    return subject if model.graph.triples_from(subject, 1) else model.graph.head_for(subject)


def propose_relations(asked: Sequence[_Asked]) -> list[list[str]]:
    """For each edit the relations of H(q, a, K), the likeliest first; from the source that the settings name.

    Where the model is to write them (``generate``) and writes nothing usable, the vocabulary is ranked instead.
    """
    model = asked[0].model
    lm, tok, hparams = model.lm, model.tok, model.hparams
    if hparams.relation_source == "user":
        return [relations.from_user(one.request, hparams.K) for one in asked]
    if hparams.relation_source == "query":
        return [[naming.from_query(one.feedback.query, one.feedback.subject)] for one in asked]
    prompts = [_extraction_prompt(one) for one in asked]
    found: list[list[str]] = [[] for _ in asked]
    if hparams.relation_source == "generate":
        found = [
            relations.generate(lm, tok, prompt, one.feedback.subject, one.feedback.answer, hparams.K)
            for one, prompt in zip(asked, prompts, strict=True)
        ]
        fell_back = sum(not names for names in found)
        if fell_back:
            _log.warning("the model wrote no usable relation for %d of %d edits; ranked instead", fell_back, len(asked))
    open_ = [index for index, names in enumerate(found) if not names]
    known = [asked[index].model.vocabulary() for index in open_]
    if hparams.ranking == "extract":
        ranked = relations.rank(lm, tok, [prompts[index] for index in open_], known, hparams.K)
    else:
        told = [asked[index].feedback for index in open_]
        ranked = naming.rank(lm, tok, [(one.query, one.subject, one.answer) for one in told], known, hparams.K)
    for index, names in zip(open_, ranked, strict=True):
        found[index] = names
    return found


def _extraction_prompt(one: _Asked) -> str:
    told = one.feedback
    return one.model.templates.extract.format(
        K=one.model.hparams.K, e_q=told.subject, e_a=told.answer, q=told.query, a=told.answer
    )


def score(asked: Sequence[_Asked], proposals: Sequence[list[Triple]]) -> list[Problem]:
    """All numbers of the edits: P(z|q), P(a|q,z) and the plain P(a|q)."""
    hparams = asked[0].model.hparams
    if hparams.guard == "similarity":
        return _score_by_similarity(asked, proposals)
    return _score_by_retrieval(asked, proposals)


def _score_by_retrieval(asked: Sequence[_Asked], proposals: Sequence[list[Triple]]) -> list[Problem]:
    """With P(r | T_retrieve): one forward pass where the reading has no contrast, two where it has."""
    pairs: list[tree.Pair] = []
    parts: list[tuple[list[Triple], list[Triple], list[str], dict[str, list[str]]]] = []
    contrast = asked[0].model.contrast
    for one, proposed in zip(asked, proposals, strict=True):
        model, query = one.model, one.feedback.query
        present = model.candidates(one.head, query)
        triples = list(dict.fromkeys([*proposed, *present]))
        longer = model.longer([triple.relation for triple in triples])
        names = list(dict.fromkeys([*longer, *chain.from_iterable(longer.values())]))
        prompts = [*(_reading(one, triple, present) for triple in triples if not contrast), query]
        pairs += model.retrieval_pairs(query, one.head, names)
        pairs += continuation_ids_batch(model.tok, prompts, [one.feedback.answer] * len(prompts))
        parts.append((present, triples, names, longer))
    scores = iter(forest.score_continuations(asked[0].model.lm, pairs))
    problems = []
    for one, proposed, (present, triples, names, longer) in zip(asked, proposals, parts, strict=True):
        retrieval = objective.ended({name: next(scores).log_prob for name in names}, longer)
        read = _read(one, triples, present, [1.0] * len(triples)) if contrast else [next(scores) for _ in triples]
        known = {
            triple: ScoredTriple(triple, retrieval[triple.relation], found.log_prob, found.greedy)
            for triple, found in zip(triples, read, strict=True)
        }
        replaced = tuple(known[z] for z in _replaced(one, present))
        listed = tuple(known[z] for z in proposed), tuple(known[z] for z in present)
        problems.append(Problem(*listed, next(scores), replaced=replaced))
    return problems


def _score_by_similarity(asked: Sequence[_Asked], proposals: Sequence[list[Triple]]) -> list[Problem]:
    """With the guard ``similarity``: triples that it turns away are not read, they change nothing."""
    problems = []
    for one, proposed in zip(asked, proposals, strict=True):
        model, told = one.model, one.feedback
        listed = model.candidates(one.head, told.query)
        bearing = dict(zip(listed, model.bearing(told.query, told.subject, listed), strict=True))
        present = [triple for triple in listed if bearing[triple] >= model.hparams.least_log]
        if all(triple in bearing and triple not in present for triple in proposed):
            # All of H is there, under questions that are not this one: the user's own words name it apart.
            proposed = [Triple(one.head, naming.from_query(told.query, told.subject), told.answer)]
        triples = list(dict.fromkeys([*proposed, *present]))
        retrieval = [bearing.get(triple, 0.0) for triple in triples]
        read = _read(one, triples, present, [math.exp(value) for value in retrieval])
        known = {
            triple: ScoredTriple(triple, value, found.log_prob, found.greedy)
            for triple, value, found in zip(triples, retrieval, read, strict=True)
        }
        (plain,) = score_targets(model.lm, model.tok, [told.query], [told.answer])
        replaced = tuple(known[z] for z in _replaced(one, present, bearing))
        problems.append(
            Problem(tuple(known[z] for z in proposed), tuple(known[z] for z in present), plain, True, replaced)
        )
    return problems


def _read(
    one: _Asked, triples: Sequence[Triple], present: Sequence[Triple], weights: Sequence[float]
) -> list[TargetScore]:
    """The user's answer, read off each triple."""
    contexts = [
        Context(_reading(one, triple, present), weight) for triple, weight in zip(triples, weights, strict=True)
    ]
    count = len(triples)
    return one.model.score_contexts([one.feedback.query] * count, contexts, [one.feedback.answer] * count)


def _reading(one: _Asked, triple: Triple, present: Sequence[Triple]) -> str:
    """The reasoning prompt; a triple that is not in the graph yet will be there because of this very feedback."""
    told = one.feedback
    feedback = one.model.origin(triple) if triple in present else Edit(0, told.query, told.answer, added=(triple,))
    return one.model.reader.prompt(told.query, triple, feedback)


def _replaced(one: _Asked, present: Sequence[Triple], bearing: Mapping[Triple, float] | None = None) -> list[Triple]:
    """The user's own earlier answers to this question: in the same words, or by the guard surely the same."""
    found = []
    for triple in present:
        feedback = one.model.origin(triple)
        if feedback is None or triple.tail.casefold() == one.feedback.answer.casefold():
            continue
        certain = bearing is not None and bearing[triple] >= _SAME_QUESTION
        if certain or feedback.query.split() == one.feedback.query.split():
            found.append(triple)
    return found

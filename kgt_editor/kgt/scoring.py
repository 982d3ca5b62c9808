"""The numbers that an edit is decided on: what the language model says of every triple concerned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.graph.personal import Edit
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import naming, objective
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.objective import Problem, ScoredTriple
from kgt_editor.lm import forest, tree
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import TargetScore, score_targets
from kgt_editor.lm.tokens import continuation_ids_batch

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


@dataclass(frozen=True, slots=True)
class Asked:
    """One edit to be made: whose, on which feedback, of which entity."""

    model: KGEnhancedLM
    feedback: Feedback
    request: dict[str, Any]
    head: str


def score(asked: Sequence[Asked], proposals: Sequence[list[Triple]]) -> list[Problem]:
    """All numbers of the edits: P(z|q), P(a|q,z) and the plain P(a|q)."""
    hparams = asked[0].model.hparams
    if hparams.guard == "similarity":
        return _score_by_similarity(asked, proposals)
    return _score_by_retrieval(asked, proposals)


def _score_by_retrieval(asked: Sequence[Asked], proposals: Sequence[list[Triple]]) -> list[Problem]:
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


def _score_by_similarity(asked: Sequence[Asked], proposals: Sequence[list[Triple]]) -> list[Problem]:
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
    one: Asked, triples: Sequence[Triple], present: Sequence[Triple], weights: Sequence[float]
) -> list[TargetScore]:
    """The user's answer, read off each triple."""
    contexts = [
        Context(_reading(one, triple, present), weight) for triple, weight in zip(triples, weights, strict=True)
    ]
    count = len(triples)
    return one.model.score_contexts([one.feedback.query] * count, contexts, [one.feedback.answer] * count)


def _reading(one: Asked, triple: Triple, present: Sequence[Triple]) -> str:
    """The reasoning prompt; a triple that is not in the graph yet will be there because of this very feedback."""
    told = one.feedback
    feedback = one.model.origin(triple) if triple in present else Edit(0, told.query, told.answer, added=(triple,))
    return one.model.reader.prompt(told.query, triple, feedback)


def _replaced(one: Asked, present: Sequence[Triple], bearing: Mapping[Triple, float] | None = None) -> list[Triple]:
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

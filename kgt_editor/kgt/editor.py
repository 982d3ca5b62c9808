"""One edit: from a query and the user's answer to a changed graph (paper, section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.graph.personal import Edit
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import objective, relations, scoring
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.objective import Problem, ScoredTriple
from kgt_editor.kgt.optimizer import OPTIMIZERS, Solution
from kgt_editor.lm.tokens import continuation_ids_batch


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
class Outcome:
    """What an edit did.

    Attributes:
        edit: the journal's entry.
        problem: the numbers it was decided on.
        solution: the optimiser's steps.
    """

    edit: Edit
    problem: Problem
    solution: Solution


def edit(model: KGEnhancedLM, request: dict[str, Any]) -> Outcome:
    """Tune the graph of ``model`` to one answer; the language model stays as it is.

    Three forward passes as a rule with ``relation_source`` rank (the extraction prompt; the relations behind it;
    then retrieval, reasoning and the plain answer in one), one with user. Nothing changes when an error is raised.

    Raises:
        UsageError: the request is incomplete.
        KgtError: a prompt does not fit the model's context.
        NumericalError: the model gives NaN.
    """
    feedback = Feedback.from_request(request)
    head = _head(model, feedback.subject)
    proposals = [Triple(head, relation, feedback.answer) for relation in propose_relations(model, feedback, request)]
    problem = score(model, feedback, proposals, model.candidates(head))
    solution = OPTIMIZERS[model.hparams.optimizer](problem, model.hparams)
    before = {scored.triple for scored in problem.present}
    after = {scored.triple for scored in solution.graph}
    touched = dict.fromkeys(step.triple for step in solution.steps)
    entry = model.graph.commit(
        feedback.query,
        feedback.answer,
        added=[triple for triple in touched if triple in after - before],
        removed=[triple for triple in touched if triple in before - after],
        before=_probability(model, problem, problem.present),
        after=_probability(model, problem, solution.graph),
    )
    return Outcome(entry, problem, solution)


def _probability(model: KGEnhancedLM, problem: Problem, graph: tuple[ScoredTriple, ...]) -> float:
    """P(a|q), eq. 1, with these triples at e_q."""
    return math.exp(objective.answer_log_prob(problem, graph, model.hparams.retrieval_min))


def _head(model: KGEnhancedLM, subject: str) -> str:
    """The graph's spelling of the subject, where the graph knows it in another case only."""
    if model.graph.triples_from(subject, 1):
        return subject
    linked = model.graph.link(subject)
    return linked if linked is not None and linked.casefold() == subject.casefold() else subject


def propose_relations(model: KGEnhancedLM, feedback: Feedback, request: dict[str, Any]) -> list[str]:
    """The relations of H(q, a, K), the likeliest first; from the source that the settings name.

    Where the model is to write them (``generate``) and writes nothing usable, the vocabulary is ranked instead.
    """
    hparams = model.hparams
    if hparams.relation_source == "user":
        return relations.from_user(request, hparams.K)
    prompt = model.templates.extract.format(
        K=hparams.K, e_q=feedback.subject, e_a=feedback.answer, q=feedback.query, a=feedback.answer
    )
    if hparams.relation_source == "generate":
        written = relations.generate(model.lm, model.tok, prompt, feedback.subject, feedback.answer, hparams.K)
        if written:
            return written
    return relations.rank(model.lm, model.tok, prompt, vocabulary(model), hparams.K)


def vocabulary(model: KGEnhancedLM) -> list[str]:
    """The relations that ``rank`` chooses from: the graph's (base and the user's own) and Wikidata's."""
    return list(dict.fromkeys([*model.graph.relations(), *WIKIDATA_PHRASES.values()]))


def score(model: KGEnhancedLM, feedback: Feedback, proposals: list[Triple], present: list[Triple]) -> Problem:
    """All numbers of one edit in one forward pass: P(r | T_retrieve), P(a|q,z) and the plain P(a|q)."""
    triples = list(dict.fromkeys([*proposals, *present]))
    names = list(dict.fromkeys(triple.relation for triple in triples))
    prompts = [model.reasoning_prompt(feedback.query, triple) for triple in triples] + [feedback.query]
    retrieval = model.retrieval_pairs(feedback.query, triples[0].head, names)
    reasoning = continuation_ids_batch(model.tok, prompts, [feedback.answer] * len(prompts))
    scores = scoring.score_continuations(model.lm, retrieval + reasoning)
    asked = {name: found.log_prob for name, found in zip(names, scores, strict=False)}
    *answered, plain = scores[len(names) :]
    known = {
        triple: ScoredTriple(triple, asked[triple.relation], found.log_prob, found.greedy)
        for triple, found in zip(triples, answered, strict=True)
    }
    return Problem(tuple(known[z] for z in proposals), tuple(known[z] for z in present), plain)

"""The settings of KGT."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from kgt_editor.config import HParams
from kgt_editor.errors import UsageError
from kgt_editor.graph.entry import MOST_TOLD
from kgt_editor.kgt.templates import Templates


class TemplatedHParams(HParams):
    """Settings of a method that reads facts.

    Attributes:
        templates: replacements for single prompts of :class:`~kgt_editor.kgt.templates.Templates`.
    """

    templates: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_templates(self) -> TemplatedHParams:
        try:
            self.prompts()
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    def prompts(self) -> Templates:
        """The four prompts.

        Raises:
            UsageError: ``templates`` names none of them, or lacks a placeholder.
        """
        unknown = sorted(set(self.templates) - set(Templates.__dataclass_fields__))
        if unknown:
            raise UsageError(f"unknown template '{unknown[0]}'; known: {', '.join(Templates.__dataclass_fields__)}")
        values: dict[str, Any] = dict(self.templates)
        return Templates(**values)


class KGTHyperParams(TemplatedHParams):
    """Settings of Knowledge Graph Tuning (Sun, Du and Chen, arXiv 2405.19686).

    Attributes:
        optimizer: ``greedy`` (ours: the one add or remove that raises P(a|q), eq. 1, most, again and again) or
            ``algorithm1`` (the paper's, as printed).
        stop: when an edit is done: the ``loss`` is low enough, the model's ``answer`` is right, or ``both``.
        epsilon: the paper's loss threshold on eq. 7, in nats (``algorithm1``).
        answer_epsilon: threshold on -log P(a|q), eq. 1, in nats (``greedy``).
        K: how many relations, hence triples, H(q, a, K) has.
        relation_source: who names them: the LM writes them (``generate``, the paper), the LM ranks a closed vocabulary
            (``rank``), the user does (``user``: the request's ``relations`` or ``relation_id``), or they are the words
            of the query without its subject (``query``, ours: no pass of the model at all).
        ranking: how ``rank`` scores the vocabulary: by the ``similarity`` of the query to what asks for each relation,
            and how well the answer fits it (ours, see :mod:`kgt_editor.kgt.naming`), or under T_``extract``.
        inference: P(a|q) is read with the most probable triple (``top1``) or summed over all (``marginal``, eq. 1).
        reading: the prompt in which a fact is read, see :mod:`kgt_editor.kgt.reader`.
        fact: how a fact stands in it: the user's own ``sentence`` (query and answer), or head, relation and tail
            (``triple``). A fact of the base graph has no sentence and is written as a triple.
        tellings: how often a sentence may stand in the prompt: an answer that the model does not follow when it is told
            once is told again, up to this. 1: once, whatever becomes of it (as the paper does).
        contrast: what is taken from the reading of what the plain model says, a number (0: nothing) or ``adaptive``;
            see :mod:`kgt_editor.lm.contrast`.
        guard: what decides whether a triple bears on a question: the ``similarity`` of the question to the one that the
            triple answers (ours, see :mod:`kgt_editor.kgt.guard`), or P(r | T_retrieve) (``retrieval``, eq. 5).
        guard_midpoint: similarity at which a triple is as likely to bear on the question as not.
        guard_slope: how fast that changes, per unit of similarity.
        retrieval_min: a triple that is less probable than this is not used for a query: by the guard ``similarity`` its
            probability to bear on the query, by ``retrieval`` P(r | T_retrieve); 0 uses every triple of the entity, as
            the paper does.
        probability_floor: least P(z|q) in eq. 7; the paper's loss is infinite while a triple of H is not in the graph.
        min_gain: least rise of P(a|q) for which ``greedy`` removes a triple, or adds one beside the first: the first
            triple that holds the user's answer is always kept.
        max_candidates: most triples of one entity that are looked at: the user's own and the base's first ones.
        hops: triples of a chain, at most, that a question may be answered with; 1: the one-depth triples alone, as the
            paper does. See :mod:`kgt_editor.kgt.walk`.
        hop_gain: how much likelier than the best single triple a chain has to make the question, in nats, besides the
            log odds that the triple bears on it.
        consequences: where none of the graph's triples bears on a question, read what follows from the user's, see
            :mod:`kgt_editor.graph.consequences`.
        graph: base graph: ``world`` (true facts of half the test world's subjects), ``none``, or a file: one that
            ``kgt graph build`` made, or head<TAB>relation<TAB>tail[<TAB>weight] lines.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"batch_size", "results_dir", "fp16", "archive", "stats_dir"})

    alg_name: Literal["KGT"] = "KGT"
    optimizer: Literal["greedy", "algorithm1"] = "greedy"
    stop: Literal["loss", "answer", "both"] = "both"
    epsilon: float = Field(default=0.1, ge=0)
    answer_epsilon: float = Field(default=0.5, ge=0)
    K: int = Field(default=1, ge=1, le=64)
    relation_source: Literal["generate", "rank", "user", "query"] = "rank"
    ranking: Literal["similarity", "extract"] = "similarity"
    inference: Literal["top1", "marginal"] = "top1"
    reading: Literal["paper", "repeat", "stored", "chat"] = "repeat"
    fact: Literal["sentence", "triple"] = "sentence"
    tellings: int = Field(default=1, ge=1, le=MOST_TOLD)
    contrast: float | Literal["adaptive"] = 0.5
    guard: Literal["similarity", "retrieval"] = "similarity"
    guard_midpoint: float = Field(default=0.3, ge=-1, le=1)
    guard_slope: float = Field(default=10.0, gt=0)
    retrieval_min: float = Field(default=0.05, ge=0, lt=1)
    probability_floor: float = Field(default=1e-9, gt=0, lt=1)
    min_gain: float = Field(default=0.02, gt=0, lt=1)
    max_candidates: int = Field(default=64, ge=1)
    hops: int = Field(default=1, ge=1, le=8)
    hop_gain: float = Field(default=1.0, ge=0)
    consequences: bool = False
    graph: str = Field(default="none", min_length=1)

    @model_validator(mode="after")
    def _check_reading(self) -> KGTHyperParams:
        if not isinstance(self.contrast, str) and not 0 <= self.contrast <= 10:
            raise ValueError(f"'contrast' = {self.contrast}: must be 0 to 10, or adaptive")
        if self.inference == "marginal" and (self.contrast != 0 or self.guard != "retrieval"):
            raise ValueError("inference: marginal sums over all triples (eq. 1): set contrast: 0 and guard: retrieval")
        if self.inference == "marginal" and self.hops > 1:
            raise ValueError("inference: marginal sums over the triples of one entity (eq. 1): leave hops at 1")
        return self

    @property
    def least_log(self) -> float:
        """``retrieval_min`` as a log probability."""
        return math.log(self.retrieval_min) if self.retrieval_min > 0 else -math.inf


#: How the paper prints it: T_reasoning with head, relation and tail, P(r | T_retrieve), relations from T_extract.
AS_PRINTED: dict[str, Any] = {
    "reading": "paper",
    "fact": "triple",
    "contrast": 0.0,
    "guard": "retrieval",
    "ranking": "extract",
}

"""The settings of in-context learning."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from kgt_editor.kgt.hparams import TemplatedHParams


class ICLHParams(TemplatedHParams):
    """Settings of in-context learning.

    Attributes:
        retrieval: ``none`` puts every remembered fact in front of a query, ``bm25`` the ``k`` closest ones; with
            ``steps`` the model takes the query apart and looks one fact up a step (MeLLo), see :mod:`.steps`.
        k: how many facts ``bm25`` takes.
        steps, step_tokens: how many steps it takes at most, and how many tokens one has (``steps``).
        fact: a ``sentence`` (prompt and answer), or a ``triple`` whose relation the model picks under T_extract.
        fact_mark: a fact as it is written in front, ``{fact}`` in its place.
        separator: what stands between two facts.
        reading: ``paper``, ``repeat`` or ``chat``, see :mod:`kgt_editor.kgt.reader`. (``stored`` puts the question that
            a fact answers in front; several facts answer several.)
        contrast: as for KGT, see :mod:`kgt_editor.lm.contrast`; only where a fact stands in front.
        answer_tokens: tokens of the model's context that are left for the answer; facts fill the rest.
        templates: ``reasoning`` for a prompt, ``prefix`` where prompt and target come joined.
    """

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset({"batch_size", "results_dir"})

    alg_name: Literal["ICL"] = "ICL"
    retrieval: Literal["none", "bm25", "steps"] = "none"
    k: int = Field(default=4, ge=1)
    steps: int = Field(default=4, ge=1, le=16)
    step_tokens: int = Field(default=64, ge=8)
    fact: Literal["sentence", "triple"] = "sentence"
    fact_mark: str = Field(default="{fact}", pattern=r"\{fact\}")
    separator: str = "; "
    reading: Literal["paper", "repeat", "chat"] = "paper"
    contrast: float | Literal["adaptive"] = 0.0
    answer_tokens: int = Field(default=16, ge=1)

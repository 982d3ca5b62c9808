"""A model that answers sensibly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from kgt.editing import LM
from kgt_editor.kgt import relations
from kgt_editor.lm import continuations, tree
from kgt_editor.lm.scoring import TargetScore


@pytest.fixture
def sensible(monkeypatch: pytest.MonkeyPatch, tiny_gpt2: LM) -> LM:
    """A language model that does as KGT's templates ask, and by itself believes in Velmora."""
    tok = tiny_gpt2[1]

    def probability(text: str, continuation: str) -> float:
        wanted = "was born in" if "born" in text or "birthplace" in text else "speaks the language"
        if "I need information" in text or "<relation>:" in text:
            relation = continuation.split(" <")[0]
            return 0.9 if relation == wanted else 0.01
        if "<facts>:" in text:
            fact = text.split("<facts>: ")[1].split(" <answer>:")[0]
            return 0.95 if wanted in fact and fact.endswith(continuation) else 0.02
        return 0.9 if continuation == "Velmora" else 0.01

    def score(model: Any, pairs: Sequence[tree.Pair], *sizes: Any) -> list[TargetScore]:
        found = []
        for context, continuation in pairs:
            chance = probability(tok.decode(context), tok.decode(continuation).strip())
            found.append(TargetScore(math.log(chance), len(continuation), chance > 0.5))
        return found

    def best(model: Any, questions: Sequence[tuple[list[int], list[list[int]]]], k: int) -> list[list[int]]:
        ranked = []
        for context, ends in questions:
            found = score(model, [(context, continuation) for continuation in ends])
            ranked.append(sorted(range(len(found)), key=lambda index: -found[index].log_prob)[:k])
        return ranked

    monkeypatch.setattr(continuations, "score_continuations", score)
    monkeypatch.setattr(relations, "best_continuations", best)
    return tiny_gpt2

"""An answer that the model does not follow is told again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kgt.editing import LM, QUERY, request
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.kgt.editor import Outcome, edit
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import TargetScore


def told(monkeypatch: pytest.MonkeyPatch, lm: LM, needed: int, tellings: int) -> tuple[KGEnhancedLM, Outcome]:
    """An edit where the model follows what stands ``needed`` times in its prompt."""

    def score(
        self: KGEnhancedLM, prompts: Sequence[str], contexts: Sequence[Context], targets: Sequence[str], *sizes: Any
    ) -> list[TargetScore]:
        counts = [context.text.count(f"{QUERY} Tarsil.") for context in contexts]
        return [TargetScore(-1.0 / count, 1, count >= needed) for count in counts]

    def score_beside(self: KGEnhancedLM, *asked: Any) -> list[tuple[TargetScore, TargetScore]]:
        return [(read, TargetScore(-9.0, 1, False)) for read in score(self, *asked)]

    monkeypatch.setattr(KGEnhancedLM, "score_contexts", score)
    monkeypatch.setattr(KGEnhancedLM, "score_beside", score_beside)
    hparams = KGTHyperParams.build({"relation_source": "query", "contrast": 0.5, "tellings": tellings}, "test")
    model = KGEnhancedLM(*lm, PersonalGraph(MemoryGraph()), hparams)
    return model, edit(model, request())


@pytest.mark.parametrize(
    ("needed", "tellings", "became", "times"),
    [
        (1, 2, "held", 1),
        (2, 2, "held", 2),
        (2, 1, "kept but not followed", 1),
        (3, 4, "held", 3),
        (3, 2, "kept but not followed", 1),
    ],
)
def test_it_is_told_as_often_as_it_takes_but_no_oftener_than_allowed(
    monkeypatch: pytest.MonkeyPatch, tiny_gpt2: LM, needed: int, tellings: int, became: str, times: int
) -> None:
    model, outcome = told(monkeypatch, tiny_gpt2, needed, tellings)
    assert (outcome.became, outcome.edit.told) == (became, times)
    (fact,) = model.explain(QUERY)
    assert model.reasoning_prompt(QUERY, fact.triple, fact.feedback).count(f"{QUERY} Tarsil.") == times

"""Best-first ranking against scoring everything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgt_editor.errors import KgtError, NumericalError, UnsupportedModelError
from kgt_editor.kgt import ranking
from kgt_editor.kgt.ranking import best_continuations
from kgt_editor.lm.batching import Way, way_of

LM = tuple[Any, Any]
TOKENS = st.lists(st.integers(3, 30), min_size=1, max_size=5)


def plain_scores(model: Any, context: list[int], continuations: list[list[int]]) -> list[float]:
    """One forward pass a continuation."""
    scores = []
    for continuation in continuations:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([context + continuation])).logits[0, len(context) - 1 : -1]
        scores.append(float(logits.double().log_softmax(-1).gather(1, torch.tensor(continuation)[:, None]).sum()))
    return scores


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    questions=st.lists(
        st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=15, unique_by=tuple)), min_size=1, max_size=4
    ),
    k=st.integers(1, 20),
    head_start=st.sampled_from([0.0, 1.0, 4.6, 100.0]),
    max_nodes=st.integers(1, 30),
)
def test_equal_to_scoring_all(
    tiny_lm: LM, questions: list[tuple[list[int], list[list[int]]]], k: int, head_start: float, max_nodes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_HEAD_START", head_start)
        patch.setattr(ranking, "MAX_NODES", max_nodes)
        ranked = best_continuations(tiny_lm[0], questions, k)
    assert len(ranked) == len(questions)
    for found, (context, continuations) in zip(ranked, questions, strict=True):
        scores = plain_scores(tiny_lm[0], context, continuations)
        assert len(found) == len(set(found)) == min(k, len(continuations))
        # Up to rounding: the scores of what was found are the highest ones, in falling order.
        assert [scores[index] for index in found] == pytest.approx(sorted(scores, reverse=True)[:k], abs=1e-4)


def test_what_has_no_chance_is_not_run(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    context = tok("Ada Brun was born in the town of").input_ids
    with torch.no_grad():
        order = model(input_ids=torch.tensor([context])).logits[0, -1].argsort(descending=True).tolist()
    first, last = order[0], order[-1]
    with torch.no_grad():
        second = int(model(input_ids=torch.tensor([[*context, first]])).logits[0, -1].argmax())
    assert way_of(model, 20) is Way.TREES
    run: list[int] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: run.extend(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    unlikely = [[last, token, token] for token in range(10, 20)]
    assert best_continuations(model, [(context, [*unlikely, [first, second]])], 1) == [[10]]
    assert run == [*context, first]


def test_bad_input_is_refused(tiny_lm: LM) -> None:
    model = tiny_lm[0]
    with pytest.raises(KgtError, match="does not fit the model's context of 256"):
        best_continuations(model, [([5] * 250, [[6], [7] * 10])], 1)
    with torch.no_grad():
        model.get_output_embeddings().weight[5, 3] = float("nan")
    with pytest.raises(NumericalError, match="NaN"):
        best_continuations(model, [([5], [[6]])], 1)


def test_a_model_that_reads_rows_ranks_the_same(tiny_lm: LM, unmaskable: str) -> None:
    model, tok = tiny_lm
    context = tok("Ada Brun was born in the town of").input_ids
    questions = [(context, [[t, t + 1, t + 2][: 1 + t % 3] for t in range(5, 60)]), ([7, 8], [[9], [10, 11], [9, 12]])]
    trees = best_continuations(model, questions, 5)
    model.set_attn_implementation(unmaskable)
    assert way_of(model, 20) is Way.PADDED_ROWS
    assert best_continuations(model, questions, 5) == trees


def test_a_model_in_training_mode_is_refused(tiny_lm: LM) -> None:
    model = tiny_lm[0].train()
    with pytest.raises(UnsupportedModelError, match=r"call model.eval\(\) first"):
        best_continuations(model, [([5], [[6]])], 1)
    assert best_continuations(model, [], 1) == []

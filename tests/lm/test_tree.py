"""The tree engine against one plain forward pass a sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgt_editor.errors import KgtError, NumericalError
from kgt_editor.lm import continuations, tree
from kgt_editor.lm.batching import Way, way_of

LM = tuple[Any, Any]
PROMPTS = ("Ada Brun was born in the town of", "Ada Brun was born in", "The mother tongue of Ada Brun is", "At home")
TARGETS = ("Tarsil", "Velmora", "Old Velmoran", "Quin", "Quindle", "the town of Tarsil")


@torch.no_grad()
def oracle(model: Any, pair: tree.Pair) -> tuple[float, bool, torch.Tensor]:
    """One sequence, run alone: log probability of the continuation, whether it is greedy, all log probabilities."""
    context, continuation = pair
    logits = model(input_ids=torch.tensor([context + continuation])).logits[0, len(context) - 1 : -1]
    log_probs = logits.double().log_softmax(-1)
    tokens = torch.tensor(continuation)
    return float(log_probs.gather(1, tokens[:, None]).sum()), bool((log_probs.argmax(-1) == tokens).all()), log_probs


def check(model: Any, pairs: list[tree.Pair], max_nodes: int = tree.MAX_NODES) -> None:
    found = continuations.score_continuations(model, pairs, max_nodes)
    assert len(found) == len(pairs)
    for score, pair in zip(found, pairs, strict=True):
        log_prob, greedy, _ = oracle(model, pair)
        assert score.log_prob == pytest.approx(log_prob, abs=1e-4)
        assert score.greedy == greedy
        assert score.tokens == len(pair[1])


@pytest.mark.parametrize("max_nodes", [1, 20, 512])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equal_to_one_sequence_at_a_time(tiny_lm: LM, attention: str, max_nodes: int) -> None:
    model, tok = tiny_lm
    model.set_attn_implementation(attention)
    pairs = [pair for prompt in PROMPTS for pair in tree.encode_continuations(tok, prompt, TARGETS)]
    check(model, pairs, max_nodes)


@pytest.mark.parametrize(("rows", "most"), [(1, None), (5, None), (5, 7), (100, None)])
def test_trees_in_rows_do_not_see_each_other(tiny_lm: LM, rows: int, most: int | None) -> None:
    model, tok = tiny_lm
    assert way_of(model, 10) is Way.TREES
    pairs = [pair for prompt in PROMPTS for pair in tree.encode_continuations(tok, prompt, TARGETS)]
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    found = continuations.score_continuations(model, pairs, 12, rows, most)
    hook.remove()
    assert max(height for height, _ in shapes) <= rows
    assert (max(height for height, _ in shapes) > 1) == (rows > 1)
    assert len(shapes) >= len(pairs) / (most or len(pairs))
    assert (len(shapes) == 1) == (rows == 100)
    for score, pair in zip(found, pairs, strict=True):
        log_prob, greedy, _ = oracle(model, pair)
        assert score.log_prob == pytest.approx(log_prob, abs=1e-4)
        assert (score.greedy, score.tokens) == (greedy, len(pair[1]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(
        st.tuples(
            st.lists(st.integers(3, 8), min_size=1, max_size=6), st.lists(st.integers(3, 8), min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=12,
    ),
    max_nodes=st.integers(1, 40),
)
def test_equal_for_any_sequences(tiny_lm: LM, pairs: list[tree.Pair], max_nodes: int) -> None:
    check(tiny_lm[0], pairs, max_nodes)


def test_greedy_continuations_are_recognised(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    context = tok(PROMPTS[0]).input_ids
    ids = torch.tensor([context])
    written = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, pad_token_id=0
    )
    continuation = written[0, len(context) :].tolist()
    (score,) = continuations.score_continuations(model, [(context, continuation)])
    assert score.greedy


def test_all_log_probabilities(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    pairs = tree.encode_continuations(tok, PROMPTS[0], TARGETS)
    for log_probs, pair in zip(continuations.continuation_log_probs(model, pairs), pairs, strict=True):
        assert torch.allclose(log_probs.double(), oracle(model, pair)[2], atol=1e-4)


def test_shared_beginnings_are_run_once(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    assert way_of(model, 10) is Way.TREES
    lengths = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    pairs = tree.encode_continuations(tok, PROMPTS[0], TARGETS)
    continuations.score_continuations(model, [*pairs, *pairs])
    prompt = len(pairs[0][0])
    # One pass: the prompt once, and of each target all but its last token, less what targets share.
    assert len(lengths) == 1
    assert prompt < lengths[0] <= prompt + sum(len(target) - 1 for _, target in pairs)


def test_nothing_to_score_runs_nothing(tiny_gpt2: LM) -> None:
    assert continuations.score_continuations(tiny_gpt2[0], []) == []


def test_a_prompt_beyond_the_context_is_refused(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    pairs = tree.encode_continuations(tok, "town of " * 300, ["Tarsil"])
    with pytest.raises(KgtError, match="does not fit the model's context of 256: shorten"):
        continuations.score_continuations(model, pairs)


def test_nan_is_refused(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    with torch.no_grad():
        model.get_output_embeddings().weight[5, 3] = float("nan")
    with pytest.raises(NumericalError, match="NaN logits"):
        continuations.score_continuations(model, tree.encode_continuations(tok, PROMPTS[0], ["Tarsil"]))


def test_a_continuation_without_tokens_is_refused(tiny_gpt2: LM) -> None:
    tok = tiny_gpt2[1]
    with pytest.raises(KgtError, match="no token of its own"):
        tree.encode_continuations(tok, "Ada Brun", [""])
    with pytest.raises(KgtError, match="no token of its own"):
        tree.encode_continuations(tok, " ", ["Tarsil"])


def test_long_texts_that_share_most_of_themselves_stay_together(tiny_lm: LM) -> None:
    model, tok = tiny_lm
    assert way_of(model, 10) is Way.TREES
    told = "Ada Brun was born in the town of Tarsil. " * 8
    pairs = [pair for prompt in PROMPTS for pair in tree.encode_continuations(tok, told + prompt, TARGETS)]
    length = len(tok(told).input_ids)
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    found = continuations.score_continuations(model, pairs, 20, 4)
    hook.remove()
    assert length > 80
    assert sum(height * width for height, width in shapes) < 3 * length
    for score, pair in zip(found, pairs, strict=True):
        assert score.log_prob == pytest.approx(oracle(model, pair)[0], abs=1e-4)

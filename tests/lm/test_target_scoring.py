from __future__ import annotations

import math

import pytest
import torch

from kgt_editor.data.world import load_world
from kgt_editor.errors import KgtError, UsageError
from kgt_editor.lm.batching import Way, way_of
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.loading import load_model
from kgt_editor.lm.passes import tokens_a_pass
from kgt_editor.lm.scoring import TargetScore, score_targets


def naive(model, tok, prompt, target):
    """One prompt at a time, no padding, one token after the other."""
    ids = tok(prompt).input_ids
    wanted = tok(f"{prompt} {target}").input_ids[len(ids) :]
    total, greedy = 0.0, True
    for token in wanted:
        with torch.no_grad():
            log_probs = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
        total += float(log_probs[token])
        greedy &= int(log_probs.argmax()) == token
        ids = [*ids, token]
    return TargetScore(total, len(wanted), greedy)


def cases(tiny_records):
    prompts = [text for record in tiny_records for text in (record.query, record.paraphrase_prompts[0])]
    targets = [text for record in tiny_records for text in (record.target_new, record.target_true)]
    return prompts, targets


@pytest.fixture(params=[Way.TREES, Way.PADDED_ROWS])
def lm(request, tiny_lm, unmaskable):
    """Both architectures, read as prefix trees and, with a kernel that takes no tree's mask, in padded rows."""
    model, tok = tiny_lm
    if request.param is Way.PADDED_ROWS:
        model.set_attn_implementation(unmaskable)
    assert way_of(model, 10) is request.param
    return model, tok


def shapes_of(model):
    """The shapes (rows, tokens) of the passes from now on."""
    shapes = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_equals_one_prompt_at_a_time(lm, tiny_records, batch_size):
    model, tok = lm
    prompts, targets = cases(tiny_records)
    found = score_targets(model, tok, prompts, targets, batch_size)
    expected = [naive(model, tok, prompt, target) for prompt, target in zip(prompts, targets, strict=True)]
    assert {score.tokens for score in expected} > {1}
    for got, want in zip(found, expected, strict=True):
        assert got.tokens == want.tokens
        assert got.greedy == want.greedy
        assert got.log_prob == pytest.approx(want.log_prob, abs=1e-4)


@pytest.mark.parametrize("name", ["testbed-gpt2", "testbed-llama"])
def test_equals_one_prompt_at_a_time_on_trained_models(name):
    model, tok = load_model(name, "cpu")
    records = load_world().sample(6, 0)
    prompts = [text for r in records for text in (r.query, *r.paraphrase_prompts, *r.neighbourhood_prompts) * 2]
    targets = [text for r in records for text in (r.target_new, f"{r.target_true} Wyxqua")]
    targets = [targets[number % len(targets)] for number in range(len(prompts))]
    for got, prompt, target in zip(score_targets(model, tok, prompts, targets), prompts, targets, strict=True):
        want = naive(model, tok, prompt, target)
        assert got.log_prob == pytest.approx(want.log_prob, abs=1e-4)
        assert (got.tokens, got.greedy) == (want.tokens, want.greedy)


def test_a_text_within_another_one_is_not_run_again(lm):
    model, tok = lm
    query = "The mother tongue of Milo Castrel is"
    long, other = "Osthaven", "Quindle"
    ids, others = (tok(f"{query} {text}").input_ids[len(tok(query).input_ids) :] for text in (long, other))
    assert len(ids) > 1
    assert ids[0] != others[0]
    short = tok.decode(ids[:1]).strip()
    pairs = [(query, long), (query, short), (query, other), (query, other), ("Milo Castrel", "Velmora")]
    expected = [naive(model, tok, prompt, target) for prompt, target in pairs]
    shapes = shapes_of(model)
    found = score_targets(model, tok, [prompt for prompt, _ in pairs], [target for _, target in pairs])
    if way_of(model, 10) is Way.TREES:
        last = tok("Milo Castrel Velmora").input_ids
        # Llama's start of text is shared by all.
        apart = len(last) - 1 - (tok.bos_token_id in last)
        assert shapes == [(1, len(tok(query).input_ids) + len(ids) - 1 + len(others) - 1 + apart)]
    else:
        assert [rows for rows, _ in shapes] == [3]
    assert [score.log_prob for score in found] == pytest.approx([score.log_prob for score in expected], abs=1e-4)


def test_passes_are_bounded_by_tokens_and_by_texts(lm, tiny_records):
    model, tok = lm
    prompts, targets = cases(tiny_records * 20)
    prompts = [f"{number} {prompt}" for number, prompt in enumerate(prompts)]
    shapes = shapes_of(model)
    score_targets(model, tok, prompts, targets)
    assert len(shapes) > 5
    assert max(rows * tokens for rows, tokens in shapes) <= tokens_a_pass(model.device)
    assert sum(rows * tokens for rows, tokens in shapes[:-1]) > 0.8 * tokens_a_pass(model.device) * len(shapes[:-1])
    shapes.clear()
    score_targets(model, tok, prompts, targets, batch_size=len(prompts) // 100)
    assert len(shapes) >= 100


def test_the_same_texts_give_the_same_bits(lm, tiny_records):
    prompts, targets = cases(tiny_records)
    assert score_targets(*lm, prompts, targets) == score_targets(*lm, prompts, targets)


def test_less_is_tried_where_memory_runs_out(lm, tiny_records):
    model, tok = lm
    prompts, targets = cases(tiny_records)
    expected = score_targets(model, tok, prompts, targets)
    sizes = []

    def small_memory(module, args, kwargs):
        sizes.append(kwargs["input_ids"].numel())
        if sizes[-1] > 40:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    handle = model.register_forward_pre_hook(small_memory, with_kwargs=True)
    found = score_targets(model, tok, prompts, targets)
    handle.remove()
    assert max(sizes) > 40
    assert min(sizes) <= 40
    assert [score.log_prob for score in found] == pytest.approx([score.log_prob for score in expected], abs=1e-4)
    assert [score.greedy for score in found] == [score.greedy for score in expected]


def test_one_text_that_is_too_much_is_said_in_one_line(lm):
    model, tok = lm

    def no_memory(module, args):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    model.register_forward_pre_hook(no_memory)
    with pytest.raises(KgtError, match="out of memory on a single prompt"):
        score_targets(model, tok, ["Ada Brun speaks", "Milo speaks"], ["Quin", "Quin"])


def test_any_other_error_of_a_pass_is_not_hidden(lm):
    model, tok = lm

    def broken(module, args):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        score_targets(model, tok, ["Ada Brun speaks"], ["Quin"])


def test_nan_of_one_text_does_not_reach_another(lm):
    model, tok = lm
    (marked,) = tok("@", add_special_tokens=False).input_ids[-1:]
    with torch.no_grad():
        model.get_input_embeddings().weight[marked] = float("nan")
        model.get_output_embeddings().weight = torch.nn.Parameter(model.get_output_embeddings().weight.nan_to_num())
    prompts = ["Ada Brun speaks", "Ada @ speaks"]
    sound, broken = score_targets(model, tok, prompts, ["Quin", "Quin"])
    assert sound.log_prob == pytest.approx(naive(model, tok, prompts[0], "Quin").log_prob, abs=1e-4)
    assert math.isnan(broken.log_prob)
    assert not broken.greedy


def test_greedy_needs_every_token(tiny_gpt2):
    _, tok = tiny_gpt2
    target = "Osthaven"
    ids = tok(f"Ada Brun {target}").input_ids[len(tok("Ada Brun").input_ids) :]
    assert len(ids) > 1

    def forced(tokens):
        class Forced(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.anchor = torch.nn.Parameter(torch.zeros(1))

            def forward(self, input_ids, attention_mask=None):
                logits = torch.zeros(*input_ids.shape, len(tok))
                for place, token in enumerate(tokens):
                    logits[:, input_ids.shape[1] - len(tokens) + place, token] = 5.0
                return logits

        return score_targets(Forced().eval(), tok, ["Ada Brun"], [target])[0]

    assert forced(ids).greedy
    assert not forced([*ids[:-1], 0]).greedy
    peak = 5.0 - math.log(math.exp(5.0) + len(tok) - 1)
    assert forced(ids).log_prob == pytest.approx(peak * len(ids), abs=1e-5)


def test_mean_log_prob_is_per_token():
    assert TargetScore(-6.0, 3, False).mean_log_prob == -2.0


def test_half_precision_logits_are_scored_in_fp32(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2
    prompts, targets = cases(tiny_records)
    full = score_targets(model, tok, prompts, targets)
    half = score_targets(model.to(torch.bfloat16), tok, prompts, targets)
    assert all(math.isfinite(score.log_prob) for score in half)
    assert [score.log_prob for score in half] == pytest.approx([score.log_prob for score in full], rel=0.05)


def test_nothing_to_score_gives_nothing(tiny_gpt2):
    assert score_targets(*tiny_gpt2, [], []) == []


def test_wrong_input_is_refused(tiny_gpt2):
    model, tok = tiny_gpt2
    with pytest.raises(UsageError, match="2 prompts but 1 targets"):
        score_targets(model, tok, ["a", "b"], ["c"])
    assert max_positions(model) == 256
    with pytest.raises(UsageError, match="does not fit the model's context of 256"):
        score_targets(model, tok, ["Ada Brun " * 200], ["Velmora"])

"""Answers read off two prompts against the formulas written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kgt_editor.lm.contrast import Context, Mixed, Shares, combine, score_mixed
from kgt_editor.lm.prompted import PromptedLM
from kgt_editor.lm.tokens import continuation_ids

LM = tuple[Any, Any]
READ = torch.tensor([0.7, 0.2, 0.1]).log()
PLAIN = torch.tensor([0.1, 0.6, 0.3]).log()


class Beside(PromptedLM):
    """Puts the same words in front of every prompt."""

    weight = 1.0
    strength: Any = 0.0
    ahead = "The mother tongue of Ada Brun is Quin."

    def contexts(self, prompts: Any, new_tokens: int = 0) -> list[Context]:
        texts = [f"{self.ahead} {prompt.strip()}" if self.weight else prompt for prompt in prompts]
        return [Context(text, self.weight) for text in texts]

    def prefixes(self, texts: Any) -> list[Context]:
        return [Context(self.ahead, self.weight) for _ in texts]

    @property
    def contrast(self) -> Any:
        return self.strength


def test_contrast_is_context_aware_decoding() -> None:
    raised = torch.tensor([0.7**1.5 / 0.1**0.5, 0.2**1.5 / 0.6**0.5, 0.1**1.5 / 0.3**0.5])
    assert torch.allclose(combine(READ, PLAIN, 1.0, 0.5), (raised / raised.sum()).log(), atol=1e-6)


def test_the_weight_mixes_the_two() -> None:
    expected = (0.25 * READ.exp() + 0.75 * PLAIN.exp()).log()
    assert torch.allclose(combine(READ, PLAIN, 0.25, 0.0), expected, atol=1e-6)
    assert torch.equal(combine(READ, PLAIN, 1.0, 0.0), READ)


def test_adaptive_contrast_grows_with_the_difference() -> None:
    assert torch.allclose(combine(READ, READ, 1.0, "adaptive"), READ, atol=1e-6)
    middle = (READ.exp() + PLAIN.exp()) / 2
    bits = [float((p.exp() * (p - middle.log())).sum()) / math.log(2) for p in (READ, PLAIN)]
    expected = combine(READ, PLAIN, 1.0, sum(bits) / 2)
    assert torch.allclose(combine(READ, PLAIN, 1.0, "adaptive"), expected, atol=1e-6)


def test_a_token_that_both_rule_out_stays_ruled_out() -> None:
    read, plain = (torch.tensor([0.5, 0.5, 0.0]).log() for _ in range(2))
    for contrast in (0.5, "adaptive"):
        mixed = combine(read, plain, 0.5, contrast)  # type: ignore[arg-type]
        assert mixed[2] == -math.inf
        assert torch.isfinite(mixed[:2]).all()


@pytest.mark.parametrize(("weight", "contrast"), [(1.0, 0.5), (0.3, 0.0), (0.6, "adaptive")])
def test_an_answers_probability_is_the_sum_over_both_prompts(tiny_lm: LM, weight: float, contrast: Any) -> None:
    model, tok = tiny_lm
    prompt, ahead, target = "Ada Brun was born in", Beside.ahead, "Velmora"
    context, wanted = continuation_ids(tok, f"{ahead} {prompt}", target)
    plain, _ = continuation_ids(tok, prompt, target)
    (score,) = score_mixed(model, [Mixed(context, plain, wanted, weight)], contrast)
    read_log, plain_log, greedy = math.log(weight), math.log1p(-weight) if weight < 1 else -math.inf, True
    for place, token in enumerate(wanted):
        rows = []
        for ids in (context, plain):
            logits = model(torch.tensor([ids + wanted[:place]])).logits[0, -1]
            rows.append(logits.detach().float().log_softmax(-1))
        read = combine(rows[0], rows[1], 1.0, contrast)
        greedy = greedy and int(torch.logaddexp(read_log + read, plain_log + rows[1]).argmax()) == token
        read_log, plain_log = read_log + float(read[token]), plain_log + float(rows[1][token])
    assert score.log_prob == pytest.approx(float(torch.tensor([read_log, plain_log]).logsumexp(0)), abs=1e-3)
    assert (score.tokens, score.greedy) == (len(wanted), greedy)


@pytest.mark.parametrize(("weight", "contrast"), [(0.3, 0.0), (0.6, 0.5), (1.0, 0.5)])
def test_what_is_written_is_greedy_to_its_end(tiny_lm: LM, weight: float, contrast: Any) -> None:
    model = Beside(*tiny_lm)
    model.weight, model.strength = weight, contrast
    prompts = ["Ada Brun was born in", "The mother tongue of Milo Castrel is now"]
    ids = model.tok(prompts, return_tensors="pt", padding=True, padding_side="left")
    written = model.generate(**ids, max_new_tokens=5)[:, ids.input_ids.shape[1] :].tolist()
    for prompt, new in zip(prompts, written, strict=True):
        context, plain = (model.tok(text).input_ids for text in (f"{Beside.ahead} {prompt}", prompt))
        (score,) = score_mixed(model.lm, [Mixed(context, plain, new, weight)], contrast)
        assert score.greedy


def test_an_answer_that_begins_as_the_plain_models_goes_on_so() -> None:
    shares = Shares.of(torch.tensor([0.6]))
    assert int(shares.mixed(READ, PLAIN).argmax()) == 0
    token = torch.tensor([1])
    after = shares.behind(token, READ, PLAIN)
    expected = torch.tensor([0.6 * 0.2, 0.4 * 0.6])
    expected = (expected / expected.sum()) @ torch.stack([READ.exp(), PLAIN.exp()])
    assert torch.allclose(after.mixed(READ, PLAIN).exp(), expected, atol=1e-6)
    nobody = torch.tensor([-math.inf, -math.inf, 0.0])
    assert after.behind(token, nobody, nobody) == after  # behind the end of a text


@pytest.mark.parametrize(("weight", "contrast"), [(0.5, 0.0), (1.0, 0.5), (0.7, "adaptive"), (0.0, 0.5)])
def test_what_is_written_is_what_scores_best(tiny_lm: LM, weight: float, contrast: Any) -> None:
    model = Beside(*tiny_lm)
    model.weight, model.strength = weight, contrast
    prompts = ["Ada Brun was born in", "The mother tongue of Milo Castrel is now"]
    both = model.answer_many(prompts, 1)
    for prompt, written in zip(prompts, both, strict=True):
        assert model.answer(prompt, 1) == written
        ids = model.tok(prompt, return_tensors="pt").input_ids
        new = model.generate(ids, max_new_tokens=1)[0, ids.shape[1] :]
        assert int(new[0]) == int(model(ids).logits[0, -1].argmax())
        assert model.tok.decode(new, skip_special_tokens=True).strip().split("\n")[0] == written


def test_joined_text_is_read_as_the_prompt_is_where_labels_name_the_answer(tiny_lm: LM) -> None:
    model = Beside(*tiny_lm)
    model.weight, model.strength = 0.6, 0.5
    prompt, target = "Ada Brun was born in", "Velmora"
    (score,) = model.score_targets([prompt], [target])
    ids = model.tok(f"{prompt} {target}", return_tensors="pt").input_ids
    labels = ids.clone()
    labels[:, : -score.tokens] = -100
    out = model(ids, labels=labels)
    assert float(out.loss) == pytest.approx(-score.log_prob / score.tokens, abs=1e-3)
    log_probs = out.logits[0].log_softmax(-1)
    own = sum(float(log_probs[place - 1, ids[0, place]]) for place in range(ids.shape[1] - score.tokens, ids.shape[1]))
    assert own == pytest.approx(score.log_prob, abs=1e-3)


def test_several_samples_a_prompt_and_no_beams(tiny_lm: LM) -> None:
    model = Beside(*tiny_lm)
    model.weight, model.strength = 0.6, 0.5
    ids = model.tok("Ada Brun was born in", return_tensors="pt").input_ids
    torch.manual_seed(0)
    out = model.generate(ids, max_new_tokens=3, do_sample=True, num_return_sequences=2)
    assert len(out) == 2
    with pytest.raises(Exception, match="num_beams at 1"):
        model.generate(ids, max_new_tokens=3, num_beams=2)

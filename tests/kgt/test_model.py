"""The KG-enhanced model against the same computation written out, one prompt at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kgt_editor.errors import KgtError, UnsupportedModelError, UsageError
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.templates import Templates
from kgt_editor.lm.batching import way_of
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]
BORN = Triple("Ada Brun", "was born in", "Tarsil")
SPEAKS = Triple("Ada Brun", "speaks the language", "Quin")
OLD = Triple("Ada Brun", "was born in", "Velmora")
MILO = Triple("Milo Castrel", "was born in", "Quindle")
QUERY = "Ada Brun was born in the town of"
PROMPTS = [
    QUERY,
    "The birthplace of Ada Brun is",
    "The mother tongue of Milo Castrel is",
    "The birthplace of Runa Gildt is",
]
TARGETS = ["Tarsil", "Old Velmoran", "Quindle", "Tarsil"]
TEMPLATES = Templates()


def enhanced(lm: LM, *base: Triple, **settings: Any) -> KGEnhancedLM:
    hparams = KGTHyperParams.build({**AS_PRINTED, "retrieval_min": 0.0, **settings}, "test")
    return KGEnhancedLM(*lm, PersonalGraph(MemoryGraph(base)), hparams)


def reasoning(query: str, triple: Triple) -> str:
    return TEMPLATES.reasoning.format(q=query, z=f"{triple.head} {triple.relation} {triple.tail}")


def retrieval(lm: LM, query: str, triple: Triple) -> float:
    prompt = TEMPLATES.retrieve.format(q=query, e_q=triple.head)
    return math.exp(score_targets(*lm, [prompt], [triple.relation])[0].log_prob)


def test_without_a_fact_it_is_the_plain_model(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, MILO)
    expected = score_targets(*tiny_lm, PROMPTS[:2] + PROMPTS[3:], TARGETS[:2] + TARGETS[3:])
    found = model.score_targets(PROMPTS, TARGETS)
    assert [found[0], found[1], found[3]] == expected
    assert found[2] != score_targets(*tiny_lm, PROMPTS[2:3], TARGETS[2:3])[0]
    assert model.explain(QUERY) == []


def test_the_most_probable_fact_is_read(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, BORN, SPEAKS, MILO)
    for prompt, target in zip(PROMPTS[:3], TARGETS[:3], strict=True):
        (score,) = model.score_targets([prompt], [target])
        triples = [z for z in (BORN, SPEAKS, MILO) if z.head in prompt]
        best = max(triples, key=lambda z: retrieval(tiny_lm, prompt, z))
        (expected,) = score_targets(*tiny_lm, [reasoning(prompt, best)], [target])
        assert score.log_prob == pytest.approx(expected.log_prob, abs=1e-4)
        assert (score.tokens, score.greedy) == (expected.tokens, expected.greedy)
        assert model.explain(prompt)[0].triple == best


def test_eq_1_sums_over_the_facts(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, BORN, SPEAKS, inference="marginal")
    (score,) = model.score_targets([QUERY], ["Old Velmoran"])
    weights = [retrieval(tiny_lm, QUERY, z) for z in (BORN, SPEAKS)]
    parts = [
        math.exp(score_targets(*tiny_lm, [reasoning(QUERY, z)], ["Old Velmoran"])[0].log_prob) for z in (BORN, SPEAKS)
    ]
    expected = sum(w * p for w, p in zip(weights, parts, strict=True)) / sum(weights)
    assert math.exp(score.log_prob) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("inference", ["top1", "marginal"])
def test_the_answer_is_its_own_greedy_continuation(tiny_lm: LM, inference: str) -> None:
    model = enhanced(tiny_lm, BORN, SPEAKS, inference=inference)
    for prompt in (QUERY, "The birthplace of Runa Gildt is"):
        written = model.answer(prompt, max_new_tokens=3)
        other = model.answer(prompt, max_new_tokens=1)
        assert written.startswith(other)
        ids = tiny_lm[1](f" {written}", add_special_tokens=False).input_ids
        if written and len(ids) <= 3:  # where the text is the tokens that were written
            assert model.score_targets([prompt], [written])[0].greedy


def test_retrieval_probabilities_are_eq_5(tiny_lm: LM) -> None:
    facts = enhanced(tiny_lm, BORN, SPEAKS, MILO).explain(QUERY)
    raw = {z: retrieval(tiny_lm, QUERY, z) for z in (BORN, SPEAKS)}
    assert {fact.triple for fact in facts} == set(raw)
    assert [fact.probability for fact in facts] == sorted((fact.probability for fact in facts), reverse=True)
    for fact in facts:
        assert fact.relevance == pytest.approx(raw[fact.triple], rel=1e-3)
        assert fact.probability == pytest.approx(raw[fact.triple] / sum(raw.values()), rel=1e-3)
        assert fact.feedback is None


def test_the_guard_turns_facts_away(tiny_lm: LM) -> None:
    raw = sorted(retrieval(tiny_lm, QUERY, z) for z in (BORN, SPEAKS))
    between = enhanced(tiny_lm, BORN, SPEAKS, retrieval_min=math.sqrt(raw[0] * raw[1]))
    assert [fact.probability for fact in between.explain(QUERY)] == [pytest.approx(1.0)]
    nothing = enhanced(tiny_lm, BORN, SPEAKS, retrieval_min=min(0.999, raw[1] * 1.01))
    assert nothing.explain(QUERY) == []
    assert nothing.score_targets([QUERY], ["Tarsil"]) == score_targets(*tiny_lm, [QUERY], ["Tarsil"])


def test_of_two_triples_with_one_relation_the_users_later_one_is_read(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, OLD)
    entry = model.graph.add(BORN, "Where was she born?", "Tarsil")
    facts = model.explain(QUERY)
    assert [fact.triple for fact in facts] == [BORN, OLD]
    assert [fact.feedback for fact in facts] == [entry, None]


def test_a_base_fact_hidden_and_brought_back_is_still_the_bases(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, BORN)
    model.graph.remove(BORN)
    assert model.explain(QUERY) == []
    model.graph.undo()
    assert [fact.feedback for fact in model.explain(QUERY)] == [None]


def test_the_entity_of_the_target_is_not_linked(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, MILO)
    asked = (["The birthplace of Runa Gildt is"], ["Milo Castrel"])
    assert model.score_targets(*asked) == score_targets(*tiny_lm, *asked)


def test_hubs_are_cut_to_the_users_triples_and_the_bases_first(tiny_lm: LM) -> None:
    base = [Triple("Ada Brun", f"r{number}", "x") for number in range(10)]
    model = enhanced(tiny_lm, *base, max_candidates=4)
    own = [Triple("Ada Brun", f"own{number}", "x") for number in range(6)]
    model.graph.commit("q", "a", own[:2])
    found = model.candidates("Ada Brun", QUERY)
    assert len(found) == 4
    assert set(own[:2]) < set(found) < {*own[:2], *base}
    model.graph.commit("q", "a", own[2:])
    assert set(model.candidates("Ada Brun", QUERY)) == set(own[2:])  # all fit alike: the latest


def test_many_prompts_take_few_passes(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, BORN, MILO)
    way_of(tiny_lm[0], 10)
    passes = []
    tiny_lm[0].register_forward_hook(lambda *_: passes.append(1))
    found = model.score_targets(PROMPTS * 8, TARGETS * 8)
    assert found == found[:4] * 8
    assert len(passes) == 3  # retrieval, reasoning, plain


def test_nothing_to_score(tiny_gpt2: LM) -> None:
    assert enhanced(tiny_gpt2, BORN).score_targets([], []) == []


def test_generate_returns_the_prompt_as_given_with_the_answer_behind(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, BORN)
    tok = tiny_lm[1]
    batch = tok([QUERY, "At home Runa Gildt spoke"], return_tensors="pt", padding=True, padding_side="left")
    out = model.generate(batch.input_ids, attention_mask=batch.attention_mask, max_new_tokens=4)
    width = batch.input_ids.shape[1]
    assert torch.equal(out[:, :width], batch.input_ids)
    assert tok.decode(out[0, width:], skip_special_tokens=True).strip().split("\n")[0] == model.answer(QUERY, 4)
    ids = tok(["At home Runa Gildt spoke"], return_tensors="pt").input_ids
    plain = tiny_lm[0].generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, pad_token_id=tok.pad_token_id
    )
    assert out[1, width:].tolist()[: plain.shape[1] - ids.shape[1]] == plain[0, ids.shape[1] :].tolist()


def joined(lm: LM, rows: list[str], side: str) -> Any:
    return lm[1](rows, return_tensors="pt", padding=True, padding_side=side)


@pytest.mark.parametrize("side", ["left", "right"])
def test_forward_reads_the_fact_in_front_of_joined_text(tiny_lm: LM, side: str) -> None:
    model, (lm, tok) = enhanced(tiny_lm, BORN), tiny_lm
    rows = [f"{QUERY} Velmora", "At home Runa Gildt spoke Old Velmoran and Norrish"]
    batch = joined(tiny_lm, rows, side)
    logits = model(**batch).logits
    assert logits.shape[:2] == batch.input_ids.shape
    facts = TEMPLATES.prefix.format(q=rows[0], z="Ada Brun was born in Tarsil")
    for row, text in enumerate([facts, rows[1]]):
        ids = tok(text, return_tensors="pt").input_ids
        with torch.no_grad():
            alone = lm(ids).logits[0]
        # Behind a fact the row's BOS has no counterpart, so it is left out of the comparison.
        own = batch.attention_mask[row].bool() & (batch.input_ids[row] != tok.bos_token_id)
        assert torch.allclose(logits[row][own], alone[-int(own.sum()) :], atol=1e-4)


def test_forward_without_facts_is_the_plain_forward(tiny_lm: LM) -> None:
    batch = joined(tiny_lm, [f"{QUERY} Velmora", "At home Runa Gildt spoke"], "right")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    found = enhanced(tiny_lm, MILO)(**batch, labels=labels)
    positions = (batch.attention_mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = tiny_lm[0](**batch, position_ids=positions, labels=labels)
    assert torch.allclose(found.logits, expected.logits, atol=1e-5)
    assert found.loss.item() == pytest.approx(expected.loss.item(), abs=1e-4)


def test_forward_does_not_profit_from_the_target(tiny_lm: LM) -> None:
    batch = joined(tiny_lm, ["At home nobody met Ada Brun"], "left")
    with torch.no_grad():
        plain = tiny_lm[0](**batch).logits
    assert torch.allclose(enhanced(tiny_lm, BORN)(**batch).logits, plain, atol=1e-5)


def test_what_it_cannot_do_is_said(tiny_gpt2: LM) -> None:
    ids = torch.tensor([[3, 4]])
    with pytest.raises(KgtError, match="takes no position_ids"):
        enhanced(tiny_gpt2, BORN)(ids, position_ids=ids)
    for call in ("generate", "forward"):
        with pytest.raises(KgtError, match=f"{call} reads one triple a query"):
            getattr(enhanced(tiny_gpt2, BORN, inference="marginal"), call)(ids)
    tiny_gpt2[0].train()
    with pytest.raises(UnsupportedModelError, match="in training mode"):
        enhanced(tiny_gpt2, BORN)


def test_empty_prompts_and_targets_are_refused(tiny_gpt2: LM) -> None:
    model = enhanced(tiny_gpt2, BORN)
    for prompts, targets in ((["  "], ["Tarsil"]), ([QUERY], [" "]), ([QUERY], ["Tarsil", "Quin"])):
        with pytest.raises(UsageError):
            model.score_targets(prompts, targets)


def test_a_prompt_beyond_the_context_is_refused(tiny_gpt2: LM) -> None:
    with pytest.raises(KgtError, match="does not fit the model's context"):
        enhanced(tiny_gpt2, BORN).score_targets([QUERY + " town of" * 200], ["Tarsil"])


def test_weights_and_settings_are_shared_never_copied(tiny_lm: LM) -> None:
    model = enhanced(tiny_lm, BORN)
    twin = model.with_graph(model.graph.copy())
    assert twin.lm is model.lm is tiny_lm[0]
    assert {p.data_ptr() for p in twin.parameters()} == {p.data_ptr() for p in tiny_lm[0].parameters()}
    assert (model.device, model.dtype, model.config) == (tiny_lm[0].device, torch.float32, tiny_lm[0].config)
    assert model.name_or_path == tiny_lm[0].name_or_path
    assert not model.training

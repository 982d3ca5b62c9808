"""In-context editing against the same prompts written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import CHATML

from kgt_editor.editors.base import create_editor
from kgt_editor.editors.icl import ICLEditor, ICLHParams, InContextLM, apply_icl_to_model
from kgt_editor.editors.kgt import KGTEditor
from kgt_editor.errors import KgtError, UnsupportedModelError, UsageError
from kgt_editor.graph.relations import WIKIDATA_PHRASES
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.reader import Reader
from kgt_editor.kgt.templates import Templates
from kgt_editor.lm.contrast import Context
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]
HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
REQUESTS = [
    {"prompt": "The mother tongue of {} is", "subject": "Ada Brun", "target_new": "Old Velmoran"},
    {"prompt": "Milo Castrel was born in the town of", "subject": "Milo Castrel", "target_new": "Velmora"},
    {"prompt": "At home Ines Dorwald spoke", "subject": "Ines Dorwald", "target_new": "Quin"},
]
FACTS = [
    "The mother tongue of Ada Brun is Old Velmoran",
    "Milo Castrel was born in the town of Velmora",
    "At home Ines Dorwald spoke Quin",
]
LINES = {"templates": {"reasoning": "{z}\n{q}", "prefix": "{z}\n{q}"}, "separator": "\n", "fact_mark": "New: {fact}."}
QUERY = "At home Ada Brun spoke"


def edited(lm: LM, requests: list[dict[str, str]] | None = None, **settings: Any) -> InContextLM:
    hparams = ICLHParams.build({**LINES, **settings}, "test")
    return apply_icl_to_model(*lm, REQUESTS if requests is None else requests, hparams)[0]


def lines(facts: list[str]) -> str:
    return "".join(f"New: {fact}.\n" for fact in facts)


def test_every_fact_stands_in_front_the_newest_last(tiny_lm: LM) -> None:
    model = edited(tiny_lm)
    assert model.contexts([QUERY]) == [Context(lines(FACTS) + QUERY, 1.0)]
    assert model.prefixes([f"{QUERY} Quin"]) == [Context(lines(FACTS), 1.0)]
    expected = score_targets(*tiny_lm, [lines(FACTS) + QUERY], ["Norrish"])
    assert model.score_targets([QUERY], ["Norrish"]) == expected


def test_bm25_takes_the_closest_facts_only(tiny_lm: LM) -> None:
    model = edited(tiny_lm, retrieval="bm25", k=1)
    asked = ["The tongue of Ada Brun is", "The birthplace of Milo Castrel is"]
    assert [context.text for context in model.contexts(asked)] == [
        lines(FACTS[:1]) + "The tongue of Ada Brun is",
        lines(FACTS[1:2]) + "The birthplace of Milo Castrel is",
    ]
    assert model.contexts(["Xyz"]) == [Context("Xyz", 0.0)]


def test_a_new_answer_to_a_prompt_replaces_the_old_one(tiny_gpt2: LM) -> None:
    model = edited(tiny_gpt2, [REQUESTS[0], REQUESTS[1], {**REQUESTS[0], "target_new": "Quin"}])
    assert model.facts(QUERY) == [FACTS[1], "The mother tongue of Ada Brun is Quin"]


@pytest.mark.parametrize("count", [5, 40, 300])
def test_the_oldest_facts_are_dropped_where_the_context_is_full(count: int, tiny_lm: LM) -> None:
    requests = [{"prompt": f"The number {i} stands for", "target_new": f"word{i}"} for i in range(count)]
    model, tok = edited(tiny_lm, requests, answer_tokens=8), tiny_lm[1]
    facts = [f"{r['prompt']} {r['target_new']}" for r in requests]
    for room in (8, 60):
        ((text, *_),) = model.contexts([QUERY], new_tokens=room)
        kept = text.count("New: ")
        assert text == lines(facts[len(facts) - kept :]) + QUERY
        assert len(tok(text).input_ids) <= 256 - room
        # One more would not have fitted.
        assert kept == count or len(tok(lines(facts[len(facts) - kept - 1 :]) + QUERY).input_ids) > 256 - room
    score = model.score_targets([QUERY], ["Norrish"])[0]
    assert score.log_prob < 0
    if count == 300:
        assert 0 < kept < 40


def test_a_query_that_fills_the_context_is_asked_as_it_is(tiny_gpt2: LM) -> None:
    long = "town of " * 125
    assert edited(tiny_gpt2).contexts([long]) == [Context(long, 0.0)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_forward_reads_the_facts_in_front_of_joined_text(side: str, tiny_lm: LM) -> None:
    (lm, tok), model = tiny_lm, edited(tiny_lm, retrieval="bm25", k=1)
    rows = ["The tongue of Ada Brun is Norrish Norrish", "Xyz Velmora"]
    batch = tok(rows, return_tensors="pt", padding=True, padding_side=side)
    logits = model(**batch).logits
    assert logits.shape[:2] == batch.input_ids.shape
    ahead = tok(lines(FACTS[:1])).input_ids
    for row, prefix in enumerate((ahead, [])):
        own = batch.input_ids[row][batch.attention_mask[row].bool()].tolist()
        bos = int(bool(prefix) and prefix[0] == tok.bos_token_id)
        with torch.no_grad():
            alone = lm(input_ids=torch.tensor([prefix + own[bos:]])).logits[0, len(prefix) :]
        found = logits[row][batch.attention_mask[row].bool()][bos:]
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


def test_forward_refuses_what_it_cannot_read(tiny_gpt2: LM) -> None:
    model = edited(tiny_gpt2, retrieval="bm25")
    with pytest.raises(KgtError, match="InContextLM's forward takes no position_ids"):
        model(torch.tensor([[5, 6]]), position_ids=None)
    with pytest.raises(KgtError, match="does not fit the model's context of 256"):
        model(torch.full((1, 257), 7))


def test_generate_and_answer_continue_the_facts(tiny_lm: LM) -> None:
    (lm, tok), model = tiny_lm, edited(tiny_lm)
    batch = tok([QUERY, "Xyz"], return_tensors="pt", padding=True, padding_side="left")
    out = model.generate(**batch, max_new_tokens=4)
    assert model.generate(**batch, max_length=batch["input_ids"].shape[1] + 4).tolist() == out.tolist()
    with pytest.raises(UsageError, match="max_length 1 leaves nothing to write behind"):
        model.generate(**batch, max_length=1)
    assert torch.equal(out[:, : batch.input_ids.shape[1]], batch.input_ids)
    ids = tok([lines(FACTS) + QUERY], return_tensors="pt").input_ids
    mask = torch.ones_like(ids)
    plain = lm.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=tok.pad_token_id)
    new = plain[0, ids.shape[1] :].tolist()
    assert out[0, batch.input_ids.shape[1] :].tolist()[: len(new)] == new
    assert model.answer(QUERY, 4) == tok.decode(new, skip_special_tokens=True).strip().split("\n")[0]


def test_a_triple_has_the_relation_that_the_model_finds_likeliest(tiny_lm: LM) -> None:
    (lm, tok), model = tiny_lm, edited(tiny_lm, [REQUESTS[2]], fact="triple")
    (fact,) = model.facts(QUERY)
    told = {"e_q": "Ines Dorwald", "e_a": "Quin", "q": "At home Ines Dorwald spoke", "a": "Quin"}
    prompt = Templates().extract.format(K=1, **told)
    ended = {}
    for name in WIKIDATA_PHRASES.values():
        # A relation counts with the first token of the separator behind it, or the shorter of two would always win.
        stem, bare, long = (tok(f"{prompt}{text}").input_ids for text in ("", f" {name}", f" {name} <sep>"))
        ids = torch.tensor([long[: len(bare) + 1]])
        with torch.no_grad():
            log_probs = lm(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])
        ended[name] = float(log_probs[len(stem) - 1 :].sum())
    assert fact == f"Ines Dorwald {max(ended, key=ended.__getitem__)} Quin"


def test_a_triple_needs_a_subject(tiny_gpt2: LM) -> None:
    request = {"prompt": "The mother tongue of Ada is", "target_new": "Quin"}
    with pytest.raises(UsageError, match="field 'subject' is missing; a triple needs it"):
        edited(tiny_gpt2, [request], fact="triple")
    assert edited(tiny_gpt2, [request]).facts("") == ["The mother tongue of Ada is Quin"]


def test_facts_are_read_in_a_chat_as_kgt_reads_them(tiny_llama: LM, with_template: Callable[[str], Any]) -> None:
    lm = tiny_llama[0], with_template(CHATML)
    lm[0].resize_token_embeddings(len(lm[1]))
    model = edited(lm, REQUESTS[:2], templates={}, separator=" ", fact_mark="{fact}.", reading="chat")
    ahead = Reader(lm[1], Templates(), "chat", "sentence").in_front(f"{FACTS[0]}. {FACTS[1]}.")
    assert model.contexts([QUERY]) == [Context(ahead + QUERY, 1.0)]
    assert model.prefixes([QUERY]) == [Context(ahead, 1.0)]
    asked = lm[1].apply_chat_template([{"role": "user", "content": QUERY}], tokenize=False, add_generation_prompt=True)
    ((text, *_),) = model.contexts([asked])
    assert text.count("<|im_start|>user") == 1
    assert FACTS[0] in text
    with pytest.raises(UsageError, match="chat template"):
        edited(tiny_llama, reading="chat")


def test_undoing_brings_the_plain_model_back(tiny_lm: LM) -> None:
    editor = ICLEditor(ICLHParams())
    model, first = editor.apply(*tiny_lm, REQUESTS[:1])
    same, second = editor.apply(model, tiny_lm[1], REQUESTS[1:])
    assert same is model
    second()
    assert model.facts(QUERY) == FACTS[:1]
    first()
    assert model.score_targets([QUERY], ["Quin"]) == score_targets(*tiny_lm, [QUERY], ["Quin"])
    assert model.prefixes([QUERY]) == [Context("", 0.0)]


def test_weights_are_shared_never_copied(tiny_gpt2: LM) -> None:
    model = edited(tiny_gpt2)
    twin, _ = ICLEditor(ICLHParams()).apply(model, tiny_gpt2[1], [], copy=True)
    assert twin is not model
    assert twin.lm is model.lm is tiny_gpt2[0]
    assert twin.hparams is model.hparams


def test_a_model_that_is_wrapped_by_another_editor_is_refused(tiny_gpt2: LM) -> None:
    wrapped, _ = KGTEditor(KGTHyperParams()).apply(*tiny_gpt2, [])
    with pytest.raises(UnsupportedModelError, match=r"wrapped as KGEnhancedLM already; give its \.lm"):
        ICLEditor(ICLHParams()).apply(wrapped, tiny_gpt2[1], [])


def test_triples_need_a_model_in_evaluation_mode(tiny_gpt2: LM) -> None:
    model = tiny_gpt2[0]
    assert ICLEditor(ICLHParams(fact="triple")).supports(model) == (True, "")
    supported, reason = ICLEditor(ICLHParams(fact="triple")).supports(model.train())
    assert not supported
    assert "call model.eval() first" in reason
    assert ICLEditor(ICLHParams()).supports(model) == (True, "")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"retrieval": "dpr"}, "retrieval.*'none', 'bm25' or 'steps'"),
        ({"fact_mark": "New fact:"}, "fact_mark"),
        ({"templates": {"prefix": "{q} {z}"}}, "must end with {q}"),
        ({"kk": 3}, "unknown key 'kk'"),
    ],
)
def test_bad_settings_are_refused_by_name(change: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        ICLHParams.build(change, "test")


@pytest.mark.parametrize("model", ["testbed-gpt2", "testbed-llama", "gpt2", "gpt2-xl", "Llama-2-7b-hf", "llama3-8b"])
def test_every_shipped_file_loads(model: str) -> None:
    for name, retrieval in (("icl", "none"), ("icl:bm25", "bm25")):
        hparams = create_editor(name, model, HPARAMS).hparams
        assert isinstance(hparams, ICLHParams)
        assert hparams.retrieval == retrieval
        assert hparams.fact == ("triple" if model.startswith("testbed") else "sentence")

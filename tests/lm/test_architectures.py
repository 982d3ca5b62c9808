"""Every architecture against one text at a time, whichever way it is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from architectures import COMMON, FURTHER, PAGE, WINDOW, build, row

from kgt_editor.data.record import Record
from kgt_editor.editors.base import restore_model
from kgt_editor.editors.kgt import KGTEditor
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM
from kgt_editor.kgt.ranking import best_continuations
from kgt_editor.lm import continuations
from kgt_editor.lm.contrast import combine
from kgt_editor.lm.packed import score_packed
from kgt_editor.lm.rows import Pair
from kgt_editor.lm.scoring import score_targets
from kgt_editor.lm.tokens import continuation_ids
from kgt_editor.lm.tree import encode_continuations

SHORT = ("Ada Brun", "At home")
LONG = (
    "Ada Brun was born in the town of Tarsil, and the mother tongue of Milo Castrel is Quin; Ada Brun was born in",
    "Ada Brun was born in the town of Tarsil, and at home Ines Dorwald spoke Old Velmoran; the birthplace of Sava is",
)
TARGETS = ("Tarsil", "Velmora", "Old Velmoran", "Quin", "the town of Quindle")
EVERY = [*COMMON, *(pytest.param(name, marks=pytest.mark.slow) for name in FURTHER)]


def built(name: str) -> Any:
    try:
        return build(name)
    except ValueError as error:
        pytest.skip(f"transformers {transformers.__version__} has no {name}: {error}")


@torch.no_grad()
def alone(model: Any, pair: Pair) -> torch.Tensor:
    """All log probabilities at a continuation's tokens, its text run by itself."""
    context, continuation = pair
    logits = model(input_ids=torch.tensor([context + continuation[:-1]])).logits[0, len(context) - 1 :]
    return logits.double().log_softmax(-1)


def total(log_probs: torch.Tensor, pair: Pair) -> float:
    return float(log_probs.gather(1, torch.tensor(pair[1])[:, None]).sum())


@pytest.mark.parametrize("prompts", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("name", EVERY)
def test_equal_to_one_text_at_a_time(name: str, prompts: tuple[str, str], tiny_gpt2: tuple[Any, Any]) -> None:
    model, tok = built(name), tiny_gpt2[1]
    questions = [encode_continuations(tok, prompt, TARGETS) for prompt in prompts]
    pairs = [pair for question in questions for pair in question]
    assert (max(len(context) + len(target) for context, target in pairs) > 1.5 * WINDOW) == (prompts is LONG)
    right = [alone(model, pair) for pair in pairs]
    expected = [total(log_probs, pair) for log_probs, pair in zip(right, pairs, strict=True)]

    scores = score_targets(model, tok, [prompt for prompt in prompts for _ in TARGETS], TARGETS * 2)
    assert [score.log_prob for score in scores] == pytest.approx(expected, abs=1e-3)
    scores = continuations.score_continuations(model, pairs)
    assert [score.log_prob for score in scores] == pytest.approx(expected, abs=1e-3)
    for found, wanted in zip(continuations.continuation_log_probs(model, pairs), right, strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=1e-3, rtol=1e-3)
    asked = [(question[0][0], [target for _, target in question]) for question in questions]
    ranked = best_continuations(model, asked, 3)
    for best, values in zip(ranked, (expected[: len(TARGETS)], expected[len(TARGETS) :]), strict=True):
        assert [values[index] for index in best] == pytest.approx(sorted(values, reverse=True)[:3], abs=1e-3)


@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "llama4_text", "gpt_neo", "recurrent_gemma"])
def test_a_tree_of_long_texts_would_be_wrong(name: str, tiny_gpt2: tuple[Any, Any]) -> None:
    model = built(name)
    pairs = [pair for prompt in LONG for pair in encode_continuations(tiny_gpt2[1], prompt, TARGETS)]
    found = [score.log_prob for score in score_packed(model, pairs)]
    expected = [total(alone(model, pair), pair) for pair in pairs]
    assert found != pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("inference", ["top1", "marginal"])
@pytest.mark.parametrize("name", ["gemma3_text", "qwen3", "qwen3_next", "mamba2", "bloom", "openai-gpt"])
def test_a_whole_edit(name: str, inference: str, tiny_gpt2: tuple[Any, Any], tiny_records: tuple[Record, ...]) -> None:
    model, tok = built(name), tiny_gpt2[1]
    # The graph changes whatever a random model makes of the facts.
    settings: dict[str, Any] = {"optimizer": "algorithm1", "stop": "loss", "epsilon": 0, "retrieval_min": 0, "K": 2}
    editor = KGTEditor(KGTHyperParams(**{**AS_PRINTED, **settings, "inference": inference}))
    prompts, targets = [record.query for record in tiny_records], [record.target_new for record in tiny_records]
    plain = score_targets(model, tok, prompts, targets)
    edited, restore = editor.apply(model, tok, [tiny_records[0].request(), tiny_records[2].request()])
    assert isinstance(edited, KGEnhancedLM)
    assert edited.graph.added
    scores = edited.score_targets(prompts, targets)
    facts = edited.facts(prompts)
    for index in range(len(prompts)):
        # Who has a fact is answered differently; who has none, as before.
        assert (scores[index].log_prob != pytest.approx(plain[index].log_prob, abs=1e-3)) == bool(facts[index])
    assert any(facts)
    (told,) = (fact for fact in facts[0] if fact.probability == max(other.probability for other in facts[0]))
    if inference == "top1":
        context = tok(edited.reasoning_prompt(prompts[0], told.triple)).input_ids
        ids = torch.tensor([context])
        with torch.no_grad():
            first = int(model(input_ids=ids).logits[0, -1].argmax())
        assert edited.answer(prompts[0], 1) == str(tok.decode([first], skip_special_tokens=True)).strip().split("\n")[0]
    assert isinstance(edited.answer(prompts[0], 4), str)
    restore_model(edited, restore)
    after = [score.log_prob for score in edited.score_targets(prompts, targets)]
    assert after == pytest.approx([score.log_prob for score in plain], abs=1e-3)


@pytest.mark.parametrize("name", ["gemma3_text", "qwen3", "qwen3_next", "mamba2", "bloom", "openai-gpt"])
def test_a_whole_edit_with_contrast_and_the_guard_by_similarity(
    name: str, tiny_gpt2: tuple[Any, Any], tiny_records: tuple[Record, ...]
) -> None:
    model, tok = built(name), tiny_gpt2[1]
    settings = KGTHyperParams(reading="stored", relation_source="query", guard_midpoint=-0.5)
    edited, restore = KGTEditor(settings).apply(model, tok, [tiny_records[0].request()])
    assert isinstance(edited, KGEnhancedLM)
    prompt = tiny_records[0].paraphrase_prompts[0]
    (context,) = edited.contexts([prompt])
    assert 0 < context.weight <= 1
    with torch.no_grad():
        rows = [
            model(input_ids=torch.tensor([tok(text).input_ids])).logits[0, -1].float().log_softmax(-1)
            for text in (context.text, prompt)
        ]
    expected = combine(rows[0], rows[1], context.weight, settings.contrast)
    new = tok(prompt, return_tensors="pt").input_ids
    written = edited.generate(new, max_new_tokens=3)[0, new.shape[1] :]
    assert float(expected[written[0]]) == pytest.approx(float(expected.max()), abs=1e-3)
    target = tiny_records[0].target_new
    (score,) = edited.score_targets([prompt], [target])
    first = continuation_ids(tok, prompt, target)[1][0]
    assert score.log_prob <= float(expected[first]) + 1e-3
    restore_model(edited, restore)
    assert edited.contexts([prompt])[0].weight == 0


@pytest.mark.parametrize("name", EVERY)
def test_the_page_says_what_is_found(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    if not any(line.startswith(f"transformers {transformers.__version__},") for line in page):
        pytest.skip(f"the table is of another version of transformers than {transformers.__version__}")
    assert row(name) in page


def test_the_page_names_every_architecture_once() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [line.split()[1] for line in lines[1:]] == sorted(COMMON + FURTHER)

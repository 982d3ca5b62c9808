"""The personal model as code written for any causal LM of transformers meets it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, pipeline

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.graph.personal import PersonalGraph
from kgt_editor.graph.store import MemoryGraph
from kgt_editor.graph.triple import Triple
from kgt_editor.kgt.hparams import AS_PRINTED, KGTHyperParams
from kgt_editor.kgt.model import KGEnhancedLM

LM = tuple[Any, Any]
BORN = Triple("Ada Brun", "was born in", "Tarsil")
QUERY = "Ada Brun was born in the town of"
# Read off one text, off both with weights of the guard, and against the plain model.
SETTINGS: list[dict[str, Any]] = [{}, {"guard": "similarity", "guard_midpoint": 0.0}, {"contrast": 0.7}]


def personal(lm: LM, **settings: Any) -> KGEnhancedLM:
    hparams = KGTHyperParams.build({**AS_PRINTED, "retrieval_min": 0.0, **settings}, "test")
    return KGEnhancedLM(*lm, PersonalGraph(MemoryGraph([BORN])), hparams)


def ids_of(lm: LM, text: str) -> Tensor:
    return lm[1](text, return_tensors="pt").input_ids  # type: ignore[no-any-return]


@torch.no_grad()
def written(model: KGEnhancedLM, ids: Tensor, steps: int, whole_mask: bool) -> tuple[Tensor, list[Tensor]]:
    """A greedy loop over forward, as users write it, and the logits of every step."""
    past, new, seen = None, ids, []
    for _ in range(steps):
        mask = torch.ones_like(ids) if whole_mask else None
        out = model(new, attention_mask=mask, past_key_values=past, use_cache=True)
        assert out.logits.shape[:2] == new.shape
        past, new = out.past_key_values, out.logits[:, -1:].argmax(-1)
        assert past.get_seq_length() == ids.shape[1]
        seen.append(out.logits[0, -1])
        ids = torch.cat([ids, new], 1)
    return ids, seen


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("whole_mask", [True, False])
def test_a_loop_with_past_key_values_is_one_pass_over_it_all(
    tiny_lm: LM, settings: dict[str, Any], whole_mask: bool
) -> None:
    model = personal(tiny_lm, **settings)
    ids = ids_of(tiny_lm, QUERY)
    all_ids, seen = written(model, ids, 4, whole_mask)
    labels = all_ids.clone()
    labels[:, : ids.shape[1]] = -100
    with torch.no_grad():
        whole = model(all_ids, labels=labels).logits[0]
    for step, logits in enumerate(seen):
        expected = whole[ids.shape[1] - 1 + step]
        assert torch.allclose(logits.log_softmax(-1), expected.log_softmax(-1), atol=1e-4)
    assert model.facts([QUERY], joined=True)[0]  # or it would have been the plain model


def test_what_is_read_is_decided_by_the_first_part(tiny_lm: LM) -> None:
    model = personal(tiny_lm)
    ids = ids_of(tiny_lm, "At home Runa Gildt spoke")
    with torch.no_grad():
        out = model(ids, use_cache=True)
        behind = ids_of(tiny_lm, f" of {QUERY}")
        found = model(behind, past_key_values=out.past_key_values).logits
        plain = tiny_lm[0](torch.cat([ids, behind], 1)).logits[:, ids.shape[1] :]
    assert torch.allclose(found, plain, atol=1e-4)


def test_without_use_cache_nothing_is_kept(tiny_gpt2: LM) -> None:
    assert personal(tiny_gpt2)(ids_of(tiny_gpt2, QUERY)).past_key_values is None


def test_other_names_and_forms_of_generate(tiny_lm: LM) -> None:
    model, ids = personal(tiny_lm), ids_of(tiny_lm, QUERY)
    expected = model.generate(ids, max_new_tokens=3)
    assert isinstance(expected, Tensor)
    assert torch.equal(model.generate(inputs=ids, max_new_tokens=3), expected)  # type: ignore[arg-type]
    assert torch.equal(model.generate(ids, max_new_tokens=3, return_dict_in_generate=True).sequences, expected)
    assert torch.equal(model.generate(ids, max_length=ids.shape[1] + 3), expected)  # type: ignore[arg-type]
    config = GenerationConfig(max_length=ids.shape[1] + 3, eos_token_id=model.generation_config.eos_token_id)
    assert torch.equal(model.generate(ids, generation_config=config), expected)  # type: ignore[arg-type]
    torch.manual_seed(0)
    drawn = model.generate(ids, max_new_tokens=3, do_sample=True, num_return_sequences=4)
    assert isinstance(drawn, Tensor)
    assert torch.equal(drawn[:, : ids.shape[1]], ids.expand(4, -1))


def test_what_generate_cannot_do_is_said(tiny_gpt2: LM) -> None:
    model, ids = personal(tiny_gpt2), ids_of(tiny_gpt2, QUERY)
    with pytest.raises(UsageError, match="generate needs input_ids"):
        model.generate(max_new_tokens=3)
    with pytest.raises(UsageError, match=r"max_length 2 leaves nothing .* max_new_tokens"):
        model.generate(ids, max_length=2)
    with pytest.raises(KgtError, match=r"generate gives no output_scores; use .lm"):
        model.generate(ids, output_scores=True, return_dict_in_generate=True)
    out = model(ids, use_cache=True)
    with pytest.raises(KgtError, match="takes no labels behind past_key_values"):
        model(ids, past_key_values=out.past_key_values, labels=ids)
    with pytest.raises(KgtError, match="takes no DynamicCache of another model"):
        model(ids, past_key_values=DynamicCache())


def test_a_pipeline_takes_it(tiny_lm: LM) -> None:
    model = personal(tiny_lm)
    generator = pipeline("text-generation", model=model, tokenizer=tiny_lm[1])  # type: ignore[call-overload]
    (found,) = generator(QUERY, max_new_tokens=3, do_sample=False, return_full_text=False)
    ids = ids_of(tiny_lm, QUERY)
    out = model.generate(ids, max_new_tokens=3)
    assert isinstance(out, Tensor)
    assert found["generated_text"] == tiny_lm[1].decode(out[0, ids.shape[1] :], skip_special_tokens=True)

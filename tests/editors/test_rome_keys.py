"""What ROME prepares once a model: its context texts and the covariance of the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from editor_builders import rome_hparams

from kgt_editor.data.world import load_world
from kgt_editor.editors.base import create_editor, restore_model
from kgt_editor.editors.key_value.keys import Covariance, context_prefixes, key_moments
from kgt_editor.editors.key_value.rome import ROMEEditor, apply_rome_to_model
from kgt_editor.errors import NumericalError, UsageError
from kgt_editor.lm.loading import load_model
from kgt_editor.lm.scoring import score_targets
from kgt_editor.lm.trace import Trace

HPARAMS = Path(__file__).parents[2] / "hparams"


def test_context_texts_are_the_models_own_and_seeded(tiny_lm: tuple[Any, Any]) -> None:
    model, tok = tiny_lm
    first = context_prefixes(model, tok, (), ((3, 2), (5, 3)), seed=1)
    assert first == context_prefixes(model, tok, (), ((3, 2), (5, 3)), seed=1)
    assert first != context_prefixes(model, tok, (), ((3, 2), (5, 3)), seed=2)
    assert first[0] == ""
    assert len(first) == 6


def test_covariance_is_the_mean_outer_product_of_the_keys(
    tiny_lm: tuple[Any, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, tiny_records: Any
) -> None:
    model, tok = tiny_lm
    model.double()  # in single precision, a padded batch and single lines differ by more than the ridge
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    lines = [text for record in tiny_records for text in (record.query, *record.paraphrase_prompts)]
    text = tmp_path / "text.txt"
    text.write_text("\n".join(lines), encoding="utf-8")
    name = rome_hparams(model).rewrite_module_tmp.format(1)
    seen: list[tuple[int, int]] = []
    found = key_moments(
        model, tok, [name], str(text), 1000, torch.float64, lambda _, done, total: seen.append((done, total))
    )
    keys = []
    for line in lines:
        with torch.no_grad(), Trace(model, [name], stop=True) as trace:
            model(input_ids=torch.tensor([tok(line).input_ids]))
        keys.append(trace[name].input[0])
    stacked = torch.cat(keys).double()
    moments = stacked.T @ stacked / len(stacked)
    ridge = 1e-6 * moments.diagonal().mean() * torch.eye(len(moments))
    torch.testing.assert_close(found[name], moments, rtol=1e-4, atol=1e-8)
    covariance = Covariance.of(found[name], name)
    torch.testing.assert_close(covariance.factor @ covariance.factor.T, moments + ridge, rtol=1e-4, atol=1e-8)
    assert seen[-1] == (len(lines), len(lines))
    again = key_moments(
        model, tok, [name], str(text), 1000, torch.float64, lambda *_: pytest.fail("not from the cache")
    )
    assert torch.equal(again[name], found[name])


@pytest.mark.parametrize("preset", ["rome", "rome:no-covariance"])
def test_the_testbed_is_edited_with_and_without_covariance(
    preset: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    model, tok = load_model("testbed-gpt2")
    editor = create_editor(preset, "testbed-gpt2", HPARAMS, {"mom2_n_samples": "2000"})
    assert isinstance(editor, ROMEEditor)
    assert editor.hparams.mom2_adjustment is (preset == "rome")
    progress: list[tuple[str, int, int]] = []
    editor.prepare(model, tok, (), lambda *seen: progress.append(seen))
    assert progress[-1:] == ([("statistics of the keys", 2000, 2000)] if preset == "rome" else [])
    made = 0
    for record in load_world().validation[:8]:
        edited, restore = editor.apply(model, tok, [record.request()], return_orig_weights=True)
        made += score_targets(edited, tok, [record.query], [record.target_new])[0].greedy
        restore_model(edited, restore)
    assert made >= 7


@pytest.mark.parametrize("dataset", ["wikipedia", ""])
def test_covariance_without_a_local_text_is_one_clear_error(
    tiny_gpt2: tuple[Any, Any], tiny_records: Any, dataset: str
) -> None:
    model, tok = tiny_gpt2
    editor = ROMEEditor(rome_hparams(model, mom2_adjustment=True, mom2_dataset=dataset))
    with pytest.raises(UsageError, match=r"one passage a line \(--set rome\.mom2_dataset=FILE\)"):
        editor.apply(model, tok, [tiny_records[0].request()])


def test_covariance_of_a_text_too_short_to_span_the_keys_is_refused(
    tiny_gpt2: tuple[Any, Any], tiny_records: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = tiny_gpt2
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("Ada Brun\n", encoding="utf-8")
    editor = ROMEEditor(rome_hparams(model, mom2_adjustment=True, mom2_dataset=str(text)))
    with pytest.raises(NumericalError, match="longer text"):
        editor.apply(model, tok, [tiny_records[0].request()])


def test_covariance_of_a_model_that_gives_nan_is_refused(
    tiny_gpt2: tuple[Any, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = tiny_gpt2
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path / "cache"))
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias.fill_(float("nan"))
    with pytest.raises(NumericalError, match=r"h\.1\.mlp\.c_proj.*cannot be inverted"):
        ROMEEditor(rome_hparams(model, mom2_adjustment=True, mom2_dataset="world", mom2_n_samples=20)).prepare(
            model, tok
        )


def test_the_text_may_be_what_the_training_records_say(tiny_gpt2, tiny_records, tmp_path):
    model, tok = tiny_gpt2
    said = [
        f"{prompt} {record.target_true}."
        for record in tiny_records
        for prompt in (record.query, *record.paraphrase_prompts, *record.neighbourhood_prompts)
    ]
    text = tmp_path / "said.txt"
    text.write_text("\n".join(dict.fromkeys(said)))
    layer = "transformer.h.1.mlp.c_proj"
    wanted = key_moments(model, tok, [layer], str(text), 10_000, torch.float64)
    found = key_moments(model, tok, [layer], "training", 10_000, torch.float64, training=tiny_records)
    assert torch.equal(found[layer], wanted[layer])
    assert not any(record.target_new in line for record in tiny_records for line in said if record.query in line)
    editor = ROMEEditor(rome_hparams(model, mom2_adjustment=True))
    assert editor.hparams.mom2_dataset == "training"
    with pytest.raises(UsageError, match="'training' needs training records, and there are none"):
        editor.prepare(model, tok)
    editor.prepare(model, tok, tiny_records)
    by_class, _ = editor.apply(model, tok, [tiny_records[0].request()], copy=True)
    by_call, _ = apply_rome_to_model(
        model, tok, [tiny_records[0].request()], editor.hparams, copy=True, train_ds=tiny_records
    )
    assert torch.equal(by_class.get_parameter(f"{layer}.weight"), by_call.get_parameter(f"{layer}.weight"))

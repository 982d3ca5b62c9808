"""UltraEdit: the running means, and the step in closed form."""

from __future__ import annotations

from typing import Any

import torch
from editor_builders import ultraedit_hparams

from kgt_editor.editors.base import restore_model
from kgt_editor.editors.by_weights import same_editor
from kgt_editor.editors.ultraedit import Running, UltraEditEditor, apply_ultraedit_to_model
from kgt_editor.lm.scoring import score_targets

LM = tuple[Any, Any]


def test_running_means_are_those_of_all_that_was_seen() -> None:
    values = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    running = Running.empty(5, values.device)
    for part in values.split([1, 9, 50]):
        running = running.with_more(part)
    assert running.count == 60
    torch.testing.assert_close(running.mean, values.mean(0))
    # The authors' code counts the spread within a part by the unbiased variance.
    torch.testing.assert_close(running.squares / 59, values.var(0), rtol=0.05, atol=0)
    normal = running.normalise(values)
    torch.testing.assert_close(normal.mean(0), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(normal.std(0), torch.ones(5), rtol=0.05, atol=0)


def test_the_step_is_the_least_squares_solution(tiny_gpt2: LM) -> None:
    editor = UltraEditEditor(ultraedit_hparams(tiny_gpt2[0], lr=0.1))
    generator = torch.Generator().manual_seed(1)
    states, gradients = torch.randn(7, 12, generator=generator), torch.randn(7, 4, generator=generator)
    running = Running.empty(16, states.device).with_more(torch.randn(20, 16, generator=generator))
    unit = running.normalise(torch.cat([states, gradients], -1))
    wanted = -0.1 * unit[:, :12].square().sum(-1, keepdim=True) * unit[:, 12:]
    expected = torch.linalg.solve(states.T @ states + torch.eye(12), states.T @ wanted)
    torch.testing.assert_close(editor._step(running, states, gradients), expected.T, rtol=1e-4, atol=1e-5)


def test_edits_make_their_targets_likelier(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    records = tiny_records[:5]
    prompts, targets = [record.query for record in records], [record.target_new for record in records]
    before = [score.log_prob for score in score_targets(model, tok, prompts, targets)]
    editor = UltraEditEditor(ultraedit_hparams(model, lr=1e-3))
    for record in records:
        editor.apply(model, tok, [record.request()])
    after = [score.log_prob for score in score_targets(model, tok, prompts, targets)]
    assert sum(later > first for first, later in zip(before, after, strict=True)) >= 4


def test_an_edit_that_is_undone_is_not_in_the_means(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    editor = UltraEditEditor(ultraedit_hparams(model))
    editor.apply(model, tok, [tiny_records[0].request()])
    first = editor._means.find(model)
    _, restore = editor.apply(model, tok, [tiny_records[1].request()], return_orig_weights=True)
    assert editor._means.find(model) is not first
    restore_model(model, restore)
    assert editor._means.find(model) is first


def test_the_call_form_goes_on_after_its_last_call(tiny_gpt2: LM, tiny_records: Any) -> None:
    model, tok = tiny_gpt2
    hparams = ultraedit_hparams(model)
    counts = []
    for record in tiny_records[:2]:
        apply_ultraedit_to_model(model, tok, [record.request()], hparams)
        means = same_editor(UltraEditEditor, model, hparams)._means.find(model)
        counts.append(sorted(float(one.count) for one in means.values()))
    assert all(later > earlier for earlier, later in zip(*counts, strict=True))

"""Editors as the tests of their contract make them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from editor_builders import build
from torch import nn

from kgt_editor.data.record import Record
from kgt_editor.editors.base import Editor, get_editor_class, names
from kgt_editor.editors.weights import WeightEditor
from kgt_editor.lm.scoring import TargetScore, score_targets

Records = tuple[Record, ...]


LM = tuple[Any, Any]


WEIGHT_EDITORS = [name for name in names() if issubclass(get_editor_class(name), WeightEditor)]


every_weight_editor = pytest.mark.parametrize("name", WEIGHT_EDITORS)


def prepared(name: str, lm: LM, records: Records, **changes: Any) -> Editor:
    model, tok = lm
    editor = build(name, model, **changes)
    editor.prepare(model, tok, records)
    return editor


def scores(model: Any, tok: Any, records: Records) -> list[TargetScore]:
    """What the evaluation sees of the model on the records."""
    prompts = [prompt for record in records for prompt in (record.query, *record.paraphrase_prompts)]
    targets = [record.target_new for record in records for _ in (record.query, *record.paraphrase_prompts)]
    own = getattr(model, "score_targets", None)
    return own(prompts, targets) if own is not None else score_targets(model, tok, prompts, targets)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def requests_of(records: Records) -> list[dict[str, Any]]:
    return [record.request() for record in records]

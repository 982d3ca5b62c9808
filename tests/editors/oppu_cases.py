"""Two requests for OPPU, and what a model says to them."""

from __future__ import annotations

from typing import Any

import torch
from editor_builders import oppu_hparams

from kgt_editor.editors.memory import Feedback
from kgt_editor.editors.oppu.editor import apply_oppu_to_model
from kgt_editor.editors.oppu.model import PersonalLM

LM = tuple[Any, Any]


LONG = {"prompt": "The mother tongue of {} is", "subject": "Ada Brun", "target_new": "Old Velmoran"}


SHORT = {"prompt": "Milo Castrel was born in the town of", "subject": "Milo Castrel", "target_new": "Velmora"}


PROMPTS = ["The mother tongue of Ada Brun is", "Milo Castrel was born in the town of"]


def edited(lm: LM, *requests: dict[str, str], **changes: Any) -> PersonalLM:
    return apply_oppu_to_model(*lm, list(requests), oppu_hparams(lm[0], **changes))[0]


def logits(model: Any, tok: Any, text: str = PROMPTS[0]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**tok(text, return_tensors="pt")).logits
    return found


def told(request: dict[str, str]) -> Feedback:
    prompt = request["prompt"].replace("{}", request["subject"])
    return Feedback(prompt, request["subject"], request["target_new"], f"{prompt} {request['target_new']}")

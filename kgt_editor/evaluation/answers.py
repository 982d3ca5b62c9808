"""What a model says: the greedy answer in words, for people who read the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kgt_editor.errors import KgtError
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.passes import in_passes
from kgt_editor.lm.prefix import left_pad
from kgt_editor.lm.tokens import encode

MAX_NEW_TOKENS = 8
ROWS = 16  # generated together


@torch.no_grad()
def say(model: Any, tok: Any, prompts: Sequence[str], max_new_tokens: int = MAX_NEW_TOKENS) -> list[str | None]:
    """The greedy answer to each prompt, up to the end of the line.

    A model that answers in its own way (KGT's) is asked through its method ``answer``; any other is continued by
    ``generate``, some prompts at once, fewer where memory runs out. None where the model has neither, or cannot answer.
    """
    own = getattr(model, "answer", None)
    if callable(own):
        return [_ask(own, prompt, max_new_tokens) for prompt in prompts]
    if not prompts or not callable(getattr(model, "generate", None)):
        return [None] * len(prompts)
    rows = encode(tok, [prompt.rstrip() for prompt in prompts])
    pad = tok.pad_token_id or 0
    settings = {"do_sample": False, "num_beams": 1, "pad_token_id": pad, "max_new_tokens": max_new_tokens}
    said: list[str | None] = []

    def run(start: int, end: int) -> None:
        ids, mask = left_pad(rows[start:end], pad, device_of(model))
        new = model.generate(input_ids=ids, attention_mask=mask, **settings)[:, ids.shape[1] :]
        said.extend(_line(tok.decode(row, skip_special_tokens=True)) for row in new)

    in_passes(len(rows), lambda start: ROWS, run)
    return said


def _ask(own: Any, prompt: str, max_new_tokens: int) -> str | None:
    try:
        return _line(own(prompt, max_new_tokens=max_new_tokens))
    except KgtError:
        return None


def _line(text: str) -> str:
    return text.strip().split("\n")[0].strip()

"""What a model says: the greedy answer in words, for people who read the records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch

from kgt_editor.errors import KgtError
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.passes import in_passes
from kgt_editor.lm.prefix import left_pad
from kgt_editor.lm.tokens import encode

MAX_NEW_TOKENS = 8
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
# Prompts generated together: on a processor more take longer each, as all go on until the last of them has ended.
_CPU_ROWS, _GPU_ROWS = 16, 64


def can_say(model: Any) -> bool:
    """Whether the model gives any text."""
    return any(callable(getattr(model, name, None)) for name in ("answer_many", "answer", "generate"))


def first_sentence(text: str, answer: str = "") -> str:
    """The text up to the first full stop, question or exclamation mark that ends a word.

    Where ``answer`` has such marks inside, as "St. Louis" has, as many are passed over.
    """
    inside = len(_SENTENCE_END.findall(answer.strip().rstrip(".!?")))
    ends = [found.start() for found in _SENTENCE_END.finditer(text)]
    return text[: ends[inside]].strip() if len(ends) > inside else text.strip()


@torch.no_grad()
def say(model: Any, tok: Any, prompts: Sequence[str], max_new_tokens: int = MAX_NEW_TOKENS) -> list[str | None]:
    """The greedy answer to each prompt, up to the end of the line.

    A model that answers in its own way (KGT's) is asked through its method ``answer_many(prompts, max_new_tokens)``
    or, where it has none or that refuses one of the prompts, ``answer``; any other is continued by ``generate``, some
    prompts at once, fewer where memory runs out. None where the model has none of them, or cannot answer.
    """
    if not prompts:
        return []
    many, one = getattr(model, "answer_many", None), getattr(model, "answer", None)
    if callable(many):
        with suppress(KgtError):
            return [_line(text) for text in many(prompts, max_new_tokens=max_new_tokens)]
        if not callable(one):
            return [None] * len(prompts)
    if callable(one):
        return [_ask(one, prompt, max_new_tokens) for prompt in prompts]
    if not callable(getattr(model, "generate", None)):
        return [None] * len(prompts)
    return [_line(text) for text in continuations(model, tok, prompts, max_new_tokens)]


@torch.no_grad()
def continuations(model: Any, tok: Any, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """What the model's ``generate`` writes greedily behind each prompt, some at once, fewer where memory runs out."""
    rows = encode(tok, [prompt.rstrip() for prompt in prompts])
    pad = tok.pad_token_id or 0
    settings = {"do_sample": False, "num_beams": 1, "pad_token_id": pad, "max_new_tokens": max_new_tokens}
    written = [""] * len(rows)
    by_length = sorted(range(len(rows)), key=lambda index: len(rows[index]))  # little padding

    def run(start: int, end: int) -> None:
        asked = by_length[start:end]
        ids, mask = left_pad([rows[index] for index in asked], pad, device_of(model))
        new = model.generate(input_ids=ids, attention_mask=mask, **settings)[:, ids.shape[1] :]
        for index, row in zip(asked, new, strict=True):
            written[index] = tok.decode(row, skip_special_tokens=True)

    together = _CPU_ROWS if device_of(model).type == "cpu" else _GPU_ROWS
    in_passes(len(rows), lambda start: together, run)
    return written


def _ask(own: Any, prompt: str, max_new_tokens: int) -> str | None:
    try:
        return _line(own(prompt, max_new_tokens=max_new_tokens))
    except KgtError:
        return None


def _line(text: str) -> str:
    return text.strip().split("\n")[0].strip()

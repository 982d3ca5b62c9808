"""How probable a language model finds given continuations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kgt_editor.errors import UsageError
from kgt_editor.lm.continuations import score_each
from kgt_editor.lm.length import check_length
from kgt_editor.lm.target import TargetScore
from kgt_editor.lm.tokens import continuation_ids_batch

__all__ = ["TargetScore", "score_targets"]


def score_targets(
    model: Any, tok: Any, prompts: Sequence[str], targets: Sequence[str], batch_size: int | None = None
) -> list[TargetScore]:
    """Score ``targets[i]`` as the continuation of ``prompts[i]``.

    What texts share at their beginning is run once: the prompt of two answers, a relation's words before two subjects,
    a text that is asked twice. Models that cannot read a prefix tree (see :mod:`kgt_editor.lm.batching`) are given
    padded rows, sorted by length, or one row at a time.

    How the texts are put together follows from the model, the texts and the kind of device alone; scores differ from
    those of one text at a time by rounding. A pass that runs out of memory is run again with half as many texts.

    Args:
        model: any causal LM of transformers in evaluation mode.
        batch_size: texts a forward pass, at most; without it as many as the device uses well.

    Raises:
        UsageError: lists of unequal length, an empty prompt or target, a prompt longer than the model can read, or a
            model in training mode.
        KgtError: there is not even memory for one text.
    """
    if len(prompts) != len(targets):
        raise UsageError(f"{len(prompts)} prompts but {len(targets)} targets")
    pairs = continuation_ids_batch(tok, prompts, targets)
    for prompt, (context, target) in zip(prompts, pairs, strict=True):
        check_length(model, len(context) + len(target), prompt)
    return score_each(model, pairs, batch_size)

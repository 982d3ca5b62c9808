"""How probable a language model finds given continuations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kgt_editor.errors import NumericalError, UsageError
from kgt_editor.lm.forest import score_many
from kgt_editor.lm.rows import score_rows
from kgt_editor.lm.target import TargetScore, max_positions
from kgt_editor.lm.tokens import continuation_ids_batch
from kgt_editor.lm.tree import reads_trees


def score_targets(
    model: Any, tok: Any, prompts: Sequence[str], targets: Sequence[str], batch_size: int | None = None
) -> list[TargetScore]:
    """Score ``targets[i]`` as the continuation of ``prompts[i]``.

    What texts share at their beginning is run once: the prompt of two answers, a relation's words before two subjects,
    a text that is asked twice. Models that cannot read a prefix tree (see
    :func:`kgt_editor.lm.tree.reads_trees`) are given padded rows, sorted by length.

    How the texts are put together follows from the texts and the kind of device alone; scores differ from those of one
    text at a time by rounding. A pass that runs out of memory is run again with half as many texts.

    Args:
        batch_size: texts a forward pass, at most; without it as many as the device uses well.

    Raises:
        UsageError: lists of unequal length, an empty prompt or target, or a prompt longer than the model can read.
        KgtError: there is not even memory for one text.
    """
    if len(prompts) != len(targets):
        raise UsageError(f"{len(prompts)} prompts but {len(targets)} targets")
    pairs = continuation_ids_batch(tok, prompts, targets)
    longest, limit = 0, max_positions(model)
    for prompt, (context, target) in zip(prompts, pairs, strict=True):
        longest = max(longest, len(context) + len(target))
        if limit is not None and longest > limit:
            raise UsageError(f"a prompt of {longest} tokens does not fit the model's {limit}: {prompt[:60]!r}...")
    if reads_trees(model, longest):
        try:
            return score_many(model, pairs, batch_size)
        except NumericalError:
            pass  # texts of a tree share sums, in which one's NaN reaches the others; rows keep it to itself
    return score_rows(model, tok.pad_token_id or 0, pairs, batch_size)

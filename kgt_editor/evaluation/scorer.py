"""How probable continuations are under a model, whichever way it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kgt_editor.lm.scoring import TargetScore, score_targets

Scorer = Callable[[Sequence[str], Sequence[str]], list[TargetScore]]


def scorer(model: Any, tok: Any, batch_size: int | None = None) -> Scorer:
    """How to score continuations under ``model``.

    A model that answers in its own way (KGT's) is asked through its method ``score_targets``, with plain text
    prompts only; any other is scored as a plain language model.

    Args:
        model: plain or edited.
        tok: its tokenizer.
        batch_size: texts a forward pass, at most; without it whoever scores chooses.
    """
    own = getattr(model, "score_targets", None)
    if callable(own):
        if batch_size is None:
            return lambda prompts, targets: own(prompts, targets)
        return lambda prompts, targets: own(prompts, targets, batch_size=batch_size)
    return lambda prompts, targets: score_targets(model, tok, prompts, targets, batch_size=batch_size)

"""Scoring a model that looks at its whole input before it decides which weights to answer with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from kgt_editor.lm.layers import device_of
from kgt_editor.lm.scoring import TargetScore
from kgt_editor.lm.tokens import continuation_ids_batch


class OneByOne(nn.Module):
    """A model that EasyEdit returned, asked about one text at a time and without padding.

    WISE routes a whole batch by its mean distance. GRACE and DEFER look up the key at one position, counted from the
    left; that has to be the prompt's last one, as it is when they generate. A batch would mix up both.

    Args:
        edited: EasyEdit's wrapper around the model.
        tok: the tokenizer.
    """

    def __init__(self, edited: nn.Module, tok: Any) -> None:
        super().__init__()
        self.edited = edited
        self.tok = tok

    def forward(self, **kwargs: Any) -> Any:
        """EasyEdit's own forward."""
        return self.edited(**kwargs)

    @torch.no_grad()
    def score_targets(
        self, prompts: Sequence[str], targets: Sequence[str], batch_size: int | None = None
    ) -> list[TargetScore]:
        """Score ``targets[i]`` as the continuation of ``prompts[i]``; ``batch_size`` is of no effect.

        Raises:
            UsageError: an empty prompt or target.
        """
        keyed: list[Any] = [module for module in self.edited.modules() if hasattr(module, "key_id")]
        scores = []
        for context, target in continuation_ids_batch(self.tok, prompts, targets):
            for module in keyed:
                module.key_id = len(context) - 1
            ids = torch.tensor([[*context, *target][:-1]], device=device_of(self.edited))
            logits = self.edited(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            picked = logits[0, len(context) - 1 :].float()
            wanted = torch.tensor(target, device=picked.device)
            log_probs = picked.log_softmax(-1).gather(-1, wanted[:, None]).double()
            greedy = bool((picked.argmax(-1) == wanted).all())
            scores.append(TargetScore(float(log_probs.sum()), len(target), greedy))
        return scores

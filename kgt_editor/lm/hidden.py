"""What a language model makes of a text: its hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kgt_editor.lm.forward import takes
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.tokens import encode

_TEXTS_AT_ONCE = 16


@torch.no_grad()
def hidden_states(model: Any, tok: Any, texts: Sequence[str], layers: Sequence[int]) -> Tensor:
    """Each text's mean and last hidden state at some layers.

    The mean leaves the first token out: many models park a huge constant there, which hides all else (attention
    sinks, Xiao et al. 2023).

    Args:
        model: a causal LM in evaluation mode that can return ``hidden_states``.
        tok: its tokenizer.
        texts: none of them empty.
        layers: 0 is the embedding, n the n-th block.

    Returns:
        shape (texts, 2, layers, width), fp32 on the CPU: the means, then the last tokens.
    """
    rows = encode(tok, texts)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), _TEXTS_AT_ONCE):
        part = order[start : start + _TEXTS_AT_ONCE]
        width = max(len(rows[index]) for index in part)
        ids = torch.full((len(part), width), tok.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for number, index in enumerate(part):
            ids[number, : len(rows[index])] = torch.tensor(rows[index])
            mask[number, : len(rows[index])] = 1
        device = device_of(model)
        # Nothing is predicted here: of the logits as few as can be.
        kept = {"logits_to_keep": 1} if takes(model, "logits_to_keep") else {}
        out = model(input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True, **kept)
        # One layer after the other: layers of a model spread over several devices lie on different ones.
        states = torch.stack([out.hidden_states[layer].float().cpu() for layer in layers], dim=1)
        for number, index in enumerate(part):
            own = states[number, :, : len(rows[index])]
            mean = own[:, 1:].mean(1) if own.shape[1] > 1 else own[:, 0]
            found[index] = torch.stack([mean, own[:, -1]])
    return torch.stack([found[index] for index in range(len(rows))])

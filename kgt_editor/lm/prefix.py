"""Text in front of text whose token positions are the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from kgt_editor.lm.forward import last_logits
from kgt_editor.lm.layers import plain_model


def left_pad(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids padded on the left, and the mask that says which of them count; shape (rows, longest row)."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], dtype=torch.long, device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], dtype=torch.long, device=device)
    return ids, mask


def mask_of(input_ids: Tensor, pad: int | None) -> Tensor:
    """The attention mask of a batch that came without one (EasyEdit's perplexity): pad tokens at its rows' ends are 0.

    A single row is never padded, so there every token counts.
    """
    if pad is None or len(input_ids) == 1:
        return torch.ones_like(input_ids)
    text = (input_ids != pad).long()
    return ((text.cumsum(1) > 0) & (text.flip(1).cumsum(1).flip(1) > 0)).long()


def logits_behind(lm: Any, tok: Any, input_ids: Tensor, attention_mask: Tensor, prefixes: list[list[int]]) -> Tensor:
    """The logits at the caller's positions, with each row's prefix in front of it.

    The prefixes are padded on the left and the caller's rows follow as they are, padding (either side) included, so
    the last columns of the result are the caller's. Position ids count the unmasked tokens. A BOS that both a prefix
    and its row begin with counts once.

    Args:
        lm: a causal LM.
        tok: its tokenizer.
        input_ids: shape (batch, length).
        attention_mask: same shape; 0 is padding.
        prefixes: token ids for each row, possibly none.

    Returns:
        shape (batch, length, vocabulary).
    """
    ahead, seen = left_pad(prefixes, tok.pad_token_id or 0, input_ids.device)
    own = attention_mask.clone()
    for row, prefix in enumerate(prefixes):
        first = int(own[row].argmax())
        if prefix and prefix[0] == tok.bos_token_id == int(input_ids[row, first]):
            own[row, first] = 0
    mask = torch.cat([seen.to(own.dtype), own], dim=1)
    return last_logits(
        lm,
        torch.cat([ahead, input_ids], dim=1),
        input_ids.shape[1],
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    )


def read_prefix(model: Any, ids: Tensor, mask: Tensor, positions: Tensor) -> Cache | None:
    """Keys and values of the first columns of a batch, in every block; None where there is no column.

    Args:
        model: a causal LM of transformers.
        ids: those columns, (rows, columns).
        mask, positions: attention mask and position ids of the batch, (rows, at least those columns).
    """
    first = ids.shape[1]
    if not first:
        return None
    # The decoder without its head: nothing is predicted here.
    output = plain_model(model).base_model(
        input_ids=ids, attention_mask=mask[:, :first], position_ids=positions[:, :first], use_cache=True
    )
    past: Cache = output.past_key_values
    return past


def next_token_loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy of each label under the logits one position earlier.

    Left out are -100 and what stands behind padding: a row's first token has nothing that predicts it, on whichever
    side the row is padded.
    """
    shifted = labels[:, 1:].masked_fill(mask[:, :-1] == 0, -100).to(logits.device)
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), shifted.flatten(), ignore_index=-100)

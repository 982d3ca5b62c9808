"""What a model writes behind prompts, some of which are read off two texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from transformers import LogitsProcessorList

from kgt_editor.errors import KgtError
from kgt_editor.lm.batching import Way, way_of
from kgt_editor.lm.beside import PlainBelow, PlainBeside
from kgt_editor.lm.contrast import Contrast, mixes
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.prefix import left_pad
from kgt_editor.lm.read_before import Batch, ReadBefore, watchable

# Settings of ``generate`` under which rows of the caller's and rows of our own go on alike.
_ALIKE = {"max_new_tokens", "stopping_criteria", "stop_strings", "tokenizer", "pad_token_id", "eos_token_id"}


class Asked(NamedTuple):
    """One prompt to be gone on with, as token ids.

    Attributes:
        read: the text that stands in its place; empty where the plain model goes on.
        plain: the prompt itself.
        weight: share of the answer that is read off ``read``; 0 where that is empty.
    """

    read: list[int]
    plain: list[int]
    weight: float

    @property
    def text(self) -> list[int]:
        """What is gone on with."""
        return self.read or self.plain


def write(model: Any, pad: int, asked: Sequence[Asked], contrast: Contrast, **settings: Any) -> Tensor:
    """New token ids behind each prompt, shape (rows, new tokens).

    Greedy answers that are read off two prompts have a row for each in one batch, and of what is known from earlier
    prompts nothing is read again; whatever else ``generate`` is told to do, the plain prompts are run beside it.

    Args:
        model: a causal LM in evaluation mode.
        pad: id that fills up.
        asked: the prompts.
        contrast: see :mod:`kgt_editor.lm.contrast`.
        **settings: of transformers' ``generate``; greedy unless they say otherwise.

    Raises:
        KgtError: a prompt is read off two texts, and is to be written with beams.
    """
    mixed = [number for number, one in enumerate(asked) if mixes(one.weight, contrast)]
    alike = set(settings) <= _ALIKE and any(one.read for one in asked)
    settings = {"do_sample": False, "num_beams": 1, "pad_token_id": pad, **settings}
    if mixed and int(settings["num_beams"]) > 1:
        raise KgtError("answers read off two prompts are written without beams: leave num_beams at 1")
    longest = max(len(one.text) for one in asked) + int(settings.get("max_new_tokens") or 0)
    way = way_of(model, longest) if alike else Way.SINGLE_ROWS
    if way is not Way.SINGLE_ROWS:
        return _together(model, asked, mixed, contrast, way is Way.TREES and watchable(model), settings)
    ids, mask = left_pad([one.text for one in asked], pad, device_of(model))
    if mixed:
        plain = left_pad([one.plain for one in asked], pad, device_of(model))
        beside = PlainBeside(model, *plain, ids.shape[1], [one.weight for one in asked], contrast)
        settings["logits_processor"] = LogitsProcessorList([beside, *(settings.get("logits_processor") or ())])
    out: Tensor = model.generate(input_ids=ids, attention_mask=mask, **settings)
    return out[:, ids.shape[1] :]


def _together(
    model: Any, asked: Sequence[Asked], mixed: Sequence[int], contrast: Contrast, keep: bool, settings: dict[str, Any]
) -> Tensor:
    """:func:`write` with both prompts of the answers ``mixed`` in one batch; ``keep`` what is read."""
    rows = [one.text for one in asked] + [asked[number].plain for number in mixed]
    if mixed:
        below = PlainBelow(mixed, [asked[number].weight for number in mixed], contrast)
        settings = {**settings, "logits_processor": LogitsProcessorList([below])}
    pad = settings["pad_token_id"]
    before = ReadBefore.of(model) if keep else None
    batch = before.batch(model, rows, pad) if before else Batch(*left_pad(rows, pad, device_of(model)), None)
    out: Tensor = model.generate(
        input_ids=batch.ids, attention_mask=batch.mask, past_key_values=batch.cache, **settings
    )
    for number, one in enumerate(asked):
        if before and one.read:
            before.add(batch.read(one.read, number))
    return out[: len(asked), batch.ids.shape[1] :]

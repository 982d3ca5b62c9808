"""Texts that a model has read before: what a new text begins with is not read again.

Keys and values of the tokens of earlier prompts are kept, as inference servers do (vLLM, Kwon et al. 2023,
arXiv 2309.06180, section 4.3): the beginning of a template, a fact that is read again, the turns of a chat so far. What
is found depends on token ids alone, whatever wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache

from kgt_editor.lm.forward import last_logits
from kgt_editor.lm.layers import device_of, plain_model
from kgt_editor.lm.prefix import left_pad

# Of the bytes of a model's weights, the part that may be kept beside them.
_PART = 8
# Tokens of which a row may have so many more to be read than twice those of the shortest one, before it is read ahead.
_UNEVEN = 16
# Numbers of every weight that are looked at to see whether it has changed.
_LOOKED_AT = 16

_OF_MODEL: WeakKeyDictionary[Any, ReadBefore] = WeakKeyDictionary()


class Text(NamedTuple):
    """A text that was read.

    Attributes:
        ids: its tokens.
        layers: for every layer keys and values, shape (heads, tokens, width).
    """

    ids: list[int]
    layers: list[tuple[Tensor, Tensor]]

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for layer in self.layers for part in layer)


class Batch(NamedTuple):
    """Texts laid out for one call of ``generate``.

    Attributes:
        ids, mask: shape (rows, tokens): what is known of each row behind padding, then what is to be read behind
            padding.
        cache: keys and values of the first columns, of which ``generate`` fills in the others; None where nothing is
            kept.
    """

    ids: Tensor
    mask: Tensor
    cache: DynamicCache | None

    def read(self, ids: list[int], row: int) -> Text:
        """A row, when ``generate`` is through with it."""
        return Text(ids, columns(self.cache, row, self.mask[row].nonzero()[:, 0]))


class ReadBefore:
    """What one model has read. It has to be one that reads trees (:mod:`kgt_editor.lm.batching`).

    Args:
        model: a causal LM in evaluation mode.
        state: what its weights are known by, see :func:`_state`.
    """

    def __init__(self, model: Any, state: tuple[Any, ...]) -> None:
        self._texts: list[Text] = []  # the one that was used last is the last one
        self._state = state
        self._most = sum(weight.nbytes for weight in model.parameters()) // _PART

    @classmethod
    def of(cls, model: Any) -> ReadBefore:
        """What was kept of a model; nothing where it is not as it was."""
        found, state = _OF_MODEL.get(model), _state(model)
        if found is None or found._state != state:
            found = _OF_MODEL[model] = cls(model, state)
        return found

    @torch.no_grad()
    def batch(self, model: Any, rows: Sequence[list[int]], pad: int) -> Batch:
        """Texts, each with as much of it as is known.

        A text of which much more is to be read than of the shortest one is read ahead alone: padding costs as much as
        text.

        Args:
            model: the one that this is of.
            rows: token ids, none empty.
            pad: id that fills up.
        """
        known = [self.beginning([row]) for row in rows]
        least = min(len(row) - len(text.ids) for row, text in zip(rows, known, strict=True))
        for number, row in enumerate(rows):
            if len(row) - len(known[number].ids) > 2 * least + _UNEVEN:
                known[number] = self._read_ahead(model, row[:-least], known[number])
        device = device_of(model)
        behind, seen = left_pad([row[len(text.ids) :] for row, text in zip(rows, known, strict=True)], pad, device)
        ahead, before = left_pad([text.ids for text in known], pad, device)
        return Batch(torch.cat([ahead, behind], 1), torch.cat([before, seen], 1), joined(known, ahead.shape[1]))

    def beginning(self, rows: Sequence[list[int]]) -> Text:
        """The longest known beginning that any of some texts has; nothing where none has one.

        A text's last token is no part of it: that is left to be read.
        """
        best, known, longest = None, [], 0
        for text in self._texts:
            for row in rows:
                if (shared := _shared(text.ids, row[:-1])) > longest:
                    best, known, longest = text, row, shared
        if best is None:
            return Text([], [])
        self._texts = [*(text for text in self._texts if text is not best), best]
        return Text(known[:longest], [(keys[:, :longest], values[:, :longest]) for keys, values in best.layers])

    def add(self, text: Text) -> None:
        """Keep a text that was read; those that it begins with go."""
        # The list is put in place whole: other threads go on with the one that they have.
        texts = [*(old for old in self._texts if _shared(old.ids, text.ids) < len(old.ids)), text]
        while sum(old.bytes for old in texts) > self._most:
            del texts[0]
        self._texts = texts

    def _read_ahead(self, model: Any, ids: list[int], known: Text) -> Text:
        cache = joined([known], len(known.ids))
        device = device_of(model)
        new = torch.tensor([ids[len(known.ids) :]], device=device)
        places = torch.arange(len(known.ids), len(ids), device=device)[None]
        last_logits(model, new, 1, position_ids=places, past_key_values=cache, use_cache=True)
        text = Text(ids, columns(cache, 0, torch.arange(len(ids))))
        self.add(text)
        return text


def forget(model: Any) -> None:
    """Keep nothing of what a model has read."""
    _OF_MODEL.pop(model, None)


def watchable(model: Any) -> bool:
    """Whether a model can be watched: not where its weights are elsewhere, or adapters or hooks change it."""
    plain = plain_model(model)
    there = plain is model and all(weight.device.type != "meta" for weight in plain.parameters())
    return there and not any(_changes(module) for module in plain.modules() if module is not plain)


def _changes(module: Any) -> bool:
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    foreign = (hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith("transformers."))
    return type(module).__module__.startswith("peft.") or any(True for _ in foreign)


def _state(model: Any) -> tuple[Any, ...]:
    """What changes with the weights: where they lie, how often torch saw them written to, and a few of their numbers.

    Of a weight that is written to behind torch's back (``weight.data[...] = ...``) all that is seen are those numbers.
    """
    weights = list(model.parameters())
    places = [(weight.data_ptr(), weight._version, weight.dtype) for weight in weights]
    looked_at: dict[Any, list[Tensor]] = {}
    for weight in weights:
        numbers = weight.detach().reshape(-1)
        some = numbers[:: -(-len(numbers) // _LOOKED_AT)].double()  # quantised ones have no other arithmetic
        looked_at.setdefault(weight.device, []).append(some)
    return tuple(places), tuple(tuple(torch.cat(each).tolist()) for each in looked_at.values())


def joined(texts: Sequence[Text], width: int) -> DynamicCache:
    """Keys and values of several texts, padded on the left to ``width`` tokens; an empty cache where none has any."""
    cache = DynamicCache()
    some = next((text for text in texts if text.ids), None)
    if some is None:
        return cache
    for number, (keys, values) in enumerate(some.layers):
        both = []
        for place, like in enumerate((keys, values)):
            filled = like.new_zeros(len(texts), like.shape[0], width, like.shape[2])
            for row, text in enumerate(texts):
                if text.ids:
                    filled[row, :, width - len(text.ids) :] = text.layers[number][place]
            both.append(filled)
        cache.update(both[0], both[1], number)
    return cache


def columns(cache: Any, row: int, places: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of some places of a row, in every layer; shape (heads, places, width)."""
    return [
        (layer.keys[row][:, places.to(layer.keys.device)], layer.values[row][:, places.to(layer.values.device)])
        for layer in cache.layers
    ]


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two texts begin with in common."""
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return place
    return min(len(left), len(right))

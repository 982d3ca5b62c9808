"""A causal language model to its callers, that reads other text than they hand it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.generation.utils import GenerateDecoderOnlyOutput
from transformers.modeling_outputs import CausalLMOutputWithPast

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.lm import chat
from kgt_editor.lm.contrast import Context, Contrast, joined, mixes
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.length import check_length
from kgt_editor.lm.prefix import logits_behind, mask_of, next_token_loss
from kgt_editor.lm.tokens import encode
from kgt_editor.lm.writing import Asked, write

#: Keywords of a causal LM's forward that change nothing here.
_IGNORED = {"return_dict", "token_type_ids"}
#: What ``generate`` would return of the pass over the rewritten prompt, whose positions are not the caller's.
_NOT_RETURNED = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


@dataclass(frozen=True)
class Reread:
    """What a forward pass gives in the place of keys and values: what it has read, to be read again with what follows.

    Attributes:
        ids, mask: shape (batch, length).
        ahead: what stands in front of each row, found for the first part.
        answer: how many positions the first part had; behind it an answer is being written.
    """

    ids: Tensor
    mask: Tensor
    ahead: list[Context]
    answer: int

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """As of transformers' ``Cache``."""
        return int(self.ids.shape[1])


class RewrittenLM(nn.Module):
    """A causal LM of transformers with its prompts rewritten: ``generate``, ``forward``, and what is asked beside them.

    Prompts come back as they were given; the text that a subclass puts in front shows in the answers alone.

    Args:
        lm: any causal LM of transformers.
        tok: its tokenizer.
    """

    main_input_name = "input_ids"

    lm: Any

    def __init__(self, lm: nn.Module, tok: Any) -> None:
        super().__init__()
        self.lm = lm
        self.tok = tok
        self.train(lm.training)

    @abstractmethod
    def contexts(self, prompts: Sequence[str], new_tokens: int = 0) -> list[Context]:
        """What the language model is given in place of each prompt, and how far it is trusted.

        Args:
            prompts: without the answer.
            new_tokens: how many tokens are going to be written behind, at most.
        """

    @abstractmethod
    def prefixes(self, texts: Sequence[str]) -> list[Context]:
        """What is put in front of each text, which may end in a target; weight 0 for nothing."""

    @property
    def contrast(self) -> Contrast:
        """How much of what the plain model says is taken from the reading, see :mod:`kgt_editor.lm.contrast`."""
        return 0.0

    @property
    def config(self) -> Any:
        """The language model's configuration."""
        return self.lm.config

    @property
    def device(self) -> torch.device:
        """Where the language model takes its input."""
        return device_of(self.lm)

    @property
    def dtype(self) -> torch.dtype:
        """The language model's number format."""
        found: torch.dtype = next(self.lm.parameters()).dtype
        return found

    @property
    def name_or_path(self) -> str:
        """The language model's name."""
        return str(self.lm.name_or_path)

    @property
    def generation_config(self) -> Any:
        """The language model's settings of ``generate``."""
        return self.lm.generation_config

    def can_generate(self) -> bool:
        """As of transformers' models."""
        return True

    def _needs_plain(self, context: Context) -> bool:
        return mixes(context.weight, self.contrast)

    def _text(self, ids: list[int]) -> str:
        return str(self.tok.decode(ids, skip_special_tokens=True))

    def _write(self, own: Sequence[list[int]], contexts: Sequence[Context], **kwargs: Any) -> Tensor:
        """What is written behind each context, shape (rows, new tokens); ``own`` are the prompts' token ids."""
        read = iter(encode(self.tok, [context.text.rstrip() for context in contexts if context.weight]))
        asked = [
            Asked(next(read) if context.weight else [], ids, context.weight)
            for context, ids in zip(contexts, own, strict=True)
        ]
        return write(self.lm, self.tok.pad_token_id or 0, asked, self.contrast, **kwargs)

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor | GenerateDecoderOnlyOutput:
        """Continue each prompt, rewritten.

        Args:
            input_ids: shape (batch, length), padded on either side; ``inputs`` is another name for it.
            attention_mask: same shape; without it every token counts but padding in a batch.
            **kwargs: passed on to the language model's ``generate``; ``max_length`` counts the ids as given.

        Returns:
            The ids as given, each row followed by its new tokens; with ``return_dict_in_generate`` as ``sequences``.

        Raises:
            UsageError: no ids, or ``max_length`` leaves no room for a new token.
            KgtError: scores, attentions or hidden states are asked for.
        """
        ids = given_ids(input_ids, kwargs)
        if refused := [name for name in _NOT_RETURNED if kwargs.pop(name, False)]:
            raise KgtError(f"{type(self).__name__}'s generate gives no {refused[0]}; use .lm for the model underneath")
        as_dict = kwargs.pop("return_dict_in_generate", False)
        self._limit(kwargs, ids.shape[1])
        mask = mask_of(ids, self.tok.pad_token_id) if attention_mask is None else attention_mask
        prompts = self._texts(ids, mask)
        contexts = self.contexts(prompts, int(kwargs.get("max_new_tokens") or 0))
        own = [
            encode(self.tok, [context.plain.rstrip()])[0] if context.plain else row[keep.bool()].tolist()
            for row, keep, context in zip(ids, mask, contexts, strict=True)
        ]
        new = self._write(own, contexts, **kwargs).to(ids.device)
        written = torch.cat([ids.repeat_interleave(len(new) // len(ids), 0), new], dim=1)
        return GenerateDecoderOnlyOutput(sequences=written) if as_dict else written  # type: ignore[arg-type]

    def _limit(self, settings: dict[str, Any], given: int) -> None:
        """Say in new tokens how long the text may become: ``max_length`` does not count what is put in front."""
        asked = settings.pop("max_length", None)
        config = settings.get("generation_config") or self.generation_config
        if settings.get("max_new_tokens") is not None or (asked is None and config.max_new_tokens is not None):
            return
        longest = config.max_length if asked is None else asked
        if longest is None:
            return
        if longest <= given:
            raise UsageError(
                f"max_length {longest} leaves nothing to write behind {given} tokens; give generate max_new_tokens"
            )
        settings["max_new_tokens"] = int(longest) - given

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> CausalLMOutputWithPast:
        """One pass over text that may hold prompt and target already joined, :meth:`prefixes` in front of it.

        Args:
            input_ids: shape (batch, length), padded on either side.
            attention_mask: same shape, or with ``past_key_values`` that of all that was read; without it every token
                counts but padding in a batch.
            labels: same shape, as in transformers; -100 is left out of the loss. The tokens that they name are one
                answer, and what is put in front is decided by the text before it; without them it is decided by all
                the text, and every token is read as an answer's first.
            **kwargs: with ``use_cache`` the output has ``past_key_values``, which a later pass goes on from: what was
                read is read again, with the same text in front, and what comes behind is one answer. ``return_dict``
                and ``token_type_ids`` are ignored.

        Returns:
            logits of shape (batch, length, vocabulary), for the caller's own positions, and the loss for ``labels``.

        Raises:
            KgtError: another keyword, labels behind ``past_key_values``, or more text than the model can read.
        """
        past, keep = kwargs.pop("past_key_values", None), kwargs.pop("use_cache", False)
        refused = sorted(set(kwargs) - _IGNORED)
        if refused:
            raise KgtError(f"{type(self).__name__}'s forward takes no {refused[0]}; use .lm for the model underneath")
        if past is not None and (labels is not None or not isinstance(past, Reread)):
            what = "labels behind past_key_values" if labels is not None else f"{type(past).__name__} of another model"
            raise KgtError(f"{type(self).__name__}'s forward takes no {what}; use .lm for the model underneath")
        mask = mask_of(input_ids, self.tok.pad_token_id) if attention_mask is None else attention_mask
        new, ids = input_ids.shape[1], input_ids
        if past is not None:
            ids = torch.cat([past.ids, ids], dim=1)
            mask = mask if mask.shape == ids.shape else torch.cat([past.mask, mask.to(past.mask)], dim=1)
        texts = self._texts(ids, mask)
        ahead = self.prefixes(self._asked(texts, ids, mask, labels)) if past is None else past.ahead
        behind, prefixes = ids.clone(), []
        for row, (context, text) in enumerate(zip(ahead, texts, strict=True)):
            prefixes.append(self._put_in_front(context.text, text, behind[row], mask[row]) if context.weight else [])
        check_length(self.lm, max(len(prefix) + int(row.sum()) for prefix, row in zip(prefixes, mask, strict=True)))
        logits = logits_behind(self.lm, self.tok, behind, mask, prefixes)
        if any(self._needs_plain(context) for context in ahead):
            plain = logits_behind(self.lm, self.tok, ids, mask, [[] for _ in prefixes])
            weights = [context.weight for context in ahead]
            answer = (ids, labels) if past is None else _being_written(ids, past.answer)
            logits = joined(logits.float(), plain.float(), *answer, weights, self.contrast)
        loss: Any = None if labels is None else next_token_loss(logits, labels, mask)
        read = Reread(ids, mask, ahead, new if past is None else past.answer) if keep else None
        return CausalLMOutputWithPast(loss=loss, logits=logits[:, -new:], past_key_values=read)  # type: ignore[arg-type]

    def _asked(self, texts: list[str], ids: Tensor, mask: Tensor, labels: Tensor | None) -> list[str]:
        """Each text up to where its labels begin; all of it where there are none, or nothing before them."""
        if labels is None:
            return texts
        prompt = mask * ((labels != -100).cumsum(1) == 0)
        return [before or text for before, text in zip(self._texts(ids, prompt), texts, strict=True)]

    def _put_in_front(self, prefix: str, text: str, ids: Tensor, mask: Tensor) -> list[int]:
        """The prefix's token ids before a row; behind a space the row's first word becomes what it is in running text.

        There a word has other ids than at the beginning of a text. A row whose ids do not come out the same but for
        that one is left as it is.
        """
        if not prefix.endswith(" "):
            return encode(self.tok, [prefix])[0]
        places = mask.nonzero()[:, 0].tolist()
        if places and int(ids[places[0]]) == self.tok.bos_token_id:
            places = places[1:]
        own = ids[places].tolist()
        (joined,) = encode(self.tok, [f"{prefix}{text.strip()}"])
        if own and len(joined) > len(own) and joined[len(joined) - len(own) + 1 :] == own[1:]:
            ids[places[0]] = joined[len(joined) - len(own)]
            return joined[: len(joined) - len(own)]
        return encode(self.tok, [prefix.rstrip()])[0]

    def _texts(self, input_ids: Tensor, mask: Tensor) -> list[str]:
        rows = [row[keep.bool()] for row, keep in zip(input_ids, mask, strict=True)]
        whole = [str(self.tok.decode(row)) for row in rows]
        # The marks of a chat are a part of it; of plain text only what the tokenizer puts around it is special.
        return [
            text if chat.last_turn(self.tok, text) else str(self.tok.decode(row, skip_special_tokens=True))
            for text, row in zip(whole, rows, strict=True)
        ]


def given_ids(input_ids: Tensor | None, settings: dict[str, Any]) -> Tensor:
    """The prompts that ``generate`` was given, under either of their names; ``inputs`` is taken out of ``settings``.

    Raises:
        UsageError: there are none.
    """
    other: Tensor | None = settings.pop("inputs", None)
    ids = other if input_ids is None else input_ids
    if ids is None:
        raise UsageError("generate needs input_ids, the prompts as token ids")
    return ids


def _being_written(ids: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Ids and labels of an answer that begins at position ``first`` and goes on behind the last one."""
    longer = torch.cat([ids, ids[:, -1:]], dim=1)  # the next token: which one it is, is not looked at
    labels = longer.clone()
    labels[:, :first] = -100
    return longer, labels

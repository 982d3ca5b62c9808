"""A language model that puts text of its own in front of what it is asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.prefix import left_pad, logits_behind, mask_of, next_token_loss
from kgt_editor.lm.scoring import TargetScore, max_positions, score_targets
from kgt_editor.lm.tokens import encode

#: Keywords of a causal LM's forward that change nothing here.
_IGNORED = {"use_cache", "return_dict", "token_type_ids"}


class PromptedLM(nn.Module):
    """A causal LM whose prompts are rewritten before it reads them: with facts, with a profile, with history.

    A caller sees a causal LM: prompts go in and come back as they are, and the text in front shows in the answers
    alone. The weights are shared with ``lm``, never copied. A subclass says what is put in front, for a prompt
    (:meth:`rewrite`) and for text in which prompt and target may be joined (:meth:`prefixes`).

    Args:
        lm: any causal LM of transformers.
        tok: its tokenizer.
    """

    lm: Any

    def __init__(self, lm: nn.Module, tok: Any) -> None:
        super().__init__()
        self.lm = lm
        self.tok = tok
        self.train(lm.training)

    @abstractmethod
    def rewrite(self, prompts: Sequence[str], new_tokens: int = 0) -> list[str]:
        """What the language model is given in place of each prompt; a prompt with nothing to add stays as it is.

        Args:
            prompts: without the answer.
            new_tokens: how many tokens are going to be written behind, at most.
        """

    @abstractmethod
    def prefixes(self, texts: Sequence[str]) -> list[str]:
        """What is put in front of each text, which may end in a target; empty for nothing."""

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

    def score_targets(
        self, prompts: Sequence[str], targets: Sequence[str], batch_size: int | None = None
    ) -> list[TargetScore]:
        """Score ``targets[i]`` as this model's answer to ``prompts[i]``.

        ``batch_size`` as in :func:`kgt_editor.lm.scoring.score_targets`.

        Raises:
            UsageError: lists of unequal length, an empty prompt or target, or a prompt that is too long.
        """
        check_pairs(prompts, targets)
        return score_targets(self.lm, self.tok, self.rewrite(prompts), targets, batch_size=batch_size)

    @torch.no_grad()
    def answer(self, prompt: str, max_new_tokens: int = 16) -> str:
        """The greedy answer: up to the end of the text or of the line, ``max_new_tokens`` at most."""
        return self._continue(self.rewrite([prompt], max_new_tokens)[0], max_new_tokens)

    def _continue(self, text: str, max_new_tokens: int) -> str:
        ids = torch.tensor(encode(self.tok, [text.rstrip()]), device=self.device)
        out = self._decode(ids, torch.ones_like(ids), max_new_tokens=max_new_tokens)
        return self._first_line(out[0, ids.shape[1] :].tolist())

    def _first_line(self, ids: list[int]) -> str:
        text: str = self.tok.decode(ids, skip_special_tokens=True)
        return text.strip().split("\n")[0]

    def _decode(self, ids: Tensor, mask: Tensor, **kwargs: Any) -> Tensor:
        kwargs = {"do_sample": False, "num_beams": 1, "pad_token_id": self.tok.pad_token_id, **kwargs}
        out: Tensor = self.lm.generate(input_ids=ids, attention_mask=mask, **kwargs)
        return out

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Continue each prompt, rewritten.

        Args:
            input_ids: shape (batch, length), padded on either side.
            attention_mask: same shape; without it every token counts but padding in a batch.
            **kwargs: passed on to the language model's ``generate``.

        Returns:
            The ids as given, each row followed by its new tokens.
        """
        mask = mask_of(input_ids, self.tok.pad_token_id) if attention_mask is None else attention_mask
        texts = self.rewrite(self._texts(input_ids, mask), int(kwargs.get("max_new_tokens") or 0))
        ids, seen = left_pad(encode(self.tok, texts), self.tok.pad_token_id or 0, self.device)
        out = self._decode(ids, seen, **kwargs)
        return torch.cat([input_ids, out[:, ids.shape[1] :].to(input_ids.device)], dim=1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> CausalLMOutput:
        """One pass over text that may hold prompt and target already joined, :meth:`prefixes` in front of it.

        Args:
            input_ids: shape (batch, length), padded on either side.
            attention_mask: same shape; without it every token counts but padding in a batch.
            labels: same shape, as in transformers; -100 is left out of the loss.
            **kwargs: ``use_cache``, ``return_dict`` and ``token_type_ids`` are ignored.

        Returns:
            logits of shape (batch, length, vocabulary), for the caller's own positions, and the loss for ``labels``.

        Raises:
            KgtError: another keyword, or more text than the model can read.
        """
        refused = sorted(set(kwargs) - _IGNORED)
        if refused:
            raise KgtError(f"{type(self).__name__}'s forward takes no {refused[0]}; use .lm for the model underneath")
        mask = mask_of(input_ids, self.tok.pad_token_id) if attention_mask is None else attention_mask
        ahead = self.prefixes(self._texts(input_ids, mask))
        encoded = iter(encode(self.tok, [text for text in ahead if text]))
        prefixes = [next(encoded) if text else [] for text in ahead]
        longest = max_positions(self.lm)
        length = max(len(prefix) + int(row.sum()) for prefix, row in zip(prefixes, mask, strict=True))
        if longest is not None and length > longest:
            raise KgtError(f"{length} tokens with what stands in front do not fit the model's context of {longest}")
        logits = logits_behind(self.lm, self.tok, input_ids, mask, prefixes)
        loss: Any = None if labels is None else next_token_loss(logits, labels, mask)
        return CausalLMOutput(loss=loss, logits=logits)

    def _texts(self, input_ids: Tensor, mask: Tensor) -> list[str]:
        rows = zip(input_ids, mask, strict=True)
        return [str(self.tok.decode(row[keep.bool()], skip_special_tokens=True)) for row, keep in rows]


def check_pairs(prompts: Sequence[str], targets: Sequence[str]) -> None:
    """Refuses lists of unequal length and empty texts.

    Raises:
        UsageError: names what is wrong.
    """
    if len(prompts) != len(targets):
        raise UsageError(f"{len(prompts)} prompts but {len(targets)} targets")
    for prompt, target in zip(prompts, targets, strict=True):
        if not prompt.strip() or not target.strip():
            raise UsageError(f"cannot score {target!r} as the answer to {prompt!r}: both need text")

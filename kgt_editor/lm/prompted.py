"""A language model that puts text of its own in front of what it is asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import StoppingCriteriaList
from transformers.modeling_outputs import CausalLMOutput

from kgt_editor.errors import KgtError, UsageError
from kgt_editor.lm import chat
from kgt_editor.lm.contrast import Context, Contrast, Mixed, joined, mixes, score_both, score_mixed
from kgt_editor.lm.layers import device_of
from kgt_editor.lm.length import check_length
from kgt_editor.lm.passes import in_passes
from kgt_editor.lm.prefix import logits_behind, mask_of, next_token_loss
from kgt_editor.lm.scoring import TargetScore, score_targets
from kgt_editor.lm.stopping import BehindFirstLine, first_line
from kgt_editor.lm.tokens import continuation_ids_batch, encode
from kgt_editor.lm.writing import Asked, write

#: Keywords of a causal LM's forward that change nothing here.
_IGNORED = {"use_cache", "return_dict", "token_type_ids"}
_ANSWERS_AT_ONCE = 16
#: Is given an answer piece by piece.
Show = Callable[[str], None] | None


class PromptedLM(nn.Module):
    """A causal LM whose prompts are rewritten before it reads them: with facts, with a profile, with history.

    A caller sees a causal LM: prompts go in and come back as they are, and the text in front shows in the answers
    alone. The weights are shared with ``lm``, never copied. A subclass says what is put in front, for a prompt
    (:meth:`contexts`) and for text in which prompt and target may be joined (:meth:`prefixes`).

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

    def score_targets(
        self, prompts: Sequence[str], targets: Sequence[str], batch_size: int | None = None
    ) -> list[TargetScore]:
        """Score ``targets[i]`` as this model's answer to ``prompts[i]``.

        ``batch_size`` as in :func:`kgt_editor.lm.scoring.score_targets`.

        Raises:
            UsageError: lists of unequal length, an empty prompt or target, or a prompt that is too long.
        """
        check_pairs(prompts, targets)
        return self.score_contexts(prompts, self.contexts(prompts), targets, batch_size)

    def score_contexts(
        self, prompts: Sequence[str], contexts: Sequence[Context], targets: Sequence[str], batch_size: int | None = None
    ) -> list[TargetScore]:
        """Score ``targets[i]`` behind ``contexts[i]``, which stands in place of ``prompts[i]``.

        Raises:
            As :meth:`score_targets`.
        """
        mixed = [index for index, context in enumerate(contexts) if self._needs_plain(context)]
        # Plain prompts are put together as without any edit, so that their scores are the same to the last bit.
        plainly = [index for index, context in enumerate(contexts) if not context.weight]
        single = [index for index, context in enumerate(contexts) if context.weight and not self._needs_plain(context)]
        scores: dict[int, TargetScore] = {}
        for group in (plainly, single):
            texts, answers = [contexts[i].text for i in group], [targets[i] for i in group]
            found = score_targets(self.lm, self.tok, texts, answers, batch_size=batch_size)
            scores.update(zip(group, found, strict=True))
        asked = self._mixed([(prompts[i], contexts[i], targets[i]) for i in mixed])
        scores.update(zip(mixed, score_mixed(self.lm, asked, self.contrast), strict=True))
        return [scores[index] for index in range(len(contexts))]

    def score_beside(
        self, prompts: Sequence[str], contexts: Sequence[Context], targets: Sequence[str]
    ) -> list[tuple[TargetScore, TargetScore]]:
        """As :meth:`score_contexts`; beside each score that of the plain model's answer to the prompt.

        Where a context needs the plain model anyway, both come from one forward pass; the plain score may differ in
        the last bits from what the plain model gives when it is asked alone.

        Raises:
            As :meth:`score_targets`.
        """
        if all(self._needs_plain(context) and not context.plain for context in contexts):
            return score_both(self.lm, self._mixed(list(zip(prompts, contexts, targets, strict=True))), self.contrast)
        read = self.score_contexts(prompts, contexts, targets)
        return list(zip(read, score_targets(self.lm, self.tok, prompts, targets), strict=True))

    def _mixed(self, asked: Sequence[tuple[str, Context, str]]) -> list[Mixed]:
        """Prompts, what stands in place of each, and targets, as token ids."""
        pairs = continuation_ids_batch(
            self.tok, [context.text for _, context, _ in asked], [target for *_, target in asked]
        )
        plain = encode(self.tok, [(context.plain or prompt).rstrip() for prompt, context, _ in asked])
        return [
            Mixed(ids, bare, target, context.weight)
            for (_, context, _), (ids, target), bare in zip(asked, pairs, plain, strict=True)
        ]

    def _needs_plain(self, context: Context) -> bool:
        return mixes(context.weight, self.contrast)

    def answer(self, prompt: str, max_new_tokens: int = 16, show: Show = None) -> str:
        """The greedy answer: up to the end of the text or of the line, ``max_new_tokens`` at most.

        ``show`` is given it piece by piece, as it is written.
        """
        return self.answer_many([prompt], max_new_tokens, show)[0]

    @torch.no_grad()
    def answer_many(self, prompts: Sequence[str], max_new_tokens: int = 16, show: Show = None) -> list[str]:
        """:meth:`answer` of many prompts, some of them a forward pass; ``show`` is for one prompt alone."""
        return self.answer_contexts(prompts, self.contexts(prompts, max_new_tokens), max_new_tokens, show)

    @torch.no_grad()
    def answer_contexts(
        self, prompts: Sequence[str], contexts: Sequence[Context], max_new_tokens: int = 16, show: Show = None
    ) -> list[str]:
        """:meth:`answer_many` behind ``contexts[i]``, which stands in place of ``prompts[i]``."""
        answers: dict[int, str] = {}
        # Prompts of one kind and of about one length together: what is answered plainly costs one pass, not two.
        order = sorted(range(len(prompts)), key=lambda i: (self._needs_plain(contexts[i]), len(contexts[i].text)))

        def run(start: int, end: int) -> None:
            part = order[start:end]
            own = encode(self.tok, [(contexts[i].plain or prompts[i]).rstrip() for i in part])
            stop = StoppingCriteriaList([BehindFirstLine(self._text, show)])
            new = self._write(own, [contexts[i] for i in part], max_new_tokens=max_new_tokens, stopping_criteria=stop)
            answers.update((i, first_line(self._text(ids))) for i, ids in zip(part, new.tolist(), strict=True))

        in_passes(len(order), lambda start: _ANSWERS_AT_ONCE, run)
        return [answers[index] for index in range(len(prompts))]

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
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Continue each prompt, rewritten.

        Args:
            input_ids: shape (batch, length), padded on either side.
            attention_mask: same shape; without it every token counts but padding in a batch.
            **kwargs: passed on to the language model's ``generate``; ``max_length`` counts the ids as given.

        Returns:
            The ids as given, each row followed by its new tokens.

        Raises:
            UsageError: ``max_length`` leaves no room for a new token.
        """
        if (longest := kwargs.pop("max_length", None)) is not None and kwargs.get("max_new_tokens") is None:
            kwargs["max_new_tokens"] = int(longest) - input_ids.shape[1]
            if kwargs["max_new_tokens"] < 1:
                raise UsageError(f"max_length {longest} leaves nothing to write behind {input_ids.shape[1]} tokens")
        mask = mask_of(input_ids, self.tok.pad_token_id) if attention_mask is None else attention_mask
        prompts = self._texts(input_ids, mask)
        contexts = self.contexts(prompts, int(kwargs.get("max_new_tokens") or 0))
        own = [
            encode(self.tok, [context.plain.rstrip()])[0] if context.plain else row[keep.bool()].tolist()
            for row, keep, context in zip(input_ids, mask, contexts, strict=True)
        ]
        new = self._write(own, contexts, **kwargs).to(input_ids.device)
        return torch.cat([input_ids.repeat_interleave(len(new) // len(input_ids), 0), new], dim=1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> CausalLMOutput:
        """One pass over text that may hold prompt and target already joined, :meth:`prefixes` in front of it.

        Args:
            input_ids: shape (batch, length), padded on either side.
            attention_mask: same shape; without it every token counts but padding in a batch.
            labels: same shape, as in transformers; -100 is left out of the loss. The tokens that they name are one
                answer; without them every token is read as an answer's first.
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
        texts = self._texts(input_ids, mask)
        ahead = self.prefixes(texts)
        behind, prefixes = input_ids.clone(), []
        for row, (context, text) in enumerate(zip(ahead, texts, strict=True)):
            prefixes.append(self._put_in_front(context.text, text, behind[row], mask[row]) if context.weight else [])
        check_length(self.lm, max(len(prefix) + int(row.sum()) for prefix, row in zip(prefixes, mask, strict=True)))
        logits = logits_behind(self.lm, self.tok, behind, mask, prefixes)
        if any(self._needs_plain(context) for context in ahead):
            plain = logits_behind(self.lm, self.tok, input_ids, mask, [[] for _ in prefixes])
            weights = [context.weight for context in ahead]
            logits = joined(logits.float(), plain.float(), input_ids, labels, weights, self.contrast)
        loss: Any = None if labels is None else next_token_loss(logits, labels, mask)
        return CausalLMOutput(loss=loss, logits=logits)

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

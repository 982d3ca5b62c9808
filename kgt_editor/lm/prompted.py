"""A language model that puts text of its own in front of what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import StoppingCriteriaList

from kgt_editor.errors import UsageError
from kgt_editor.lm.causal import RewrittenLM
from kgt_editor.lm.contrast import Context, Mixed, score_both, score_mixed
from kgt_editor.lm.passes import in_passes
from kgt_editor.lm.scoring import TargetScore, score_targets
from kgt_editor.lm.stopping import BehindFirstLine, first_line
from kgt_editor.lm.tokens import continuation_ids_batch, encode

_ANSWERS_AT_ONCE = 16
#: Is given an answer piece by piece.
Show = Callable[[str], None] | None


class PromptedLM(RewrittenLM):
    """A causal LM whose prompts are rewritten before it reads them: with facts, with a profile, with history.

    The weights are shared with ``lm``, never copied. A subclass says what is put in front, for a prompt
    (:meth:`contexts`) and for text in which prompt and target may be joined (:meth:`prefixes`).

    Args:
        lm: any causal LM of transformers.
        tok: its tokenizer.
    """

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

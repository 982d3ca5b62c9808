"""Questions taken apart, one remembered fact a step (MeLLo, Zhong et al. 2023, arXiv 2305.14795, section 5).

The model writes a question for the next step and guesses its answer; the fact whose prompt BM25 finds closest to that
question is put behind the guess, and the model answers the step, by the fact where it contradicts the guess, else by
the guess. So on, until it writes the final answer. What differs from MeLLo: the examples are our own
(``steps.txt``), BM25 takes the place of a dense retriever, and the model judges the contradiction without a line of its
own about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from torch import nn

from kgt_editor.editors.icl.hparams import ICLHParams
from kgt_editor.editors.icl.model import InContextLM
from kgt_editor.editors.memory import Feedback
from kgt_editor.errors import KgtError
from kgt_editor.lm import chat
from kgt_editor.lm.contrast import Context, Contrast
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.passes import in_passes
from kgt_editor.lm.tokens import encode

_STEP, _FACT, _ANSWER, _FINAL = "Step:", "Fact:", "Answer:", "Final answer:"
_AT_ONCE = 16  # questions taken apart together


class StepwiseLM(InContextLM):
    """A causal language model that looks facts up while it thinks. Without any it answers as it is."""

    def __init__(self, lm: nn.Module, tok: Any, hparams: ICLHParams, memory: Sequence[Feedback] = ()) -> None:
        super().__init__(lm, tok, hparams, memory)
        # What was written about each question with these facts: the evaluation asks every question twice.
        self._thoughts: dict[str, str] = {}
        self._known: tuple[Feedback, ...] = ()

    @property
    def contrast(self) -> Contrast:
        """None: the final answer stands behind the model's own words, not in place of the prompt."""
        return 0.0

    def contexts(self, prompts: Sequence[str], new_tokens: int = 0) -> list[Context]:
        """All that the model wrote about each question, the final answer expected behind it.

        Raises:
            KgtError: the examples and the steps do not fit the model's context.
        """
        if not len(self.memory):
            return [Context(prompt, 0.0) for prompt in prompts]
        if self._known != self.memory.feedback:
            self._thoughts, self._known = {}, self.memory.feedback
        open_ = sorted({prompt for prompt in prompts if prompt not in self._thoughts}, key=lambda one: (len(one), one))

        def run(start: int, end: int) -> None:
            self._thoughts.update(zip(open_[start:end], self._think(open_[start:end]), strict=True))

        in_passes(len(open_), lambda start: _AT_ONCE, run)
        return [Context(self._thoughts[prompt], 1.0) for prompt in prompts]

    def _think(self, prompts: Sequence[str]) -> list[str]:
        texts = [f"{_examples()}Question: {self._question(prompt)}\n{_STEP}" for prompt in prompts]
        open_ = list(range(len(texts)))
        for step in range(self.hparams.steps + 1):
            for index, written in zip(open_, self._continued([texts[i] for i in open_]), strict=True):
                texts[index] += written if step < self.hparams.steps else _closed(written)
            open_ = [index for index in open_ if not texts[index].endswith(_FINAL)]
            if not open_:
                break
            for index in open_:
                texts[index] += f" {self._fact(texts[index])}\n{_ANSWER}"
        return texts

    def _question(self, prompt: str) -> str:
        turn = chat.last_turn(self.tok, prompt)
        return " ".join((prompt if turn is None else turn.content).split())

    def _continued(self, texts: Sequence[str]) -> list[str]:
        """What the model writes, up to and with the next place for a fact, or the final answer's."""
        ids = encode(self.tok, list(texts))
        longest = max_positions(self.lm)
        if longest is not None and max(map(len, ids)) + self.hparams.step_tokens + self.hparams.answer_tokens > longest:
            raise KgtError(
                f"the steps of a question take more than the model's {longest} tokens; lower steps or step_tokens"
            )
        new = self._write(
            ids,
            [Context(text, 0.0) for text in texts],
            max_new_tokens=self.hparams.step_tokens,
            stop_strings=[_FACT, _FINAL],
            tokenizer=self.tok,
        )
        return [_up_to_mark(self.tok.decode(row, skip_special_tokens=True)) for row in new.tolist()]

    def _fact(self, text: str) -> str:
        """The fact that is closest to the last step's question."""
        step = text.rsplit(_STEP, 1)[1].strip().splitlines()
        closest = self.memory.closest(step[0], 1) if step else []
        return self.hparams.fact_mark.format(fact=closest[-1].fact) if closest else "nothing."

    def prefixes(self, texts: Sequence[str]) -> list[Context]:
        """Not to be had: a question that a target may be joined to cannot be taken apart.

        Raises:
            KgtError: always, where something is remembered.
        """
        if not len(self.memory):
            return [Context("", 0.0) for _ in texts]
        raise KgtError("forward takes no question apart; use answer or score_targets, or set retrieval to bm25")


def _examples() -> str:
    return files("kgt_editor.editors.icl").joinpath("steps.txt").read_text(encoding="utf-8")


def _up_to_mark(text: str) -> str:
    """The text up to the first mark, the mark included; with one behind it where the model wrote none."""
    places = [(text.index(mark), mark) for mark in (_FACT, _FINAL) if mark in text]
    if not places:
        lines = text.rstrip().splitlines() or [""]
        return "\n".join([*lines[:2], _FACT])
    place, mark = min(places)
    return text[:place] + mark


def _closed(text: str) -> str:
    """The answer to the last step that is taken, and the place for the final one."""
    (first, *_) = [*text.strip().splitlines(), ""]
    return f" {first}\n{_FINAL}" if not text.endswith(_FINAL) else text

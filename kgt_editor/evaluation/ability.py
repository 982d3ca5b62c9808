"""What a model can do in general, before and after edits: tasks by option likelihood, and perplexity of a text."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kgt_editor.data.ability import Task
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.scorer import Scorer
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.tokens import encode

_FEWEST_WORDS = 8  # of a passage: half of them are given, the others are read


@dataclass(frozen=True)
class Ability:
    """A model's answers to the questions of a task.

    Attributes:
        chosen: place of the likeliest option of each question; None where no option is likelier than all others, or
            their probabilities are no numbers.
        answers: places of the right options.
        log_probs: of every option, question by question.
    """

    chosen: tuple[int | None, ...]
    answers: tuple[int, ...]
    log_probs: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Share of questions answered rightly; one that is not decided is not."""
        return sum(one == right for one, right in zip(self.chosen, self.answers, strict=True)) / len(self.answers)

    @property
    def undecided(self) -> int:
        """How many questions are not decided."""
        return sum(one is None for one in self.chosen)

    def kept(self, before: Ability) -> float:
        """Share of questions with the same answer, right or wrong, as ``before``."""
        return sum(a == b for a, b in zip(self.chosen, before.chosen, strict=True)) / len(self.chosen)

    @property
    def digest(self) -> str:
        """A hash of every bit of ``log_probs``: equal where a model gives the very same numbers."""
        return hashlib.sha256(struct.pack(f"{len(self.log_probs)}d", *self.log_probs)).hexdigest()[:16]

    def as_dict(self, before: Ability | None = None) -> dict[str, Any]:
        """For a results file."""
        found = {
            "asked": len(self.answers),
            "accuracy": round(self.accuracy, 4),
            "undecided": self.undecided,
            "scores": self.digest,
        }
        return found if before is None else {**found, "kept": round(self.kept(before), 4)}


def fitting(model: Any, tok: Any, task: Task) -> Task:
    """The task without the questions that are longer than the model can read, examples and options included."""
    longest = max_positions(model)
    if longest is None:
        return task
    texts = encode(tok, [task.prompt(one) for one in task.questions])
    options = encode(tok, [" " + option for one in task.questions for option in one.options])
    room = longest - max(map(len, options))
    return replace(
        task, questions=tuple(one for one, ids in zip(task.questions, texts, strict=True) if len(ids) <= room)
    )


def answer(score: Scorer, task: Task) -> Ability:
    """Ask a model a task; of each question the option with the highest log probability in all is its answer."""
    asked = [(task.prompt(one), option) for one in task.questions for option in one.options]
    found = [one.log_prob for one in score([prompt for prompt, _ in asked], [option for _, option in asked])]
    chosen, rest = [], iter(found)
    for one in task.questions:
        chosen.append(_likeliest([next(rest) for _ in one.options]))
    return Ability(tuple(chosen), tuple(one.answer for one in task.questions), tuple(found))


def _likeliest(log_probs: Sequence[float]) -> int | None:
    if not all(map(math.isfinite, log_probs)):
        return None
    best = max(log_probs)
    return log_probs.index(best) if log_probs.count(best) == 1 else None


def perplexity(score: Scorer, passages: Sequence[str]) -> float:
    """exp of the mean negative log-likelihood (nats a token) of the second half of each passage, behind its first.

    Passages of fewer than eight words are left out.

    Raises:
        UsageError: none is left.
    """
    long = [words for words in map(str.split, passages) if len(words) >= _FEWEST_WORDS]
    if not long:
        raise UsageError(f"no passage of the text has {_FEWEST_WORDS} words")
    halves = [(" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])) for words in long]
    scores = score([first for first, _ in halves], [second for _, second in halves])
    return math.exp(-sum(one.log_prob for one in scores) / sum(one.tokens for one in scores))

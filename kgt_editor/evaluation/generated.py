"""What a model writes by itself after an edit, with nothing of the answer given to it (WILD, Yang et al. 2025).

Probabilities and teacher-forced accuracy put the answer in front of the model; people read what it writes. So the edit
prompt and its paraphrases are continued greedily, and the first sentence of the text is held against the new answer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kgt_editor.data.record import Record
from kgt_editor.evaluation.answers import can_say, first_sentence, say

MAX_NEW_TOKENS = 16

_ARTICLES = frozenset(("a", "an", "the"))


def normalise(text: str) -> str:
    """Words in lower case without accents, punctuation and articles, as reading comprehension compares answers.

    Source: the evaluation of SQuAD (Rajpurkar et al. 2016), and accents.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    words = "".join(c if c.isalnum() else " " for c in plain).split()
    return " ".join(word for word in words if word not in _ARTICLES) or " ".join(words)


@dataclass(frozen=True)
class Written:
    """The greedy continuation of a prompt, and the answer that it should be.

    Attributes:
        text: up to the end of the line; None where the model gives no text.
    """

    text: str | None
    answer: str

    @property
    def exact(self) -> bool:
        """Whether the first sentence is the answer and nothing else."""
        return self.text is not None and normalise(first_sentence(self.text, self.answer)) == normalise(self.answer)

    @property
    def contains(self) -> bool:
        """Whether the answer stands in the first sentence, as whole words."""
        found = f" {normalise(first_sentence(self.text or '', self.answer))} "
        return self.text is not None and f" {normalise(self.answer)} " in found


@dataclass(frozen=True)
class Generated:
    """What a model wrote to the prompts of a record: to the edit prompt, None where nothing was asked."""

    edit: Written | None = None
    paraphrases: tuple[Written, ...] = ()


def generate(model: Any, tok: Any, records: Sequence[Record]) -> list[Generated]:
    """Let an edited model continue the edit prompts and the paraphrases of ``records``; nothing where it gives no text.

    Args:
        model: after the edits.
        tok: its tokenizer.
        records: the cases.
    """
    if not can_say(model):
        return [Generated() for _ in records]
    prompts = [text for record in records for text in (record.query, *record.paraphrase_prompts)]
    said = iter(say(model, tok, prompts, MAX_NEW_TOKENS))
    found = []
    for record in records:
        edit, *others = (Written(next(said), record.target_new) for _ in range(1 + len(record.paraphrase_prompts)))
        found.append(Generated(edit, tuple(others)))
    return found

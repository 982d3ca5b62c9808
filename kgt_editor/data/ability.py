"""Questions that say what a model can do in general, from GLUE (Wang et al. 2019) and MMLU (Hendrycks et al. 2021).

Papers on editing in sequences ask them before and after, in the files of AlphaEdit's repository (Fang et al. 2025). A
question has options, of which the likeliest counts as the model's answer; the wordings around them are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgt_editor.data import fields
from kgt_editor.data.base import seeded_key
from kgt_editor.data.reading import read_rows
from kgt_editor.errors import UsageError

_LETTERS = ("A", "B", "C", "D")
_ENTAILED = {"entailment": 0, "not_entailment": 1}


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        prompt: what an option follows.
        options: the possible answers.
        answer: place of the right one.
    """

    prompt: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class Task:
    """Questions of one sort.

    Attributes:
        name: one of :data:`TASKS`.
        examples: questions that stand, answered, in front of every other one.
        questions: those that are asked.
    """

    name: str
    examples: tuple[Question, ...]
    questions: tuple[Question, ...]

    def prompt(self, question: Question) -> str:
        """A question behind the examples."""
        shown = [f"{one.prompt} {one.options[one.answer]}" for one in self.examples]
        return "\n\n".join([*shown, question.prompt])


def read_task(name: str, path: str | Path, limit: int, shots: int, seed: int = 0) -> Task:
    """Read a task, JSON lines or a list; examples and questions are drawn in an order that ``seed`` gives.

    Args:
        name: one of :data:`TASKS`.
        path: its file.
        limit: questions that are asked, at most.
        shots: examples.
        seed: of the order.

    Raises:
        UsageError: an unknown task, a file that cannot be read, a broken question, or none left to ask.
    """
    if name not in TASKS:
        raise UsageError(f"unknown task '{name}'; known: {', '.join(TASKS)}")
    read = TASKS[name]
    listed = [read(fields.an_object(row, where), where) for where, row in read_rows(path)]
    drawn = sorted(listed, key=lambda one: seeded_key(seed, one.prompt))
    if len(drawn) <= shots:
        raise UsageError(f"{path}: holds {len(drawn)} questions, of which {shots} are examples: none is left to ask")
    return Task(name, tuple(drawn[:shots]), tuple(drawn[shots : shots + limit]))


def _labelled(row: Mapping[str, Any], where: str, name: str, count: int) -> int:
    label = fields.number(row, name, where, None)
    if label is None or not 0 <= label < count:
        raise UsageError(f"{where}: field '{name}' must be 0 to {count - 1}")
    return label


def _cola(row: Mapping[str, Any], where: str) -> Question:
    prompt = f"Sentence: {fields.text(row, 'sentence', where)}\nIs the sentence good English, yes or no? Answer:"
    return Question(prompt, ("no", "yes"), _labelled(row, where, "label", 2))


def _mrpc(row: Mapping[str, Any], where: str) -> Question:
    first, second = (fields.text(row, name, where) for name in ("sentence1", "sentence2"))
    prompt = f"First: {first}\nSecond: {second}\nDo both say the same, yes or no? Answer:"
    return Question(prompt, ("no", "yes"), _labelled(row, where, "label", 2))


def _follows(row: Mapping[str, Any], where: str, answer: int) -> Question:
    first, second = (fields.text(row, name, where) for name in ("sentence1", "sentence2"))
    return Question(f"{first}\nDoes it follow that: {second} Yes or no? Answer:", ("yes", "no"), answer)


def _rte(row: Mapping[str, Any], where: str) -> Question:
    return _follows(row, where, _labelled(row, where, "label", 2))


def _nli(row: Mapping[str, Any], where: str) -> Question:
    label = fields.text(row, "label", where)
    if label not in _ENTAILED:
        raise UsageError(f"{where}: field 'label' must be one of {', '.join(_ENTAILED)}")
    return _follows(row, where, _ENTAILED[label])


def _sst2(row: Mapping[str, Any], where: str) -> Question:
    prompt = f"Review: {fields.text(row, 'sentence', where)}\nIs the review positive or negative? Answer:"
    return Question(prompt, ("negative", "positive"), _labelled(row, where, "label", 2))


def _mmlu(row: Mapping[str, Any], where: str) -> Question:
    choices = row.get("choices")
    if (
        not isinstance(choices, list)
        or len(choices) != len(_LETTERS)
        or not all(map(fields.is_text, map(str, choices)))
    ):
        raise UsageError(f"{where}: field 'choices' is not a list of {len(_LETTERS)} texts")
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices, strict=True))
    prompt = f"Question: {fields.text(row, 'question', where)}\n{listed}\nAnswer:"
    return Question(prompt, _LETTERS, _labelled(row, where, "answer", len(_LETTERS)))


#: Name -> how a line of its file becomes a question.
TASKS: dict[str, Callable[[Mapping[str, Any], str], Question]] = {
    "cola": _cola,
    "mrpc": _mrpc,
    "rte": _rte,
    "sst2": _sst2,
    "nli": _nli,
    "mmlu": _mmlu,
}

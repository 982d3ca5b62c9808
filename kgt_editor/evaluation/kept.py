"""What edits must leave alone, judged by words: the greedy answer after them against the one before any edit.

Two answers are compared as text, and both come from the same prompts asked together, in the same order: what is
computed together rounds alike, so that a model that nothing has changed gives the same answers to the letter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from kgt_editor.data.record import Record
from kgt_editor.evaluation.answers import MAX_NEW_TOKENS, can_say, first_sentence, say
from kgt_editor.evaluation.edited import Edited
from kgt_editor.progress import Advance
from kgt_editor.results import lines

CASES_TOGETHER = 32  # cases whose prompts are asked together
_GROUPS_A_FILE = 16

#: Prompts that are asked together.
Group = tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """A prompt that no edit is to change, with the greedy answers before any edit and now.

    Attributes:
        now: None where the edited model could not answer it.
    """

    prompt: str
    before: str
    now: str | None

    @property
    def kept(self) -> bool:
        """Whether the answer is the same up to the end of its first sentence.

        A model that reads a fact may end right behind the answer, where it alone would begin another sentence.
        """
        return self.now is not None and first_sentence(self.before) == first_sentence(self.now)

    @property
    def silent(self) -> bool:
        """Whether the model said nothing before any edit, as instructed models do to a bare question."""
        return not self.before

    def as_dict(self) -> dict[str, str | None]:
        """Raw texts for a line of JSON."""
        return {"prompt": self.prompt, "before": self.before, "now": self.now}


@dataclass(frozen=True)
class Untouched:
    """A record's prompts that no edit is to change: questions on its subject, and those on others."""

    same_subject: tuple[Answered, ...] = ()
    neighbourhood: tuple[Answered, ...] = ()

    def silence(self) -> dict[str, int]:
        """How many prompts were ``asked``, and to how many of them the model was ``silent`` before any edit."""
        answers = (*self.same_subject, *self.neighbourhood)
        return {"asked": len(answers), "silent": sum(one.silent for one in answers)}


def groups(records: Sequence[Record], edited: Edited) -> Iterator[Group]:
    """The prompts of ``records`` that ``edited`` leaves alone, as they are asked together, each once a group."""
    for start in range(0, len(records), CASES_TOGETHER):
        together = records[start : start + CASES_TOGETHER]
        asked = dict.fromkeys(
            chain.from_iterable(chain(edited.same_subject(one), edited.neighbourhood(one)) for one in together)
        )
        if asked:
            yield tuple(asked)


@dataclass
class BaseAnswers:
    """What the model says without any edit.

    Attributes:
        folder: keeps the answers for other cells of a run and for a process that comes later; None keeps them here.
        weights: tells the model from any other; what another one said is not taken for this one's.
    """

    folder: Path | None = None
    weights: str = ""
    _said: dict[Group, list[str | None]] = field(default_factory=dict)

    def ask(self, model: Any, tok: Any, wanted: Sequence[Group], advance: Advance) -> None:
        """Ask the model for what is not known yet.

        Args:
            model: without any edit.
            tok: its tokenizer.
            wanted: from :func:`groups`.
            advance: progress, ``(stage, done, total)``.

        Raises:
            DiskError: the folder cannot be written.
        """
        new = [group for group in dict.fromkeys(wanted) if group not in self._said] if can_say(model) else []
        for start in range(0, len(new), _GROUPS_A_FILE):
            some = new[start : start + _GROUPS_A_FILE]
            answers = self._read(some)
            if answers is None:
                answers = [say(model, tok, group) for group in some]
                self._write(some, answers)
            self._said |= dict(zip(some, answers, strict=True))
            advance("answers without edits", start + len(some), len(new))

    def of(self, group: Group) -> list[str | None]:
        """The answers to a group that was asked; None each where the model gives no text."""
        return self._said[group] if self._said else [None] * len(group)

    def _read(self, some: Sequence[Group]) -> list[list[str | None]] | None:
        if self.folder is None:
            return None
        try:
            content = json.loads(self._file(some).read_text(encoding="utf-8"))
            answers: list[list[str | None]] = content["answers"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return answers if [len(one) for one in answers] == [len(group) for group in some] else None

    def _write(self, some: Sequence[Group], answers: list[list[str | None]]) -> None:
        if self.folder is not None:
            with lines.writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            lines.replace(self._file(some), {"answers": answers})

    def _file(self, some: Sequence[Group]) -> Path:
        assert self.folder is not None
        key = json.dumps([self.weights, MAX_NEW_TOKENS, some], ensure_ascii=False)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def untouched(model: Any, tok: Any, records: Sequence[Record], edited: Edited, before: BaseAnswers) -> list[Untouched]:
    """Ask an edited model what it should answer as it did before; nothing where either model gives no text.

    Args:
        model: after the edits.
        tok: its tokenizer.
        records: the cases.
        edited: the edits in force.
        before: was asked for the :func:`groups` of just these records.
    """
    found: list[Untouched] = []
    for start in range(0, len(records), CASES_TOGETHER):
        together = records[start : start + CASES_TOGETHER]
        answered: dict[str, Answered] = {}
        for group in groups(together, edited):
            old = before.of(group)
            if can_say(model) and any(answer is not None for answer in old):
                for prompt, was, now in zip(group, old, say(model, tok, group), strict=True):
                    if was is not None:
                        answered[prompt] = Answered(prompt, was, now)
        for record in together:
            same, around = edited.same_subject(record), edited.neighbourhood(record)
            listed = (tuple(answered[prompt] for prompt in prompts if prompt in answered) for prompts in (same, around))
            found.append(Untouched(*listed))
    return found

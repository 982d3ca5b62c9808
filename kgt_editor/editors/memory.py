"""What a user has told, in order, and what of it bears on a query, by BM25.

BM25+ (Lv and Zhai 2011) is used: the inverse document frequency of Okapi's BM25 is zero or negative for a word that
half of the documents have, and a memory may hold two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rank_bm25 import BM25Plus

#: The file that keeps a user's feedback.
MEMORY = "history.json"

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Feedback:
    """One piece of feedback.

    Attributes:
        prompt: the query, subject filled in.
        subject: its head entity; empty where the request named none.
        target: the user's answer.
        fact: the two as a language model is to read them.
    """

    prompt: str
    subject: str
    target: str
    fact: str


class Memory:
    """Feedback of one user, the newest last; a new answer to a prompt takes the place of the old one."""

    def __init__(self, feedback: Sequence[Feedback] = ()) -> None:
        self._feedback: tuple[Feedback, ...] = ()
        self._index: BM25Plus | None = None
        self._words: list[list[str]] = []
        self.add(feedback)

    def __len__(self) -> int:
        return len(self._feedback)

    @property
    def feedback(self) -> tuple[Feedback, ...]:
        """Everything that is in force, the oldest first."""
        return self._feedback

    @feedback.setter
    def feedback(self, feedback: Sequence[Feedback]) -> None:
        self._feedback = tuple(feedback)
        self._index = None

    def add(self, feedback: Sequence[Feedback]) -> None:
        """Appends feedback; earlier answers to the same prompts are dropped."""
        latest = {item.prompt.casefold(): item for item in self._feedback}
        for item in feedback:
            latest.pop(item.prompt.casefold(), None)
            latest[item.prompt.casefold()] = item
        self.feedback = tuple(latest.values())

    def closest(self, text: str, k: int, joined: bool = False) -> list[Feedback]:
        """The ``k`` pieces of feedback whose prompts BM25 finds closest to ``text``, the newest last.

        Only prompts are indexed, so an answer in ``text`` cannot call up the feedback that holds it; feedback that
        shares no word with ``text`` is left out, and of equal scores the newer counts more.

        Args:
            text: a query.
            k: how many, at most.
            joined: ``text`` may end in a target of unknown length. Its last words, as many as the longest answer in
                memory has, are not looked at then: the target says nothing about what to retrieve.
        """
        words = _words(text)
        if joined and self._feedback:
            words = words[: -max(len(_words(item.target)) or 1 for item in self._feedback)]
        if not words or not self._feedback:
            return []
        if self._index is None:
            # A prompt without a word still needs a length to divide by.
            self._words = [_words(item.prompt) or [""] for item in self._feedback]
            self._index = BM25Plus(self._words)
        scores = self._index.get_scores(words)
        asked = set(words)
        sharing = [number for number, known in enumerate(self._words) if not asked.isdisjoint(known)]
        best = sorted(sharing, key=lambda number: (scores[number], number))[-k:] if k else []
        return [self._feedback[number] for number in sorted(best)]


def write_feedback(path: Path, feedback: Sequence[Feedback]) -> None:
    """Feedback as a JSON file, which nobody but its owner can read."""
    path.touch(mode=0o600)
    path.write_text(json.dumps([asdict(item) for item in feedback], ensure_ascii=False, indent=1), encoding="utf-8")


def read_feedback(path: Path) -> list[Feedback]:
    """What :func:`write_told` wrote.

    Raises:
        OSError, ValueError, TypeError: there is no such file, or it is another one.
    """
    return [Feedback(**item) for item in json.loads(path.read_text(encoding="utf-8"))]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())

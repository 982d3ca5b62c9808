"""Which of an entity's many triples fit a question, by the words they share with it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kgt_editor.graph.names import loosen, split_words
from kgt_editor.graph.triple import Triple

#: Heaviest triples of the base graph that are ranked for one entity; ConceptNet's hubs have thousands.
BASE_TRIPLES = 512
#: Entities whose rankings are kept, those asked about last.
_KEPT = 16

#: A triple, whether it is the user's own, its place among those (of equal ones the greater comes first), its query.
Ranked = tuple[Triple, bool, tuple[int, int], str]


@dataclass(frozen=True, slots=True)
class _Entry:
    triple: Triple
    own: bool
    order: tuple[int, int]
    query: str
    words: frozenset[str]


class Ranking:
    """The triples of one entity, to be ordered by how well they fit a question.

    A triple that comes or goes costs its own words; a question costs the triples that share words with it.

    Args:
        head: the entity; its words, which all its triples share, count for nothing.
        ranked: its triples.
    """

    def __init__(self, head: str, ranked: Iterable[Ranked] = ()) -> None:
        self._head = _words(head)
        self._entries: dict[int, _Entry] = {}
        self._numbers: dict[Triple, int] = {}
        self._having: dict[str, set[int]] = {}
        self._next = 0
        for each in ranked:
            self.put(*each)

    def put(self, triple: Triple, own: bool, order: tuple[int, int], query: str) -> None:
        """Enter a triple, or anew with other details."""
        self.discard(triple)
        words = (_words(query) | _words(triple.relation) | _words(triple.tail)) - self._head
        self._entries[self._next] = _Entry(triple, own, order, _plain(query), words)
        self._numbers[triple] = self._next
        for word in words:
            self._having.setdefault(word, set()).add(self._next)
        self._next += 1

    def discard(self, triple: Triple) -> None:
        """Take a triple out; an unknown one changes nothing."""
        number = self._numbers.pop(triple, None)
        if number is None:
            return
        for word in self._entries.pop(number).words:
            self._having[word].discard(number)
            if not self._having[word]:
                del self._having[word]

    def best(self, question: str, limit: int) -> list[Triple]:
        """The ``limit`` triples that fit best, the best first.

        The user's own come before the base graph's. Among either, those that answered the very question (case and
        space aside) come first, then those that share words with it, a rare word counting more than a frequent one
        (inverse document frequency over the entity's triples), then the greatest ``order``.
        """
        shared = dict.fromkeys(self._entries, 0.0)
        for word in _words(question) - self._head:
            having = self._having.get(word, ())
            if 0 < len(having) < len(self._entries):  # what all share tells none apart
                worth = math.log(len(self._entries) / len(having))
                for number in having:
                    shared[number] += worth
        plain = _plain(question)
        fit = (
            (entry.own, bool(plain) and entry.query == plain, shared[number], entry.order, number)
            for number, entry in reversed(self._entries.items())  # the newest first: fewer take another's place
        )
        return [self._entries[best[-1]].triple for best in heapq.nlargest(limit, fit)]


class Rankings:
    """The rankings of the entities that were asked about last."""

    def __init__(self) -> None:
        self._kept: dict[str, Ranking] = {}

    def of(self, head: str, ranked: Callable[[], Iterable[Ranked]]) -> Ranking:
        """The ranking of ``head``, made from ``ranked()`` where it is not kept."""
        ranking = self._kept.pop(head, None) or Ranking(head, ranked())
        self._kept[head] = ranking
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        return ranking

    def settle(self, triple: Triple, place: tuple[int, int], adds: bool, query: str) -> None:
        """Bring the ranking of the triple's head, if it is kept, in line with the user's change."""
        ranking = self._kept.get(triple.head)
        if ranking is not None and adds:
            ranking.put(triple, True, place, query)
        elif ranking is not None:
            ranking.discard(triple)

    def drop(self, head: str) -> None:
        """Keep the ranking of ``head`` no longer."""
        self._kept.pop(head, None)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word, _ in loosen(split_words(text)) if word.isalnum())

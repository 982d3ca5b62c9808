"""Finding the entity a text is about.

The paper assumes e_q labelled. A caller that hands over plain text (evaluation, a chat) does not label it, so the
longest known heads are looked up in a hash table of word n-grams. Adding or dropping a head costs one table entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Mention:
    """A known head in a text.

    Attributes:
        head: the head as the graph spells it.
        start, end: characters of the text it covers.
        words: how many words and marks it has.
        exact: whether case agrees.
        at_end: whether nothing but space follows.
    """

    head: str
    start: int
    end: int
    words: int
    exact: bool
    at_end: bool


class HeadIndex:
    """A set of heads that can be looked up by the words they consist of."""

    def __init__(self, heads: Iterable[str] = ()) -> None:
        self._exact: dict[str, str] = {}
        self._folded: dict[str, dict[str, None]] = {}
        self._lengths: dict[int, int] = {}
        self.longest = 0
        for head in heads:
            self.add(head)

    def add(self, head: str) -> None:
        """Add a head; one that is there already changes nothing."""
        words = _WORD.findall(head)
        key = " ".join(words)
        if not words or key in self._exact:
            return
        self._exact[key] = head
        self._folded.setdefault(key.casefold(), {})[head] = None
        self._lengths[len(words)] = self._lengths.get(len(words), 0) + 1
        self.longest = max(self.longest, len(words))

    def discard(self, head: str) -> None:
        """Drop a head; an unknown one changes nothing."""
        words = _WORD.findall(head)
        key = " ".join(words)
        if self._exact.get(key) != head:
            return
        del self._exact[key]
        same = self._folded[key.casefold()]
        del same[head]
        if not same:
            del self._folded[key.casefold()]
        self._lengths[len(words)] -= 1
        if not self._lengths[len(words)]:
            del self._lengths[len(words)]
            self.longest = max(self._lengths, default=0)

    def exact(self, key: str) -> str | None:
        """The head whose words, joined by single spaces, are ``key``."""
        return self._exact.get(key)

    def folded(self, key: str) -> str | None:
        """A head whose case-folded words are ``key``, the first one added where several are."""
        return next(iter(self._folded.get(key, ())), None)

    def copy(self) -> HeadIndex:
        """An independent copy."""
        twin = HeadIndex()
        twin._exact = dict(self._exact)
        twin._folded = {key: dict(heads) for key, heads in self._folded.items()}
        twin._lengths = dict(self._lengths)
        twin.longest = self.longest
        return twin


def mentions(text: str, *indexes: HeadIndex) -> list[Mention]:
    """The known heads in ``text`` from left to right: at every word the longest one that begins there.

    Matches begin and end at word boundaries and do not overlap. Exact case wins over folded case, then the earlier
    index over the later.
    """
    found = list(_WORD.finditer(text))
    words = [match[0] for match in found]
    longest = max((index.longest for index in indexes), default=0)
    spotted = []
    position = 0
    while position < len(words):
        for count in range(min(longest, len(words) - position), 0, -1):
            key = " ".join(words[position : position + count])
            head = _first(index.exact(key) for index in indexes)
            exact = head is not None
            if head is None:
                head = _first(index.folded(key.casefold()) for index in indexes)
            if head is not None:
                last = position + count
                start, end = found[position].start(), found[last - 1].end()
                spotted.append(Mention(head, start, end, count, exact, last == len(words)))
                position = last - 1
                break
        position += 1
    return spotted


def link(text: str, personal: HeadIndex, base: HeadIndex, joined: bool = False) -> str | None:
    """The head that ``text`` is most likely about; None where no known one is mentioned.

    Preferred are, in this order: a mention that does not stand at the very end (where a target may have been
    joined to the prompt), the user's own entities, exact case, more words, more characters, the earlier one.

    Args:
        text: a prompt.
        personal: heads of the user's own triples.
        base: heads of the base graph.
        joined: the text ends in a target, so a mention at its end says nothing about the query and is left out.
    """
    spotted = [mention for mention in mentions(text, personal, base) if not (joined and mention.at_end)]
    if not spotted:
        return None
    best = max(spotted, key=lambda mention: _preference(mention, personal))
    return best.head


def _preference(mention: Mention, personal: HeadIndex) -> tuple[bool, bool, bool, int, int, int]:
    own = personal.exact(" ".join(_WORD.findall(mention.head))) is not None
    return (not mention.at_end, own, mention.exact, mention.words, mention.end - mention.start, -mention.start)


def _first(heads: Iterable[str | None]) -> str | None:
    return next((head for head in heads if head is not None), None)

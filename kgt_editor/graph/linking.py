"""Finding the entity a text is about.

The paper assumes e_q labelled. A caller that hands over plain text (evaluation, a chat) does not label it, so the
longest known names are looked up among the text's word n-grams: in a hash table for what is held in memory, in an
index of the file for a stored base graph. Adding or dropping a name costs one entry; nothing is ever rebuilt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: Longer names, in words and marks, are not looked for. They are clauses ("go to the shop and buy ..."), not entities.
MAX_WORDS = 12

_WORD = re.compile(r"\w+|[^\w\s]")

#: How a name is spelled, as words joined by single spaces, and the head it leads to.
Name = tuple[str, str]


class Names(Protocol):
    """Names of heads, to be looked up by their words."""

    def find(self, words: Sequence[str]) -> Mapping[tuple[int, int], Sequence[Name]]:
        """The names in a text.

        Args:
            words: the text's words and marks, case folded.

        Returns:
            for each (first word, number of words) that is a name, the names whose case-folded words these are.
        """

    def has_name(self, name: str, head: str) -> bool:
        """Whether ``name`` leads to ``head``."""


@dataclass(frozen=True, slots=True)
class Match:
    """A known head in a text.

    Attributes:
        head: the head as the graph spells it.
        start, end: characters of the text (composed, Unicode's NFC) that it covers.
        exact: whether case agrees.
        own: whether it is one of the user's own entities.
        alias: whether the text has another name of the head, not the head itself.
        at_end: whether nothing but space follows.
        score: the higher, the likelier it is what the text is about; comparable within one text.
    """

    head: str
    start: int
    end: int
    exact: bool
    own: bool
    alias: bool
    at_end: bool
    score: float


def split_words(text: str) -> list[str]:
    """The words and marks of a text, as names are compared by them."""
    return _WORD.findall(unicodedata.normalize("NFC", text))


class HeadIndex:
    """Names of heads, held in memory."""

    def __init__(self, heads: Iterable[str] = ()) -> None:
        self._names: dict[str, tuple[Name, ...]] = {}
        self._longest = 0
        for head in heads:
            self.add(head)

    def add(self, head: str, name: str | None = None) -> None:
        """Let ``name``, the head itself unless given, lead to ``head``; doing it twice changes nothing."""
        words = split_words(head if name is None else name)
        if not 0 < len(words) <= MAX_WORDS:
            return
        spelled = " ".join(words)
        key = spelled.casefold()
        known = self._names.get(key, ())
        if (spelled, head) not in known:
            self._names[key] = (*known, (spelled, head))
            self._longest = max(self._longest, len(words))

    def discard(self, head: str, name: str | None = None) -> None:
        """Let ``name`` lead to ``head`` no longer; an unknown one changes nothing."""
        spelled = " ".join(split_words(head if name is None else name))
        key = spelled.casefold()
        left = tuple(known for known in self._names.get(key, ()) if known != (spelled, head))
        if left:
            self._names[key] = left
        else:
            self._names.pop(key, None)

    def has_name(self, name: str, head: str) -> bool:
        """Whether ``name`` leads to ``head``."""
        spelled = " ".join(split_words(name))
        return (spelled, head) in self._names.get(spelled.casefold(), ())

    def find(self, words: Sequence[str]) -> Mapping[tuple[int, int], Sequence[Name]]:
        """See :meth:`Names.find`."""
        found = {}
        names = self._names
        for first, word in enumerate(words):
            key = word
            for count in range(1, min(self._longest, len(words) - first) + 1):
                if count > 1:
                    key = f"{key} {words[first + count - 1]}"
                known = names.get(key)
                if known:
                    found[first, count] = known
        return found


def matches(text: str, personal: Names, base: Names, joined: bool = False) -> list[Match]:
    """The known heads in ``text``, the likeliest first.

    At every word the longest name that begins there counts; matches begin and end at word boundaries and overlap
    only where one stretch of text names several heads ("Apple" and "apple", or an alias of two). Where heads are
    spelled in several cases, those that agree exactly keep the others out.

    The score counts 8 for standing inside the text (at the very end a target may have been joined to the prompt),
    4 for the user's own entities, 2 for exact case, 1 for the head itself rather than an alias, and a fraction of 1
    for the share of the text's words, and then characters, that it covers.

    Args:
        text: a prompt.
        personal: names of the user's own heads.
        base: names of the base graph's heads.
        joined: the text ends in a target, so a match at its end says nothing about the query and is left out.
    """
    text = unicodedata.normalize("NFC", text)
    found = list(_WORD.finditer(text))
    words = [match[0] for match in found]
    folded = [word.casefold() for word in words]
    own_names, base_names = personal.find(folded), base.find(folded)
    longest: dict[int, int] = {}
    for first, count in (*own_names, *base_names):
        longest[first] = max(count, longest.get(first, 0))
    spotted = []
    position = 0
    while position < len(words):
        count = longest.get(position, 0)
        if not count:
            position += 1
            continue
        last = position + count
        spelled = " ".join(words[position:last])
        named = (*own_names.get((position, count), ()), *base_names.get((position, count), ()))
        if any(name == spelled for name, _ in named):
            named = tuple(pair for pair in named if pair[0] == spelled)
        start, end, at_end = found[position].start(), found[last - 1].end(), last == len(words)
        for head in dict.fromkeys(head for _, head in named):
            exact = (spelled, head) in named
            own = personal.has_name(head, head)
            alias = head != spelled and " ".join(split_words(head)).casefold() != spelled.casefold()
            share = (count + (end - start) / len(text)) / (len(words) + 1)
            score = 8 * (not at_end) + 4 * own + 2 * exact + (not alias) + share
            if not (joined and at_end):
                spotted.append(Match(head, start, end, exact, own, alias, at_end, score))
        position = last
    # Of equal scores the earlier match comes first: sorting is stable.
    return sorted(spotted, key=lambda match: -match.score)


def link(text: str, personal: Names, base: Names, joined: bool = False) -> str | None:
    """The head that ``text`` is most likely about, see :func:`matches`; None where no known one is mentioned."""
    spotted = matches(text, personal, base, joined)
    return spotted[0].head if spotted else None

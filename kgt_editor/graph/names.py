"""How names of entities are spelled, what other spellings lead to them, and the index that holds them.

A name is looked up by its case-folded words. Three looser spellings are found too, and rank below:

- marks: accents left out ("Beyonce" and "Beyoncé"), hyphens as spaces ("Jean-Pierre" and "Jean Pierre"), either
  apostrophe;
- number: the last word of a common noun in the plural, and for the user's own names in the singular too ("my dogs"
  and "my dog"). A capitalised word never changes its number, so "Paris" leads to no "Pari".

Looser spellings lead only to names that exist. Adding or dropping a name costs one entry, or two where it has marks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

#: Longer names, in words and marks, are not looked for. They are clauses ("go to the shop and buy ..."), not entities.
MAX_WORDS = 12

# Signs that belong to the letter before them: vowels of Devanagari and Burmese, points of Hebrew, joiners.
_COMBINING = "".join(
    chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")
)
_IN_WORDS = rf"[\w{_COMBINING}\u200c\u200d]"
#: A word or a mark of a text.
WORD = re.compile(rf"{_IN_WORDS}+|[^\w\s]")

_HYPHENS = frozenset("-\u2010\u2011\u2012\u2013")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\u2032"), "'")
_ACCENT = re.compile("[\u0300-\u036f]")  # of Latin, Greek and Cyrillic; in other scripts marks are letters

#: How a name is spelled, as words joined by single spaces, and the head it leads to.
Name = tuple[str, str]


class Names(Protocol):
    """Names of heads, to be looked up by their words."""

    def find(
        self, words: Sequence[str], endings: Sequence[Sequence[str]] = ()
    ) -> Mapping[tuple[int, int], Sequence[Name]]:
        """The names in a text.

        Args:
            words: the text's words and marks, case folded; loosened too, for names that are spelled with other marks.
            endings: for each word what may stand in its place at the end of a name; empty: nothing may.

        Returns:
            for each (first word, number of words) that is a name, the names whose words these are.
        """

    def has_name(self, name: str, head: str) -> bool:
        """Whether ``name`` leads to ``head``."""


def split_words(text: str) -> list[str]:
    """The words and marks of a text, as names are compared by them."""
    return WORD.findall(unicodedata.normalize("NFC", text))


def has_marks(text: str) -> bool:
    """Whether loosening can change more than the case of a text's words."""
    return "-" in text or not text.isascii()


def loosen(words: Sequence[str]) -> list[tuple[str, int]]:
    """Words without accents and without the hyphens between them, case folded, each with its place in ``words``."""
    loose = []
    for place, word in enumerate(words):
        if word in _HYPHENS and 0 < place < len(words) - 1:
            continue
        plain = word
        if not word.isascii():
            bare = _ACCENT.sub("", unicodedata.normalize("NFD", word))
            plain = unicodedata.normalize("NFC", bare).translate(_APOSTROPHES) or word
        loose.append((plain.casefold(), place))
    return loose


def keys_of(words: Sequence[str]) -> tuple[str, ...]:
    """What a name is looked up by: its words, case folded, and where that differs, loosened."""
    key = " ".join(words).casefold()
    if not has_marks(key):
        return (key,)
    loose = " ".join(word for word, _ in loosen(words))
    return (key,) if loose in ("", key) else (key, loose)


def singulars(word: str) -> tuple[str, ...]:
    """What the singular of an English noun may be, where it looks like a plural.

    By the regular rules only, and not all that is given need be a word: it is looked up among names that exist.
    """
    if len(word) < 4 or word[-1] != "s" or word.endswith(("ss", "us", "is")) or not word.isalpha():
        return ()
    if word.endswith("ies"):
        return word[:-1], f"{word[:-3]}y"
    if word.endswith("ves"):
        return word[:-1], f"{word[:-3]}f", f"{word[:-3]}fe"
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        return word[:-1], word[:-2]
    return (word[:-1],)


def plurals(word: str) -> tuple[str, ...]:
    """What the plural of an English noun may be, where it does not look like one; as :func:`singulars`."""
    if len(word) < 3 or not word.isalpha() or (word[-1] == "s" and not word.endswith(("ss", "us", "is"))):
        return ()
    if word[-1] == "y" and word[-2] not in "aeiou":
        return (f"{word[:-1]}ies",)
    if word.endswith(("s", "x", "z", "ch", "sh", "o")):
        return f"{word}es", f"{word}s"
    half = word.removesuffix("e")
    return (f"{word}s", f"{half[:-1]}ves") if half[-1] == "f" else (f"{word}s",)


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
        pair = (" ".join(words), head)
        for key in keys_of(words):
            known = self._names.get(key, ())
            if pair not in known:
                self._names[key] = (*known, pair)
        self._longest = max(self._longest, len(words))

    def discard(self, head: str, name: str | None = None) -> None:
        """Let ``name`` lead to ``head`` no longer; an unknown one changes nothing."""
        words = split_words(head if name is None else name)
        pair = (" ".join(words), head)
        for key in keys_of(words):
            left = tuple(known for known in self._names.get(key, ()) if known != pair)
            if left:
                self._names[key] = left
            else:
                self._names.pop(key, None)

    def has_name(self, name: str, head: str) -> bool:
        """Whether ``name`` leads to ``head``."""
        spelled = " ".join(split_words(name))
        return (spelled, head) in self._names.get(spelled.casefold(), ())

    def find(
        self, words: Sequence[str], endings: Sequence[Sequence[str]] = ()
    ) -> Mapping[tuple[int, int], Sequence[Name]]:
        """See :meth:`Names.find`."""
        found: dict[tuple[int, int], Sequence[Name]] = {}
        names = self._names
        for first in range(len(words)):
            opening = ""
            for count in range(1, min(self._longest, len(words) - first) + 1):
                last = first + count - 1
                known = names.get(opening + words[last], ())
                for ending in endings[last] if endings else ():
                    known += names.get(opening + ending, ())
                if known:
                    found[first, count] = known
                opening = f"{opening}{words[last]} "
        return found

"""Finding the entity a text is about.

The paper assumes e_q labelled. A caller that hands over plain text (evaluation, a chat) does not label it, so the
longest known names are looked up among the text's words: in a hash table for what is held in memory, in an index of
the file for a stored base graph. How names are spelled and loosened is in :mod:`kgt_editor.graph.names`.

A base graph such as ConceptNet knows thousands of common words ("language", "native speaker") that stand in questions
about something else. So its names count only where these rules leave them:

1. Function words ("in", "what") on their own never lead to the base graph.
2. Where the text has capitalised names and one of them is unknown, no common word counts: a question about Michel
   Rocard is not about a "native speaker", nor about a "michel". A base name that covers a capitalised one whole counts
   where all are known, or where it is capitalised itself; it ranks above common words.
3. A common word that the question asks for ("which language", "the capital of") and a verb ("you can find", "tell me")
   rank below the others; of equals the first one counts.

The user's own names are free of these rules; only one that is a function word has to have a capital ("The Who"), and to
be spelled as in the text.

The first person ("I", "my") leads to what the user said about themself, where the user's graph has such a head
(``words.SELF_HEADS``) and no other name of theirs is there: "my dog" leads to their "my dog" first. A sentence that
begins with somebody's name ("Rex is my dog") is not about the user.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kgt_editor.graph.names import Name, Names, has_marks, loosen, plurals, singulars, split_words
from kgt_editor.graph.sentences import Text
from kgt_editor.graph.words import FIRST_PERSON, SELF_HEADS, function_words

#: How well a name fits the text: as it is spelled, case aside, accents and marks aside, by the other number.
_SPELLED, _CASE, _MARKS, _NUMBER = 3, 2, 1, 0
#: Any name of the user's ranks above the user themself, who ranks above any name of the base graph.
_OWN, _SELF, _CAPITALISED, _FRAME = 16, 12, 6, -4

#: First word, and the word behind the last one.
Stretch = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Match:
    """A known head in a text.

    Attributes:
        head: the head as the graph spells it.
        start, end: characters of the text (composed, Unicode's NFC) that it covers.
        exact: whether it is spelled as in the text, case included.
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

    def of(self, text: str) -> str:
        """What it covers of the text."""
        return unicodedata.normalize("NFC", text)[self.start : self.end]


@dataclass(frozen=True, slots=True)
class _Spotted:
    """The heads that one stretch of a text leads to, with the closest spelling that does."""

    stretch: Stretch
    closeness: int
    heads: Mapping[str, str]  # head -> name

    def covers(self, other: Stretch) -> bool:
        return self.stretch[0] <= other[0] and other[1] <= self.stretch[1]


def matches(text: str, personal: Names, base: Names, joined: bool = False) -> list[Match]:
    """The known heads that ``text`` may be about, the likeliest first.

    At every word the longest name that begins there counts; matches begin and end at word boundaries and overlap
    only where one stretch of text names several heads ("Apple" and "apple", or an alias of two). Of several
    spellings of one stretch only the closest count. The user's own names take their words first; a longer
    capitalised name of the base graph around one ("Paris Hilton" around "Paris") takes them back.

    The score counts 16 for the user's own entities and 0 to 3 for how close their spelling is (and a quarter for the
    very case), or 12 for the user themself; in the base graph 6 for a capitalised name and -4 for a word of the
    question's frame; and for all a half for the head itself rather than an alias, and a fraction of 1 for the share of
    the text's words, and then characters, that it covers. Of equal scores the earlier match counts.

    Args:
        text: a prompt.
        personal: names of the user's own heads.
        base: names of the base graph's heads.
        joined: the text ends in a target, so a match at its end says nothing about the query and is left out.
    """
    read = Text(text, joined)
    own_names, base_names = _find(read, personal, own=True), _find(read, base, own=False)
    for stretch, names in base_names.items():  # an alias in the base graph may lead to a head of the user's
        own_names[stretch] = [*own_names.get(stretch, ()), *(n for n in names if personal.has_name(n[1], n[1]))]
    own = list(_spot(read, own_names, base_names, own=True))
    common = list(_spot(read, base_names, own_names, own=False))
    at = _by_word(read, own)
    longer = [b for b in common if read.is_name(b.stretch) and _holds(b, at)]
    taken = _by_word(read, longer)
    own = [o for o in own if not any(taken[slice(*o.stretch)])]
    at = _by_word(read, own)
    common = [b for b in common if not any(at[slice(*b.stretch)])]
    found = [
        *(match for o in own for match in _as_matches(read, o, _OWN, own=True)),
        *_themself(read, personal, at),
        *(match for b, worth in _about(read, at, common) for match in _as_matches(read, b, worth, own=False)),
    ]
    # Sorting is stable.
    found.sort(key=lambda match: match.start)
    return sorted((m for m in found if not (joined and m.at_end)), key=lambda match: -match.score)


def link(text: str, personal: Names, base: Names, joined: bool = False) -> str | None:
    """The head that ``text`` is most likely about, see :func:`matches`; None where no known one is mentioned."""
    spotted = matches(text, personal, base, joined)
    return spotted[0].head if spotted else None


def head_for(subject: str, personal: Names, base: Names) -> str:
    """The head under which facts about ``subject`` belong.

    It is the subject itself where there is such a head; for the first person ("me") the one under which the user spoke
    of themself before ("I"); else the head that the whole subject is another spelling or name of; else the subject.
    """
    if personal.has_name(subject, subject) or base.has_name(subject, subject):
        return subject
    if subject.strip().casefold() in SELF_HEADS:
        return self_head(personal) or subject
    whole = [match.head for match in matches(subject, personal, base) if match.at_end and match.start == 0]
    return whole[0] if whole else subject


def self_head(personal: Names) -> str | None:
    """The head under which the user's graph holds what they said about themself, see ``words.SELF_HEADS``."""
    for name in SELF_HEADS:
        words = name.split(" ")
        for spelled, head in personal.find(words).get((0, len(words)), ()):
            if spelled == head:
                return head
    return None


def _find(read: Text, names: Names, own: bool) -> dict[Stretch, list[Name]]:
    """The names in a text by their stretches, loosened spellings among them.

    Only among the user's own is a singular looked for in the plural too: a base graph's names are singular.
    """
    places = range(len(read.words))
    readings = [list(zip(read.folded, places, strict=True))]
    if has_marks(read.text):
        loose = loosen(read.words)
        readings += [loose] if loose != readings[0] else []
    found: dict[Stretch, list[Name]] = {}
    for reading in readings:
        endings = [
            singulars(word) or (plurals(word) if own else ()) if read.countable[place] else ()
            for word, place in reading
        ]
        for (first, count), named in names.find([word for word, _ in reading], endings).items():
            stretch = reading[first][1], reading[first + count - 1][1] + 1
            found[stretch] = [*found.get(stretch, ()), *named]
    return found


def _spot(
    read: Text, names: Mapping[Stretch, Sequence[Name]], others: Mapping[Stretch, Sequence[Name]], own: bool
) -> Iterator[_Spotted]:
    """At every word the longest name that begins there, unless ``others`` have a closer spelling of the stretch."""
    longest: dict[int, _Spotted] = {}
    for stretch, named in names.items():
        heads: dict[str, tuple[int, str]] = {}
        for name, head in named:
            close = _closeness(read, stretch, name, own)
            if close is not None and close >= heads.get(head, (-1, ""))[0]:
                heads[head] = close, name
        if not heads:
            continue
        best = max(close for close, _ in heads.values())
        kept = {head: name for head, (close, name) in heads.items() if close == best}
        kept = {head: name for head, name in kept.items() if name == read.spelled(stretch)} or kept
        known = longest.get(stretch[0])
        closer = any((_closeness(read, stretch, name, not own) or 0) > best for name, _ in others.get(stretch, ()))
        if not closer and (known is None or stretch[1] > known.stretch[1]):
            longest[stretch[0]] = _Spotted(stretch, best, kept)
    position = 0
    for first in sorted(longest):
        if first >= position:
            yield longest[first]
            position = longest[first].stretch[1]


def _closeness(read: Text, stretch: Stretch, name: str, own: bool) -> int | None:
    """How close a name's spelling is to the text's; None where the name does not count there."""
    spelled = read.spelled(stretch)
    common = name == name.lower() or name.casefold() in FIRST_PERSON  # "the"; "The Who" is not
    if read.is_function(stretch) and (common or not own or name != spelled):
        return None
    if not own and name in function_words():  # without its accent: "Ås"
        return None
    if name in (spelled, read.uncapitalised(stretch)):
        return _SPELLED
    if name.casefold() == spelled.casefold():
        return _CASE if read.cased else _SPELLED
    words = name.split(" ")
    if [word for word, _ in loosen(words)] == [word for word, _ in loosen(read.words[slice(*stretch)])]:
        return _MARKS
    return _NUMBER if words[-1].islower() else None


def _by_word(read: Text, spotted: Iterable[_Spotted]) -> list[_Spotted | None]:
    """For each word what covers it."""
    at: list[_Spotted | None] = [None] * len(read.words)
    for each in spotted:
        first, last = each.stretch
        at[first:last] = [each] * (last - first)
    return at


def _holds(spotted: _Spotted, own: Sequence[_Spotted | None]) -> bool:
    """Whether some of the user's names stand in a longer one, all of them whole."""
    inside = [o for o in own[slice(*spotted.stretch)] if o is not None]
    return bool(inside) and all(spotted.covers(o.stretch) and spotted.stretch != o.stretch for o in inside)


def _about(read: Text, own: Sequence[_Spotted | None], common: Sequence[_Spotted]) -> Iterator[tuple[_Spotted, float]]:
    """The base graph's names that the text may be about, see the rules above, with what each is worth."""
    runs = [run for run in read.names if not any(own[slice(*run)])]
    at = _by_word(read, common)
    names, unknown = set(), False
    for run in runs:
        inside = [b for b in at[slice(*run)] if b is not None]
        known = {b.stretch for b in inside if b.covers(run) or _is_full_name(read, b, run)}
        unknown = unknown or not known
        names |= known
    for b in common:
        if unknown and not (b.stretch in names and _is_spelled(read, b)):
            continue
        if b.stretch in names and not read.opens_only(runs):
            yield b, _CAPITALISED
        else:
            yield b, _FRAME if read.is_frame(b.stretch, inflected=b.closeness == _NUMBER) else 0


def _is_full_name(read: Text, spotted: _Spotted, run: Stretch) -> bool:
    """Whether a name inside a longer capitalised one stands for it: "Ada Brun" in "Doctor Ada Brun" does.

    One word does only behind a sentence's first word: "Velmora" in "Development of Velmora", not in "West Velmora".
    """
    first, last = spotted.stretch
    inside = run[0] <= first and last <= run[1] and _is_spelled(read, spotted)
    return inside and (last - first > 1 or (last == run[1] and read.opens(run, first)))


def _is_spelled(read: Text, spotted: _Spotted) -> bool:
    """Whether one of the names is spelled as in the text, case included."""
    return read.spelled(spotted.stretch) in spotted.heads.values()


def _themself(read: Text, personal: Names, own: Sequence[_Spotted | None]) -> Iterable[Match]:
    """The user themself, where the text speaks of them in the first person outside the user's other names."""
    for place, word in enumerate(read.folded):
        stretch = place, place + 1
        if word in FIRST_PERSON and read.is_speaker(place) and own[place] is None:
            head = self_head(personal)
            if head is None:
                return []
            start, end = read.characters(stretch)
            exact = head == read.words[place]
            return [Match(head, start, end, exact, True, head.casefold() != word, read.at_end(stretch), _SELF)]
    return []


def _as_matches(read: Text, spotted: _Spotted, worth: float, own: bool) -> Iterator[Match]:
    start, end = read.characters(spotted.stretch)
    spelled = read.spelled(spotted.stretch)
    count = spotted.stretch[1] - spotted.stretch[0]
    share = (count + (end - start) / len(read.text)) / (len(read.words) + 1)
    for head, name in spotted.heads.items():
        alias = " ".join(split_words(head)) != name
        exact = name == spelled
        score = worth + (spotted.closeness + 0.25 * exact if own else 0) + 0.5 * (not alias) + share
        yield Match(head, start, end, exact, own, alias, read.at_end(spotted.stretch), score)


def stands_alone(text: str, match: Match) -> bool:
    """Whether a match is no part of a longer name: "Toyota" in "Toyota Vitz is", "York" in "In New York" are."""
    text = unicodedata.normalize("NFC", text)
    behind = re.match(r"[\s-]+(\w)", text[match.end :])
    before = re.search(r"(\w)\w*[\s-]+$", text[: match.start])
    longer = bool(behind and (behind[1].isupper() or behind[1].isdigit()))
    return not longer and not (before and before.start() > 0 and before[1].isupper())

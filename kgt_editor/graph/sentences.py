"""A text as the linker reads it: its words, where sentences begin, which words are capitalised names."""

from __future__ import annotations

import unicodedata

from kgt_editor.graph import words
from kgt_editor.graph.names import WORD

_SENTENCE_ENDS = frozenset(".!?:;\u2026")
_MARKS_INSIDE_NAMES = frozenset(".-'\u2019&/+")
_ABBREVIATION = 3  # letters at most of a capitalised word whose full stop ends no sentence: "St.", "Mrs."

Stretch = tuple[int, int]


class Text:
    """A text's words with what their case tells.

    Args:
        text: any text.
        joined: it ends in a target, so a name at its end is no name of the query's.

    Attributes:
        text: composed (Unicode's NFC).
        words, folded: the words and marks, as they stand and case folded.
        cased: whether the writer uses both cases; if not, case tells nothing.
        names: stretches of capitalised words; function words at the beginning of a sentence are not among them.
        countable: for each word whether it may be a common noun; not function words and capitalised ones, but for a
            sentence's first word that a plural verb follows.
    """

    def __init__(self, text: str, joined: bool = False) -> None:
        self.text = unicodedata.normalize("NFC", text)
        found = list(WORD.finditer(self.text))
        self._spans = [match.span() for match in found]
        self.words = [match[0] for match in found]
        self.folded = [word.casefold() for word in self.words]
        self.cased = any(word.islower() for word in self.words) and self.text.lower() != self.text
        self._capital = [self.cased and any(map(str.isupper, word)) for word in self.words]  # "iPad" too
        known = words.function_words()
        # Written in capitals it is an abbreviation: "US", "IT".
        self._function = [
            _is_mark(word) or (folded in known and not (self.cased and len(word) > 1 and word.isupper()))
            for word, folded in zip(self.words, self.folded, strict=True)
        ]
        self._sentence = self._sentences()
        self.names = self._name_runs()
        self._run_at: list[Stretch | None] = [None] * len(self.words)
        for run in self.names:
            self._run_at[slice(*run)] = [run] * (run[1] - run[0])
        if joined:
            self.names = [run for run in self.names if run[1] < len(self.words)]
        self.countable = [not (self._function[place] or self._is_proper(place)) for place in range(len(self.words))]

    def spelled(self, stretch: Stretch) -> str:
        """The words of a stretch as a name is spelled."""
        return " ".join(self.words[slice(*stretch)])

    def uncapitalised(self, stretch: Stretch) -> str:
        """:meth:`spelled` without a capital that is there only because a sentence begins."""
        spelled = self.spelled(stretch)
        return spelled[0].lower() + spelled[1:] if self._begins_sentence(stretch[0]) else spelled

    def characters(self, stretch: Stretch) -> tuple[int, int]:
        """Where a stretch begins and ends in ``text``."""
        return self._spans[stretch[0]][0], self._spans[stretch[1] - 1][1]

    def at_end(self, stretch: Stretch) -> bool:
        """Whether nothing but space follows."""
        return stretch[1] == len(self.words)

    def is_function(self, stretch: Stretch) -> bool:
        """Whether a stretch has function words and marks only."""
        return all(self._function[slice(*stretch)])

    def is_name(self, stretch: Stretch) -> bool:
        """Whether a stretch begins with a capital and all its words but function words have one."""
        places = range(*stretch)
        return self._capital[stretch[0]] and all(self._capital[place] or self._function[place] for place in places)

    def is_speaker(self, place: int) -> bool:
        """Whether a word of the first person speaks of the user.

        It does not in a name or abbreviation ("the wife of Napoleon I", "I.R.S."), nor in a sentence that begins with a
        name ("Rex is my dog").
        """
        end = self._spans[place][1]
        if self._run_at[place] or (self.text[end : end + 1] == "." and self.text[end + 1 : end + 2].isalnum()):
            return False
        first = self._sentence[place]
        subject = self._run_at[first + 1 if self.folded[first] in words.ARTICLES and first < place else first]
        return subject is None or subject[1] == place

    def opens(self, run: Stretch, behind: int) -> bool:
        """Whether the part of a capitalised name before ``behind`` is but one word that begins a sentence."""
        return self._begins_sentence(run[0]) and not any(self._capital[run[0] + 1 : behind]) and behind > run[0]

    def opens_only(self, names: list[Stretch]) -> bool:
        """Whether the names are but one word that begins a sentence: it may be a name, or any word."""
        return len(names) == 1 and names[0][1] - names[0][0] == 1 and self._begins_sentence(names[0][0])

    def is_frame(self, stretch: Stretch, inflected: bool) -> bool:
        """Whether a stretch belongs to how a question is put: the noun that it asks for, or a verb.

        Args:
            stretch: words with a meaning of their own.
            inflected: they lead to a name without their ending -s, so behind a noun they are a verb ("it helps").
        """
        before = stretch[0] - 1
        if inflected and before >= 0 and (not self._function[before] or self._word(before) in words.BEFORE_INFLECTED):
            return True
        if self._word(stretch[1]) in words.AFTER_THE_ASKED or self._word(before) in words.BEFORE_THE_ASKED:
            return True
        while self._word(before) in words.MODALS:
            before -= 1
        return self._word(before) in words.BEFORE_VERBS or self._is_order(stretch[0])

    def _word(self, place: int) -> str:
        return self.folded[place] if 0 <= place < len(self.folded) else ""

    def _is_order(self, place: int) -> bool:
        return self._begins_sentence(place) and self._word(place + 1) in words.AFTER_ORDERS

    def _is_proper(self, place: int) -> bool:
        """Whether a capitalised word may be a name."""
        return self._capital[place] and not (
            self._begins_sentence(place)
            and self._word(place + 1) in words.AFTER_PLURALS
            and self.words[place][1:].islower()
        )

    def _begins_sentence(self, place: int) -> bool:
        return self._sentence[place] == place

    def _sentences(self) -> list[int]:
        """For each word the first word of its sentence; marks before that belong to the sentence before."""
        begun: list[int] = []
        fresh, first = True, 0
        for place, word in enumerate(self.words):
            if not _is_mark(word):
                first, fresh = (place if fresh else first), False
            elif word in _SENTENCE_ENDS:
                before = self.words[place - 1] if place else ""
                fresh = not (word == "." and before[:1].isupper() and len(before) <= _ABBREVIATION)
            begun.append(first)
        return begun

    def _name_runs(self) -> list[Stretch]:
        runs = []
        place = 0
        while place < len(self.words):
            title = self.folded[place] in words.ARTICLES and not self._begins_sentence(
                place
            )  # "the plot of The Tourist"
            if not self._capital[place] or (self._function[place] and not title) or self._is_order(place):
                place += 1
                continue
            first = place
            place += 1
            while (step := self._goes_on(first, place)) is not None:
                place = step
            runs.append((first, place))
        return runs

    def _goes_on(self, first: int, place: int) -> int | None:
        """The word behind the next one of a name that goes from ``first`` to ``place``; None where it ends there."""
        behind = place
        while behind < len(self.words) and (
            self.folded[behind] in words.INSIDE_NAMES
            if not _is_mark(self.words[behind])
            else self.words[behind] in _MARKS_INSIDE_NAMES and behind == place
        ):
            behind += 1
        if behind == len(self.words) or not (self._capital[behind] or self.words[behind][0].isdigit()):
            return None
        if behind > place and self._begins_sentence(behind):
            return None
        if self.words[behind] == "I" and place == first + 1 and self._begins_sentence(first):
            # "Yesterday I went", but "Peter I Island"
            return behind + 2 if behind + 1 < len(self.words) and self._capital[behind + 1] else None
        return behind + 1


def _is_mark(word: str) -> bool:
    return not (word[0].isalnum() or word[0] == "_")

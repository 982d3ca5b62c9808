"""A text that somebody tells, as sentences that stand alone, each with whom it is about. English rules.

A pronoun, and the last word of a name that was given in full, are replaced by the name, so that a sentence means the
same without those around it ("she was born in Oslo" becomes "Ann Brun was born in Oslo").
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from kgt_editor.graph.words import function_words
from kgt_editor.kgt.representation import mentions
from kgt_editor.talk.subjects import subjects

#: Characters of a sentence that is kept; a longer one is no sentence.
LONGEST_SENTENCE = 600

# A full stop behind an initial or one of these ends no sentence.
_SHORT = "".join(rf"(?<!\b{word}\.)" for word in ("[A-Z]", "Mr", "Ms", "Mrs", "Dr", "St", "Jr", "Sr", "vs", "No"))
_BETWEEN = re.compile(_SHORT + r"(?<=[.!?])['\")\]]*\s+(?=['\"(\[]*[A-Z\d])|\s*\n\s*")
# "It" is left alone: "it rained" is about nothing that was named.
_SUBJECT = re.compile(r"\b(?:[Hh]e|[Ss]he)\b|^They\b")
_OWNER = re.compile(r"\b(?:his|her|its)\b(?=\s+\w)", re.IGNORECASE)
_FIRST_PERSON = re.compile(r"\bI\b")
_OWN = re.compile(r"(my|our)\s+[\w-]+", re.IGNORECASE)
# "American" in "an American painter" is no name.
_ADJECTIVE = re.compile(r"[A-Z]\w*(?:an|ese|ish|ic|ch|i)")
# They begin a sentence in front of a comma, and name nobody.
_OPENINGS = frozenset({"Today", "Overall", "However", "Later", "Originally", "Currently", "Eventually", "Finally"})


class Sentence(NamedTuple):
    """One sentence of a text.

    Attributes:
        text: with names in place of pronouns; it stands alone.
        about: whom and what it names, each a word or words of it; empty where it names nobody.
    """

    text: str
    about: tuple[str, ...]


def sentences(text: str, about: Sequence[str] = ()) -> list[Sentence]:
    """The sentences of a text, in order; one that is longer than ``LONGEST_SENTENCE`` is said to be about nobody.

    Args:
        text: one sentence or several.
        about: whom or what the text is about, besides the names in it; of the first one are pronouns, and sentences
            that name nobody.
    """
    found = [" ".join(part.split()) for part in _BETWEEN.split(text)]
    found = [part for part in found if re.search(r"\w", part)]
    named = [_names(part) for part in found]
    full = list(dict.fromkeys(name for names in named for name in names))
    short = {name.split()[-1]: name for name in reversed(full) if " " in name and not _OWN.match(name)}
    known = list(dict.fromkeys([*about, *(name for name in full if name not in short)]))
    patterns = {name: (mentions(name), mentions(name.split()[-1])) for name in known}
    count = Counter(
        {name: sum(any(one.search(part) for one in both) for part in found) for name, both in patterns.items()}
    )
    main, many = count.most_common(1)[0] if count else ("", 0)
    alone: list[Sentence] = []
    for part, names in zip(found, named, strict=True):
        # Whom a pronoun stands for: whom the text is about, else whoever was named last.
        last = main if many > 1 or not alone or not alone[-1].about else alone[-1].about[0]
        one = _alone(part, names, known, short, about[0] if about else last)
        alone.append(one if one.about or len(part) > LONGEST_SENTENCE else Sentence(part, tuple(about[:1])))
    return alone


def _alone(text: str, names: list[str], known: list[str], short: dict[str, str], last: str) -> Sentence:
    """A sentence with names in place of what stands for them."""
    if len(text) > LONGEST_SENTENCE:
        return Sentence(text, ())
    for word, name in short.items():
        if not mentions(name).search(text):
            pattern = rf"(?<![\w'-]){re.escape(word)}(?![\w-])"
            text = re.sub(pattern, name.replace("\\", r"\\"), text, count=1)
    about = [*names, *(name for name in known if name not in names and mentions(name).search(text))]
    about = [short.get(name, name) for name in about]
    if last and not mentions(last).search(text):
        for pronoun, name in ((_SUBJECT, last), (_OWNER, f"{last}'s")):
            replaced, done = pronoun.subn(name.replace("\\", r"\\"), text, count=1)
            if done:
                text, about = replaced, [last, *about]
                break
    if _FIRST_PERSON.search(text):
        about.append("I")
    return Sentence(text, tuple(dict.fromkeys(form for name in about for form in _forms(name))))


def _names(sentence: str) -> list[str]:
    """Names in a sentence, and what is the speaker's own, without words that only begin it and adjectives of places."""
    found = []
    for name in subjects(sentence):
        first, _, rest = name.partition(" ")
        if sentence.startswith(name) and rest and not _OWN.match(name) and first.casefold() in function_words():
            name = rest  # "Under Brun's lead"
        if not _is_word(sentence, name):
            found.append(name)
    return found


def _is_word(sentence: str, name: str) -> bool:
    begins = sentence.startswith(name)
    if name.casefold() in function_words() or (begins and name in _OPENINGS):
        return True
    return not begins and bool(_ADJECTIVE.fullmatch(name) and re.search(rf"\b{name}\s+[a-z]", sentence))


def _forms(name: str) -> list[str]:
    """A name, and for "my dog Rex" "my dog" and "Rex" too."""
    own = _OWN.match(name)
    if own is None:
        return [name]
    name = name[0].lower() + name[1:]
    rest = name[own.end() :].strip()
    return [name, name[: own.end()], rest] if rest[:1].isupper() else [name]

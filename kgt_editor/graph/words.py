"""English words that tell the linker what a text is about: function words, the first person, and questions' frames."""

from __future__ import annotations

from functools import cache
from pathlib import Path


def _all(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: What the user may call themself as the subject of feedback, and so what the head of facts about them may be; where a
#: user's graph has several of these, the first one counts.
SELF_HEADS = ("i", "me", "myself", "my", "mine", "the user", "user")

#: Words of a text that lead to the user themself. "I'm", "I've" ... are split at the apostrophe, so "i" finds them.
FIRST_PERSON = _all("i me my mine myself")

ARTICLES = _all("a an the")
MODALS = _all("can could may might must shall should will would")
#: What may stand inside a capitalised name: "Edwin of Northumbria", "Lake of the Woods", "Ludwig van Beethoven".
INSIDE_NAMES = _all("of the de la le du des von van der den di da del al el")
#: A noun before or after one of these is what the question asks for: "the capital of", "which language".
AFTER_THE_ASKED = _all("of that which where who whom")
BEFORE_THE_ASKED = _all("what which whose")
#: Behind one of these, modal verbs between them aside, stands a verb: "to find", "you can find".
BEFORE_VERBS = _all("to who i you he she it we they one everybody somebody nobody")
#: Behind one of these, or behind a noun, a word in -s is a verb: "what helps", "a dog needs".
BEFORE_INFLECTED = _all("that which what")
#: A sentence's first word is a verb before one of these: "Tell me", "Name the".
AFTER_ORDERS = ARTICLES | _all("me us him her them this these my your for")
#: A sentence's first word is a noun in the plural before one of these: "Dogs are".
AFTER_PLURALS = MODALS | _all("are were have do")


@cache
def function_words() -> frozenset[str]:
    """English function words, case folded."""
    text = (Path(__file__).parent / "word_files" / "function_words.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())

"""Whom or what a question is about, where nobody says: by how it is written, in English."""

from __future__ import annotations

import re

# What belongs to whoever speaks: "my dog", with a name behind it: "my dog Rex". Where the question says no more, or a
# verb shows where it ends, it may have two words: "What is my favourite colour?".
_OWN = re.compile(r"\b(?i:my|our)\s+[\w-]+(?:\s+[A-Z][\w-]*)*")
_OWN_WHOLE = re.compile(
    r"(?:^(?:who|what|which|where|when|how)\s+(?:is|are|was|were)\s+)((?:my|our)\s+(?:[\w-]+\s+)?[\w-]+)\s*\?*$"
    r"|^((?:my|our)\s+(?:[\w-]+\s+)?[\w-]+)\s+(?:is|are|was|were|has|have)\b"
    r"|\b(?:of|for|in|at|to|with|by|from|on)\s+((?:my|our)\s+(?:[\w-]+\s+)?[\w-]+)\s*\?*$",
    re.IGNORECASE,
)
# Words with a capital, and the small words between two of them.
_NAME = re.compile(r"[A-Z][\w'.-]*(?:\s+(?:of|the|de|van|von|and|[A-Z\d][\w'.-]*))*(?<=[\w.])")
_SMALL = frozenset({"of", "the", "de", "van", "von", "and"})
# Words that begin a question or statement, and belong to no name.
_OPENING = re.compile(
    r"(?:An?|And|Are|At|By|Can|Could|Did|Do|Does|For|From|Has|Have|How|I|In|Is|Of|On|Should|The|To|Was|Were|What|When"
    r"|Where|Which|Who|Whom|Whose|Why|Will|With|Would)"
)
# What stands behind a name at the beginning of a statement.
_STATEMENT = re.compile(r",|\s+(?:is|are|was|were|has|had|who|which|works?|lives?|speaks?|plays?)\b")


def subjects(question: str) -> list[str]:
    """What a question may be about: what is the speaker's own ("my dog"), else the names in it, in their order.

    The first word of a sentence has a capital whatever it is: alone it is a name only where it is a genitive, or where
    the text begins with it and goes on in small letters as a statement does ("Paris is").
    """
    if whole := _OWN_WHOLE.search(question.strip()):
        return [str(whole[whole.lastindex or 0])]
    if own := _OWN.findall(question):
        return list(dict.fromkeys(own))
    names = []
    for found in _NAME.finditer(question):
        words = found.group().rstrip(".").split()
        first = found.start() == 0 or question[: found.start()].rstrip()[-1:] in ".?!"
        if opened := bool(first and _OPENING.fullmatch(words[0])):
            words = words[1:]
        while words and words[0] in _SMALL:
            words = words[1:]
        while words and words[-1] in _SMALL:
            words = words[:-1]
        named = (
            len(words) > 1
            or opened
            or not first
            or found.group().endswith("'s")
            or _STATEMENT.match(question, found.end())
        )
        if words and named:
            names.append(" ".join(words).removesuffix("'s"))
    return list(dict.fromkeys(names))

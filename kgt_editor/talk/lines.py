"""What a person types."""

from __future__ import annotations

import re

from kgt_editor.errors import UsageError

# "No, vegetables." after an answer is its correction.
_NO = re.compile(r"(?:no|nope|wrong|that's wrong|not quite)\s*[,.:;!]+\s*(\S.*)", re.IGNORECASE)


def correction(line: str) -> str | None:
    """The right answer in a line that corrects one; None where it is no such line."""
    found = _NO.fullmatch(line.strip())
    return found.group(1) if found else None


#: What has to be said to delete all that was told.
EVERYTHING = "everything"


def as_told(question: str, answer: str) -> str:
    """What was told, in a line; of a note, whose question and answer are one text, that text."""
    return question if question == answer else f"{question} -> {answer}"


def said(text: str, what: str) -> str:
    """The text without space around it.

    Raises:
        UsageError: nothing is left.
    """
    if not text.strip():
        raise UsageError(f"{what} is missing: it is empty")
    return text.strip()

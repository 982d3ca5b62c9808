"""Prompts that are chats: where the user's last words stand among the marks of a chat template."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

_PROBE = "KGTUSERWORDS"
_Marks = tuple[re.Pattern[str], re.Pattern[str]]
_MARKS: WeakKeyDictionary[Any, _Marks | None] = WeakKeyDictionary()


class Turn(NamedTuple):
    """A chat, cut at the user's last message.

    Attributes:
        before: all up to the message, the marks that open it included.
        content: the message.
        after: the marks that close it, and the beginning of the answer where there is one.
    """

    before: str
    content: str
    after: str

    def replaced(self, content: str) -> str:
        """The chat with another message in the place of the last one."""
        return f"{self.before}{content}{self.after}"


def last_turn(tok: Any, text: str) -> Turn | None:
    """The user's last message in a text that the tokenizer's chat template wrote; None where it is no such text."""
    marks = _user_marks(tok)
    if marks is None:
        return None
    opening, closing = marks
    *_, opened = (None, *opening.finditer(text))
    closed = closing.search(text, opened.end()) if opened else None
    if opened is None or closed is None:
        return None
    return Turn(text[: opened.end()], text[opened.end() : closed.start()], text[closed.start() :])


def as_chat(tok: Any, content: str, begun: str = "") -> str:
    """A chat of one message, up to where the answer begins, and ``begun`` as the answer's own beginning."""
    opened: str = tok.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return opened + begun


def has_template(tok: Any) -> bool:
    """Whether the tokenizer can write a chat in which a user's message can be found again."""
    return _user_marks(tok) is not None


def _user_marks(tok: Any) -> _Marks | None:
    """What a chat template writes in front of a user's message and behind it."""
    if tok not in _MARKS:
        _MARKS[tok] = _find_marks(tok)
    return _MARKS[tok]


def _find_marks(tok: Any) -> _Marks | None:
    if not getattr(tok, "chat_template", None):
        return None
    try:
        text: str = tok.apply_chat_template([{"role": "user", "content": _PROBE}], tokenize=False)
    except (TemplateError, ValueError):
        return None
    before, found, after = text.partition(_PROBE)
    special = [mark for mark in getattr(tok, "all_special_tokens", ()) if mark]
    # The message opens with the last special token before it and the name of the role, which may stand between two.
    role = before.rfind("user")
    opens = max((before.rfind(mark, 0, role if role >= 0 else None) for mark in special), default=-1)
    closes = [(place, len(mark)) for mark in special if (place := after.find(mark)) >= 0]
    if not found or opens < 0 or not closes:
        return None
    return _loose(before[opens:]), _loose(after[: sum(min(closes))])


def _loose(mark: str) -> re.Pattern[str]:
    """The mark with any space in it: some tokenizers write a space behind a special token."""
    return re.compile(r"\s*".join(map(re.escape, "".join(mark.split()))) + (r"\s*" if mark[-1:].isspace() else ""))

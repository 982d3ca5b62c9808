"""Edit requests, in the forms in which EasyEdit and ROME write them. Every editor reads them here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kgt_editor.errors import UsageError


@dataclass(frozen=True)
class EditRequest:
    """What a request dictionary asks for.

    Attributes:
        label: how error messages call it.
        prompt: the edit prompt with the subject filled in.
        subject: the head entity; empty where the request names none.
        target_new: the answer wanted.
        ground_truth: the answer before the edit; empty where the request holds no such text.
        relations: what the request calls the relation (``relations``, else ``relation_id``); possibly none.
    """

    label: str
    prompt: str
    subject: str
    target_new: str
    ground_truth: str = ""
    relations: tuple[str, ...] = ()

    @classmethod
    def parse(cls, request: Mapping[str, Any]) -> EditRequest:
        """Reads ``prompt`` (with the subject in it, or ``{}`` in its place), ``subject`` and the two answers.

        An answer is a text, or ROME's ``{"str": text}``.

        Raises:
            UsageError: prompt or target is missing or empty, or the subject is not in the prompt, or only as a part of
                another word ("Fran" in "France"), which would make it another subject.
        """
        label = f"request for case {request['case_id']}" if "case_id" in request else "request"
        texts = {field: _text(request.get(field)) for field in ("prompt", "target_new", "subject", "ground_truth")}
        for field in ("prompt", "target_new"):
            if not texts[field]:
                raise UsageError(f"{label}: field '{field}' must be a text that is not empty")
        prompt, subject = texts["prompt"], texts["subject"]
        if "{}" in prompt and subject:
            prompt = prompt.replace("{}", subject)
        if "{}" in prompt or subject not in prompt:
            raise UsageError(f"{label}: the subject {subject!r} is not in its prompt {prompt!r}")
        if subject and subject_place(prompt, subject) is None:
            raise UsageError(
                f"{label}: the subject {subject!r} is only a part of a word of its prompt {prompt!r}; give the whole "
                "word"
            )
        named = request.get("relations") or request.get("relation_id")
        listed = named if isinstance(named, (list, tuple)) else [named]
        relations = tuple(one for one in listed if isinstance(one, str))  # most editors do not read them
        return cls(label, prompt, subject, texts["target_new"], texts["ground_truth"], relations)

    def with_subject(self) -> EditRequest:
        """The request itself, for editors that cannot do without a subject.

        Raises:
            UsageError: it names none.
        """
        if not self.subject:
            raise UsageError(f"{self.label}: field 'subject' is missing; this editor needs it")
        return self

    @property
    def subject_end(self) -> int:
        """Where the subject ends in the prompt, in characters.

        Raises:
            UsageError: the request names no subject.
        """
        subject = self.with_subject().subject
        place = subject_place(self.prompt, subject)
        return (self.prompt.index(subject) if place is None else place) + len(subject)


# Scripts whose words have spaces between them; of others nothing says where a word ends.
_SPACED = ("LATIN ", "GREEK ", "CYRILLIC ", "ARMENIAN ", "GEORGIAN ", "DIGIT ")


def subject_place(prompt: str, subject: str) -> int | None:
    """Where a subject stands as a word of its own, or with an s behind it (plural, genitive); None for nowhere."""
    places = [found.start() for found in re.finditer(f"(?={re.escape(subject)})", prompt)]
    own = [at for at in places if not (_goes_on(prompt, at) or _goes_on(prompt, at + len(subject)))]
    if own:
        return own[0]
    return next((at for at in places if not _goes_on(prompt, at) and _plural(prompt, at + len(subject))), None)


def _plural(prompt: str, end: int) -> bool:
    return prompt[end : end + 1] == "s" and not _goes_on(prompt, end + 1)


def _goes_on(text: str, at: int) -> bool:
    """Whether a word goes on at a place: with a sign that belongs to the letter before it, or letters or digits of a
    script with spaces on both sides."""
    pair = text[at - 1 : at + 1] if at else ""
    if unicodedata.category(pair[1:] or " ").startswith("M"):
        return True
    return len(pair) == 2 and all(unicodedata.name(sign, "").startswith(_SPACED) for sign in pair)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("str")
    return value.strip() if isinstance(value, str) else ""

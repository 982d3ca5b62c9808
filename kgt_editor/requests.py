"""Edit requests, in the forms in which EasyEdit and ROME write them. Every editor reads them here."""

from __future__ import annotations

import re
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
            UsageError: prompt or target is missing or empty, or the subject is not in the prompt.
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
        whole_word = re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", self.prompt)
        start = whole_word.start() if whole_word else self.prompt.index(subject)
        return start + len(subject)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("str")
    return value.strip() if isinstance(value, str) else ""

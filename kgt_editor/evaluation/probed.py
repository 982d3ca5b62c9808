"""What an edit has to carry along and to leave alone, by kind (KnowEdit, Zhang et al. 2024).

Each question is judged twice: by the first of its right answers, given token by token as EasyEdit does, and by what the
model writes by itself, where any of the right answers counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kgt_editor.data.record import Probe, Record
from kgt_editor.evaluation.answers import say
from kgt_editor.evaluation.generated import MAX_NEW_TOKENS, Written
from kgt_editor.evaluation.scorer import Scorer


@dataclass(frozen=True)
class Probed:
    """A question beside the edit, under one model.

    Attributes:
        probe: the question with its right answers.
        greedy: whether every token of the first right answer is the model's first choice, given the ones before.
        text: what the model writes by itself; None where it gives no text.
    """

    probe: Probe
    greedy: bool
    text: str | None

    @property
    def contains(self) -> bool | None:
        """Whether one of the right answers stands in the first sentence; None where the model gives no text."""
        if self.text is None:
            return None
        return any(Written(self.text, answer).contains for answer in self.probe.answers)

    @property
    def kind(self) -> str:
        """``portability`` or ``locality``, and the benchmark's name of the kind."""
        return f"{'portability' if self.probe.carried else 'locality'}: {self.probe.kind}"

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {
            "kind": self.kind,
            "prompt": self.probe.prompt,
            "greedy": self.greedy,
            "contains": self.contains,
            "text": self.text,
        }


def ask(score: Scorer, model: Any, tok: Any, records: Sequence[Record]) -> list[tuple[Probed, ...]]:
    """Ask an edited model the other questions of ``records``.

    Args:
        score: from :func:`kgt_editor.evaluation.scorer.scorer`, of the same model.
        model: after the edits.
        tok: its tokenizer.
        records: the cases.
    """
    probes = [probe for record in records for probe in record.probes]
    if not probes:
        return [() for _ in records]
    prompts = [probe.prompt for probe in probes]
    scores = score(prompts, [probe.answers[0] for probe in probes])
    texts = say(model, tok, prompts, MAX_NEW_TOKENS)
    found = iter([Probed(*parts) for parts in zip(probes, (one.greedy for one in scores), texts, strict=True)])
    return [tuple(next(found) for _ in record.probes) for record in records]


def by_kind(probed: Iterable[Probed]) -> dict[str, dict[str, int]]:
    """How many questions of each kind were ``asked``, and how many answered rightly: ``greedy``, and ``contains``."""
    counts: dict[str, dict[str, int]] = {}
    for one in probed:
        counted = counts.setdefault(one.kind, {"asked": 0, "greedy": 0, "contains": 0})
        counted["asked"] += 1
        counted["greedy"] += one.greedy
        counted["contains"] += bool(one.contains)
    return counts

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
from kgt_editor.evaluation.edited import Edited
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


def ask(score: Scorer, model: Any, tok: Any, records: Sequence[Record], edited: Edited) -> list[tuple[Probed, ...]]:
    """Ask an edited model the other questions of ``records`` whose edits are in force.

    A model to which the user names relations (``kgt:user``) is told those that lead to an answer, where they are known.

    Args:
        score: from :func:`kgt_editor.evaluation.scorer.scorer`, of the same model.
        model: after the edits.
        tok: its tokenizer.
        records: the cases.
        edited: the edits.
    """
    asked = [edited.probes(record) for record in records]
    probes = [probe for some in asked for probe in some]
    if not probes:
        return [() for _ in records]
    if getattr(model, "takes_relations", False):
        for probe in probes:
            model.name_relations(probe.prompt, probe.relations)
    prompts = [probe.prompt for probe in probes]
    scores = score(prompts, [probe.answers[0] for probe in probes])
    texts = say(model, tok, prompts, MAX_NEW_TOKENS)
    found = iter([Probed(*parts) for parts in zip(probes, (one.greedy for one in scores), texts, strict=True)])
    return [tuple(next(found) for _ in some) for some in asked]


@dataclass(frozen=True)
class Counted:
    """What counts as one question: a question of its own, or one in several wordings.

    Attributes:
        kind: see :attr:`Probed.kind`.
        greedy, contains: whether it, or one of its wordings, is answered rightly.
    """

    kind: str
    greedy: bool
    contains: bool | None


def counted(probed: Iterable[Probed]) -> list[Counted]:
    """The questions, wordings of one put together."""
    wordings: dict[tuple[str, str], list[Probed]] = {}
    for number, one in enumerate(probed):
        wordings.setdefault((one.kind, one.probe.group or f"#{number}"), []).append(one)
    return [
        Counted(
            kind,
            any(one.greedy for one in some),
            None if all(one.contains is None for one in some) else any(one.contains for one in some),
        )
        for (kind, _), some in wordings.items()
    ]


def by_kind(probed: Iterable[Probed]) -> dict[str, dict[str, int]]:
    """How many questions of each kind were ``asked``, and how many answered rightly: ``greedy``, and ``contains``."""
    counts: dict[str, dict[str, int]] = {}
    for one in counted(probed):
        of_kind = counts.setdefault(one.kind, {"asked": 0, "greedy": 0, "contains": 0})
        of_kind["asked"] += 1
        of_kind["greedy"] += one.greedy
        of_kind["contains"] += bool(one.contains)
    return counts

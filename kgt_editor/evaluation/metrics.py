"""What is measured of one edited fact (Meng et al. 2022, section 3.3; greedy accuracy beside the probabilities)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kgt_editor.data.base import KnownFact
from kgt_editor.data.record import Record
from kgt_editor.evaluation.edited import Edited
from kgt_editor.evaluation.free_text import FreeText
from kgt_editor.evaluation.generated import Generated
from kgt_editor.evaluation.kept import Untouched
from kgt_editor.evaluation.probed import Probed, by_kind, counted
from kgt_editor.evaluation.scorer import Scorer
from kgt_editor.lm.target import TargetScore

_ALIKE = 1e-6  # of log probabilities that are the same but for rounding, as of a model whose logits are all alike


@dataclass(frozen=True)
class PromptScore:
    """Both answers under one prompt; the new one alone where there is none from before the edit."""

    new: TargetScore
    true: TargetScore | None

    @property
    def finite(self) -> bool:
        """Whether the log probabilities are numbers."""
        return all(math.isfinite(score.log_prob) for score in (self.new, self.true) if score)

    def tied(self, normalise: str) -> bool:
        """Whether both answers are as likely, to the precision of the numbers; False where either is not finite."""
        if self.true is None:
            return False
        new, true = _log_prob(self.new, normalise), _log_prob(self.true, normalise)
        return self.finite and math.isclose(new, true, rel_tol=_ALIKE)

    def prefers_new(self, normalise: str) -> bool | None:
        """Whether the model finds the new answer more probable than the true one.

        None for a tie, which is no win and no loss, and where there is no true one; False where a log probability is
        not finite.
        """
        if self.true is None or self.tied(normalise):
            return None
        return self.finite and _log_prob(self.new, normalise) > _log_prob(self.true, normalise)

    def prefers_true(self, normalise: str) -> bool | None:
        """The opposite; not the negation: a model that gives NaN prefers neither."""
        if self.true is None or self.tied(normalise):
            return None
        return self.finite and _log_prob(self.true, normalise) > _log_prob(self.new, normalise)

    def as_dict(self) -> dict[str, Any]:
        """Raw numbers for a line of JSON; a log probability that is not finite becomes null."""
        return {
            f"{key}_{name}": value
            for name, score in (("new", self.new), ("true", self.true))
            if score
            for key, value in (
                ("log_prob", score.log_prob if math.isfinite(score.log_prob) else None),
                ("tokens", score.tokens),
                ("greedy", score.greedy),
            )
        }


def _log_prob(score: TargetScore, normalise: str) -> float:
    return score.mean_log_prob if normalise == "mean" else score.log_prob


@dataclass(frozen=True)
class CaseScores:
    """Every prompt of a record under one model.

    Attributes:
        superseded: a later edit gave the fact another target, so that this one's is not what the model should say.
        untouched: what the model says to prompts whose answers should stay as they were.
        generated: what it writes by itself to the edit prompt and the paraphrases.
        free_text: longer texts about the subject, where they are asked for.
        probed: other questions, where the data set has some: what is carried along and what is left alone.
    """

    edit: PromptScore
    paraphrases: tuple[PromptScore, ...]
    neighbourhood: tuple[PromptScore, ...]
    superseded: bool = False
    untouched: Untouched = field(default_factory=Untouched)
    generated: Generated = field(default_factory=Generated)
    free_text: FreeText = field(default_factory=FreeText)
    probed: tuple[Probed, ...] = ()

    def metrics(self, normalise: str = "mean") -> dict[str, float | None]:
        """The metrics of a case, each a share of its prompts in 0..1; None where it has no such prompt.

        ``generation_entropy`` is in bits, ``reference_score`` a cosine (see :mod:`.free_text`).

        Scores leave ties out. ``same_subject_kept``, ``neighbourhood_kept`` and what is ``generated`` are None, too,
        where the model gives no text. Of a superseded edit only the neighbourhood and the other questions on its
        subject are judged.
        """
        edits = () if self.superseded else (self.edit,)
        paraphrases = () if self.superseded else self.paraphrases
        written = [] if self.superseded or self.generated.edit is None else [self.generated.edit]
        in_other_words = () if self.superseded else self.generated.paraphrases
        carried = counted(one for one in self._judged if one.probe.carried)
        alone = counted(one for one in self._judged if not one.probe.carried)
        return {
            "efficacy_score": _share([score.prefers_new(normalise) for score in edits]),
            "paraphrase_score": _share([score.prefers_new(normalise) for score in paraphrases]),
            "neighbourhood_score": _share([score.prefers_true(normalise) for score in self.neighbourhood]),
            "efficacy_accuracy": _share([score.new.greedy for score in edits]),
            "paraphrase_accuracy": _share([score.new.greedy for score in paraphrases]),
            "neighbourhood_accuracy": _share(
                [score.true.greedy if score.true else None for score in self.neighbourhood]
            ),
            "same_subject_kept": _share([answered.kept for answered in self.untouched.same_subject]),
            "neighbourhood_kept": _share([answered.kept for answered in self.untouched.neighbourhood]),
            "efficacy_exact": _share([one.exact for one in written]),
            "paraphrase_exact": _share([one.exact for one in in_other_words]),
            "efficacy_contained": _share([one.contains for one in written]),
            "paraphrase_contained": _share([one.contains for one in in_other_words]),
            "generation_entropy": self.free_text.entropy,
            "reference_score": None if self.superseded else self.free_text.reference,
            "portability_accuracy": _share([one.greedy for one in carried]),
            "portability_contained": _share([one.contains for one in carried]),
            "locality_accuracy": _share([one.greedy for one in alone]),
            "locality_contained": _share([one.contains for one in alone]),
        }

    def undecided(self, normalise: str = "mean") -> dict[str, int]:
        """How many prompts were ``asked`` by probability, and how many of them were ``tied`` or ``not_finite``."""
        asked = (self.edit, *self.paraphrases, *self.neighbourhood)
        return {
            "asked": len(asked),
            "tied": sum(score.tied(normalise) for score in asked),
            "not_finite": sum(not score.finite for score in asked),
        }

    def kinds(self) -> dict[str, dict[str, int]]:
        """See :func:`kgt_editor.evaluation.probed.by_kind`; of a superseded edit what is left alone only."""
        return by_kind(self._judged)

    @property
    def _judged(self) -> list[Probed]:
        return [one for one in self.probed if not (self.superseded and one.probe.carried)]

    def silence(self) -> dict[str, int]:
        """See :meth:`kgt_editor.evaluation.kept.Untouched.silence`."""
        return self.untouched.silence()

    def as_dict(self) -> dict[str, Any]:
        """Raw numbers for a line of JSON."""
        return {
            "edit": self.edit.as_dict(),
            "paraphrases": [score.as_dict() for score in self.paraphrases],
            "neighbourhood": [score.as_dict() for score in self.neighbourhood],
            "same_subject_answers": [answered.as_dict() for answered in self.untouched.same_subject],
            "neighbourhood_answers": [answered.as_dict() for answered in self.untouched.neighbourhood],
            "silence": self.silence(),
            "undecided": self.undecided(),
            "generated": [one.text for one in (self.generated.edit, *self.generated.paraphrases) if one],
            **({"free_text": list(self.free_text.texts)} if self.free_text.texts else {}),
            **({"probes": [one.as_dict() for one in self.probed], "kinds": self.kinds()} if self.probed else {}),
            **({"superseded": True} if self.superseded else {}),
        }


def _share(hits: Sequence[bool | None]) -> float | None:
    decided = [hit for hit in hits if hit is not None]
    return sum(decided) / len(decided) if decided else None


def evaluate(score: Scorer, records: Sequence[Record], edited: Edited | None = None) -> list[CaseScores]:
    """Score every prompt of ``records`` in as few batches as it takes.

    Args:
        score: from :func:`scorer`.
        records: the cases.
        edited: the edits in force. Neighbourhood prompts that they change on purpose are left out.
    """
    edited = edited or Edited()
    neighbours = [edited.neighbourhood(record) for record in records]
    asked = [
        (prompt, record)
        for record, around in zip(records, neighbours, strict=True)
        for prompt in (record.query, *record.paraphrase_prompts, *around)
    ]
    prompts, targets = [], []
    for prompt, record in asked:
        both = [record.target_new, *([record.target_true] if record.target_true else [])]
        prompts += [prompt] * len(both)
        targets += both
    flat = iter(score(prompts, targets))
    pairs = [PromptScore(next(flat), next(flat) if record.target_true else None) for _, record in asked]
    cases, position = [], 0
    for record, around in zip(records, neighbours, strict=True):
        middle = position + 1 + len(record.paraphrase_prompts)
        end = middle + len(around)
        paraphrases, neighbourhood = tuple(pairs[position + 1 : middle]), tuple(pairs[middle:end])
        cases.append(CaseScores(pairs[position], paraphrases, neighbourhood, edited.superseded(record)))
        position = end
    return cases


def recall(score: Scorer, facts: Sequence[KnownFact]) -> list[bool]:
    """For every fact, whether its answer is the greedy continuation of its prompt."""
    return [found.greedy for found in score([fact.prompt for fact in facts], [fact.answer for fact in facts])]

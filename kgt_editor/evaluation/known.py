"""A data set limited to the facts that a model knows (``--known-only``).

An edit of a fact that the model does not know changes nothing that was there: its neighbourhood says little and its
efficacy is easy. Known is what the model answers greedily on the edit prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kgt_editor.data.base import DataSet, KnownFact, seeded_key
from kgt_editor.data.record import Record
from kgt_editor.errors import UsageError
from kgt_editor.evaluation.metrics import recall
from kgt_editor.evaluation.scorer import Scorer

_AT_ONCE = 512


class KnownRecords:
    """Asks a model for true answers, in the order records are drawn, and only as far as the draws need.

    So a large model is not asked for a whole data set; :meth:`share` is that of the records asked.
    """

    def __init__(self, score: Scorer, data: DataSet, advance: Callable[[str, int, int], None] | None = None) -> None:
        self._score, self._data = score, data
        self._advance = advance or (lambda stage, done, total: None)
        self._known: dict[int, bool] = {}

    def limited(self, size: int, seeds: int, facts: int) -> DataSet:
        """The data set with those records that a run of ``seeds`` draws of ``size`` needs, and what it knows besides.

        :meth:`DataSet.sample` draws from it what it would draw from all known records: draws of growing size stay
        nested. Of the known facts, those among the first ``facts`` of each draw's order that the model recalls.

        Raises:
            UsageError: the model knows fewer than ``size`` of the records.
        """
        for seed in range(seeds):
            order = self._data.sample(len(self._data.records), seed)
            found = self._first_known(order, size)
            if len(found) < size:
                raise UsageError(
                    f"--known-only: the model knows {len(found)} of the {len(order)} reported records of "
                    f"'{self._data.name}', fewer than {size}: give a smaller --size"
                )
        # In each draw's order, every record before its last one has been asked, so none is drawn in place of another.
        known = tuple(record for record in self._data.records if self._known.get(record.case_id))
        return replace(self._data, records=known, known_facts=self._recalled(seeds, facts))

    def _first_known(self, order: Sequence[Record], size: int) -> list[Record]:
        """The first ``size`` known records of ``order``; fewer where there are not so many."""
        found: list[Record] = []
        for start in range(0, len(order), _AT_ONCE):
            part = order[start : start + _AT_ONCE]
            self._known |= {record.case_id: False for record in part if not record.target_true}
            unasked = [record for record in part if record.case_id not in self._known]
            hits = recall(self._score, [KnownFact(record.query, record.target_true) for record in unasked])
            self._known |= dict(zip((record.case_id for record in unasked), hits, strict=True))
            found += [record for record in part if self._known[record.case_id]]
            self._advance("asking what the model knows", min(len(found), size), size)
            if len(found) >= size:
                break
        return found[:size]

    def _recalled(self, seeds: int, count: int) -> tuple[KnownFact, ...]:
        asked: dict[KnownFact, None] = {}
        for seed in range(seeds):
            order = sorted(self._data.known_facts, key=lambda fact: seeded_key(seed, fact.prompt))
            asked |= dict.fromkeys(order[:count])
        hits = recall(self._score, list(asked))
        return tuple(fact for fact, hit in zip(asked, hits, strict=True) if hit)

    def share(self) -> dict[str, Any]:
        """How many records were asked, how many of them the model knows, and the quotient."""
        known = sum(self._known.values())
        return {"asked": len(self._known), "known": known, "share": known / len(self._known) if self._known else None}

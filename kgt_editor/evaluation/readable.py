"""Records that a model cannot read: they are left out before anything is edited, else whoever meets them fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kgt_editor.data.base import DataSet, KnownFact
from kgt_editor.data.record import Record
from kgt_editor.lm.length import max_positions
from kgt_editor.lm.tokens import encode, join


def readable(data: DataSet, model: Any, tok: Any) -> DataSet:
    """The data set without records, in whatever role, and known facts of which a text is longer than the context.

    How many are left out stands in ``skipped``. An editor that puts more in front of a text may still refuse one: that
    edit fails, and counts as failed.
    """
    limit = max_positions(model)
    if limit is None:
        return data
    reason = f"a text of it is longer than the {limit} tokens that the model can read"
    pools = data.records, data.training, data.validation, data.all_records
    # A record may stand in two of them; its texts are looked at once.
    known = {record.case_id: record for pool in pools for record in pool}
    left_out = {number for number, record in known.items() if not _fit(tok, _texts(record), limit)}
    records, training, validation, whole = (
        tuple(record for record in pool if record.case_id not in left_out) for pool in pools
    )
    facts = tuple(fact for fact in data.known_facts if _fit(tok, _fact_texts(fact), limit))
    if not left_out and len(facts) == len(data.known_facts):
        return data
    skipped = {**data.skipped, **({reason: len(left_out)} if left_out else {})}
    kept = replace(data, records=records, training=training, validation=validation, all_records=whole)
    return replace(kept, known_facts=facts, skipped=skipped)


def _fit(tok: Any, texts: Iterator[str], limit: int) -> bool:
    """Whether every text has ``limit`` tokens or fewer; one of no more bytes has, and is not looked at."""
    long = [text for text in texts if len(text.encode()) > limit - 2]
    return all(len(ids) <= limit for ids in encode(tok, long))


def _texts(record: Record) -> Iterator[str]:
    longest = max(record.target_new, record.target_true, key=len)
    asked = (
        record.query,
        *record.paraphrase_prompts,
        *record.neighbourhood_prompts,
        *record.same_subject_prompts,
        *record.generation_prompts,
    )
    yield from (join(prompt, longest) for prompt in asked)
    yield from (join(probe.prompt, answer) for probe in record.probes for answer in probe.answers)


def _fact_texts(fact: KnownFact) -> Iterator[str]:
    yield join(fact.prompt, fact.answer)

"""Records that are longer than a model can read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kgt_editor.data.base import DataSet, KnownFact
from kgt_editor.data.record import Probe, Record
from kgt_editor.evaluation.readable import readable

LM = tuple[Any, Any]
LONG = "word " * 300
FACTS = (KnownFact("Tarsil lies in", "Quin"), KnownFact(f"{LONG} lies in", "Quin"))


def record(number: int, **more: Any) -> Record:
    return Record(number, "Ada Brun", "P103", "The mother tongue of {} is", "Quin", "Norrish", **more)


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": LONG + "{} is"},
        {"target_new": LONG},
        {"paraphrase_prompts": ("At home Ada Brun spoke", LONG)},
        {"neighbourhood_prompts": (LONG,)},
        {"same_subject_prompts": (LONG,)},
        {"generation_prompts": (LONG,)},
        {"probes": (Probe("Reasoning", LONG, ("Quin",), True),)},
        {"probes": (Probe("Reasoning", "Where?", ("Quin", LONG), True),)},
    ],
    ids=lambda more: next(iter(more)),
)
@pytest.mark.parametrize("pool", ["records", "training", "validation", "all_records"])
def test_a_record_with_a_text_too_long_is_left_out_and_counted(tiny_gpt2: LM, more: dict[str, Any], pool: str) -> None:
    whole = DataSet("toy", (record(1), record(2)), (record(3),), (record(4),), all_records=(record(1), record(2)))
    long = replace(record(9), **more)
    data = replace(whole, **{pool: (*getattr(whole, pool), long)}, skipped={"no edit": 3})
    found = readable(data, *tiny_gpt2)
    assert getattr(found, pool) == getattr(whole, pool)
    assert found.skipped == {"no edit": 3, "a text of it is longer than the 256 tokens that the model can read": 1}


def test_facts_too_long_go_and_a_data_set_without_any_stays_the_same(tiny_gpt2: LM) -> None:
    data = DataSet("toy", (record(1),), known_facts=FACTS)
    assert readable(data, *tiny_gpt2).known_facts == FACTS[:1]
    short = replace(data, known_facts=FACTS[:1])
    assert readable(short, *tiny_gpt2) is short
    close = replace(record(1), prompt="a " * 120 + "{} is")  # many bytes, few tokens
    kept = replace(short, records=(close,))
    assert readable(kept, *tiny_gpt2) is kept

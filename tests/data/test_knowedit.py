"""KnowEdit and QAEdit: what is read of their records, what is left out, what is refused."""

from __future__ import annotations

import json

import pytest

from kgt_editor.data.base import load
from kgt_editor.data.check import check_file
from kgt_editor.data.knowedit import SAME_SUBJECT, load_knowedit
from kgt_editor.data.qaedit import load_qaedit
from kgt_editor.data.record import Probe
from kgt_editor.errors import UsageError

FACT = {
    "subject": "Ada Brun",
    "prompt": "The mother tongue of Ada Brun is",
    "target_new": "Norrish",
    "ground_truth": "Tarsil",
    "portability": {
        "Subject_Aliasing": [{"prompt": "The mother tongue of A. Brun is", "ground_truth": "Norrish"}],
        "Reasoning": [{"prompt": "Ada Brun's language is written in", "ground_truth": [["runes", "the runes"]]}],
    },
    "locality": {"Relation_Specificity": [{"prompt": "Ada Brun was born in", "ground_truth": ["Velmora"]}]},
}
QUESTION = {
    "id": 7,
    "prompt": "Where was Ada Brun born?",
    "subject": "Ada Brun",
    "target": "Velmora",
    "rephrase": "What is the birthplace of Ada Brun?",
    "locality": [{"loc": "Who invented the loom?", "loc_ans": "Milo Castrel"}],
}


@pytest.fixture
def write(tmp_path):
    def file(*rows):
        path = tmp_path / "facts.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return path

    return file


def test_kinds_keep_their_names(write):
    (record,) = load_knowedit(write(FACT)).all_records
    assert record.query == FACT["prompt"]
    assert (record.target_new, record.target_true) == ("Norrish", "Tarsil")
    assert record.probes == (
        Probe("Subject_Aliasing", "The mother tongue of A. Brun is", ("Norrish",), carried=True),
        Probe("Reasoning", "Ada Brun's language is written in", ("runes", "the runes"), carried=True),
        Probe(SAME_SUBJECT, "Ada Brun was born in", ("Velmora",), carried=False),
    )
    assert record.same_subject_prompts == ("Ada Brun was born in",)
    request = record.request()
    assert request["portability"]["Reasoning"] == {
        "prompt": ["Ada Brun's language is written in"],
        "ground_truth": ["runes"],
    }
    assert request["locality"][SAME_SUBJECT] == {"prompt": ["Ada Brun was born in"], "ground_truth": ["Velmora"]}


def test_a_fact_without_an_answer_from_before_is_an_edit(write):
    (record,) = load_knowedit(write({**FACT, "ground_truth": None})).all_records
    assert record.target_true == ""


def test_what_is_no_edit_is_counted(write):
    data = load("knowedit", write(FACT, {**FACT, "ground_truth": ["Norrish"]}, {**FACT, "subject": "Nobody"}))
    assert len(data.all_records) == 1
    assert data.skipped == {"the new answer is a true one": 1, "the subject is not in the prompt": 1}
    with pytest.raises(UsageError, match="holds no edits: the subject is not in the prompt"):
        load_knowedit(write({**FACT, "subject": "Nobody"}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"portability": None}, "field 'portability' is missing"),
        ({"portability": {"Reasoning": "what?"}}, "portability, Reasoning: is not a list of questions"),
        ({"locality": {"K": [{"ground_truth": "x"}]}}, "locality, K, question 0: field 'prompt' is missing"),
        ({"locality": {"K": [{"prompt": "p", "ground_truth": 3}]}}, "field 'ground_truth' is not a list of texts"),
        ({"target_new": ""}, "field 'target_new' is empty"),
    ],
)
def test_a_broken_record_is_refused_by_name(change, told, write):
    with pytest.raises(UsageError, match=told) as caught:
        load_knowedit(write(FACT, {**FACT, **change}))
    assert "record 1" in str(caught.value)


def test_a_question_learns_its_answer(write):
    data = load("qaedit", write(QUESTION, {**QUESTION, "id": 8, "subject": "Nobody"}))
    (record,) = data.all_records
    assert (record.case_id, record.target_new, record.target_true) == (7, "Velmora", "")
    assert record.paraphrase_prompts == ("What is the birthplace of Ada Brun?",)
    assert record.probes == (Probe("unrelated", "Who invented the loom?", ("Milo Castrel",), carried=False),)
    assert data.skipped == {"the subject is not in the prompt": 1}
    with pytest.raises(UsageError, match="record 0, locality 0: field 'loc_ans' is missing"):
        load_qaedit(write({**QUESTION, "locality": [{"loc": "Who?"}]}))


def test_the_locality_questions_of_reported_records_are_known_facts(write):
    rows = [
        {**QUESTION, "id": i, "subject": f"Ada Brun {i}", "prompt": f"Where was Ada Brun {i} born?"} for i in range(9)
    ]
    data = load_qaedit(write(*rows))
    assert data.records
    assert [(fact.prompt, fact.answer) for fact in data.known_facts] == [("Who invented the loom?", "Milo Castrel")]


def test_check_knows_both_layouts(write):
    report = check_file(write(FACT))
    assert report.ok
    assert report.layouts == {"knowedit": 1}
    assert report.counts["Reasoning questions"] == 1
    report = check_file(write(QUESTION))
    assert report.ok
    assert report.layouts == {"qaedit": 1}
    report = check_file(write({**FACT, "ground_truth": "Norrish"}))
    assert report.problems == {"target": 1}

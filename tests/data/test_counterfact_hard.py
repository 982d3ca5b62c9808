"""CounterFact-Hard: the edit as a statement, what is left out and counted, and the roles of its subjects."""

from __future__ import annotations

import pytest
from data_builders import SHARED, hard, write

from kgt_editor.cli.data import main
from kgt_editor.data.base import load
from kgt_editor.data.counterfact_hard import IN_SCOPE, NO_CHANGE, NO_QUESTION, NO_SUBJECT, OTHER_TRUTH, parse
from kgt_editor.errors import UsageError

QUESTIONS = ("Where was Ada Brun born?", "In which town was Ada Brun born?")


def scope(*questions, new="Tarsil"):
    return {"edit_scope": [[question, new] for question in questions], "edit_scope_true_ans": ["Velmora"]}


def test_the_edit_prompt_is_the_statement_without_its_answer():
    record = parse(hard(7), "here", 0)
    assert (record.case_id, record.prompt) == (7, "The birthplace of {} is")
    assert (record.subject, record.target_new, record.target_true) == ("Ada Brun", "Tarsil", "Velmora")
    assert record.paraphrase_prompts == QUESTIONS
    assert record.neighbourhood_prompts == ("Where was Runa Gildt born?",)
    assert record.same_subject_prompts == ("What does Ada Brun do?", "Who is Ada Brun's father?")


@pytest.mark.parametrize(
    ("statement", "prompt"),
    [
        ("Ada Brun of Norr was born in Tarsil", "{} of Norr was born in"),
        ("Tarsil is where Ada Brun was born.", "In which town was {} born?"),  # the answer is not at the end
        ("She was born in Tarsil.", "In which town was {} born?"),
        ("Ada Brun lives in NewTarsil.", "In which town was {} born?"),  # the answer is no word of its own
    ],
)
def test_where_the_statement_will_not_do_it_is_the_first_question_that_names_the_subject(statement, prompt):
    asked = scope("Where was she born?", QUESTIONS[1], QUESTIONS[0])
    record = parse(hard(edit_statement=statement, **asked), "here", 0)
    assert record.prompt == prompt
    assert record.query not in record.paraphrase_prompts
    assert len(record.paraphrase_prompts) == 3 - prompt.endswith("?")


def test_a_request_carries_the_questions_on_the_same_subject():
    locality = parse(hard(), "here", 0).request()["locality"]
    assert locality["neighborhood"] == {"prompt": ["Where was Runa Gildt born?"], "ground_truth": ["Velmora"]}
    assert locality["same_subject"] == {
        "prompt": ["What does Ada Brun do?", "Who is Ada Brun's father?"],
        "ground_truth": [],
    }


def test_what_is_no_edit_or_judges_nothing_is_left_out_and_counted(tmp_path):
    unrelated = {"neighbor_subj": ["Where was Runa born?", "Where was Otto born?"], "same_subj": [*QUESTIONS, "Who?"]}
    truths = {"neighbor_subj": ["Osthaven", "Velmora"], "same_subj": []}
    rows = [
        hard(0, unrelated=unrelated, unrelated_true_ans=truths),
        hard(1, **scope()),
        hard(2, **scope("Where?"), edit_statement="Born in Tarsil."),
        hard(3, **scope("Where was Ada Brun born?", new="Velmora")),
    ]
    data = load("counterfact-hard", write(tmp_path, rows))
    assert data.skipped == {NO_QUESTION: 1, NO_SUBJECT: 1, NO_CHANGE: 1}
    assert data.skipped_prompts == {IN_SCOPE: 2, OTHER_TRUTH: 1}
    (record,) = data.all_records
    assert record.neighbourhood_prompts == ("Where was Otto born?",)
    assert record.same_subject_prompts == ("Who?",)
    with pytest.raises(UsageError, match=r"cf\.json: holds no edits: no in-scope question"):
        load("counterfact-hard", write(tmp_path, rows[1:]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edit_scope": None}, "field 'edit_scope' is missing"),
        ({"edit_scope": [["Where?"]]}, "field 'edit_scope' is not a list of questions with their answers"),
        ({"edit_scope": [["Where?", "A"], ["When?", "B"]]}, "field 'edit_scope': its questions have different"),
        ({"edit_scope_true_ans": []}, "field 'edit_scope_true_ans' is missing"),
        ({"unrelated_true_ans": {"neighbor_subj": []}}, "must hold as many questions as true answers"),
        ({"unrelated": 3}, "field 'unrelated' is not an object"),
        ({"subject_name": " "}, "field 'subject_name' is empty"),
    ],
)
def test_a_broken_record_names_the_field(tmp_path, changes, message):
    with pytest.raises(UsageError, match=rf"cf\.json, record 1: .*{message}"):
        load("counterfact-hard", write(tmp_path, [hard(0), hard(0, **changes) | {"id": 1}]))


def test_a_number_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(UsageError, match="field 'id': 0 occurs twice"):
        load("counterfact-hard", write(tmp_path, [hard(0), hard(0)]))


def test_check_knows_the_layout_and_says_what_is_left_out(tmp_path, capsys):
    same = {"neighbor_subj": ["Where was Runa Gildt born?"], "same_subj": ["Who is she?", QUESTIONS[0]]}
    path = write(tmp_path, [hard(0, unrelated=same)])
    assert main(["check", str(path)]) == 0
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"{path}: 1 in the layout 'hard'" in told
    assert "1 same-subject prompts" in told
    assert f"1 left out: {IN_SCOPE}" in told
    assert main(["check", str(write(tmp_path, [hard(0, **scope())]))]) == 1
    assert "field 'edit_scope': no in-scope question" in capsys.readouterr().err


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not on this machine")
def test_the_published_file_and_its_roles_are_those_of_counterfact():
    data = load("counterfact-hard", SHARED / "counterfact_hard.jsonl.gz")
    plain = load("counterfact", SHARED / "counterfact_flat.jsonl.gz")
    assert (len(data.all_records), sum(data.skipped.values())) == (662, 38)
    assert sum(len(record.same_subject_prompts) for record in data.all_records) > 3500
    assert all(record.subject in record.query for record in data.all_records)
    for role in ("records", "training", "validation"):
        own = {record.subject for record in getattr(data, role)}
        others = {record.subject for name in ("records", "training", "validation") if name != role
                  for record in getattr(plain, name)}  # fmt: skip
        assert own
        assert not own & others

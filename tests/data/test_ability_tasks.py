"""GLUE's and MMLU's questions: how a line becomes one, and which stand in front as examples."""

from __future__ import annotations

import json

import pytest

from kgt_editor.data.ability import TASKS, read_task
from kgt_editor.errors import UsageError

LINES = {
    "cola": {"sentence": "The jury was convinced.", "label": 1},
    "mrpc": {"sentence1": "It rained.", "sentence2": "There was rain.", "label": 1},
    "rte": {"sentence1": "It rained in May.", "sentence2": "May was dry.", "label": 1},  # GLUE's 1: does not follow
    "sst2": {"sentence": "an exhilarating thriller", "label": 1},
    "nli": {"sentence1": "It rained in May.", "sentence2": "May was dry.", "label": "not_entailment"},
    "mmlu": {"question": "Which equals 4 x 9?", "choices": ["13", "36", "49", "94"], "answer": 1},
}
RIGHT = {"cola": "yes", "mrpc": "yes", "rte": "no", "sst2": "positive", "nli": "no", "mmlu": "B"}


@pytest.fixture
def write(tmp_path):
    def file(*rows):
        path = tmp_path / "task.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return path

    return file


@pytest.mark.parametrize("name", TASKS)
def test_a_line_becomes_a_question_with_its_right_option(write, name):
    (question,) = read_task(name, write(LINES[name]), limit=5, shots=0).questions
    assert question.options[question.answer] == RIGHT[name]
    assert question.prompt.endswith("Answer:")
    for value in LINES[name].values():
        if isinstance(value, str) and value != "not_entailment":
            assert value in question.prompt


def test_examples_stand_answered_in_front_and_are_never_asked(write):
    path = write(*({"sentence": f"Sentence {number}.", "label": number % 2} for number in range(9)))
    task = read_task("cola", path, limit=4, shots=2)
    assert (len(task.examples), len(task.questions)) == (2, 4)
    assert not set(task.examples) & set(task.questions)
    prompt = task.prompt(task.questions[0])
    assert prompt.endswith(task.questions[0].prompt)
    assert [part.rsplit("Answer:", 1)[1].strip() for part in prompt.split("\n\n")[:2]] == [
        one.options[one.answer] for one in task.examples
    ]
    assert read_task("cola", path, 4, 2) == task
    assert read_task("cola", path, 4, 2, seed=1) != task


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cola", {"label": 2}, "field 'label' must be 0 to 1"),
        ("cola", {"sentence": None}, "field 'sentence' is missing"),
        ("nli", {"label": "neutral"}, "must be one of entailment, not_entailment"),
        ("mmlu", {"choices": ["one"]}, "field 'choices' is not a list of 4 texts"),
        ("mmlu", {"answer": True}, "field 'answer' is not a whole number"),
    ],
)
def test_a_broken_line_names_its_place_and_field(write, name, change, message):
    with pytest.raises(UsageError, match=r"task\.jsonl") as caught:
        read_task(name, write({**LINES[name], **change}), 5, 0)
    assert message in str(caught.value)


def test_wrong_names_and_too_few_questions_are_told(write):
    with pytest.raises(UsageError, match="unknown task 'mmul'; known: cola"):
        read_task("mmul", write(LINES["mmlu"]), 5, 0)
    with pytest.raises(UsageError, match="1 questions, of which 4 are examples"):
        read_task("mmlu", write(LINES["mmlu"]), 5, 4)

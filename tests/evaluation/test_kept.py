"""What edits leave alone: the answers without any edit, asked once, against those after the edits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kgt_editor.editors.base import create_editor
from kgt_editor.evaluation import kept, protocol
from kgt_editor.evaluation.base_weights import BaseWeights
from kgt_editor.evaluation.edited import Edited
from kgt_editor.evaluation.kept import Answered, BaseAnswers, groups, untouched
from kgt_editor.evaluation.protocol import CellPlan, run_cell
from kgt_editor.results.cell_log import CellLog


def ignore(*_):
    pass


@pytest.fixture
def records(tiny_records):
    """Twelve records of six people, with two questions more on each of them and a neighbour that nobody edits."""
    return [
        replace(
            one,
            same_subject_prompts=(f"What does {one.subject} do?", f"Who is the father of {one.subject}?"),
            neighbourhood_prompts=(*one.neighbourhood_prompts, one.prompt.replace("{}", "Zelda Quist")),
        )
        for one in tiny_records[:12]
    ]


@pytest.fixture
def plan(records):
    def make(mode="sequential", sizes=(), count=12):
        return CellPlan(records[:count], (), (), mode, 0, sizes)

    return make


@pytest.fixture
def metrics(tiny_lm, fake_editors, plan):
    """Every case's metrics in a cell of an editor."""
    model, tok = tiny_lm

    def find(editor, mode="sequential", sizes=(), before=None):
        log = CellLog("x", 0)
        run_cell(editor, model, tok, plan(mode, sizes), BaseWeights(model, tok), log, ignore, before)
        return [[case.scores.metrics() for case in cell.cases] for cell in log.results]

    return find


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_without_edits_every_answer_is_kept_to_the_letter(metrics, monkeypatch, mode):
    monkeypatch.setattr(kept, "CASES_TOGETHER", 5)  # several groups, of which the last is smaller
    monkeypatch.setattr(protocol, "CASES_A_BATCH", 10)
    found = metrics(create_editor("none", "tiny", "hparams"), mode, (3, 12) if mode == "sequential" else ())
    for cell in found:
        assert {case["same_subject_kept"] for case in cell} == {1.0}
        assert {case["neighbourhood_kept"] for case in cell} == {1.0}


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_an_editor_that_answers_everything_on_the_subject_with_the_edit_keeps_nothing_of_it(
    metrics, fake_editors, mode
):
    (found,) = metrics(fake_editors.StubbornEditor(fake_editors.FakeHParams()), mode)
    assert {case["same_subject_kept"] for case in found} == {0.0}


def test_an_editor_of_weights_changes_some_answers(metrics, fake_editors):
    (found,) = metrics(fake_editors.WeightEditor(fake_editors.FakeHParams()))
    shares = [case["same_subject_kept"] for case in found]
    assert 0 <= min(shares) < 1


def test_a_model_that_gives_no_text_is_not_judged(metrics, fake_editors):
    (found,) = metrics(fake_editors.MemoryEditor(fake_editors.FakeHParams()))
    assert {case["same_subject_kept"] for case in found} == {case["neighbourhood_kept"] for case in found} == {None}


def test_a_prompt_that_is_a_wording_of_an_edit_is_not_to_be_left_alone(records):
    first, second = (replace(one, relation_id="") for one in records[:2])
    asked = replace(first, same_subject_prompts=(second.query, second.paraphrase_prompts[0], "Who?"))
    assert Edited([asked, second]).same_subject(asked) == ("Who?",)
    (group,) = groups([asked], Edited([asked, second]))
    assert group[0] == "Who?"
    assert second.query not in group


class Clerk:
    """Says how often it was asked; ``told`` replaces some answers."""

    def __init__(self, told=()):
        self.told, self.calls = dict(told), []

    def answer_many(self, prompts, max_new_tokens):
        self.calls.append(tuple(prompts))
        return [self.told.get(prompt, f"as to {prompt}") for prompt in prompts]


def test_answers_are_asked_once_a_run_and_never_taken_from_another_model(plan, tmp_path):
    clerk, other = Clerk(), Clerk()
    several = plan(sizes=(4, 12))
    several.ask_before(clerk, None, BaseAnswers(tmp_path / "answers", "a"), ignore)
    assert len(clerk.calls) == 2  # the edits of four leave other prompts alone than those of twelve
    again = BaseAnswers(tmp_path / "answers", "a")
    several.ask_before(other, None, again, ignore)
    assert other.calls == []
    assert again.of(clerk.calls[1]) == [f"as to {prompt}" for prompt in clerk.calls[1]]
    several.ask_before(other, None, BaseAnswers(tmp_path / "answers", "b"), ignore)
    assert other.calls == clerk.calls
    for path in (tmp_path / "answers").iterdir():
        path.write_text('{"answers": [["only one"]]}')
    several.ask_before(clerk, None, BaseAnswers(tmp_path / "answers", "a"), ignore)
    assert len(clerk.calls) == 4


def test_each_record_is_given_its_own_prompts_and_no_text_is_no_answer(plan):
    asked = plan(count=3)
    before, edited = BaseAnswers(), asked.edited(3)
    asked.ask_before(Clerk(), None, before, ignore)
    question = asked.records[2].same_subject_prompts[0]
    found = untouched(Clerk({question: "mayor"}), None, asked.records, edited, before)
    assert [[one.kept for one in each.same_subject] for each in found] == [[True, True], [True, True], [False, True]]
    assert found[2].same_subject[0] == Answered(question, f"as to {question}", "mayor")
    assert [tuple(one.prompt for one in each.neighbourhood) for each in found] == [
        edited.neighbourhood(record) for record in asked.records
    ]
    silent = Answered("a", "", "word")
    assert kept.Untouched((silent, found[0].same_subject[0]), (silent,)).silence() == {"asked": 3, "silent": 2}
    assert not silent.kept
    assert untouched(object(), None, asked.records, edited, before)[0].same_subject == ()
    assert untouched(Clerk(), None, asked.records, edited, BaseAnswers())[0].same_subject == ()

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from kgt_editor.data.base import KnownFact
from kgt_editor.data.record import Record
from kgt_editor.evaluation.edited import Edited
from kgt_editor.evaluation.free_text import FreeText
from kgt_editor.evaluation.generated import Generated, Written
from kgt_editor.evaluation.kept import Answered, Untouched
from kgt_editor.evaluation.metrics import CaseScores, PromptScore, evaluate, recall
from kgt_editor.evaluation.scorer import scorer
from kgt_editor.lm.scoring import TargetScore, score_targets


def pair(new, true, greedy="", tokens=(1, 1)):
    return PromptScore(
        TargetScore(math.log(new), tokens[0], greedy == "new"), TargetScore(math.log(true), tokens[1], greedy == "true")
    )


def test_the_metrics_of_hand_made_probabilities_and_answers():
    case = CaseScores(
        edit=pair(0.6, 0.3, "new"),
        paraphrases=(pair(0.5, 0.2, "new"), pair(0.1, 0.2, "true"), pair(0.3, 0.2)),
        neighbourhood=(pair(0.1, 0.9, "true"), pair(0.2, 0.3), pair(0.8, 0.1, "new"), pair(0.1, 0.2, "true")),
        untouched=Untouched(
            (Answered("a", "weaver", "weaver"), Answered("b", "", ""), Answered("c", "Otto", "Otto Brun")),
            (Answered("d", "Norr", None), Answered("e", "Norr", "Norr. He"), Answered("f", "Norr. It", "Norr")),
        ),
        generated=Generated(
            Written("It is Quin, they say.", "Quin"), (Written("quin!", "Quin"), Written("Norrish. Quin", "Quin"))
        ),
        free_text=FreeText(("He wrote.",), 1.5, 0.25),
    )
    assert case.metrics() == {
        "efficacy_score": 1.0,
        "paraphrase_score": pytest.approx(2 / 3),
        "neighbourhood_score": 0.75,
        "efficacy_accuracy": 1.0,
        "paraphrase_accuracy": pytest.approx(1 / 3),
        "neighbourhood_accuracy": 0.5,
        "same_subject_kept": pytest.approx(2 / 3),
        "neighbourhood_kept": pytest.approx(2 / 3),
        "efficacy_exact": 0.0,
        "paraphrase_exact": 0.5,
        "efficacy_contained": 1.0,
        "paraphrase_contained": 0.5,
        "generation_entropy": 1.5,
        "reference_score": 0.25,
        "portability_accuracy": None,
        "portability_contained": None,
        "locality_accuracy": None,
        "locality_contained": None,
    }
    assert case.as_dict()["generated"] == ["It is Quin, they say.", "quin!", "Norrish. Quin"]
    assert case.as_dict()["neighbourhood_answers"][0] == {"prompt": "d", "before": "Norr", "now": None}


def test_a_case_without_such_prompts_has_no_such_metric():
    found = CaseScores(pair(0.1, 0.2), (), ()).metrics()
    assert found["efficacy_score"] == 0.0
    assert {name for name, value in found.items() if value is None} == {
        "paraphrase_score",
        "neighbourhood_score",
        "paraphrase_accuracy",
        "neighbourhood_accuracy",
        "same_subject_kept",
        "neighbourhood_kept",
        "efficacy_exact",
        "paraphrase_exact",
        "efficacy_contained",
        "paraphrase_contained",
        "generation_entropy",
        "reference_score",
        "portability_accuracy",
        "portability_contained",
        "locality_accuracy",
        "locality_contained",
    }


def test_a_long_answer_is_judged_per_token_or_in_all():
    case = CaseScores(pair(0.10, 0.20, tokens=(4, 1)), (), ())
    assert case.metrics("mean")["efficacy_score"] == 1.0
    assert case.metrics("sum")["efficacy_score"] == 0.0


def test_a_tie_is_no_win_and_no_loss():
    tie, win = pair(0.2, 0.2), pair(0.3, 0.2)
    found = CaseScores(tie, (tie, win), (tie,))
    assert found.metrics()["efficacy_score"] is found.metrics()["neighbourhood_score"] is None
    assert found.metrics()["paraphrase_score"] == 1.0
    assert found.metrics()["efficacy_accuracy"] == 0.0
    assert found.undecided() == {"asked": 4, "tied": 3, "not_finite": 0}
    # Uniform logits: the means differ in their last digits where one answer has more tokens.
    uniform = PromptScore(
        TargetScore(-3 * math.log(4097) * (1 + 1e-9), 3, False), TargetScore(-math.log(4097), 1, False)
    )
    assert uniform.tied("mean")
    assert not uniform.tied("sum")


def test_a_model_that_gives_nan_prefers_neither():
    nan = TargetScore(math.nan, 1, False)
    for score in (PromptScore(nan, nan), PromptScore(nan, TargetScore(-1.0, 1, False))):
        found = CaseScores(score, (), (score,))
        assert (found.metrics()["efficacy_score"], found.metrics()["neighbourhood_score"]) == (0.0, 0.0)
        assert found.undecided() == {"asked": 2, "tied": 0, "not_finite": 2}
    assert json.loads(json.dumps(PromptScore(nan, nan).as_dict(), allow_nan=False))["log_prob_new"] is None


RECORD = Record(
    case_id=1,
    subject="Ada Brun",
    relation_id="",
    prompt="{} speaks",
    target_new="Quin",
    target_true="Norrish",
    paraphrase_prompts=("At home Ada Brun spoke",),
    neighbourhood_prompts=("Runa Gildt speaks", "Sava Irk speaks"),
)
PROBABILITIES = {
    ("Ada Brun speaks", "Quin"): 0.9,
    ("Ada Brun speaks", "Norrish"): 0.1,
    ("At home Ada Brun spoke", "Quin"): 0.2,
    ("At home Ada Brun spoke", "Norrish"): 0.4,
    ("Runa Gildt speaks", "Quin"): 0.1,
    ("Runa Gildt speaks", "Norrish"): 0.8,
    ("Sava Irk speaks", "Quin"): 0.7,
    ("Sava Irk speaks", "Norrish"): 0.3,
}


def lookup(prompts, targets):
    return [
        TargetScore(math.log(PROBABILITIES[key]), 1, PROBABILITIES[key] > 0.5)
        for key in zip(prompts, targets, strict=True)
    ]


def test_every_prompt_of_a_record_meets_both_answers():
    (case,) = evaluate(lookup, [RECORD])
    assert list(case.metrics().values()) == [1.0, 0.0, 0.5, 1.0, 0.0, 0.5, *[None] * 12]


def test_a_neighbour_that_is_edited_itself_is_left_out():
    other = replace(RECORD, case_id=1, subject="Sava Irk", target_new="Plavic")
    first, second = evaluate(lookup, [RECORD, RECORD], Edited([RECORD, other]))
    assert first == second
    assert len(first.neighbourhood) == 1
    assert first.metrics()["neighbourhood_score"] == 1.0


def test_of_a_superseded_edit_only_the_neighbourhood_is_judged():
    again = replace(RECORD, case_id=2, target_new="Norrish", target_true="Quin")
    first, last = evaluate(lookup, [RECORD, again], Edited([RECORD, again]))
    assert first.metrics() == {
        "efficacy_score": None,
        "paraphrase_score": None,
        "neighbourhood_score": 0.5,
        "efficacy_accuracy": None,
        "paraphrase_accuracy": None,
        "neighbourhood_accuracy": 0.5,
        "same_subject_kept": None,
        "neighbourhood_kept": None,
        "efficacy_exact": None,
        "paraphrase_exact": None,
        "efficacy_contained": None,
        "paraphrase_contained": None,
        "generation_entropy": None,
        "reference_score": None,
        "portability_accuracy": None,
        "portability_contained": None,
        "locality_accuracy": None,
        "locality_contained": None,
    }
    assert first.as_dict()["superseded"] is True  # its raw numbers are kept
    assert first.edit == evaluate(lookup, [RECORD])[0].edit
    assert last.metrics()["efficacy_score"] == 0.0
    assert "superseded" not in last.as_dict()


def test_recall_is_greedy():
    assert recall(lookup, [KnownFact("Runa Gildt speaks", "Norrish"), KnownFact("Sava Irk speaks", "Norrish")]) == [
        True,
        False,
    ]


def test_a_model_with_its_own_way_of_answering_is_asked_that_way(tiny_gpt2):
    model, tok = tiny_gpt2
    plain = scorer(model, tok)(["Ada Brun speaks"], ["Quin"])
    assert plain == score_targets(model, tok, ["Ada Brun speaks"], ["Quin"])

    class Own:
        def score_targets(self, prompts, targets, batch_size):
            return [(prompts, targets, batch_size)]

    assert scorer(Own(), tok, batch_size=7)(["p"], ["t"]) == [(["p"], ["t"], 7)]


def test_a_model_that_scores_by_itself_chooses_its_batches_where_no_size_is_asked_for():
    class Own:
        def score_targets(self, prompts, targets, batch_size=3):
            return [batch_size]

    assert scorer(Own(), None)(["p"], ["t"]) == [3]


def test_without_an_answer_from_before_nothing_is_compared_with_it(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2
    records = [replace(tiny_records[0], target_true=""), tiny_records[1]]
    without, beside = evaluate(scorer(model, tok), records)
    assert without.edit.true is None
    assert without.metrics()["efficacy_score"] is without.metrics()["paraphrase_score"] is None
    assert without.metrics()["efficacy_accuracy"] is not None
    assert set(without.as_dict()["edit"]) == {"log_prob_new", "tokens_new", "greedy_new"}
    assert beside.metrics()["efficacy_score"] is not None
    (alone,) = evaluate(scorer(model, tok), records[1:])
    assert beside.edit.new.log_prob == pytest.approx(alone.edit.new.log_prob, abs=1e-5)

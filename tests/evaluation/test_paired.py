from __future__ import annotations

import time

import numpy as np
import pytest

from kgt_editor.evaluation.metrics import CaseScores, PromptScore
from kgt_editor.lm.scoring import TargetScore
from kgt_editor.results.paired import RESAMPLES, comparisons, paired_difference
from kgt_editor.results.schema import METRICS, CaseResult, CellResult
from kgt_editor.results.summary import CellNumbers


def by_seed(*seeds):
    return {seed: dict(enumerate(values)) for seed, values in enumerate(seeds)}


def test_two_cases_have_the_distribution_of_two_coins():
    """Differences 1 and 0: a resample's mean is 0, 1/2 or 1, with probabilities 1/4, 1/2 and 1/4."""
    found = paired_difference(by_seed([1.0, 0.5]), by_seed([0.0, 0.5]))
    assert (found.difference, found.low, found.high, found.cases) == (0.5, 0.0, 1.0, 2)
    assert found.p == pytest.approx(2 * 0.25, abs=4 * 2 * (0.25 * 0.75 / RESAMPLES) ** 0.5)


def test_seeds_are_kept_and_cases_drawn_within_each():
    """Each seed has one case, so there is nothing to draw; two seeds count alike, whatever their number of cases."""
    found = paired_difference(by_seed([1.0], [0.0]), by_seed([0.0], [0.5]))
    assert (found.difference, found.low, found.high) == (0.25, 0.25, 0.25)
    uneven = paired_difference(by_seed([1.0] * 9, [0.0]), by_seed([0.0] * 9, [0.0]))
    assert (uneven.difference, uneven.low, uneven.high, uneven.cases) == (0.5, 0.5, 0.5, 10)


def test_identical_editors_do_not_differ():
    values = by_seed(list(np.random.default_rng(1).random(50)), [0.1, 0.7])
    found = paired_difference(values, values)
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_difference_on_every_case_is_as_sure_as_the_resamples_allow():
    found = paired_difference(by_seed([1.0] * 20), by_seed([0.0] * 20))
    assert (found.low, found.high) == (1.0, 1.0)
    assert found.p == pytest.approx(2 / (RESAMPLES + 1))


def test_it_is_the_bootstrap_of_drawing_cases_and_turns_around():
    generator = np.random.default_rng(2)
    left, right = generator.choice([0.0, 0.5, 1.0], 200), generator.choice([0.0, 0.5, 1.0], 200, p=[0.4, 0.3, 0.3])
    found, turned = (paired_difference(by_seed(a), by_seed(b)) for a, b in ((left, right), (right, left)))
    drawn = generator.choice(left - right, size=(20_000, 200)).mean(axis=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01)
    assert found.p == pytest.approx(2 * min((drawn <= 0).mean(), (drawn >= 0).mean()), abs=0.02)
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.low == pytest.approx(-found.high, abs=0.01)


def test_pairing_takes_out_what_the_cases_share():
    """One editor is better by the same little on every case, however much cases differ."""
    hard = np.random.default_rng(3).random(100)
    found = paired_difference(by_seed(hard + 0.01), by_seed(hard))
    assert (found.low, found.high) == pytest.approx((0.01, 0.01))


def test_only_cases_that_both_have_count():
    found = paired_difference({0: {1: 1.0, 2: 1.0}, 1: {1: 1.0}}, {0: {2: 0.0, 3: 1.0}, 2: {1: 0.0}})
    assert (found.difference, found.cases) == (1.0, 1)
    assert paired_difference({0: {1: 1.0}}, {0: {2: 1.0}}) is None
    assert paired_difference({}, {}) is None


def test_twenty_thousand_cases_take_no_time():
    generator = np.random.default_rng(4)
    values = [by_seed(generator.integers(0, 11, 21_919) / 10) for _ in range(2)]
    start = time.process_time()
    paired_difference(*values)
    assert time.process_time() - start < 1


def cell(editor, seed, hits, recalled):
    def scores(right):
        new, true = TargetScore(-1.0, 1, right), TargetScore(-2.0 if right else -0.5, 1, not right)
        return CaseScores(PromptScore(new, true), (PromptScore(new, true),), ())

    cases = [CaseResult(number, number, 0.1, None, scores(right)) for number, right in enumerate(hits)]
    made = CellResult(editor, seed, 2, [*cases, CaseResult(99, 99, None, "stopped", None)], recalled, 1)
    return CellNumbers.of(made, "mean")


def test_every_editor_is_compared_with_kgt_in_every_metric():
    cells = {
        "none": [cell("none", 0, [False, False], [True, True])],
        "kgt": [cell("kgt", 0, [True, True], [True, True])],
        "rome": [cell("rome", 0, [True, True], [True, False]), cell("rome", 1, [False, False], [False])],
        "mend": [],
    }
    found = comparisons({(name, 2): own for name, own in cells.items()} | {("rome", 5): cells["rome"]})
    assert (found["reference"], found["resamples"]) == ("kgt", RESAMPLES)
    # Of the reference there is nothing at 5 edits.
    assert [(row["editor"], row["size"]) for row in found["rows"]] == [("none", 2), ("rome", 2)]
    none, rome = (row["metrics"] for row in found["rows"])
    assert set(none) == set(rome) == set(METRICS)
    assert none["efficacy_score"]["difference"] == -1.0
    assert none["neighbourhood_score"] is None
    assert (rome["efficacy_score"]["difference"], rome["efficacy_score"]["cases"]) == (0.0, 2)
    assert rome["unedited_recall"]["difference"] == -0.5
    two, five = found["best"]
    assert (two["size"], five["size"]) == (2, 5)
    assert two["metrics"]["efficacy_score"]["editor"] == "kgt"
    assert set(two["metrics"]["efficacy_score"]["p"]) == {"rome"}  # the row without edits takes no part
    assert two["metrics"]["efficacy_score"]["p"]["rome"] == rome["efficacy_score"]["p"]
    assert two["metrics"]["neighbourhood_score"] is None
    assert five["metrics"]["efficacy_score"] == {"editor": "rome", "p": {}}
    assert comparisons({(name, 2): cells[name] for name in ("none", "rome")})["reference"] == "none"
    assert comparisons({("none", 2): cells["none"], ("mend", 2): []}) is None

from __future__ import annotations

import math

import numpy as np
import pytest

from kgt_editor.results.statistics import (
    Interval,
    forwards,
    latency,
    mean_interval,
    no_narrower,
    share_interval,
    t_quantile,
)


# Two-sided 95 % points of Student's t from the usual printed table.
@pytest.mark.parametrize(
    ("degrees", "printed"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (30, 2.042)]
)
def test_t_quantiles_are_those_of_the_table(degrees, printed):
    assert t_quantile(0.975, degrees) == pytest.approx(printed, abs=5e-4)


# Wilson's interval of x of n, from the worked examples and tables of Newcombe (1998) and Brown et al. (2001).
@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_one_seed_gives_wilsons_interval(hits, count, low, high):
    found = share_interval([[1.0] * hits + [0.0] * (count - hits)])
    assert (found.mean, found.low, found.high) == pytest.approx((hits / count, low, high), abs=1e-4)


def test_several_seeds_are_drawn_and_their_cases_too():
    seeds = [[1.0] * 90 + [0.0] * 10, [1.0] * 60 + [0.0] * 40, [1.0] * 75 + [0.0] * 25]
    found = share_interval(seeds)
    generator = np.random.default_rng(1)
    draws = [
        np.mean([generator.choice(seeds[seed], size=100).mean() for seed in generator.integers(3, size=3)])
        for _ in range(5000)
    ]
    assert found.mean == pytest.approx(0.75)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.015)
    assert share_interval(seeds) == found


def test_seeds_that_agree_are_not_surer_than_their_cases():
    one, three = share_interval([[1.0] * 20]), share_interval([[1.0] * 20] * 3)
    assert (three.mean, three.low, three.high) == (1.0, one.low, 1.0)  # the same twenty cases
    assert share_interval([[1.0] * 20] * 3, distinct=60).low > three.low


def test_an_interval_of_an_earlier_version_is_widened_where_it_has_no_width():
    found = no_narrower(Interval(1.0, 1.0, 1.0), 10)
    assert (found.low, found.high) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert no_narrower(Interval(0.5, 0.0, 1.0), 10) == Interval(0.5, 0.0, 1.0)


def test_shares_of_several_prompts_count_as_one_case_each():
    whole, parts = share_interval([[1.0, 0.0] * 10]), share_interval([[0.5] * 20])
    assert parts == whole


def test_shares_stay_between_zero_and_one():
    found = share_interval([[1.0], [0.0]])
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_a_mean_of_seconds_has_a_t_interval_over_seeds_or_over_edits():
    found = mean_interval([[1.0, 3.0], [3.0, 5.0], [5.0, 7.0]])
    half = 4.303 * 2 / math.sqrt(3)
    assert (found.mean, found.low, found.high) == pytest.approx((4.0, 4 - half, 4 + half), abs=1e-3)
    one = mean_interval([[1.0, 2.0, 3.0]])
    assert one.high - one.mean == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert mean_interval([[2.0]]).as_dict() == {"mean": 2.0, "low": 2.0, "high": 2.0}
    assert mean_interval([[]]) is None


def test_none_at_all_gives_none():
    assert share_interval([[], []]) is None
    assert share_interval([]) is None


def test_latency_pools_the_seeds_and_compares_first_and_last_edits():
    found = latency([[float(second) for second in range(1, 21)], [21.0] * 20])
    assert found["p50"] == pytest.approx(20.5)
    assert found["p95"] == 21.0
    assert found["mean"] == pytest.approx((210 + 420) / 40)
    assert found["first_tenth_p50"] == pytest.approx((2 + 21) / 2)
    assert found["last_tenth_p50"] == pytest.approx(20.5 + 0.0)
    assert latency([[0.5]])["last_tenth_p50"] == 0.5
    assert latency([[]]) is None


def test_every_latency_is_a_number_of_forward_passes_too():
    found = forwards({"p50": 0.2, "p95": 0.5}, 0.1)
    assert found == {"p50": pytest.approx(2.0), "p95": pytest.approx(5.0)}
    assert forwards(None, 0.1) is None

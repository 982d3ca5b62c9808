"""Equations 1 and 3 to 7 against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import objective
from kgt_editor.kgt.objective import ScoredEdit, ScoredTriple
from kgt_editor.lm.scoring import TargetScore


def scored(tail: str, retrieval: float, reasoning: float, relation: str = "likes") -> ScoredTriple:
    """A triple with P(r|T_retrieve) and P(a|q,z); greedy from one half on."""
    return ScoredTriple(Triple("dog", relation, tail), math.log(retrieval), math.log(reasoning), reasoning >= 0.5)


MEAT = scored("meat", 0.6, 0.1)
VEGETABLES = scored("vegetables", 0.2, 0.9, "enjoys")
ANIMAL = scored("animal", 0.01, 0.05, "is")
PLAIN = TargetScore(math.log(0.04), 1, False)


def problem(*present: ScoredTriple) -> ScoredEdit:
    return ScoredEdit((VEGETABLES,), present, PLAIN)


def test_retrieval_is_renormalised_over_the_graph() -> None:
    found = [math.exp(value) for value in objective.retrieval_log_probs([MEAT, VEGETABLES])]
    assert found == pytest.approx([0.75, 0.25])
    assert objective.retrieval_log_probs([]) == []


def test_losses_with_k_of_two() -> None:
    proposals = [VEGETABLES, scored("vegetables", 0.2, 0.5, "eats")]
    # Only the first proposal is in the graph: P(z|q) = 1/4; the other one's is floored.
    retrieve = -(math.log(0.25) + math.log(1e-9)) / 2
    reasoning = -(math.log(0.9) + math.log(0.5)) / 2
    assert objective.retrieve_loss(proposals, [MEAT, VEGETABLES], 1e-9) == pytest.approx(retrieve)
    assert objective.reasoning_loss(proposals) == pytest.approx(reasoning)
    assert objective.loss(proposals, [MEAT, VEGETABLES], 1e-9) == pytest.approx(retrieve + reasoning)


def test_the_loss_of_an_empty_graph_is_the_floors() -> None:
    assert objective.loss([VEGETABLES], [], 1e-3) == pytest.approx(-math.log(1e-3) - math.log(0.9))


def test_the_answer_is_summed_over_the_graph() -> None:
    found = objective.answer_log_prob(problem(), [MEAT, VEGETABLES], 0.0)
    assert math.exp(found) == pytest.approx(0.75 * 0.1 + 0.25 * 0.9)


def test_the_guard_leaves_triples_out_and_the_plain_model_in() -> None:
    found = objective.answer_log_prob(problem(), [VEGETABLES, ANIMAL], 0.05)
    assert math.exp(found) == pytest.approx(0.9)
    assert math.exp(objective.answer_log_prob(problem(), [ANIMAL], 0.05)) == pytest.approx(0.04)
    assert math.exp(objective.answer_log_prob(problem(), [], 0.0)) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("graph", "inference", "right"),
    [
        ([MEAT, VEGETABLES], "top1", False),
        ([VEGETABLES], "top1", True),
        ([MEAT, VEGETABLES], "marginal", False),
        ([VEGETABLES, ANIMAL], "marginal", True),
        ([], "top1", False),
        # Equally probable: the later one is read.
        ([scored("meat", 0.2, 0.1), VEGETABLES], "top1", True),
        ([VEGETABLES, scored("meat", 0.2, 0.1)], "top1", False),
        ([VEGETABLES, scored("meat", 0.2, 0.1)], "marginal", False),
    ],
)
def test_whether_the_model_answers_right(graph: list[ScoredTriple], inference: str, right: bool) -> None:
    assert objective.answers_right(problem(), graph, 0.0, inference) is right


def test_the_plain_answer_counts_where_no_triple_is_usable() -> None:
    knows = ScoredEdit((VEGETABLES,), (), TargetScore(0.0, 1, True))
    assert objective.answers_right(knows, [ANIMAL], 0.05, "top1")
    assert not objective.answers_right(knows, [ANIMAL], 0.0, "top1")


def test_log_sum_exp_of_small_and_of_no_values() -> None:
    assert objective.log_sum_exp([-1000.0, -1000.0]) == pytest.approx(-1000 + math.log(2))
    assert objective.log_sum_exp([]) == -math.inf
    assert objective.log_sum_exp([-math.inf]) == -math.inf


def test_a_relation_that_longer_ones_begin_with_keeps_only_what_they_leave() -> None:
    known = ["is", "is a", "is a citizen of", "is a member of", "is as big as", "isolates", "has"]
    going_on = objective.longer(["is", "is a", "has"], known)
    assert going_on == {"is": ["is a", "is as big as"], "is a": ["is a member of", "is a citizen of"], "has": []}
    shares = {"is": 0.5, "is a": 0.3, "is as big as": 0.1, "is a member of": 0.05, "is a citizen of": 0.2, "has": 0.4}
    found = objective.ended({name: math.log(share) for name, share in shares.items()}, going_on)
    assert {name: math.exp(value) for name, value in found.items()} == pytest.approx(
        {"is": 0.1, "is a": 0.05, "has": 0.4}
    )
    # Where rounding leaves nothing, the relation is as good as never meant, and still a number.
    tiny = objective.ended({"is": math.log(0.5), "is a": math.log(0.5)}, {"is": ["is a"]})
    assert tiny["is"] == pytest.approx(math.log(0.5e-6))

"""Both optimisers against traces worked out by hand from chosen probabilities."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgt_editor.graph.triple import Triple
from kgt_editor.kgt import objective
from kgt_editor.kgt.hparams import KGTHyperParams
from kgt_editor.kgt.objective import ScoredEdit, ScoredTriple
from kgt_editor.kgt.optimizer import OPTIMIZERS, Solution, algorithm1, greedy
from kgt_editor.lm.scoring import TargetScore

FLOOR = 1e-9


def scored(name: str, retrieval: float, reasoning: float) -> ScoredTriple:
    """A triple called by its tail, with P(r|T_retrieve) and P(a|q,z); greedy from one half on."""
    return ScoredTriple(Triple("dog", f"r-{name}", name), math.log(retrieval), math.log(reasoning), reasoning >= 0.5)


def problem(proposals: list[ScoredTriple], present: list[ScoredTriple], plain: float = 0.01) -> ScoredEdit:
    return ScoredEdit(tuple(proposals), tuple(present), TargetScore(math.log(plain), 1, plain >= 0.5))


def trace(solution: Solution) -> list[str]:
    return [("+" if step.operation == "add" else "-") + step.triple.tail for step in solution.steps]


def left(solution: Solution) -> set[str]:
    return {z.triple.tail for z in solution.graph}


def paper(**values: object) -> KGTHyperParams:
    return KGTHyperParams.build({"optimizer": "algorithm1", "stop": "loss", "retrieval_min": 0, **values}, "test")


# H: h1 is the better reader, h2 the second; G: g1 reads worst and is removed first.
H1, H2 = scored("h1", 0.4, 0.9), scored("h2", 0.2, 0.6)
G1, G2 = scored("g1", 0.3, 0.05), scored("g2", 0.1, 0.2)


def hand_loss(*weights: float) -> float:
    """Eq. 7 for H = {h1, h2} with the given P(z|q)."""
    return -(sum(math.log(weight) for weight in weights) + math.log(0.9) + math.log(0.6)) / 2


def test_algorithm1_alternates_adds_and_removes_with_the_losses_of_eq_7() -> None:
    solution = algorithm1(problem([H2, H1], [G2, G1]), paper(epsilon=0.1))
    assert trace(solution) == ["+h1", "-g1", "+h2", "-g2"]
    assert [step.loss for step in solution.steps] == pytest.approx(
        [
            hand_loss(0.4 / 0.8, FLOOR),
            hand_loss(0.4 / 0.5, FLOOR),
            hand_loss(0.4 / 0.7, 0.2 / 0.7),
            hand_loss(0.4 / 0.6, 0.2 / 0.6),
        ]
    )
    assert left(solution) == {"h1", "h2"}
    assert not solution.done


def test_algorithm1_breaks_after_the_add_that_lowers_the_loss_enough() -> None:
    bound = hand_loss(0.4 / 0.7, 0.2 / 0.7)
    solution = algorithm1(problem([H1, H2], [G1, G2]), paper(epsilon=bound + 1e-9))
    assert trace(solution) == ["+h1", "-g1", "+h2"]
    assert solution.done
    assert left(solution) == {"h1", "h2", "g2"}


def test_algorithm1_breaks_after_the_remove_that_lowers_the_loss_enough() -> None:
    solution = algorithm1(problem([H1], [G1, G2]), paper(epsilon=-math.log(0.9 * 0.4 / 0.5) + 1e-9))
    assert trace(solution) == ["+h1", "-g1"]
    assert left(solution) == {"h1", "g2"}
    assert solution.done


def test_algorithm1_goes_on_with_what_is_left_when_one_list_is_used_up() -> None:
    more = scored("g3", 0.1, 0.3)
    assert trace(algorithm1(problem([H1], [G1, G2, more]), paper(epsilon=0.0))) == ["+h1", "-g1", "-g2", "-g3"]
    assert trace(algorithm1(problem([H1, H2], []), paper(epsilon=0.0))) == ["+h1", "+h2"]


def test_algorithm1_with_the_stop_of_the_prose_ends_at_the_right_answer() -> None:
    # After +h1 the most probable triple is h1 (.4 > .3 > .1), which answers right.
    solution = algorithm1(problem([H1, H2], [G1, G2]), paper(stop="answer"))
    assert trace(solution) == ["+h1"]
    # A stronger old triple has to go first, and it goes second because it reads better than g1.
    strong = scored("strong", 0.7, 0.2)
    solution = algorithm1(problem([H1, H2], [strong, G1]), paper(stop="answer"))
    assert trace(solution) == ["+h1", "-g1", "+h2", "-strong"]
    assert solution.done


def test_algorithm1_with_both_stops_needs_both() -> None:
    bound = -math.log(0.9 * 0.4 / 0.5) + 1e-9
    assert trace(algorithm1(problem([H1], [G1, G2]), paper(stop="both", epsilon=bound))) == ["+h1", "-g1"]
    assert not algorithm1(problem([H1], [G1, G2]), paper(stop="both", epsilon=0.05)).done


def test_algorithm1_as_printed_removes_a_restated_triple() -> None:
    solution = algorithm1(problem([H1, H2], [H1]), paper(epsilon=0.1))
    assert trace(solution) == ["+h1", "-h1", "+h2"]
    assert left(solution) == {"h2"}


def test_greedy_takes_the_move_that_raises_the_answer_most() -> None:
    # eq. 1: G alone .3*.05/.4 + .1*.2/.4 = .0875. +h1 gives (.36 + .015 + .02)/.8 = .494; then -g1 gives
    # (.36 + .02)/.5 = .76, which is -log = .27 <= .5.
    solution = greedy(problem([H1], [G1, G2]), KGTHyperParams())
    assert trace(solution) == ["+h1", "-g1"]
    assert [math.exp(-step.loss) for step in solution.steps] == pytest.approx([0.395 / 0.8, 0.76])
    assert solution.done
    assert left(solution) == {"h1", "g2"}


def test_greedy_keeps_the_users_other_facts() -> None:
    others = [scored(f"other{number}", 0.001, 0.01) for number in range(5)]
    solution = greedy(problem([H1], [*others, G1]), KGTHyperParams())
    assert trace(solution) == ["+h1", "-g1"]
    assert {z.triple.tail for z in others} < left(solution)


@pytest.mark.parametrize("stop", ["loss", "answer", "both"])
def test_greedy_leaves_a_restated_answer_alone(stop: str) -> None:
    settings = KGTHyperParams.build({"stop": stop}, "test")
    assert greedy(problem([H1], [H1]), settings) == Solution((), (H1,), True)


def test_greedy_stores_what_the_model_says_already() -> None:
    solution = greedy(problem([H1], [], plain=0.9), KGTHyperParams())
    assert trace(solution) == ["+h1"]


def test_greedy_with_stop_answer_ends_earlier_than_with_loss() -> None:
    # After +h1 the top triple answers right, but P(a|q) is .494 only.
    assert trace(greedy(problem([H1], [G1, G2]), KGTHyperParams(stop="answer"))) == ["+h1"]
    assert trace(greedy(problem([H1], [G1, G2]), KGTHyperParams(stop="loss"))) == ["+h1", "-g1"]


def test_greedy_stores_an_answer_that_gains_nothing_and_stops_there() -> None:
    weak, weaker = scored("weak", 0.4, 0.015), scored("weaker", 0.3, 0.001)
    solution = greedy(problem([weaker, weak], [G1]), KGTHyperParams(min_gain=0.02))
    assert trace(solution) == ["+weak"]
    assert not solution.done
    assert left(solution) == {"g1", "weak"}


def test_greedy_takes_away_what_the_answer_replaces() -> None:
    before = problem([H1], [G1, G2])
    replaced = ScoredEdit(before.proposals, before.present, before.plain, replaced=(before.present[1],))
    solution = greedy(replaced, KGTHyperParams(stop="answer"))
    assert trace(solution) == ["+h1", "-g2"]


def test_by_similarity_the_likeliest_triple_is_read_and_the_rest_is_the_plain_models() -> None:
    unsure, sure = scored("unsure", 0.2, 0.9), scored("sure", 0.6, 0.5)
    case = ScoredEdit((unsure,), (sure,), problem([H1], []).plain, absolute=True)
    assert objective.answer_log_prob(case, [unsure, sure], 0.05) == sure.reasoning
    assert objective.answer_log_prob(case, [unsure], 0.3) == case.plain.log_prob


def test_greedy_does_not_count_on_triples_that_the_guard_leaves_out() -> None:
    hidden = scored("hidden", 0.01, 0.95)
    guarded = greedy(problem([hidden], []), KGTHyperParams(retrieval_min=0.05))
    assert (trace(guarded), guarded.done) == (["+hidden"], False)  # stored, not followed
    assert trace(greedy(problem([hidden], []), KGTHyperParams(retrieval_min=0))) == ["+hidden"]


PROBABILITY = st.floats(0.001, 0.999)
SCORED = st.builds(scored, st.sampled_from("abcdefgh"), PROBABILITY, PROBABILITY)
DISTINCT = st.lists(SCORED, max_size=5, unique_by=lambda z: z.triple)


@given(proposals=DISTINCT.filter(len), present=DISTINCT, plain=PROBABILITY, name=st.sampled_from(sorted(OPTIMIZERS)))
def test_any_solution_is_what_its_steps_make_of_the_graph(
    proposals: list[ScoredTriple], present: list[ScoredTriple], plain: float, name: str
) -> None:
    known = {z.triple: z for z in proposals}
    case = problem(proposals, [known.get(z.triple, z) for z in present], plain)
    settings = KGTHyperParams(retrieval_min=0.0)
    solution = OPTIMIZERS[name](case, settings)
    graph = {z.triple for z in present}
    for step in solution.steps:
        graph = graph | {step.triple} if step.operation == "add" else graph - {step.triple}
    assert graph == {z.triple for z in solution.graph}
    assert len(solution.steps) <= len(proposals) + len(present)
    if name == "greedy":
        before = objective.answer_log_prob(case, case.present, 0.0)
        after = objective.answer_log_prob(case, solution.graph, 0.0)
        told = {z.triple for z in case.proposals}
        assert told & {z.triple for z in solution.graph}
        if {z.triple for z in case.present} & told:  # else the first step is made whatever it gains
            assert math.exp(after) >= math.exp(before) + 0.02 * len(solution.steps) - 1e-9

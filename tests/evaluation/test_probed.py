"""Other questions than the edit's own: what is carried along, what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kgt_editor.data.record import Probe
from kgt_editor.evaluation.edited import Edited
from kgt_editor.evaluation.metrics import evaluate
from kgt_editor.evaluation.probed import Probed, ask, by_kind, counted
from kgt_editor.evaluation.scorer import scorer
from kgt_editor.lm.scoring import score_targets

ALIAS = Probe("Subject_Aliasing", "The mother tongue of A. Brun is", ("Norrish", "the Norrish language"), carried=True)
OTHER = Probe("Forgetfulness", "Ada Brun also speaks", ("Tarsil",), carried=False)


class Told:
    """A model that writes one text to every prompt."""

    def __init__(self, text: str) -> None:
        self.text = text

    def answer_many(self, prompts, max_new_tokens):
        return [self.text] * len(prompts)


@pytest.mark.parametrize(
    ("text", "right"),
    [("Norrish.", True), ("It is the Norrish language. Tarsil", True), ("Tarsil. Norrish", False), (None, None)],
)
def test_any_right_answer_in_the_first_sentence_counts(text, right):
    assert Probed(ALIAS, False, text).contains is right


def test_every_question_is_asked_of_its_own_record(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2
    records = [
        replace(tiny_records[0], probes=(ALIAS, OTHER)),
        tiny_records[1],
        replace(tiny_records[2], probes=(OTHER,)),
    ]
    found = ask(scorer(model, tok), model, tok, records, Edited(records))
    assert [[one.probe for one in each] for each in found] == [[ALIAS, OTHER], [], [OTHER]]
    scored = score_targets(model, tok, [ALIAS.prompt, OTHER.prompt], ["Norrish", "Tarsil"])
    assert [one.greedy for one in found[0]] == [one.greedy for one in scored]
    assert all(isinstance(one.text, str) for each in found for one in each)


def test_metrics_tell_both_sides_apart_and_a_superseded_edit_carries_nothing(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2
    (case,) = evaluate(scorer(model, tok), tiny_records[:1])
    case = replace(
        case, probed=(Probed(ALIAS, True, "Tarsil"), Probed(ALIAS, False, "Norrish"), Probed(OTHER, False, "Tarsil"))
    )
    metrics = case.metrics()
    assert (metrics["portability_accuracy"], metrics["portability_contained"]) == (0.5, 0.5)
    assert (metrics["locality_accuracy"], metrics["locality_contained"]) == (0.0, 1.0)
    assert (
        case.kinds()
        == by_kind(case.probed)
        == {
            "portability: Subject_Aliasing": {"asked": 2, "greedy": 1, "contains": 1},
            "locality: Forgetfulness": {"asked": 1, "greedy": 0, "contains": 1},
        }
    )
    assert case.as_dict()["kinds"] == case.kinds()
    assert [line["prompt"] for line in case.as_dict()["probes"]] == [ALIAS.prompt, ALIAS.prompt, OTHER.prompt]
    later = replace(case, superseded=True)
    assert later.metrics()["portability_accuracy"] is None
    assert later.metrics()["locality_contained"] == 1.0
    assert list(later.kinds()) == ["locality: Forgetfulness"]


def test_a_model_without_text_is_judged_by_probability_alone(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2
    record = replace(tiny_records[0], probes=(ALIAS,))

    class Mute:
        config = model.config

        def score_targets(self, prompts, targets):
            return score_targets(model, tok, prompts, targets)

    ((found,),) = ask(scorer(Mute(), tok), Mute(), tok, [record], Edited([record]))
    assert found.text is found.contains is None
    ((found,),) = ask(scorer(model, tok), Told("Norrish"), tok, [record], Edited([record]))
    assert found.contains


def test_a_question_is_asked_once_all_its_edits_are_in_force(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2
    first, second = (record.case_id for record in tiny_records[:2])
    far = replace(ALIAS, needs=(first, second))
    records = [tiny_records[0], replace(tiny_records[1], probes=(far, OTHER))]
    score = scorer(model, tok)

    def asked(edited):
        return [one.probe for one in ask(score, model, tok, records, edited)[1]]

    assert asked(Edited(records)) == [far, OTHER]
    assert asked(Edited(records[1:])) == [OTHER]
    assert asked(Edited(records, one_by_one=True)) == [OTHER]


def test_wordings_of_one_question_count_once():
    wordings = [replace(ALIAS, prompt=f"Wording {number}", group="7") for number in range(3)]
    texts = ["Tarsil.", "It is Norrish.", "Tarsil."]
    found = [Probed(probe, False, text) for probe, text in zip(wordings, texts, strict=True)]
    found += [Probed(replace(ALIAS, group="8"), True, None), Probed(OTHER, False, "Norrish.")]
    assert [(one.greedy, one.contains) for one in counted(found)] == [(False, True), (True, None), (False, False)]
    assert by_kind(found) == {
        "portability: Subject_Aliasing": {"asked": 2, "greedy": 1, "contains": 1},
        "locality: Forgetfulness": {"asked": 1, "greedy": 0, "contains": 0},
    }


def test_a_model_that_takes_relations_is_told_those_of_a_question(tiny_gpt2, tiny_records):
    model, tok = tiny_gpt2

    class Listening(Told):
        takes_relations = True

        def __init__(self):
            super().__init__("Norrish")
            self.named = {}

        def name_relations(self, prompt, relations):
            self.named[prompt] = relations

    listening = Listening()
    records = [replace(tiny_records[0], probes=(replace(ALIAS, relations=("P103",)), OTHER))]
    ask(scorer(model, tok), listening, tok, records, Edited(records))
    assert listening.named == {ALIAS.prompt: ("P103",), OTHER.prompt: ()}

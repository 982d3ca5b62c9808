"""KN leaves out the neurons that a relation's facts share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from editor_builders import kn_hparams

from kgt_editor.editors.kn.editor import KNEditor, apply_kn_to_model
from kgt_editor.editors.kn.shared import facts_by_relation, shared_by_relation
from kgt_editor.errors import KgtError
from kgt_editor.requests import EditRequest

LM = tuple[Any, Any]


def test_facts_are_those_of_named_relations_of_each_subject_one(tiny_records: Any) -> None:
    records = [replace(one, relation_id="") if one.relation == "P19" else one for one in tiny_records]
    found = facts_by_relation(records, 3)
    assert "" not in found
    assert "P19" not in found
    for relation, requests in found.items():
        assert 0 < len(requests) <= 3
        assert len({request.subject for request in requests}) == len(requests)
        assert all(request.relations[0].startswith(relation) for request in requests)


def test_a_neuron_of_more_than_the_share_is_shared(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setenv("KGT_EDITOR_CACHE", str(tmp_path))
    facts = {"P1": [EditRequest("r", f"fact {number}", "", "x", "y") for number in range(10)]}
    neurons = {f"fact {number}": [(0, number), (1, 7)] if number < 2 else [(0, number)] for number in range(10)}
    neurons["fact 9"] = []  # a fact none of whose neurons pass the thresholds counts too
    asked: list[str] = []

    def neurons_of(request: EditRequest) -> list[tuple[int, int]]:
        asked.append(request.prompt)
        return neurons[request.prompt]

    told: list[tuple[int, int]] = []
    found = shared_by_relation(facts, neurons_of, 0.1, ["k"], lambda _, done, total: told.append((done, total)))
    assert found == {"P1": frozenset({(1, 7)})}  # two of ten; a neuron of one of ten is no more than a tenth
    assert told[-1] == (10, 10)
    asked.clear()
    assert shared_by_relation(facts, neurons_of, 0.1, ["k"]) == found
    assert asked == []  # from the cache
    assert shared_by_relation(facts, neurons_of, 0.2, ["k"]) == {"P1": frozenset()}
    assert shared_by_relation(facts, neurons_of, 0.1, ["other weights"]) == found
    assert len(asked) == 20


@pytest.fixture
def request_of(tiny_records: Any) -> dict[str, Any]:
    return dict(tiny_records[0].request())


def test_an_edit_leaves_shared_neurons_alone(tiny_gpt2: LM, request_of: dict[str, Any], monkeypatch: Any) -> None:
    model, tok = tiny_gpt2
    parsed = EditRequest.parse(request_of)
    every = KNEditor(kn_hparams(model)).knowledge_neurons(model, tok, parsed)
    assert len(every) > 1
    relation = parsed.relations[0].partition("(")[0]
    editor = KNEditor(kn_hparams(model, shared_share=0.1))
    editor._shared[model] = {relation: frozenset(every[:1])}
    assert editor.knowledge_neurons(model, tok, parsed) == every[1:]
    editor._shared[model] = {relation: frozenset(every)}
    with pytest.raises(KgtError, match="more than 10% of the facts of 'P19' have every neuron that speaks for"):
        editor.apply(model, tok, [request_of])


def test_without_training_facts_nothing_is_left_out_and_that_is_said(
    tiny_gpt2: LM, request_of: dict[str, Any], capsys: Any
) -> None:
    from kgt_editor.notice import tell

    tell.cache_clear()
    model, tok = tiny_gpt2
    every = KNEditor(kn_hparams(model)).knowledge_neurons(model, tok, EditRequest.parse(request_of))
    editor = KNEditor(kn_hparams(model, shared_share=0.1))
    assert editor.knowledge_neurons(model, tok, EditRequest.parse(request_of)) == every
    assert "no training fact of relation 'P19' is known" in capsys.readouterr().err


def test_preparing_and_the_call_form_find_them_in_the_training_records(
    tiny_gpt2: LM, tiny_records: Any, request_of: dict[str, Any]
) -> None:
    model, tok = tiny_gpt2
    editor = KNEditor(kn_hparams(model, shared_share=0.1, relation_facts=2))
    editor.prepare(model, tok, tiny_records)
    facts = facts_by_relation(tiny_records, 2)
    assert set(editor._shared[model]) == set(facts)
    unfiltered = KNEditor(kn_hparams(model))
    first = facts["P19"]
    wanted = {neuron for one in first for neuron in unfiltered.knowledge_neurons(model, tok, one)}
    assert editor._shared[model]["P19"] == wanted  # of two facts, one is more than a tenth
    with pytest.raises(KgtError, match="have every neuron"):
        apply_kn_to_model(model, tok, [request_of], editor.hparams, train_ds=tiny_records)

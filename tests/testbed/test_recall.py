"""Recall of taught facts in the words of a CounterFact file."""

from __future__ import annotations

import json

from kgt_editor.data import world
from kgt_editor.data.record import Record
from kgt_editor.testbed.recall import main, taught_records


def record(fact, number=0, relation_id="", **changes):
    values = {"subject": fact.subject, "target_true": fact.object, "target_new": "x", "prompt": "{} is"} | changes
    return Record(case_id=number, relation_id=relation_id, **values)


def test_only_facts_of_the_world_count_as_taught():
    fact = next(f for f in world.book().facts if len(world.book().by_subject[f.subject]) == 1)
    ((_, relation),) = taught_records([record(fact)])
    assert relation == fact.relation
    assert taught_records([record(fact, relation_id=f"{fact.relation}(a label)")])
    assert taught_records([record(fact, relation_id="P99999")]) == []
    assert taught_records([record(fact, target_true="nowhere")]) == []


def test_facts_asked_in_trained_sentences_are_recalled(tmp_path, capsys):
    rows = [
        {
            "case_id": number,
            "subject": fact.subject,
            "relation_id": fact.relation,
            "prompt": world.book().prompt(fact).replace("{}", fact.subject),
            "ground_truth": fact.object,
            "target_new": world.book().counterfactual_object(fact),
            "rephrase_prompt": f"Nonsense about {fact.subject} is zzz",
        }
        for number, fact in enumerate(world.book().facts[:120])
    ]
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(rows))
    assert main(["--model", "testbed-gpt2", "--data", str(path), "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["facts"] == 120
    assert report["recall"]["edit_prompts"]["share"] > 0.95
    assert report["recall"]["paraphrase_prompts"]["share"] < 0.9
    assert 10 < report["recall"]["held_out"]["prompts"] < 150  # about a third of 240
    parts = report["relations"].values()
    assert sum(part["edit_prompts"]["prompts"] for part in parts) == report["facts"]


def test_a_file_without_taught_facts_is_named(tmp_path, capsys):
    path = tmp_path / "facts.json"
    row = {"subject": "Ada Brun", "prompt": "Ada Brun is", "ground_truth": "a", "target_new": "b"}
    path.write_text(json.dumps([row]))
    assert main(["--data", str(path)]) == 2
    assert "states none of the facts" in capsys.readouterr().err

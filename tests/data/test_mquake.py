"""MQuAKE: which edits its cases have, what they are asked, what stands in its base graph, what is refused."""

from __future__ import annotations

import json

import pytest

from kgt_editor.cli.graph import main as graph_command
from kgt_editor.data.base import load
from kgt_editor.data.check import check_file
from kgt_editor.data.mquake import CONTRADICTS, load_mquake, unedited_triples
from kgt_editor.data.record import Probe
from kgt_editor.errors import UsageError
from kgt_editor.graph.triple import Triple


def rewrite(subject, prompt, relation, new, true="Tarsil"):
    question = f"What fits: {prompt.replace('{}', subject)}?"
    targets = {"target_new": {"str": new, "id": "Q1"}, "target_true": {"str": true, "id": "Q2"}}
    return {"subject": subject, "prompt": prompt, "relation_id": relation, "question": question, **targets}


def hop(cloze, answer, *aliases):
    return {"question": f"{cloze}?", "cloze": cloze, "answer": answer, "answer_alias": list(aliases)}


def case(number, rewrites, new_hops, answer="Osthaven", aliases=("the town of Osthaven",)):
    return {
        "case_id": number,
        "requested_rewrite": rewrites,
        "questions": [f"Where, {number}?", f"In which town, {number}?"],
        "answer": "Velmora",
        "new_answer": answer,
        "new_answer_alias": list(aliases),
        "single_hops": [hop("The author of Nightfall is", "Milo Castrel"), hop("Milo Castrel was born in", "Velmora")],
        "new_single_hops": new_hops,
    }


WROTE = rewrite("Nightfall", "The author of {} is", "P50", "Ada Brun", "Milo Castrel")
BORN = rewrite("Ada Brun", "{} was born in", "P19", "Osthaven", "Tarsil")
HOPS = [hop("The author of Nightfall is", "Ada Brun"), hop("Ada Brun was born in", "Osthaven")]
BOTH = case(7, [WROTE, BORN], HOPS)


@pytest.fixture
def write(tmp_path):
    def file(*rows):
        path = tmp_path / "cases.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return path

    return file


def test_every_edit_is_a_record_and_the_last_one_has_the_questions(write):
    first, second = load("mquake", write(BOTH)).records
    assert (first.query, first.target_new, first.target_true) == (
        "The author of Nightfall is",
        "Ada Brun",
        "Milo Castrel",
    )
    assert first.paraphrase_prompts == (WROTE["question"],)
    assert (first.case_id, second.case_id, first.relation) == (0, 1, "P50")
    assert first.probes == ()
    right = ("Osthaven", "the town of Osthaven")
    about = {"carried": True, "group": "7", "needs": (0, 1), "relations": ("P50", "P19")}
    assert second.probes == tuple(Probe("2_Hops", question, right, **about) for question in BOTH["questions"])


def test_an_edit_of_several_cases_is_made_once(write):
    other = case(8, [BORN], [HOPS[1], hop("Osthaven lies in", "Norra")], answer="Norra", aliases=())
    data = load_mquake(write(BOTH, other))
    assert [record.subject for record in data.records] == ["Nightfall", "Ada Brun"]
    asked = data.records[1].probes
    assert [(probe.group, probe.needs) for probe in asked] == [("7", (0, 1))] * 2 + [("8", (1,))] * 2
    # Nothing in the file says which relation "lies in" is, so none is named for that question.
    assert asked[-1].relations == ()


def test_a_case_that_contradicts_an_earlier_one_is_left_out(write):
    other = case(8, [rewrite("Ada Brun", "{} was born in", "P19", "Velmora")], HOPS[1:])
    data = load_mquake(write(BOTH, other))
    assert data.skipped == {CONTRADICTS: 1}
    assert {probe.group for record in data.records for probe in record.probes} == {"7"}
    assert load_mquake(write(other, BOTH)).skipped == {CONTRADICTS: 1}


def test_the_base_graph_holds_what_no_edit_says(write, tmp_path, capsys):
    path = write(BOTH)
    wanted = [Triple("Nightfall", "was written by", "Milo Castrel"), Triple("Milo Castrel", "was born in", "Velmora")]
    assert list(unedited_triples(path)) == wanted
    out = tmp_path / "base.db"
    assert graph_command(["build", "--mquake", str(path), "--out", str(out)]) == 0
    assert "2 triples of 2 heads" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requested_rewrite": []}, "field 'requested_rewrite' is not a list, or empty"),
        ({"requested_rewrite": [{**BORN, "prompt": "Ada Brun was born in"}]}, "must hold '{}' exactly once"),
        ({"new_answer": ""}, "field 'new_answer' is empty"),
        ({"new_single_hops": None}, "field 'new_single_hops' is missing"),
        ({"single_hops": [{"cloze": "Ada Brun was born in"}]}, "single_hops 0: field 'answer' is missing"),
    ],
)
def test_a_broken_case_names_its_place_and_field(write, change, message):
    with pytest.raises(UsageError, match=r"cases\.jsonl") as caught:
        load_mquake(write({**BOTH, **change}))
    assert message in str(caught.value)


def test_the_validator_knows_the_layout(write):
    same = rewrite("Ada Brun", "{} died in", "P20", "Velmora", "Velmora")
    report = check_file(write(BOTH, case(8, [BORN, same], HOPS)))
    assert report.layouts == {"mquake": 2}
    assert (report.counts["2_Hops questions"], report.counts["different edits"]) == (4, 3)
    assert report.problems == {"target": 1}

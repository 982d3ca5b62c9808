from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from data_builders import PRINT_PEAK, SHARED, flat, rome, write

from kgt_editor.data.counterfact import load_counterfact, read_records
from kgt_editor.errors import UsageError

needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not on this machine")


def test_both_layouts_give_the_same_record(tmp_path):
    (from_rome,) = read_records(write(tmp_path, [rome()]))
    (from_flat,) = read_records(write(tmp_path, [flat(relation_id="P19")]))
    fuller = {name: getattr(from_rome, name) for name in ("generation_prompts", "target_new_id", "target_true_id")}
    assert from_rome == replace(from_flat, **fuller)
    assert from_rome.query == "Ada Brun was born in the town of"
    assert from_rome.paraphrase_prompts == ("The birthplace of Ada Brun is",)
    assert from_rome.neighbourhood_prompts == ("Runa Gildt was born in the town of",)


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_list_or_lines_zipped_or_not_is_told_by_content(tmp_path, lines, zipped):
    rows = [rome(1), rome(2)]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n" if lines else json.dumps(rows, indent=1)
    path = tmp_path / "misleading.txt"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    assert [record.case_id for record in read_records(path)] == [1, 2]


def test_every_field_of_rome_is_kept(tmp_path):
    (record,) = read_records(write(tmp_path, [rome(7, attribute_prompts=["Tove Jarn was born in"], pararel_idx=12)]))
    assert record.generation_prompts == ("Ada Brun grew up in", "Ada Brun hails from")
    assert record.attribute_prompts == ("Tove Jarn was born in",)
    assert (record.target_new_id, record.target_true_id, record.pararel_idx) == ("Q1", "Q2", 12)
    assert record.relation_id == "P19"


def test_generation_prompts_stand_in_for_missing_paraphrases(tmp_path):
    (record,) = read_records(write(tmp_path, [rome(paraphrase_prompts=[])]))
    assert record.paraphrase_prompts == ("Ada Brun grew up in", "Ada Brun hails from")


def test_a_locality_prompt_with_another_answer_is_no_neighbour(tmp_path):
    (record,) = read_records(write(tmp_path, [flat(locality_ground_truth="Quindle")]))
    assert record.neighbourhood_prompts == ()


def test_cases_without_number_are_counted(tmp_path):
    rows = [flat(), flat()]
    for row in rows:
        del row["case_id"]
    assert [record.case_id for record in read_records(write(tmp_path, rows))] == [0, 1]


def without(row, *path):
    inner = row
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return row


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([flat(), flat(1, prompt="Who was born in Tarsil?")], ("record 1", "'prompt'", "'Ada Brun' is not in")),
        ([without(flat(), "ground_truth")], ("record 0", "field 'ground_truth' is missing")),
        ([flat(target_new=3)], ("record 0", "field 'target_new' is not a text")),
        ([flat(rephrase_prompt=[1])], ("field 'rephrase_prompt' is not a list of texts",)),
        ([flat(case_id="x")], ("field 'case_id' is not a whole number",)),
        ([flat(), flat()], ("record 1", "'case_id': 0 occurs twice")),
        ([without(rome(), "requested_rewrite", "subject")], ("record 0, requested_rewrite", "'subject' is missing")),
        ([without(rome(), "requested_rewrite", "target_new", "str")], ("target_new", "field 'str' is missing")),
        ([rome(requested_rewrite=[])], ("field 'requested_rewrite' is not an object",)),
        (
            [rome(requested_rewrite=rome()["requested_rewrite"] | {"prompt": "born in"})],
            ("record 0", "'{}' exactly once"),
        ),
        (["text"], ("record 0", "must be an object, not str")),
        ([], ("holds no records",)),
    ],
)
def test_a_broken_record_names_file_record_and_field(tmp_path, rows, parts):
    with pytest.raises(UsageError) as caught:
        read_records(write(tmp_path, rows))
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "cf.json"))
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[\n{"case_id": 0,\n}]', "line 3, column 1: not valid JSON"),
        (json.dumps(flat()).encode() + b'\n{"case_id": ', "line 2, column 13: not valid JSON"),
        (b"\xff\xff", "is not UTF-8 text"),
        (gzip.compress(b"[]", mtime=0)[:-6], "the gzip data end in the middle"),
        (b"", "holds no records"),
    ],
)
def test_a_broken_file_names_the_line(tmp_path, content, expected):
    path = tmp_path / "cf.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=expected):
        read_records(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.json: no such file"):
        read_records(tmp_path / "gone.json")


def many(count):
    rows = []
    for number in range(count):
        subject = f"Person {number}"
        rows.append(
            flat(
                number,
                subject=subject,
                prompt=f"{subject} was born in the town of",
                rephrase_prompt=f"The birthplace of {subject} is",
                locality_prompt=f"Person {(number * 7) % count} was born in the town of",
            )
        )
    return rows


def test_the_roles_share_no_subject_and_training_holds_nothing_that_judges(tmp_path):
    data = load_counterfact(write(tmp_path, many(400)))
    known = {fact.prompt for fact in data.known_facts}
    pools = [
        {r.query for r in data.records},
        {r.query for r in data.training},
        {r.query for r in data.validation},
        known,
    ]
    assert all(pools)
    assert sum(map(len, pools)) == len(set().union(*pools))
    assert len(data.records) == pytest.approx(280, abs=30)
    judged = {prompt for record in data.records for prompt in record.neighbourhood_prompts}
    for record in (*data.training, *data.validation):
        assert record.query not in judged
        assert not judged.intersection(record.neighbourhood_prompts)
    assert any(record.neighbourhood_prompts for record in data.training)


def test_a_record_keeps_its_role_in_every_file(tmp_path):
    whole = load_counterfact(write(tmp_path, many(400)))
    half = load_counterfact(write(tmp_path, many(400)[:200], "half.json"))
    assert {r.case_id for r in half.records} == {r.case_id for r in whole.records if r.case_id < 200}
    assert whole.revision != half.revision


def test_a_run_of_more_than_the_reported_edits_all_records(tmp_path):
    dealt = load_counterfact(write(tmp_path, many(100)))
    assert dealt.reaching(len(dealt.records)) is dealt
    whole = dealt.reaching(len(dealt.records) + 1)
    assert [record.case_id for record in whole.records] == list(range(100))
    assert not whole.training
    assert not whole.validation
    assert whole.known_facts == dealt.known_facts
    assert whole.revision != dealt.revision
    assert len(whole.sample(100, seed=0)) == 100
    with pytest.raises(UsageError, match="give 100 and edit them all"):
        dealt.reaching(101).sample(101, seed=0)


@needs_data
def test_the_genuine_rome_records():
    records = read_records(SHARED / "counterfact_rome_genuine_20.jsonl.gz")
    assert len(records) == 20
    assert all(len(r.paraphrase_prompts) == 2 and len(r.neighbourhood_prompts) == 10 for r in records)
    assert all(r.subject in r.query for r in records)


@needs_data
def test_the_flat_and_the_rome_form_of_all_records_agree():
    by_flat = {r.case_id: r for r in read_records(SHARED / "counterfact_flat.jsonl.gz")}
    by_rome = read_records(SHARED / "counterfact_rome_rebuilt.jsonl.gz")
    assert len(by_flat) == len(by_rome) == 21_919
    for record in by_rome:
        other = by_flat[record.case_id]
        assert (record.prompt, record.subject, record.target_new, record.target_true) == (
            other.prompt,
            other.subject,
            other.target_new,
            other.target_true,
        )


@needs_data
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
@pytest.mark.parametrize("name", ["counterfact_flat.jsonl.gz", "counterfact_rome_rebuilt.jsonl.gz"])
def test_all_cases_load_within_two_seconds_and_300_megabytes(name):
    code = (
        "import sys, time\n"
        "from kgt_editor.data.base import load\n"
        "start = time.process_time()\n"
        "data = load('counterfact', sys.argv[1])\n"
        "print(time.process_time() - start, 'torch' in sys.modules)\n"
    ) + PRINT_PEAK
    command = [sys.executable, "-c", code, str(SHARED / name)]
    seconds, torch, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert float(seconds) <= 2.0
    assert int(peak) <= 300e6
    assert torch == "False"  # a data set needs no tensors

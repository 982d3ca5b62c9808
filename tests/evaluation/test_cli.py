"""None"""

from __future__ import annotations

import json

import pytest
import torch
from cell_tasks import without_times
from runs_read import read, the_run

from kgt_editor.results.schema import METRICS, SCHEMA_VERSION


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_questions_on_the_same_subject_are_judged_from_file_to_table(compare, tmp_path, mode):
    rows = [
        {
            "id": number,
            "edit_statement": f"The birthplace of Person {number} is Tarsil.",
            "subject_name": f"Person {number}",
            "edit_scope": [[f"Where was Person {number} born?", "Tarsil"]],
            "edit_scope_true_ans": ["Velmora"],
            "unrelated": {
                "neighbor_subj": [f"Where was Stranger {number} born?"],
                "same_subj": [f"What does Person {number} do?", f"Where was Person {number} born?"],
            },
            "unrelated_true_ans": {"neighbor_subj": ["Velmora"], "same_subj": ["weaver"]},
        }
        for number in range(20)
    ]
    path = tmp_path / "hard.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["--dataset", "counterfact-hard", "--data", str(path), "--mode", mode, "--editors", "stubborn,fake"]
    asked += ["--set", 'fake.outcomes=["held","kept but not followed"]']
    code, out, err = compare(*asked)
    assert code == 0, err
    folder = the_run(tmp_path)
    assert not (folder / "base_answers").exists()
    assert read(folder, "manifest.json")["prompts_left_out"] == {
        "a question on the same subject, or a neighbour, that is in scope": 20
    }
    none, stubborn, fake = read(folder, "summary.json")["rows"]
    assert none["metrics"]["same_subject_kept"]["mean"] == none["metrics"]["neighbourhood_kept"]["mean"] == 1.0
    assert stubborn["metrics"]["same_subject_kept"]["mean"] == 0.0
    assert stubborn["metrics"]["neighbourhood_kept"]["mean"] == 1.0
    assert fake["edit_outcomes"] == {"held": 2, "kept but not followed": 2, "restated": 0, "dropped": 0}
    assert (none["edit_outcomes"], none["silence"]["asked"]) == (None, 8)
    assert "2/2/0" in out
    line = next(line for line in read(folder, "records.jsonl") if line["editor"] == "stubborn")
    (answered,) = line["raw"]["same_subject_answers"]
    assert answered["prompt"] == f"What does Person {line['case_id']} do?"
    assert answered["now"] == "Tarsil" != answered["before"]


@pytest.mark.parametrize("mode", ["sequential", "single"])
def test_a_run_writes_manifest_records_cells_and_summary(compare, tmp_path, mode):
    code, out, err = compare("--editors", "memory,fake", "--seeds", "2", "--mode", mode)
    assert code == 0, err
    folder = the_run(tmp_path)
    assert str(folder) in out.replace("\n", "")
    assert "Below each share its 95 % interval" in out.replace("\n", " ")

    summary = read(folder, "summary.json")
    assert summary["schema_version"] == SCHEMA_VERSION
    assert [row["editor"] for row in summary["rows"]] == ["none", "memory", "fake"]
    for row in summary["rows"]:
        assert set(row["metrics"]) == set(METRICS)
        assert (row["mode"], row["size"], row["seeds"], row["failed_edits"]) == (mode, 4, [0, 1], 0)
        assert row["edit_seconds"]["p50"] > 0
        assert row["forward_seconds"] > 0
        assert row["edit_forwards"]["p50"] == row["edit_seconds"]["p50"] / row["forward_seconds"]
        assert row["peak_memory_bytes"] > 0
    assert summary["rows"][1]["metrics"]["efficacy_accuracy"]["mean"] == 1.0
    assert summary["rows"][1]["metrics"]["efficacy_accuracy"]["low"] < 0.8  # four or eight cases prove little
    assert summary["rows"][1]["undecided"]["asked"] > 0
    assert summary["rows"][1]["dead"] is None
    assert (summary["failed"], summary["missing"], summary["complete"]) == ([], [], True)
    assert summary["comparisons"]["reference"] == "none"
    assert [row["editor"] for row in summary["comparisons"]["rows"]] == ["memory", "fake"]
    assert summary["comparisons"]["rows"][0]["metrics"]["efficacy_accuracy"]["difference"] > 0

    records = read(folder, "records.jsonl")
    assert len({(r["editor"], r["seed"], r["case_id"]) for r in records}) == len(records) == 3 * 2 * 4
    cells = read(folder, "cells.jsonl")
    assert [(c["editor"], c["seed"], c["status"]) for c in cells] == [
        (name, seed, "complete") for name in ("none", "memory", "fake") for seed in (0, 1)
    ]
    manifest = read(folder, "manifest.json")
    assert manifest["command"][0] == "compare.py"
    assert "--seeds" in manifest["command"]
    assert manifest["config"]["editors"] == ["none", "memory", "fake"]
    assert manifest["config"]["hparams"]["fake"]["alg_name"] == "FAKE"
    assert manifest["environment"]["versions"]["torch"] == torch.__version__
    assert manifest["data_provenance"]["licence"] == "MIT"
    assert manifest["status"] == "complete"
    assert manifest["started"] <= manifest["ended"]


def test_the_same_request_gives_the_same_numbers(compare, tmp_path):
    found = []
    for out in ("first", "second"):
        assert compare("--seeds", "2", out=tmp_path / out)[0] == 0
        (folder,) = (tmp_path / out).iterdir()
        found.append((folder.name, [row["metrics"] for row in read(folder, "summary.json")["rows"]]))
    assert found[0] == found[1]


def test_given_again_a_complete_run_is_shown_and_not_run(compare, fake_editors, tmp_path):
    assert compare()[0] == 0
    folder = the_run(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fake_editors.WeightEditor.log.clear()
    code, out, err = compare()
    assert code == 0
    assert "fake" in out
    assert f"{folder.name} is there already" in err
    assert fake_editors.WeightEditor.log == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_sequence_can_be_all_records_of_a_file(compare, fake_editors, counterfact_file, tmp_path):
    rows = json.loads(counterfact_file.read_text())
    again = rows[7] | {"case_id": 60, "target_new": "Norwick"}  # taken back, or taking back, as the seed orders them
    about = rows[0] | {"case_id": 61, "subject": "Person 61", "prompt": "Person 61 was born in the town of"}
    about["locality_prompt"] = rows[3]["prompt"]  # which asks for an edited fact
    counterfact_file.write_text(json.dumps([*rows, again, about]))
    code, _, err = compare("--sizes", "2,62", "--editors", "memory")
    assert code == 0, err
    assert "all 62 records of 'counterfact' are for editing" in err
    none, memory = [row for row in read(the_run(tmp_path), "summary.json")["rows"] if row["size"] == 62]
    assert none["superseded_edits"] == memory["superseded_edits"] == 1
    assert memory["metrics"]["efficacy_accuracy"]["mean"] == 1.0
    assert memory["metrics"]["unedited_recall"] is None  # no fact is left unedited
    last = [line for line in read(the_run(tmp_path), "records.jsonl") if line["size"] == 62]
    assert {line["case_id"] for line in last if line["metrics"]["efficacy_score"] is None} <= {7, 60}
    assert {line["metrics"]["neighbourhood_score"] for line in last if line["case_id"] == 61} == {None}


def test_questions_without_an_answer_from_before_are_edited_and_judged(compare, fake_editors, tmp_path):
    rows = [
        {
            "id": number,
            "prompt": f"Where was Person {number} born?",
            "subject": f"Person {number}",
            "target": "Tarsil",
            "rephrase": f"What is the birthplace of Person {number}?",
            "locality": [{"loc": "Who invented the loom?", "loc_ans": "Velmora"}],
        }
        for number in range(20)
    ]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(rows))
    code, out, err = compare("--dataset", "qaedit", "--data", str(path), "--size", "4", "--editors", "memory,ft")
    assert code == 0, err
    _, memory, ft = read(the_run(tmp_path), "summary.json")["rows"]
    for row in (memory, ft):
        assert row["metrics"]["efficacy_score"] is row["metrics"]["neighbourhood_score"] is None
        assert row["metrics"]["efficacy_exact"] is not None or row is memory
        assert row["metrics"]["unedited_recall"] is not None
    assert memory["metrics"]["efficacy_accuracy"]["mean"] == 1.0
    assert "memory" in out


def test_edits_are_made_in_a_published_order(compare, fake_editors, tmp_path):
    order = tmp_path / "order.json"
    order.write_text(json.dumps({"0": list(range(59, -1, -1))}))
    code, _, err = compare("--size", "4", "--editors", "memory", "--order", str(order))
    assert code == 0, err
    edited = [line["case_id"] for line in read(the_run(tmp_path), "records.jsonl") if line["editor"] == "memory"]
    assert edited == sorted(edited, reverse=True)


def test_sizes_are_evaluated_along_one_sequence(compare, fake_editors, tmp_path):
    assert compare("--sizes", "4,2", "--editors", "memory,fake")[0] == 0
    folder = the_run(tmp_path)
    assert folder.name.startswith("tiny-model-counterfact-sequential-4-")
    assert [(row["editor"], row["size"]) for row in read(folder, "summary.json")["rows"]] == [
        (name, size) for name in ("none", "memory", "fake") for size in (2, 4)
    ]
    applied = [case for kind, case in fake_editors.WeightEditor.log if kind == "apply"]
    assert len(applied) == 2 + 4  # the warm-up, and each record once
    records = [r for r in read(folder, "records.jsonl") if r["editor"] == "fake"]
    assert [(r["size"], r["position"]) for r in records] == [(2, 0), (2, 1), (4, 0), (4, 1), (4, 2), (4, 3)]
    assert [(c["editor"], c["size"]) for c in read(folder, "cells.jsonl")[-2:]] == [("fake", 2), ("fake", 4)]
    assert not list(folder.glob("cells"))
    assert compare("--sizes", "2", "--editors", "memory,fake", out=tmp_path / "two")[0] == 0
    (alone,) = (tmp_path / "two").iterdir()
    wanted = [without_times(r) for r in read(folder, "records.jsonl") if r["size"] == 2]
    assert [without_times(r) for r in read(alone, "records.jsonl")] == wanted
    for ours, theirs in zip(
        [c for c in read(folder, "cells.jsonl") if c["size"] == 2], read(alone, "cells.jsonl"), strict=True
    ):
        assert without_times(ours) == without_times(theirs)
    assert compare("--sizes", "2", "--editors", "memory,fake", "--size", "2")[0] == 2


def test_the_batch_size_changes_nothing_but_rounding(compare, tmp_path):
    found = []
    for size in ("auto", "1"):
        out = tmp_path / size
        assert compare("--batch-size", size, out=out)[0] == 0
        (folder,) = out.iterdir()
        assert str(read(folder, "manifest.json")["config"]["batch_size"]) == size
        found.append([record["raw"]["edit"]["log_prob_new"] for record in read(folder, "records.jsonl")])
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    for wrong in ("0", "many"):
        code, _, err = compare("--batch-size", wrong)
        assert code == 2
        assert f"--batch-size: must be a whole number above zero, not '{wrong}'" in err.replace("\n", " ")


def test_limit_takes_the_first_records_of_the_same_order(compare, tmp_path):
    assert compare("--limit", "2")[0] == 0
    limited = [r["case_id"] for r in read(the_run(tmp_path), "records.jsonl") if r["editor"] == "none"]
    assert compare(out=tmp_path / "whole")[0] == 0
    (folder,) = (tmp_path / "whole").iterdir()
    whole = [r["case_id"] for r in read(folder, "records.jsonl") if r["editor"] == "none"]
    assert limited == whole[:2]
    assert len(whole) == 4


def test_set_reaches_the_editor_and_refused_edits_are_counted(compare, tmp_path):
    assert compare("--limit", "2", out=tmp_path / "before")[0] == 0
    (folder,) = (tmp_path / "before").iterdir()
    refused = [r["case_id"] for r in read(folder, "records.jsonl") if r["editor"] == "none"]
    code, _, err = compare("--set", f"fake.refuse={refused}", "--set", "fake.seed=3")
    assert code == 0
    assert f"fake, seed 0: 4 edits, 2 edits failed, the first because: case {refused[0]} is refused" in err
    folder = the_run(tmp_path)
    assert read(folder, "summary.json")["rows"][1]["failed_edits"] == 2
    reasons = [r["failure"] for r in read(folder, "records.jsonl") if r["editor"] == "fake" and r["failure"]]
    assert reasons == [f"case {case} is refused" for case in refused]
    assert read(folder, "manifest.json")["config"]["hparams"]["fake"]["seed"] == 3


@pytest.mark.parametrize(
    ("option", "seed", "reason"),
    [
        ("fake.crash=true", 0, "all 4 edits failed, the first because: RuntimeError: a defect over two lines"),
        ("fake.exhaust=CUDA out of memory", 0, "ran out of memory: RuntimeError: CUDA out of memory"),
        ("fake.leak=true", 0, "did not undo its own edit"),
        ("fake.hook=true", 0, "its answers are not"),
        (f"fake.refuse={list(range(60))}", 0, "all 4 edits failed, the first because: case "),
        ("fake.unprepared=true", None, "no hypernetwork today"),
    ],
)
def test_a_failing_editor_costs_its_own_row_only(compare, tmp_path, option, seed, reason):
    code, out, err = compare("--editors", "fake,memory", "--set", option)
    assert code == 1
    assert "memory" in out
    (last,) = [line for line in err.splitlines() if line.startswith("compare.py: ")]
    assert "editor 'fake'" in last
    assert reason in last
    summary = read(the_run(tmp_path), "summary.json")
    assert [row["editor"] for row in summary["rows"]] == ["none", "memory"]
    assert [(f["editor"], f["seed"]) for f in summary["failed"]] == [("fake", seed)]
    assert reason in summary["failed"][0]["reason"]
    assert read(the_run(tmp_path), "manifest.json")["status"] == "failed"


def test_a_run_ends_with_its_report(compare, tmp_path):
    code, _, err = compare(report=True)
    assert code == 0
    page = the_run(tmp_path) / "report" / "report.html"
    assert err.splitlines()[-1] == f"Report: {page}"
    assert the_run(tmp_path).name in page.read_text()
    assert compare(out=tmp_path / "without")[0] == 0
    assert not list(tmp_path.glob("without/*/report"))


def test_a_failing_report_does_not_spoil_the_run(compare, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr("kgt_editor.reporting.report.write_report", broken)
    code, out, err = compare(report=True)
    assert code == 0
    assert "Results: " in out
    folder = the_run(tmp_path)
    assert err.splitlines()[-1] == (
        f"compare.py: no report was written (RuntimeError: no ink); try again: report.py {folder}"
    )
    assert read(folder, "manifest.json")["status"] == "complete"


def test_records_say_what_was_asked_and_what_the_model_says(compare, tmp_path):
    assert compare("--editors", "memory,stubborn")[0] == 0
    for line in read(the_run(tmp_path), "records.jsonl"):
        number = line["case_id"]
        assert line["request"] == {
            "query": f"Person {number} was born in the town of",
            "subject": f"Person {number}",
            "relation_id": "",
            "target_new": "Tarsil" if number % 2 else "Quindle",
            "target_true": "Velmora",
        }
        assert line["details"] is None
        if line["editor"] == "memory":  # it scores, and gives no text
            assert line["said"] is None
            assert line["metrics"]["efficacy_exact"] is None
            continue
        assert isinstance(line["said"], str)
        assert "\n" not in line["said"]
        assert line["said"] == line["raw"]["generated"][0]
        if line["editor"] == "stubborn":
            assert line["said"] == line["request"]["target_new"]
            assert line["metrics"]["efficacy_exact"] == line["metrics"]["efficacy_contained"] == 1.0


def test_none_comes_first_and_every_editor_once(compare, tmp_path):
    assert compare("--editors", "fake,none,fake")[0] == 0
    assert [row["editor"] for row in read(the_run(tmp_path), "summary.json")["rows"]] == ["none", "fake"]

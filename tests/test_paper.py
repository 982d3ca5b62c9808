"""``kgt paper``: which cells it runs, and that it does not run them twice."""

from __future__ import annotations

import json

import pytest

from kgt_editor.cli import paper


def sizes_of(run):
    return run.split("--sizes ")[1].split()[0].split(",")


def test_the_profiles_name_the_cells_of_tables_and_figures(tmp_path, capsys):
    for profile, runs in (("smoke", 1), ("testbed", 2)):
        assert paper.main(["--profile", profile, "--dry-run", "--out", str(tmp_path)]) == 0
        told = capsys.readouterr().err
        assert told.count("to run: compare.py") == runs
        assert "kgt:user" in told
        assert f"--sizes {','.join(map(str, paper.PROFILES[profile][0].sizes))} " in told
    assert not list(tmp_path.iterdir())


def test_the_real_profile_measures_all_editors_then_the_fast_ones_further(tmp_path, capsys):
    file = tmp_path / "counterfact.json"
    file.write_text("[]")
    out = tmp_path / "out"
    assert paper.main(["--profile", "real", "--dry-run", "--out", str(out), "--counterfact", str(file)]) == 0
    told = capsys.readouterr().err
    assert "counterfact-extension is left out" in told
    runs = [line for line in told.splitlines() if "to run: compare.py" in line]
    of_model = {
        model: [run for run in runs if f"--model {model} " in run] for model in ("smollm2-135m", "testbed-large")
    }
    assert len(runs) == sum(map(len, of_model.values()))
    for listed in of_model.values():
        short, long = ([run for run in listed if ("100" in sizes_of(run)) == is_short] for is_short in (True, False))
        editors = {run.split("--editors ")[1].split()[0] for run in short}
        assert editors == {*paper.EDITORS, *paper.RIVALS}
        assert len(short) == len(editors)  # a run each
        assert {run.split("--editors ")[1].split()[0] for run in long} == set(paper.LONG)


def test_other_questions_on_the_subjects_are_asked_in_every_run_of_a_data_set(tmp_path, capsys):
    files = {name: tmp_path / name for name in ("counterfact", "same")}
    for file in files.values():
        file.write_text("[]")
    told = ["--profile", "real", "--dry-run", "--out", str(tmp_path / "out")]
    told += ["--counterfact", str(files["counterfact"]), "--same-subject", str(files["same"])]
    assert paper.main(told) == 0
    runs = [line for line in capsys.readouterr().err.splitlines() if "to run: compare.py" in line]
    assert len(runs) > 1
    assert all(f"--same-subject {files['same']}" in run for run in runs)


def test_a_finished_run_is_known_wherever_its_records_lay(tmp_path, capsys, counterfact_file, monkeypatch):
    monkeypatch.setitem(paper.PROFILES, "smoke", (paper.Runs(("testbed-gpt2",), ("counterfact",), (2,), 1, ("icl",)),))
    out, moved = tmp_path / "out", tmp_path / "elsewhere.json"
    assert paper.main(["--profile", "smoke", "--out", str(out), "--counterfact", str(counterfact_file)]) == 0
    counterfact_file.rename(moved)
    capsys.readouterr()
    again = ["--profile", "smoke", "--out", str(out), "--counterfact", str(moved), "--dry-run"]
    assert paper.main(again) == 0
    assert "there already: compare.py" in capsys.readouterr().err
    moved.write_text(moved.read_text().replace("Person 1 ", "Person one "))  # other records
    assert paper.main(again) == 0
    assert "to run: compare.py" in capsys.readouterr().err


def test_without_their_files_the_papers_data_sets_are_left_out_aloud(tmp_path, capsys):
    assert paper.main(["--profile", "gpu", "--dry-run", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert "counterfact is left out: give its file with --counterfact" in told
    assert "to run" not in told


@pytest.mark.slow
def test_smoke_renders_everything_and_a_second_call_runs_nothing(tmp_path, capsys):
    assert paper.main(["--profile", "smoke", "--out", str(tmp_path)]) == 0
    assert "to run: compare.py" in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.html", "table1-world-sequential.tex", "table3-world-sequential.csv"} <= names
    assert {"figure3-world-sequential.svg", "figure4-world-sequential-testbed-gpt2.svg"} <= names
    runs = [path for path in tmp_path.iterdir() if path.name != "report"]
    assert [json.loads((run / "manifest.json").read_text())["status"] for run in runs] == ["complete"]
    assert paper.main(["--profile", "smoke", "--out", str(tmp_path)]) == 0
    assert "to run" not in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2

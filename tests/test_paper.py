"""``kgt paper``: which cells it runs, and that it does not run them twice."""

from __future__ import annotations

import json

import pytest

from kgt_editor.cli import paper


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
    assert len(runs) == 4
    assert all("alphaedit" in run for run in runs[::2])
    assert all("--model smollm2-135m" in run for run in runs[:2])
    assert "--sizes 500,1000,5000 " in runs[1]
    assert "rome" not in runs[1]


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

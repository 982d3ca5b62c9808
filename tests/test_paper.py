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
        assert f"--sizes {','.join(map(str, paper.PROFILES[profile].sizes))} " in told
    assert not list(tmp_path.iterdir())


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

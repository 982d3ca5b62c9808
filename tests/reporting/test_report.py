"""Whole reports: what is written, what bad input says, and what the page holds."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kgt_editor import reporting
from kgt_editor.cli import report as cli
from kgt_editor.reporting.style import MISSING

ROOT = Path(__file__).resolve().parents[2]


def page_of(report):
    return (report.folder / "report.html").read_text(encoding="utf-8")


def payloads(page):
    found = re.findall(r'<script type="application/x-kgt-edits" data-title="([^"]*)">([^<]*)</script>', page)
    return {title: json.loads(gzip.decompress(base64.b64decode(data))) for title, data in found}


def test_a_report_has_every_format_and_the_same_bytes_again(run, tmp_path):
    first, second = (reporting.write_report([run], tmp_path / name) for name in "ab")
    names = {path.name for path in first.files}
    assert {path.suffix for path in first.files} == {".md", ".csv", ".tex", ".html", ".svg", ".pdf", ".png"}
    assert {"table1-world-sequential.tex", "table3-world-sequential.md", "figure3-world-sequential.svg"} <= names
    assert {"figure4-world-sequential-testbed-gpt2.pdf", "report.html"} <= names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert first.notices == second.notices == []


def test_svgs_are_vectors_and_the_page_asks_nobody(run):
    report = reporting.write_report([run], formats=["svg", "html"])
    svgs = [path.read_text() for path in report.files if path.suffix == ".svg"]
    assert len(svgs) == 4
    without_script = re.sub(r"<script>.*?</script>", "", page_of(report), flags=re.DOTALL)
    for text in [*svgs, without_script]:
        assert "<image" not in text
        assert "data:image" not in text
    page = page_of(report)
    assert not re.findall(
        r'(?:src|href)="(?!#|data:,)(?!http://www\.w3\.org)[^"]*"', re.sub(r"xlink:href=\"#[^\"]*\"", "", page)
    )
    assert "url(http" not in page
    assert "fetch(" not in page


def test_report_py_needs_no_torch(run, tmp_path):
    blocked = tmp_path / "blocked"
    for name in ("torch", "transformers", "pydantic", "rich"):
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(f"raise ImportError('{name} is not to be imported')\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "report.py"), str(run), "--formats", "md,html"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(blocked)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Report: {run / 'report'} (3 files)\n"


def test_the_edits_are_on_the_page_with_what_was_said_before_and_after(run):
    page = page_of(reporting.write_report([run], formats=["html"]))
    found = payloads(page)
    assert list(found) == ["run-a, seed 0", "run-a, seed 1"]
    cell = found["run-a, seed 0"]
    strings, columns = cell["strings"], cell["columns"]
    assert [editor["name"] for editor in cell["editors"]] == ["KGT", "ROME"]  # whose graph can be read comes first
    editor, other = cell["editors"]
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    of_other = [line for line in lines if (line["editor"], line["seed"]) == ("rome", 0)]
    assert [strings[place] for place in other["said"]] == [line["said"] for line in of_other]
    assert "triples" not in other
    kgt = [line for line in lines if (line["editor"], line["seed"]) == ("kgt", 0)]
    before = {line["case_id"]: line["said"] for line in lines if (line["editor"], line["seed"]) == ("none", 0)}
    assert len(columns["query"]) == len(kgt) == 20
    for i, line in enumerate(kgt):
        assert strings[columns["query"][i]] == line["request"]["query"]
        assert strings[columns["before"][i]] == before[line["case_id"]]
        assert strings[editor["said"][i]] == line["said"]
        assert editor["held"][i] == bool(line["metrics"]["efficacy_accuracy"])
        first = editor["triples"][i][0]
        assert [strings[j] for j in first[:3]] == line["details"]["triples"][0]["triple"]
        assert first[4:] == [line["details"]["triples"][0]["retrieval"], line["details"]["triples"][0]["reasoning"]]
    assert strings[columns["relation"][0]] == "has native language"


def test_the_page_says_where_the_data_are_from_where_the_run_knows(run, builder):
    assert "Data from" not in page_of(reporting.write_report([run], formats=["html"]))
    builder.change(run / "manifest.json", data_provenance={"licence": "MIT", "source": "shipped", "paper": ""})
    page = page_of(reporting.write_report([run], formats=["html"]))
    assert "<dt>Data from</dt><dd>licence MIT; source shipped</dd>" in page


def test_markup_in_names_is_text(builder, tmp_path):
    nasty = "</script><script>alert(1)</script>"
    folder = builder.write_run(tmp_path / "nasty", editors=("none", "kgt", "</script>x"), subject=nasty, size=3)
    builder.change(folder / "manifest.json", run=nasty)
    page = page_of(reporting.write_report([folder], formats=["html"]))
    assert "alert(1)</script>" not in page
    assert page.count("<script>") == 1
    (title, *_) = payloads(page)
    assert "&lt;/script&gt;" in title


def test_a_run_in_progress_shows_its_complete_cells_and_says_so(run, builder):
    builder.change(run / "manifest.json", status="running")
    (run / "summary.json").unlink()
    cells = (run / "cells.jsonl").read_text().splitlines()
    (run / "cells.jsonl").write_text("\n".join(cells[:3]) + "\n")  # none twice, kgt once
    records = (run / "records.jsonl").read_text().splitlines()
    (run / "records.jsonl").write_text("\n".join(records[:90]) + '\n{"editor": "ro')
    report = reporting.write_report([run], formats=["md", "html", "svg"])
    assert any("in progress" in notice and "(3 of 6)" in notice for notice in report.notices)
    assert any("cut off" in notice for notice in report.notices)
    table = (report.folder / "table1-world-sequential.md").read_text()
    assert "| ROME | missing |" in table
    assert "1 (partial)" in table
    assert "in progress" in page_of(report)


def test_a_failed_editor_and_failed_edits_are_told(run, builder, capsys):
    cells = [json.loads(line) for line in (run / "cells.jsonl").read_text().splitlines()]
    for cell in cells:
        if cell["editor"] == "rome":
            cell |= {"status": "failed", "reason": "KgtError: <no> weights"}
    (run / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for line in lines:
        if (line["editor"], line["position"]) == ("kgt", 3):
            line |= {"failure": "too <long>", "edit_seconds": None, "details": None}
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    failed = [{"editor": "rome", "seed": seed, "reason": "KgtError: <no> weights"} for seed in (0, 1)]
    builder.change(run / "summary.json", failed=failed)
    assert cli.main([str(run), "--formats", "md,html,svg"]) == 0
    err = capsys.readouterr().err
    assert "report.py: run-a: editor 'rome', seed 0 failed: KgtError: <no> weights" in err
    assert "2 edits of 'kgt' failed" in err
    page = (run / "report" / "report.html").read_text()
    assert "&lt;no&gt; weights" in page
    table = (run / "report" / "table1-world-sequential.md").read_text()
    assert "| ROME | failed |" in table
    cell = payloads(page)["run-a, seed 0"]
    assert cell["strings"][cell["editors"][0]["failure"][3]] == "too <long>"


def test_two_runs_of_one_cell_are_told_and_the_better_measured_one_is_shown(builder, tmp_path):
    builder.write_run(tmp_path / "short", seeds=1, hparams={"kgt": {"K": 5}})
    builder.write_run(tmp_path / "long", seeds=3, dtype="float16")
    runs, _ = reporting.load([tmp_path])
    rows, notices = reporting.choose(reporting.rows_frame(runs))
    assert set(rows["run"]) == {"long"}
    assert notices == [
        "short and long both measured kgt, none, rome on testbed-gpt2: the tables show long (more seeds)"
    ]
    told = " ".join(reporting.differences(runs))
    assert "number format" in told
    assert "'kgt' on testbed-gpt2 has other hyperparameters: K None / 5" in told


def test_runs_on_other_data_or_protocol_never_share_a_table(builder, tmp_path):
    for name, config in {
        "a": {},
        "b": {"mode": "single"},
        "c": {"data_revision": "x"},
        "d": {"normalise": "sum"},
        "e": {"known_only": True},
    }.items():
        builder.write_run(tmp_path / name, size=3, **config)
    report = reporting.write_report([tmp_path], formats=["csv"])
    assert len(report.files) == len(set(report.files)) == 10
    assert any("data revision" in notice for notice in report.notices)


def test_another_schema_version_is_left_out_aloud_and_alone_it_is_an_error(builder, tmp_path, capsys):
    builder.write_run(tmp_path / "new", size=3)
    builder.write_run(tmp_path / "old", size=3)
    builder.change(tmp_path / "new" / "manifest.json", schema_version=99)
    report = reporting.write_report([tmp_path], formats=["html"])
    assert any("run new has schema version 99, this report reads 1, 2, 3" in notice for notice in report.notices)
    assert "schema version 99" in page_of(report)
    assert cli.main([str(tmp_path / "new")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_model_that_is_mostly_silent_is_told_of(builder, tmp_path):
    folder = builder.write_run(tmp_path / "kept", size=4, sizes=(4,), kept=True)
    rows = [{"editor": name, "size": 4, "silence": {"asked": 20, "silent": 13}} for name in ("none", "kgt", "rome")]
    builder.change(folder / "summary.json", rows=rows)
    (notice,) = [each for each in reporting.write_report([folder], formats=["csv"]).notices if "says nothing" in each]
    assert notice.startswith("kept: the unedited model says nothing to 65% of the prompts")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["empty"], "empty: holds no run (no manifest.json in it or one level below)"),
        (["gone"], "gone: no such folder; give a run folder"),
        (["run-a", "--formats", "docx"], "unknown format 'docx'; known: md, csv"),
        (["broken"], "manifest.json: not valid JSON"),
        (["cells"], "cells.jsonl, line 1: no cell of schema 1"),
        (["run-a", "--out", "file/x"], "cannot write to file/x"),
        (["damaged"], "records.jsonl, line 2: not valid JSON"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_bad_input_is_one_clear_line(run, builder, tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/manifest.json").write_text("{")
    Path("file").write_text("")
    for name in ("damaged", "cells"):
        builder.write_run(tmp_path / name, size=2)
    Path("cells/cells.jsonl").write_text("{}\n")
    lines = Path("damaged/records.jsonl").read_text().splitlines()
    lines[1] = "{"
    Path("damaged/records.jsonl").write_text("\n".join(lines) + "\n")
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1


def test_a_missing_size_breaks_the_line_and_is_marked(builder, tmp_path):
    builder.write_run(tmp_path / "ten", size=10)
    builder.write_run(tmp_path / "twenty", size=20, editors=("none", "kgt"))
    runs, _ = reporting.load([tmp_path])
    rows, _ = reporting.choose(reporting.rows_frame(runs))
    figure = reporting.figure_4(rows)
    panel = next(panel for panel in figure.axes if "one place" in panel.get_title("left"))
    rome = next(line for line in panel.lines if line.get_label() == "ROME")
    assert [value != value for value in rome.get_ydata()] == [False, True]
    marks = [line for panel in figure.axes for line in panel.lines if line.get_marker() == MISSING]
    assert all(list(mark.get_xdata()) == pytest.approx([20], rel=0.1) for mark in marks)
    assert len(marks) == 2  # ROME's, of both scores
    assert any("not measured" in text.get_text() for panel in figure.axes for text in panel.texts)


def test_one_run_of_several_sizes_fills_figure_4_and_the_tables_show_one_of_them(builder, tmp_path):
    folder = builder.write_run(tmp_path / "run-s", sizes=(5, 20), editors=("none", "kgt", "rome"))
    cells = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    left = [cell for cell in cells if (cell["editor"], cell["size"]) != ("rome", 20)]
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in left))
    missing = [{"editor": "rome", "seed": seed, "sizes": [20]} for seed in (0, 1)]
    builder.change(folder / "summary.json", missing=missing)
    runs, _ = reporting.load([folder])
    rows, replaced = reporting.choose(reporting.rows_frame(runs))
    assert replaced == []
    assert {(row.editor, row.size): row.status for row in rows.itertuples()} == {
        ("none", 5): "complete",
        ("kgt", 5): "complete",
        ("rome", 5): "complete",
        ("none", 20): "complete",
        ("kgt", 20): "complete",
        ("rome", 20): "missing",
    }
    cases = reporting.cases_frame(runs)
    own = cases[(cases["editor"] == "kgt") & (cases["size"] == 5)]
    assert len(own) == 2 * 5
    (at_five,) = (row for row in rows.to_dict("records") if (row["editor"], row["size"]) == ("kgt", 5))
    assert at_five["efficacy_score"] == pytest.approx(own["efficacy_score"].mean())
    panel = reporting.figure_4(rows).axes[0]
    kgt = next(line for line in panel.lines if line.get_label() == "KGT")
    assert list(kgt.get_xdata()) == pytest.approx([5, 20], rel=0.1)
    assert not any(value != value for value in kgt.get_ydata())
    report = reporting.write_report([folder], formats=["html", "md", "svg"])
    assert any("seed 0 was not run to its end (missing: 20 edits)" in notice for notice in report.notices)
    assert any("the tables show the runs of 5 edits; 20 are in Figure 4 only" in notice for notice in report.notices)
    assert "5, 20 sequential" in page_of(report)
    assert {len(edits) for run in runs for edits in run.edits.values()} == {20}  # as they were evaluated last


def test_figure_3_shows_the_missing_bar_as_missing(builder, tmp_path):
    with_user = builder.write_run(tmp_path / "user", editors=("none", "kgt", "kgt:user"))
    without = builder.write_run(tmp_path / "plain")
    for folder, missing in ((with_user, 0), (without, 1)):
        runs, _ = reporting.load([folder])
        figure = reporting.figure_3(reporting.rows_frame(runs))
        assert sum(text.get_text() == "missing" for text in figure.axes[0].texts) == missing


def test_a_manifest_without_an_environment_and_records_without_details_will_do(run):
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["environment"], manifest["started"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for line in lines:  # as an earlier version wrote them
        for name in ("request", "said", "details"):
            del line[name]
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = page_of(reporting.write_report([run], formats=["html"]))
    (cell, _) = payloads(page).values()
    assert set(cell["editors"][0]["said"]) == {-1}
    assert "triples" not in cell["editors"][0]
    assert "not from a checkout" in page
